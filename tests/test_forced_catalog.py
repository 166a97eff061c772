import catalog_scene as scene
import numpy as np
import pytest
from romosaic.catalog_columns import FORCED_LIGHT, FORCED_SHAPES
from romosaic.errors import ProductError
from romosaic.forcing import READ, Forcing, read_forcing
from romosaic.source_catalog import make_catalog

SIZE = 300
RATIO = 0.1  # of a source's light in the second filter to that in the first


@pytest.fixture(scope="module")
def sources():
    return scene.lattice(np.random.default_rng(1), SIZE, 50, 400, 4000)


@pytest.fixture(scope="module")
def deep(sources):
    """Catalog, segmentation of the first filter."""
    rng = np.random.default_rng(2)
    return measured(scene.observe(rng, scene.render((SIZE, SIZE), sources, 0.7)))


@pytest.fixture(scope="module")
def faint_planes(sources):
    """The second filter, in which few sources are seen, covers three quarters of the grid, with a hole."""
    rng = np.random.default_rng(3)
    weaker = sources * np.array([1, 1, RATIO])
    planes = scene.observe(rng, scene.render((SIZE, SIZE), weaker, 0.7))
    planes[2][: SIZE // 4] = 0
    x, y = np.rint(sources[-1, :2]).astype(int)
    planes[0][y - 1 : y + 2, x - 1 : x + 2] = np.nan
    return planes


def measured(planes, forcing=None, **options):
    chosen = {"psf": scene.psf(), "optical_element": "F129", "forcing": forcing}
    return make_catalog(*planes, scene.grid(SIZE), scene.parameters(**options), **chosen)


def forcing_of(table, segments):
    columns = {name: np.asarray(table[name]) for name in READ}
    return Forcing("F158", "deep", segments, columns)


@pytest.fixture(scope="module")
def forced(deep, faint_planes):
    return measured(faint_planes, forcing_of(*deep))


def rows_of(table, labels):
    """Rows of a table by label."""
    order = np.argsort(table["label"])
    return table[order[np.searchsorted(table["label"][order], labels)]]


def test_columns_are_those_of_romancal(forced):
    from roman_datamodels.datamodels import ForcedMosaicSourceCatalogModel

    table = forced[0]
    schema = ForcedMosaicSourceCatalogModel.create_minimal()
    for name in table.colnames[:-3]:
        definition = schema.get_column_definition(name)
        assert table[name].dtype == definition["datatype"], name
        assert table[name].description == definition["description"], name
    names = set(table.colnames)
    assert not names & set(FORCED_LIGHT)
    assert {f"forced_{name}" for name in (*FORCED_LIGHT, *FORCED_SHAPES)} < names
    assert len(names) == len(table.colnames) == 77 + len(FORCED_SHAPES)


def test_sources_labels_and_places_are_those_of_the_forcing_catalog(deep, forced, faint_planes):
    table, segments = forced
    assert len(measured(faint_planes, forcing_of(*deep), method="both")[0]) == len(table)
    above = np.unique(deep[1][SIZE // 4 :])
    assert set(table["label"]) == set(above) - {0} and len(above) < len(deep[0])
    covered = np.where(np.isin(deep[1], above), deep[1], 0)
    covered[: SIZE // 4] = 0
    seen = segments > 0
    np.testing.assert_array_equal(segments[seen], covered[seen])
    assert np.count_nonzero(seen) >= np.count_nonzero(covered) - 9
    same = rows_of(deep[0], table["label"])
    for name in set(READ) - {"image_flags"}:
        np.testing.assert_allclose(table[name], same[name], rtol=1e-6, err_msg=name)


def test_light_is_that_of_this_image(deep, forced, sources):
    table = forced[0]
    whole = table[table["image_flags"] & (1 + 2 + 64) == 0]
    assert len(whole) > 20
    before = rows_of(deep[0], whole["label"])
    for name in ("segment_flux", "kron_flux", "aper04_flux", "psf_flux"):
        ratio = whole[f"forced_{name}"] / before[name]
        assert np.median(ratio) == pytest.approx(RATIO, abs=0.01), name
        pull = (whole[f"forced_{name}"] - RATIO * before[name]) / whole[f"forced_{name}_err"]
        assert 0.6 < np.std(pull) < 1.5, name
    error = np.hypot(whole["forced_x_centroid_err"], 0.05)
    assert np.std((whole["forced_x_centroid"] - whole["x_centroid"]) / error) < 2
    assert set(whole["forced_nn_label"]) <= set(table["label"])
    np.testing.assert_array_equal(table["filter"], "F129")
    assert table.meta["forced_by"] == {"filter": "F158", "product": "deep"}


def test_missing_pixels_are_flagged_in_this_image(forced, sources):
    table, _ = forced
    x, y = sources[-1, :2]
    apart = np.hypot(table["x_centroid"] - x, table["y_centroid"] - y)
    holed = table[np.argmin(apart)]
    assert holed["image_flags"] & 1 and holed["image_flags"] & 64 and holed["forced_psf_flags"] & 1
    assert holed["forced_warning_flags"] == 1


def test_the_same_image_forced_by_itself_repeats_its_catalog(sources):
    planes = scene.observe(np.random.default_rng(4), scene.render((SIZE, SIZE), sources, 0.7))
    for options in ({}, {"method": "both"}):
        table, segments = measured(planes, **options)
        again, same = measured(planes, forcing_of(table, segments), **options)
        np.testing.assert_array_equal(same, segments)
        for name in table.colnames:
            twin = again[name] if name in again.colnames else again[f"forced_{name}"]
            if name.startswith(("x_psf", "y_psf", "psf_")) and options:
                continue  # the star finder tells the fits where to start
            if table[name].dtype.kind == "U":
                assert (twin == table[name]).all()
            else:
                np.testing.assert_allclose(twin, table[name], rtol=2e-3, atol=1e-4, err_msg=name)


def test_without_a_product_of_the_other_filter(faint_planes, forced):
    own, segments = measured(faint_planes)
    table, same = measured(faint_planes, Forcing("F158"))
    np.testing.assert_array_equal(same, segments)
    assert table.colnames == forced[0].colnames
    assert (table["image_flags"] & 512 > 0).all() and len(table) == len(own) > 0
    np.testing.assert_array_equal(table["forced_kron_flux"], own["kron_flux"])
    np.testing.assert_array_equal(table["forced_ra"], own["ra_centroid"])
    np.testing.assert_array_equal(table["ra"], own["ra"])
    assert "none here" in table.meta["forced_by"]["product"]


def test_grids_must_agree_and_emptiness_is_fine(deep, faint_planes, forced):
    small = Forcing("F158", "deep", deep[1][:-1], {})
    with pytest.raises(ValueError, match="not one shape"):
        measured(faint_planes, small)
    none = np.zeros(0)
    nothing = Forcing("F158", "deep", 0 * deep[1], {n: none.astype(deep[0][n].dtype) for n in READ})
    blank = [plane.copy() for plane in faint_planes]
    blank[2][:] = 0
    for planes, forcing in ((faint_planes, nothing), (blank, forcing_of(*deep))):
        table, segments = measured(planes, forcing)
        assert len(table) == 0 and not segments.any()
        assert table.dtype == forced[0].dtype


def test_forcing_is_read_from_the_files_of_its_product(deep, tmp_path):
    import asdf
    import pyarrow.parquet as pq
    from romosaic.catalog_parquet import arrow_table

    paths = [tmp_path / f"deep_{end}" for end in ("cat.parquet", "segm.asdf")]
    pq.write_table(arrow_table(deep[0], {}), paths[0])
    asdf.AsdfFile({"roman": {"data": deep[1]}}).write_to(paths[1])
    found = read_forcing("F158", paths)
    assert (found.product, found.optical_element) == ("deep", "F158")
    np.testing.assert_array_equal(found.segments, deep[1])
    assert set(found.columns) == set(READ)
    np.testing.assert_array_equal(found.columns["label"], deep[0]["label"])
    assert read_forcing("F158", []) == Forcing("F158")
    pq.write_table(arrow_table(deep[0][1:], {}), paths[0])
    with pytest.raises(ProductError, match=r"has labels that deep_cat\.parquet has not"):
        read_forcing("F158", paths)
    for path in paths[::-1]:
        path.write_bytes(path.read_bytes()[:400])
        with pytest.raises(ProductError, match=r"cannot be read|is cut short") as error:
            read_forcing("F158", paths)
        assert path.name in str(error.value)
