"""The Level-3 model of a coadd: WCS, summary of the grid, blended metadata, tables, statistics."""

import re
from collections.abc import Sequence

import asdf
import numpy as np
import pytest
import roman_datamodels as rdm
from coadd_file import grid_wcs
from romosaic import exposure, flux, flux_file, product
from romosaic import mosaic_model as mosaic
from romosaic.asdf_blocks import AsdfBlocks
from romosaic.config import load
from romosaic.fits_file import fits_header
from romosaic.grid import Grid, unit_vector
from romosaic.image_statistics import image_statistics
from romosaic.mosaic_wcs import wcsinfo
from romosaic.resample import Coadd
from romosaic.skymap import PIXEL_SCALE, SkyMap

SKY = SkyMap()
CELL = SKY.cell("000p86x52y60").grid
GRIDS = {
    "skycell": CELL,
    "north pole": SKY.cell("135p90x50y50").grid,
    "beside the north pole": SKY.cell("135p90x51y49").grid,
    "south pole": SKY.cell("225m90x50y50").grid,
    "beside the south pole": SKY.cell("225m90x52y47").grid,
    "RA 0": SKY.cell(str(SKY.primary_cell(0.0, -12.3))).grid,
    "RA 0 up north": SKY.cell(str(SKY.primary_cell(0.0, 84.85))).grid,
    "mirrored": SkyMap(x_east=False).cell("000p86x52y60").grid,
    "mirrored pole": SkyMap(x_east=False).cell("135p90x51y49").grid,
    "turned": Grid(359.999, 5.0, 350.0, 120.0, 3e-5, 701, 241, 37.0),
    "turned at the pole": Grid(77.0, 89.9999, 200.0, 300.0, 3e-5, 401, 601, -123.0),
    "turned and mirrored": Grid(0.001, -45.0, -90.5, 1200.25, 2e-5, 333, 444, 210.0, x_east=False),
}
all_grids = pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS.keys())


def corners(grid):
    x1, y1 = grid.nx - 0.5, grid.ny - 0.5
    return np.array([-0.5, x1, x1, -0.5]), np.array([-0.5, -0.5, y1, y1])


def degrees_apart(one, other):
    chord = np.linalg.norm(unit_vector(*one) - unit_vector(*other), axis=0)
    return np.degrees(2 * np.arcsin(chord / 2))


# ---- WCS ----


@all_grids
def test_wcs_is_the_grid(grid):
    wcs, xy = grid_wcs(grid), corners(grid)
    sky = wcs(*xy)
    assert degrees_apart(sky, grid.to_sky(*xy)).max() < 1e-9
    back = wcs.invert(*sky, with_bounding_box=False)
    assert np.abs(np.subtract(back, xy)).max() < 1e-6
    inner = np.random.default_rng(1).uniform(0.3, 0.7, (2, 50)) * [[grid.nx], [grid.ny]]
    there = wcs.invert(*wcs(*inner))
    np.testing.assert_allclose(there, inner, atol=1e-6)
    assert wcs.pixel_shape == (grid.nx, grid.ny)


@all_grids
def test_wcs_and_fits_header_agree_at_the_corners(grid):
    """To 1e-8 pixels, poles included: gwcs one way, FITS the other."""
    from astropy.io.fits import Header
    from astropy.wcs import WCS

    fits, wcs, xy = WCS(Header(fits_header(grid))), grid_wcs(grid), corners(grid)
    np.testing.assert_allclose(fits.wcs_world2pix(*wcs(*xy), 0), xy, atol=1e-8, rtol=0)
    back = wcs.invert(*fits.wcs_pix2world(*xy, 0), with_bounding_box=False)
    np.testing.assert_allclose(back, xy, atol=1e-8, rtol=0)


@all_grids
def test_wcs_tells_its_parameters(grid):
    transform = grid_wcs(grid).forward_transform
    assert transform.crpix.value.tolist() == [grid.x0, grid.y0]
    assert transform.crval.value.tolist() == [grid.ra0, grid.dec0]
    assert transform.cdelt.value.tolist() == [grid.pixel_scale, grid.pixel_scale]
    assert transform.lon_pole == 180
    assert transform.pc.value.tolist() == wcsinfo(grid)["rotation_matrix"]


def test_wcs_has_its_bounding_box_but_about_a_pole():
    box = grid_wcs(CELL).bounding_box
    assert [tuple(interval) for interval in box.intervals.values()] == [(-0.5, 4999.5)] * 2
    assert grid_wcs(GRIDS["beside the north pole"]).bounding_box is not None
    assert grid_wcs(GRIDS["north pole"]).bounding_box is None
    assert grid_wcs(GRIDS["turned at the pole"]).bounding_box is None


