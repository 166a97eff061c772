import runpy
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import asdf
import catalog_scene as scene
import numpy as np
import pytest
import roman_datamodels as rdm
from astropy.table import Table
from astropy.time import Time
from romosaic.catalog_files import read_coadd, write_catalog
from romosaic.catalog_references import choose_psf, point_source, read_apcorr, read_epsf
from romosaic.config import load
from romosaic.errors import ConfigError, ProductError
from romosaic.grid import Grid
from romosaic.mosaic_model import grid_wcs, wcsinfo
from romosaic.product import provenance, write_model
from romosaic.source_catalog import Parameters, make_catalog

SIZE = 120


def grid(x_east=True):
    return Grid(30.0, -10.0, 2000.0, -1500.0, scene.SCALE, SIZE, SIZE, 20.0, "030m10x53y49", x_east)


def planes():
    rng = np.random.default_rng(3)
    sources = scene.lattice(rng, SIZE, 40, 500, 4000, edge=20)
    return scene.observe(rng, scene.render((SIZE, SIZE), sources))


def mosaic(area, data, err, weight):
    """Make a valid MosaicModel whose numbers are known."""
    model = rdm.datamodels.MosaicModel.create_fake_data(shape=(SIZE, SIZE))
    model.data, model.err, model.weight = data, err, weight
    model.context = np.ones((1, SIZE, SIZE), np.uint32)
    model.meta.wcs = grid_wcs(area)
    model.meta.wcsinfo = wcsinfo(area)
    model.meta.instrument.optical_element = "F158"
    model.meta.resample.pixfrac = 0.8
    model.meta.coadd_info.time_first = Time("2027-06-01T00:00:00")
    model.meta.data_release_id = "p"
    return model


@pytest.fixture(scope="module")
def coadd_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("coadd") / "product_coadd.asdf"
    write_model(
        path, mosaic(grid(), *planes()), provenance({"kernel": "turbo"}, [("exposure", "abc")])
    )
    return path


