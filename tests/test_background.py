import numpy as np
import pytest
from astropy.stats import SigmaClip
from photutils.background import Background2D, MedianBackground
from romosaic.background import background, clipped, level_between


def sky(shape=(430, 510)):
    rng = np.random.default_rng(4)
    y, x = np.mgrid[: shape[0], : shape[1]]
    data = rng.normal(size=shape) * (1 + 0.3 * x / 500) + 3 * np.sin(x / 200) + 0.01 * y + 100
    return data.astype(np.float32)


@pytest.mark.parametrize("boxsize", [100, 64, 1000])
@pytest.mark.parametrize("masked", [False, True])
def test_background_equals_photutils(boxsize, masked):
    data = sky()
    bad = np.zeros(data.shape, bool)
    if masked:
        bad[200:212] = True
        bad[:30, :40] = True
    level, rms = background(np.where(bad, 0, data), bad, boxsize)
    options = {"filter_size": (3, 3), "coverage_mask": bad, "bkg_estimator": MedianBackground()}
    clip = SigmaClip(3.0, stdfunc="mad_std")
    expected = Background2D(data, boxsize, sigma_clip=clip, **options)
    np.testing.assert_allclose(level, expected.background, rtol=2e-6)
    np.testing.assert_allclose(rms, expected.background_rms, rtol=1e-5)
    assert level.dtype == rms.dtype == np.float32


def test_background_of_a_sparsely_covered_image_is_one_box():
    data = sky()
    bad = np.ones(data.shape, bool)
    bad[np.arange(0, 430, 3)[:, None], np.arange(0, 510, 3)] = False
    level, rms = background(np.where(bad, 0, data), bad, 100)
    assert np.unique(level[~bad]).size == 1
    assert level[0, 0] == pytest.approx(np.median(data[~bad]), rel=1e-3)
    assert rms[0, 0] > 0 and level[1, 1] == 0


@pytest.mark.parametrize("n", [1, 2, 3, 10, 999, 1000])
def test_clipping_equals_astropy(n):
    rng = np.random.default_rng(n)
    for values in (rng.standard_t(1.5, n), rng.integers(0, 4, n), np.zeros(n)):
        values = np.sort(values.astype(np.float32))
        expected = SigmaClip(3.0, stdfunc="mad_std")(values, masked=False, axis=0)
        np.testing.assert_array_equal(clipped(values), expected[np.isfinite(expected)])
    assert clipped(np.zeros(0, np.float32)).size == 0


def test_boxes_that_are_nearly_empty_follow_their_neighbours():
    data = sky((500, 600))
    bad = np.zeros(data.shape, bool)
    bad[100:300, 150:420] = True
    data[bad] = np.nan
    level, rms = background(data, bad, 50)
    clip = SigmaClip(3.0, stdfunc="mad_std")
    expected = Background2D(
        np.where(bad, 0, data),
        50,
        coverage_mask=bad,
        sigma_clip=clip,
        bkg_estimator=MedianBackground(),
    )
    np.testing.assert_allclose(level, expected.background, rtol=2e-6)
    np.testing.assert_allclose(rms, expected.background_rms, rtol=1e-5)


def between(data, bad, near, boxsize):
    level = np.full(data.shape, np.nan, np.float32)
    return level if level_between(data, bad, near, boxsize, level) else None


def masked_sky():
    """A sky, pixels without data, and discs of sources that add to it."""
    data = sky((500, 600))
    bad, near = np.zeros(data.shape, bool), np.zeros(data.shape, bool)
    bad[:140, :90] = True
    y, x = np.ogrid[: data.shape[0], : data.shape[1]]
    for row, col, radius in ((60, 300, 25), (250, 130, 80), (400, 420, 60), (410, 520, 40)):
        near |= (y - row) ** 2 + (x - col) ** 2 < radius**2
    return data + 50 * near.astype(np.float32), bad, near | bad


@pytest.mark.parametrize("boxsize", [50, 100, 1000])
def test_level_between_sources_equals_photutils(boxsize):
    """Boxes count down to a twentieth of their pixels; those that a source fills follow their neighbours."""
    data, bad, near = masked_sky()
    level = between(data, bad, near, boxsize)
    expected = Background2D(
        data,
        boxsize,
        mask=near & ~bad,
        coverage_mask=bad,
        exclude_percentile=95,
        sigma_clip=SigmaClip(3.0, stdfunc="mad_std"),
        bkg_estimator=MedianBackground(),
    )
    np.testing.assert_allclose(level, expected.background, rtol=2e-6)
    assert level.dtype == np.float32 and (level[bad] == 0).all()


def test_level_between_sources_needs_some_sky():
    data, bad, near = masked_sky()
    assert between(data, bad, np.ones_like(bad), 100) is None
    near[:] = True
    near[200:240, 300:330] = False
    assert between(data, bad, near, 600) is None
    assert np.unique(between(data, bad, near, 100)[~bad]).size == 1


def test_level_of_many_pixels_is_that_of_some():
    rng = np.random.default_rng(8)
    data = rng.normal(5, 1, (1100, 1100)).astype(np.float32)
    bad = np.zeros(data.shape, bool)
    near = rng.uniform(size=data.shape) < 0.1
    level = between(data + 100 * near.astype(np.float32), bad, near, 2000)
    # 272 thousand of 1089 thousand: their median is as far off as noise has it.
    assert np.unique(level).size == 1
    assert 1e-5 < abs(level[0, 0] - 5) < 4 * 1.2533 / np.sqrt(272e3)