# ---- wcsinfo ----


def angle_north_to_y(grid, x, y):
    """Position angle of +y from two points on the sky, degrees."""
    (ra0, ra1), (dec0, dec1) = np.radians(grid.to_sky(np.array([x, x]), np.array([y, y + 0.01])))
    east = np.sin(ra1 - ra0) * np.cos(dec1)
    north = np.cos(dec0) * np.sin(dec1) - np.sin(dec0) * np.cos(dec1) * np.cos(ra1 - ra0)
    return np.degrees(np.arctan2(east, north)) % 360


@all_grids
def test_wcsinfo(grid):
    info = wcsinfo(grid)
    x, y = (grid.nx - 1) / 2, (grid.ny - 1) / 2
    assert (info["ra_ref"], info["dec_ref"]) == (grid.ra0, grid.dec0)
    assert (info["x_ref"], info["y_ref"]) == (grid.x0, grid.y0)
    assert (info["projection"], info["skycell_name"]) == ("TAN", grid.skycell)
    assert info["pixel_scale_ref"] == grid.pixel_scale
    assert info["image_shape"] == [grid.ny, grid.nx]
    assert degrees_apart((info["ra"], info["dec"]), grid.to_sky(x, y)) < 1e-12
    if abs(info["dec"]) < 90:
        assert info["orientation"] == pytest.approx(angle_north_to_y(grid, x, y), abs=1e-4)
    turn = grid.orientation if grid.x_east else -grid.orientation
    assert np.cos(np.radians(info["orientation_ref"] - turn)) == pytest.approx(1, abs=1e-12)
    # Solid angle of the middle pixel.
    here, right, up = (unit_vector(*grid.to_sky(x + i, y + j)) for i, j in [(0, 0), (1, 0), (0, 1)])
    area = np.linalg.norm(np.cross(right - here, up - here))
    assert info["pixel_scale"] == pytest.approx(np.degrees(np.sqrt(area)), rel=1e-7)


@all_grids
def test_s_region_runs_counter_clockwise_through_the_corners(grid):
    words = wcsinfo(grid)["s_region"].split()
    assert words[:2] == ["POLYGON", "ICRS"]
    numbers = np.array(words[2:], float).reshape(4, 2).T
    expected = np.array(grid.to_sky(*corners(grid)))
    apart = degrees_apart(numbers[:, :, None], expected[:, None, :])
    assert (np.sort(apart.argmin(axis=1)) == [0, 1, 2, 3]).all() and apart.min(axis=1).max() < 2e-9
    a, b, c = unit_vector(*numbers).T[:3]
    middle = unit_vector(*grid.to_sky((grid.nx - 1) / 2, (grid.ny - 1) / 2))
    # Viewed from the origin towards the sky (IVOA DALI 1.1, 3.3.7).
    assert np.cross(b - a, c - b) @ middle < 0


def test_pole_cell_is_described_from_its_tangent_point():
    info = wcsinfo(GRIDS["north pole"])
    assert (info["ra"], info["dec"]) == (135.0, 90.0)
    assert (info["orientation"], info["orientation_ref"]) == (0.0, 0.0)


# ---- blending ----


@pytest.mark.parametrize(
    "values, expected",
    [
        (["a", "a"], "a"),
        (["a", "b"], None),
        ([1, 1.0], 1),
        ([3], 3),
        ([0, 0], 0),
        ([False, False], False),
        ([None, None], None),
        (["a", None], None),
        ([None, "a"], None),
        (["?", "?"], None),
        ([-999999, -999999], None),
        ([-999999.0], None),
        (["a", "?"], None),
        ([[1, 2], [1, 2]], [1, 2]),
        ([float("nan")] * 2, None),
    ],
)
def test_common_value(values, expected):
    assert mosaic.common_value(values) == expected


def test_member_table():
    rows = [
        {"text": "a", "count": 3, "value": 1.5, "flag": True, "mixed": 1, "list": [1, [2]]},
        {"text": "b", "count": 4, "value": None, "flag": False, "mixed": "x", "late": 7},
    ]
    table = mosaic.member_table(rows)
    assert list(table) == ["text", "count", "value", "flag", "mixed", "list", "late"]
    assert table["text"].tolist() == ["a", "b"]
    assert table["count"].dtype == np.int64 and table["count"].tolist() == [3, 4]
    np.testing.assert_array_equal(table["value"], [1.5, np.nan])
    assert table["flag"].tolist() == [True, False]
    assert table["mixed"].tolist() == ["1", "x"]
    assert table["list"].tolist() == ["[1, [2]]", "None"]
    np.testing.assert_array_equal(table["late"], [np.nan, 7])


