import re
import subprocess
import sys
import warnings
from pathlib import Path

import asdf
import catalog_scene as scene
import numpy as np
import pytest
import roman_datamodels as rdm
from astropy.table import Table
from coadd_file import known_coadd, save_coadd
from romosaic.asdf_blocks import AsdfBlocks
from romosaic.catalog_files import read_coadd, write_catalog
from romosaic.catalog_references import choose_psf, point_source, read_apcorr, read_epsf
from romosaic.errors import ConfigError, ProductError
from romosaic.grid import Grid
from romosaic.product import provenance
from romosaic.source_catalog import make_catalog

SIZE = 120
EXCLUDED = {"expname": "other", "reason": "no sky"}


def grid(x_east=True):
    return Grid(30.0, -10.0, 2000.0, -1500.0, scene.SCALE, SIZE, SIZE, 20.0, "030m10x53y49", x_east)


def planes():
    rng = np.random.default_rng(3)
    sources = scene.lattice(rng, SIZE, 40, 500, 4000, edge=20)
    return scene.observe(rng, scene.render((SIZE, SIZE), sources))


@pytest.fixture(scope="module")
def coadd_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("coadd") / "product_coadd.asdf"
    made_of = provenance({"kernel": "turbo"}, [("exposure", "abc")], [EXCLUDED])
    save_coadd(path, known_coadd(grid(), *planes(), pixfrac=0.8), made_of)
    return path


@pytest.fixture(scope="module", params=["sources", "nothing"])
def written(request, coadd_path, tmp_path_factory):
    """All files of a catalog, with and without sources."""
    folder = tmp_path_factory.mktemp(request.param)
    coadd = read_coadd(coadd_path)
    weight = coadd.weight if request.param == "sources" else np.zeros_like(coadd.weight)
    table, segmentation = make_catalog(
        coadd.data, coadd.err, weight, coadd.grid, scene.parameters(), psf=scene.psf()
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
    assert coadd.inputs == [("exposure", "abc")] and coadd.excluded == [EXCLUDED]


def test_mirrored_coadd_is_seen(tmp_path):
    path = tmp_path / "mirror_coadd.asdf"
    save_coadd(path, known_coadd(grid(x_east=False), *planes()), provenance({}, []))
    found = read_coadd(path).grid
    assert not found.x_east
    np.testing.assert_allclose(found.to_sky(3, 7), grid(False).to_sky(3, 7), atol=1e-11)


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
        assert model.meta.image.file_date.isot == coadd.meta["file_date"]
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


def test_parquet_is_the_models_own(written, tmp_path):
    """
    Columns and metadata of roman_datamodels' to_parquet, but for what it cannot write: texts.

    Name and date of the file differ, and the description of the columns is one of more columns.
    """
    import pyarrow.parquet as pq

    (cat, path, _), table, _, _ = written
    texts = [name for name in table.colnames if table[name].dtype.kind == "U"]
    assert texts == ["skycell", "filter"]
    with rdm.open(cat) as model:
        model.source_catalog.remove_columns(texts)
        model.to_parquet(tmp_path / "theirs.parquet")
    ours, theirs = pq.read_table(path), pq.read_table(tmp_path / "theirs.parquet")
    assert [name for name in ours.column_names if name not in texts] == theirs.column_names
    for name in theirs.column_names:
        assert ours.schema.field(name).type == theirs.schema.field(name).type
        assert ours.schema.field(name).metadata == theirs.schema.field(name).metadata
        np.testing.assert_array_equal(ours[name].to_numpy(), theirs[name].to_numpy())
    assert Table.read(path).meta == Table.read(tmp_path / "theirs.parquet").meta
    own = {b"roman.meta.filename", b"roman.meta.file_date", b"table_meta_yaml"}
    lengths = {f"table::len::{name}".encode() for name in texts}
    assert own | lengths <= set(ours.schema.metadata)
    assert {k: v for k, v in ours.schema.metadata.items() if k not in own | lengths} == {
        k: v for k, v in theirs.schema.metadata.items() if k not in own
    }


def test_plugins_of_asdf_are_not_loaded(coadd_path, tmp_path):
    """They take longer than a catalog, and pandas half a second."""
    code = (
        "import sys\n"
        "from romosaic.catalog_files import read_coadd, write_catalog\n"
        "from romosaic.config_models import SourceCatalog\n"
        "from romosaic.source_catalog import make_catalog\n"
        "coadd = read_coadd(sys.argv[1])\n"
        "planes = coadd.data, coadd.err, coadd.weight, coadd.grid\n"
        "results = make_catalog(*planes, SourceCatalog(fit_psf=False).model_dump())\n"
        "write_catalog(*sys.argv[2:], *results, coadd.meta, {})\n"
        "assert len(results[0]) > 3\n"
        "assert not {'roman_datamodels', 'gwcs', 'pandas'} & set(sys.modules)"
    )
    paths = [tmp_path / f"product_{end}" for end in ("cat.asdf", "cat.parquet", "segm.asdf")]
    scripts = Path(__file__).parent.parent / "scripts"
    subprocess.run([sys.executable, "-c", code, coadd_path, *paths], cwd=scripts, check=True)
    assert all(path.exists() for path in paths)


def test_nothing_else_is_left_in_the_folder(written):
    paths = written[0]
    assert sorted(p.name for p in paths[0].parent.iterdir()) == sorted(p.name for p in paths)


def test_tags_are_those_of_the_installed_packages(written, tmp_path):
    """What they would write of the same products: a newer schema shows here."""
    for path, kind in zip(
        written[0][::2], ("MosaicSourceCatalog", "MosaicSegmentationMap"), strict=True
    ):
        with asdf.open(path) as file:
            asdf.AsdfFile({"roman": file["roman"]}).write_to(tmp_path / "theirs.asdf")
        texts = [
            AsdfBlocks.read(p).text.partition(b"\nroman:")[2]
            for p in (path, tmp_path / "theirs.asdf")
        ]
        tags = [set(re.findall(rb"![!<]?\S*-\d+\.\d+\.\d+", text)) for text in texts]
        assert tags[0] == tags[1] and len(tags[0]) >= 2
        model = getattr(rdm.datamodels, f"{kind}Model").create_minimal()
        assert texts[0].split()[0] == f"!<{model.tag}>".encode()


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
    stamp, oversample, jitter = read_epsf(epsf_path, "F158")
    assert jitter == 8.0  # fill values count as what is expected
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
