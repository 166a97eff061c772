import catalog_scene as scene
import numpy as np
import pytest
from romosaic.source_catalog import make_catalog
from scipy.spatial import KDTree

SIZE, STARS = 300, 350


@pytest.fixture(scope="module")
def crowd():
    """Five stars in an aperture of 0.8 arcsec, on the average, and their truth."""
    rng = np.random.default_rng(5)
    places = rng.uniform(12, SIZE - 12, (STARS, 2))
    flux = 10 ** rng.uniform(2, 3.6, STARS) * scene.NOISE
    truth = np.column_stack([places, flux])
    return scene.observe(rng, scene.render((SIZE, SIZE), truth)), truth


@pytest.fixture(scope="module")
def found(crowd):
    options = {
        **{method: {"method": method} for method in ("segmentation", "dao", "both")},
        "deblend": {"deblend": True},
    }
    grid = scene.grid(SIZE)
    return {
        name: make_catalog(*crowd[0], grid, scene.parameters(**given), psf=scene.psf())
        for name, given in options.items()
    }


def right(table, truth):
    """Sources that are one star's nearest, and it theirs; and rows that are near no star."""
    places = np.stack([table["x_psf"], table["y_psf"]], axis=1).astype(float)
    apart, row = KDTree(places).query(truth[:, :2])
    off, star = KDTree(truth[:, :2]).query(places)
    return (apart < 1.5) & (star[row] == np.arange(len(truth))), np.count_nonzero(off > 2.5)


def test_completeness_of_a_crowded_field(crowd, found):
    complete, false = {}, {}
    for name, (table, _) in found.items():
        matched, false[name] = right(table, crowd[1])
        complete[name] = matched.mean()
    assert complete["deblend"] > 1.15 * complete["segmentation"]
    assert min(complete["dao"], complete["both"]) > 1.7 * complete["segmentation"]
    assert max(false["dao"], false["both"]) <= 0.01 * STARS


@pytest.mark.parametrize("name", ["segmentation", "deblend", "dao", "both"])
def test_each_source_has_pixels_and_each_pixel_one_source(found, name):
    table, segments = found[name]
    labels = np.sort(table["label"])
    np.testing.assert_array_equal(labels, np.arange(1, len(table) + 1))
    np.testing.assert_array_equal(np.unique(segments)[1:], labels)
    stars = table["label"][table["image_flags"] & 256 > 0]
    expected = {"dao": len(table), "both": len(table) - len(found["segmentation"][0])}
    assert len(stars) == expected.get(name, 0)
    assert np.bincount(segments[segments > 0])[stars].max(initial=0) <= 25


def test_stars_never_leave_their_segment(found):
    """The union of the segments grows by discs on the background only, and no two segments mix."""
    before, after = found["segmentation"][1], found["both"][1]
    assert (after[before > 0] > 0).all()
    kept = (after > 0) & (after <= before.max())
    np.testing.assert_array_equal(after[kept], before[kept])
    for label in np.unique(after[(after > before.max()) & (before > 0)]):
        assert np.unique(before[after == label]).size == 1


def test_who_shares_a_segment_is_called_blended(found):
    before, (table, after) = found["segmentation"][1], found["both"]
    blended = set(table["label"][table["image_flags"] & 8 > 0])
    new = np.unique(after[(after > before.max()) & (before > 0)])
    parents = np.unique(before[np.isin(after, new)])
    assert len(new) > 50
    assert blended == {*new.tolist(), *parents.tolist()}


def test_noise_has_no_stars():
    """Neighbouring pixels share noise, as drizzled ones do: thresholds are in units of what is seen."""
    from scipy.ndimage import uniform_filter

    rng = np.random.default_rng(1)
    noise = uniform_filter(rng.normal(size=(700, 700)), 2) * 2 * scene.NOISE
    data = (scene.SKY + noise).astype(np.float32)
    planes = data, np.full_like(data, scene.NOISE), np.ones_like(data)
    count = [
        len(
            make_catalog(
                *planes, scene.grid(700), scene.parameters(method="both", fit_psf=False, **o)
            )[0]
        )
        for o in ({}, {"star_threshold": 2.0})
    ]
    assert count[0] <= 2 and count[1] > 100


def test_nothing_to_find():
    flat = np.full((60, 60), 0.2, np.float32)
    for planes in ((flat, flat, flat), (flat, flat, 0 * flat)):
        for method in ("dao", "both"):
            options = scene.parameters(method=method, fit_psf=False)
            table, segments = make_catalog(*planes, scene.grid(60), options)
            assert len(table) == 0 and not segments.any()