def test_member_table_of_values_that_some_or_all_members_lack():
    rows = [
        {"flag": True, "odd": 2, "none": None, "no number": None, "text": None},
        {"flag": None, "odd": False, "none": None, "no number": 3, "text": "a"},
    ]
    table = mosaic.member_table(rows)
    assert list(table) == ["flag", "odd", "no number", "text"]
    assert table["flag"].tolist() == ["True", "None"]
    assert table["odd"].tolist() == ["2", "False"]
    np.testing.assert_array_equal(table["no number"], [np.nan, 3])
    assert table["text"].tolist() == ["None", "a"]
    assert mosaic.member_table([{"a": None}, {}]) == {}


# ---- the whole model ----


@pytest.fixture(scope="module")
def members(survey, tmp_path_factory):
    """Three exposures of the survey as `flux` leaves them."""
    folder = tmp_path_factory.mktemp("flux")
    config, opened = load({}), []
    for name in survey.names[:3]:
        path = survey.paths[name]
        record, raw = exposure.read_record(path), exposure.read_exposure(path)
        calibrated = flux.calibrate(raw.arrays, raw.conversion, where=path, **config["flux"])
        made = product.provenance({}, [(name, record["fingerprint"])])
        target = folder / f"{name}_flux.asdf"
        fitted = exposure.pixel_map(path, record)
        flux_file.write_flux(target, raw.blocks, calibrated, fitted, name, made)
        opened.append(flux_file.open_flux(target))
    return opened


NAME = "r00001_p_v01001001001001_000p86x52y60_f158"
SMALL = Grid(CELL.ra0, CELL.dec0, CELL.x0, CELL.y0, PIXEL_SCALE, 70, 50, skycell=CELL.skycell)


def fake_coadd(shape=(50, 70), covered=0.5, **changes):
    """A coadd whose lower rows are covered."""
    rng = np.random.default_rng(2)
    weight = np.zeros(shape, np.float32)
    weight[: round(covered * shape[0])] = 4.0
    planes = {}
    for name in ("data", "err", "var_rnoise", "var_poisson"):
        plane = np.abs(rng.normal(1, 0.1, shape)).astype(np.float32)
        planes[name] = np.where(weight > 0, plane, np.float32(np.nan))
    context = np.where(weight > 0, 7, 0).astype(np.uint32)[None]
    noise = dict.fromkeys(("var", "pixel_var", "pixel_factor", "aperture_factor"))
    fields = {
        **planes,
        "weight": weight,
        "context": context,
        "exposure_time": 200.5,
        "noise": noise,
        "statistics": image_statistics(planes["data"], weight),
    }
    return Coadd(**fields | {"max_exposure_time": 417.45} | changes)


def build(members, coadd=None, grid=SMALL, name=NAME, release="p", levels=(0.0, 0.01, 0.02)):
    header = {"data_release_id": release} if release else {}
    return mosaic.mosaic_model(
        coadd or fake_coadd(),
        grid,
        members,
        association={**header, "products": [{"name": name, "members": []}]},
        sky=[{"level": v, "status": "COMPLETE", "subtracted": False} for v in levels],
        skymethod="match",
        outliers={"status": "COMPLETE", "members": []},
        parameters=load({})["resample"],
    )


@pytest.fixture(scope="module")
def written(members, tmp_path_factory):
    """The model as it comes back from its file."""
    path = tmp_path_factory.mktemp("product") / f"{NAME}_coadd.asdf"
    product.write_model(path, build(members), product.provenance({}, []), {})
    with rdm.open(path) as model:
        yield model


def leaves(node, path="meta"):
    """Every text and number of a tree, with its path; tables of members left out."""
    if isinstance(node, str | int | float):
        yield path, node
    elif hasattr(node, "items") and path != "meta.individual_image_meta":
        for key, value in node.items():
            yield from leaves(value, f"{path}.{key}")
    elif isinstance(node, Sequence):
        for index, value in enumerate(node):
            yield from leaves(value, f"{path}[{index}]")


def test_model_is_valid_and_says_what_is_known(written):
    assert isinstance(written, rdm.datamodels.MosaicModel)
    written.validate()
    found = dict(leaves(written.meta))
    assert len(found) > 50 and "meta.wcsinfo.rotation_matrix[1][0]" in found
    assert {path: value for path, value in found.items() if value in ("?", -999999)} == {}


