import warnings

import catalog_scene as scene
import numpy as np
import pytest
from astropy.table import vstack
from astropy.units import Unit
from romosaic.catalog_columns import BASE_COLUMNS, OWN_COLUMNS, column_names, make_table
from romosaic.catalog_flags import IMAGE_FLAGS, STAR_FINDER, UNFORCED, image_flags
from romosaic.source_catalog import make_catalog

SIZE = 400


def catalog(planes, grid=None, **options):
    keywords = {k: options.pop(k) for k in ("psf", "energy", "cell") if k in options}
    keywords.setdefault("psf", scene.psf())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        grid = grid or scene.grid(*planes[0].shape)
        return make_catalog(*planes, grid, scene.parameters(**options), **keywords)


@pytest.fixture(scope="module")
def stars():
    """Many isolated stars measured, with their truth."""
    return _measured(radius=0.0, faint=150)


@pytest.fixture(scope="module")
def galaxies():
    return _measured(radius=1.5, faint=400)


def _measured(radius, faint):
    tables, truth = [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        sources = scene.lattice(rng, SIZE, 50, faint, 4000)
        planes = scene.observe(rng, scene.render((SIZE, SIZE), sources, radius))
        table, _ = catalog(planes)
        rows, matched = scene.match(table, sources)
        assert len(rows) == len(table)
        table.meta.clear()
        tables.append(table)
        truth.append(sources[matched])
    truth = np.concatenate(truth)
    truth[:, 2] *= scene.nanojansky(scene.grid(SIZE))
    return vstack(tables), truth


@pytest.fixture(scope="module")
def field():
    rng = np.random.default_rng(11)
    sources = scene.lattice(rng, SIZE, 50, 300, 4000)
    return scene.observe(rng, scene.render((SIZE, SIZE), sources, 0.7))


def spread(values):
    return float(np.std(np.asarray(values, float)))


def test_columns_types_units_and_descriptions_are_the_schemas(field):
    from roman_datamodels.datamodels import MosaicSourceCatalogModel

    table, _ = catalog(field)
    assert table.colnames == column_names(True)
    assert len(BASE_COLUMNS) == 62 and len(table.colnames) == 77
    schema = MosaicSourceCatalogModel.create_minimal()
    for name, (dtype, unit, description) in OWN_COLUMNS.items():
        column = table[name]
        assert (column.dtype, column.unit, column.description) == (dtype, unit, description)
    _check_columns(table, schema)
    required = schema._instance._create_empty_catalog(aperture_radii=["01", "02", "04", "08", "16"])
    assert len(required.colnames) == 62 and not set(required.colnames) - set(table.colnames)


def _check_columns(table, schema):
    for name in set(table.colnames) - set(OWN_COLUMNS):
        definition = schema.get_column_definition(name)
        assert table[name].dtype == definition["datatype"], name
        if definition["unit"] == "none":
            assert table[name].unit is None, name
        else:
            assert table[name].unit == Unit(definition["unit"]), name
        assert table[name].description == definition["description"]


def test_table_refuses_unknown_and_uneven_columns():
    with pytest.raises(ValueError, match="no catalog has: colour"):
        make_table({"colour": np.zeros(2)}, False, {})
    with pytest.raises(ValueError, match="different lengths"):
        make_table({"ra": np.zeros(2), "dec": np.zeros(3)}, False, {})


@pytest.mark.parametrize("kind", ["centroid", "centroid_win", "psf"])
def test_position_errors_of_stars(stars, kind):
    _check_positions(*stars, kind)


@pytest.mark.parametrize("kind", ["centroid", "centroid_win"])
def test_position_errors_of_galaxies(galaxies, kind):
    _check_positions(*galaxies, kind)


def _check_positions(table, truth, kind):
    grid = scene.grid(SIZE)
    assert len(table) > 350
    ra, dec = grid.to_sky(truth[:, 0], truth[:, 1])
    for axis, true in (("x", truth[:, 0]), ("y", truth[:, 1])):
        pull = (table[f"{axis}_{kind}"] - true) / table[f"{axis}_{kind}_err"]
        assert abs(np.mean(pull)) < 0.2
        assert 0.85 < spread(pull) < 1.15
    east = (table[f"ra_{kind}"] - ra) * np.cos(np.radians(dec)) * 3600
    north = (table[f"dec_{kind}"] - dec) * 3600
    assert 0.85 < spread(east / table[f"ra_{kind}_err"]) < 1.15
    assert 0.85 < spread(north / table[f"dec_{kind}_err"]) < 1.15


def test_psf_fluxes_of_stars(stars):
    table, truth = stars
    pull = (table["psf_flux"] - truth[:, 2]) / table["psf_flux_err"]
    assert abs(np.mean(pull)) < 0.2
    assert 0.85 < spread(pull) < 1.15
    assert (table["psf_flags"] == 0).all()
    assert np.mean(table["psf_gof"]) == pytest.approx(1, abs=0.06)


# Stars too faint to be found raise the sky of this crowded field: 1 per cent of the light at 0.8 arcsec. If the
# wings of the others were not masked, it would be 2.
@pytest.mark.parametrize(("name", "bias"), [("02", 0.01), ("04", 0.01), ("08", 0.0125)])
def test_aperture_fluxes_of_stars(stars, name, bias):
    table, truth = stars
    expected = truth[:, 2] * scene.psf().encircled_energy(int(name) / 10)
    flux, err = table[f"aper{name}_flux"], table[f"aper{name}_flux_err"]
    bright = truth[:, 2] > np.median(truth[:, 2])
    assert np.median((flux / expected)[bright]) == pytest.approx(1, abs=bias)
    assert 0.85 < spread((flux - expected) / err) < 1.2


def test_kron_fluxes(stars, galaxies):
    for (table, truth), complete in ((stars, 0.85), (galaxies, 0.85)):
        bright = truth[:, 2] > np.median(truth[:, 2])
        ratio = np.median((table["kron_flux"] / truth[:, 2])[bright])
        assert complete < ratio < 1.0
        abmag = 31.4 - 2.5 * np.log10(table["kron_flux"])
        np.testing.assert_allclose(table["kron_abmag"], abmag, rtol=1e-6)
        error = 2.5 * np.log10(1 + table["kron_flux_err"] / table["kron_flux"])
        np.testing.assert_allclose(table["kron_abmag_err"], error, rtol=1e-4)


def test_only_galaxies_are_extended(stars, galaxies):
    assert np.mean(stars[0]["is_extended"]) < 0.01
    bright = galaxies[1][:, 2] > np.median(galaxies[1][:, 2])
    assert np.mean(galaxies[0]["is_extended"][bright]) > 0.95


def test_extendedness_follows_the_given_energy(field):
    table, _ = catalog(field, fit_psf=False, psf=None)
    assert not table["is_extended"].any()
    assert "ee_fractions" not in table.meta
    steep = (np.array([0, 0.2, 0.4, 2]), np.array([0, 0.9, 0.91, 0.92]))
    table, _ = catalog(field, energy=steep)
    assert (
        table["is_extended"].sum()
        == (table["aper04_flux"] > 1.2 * 0.91 / 0.9 * table["aper02_flux"]).sum()
    )
    np.testing.assert_allclose(table.meta["ee_fractions"][1:3], [0.9, 0.91])


def test_labels_are_those_of_the_segmentation(field):
    table, segmentation = catalog(field)
    assert segmentation.dtype == np.uint32 and segmentation.shape == field[0].shape
    assert (np.diff(table["_healpix_29"]) > 0).all()
    table.sort("label")
    np.testing.assert_array_equal(table["label"], np.arange(1, len(table) + 1))
    np.testing.assert_array_equal(np.unique(segmentation)[1:], table["label"])
    area = (
        np.bincount(segmentation.ravel())[1:]
        * np.degrees(np.sqrt(table.meta["pixel_area_sr"])) ** 2
        * 3600**2
    )
    np.testing.assert_allclose(table["segment_area"], area, rtol=1e-6)
    for row in table:
        rows, cols = np.nonzero(segmentation == row["label"])
        assert (cols.min(), cols.max()) == (row["bbox_xmin"], row["bbox_xmax"])
        assert (rows.min(), rows.max()) == (row["bbox_ymin"], row["bbox_ymax"])
        assert segmentation[round(row["y_centroid"]), round(row["x_centroid"])] == row["label"]


def test_neighbours(field):
    table, _ = catalog(field)
    x, y = np.array(table["x_centroid"], float), np.array(table["y_centroid"], float)
    distance = np.hypot(x[:, None] - x, y[:, None] - y) + np.diag(np.full(len(x), np.inf))
    np.testing.assert_array_equal(table["nn_label"], table["label"][distance.argmin(axis=1)])
    scale = np.degrees(np.sqrt(table.meta["pixel_area_sr"])) * 3600
    np.testing.assert_allclose(table["nn_distance"], distance.min(axis=1) * scale, rtol=1e-4)


def test_covered_window_does_not_change_the_numbers(field):
    """A coadd in the corner of an empty cell gives the catalog of the covered part, moved."""
    ny, nx = field[0].shape
    big = [np.full((900, 1000), fill, np.float32) for fill in (np.nan, np.nan, 0)]
    for plane, part in zip(big, field, strict=True):
        plane[300 : 300 + ny, 450 : 450 + nx] = part
    here = scene.grid(ny)
    there = type(here)(30.0, -10.0, here.x0 + 450, here.y0 + 300, scene.SCALE, 1000, 900)
    small, segments = catalog(field, here)
    large, moved = catalog(big, there)
    small.sort("label")
    large.sort("label")
    np.testing.assert_array_equal(moved[300 : 300 + ny, 450 : 450 + nx], segments)
    assert moved.sum() == segments.sum()
    for name in ("ra", "dec", "ra_psf", "dec_centroid_win"):
        np.testing.assert_allclose(large[name], small[name], atol=1e-11, rtol=0)
    for name in ("x_centroid", "x_psf", "bbox_xmin", "bbox_xmax"):
        np.testing.assert_allclose(large[name], small[name] + 450, rtol=1e-6)
    for name in ("y_centroid_win", "bbox_ymin", "bbox_ymax"):
        np.testing.assert_allclose(large[name], small[name] + 300, rtol=1e-6)
    for name in ("kron_flux", "aper16_flux", "psf_flux", "aper_bkg_flux_err", "semimajor"):
        np.testing.assert_allclose(large[name], small[name], rtol=1e-4)


def test_inputs_are_left_alone_and_results_repeat(field):
    copies = [plane.copy() for plane in field]
    first, again = catalog(field), catalog(field)
    for plane, copy in zip(field, copies, strict=True):
        np.testing.assert_array_equal(plane, copy)
    for name in first[0].colnames:
        np.testing.assert_array_equal(first[0][name], again[0][name])


def _blank(shape=(60, 60), data=0.2, err=0.01, weight=1.0):
    return [np.full(shape, fill, np.float32) for fill in (data, err, weight)]


def _one_pixel():
    planes = _blank(weight=0)
    planes[2][30, 30] = 1
    return planes


@pytest.mark.parametrize(
    "planes",
    [
        _blank(),
        _blank(data=0.0),
        _blank(data=np.nan),
        _blank(weight=0),
        _blank(weight=np.nan),
        _blank(err=0),
        _blank(err=-1),
        _blank(err=np.inf),
        _one_pixel(),
        _blank((1, 50)),
        _blank((50, 1)),
        _blank((3, 4)),
        _blank(data=1e30),
    ],
    ids=[
        *("flat", "zero", "nan", "no weight", "nan weight", "no err", "negative err"),
        *("infinite err", "one pixel", "row", "column", "tiny", "absurd"),
    ],
)
def test_nothing_to_find(planes):
    for fit_psf in (True, False):
        table, segmentation = catalog(planes, fit_psf=fit_psf)
        assert len(table) == 0 and not segmentation.any()
        full, _ = catalog(_with_star(_blank()), fit_psf=fit_psf)
        assert [table[n].dtype for n in table.colnames] == [full[n].dtype for n in full.colnames]
        assert table.colnames == full.colnames


def _with_star(planes, x=30.0, y=30.0, flux=1000):
    planes[0] += scene.render(planes[0].shape, np.array([[x, y, flux * scene.NOISE]])).astype("f4")
    rng = np.random.default_rng(2)
    planes[0] += rng.normal(size=planes[0].shape).astype(np.float32) * scene.NOISE
    return planes


@pytest.mark.parametrize(("x", "y"), [(0, 0), (59, 30), (30, 59.4), (-0.4, 59)])
def test_sources_at_edges(x, y):
    table, _ = catalog(_with_star(_blank(), x, y, 5000))
    assert len(table) == 1
    flags = int(table["image_flags"][0])
    assert flags & 2 and flags & 64 and flags & 128
    assert table["psf_flags"][0] & 1
    finite = [n for n in table.colnames if table[n].dtype.kind == "f"]
    empty = {n for n in finite if not np.isfinite(table[n][0])}
    assert empty <= {"dust_ebv", "nn_distance"}
    assert abs(table["x_psf"][0] - x) < 5 * table["x_psf_err"][0]


def test_masked_pixels_are_flagged_and_left_out():
    planes = _with_star(_blank((80, 80)), 40, 40)
    clean, _ = catalog(planes)
    assert clean["image_flags"][0] == 0 and clean["warning_flags"][0] == 0
    planes[0][40, 40] = np.nan
    holed, _ = catalog(planes)
    assert holed["image_flags"][0] & 1 and holed["image_flags"][0] & 64
    assert holed["warning_flags"][0] == 1
    assert holed["psf_flags"][0] == 1
    assert 0.5 * clean["aper04_flux"][0] < holed["aper04_flux"][0] < 0.98 * clean["aper04_flux"][0]
    error = 4 * float(holed["psf_flux_err"][0])
    assert holed["psf_flux"][0] == pytest.approx(clean["psf_flux"][0], abs=error)


def test_low_weight_is_flagged():
    planes = _with_star(_with_star(_blank((80, 160)), 40, 40), 120, 40)
    planes[2][:, 130:] = 0.3
    planes[2][:, 110:130] = 0.3
    table, _ = catalog(planes)
    flags = np.array(table["image_flags"])[np.argsort(table["x_centroid"])]
    assert [bool(f & 4) for f in flags] == [False, True]


def test_every_image_flag_has_its_cause():
    segments = np.zeros((40, 40), np.int32)
    for label in range(1, 8):
        segments[5 * label : 5 * label + 3, 10:13] = label
    segments[0:3, 30:33] = 8
    bad, weight = np.zeros((40, 40), bool), np.ones((40, 40), np.float32)
    bad[6, 13] = True
    weight[segments == 2] = 0.4
    blended = np.arange(1, 9) == 3
    coverage = {name: np.ones(8) for name in ("kron", "aper04", "aper16")}
    coverage["kron"][3], coverage["aper04"][4], coverage["aper16"][5] = 0.4, 0.99, 0.5
    flags = image_flags(segments, bad, weight, blended, coverage)
    assert flags.tolist() == [1, 4, 8, 32, 64, 128, 0, 2]
    assert set(IMAGE_FLAGS) - {STAR_FINDER, UNFORCED} == set(flags.tolist()) - {0}


def test_bad_arguments():
    with pytest.raises(ValueError, match="not one shape"):
        make_catalog(*_blank(), scene.grid(61), scene.parameters(fit_psf=False))
    with pytest.raises(ValueError, match="needs a PSF"):
        make_catalog(*_blank(), scene.grid(60), scene.parameters())


def test_metadata_says_how_it_was_measured(field):
    meta = catalog(field, npixels=30)[0].meta
    assert meta["psf_source"] == "analytic"
    assert meta["parameters"]["npixels"] == 30
    assert meta["aperture_radii"]["circle_arcsec"] == [0.1, 0.2, 0.4, 0.8, 1.6]
    assert meta["ee_fractions"] == pytest.approx(
        scene.psf().encircled_energy([0.1, 0.2, 0.4, 0.8, 1.6])
    )
    assert "photutils" in meta["versions"] and "8" in meta["image_flags"]


def test_best_position_is_windowed_where_there_is_one(stars):
    table, truth = stars
    assert (table["ra"] == table["ra_centroid_win"]).all()
    assert (table["dec"] == table["dec_centroid_win"]).all()
    window = np.hypot(table["x_centroid_win"] - truth[:, 0], table["y_centroid_win"] - truth[:, 1])
    moment = np.hypot(table["x_centroid"] - truth[:, 0], table["y_centroid"] - truth[:, 1])
    assert np.median(window) < np.median(moment)