@pytest.fixture(scope="module", params=["sources", "nothing"])
def written(request, coadd_path, tmp_path_factory):
    """All files of a catalog, with and without sources."""
    folder = tmp_path_factory.mktemp(request.param)
    coadd = read_coadd(coadd_path)
    weight = coadd.weight if request.param == "sources" else np.zeros_like(coadd.weight)
    table, segmentation = make_catalog(
        coadd.data, coadd.err, weight, coadd.grid, Parameters(), psf=scene.psf()
    )
    paths = [folder / f"product_{end}" for end in ("cat.asdf", "cat.parquet", "segm.asdf")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_catalog(*paths, table, segmentation, coadd.meta, provenance({"npixels": 25}, []))
    return paths, table, segmentation, coadd


def test_coadd_is_read_with_its_grid(coadd_path):
    coadd = read_coadd(coadd_path)
    data, err, weight = planes()
    np.testing.assert_array_equal(coadd.data, data)
    np.testing.assert_array_equal(coadd.err, err)
    np.testing.assert_array_equal(coadd.weight, weight)
    assert coadd.grid.skycell == "030m10x53y49" and coadd.grid.shape == (SIZE, SIZE)
    for x, y in ((0, 0), (50, 99)):
        np.testing.assert_allclose(coadd.grid.to_sky(x, y), grid().to_sky(x, y), atol=1e-11)
    assert (coadd.optical_element, coadd.pixfrac, coadd.kernel) == ("F158", 0.8, "turbo")
    assert coadd.inputs == [("exposure", "abc")]


def test_mirrored_coadd_is_seen_by_its_wcs(tmp_path):
    path = tmp_path / "mirror_coadd.asdf"
    write_model(path, mosaic(grid(x_east=False), *planes()), provenance({}, []))
    found = read_coadd(path).grid
    assert not found.x_east
    np.testing.assert_allclose(found.to_sky(3, 7), grid(False).to_sky(3, 7), atol=1e-11)


def test_wcsinfo_must_describe_the_wcs(tmp_path):
    model = mosaic(grid(), *planes())
    model.meta.wcsinfo.x_ref = 1990.0
    path = tmp_path / "wrong_coadd.asdf"
    write_model(path, model, provenance({}, []))
    with pytest.raises(ProductError, match="wcsinfo does not describe its WCS"):
        read_coadd(path)


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped", "text", "other"])
def test_damaged_coadds_are_refused_in_one_line(coadd_path, tmp_path, damage):
    path = tmp_path / "product_coadd.asdf"
    content = bytearray(coadd_path.read_bytes())
    if damage == "cut":
        del content[len(content) // 2 :]
    elif damage == "flipped":
        content[content.index(b"\xd3BLK") + 2000] ^= 0xFF
    elif damage == "text":
        content = b"not a coadd"
    if damage == "other":
        asdf.AsdfFile({"roman": {"meta": {}}}).write_to(path)
    elif damage != "missing":
        path.write_bytes(content)
    with pytest.raises(ProductError) as error:
        read_coadd(path)
    assert "product_coadd.asdf" in str(error.value) and "\n" not in str(error.value)


def test_asdf_products_open_and_validate(written):
    (cat, _, segm), table, segmentation, coadd = written
    with rdm.open(cat, validate_checksums=True) as model:
        assert isinstance(model, rdm.datamodels.MosaicSourceCatalogModel)
        model.validate()
        again = model.source_catalog
        assert again.colnames == table.colnames
        for name in table.colnames:
            np.testing.assert_array_equal(again[name], table[name])
            assert again[name].dtype == table[name].dtype
            assert again[name].unit == table[name].unit
        assert again.meta["psf_source"] == "analytic"
        assert model.meta.filename == cat.name
        assert model.meta.image.filename == "product_coadd.asdf"
        assert model.meta.image.file_date == coadd.meta.file_date
        assert model.meta.data_release_id == "p"
        assert model.meta.wcsinfo.skycell_name == "030m10x53y49"
        assert model.meta.instrument.optical_element == "F158"
    with rdm.open(segm, validate_checksums=True) as model:
        assert isinstance(model, rdm.datamodels.MosaicSegmentationMapModel)
        model.validate()
        assert model.data.dtype == np.uint32
        np.testing.assert_array_equal(model.data, segmentation)
        assert model.meta.filename == segm.name
    with asdf.open(cat) as file:
        assert file["romosaic"]["provenance"]["parameters"] == {"npixels": 25}


def test_parquet_opens_with_units(written):
    import pyarrow.parquet as pq

    (_, path, _), table, _, _ = written
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = Table.read(path)
    assert again.colnames == table.colnames
    for name in table.colnames:
        assert again[name].dtype == table[name].dtype, name
        assert again[name].unit == table[name].unit, name
        assert again[name].description == table[name].description, name
        np.testing.assert_array_equal(again[name], table[name])
    assert again.meta["parameters"]["npixels"] == 25
    schema = pq.read_schema(path)
    assert schema.metadata[b"roman.meta.filename"] == path.name.encode()
    assert schema.field("kron_flux").metadata[b"unit"] == b"nJy"
    if len(table):
        chunk = pq.ParquetFile(path).metadata.row_group(0).column(0)
        assert chunk.compression == "ZSTD"


@pytest.mark.parametrize("forced_by", [None, "F129"])
@pytest.mark.parametrize("kind", ["empty", "masked", "sources"])
def test_the_script_writes_valid_files_whatever_the_coadd_holds(tmp_path, kind, forced_by):
    data, err, weight = planes()
    if kind == "masked":
        data, err, weight = np.full_like(data, np.nan), np.full_like(err, np.nan), 0 * weight
    elif kind == "empty":
        data = np.full_like(data, 0.2)
    coadd = tmp_path / "product_coadd.asdf"
    area = replace(grid(), skycell="031m09x53y49")
    write_model(coadd, mosaic(area, data, err, weight), provenance({}, []))
    paths = [tmp_path / f"product_{end}" for end in ("cat.asdf", "cat.parquet", "segm.asdf")]
    section = load({})["source_catalog"]
    params = {"parameters": section, "forced_by": forced_by, "reference_file": None}
    job = SimpleNamespace(
        log=[str(tmp_path / "log")],
        input=SimpleNamespace(coadd=str(coadd), forcing=[]),
        output=[str(path) for path in paths],
        params=SimpleNamespace(**params),
    )
    script = Path(__file__).parent.parent / "scripts" / "source_catalog.py"
    runpy.run_path(str(script), init_globals={"snakemake": job})
    names = [type(rdm.open(path)).__name__ for path in (paths[0], paths[2])]
    forced = "Forced" if forced_by else ""
    assert names == [f"{forced}MosaicSourceCatalogModel", "MosaicSegmentationMapModel"]
    with rdm.open(paths[0], validate_checksums=True) as model, rdm.open(paths[2]) as segm:
        model.validate()
        segm.validate()
        table, segments = model.source_catalog, np.array(segm.data)
        again = Table.read(paths[1])
        assert segments.dtype == np.uint32 and segments.shape == (SIZE, SIZE)
        np.testing.assert_array_equal(np.unique(segments)[1:], np.sort(table["label"]))
        assert (len(table) > 0) == (kind == "sources") and len(again) == len(table)
        assert again.dtype == table.dtype and again.meta["image_flags"]["8"]
        assert set(table["skycell"]) <= {area.skycell} and set(table["filter"]) <= {"F158"}


def test_nothing_else_is_left_in_the_folder(written):
    paths = written[0]
    assert sorted(p.name for p in paths[0].parent.iterdir()) == sorted(p.name for p in paths)


def test_failed_write_leaves_no_file(tmp_path, coadd_path):
    coadd = read_coadd(coadd_path)
    table, segmentation = make_catalog(
        coadd.data, coadd.err, coadd.weight, coadd.grid, Parameters(fit_psf=False)
    )
    table.remove_column("kron_flux")
    paths = [tmp_path / f"product_{end}" for end in ("cat.asdf", "cat.parquet", "segm.asdf")]
    with pytest.raises(ProductError, match="not be valid"):
        write_catalog(*paths, table, segmentation, coadd.meta, provenance({}, []))
    assert not paths[0].exists() and not paths[1].exists()
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


@pytest.fixture(scope="module")
def epsf_path(tmp_path_factory):
    """Write an EpsfRefModel whose solar-type, in-focus star alone is right."""
    from romosaic.psf import psf_image

    path = tmp_path_factory.mktemp("reference") / "epsf.asdf"
    stamp = psf_image("F158", 0.11, 121, 4).astype(np.float32)
    psf = np.zeros((2, 3, 4, 121, 121), np.float32)
    psf[1, 1] = stamp
    psf[0] = psf[1, 0] = psf[1, 2] = 1
    model = rdm.datamodels.EpsfRefModel.create_fake_data()
    model.psf = psf
    model.meta.oversample = 4
    model.meta.defocus = [-1, 0]
    model.meta.spectral_type = ["A0V", "G2V", "M5V"]
    model.meta.pixel_x = model.meta.pixel_y = [4.0, 4084.0, 4.0, 4084.0]
    model.meta.instrument.optical_element = "F158"
    model.save(path)
    return path


def test_epsf_file_is_used_for_its_filter(epsf_path):
    stamp, oversample = read_epsf(epsf_path, "F158")
    assert stamp.shape == (121, 121) and oversample == 4
    assert np.unravel_index(stamp.argmax(), stamp.shape) == (60, 60)
    psf = choose_psf("F158", 0.055, str(epsf_path))
    assert psf.source == "file: epsf.asdf"
    radii = np.array([0.1, 0.2, 0.4])
    np.testing.assert_allclose(
        psf.encircled_energy(radii), scene.psf().encircled_energy(radii), atol=3e-3
    )
    assert read_epsf(epsf_path, "F129") is None
    assert choose_psf("F129", 0.055, str(epsf_path)).source == "analytic"
    assert choose_psf("F158", 0.055).source == "analytic"


def test_point_source_of_a_coadd_follows_its_drizzling(coadd_path, epsf_path):
    coadd = read_coadd(coadd_path)
    psf, energy = point_source(coadd, {"epsf_file": None, "apcorr_file": None})
    assert energy is None
    # pixfrac 0.8 of the file: sharper than the drop of a full pixel.
    assert psf.encircled_energy(0.1) > scene.psf().encircled_energy(0.1)
    psf, _ = point_source(coadd, {"epsf_file": str(epsf_path), "apcorr_file": None})
    assert psf.source.startswith("file")


@pytest.mark.parametrize("unit", [1.0, 1 / 0.11])
def test_apcorr_radii_in_arcsec_or_pixels(tmp_path, unit):
    path = tmp_path / "apcorr.asdf"
    model = rdm.datamodels.ApcorrRefModel.create_fake_data()
    radius, fraction = np.array([0.05, 0.1, 0.2, 0.4, 1.6]), np.array([0.2, 0.45, 0.7, 0.9, 0.98])
    model["data"] = {
        "F158": {
            "ap_corrections": 1 / fraction,
            "ee_fractions": fraction,
            "ee_radii": radius * unit,
            "sky_background_rin": 2.4,
            "sky_background_rout": 2.8,
        }
    }
    model.save(path)
    found = read_apcorr(path, "F158")
    np.testing.assert_allclose(found[0], [0, *radius])
    np.testing.assert_allclose(found[1], [0, *fraction])
    assert read_apcorr(path, "F062") is None


def test_unusable_reference_files_name_their_key(tmp_path, epsf_path, coadd_path):
    text = tmp_path / "text.asdf"
    text.write_text("nothing")
    for path in (tmp_path / "missing.asdf", text, coadd_path):
        with pytest.raises(ConfigError, match=r"source_catalog\.epsf_file"):
            choose_psf("F158", 0.055, str(path))
    for path in (tmp_path / "missing.asdf", text, epsf_path):
        with pytest.raises(ConfigError, match=r"source_catalog\.apcorr_file"):
            read_apcorr(path, "F158")
    with pytest.raises(ConfigError, match="no PSF model for PRISM"):
        choose_psf("PRISM", 0.055)