def test_tags_are_those_of_the_installed_packages(members, tmp_path):
    """What they would write of the same product: a newer schema shows here."""
    ours, theirs = tmp_path / "a.asdf", tmp_path / "b.asdf"
    model = build(members)
    product.write_model(ours, model, product.provenance({}, []), {})
    with asdf.open(ours) as file:
        asdf.AsdfFile({"roman": file["roman"]}).write_to(theirs)
    texts = [AsdfBlocks.read(path).text.partition(b"\nroman:")[2] for path in (ours, theirs)]
    tags = [set(re.findall(rb"![!<]?\S*-\d+\.\d+\.\d+", text)) for text in texts]
    assert tags[0] == tags[1] and len(tags[0]) == 14
    assert model.tag == rdm.datamodels.MosaicModel.create_minimal().tag


def test_arrays_are_those_of_the_coadd(written):
    coadd = fake_coadd()
    for name in ("data", "err", "weight", "context", "var_poisson", "var_rnoise"):
        array, expected = np.asarray(written[name]), getattr(coadd, name)
        assert array.dtype == expected.dtype
        np.testing.assert_array_equal(array, expected)
    assert "var_flat" not in written
    assert written.context.shape == (1, 50, 70)


def test_flat_variance_is_kept_when_there_is_one(members):
    plane = np.ones((50, 70), np.float32)
    assert build(members, fake_coadd(var_flat=plane)).value["var_flat"] is plane


def test_metadata(written, members):
    meta = written.meta
    assert meta.filename == f"{NAME}_coadd.asdf"
    assert meta.model_type == "MosaicModel"
    assert meta.calibration_software_name == "romosaic"
    assert (meta.origin, meta.telescope) == ("STSCI/SOC", "ROMAN")
    assert (meta.product_type, meta.data_release_id) == ("p_visit_coadd", "p")
    assert (meta.instrument.name, meta.instrument.optical_element) == ("WFI", "F158")
    assert meta.association.name == f"{NAME}_asn.json"
    assert dict(meta.cal_step) == dict.fromkeys(
        ("flux", "skymatch", "outlier_detection", "resample"), "COMPLETE"
    )
    assert dict(meta.wcsinfo) == wcsinfo(SMALL)
    resample = dict(meta.resample)
    assert resample.pop("pixel_scale_ratio") == pytest.approx(0.5, rel=0.02)
    assert resample == {
        "good_bits": "~DO_NOT_USE",
        "pixfrac": 1.0,
        "pixmap_stepsize": 1,
        "pointings": 3,
        "members": [f"{member.name}_cal.asdf" for member in members],
        "weight_type": "ivm",
    }


def test_equal_values_are_kept_and_others_are_none(written):
    observation = dict(written.meta.observation)
    assert observation.pop("exposure") is None
    assert observation == {
        "program": 1,
        "execution_plan": 1,
        "pass": 1,
        "segment": 1,
        "observation": 1,
        "visit": 1,
        "exposure_grouping": "v01001001001001",
    }
    assert written.meta.program.title == "Simulated exposures of a random sky"
    assert written.meta.program.category == "TEST"


def test_one_member_keeps_its_exposure_number(members):
    assert build(members[1:2], levels=[0.0]).value["meta"]["observation"]["exposure"] == 2


@pytest.fixture(scope="module")
def given(survey):
    """Metadata of the members' Level-2 files."""
    opened = [rdm.open(survey.paths[name]) for name in survey.names[:3]]
    yield [model.meta for model in opened]
    for model in opened:
        model.close()


def test_tables_have_every_value_of_the_members(written, given):
    sections = rdm.get_latest_schema(
        "asdf://stsci.edu/datamodels/roman/schemas/meta/individual_image_meta"
    )[1]["properties"]
    tables = written.meta.individual_image_meta
    for section in set(sections) & set(given[0]):
        known = {key for meta in given for key, value in meta[section].items() if value is not None}
        assert known <= set(tables[section].colnames), section
    basic = tables["basic"]
    plain = {key for key, value in given[0].items() if isinstance(value, str)}
    assert set(basic.colnames) == plain | {"file_date"}
    assert basic["file_date"].tolist() == [meta.file_date.isot for meta in given]


def test_what_members_agree_on_is_known(written, given):
    n_common = 0
    for section in ("observation", "program", "instrument"):
        for key, value in written.meta[section].items():
            values = [meta[section].get(key) for meta in given]
            if values[0] not in (None, "?", -999999) and values.count(values[0]) == 3:
                assert str(value).lstrip("0") == str(values[0]).lstrip("0"), key
                n_common += 1
    assert n_common > 8
