"""Metadata of a coadd blended from its members: times, tables, statistics, unknown and differing values."""

from types import SimpleNamespace

import coadd_file
import numpy as np
import pytest
from romosaic import mosaic_model as mosaic
from romosaic.config import load
from romosaic.grid import Grid
from romosaic.image_statistics import image_statistics
from romosaic.pixel_noise import describe
from romosaic.pixmap import PixelMap
from romosaic.resample import Coadd, exposure_time_map

DETECTOR = Grid(30.0, -20.0, 19.5, 19.5, 0.11 / 3600, 40, 40, 25.0)
GRID = Grid(30.0, -20.0, 30.0, 25.0, 0.055 / 3600, 61, 51)
NOISE = {
    "var": "one",
    "pixel_var": "other",
    "pixel_factor": 0.18,
    "pixel_factor_range": [0.17, 0.19],
    "aperture_factor": "1 - 0.40 p / r",
    "detector_pixel": 0.11,
}


def member(number=1, **changes):
    """An exposure's name, header and pixel map; `changes` by dotted key with __ for the dot."""
    meta = {
        "origin": "STSCI",
        "prd_version": "1.2",
        "exposure": {
            "start_time": f"2027-06-01T00:0{number}:00.000",
            "end_time": f"2027-06-01T00:0{number}:50.500",
            "exposure_time": 50.5,
            "nresultants": 5 + number,
            "read_pattern": [[1], [2, 3]],
        },
        "instrument": {"detector": "WFI01", "optical_element": "F158"},
        "observation": {
            "observation_id": f"000010100100100100{number}",
            "program": 1,
            "execution_plan": 1,
            "pass": 1,
            "segment": 1,
            "observation": 1,
            "visit": 1,
            "exposure": number,
        },
        "program": {
            "title": "A survey",
            "investigator_name": "?",
            "category": "CCS",
            "subcategory": "HLWA",
            "science_category": "Stars",
        },
        "wcsinfo": {"v2_ref": 10.0 + number},
        "wcs": {"steps": []},
        "cal_logs": ["a line"],
    }
    for key, value in changes.items():
        *sections, last = key.split("__")
        node = meta
        for section in sections:
            node = node[section]
        node[last] = value
    return SimpleNamespace(
        name=f"exposure{number}",
        meta=meta,
        file_date="2027-06-02 10:00:00.000",
        pixmap=PixelMap.fit(DETECTOR.to_sky, (40, 40)),
    )


def coadd(weight=1.0, fill=np.nan):
    shape = GRID.shape
    weights = np.full(shape, weight, np.float32)
    data = np.where(weights > 0, np.linspace(0, 1, weights.size).reshape(shape), fill)
    planes = dict.fromkeys(("data", "err", "var_rnoise", "var_poisson"), data.astype(np.float32))
    context = np.ones((1, *shape), np.uint32)
    times = {"exposure_time": 9, "max_exposure_time": 20}
    statistics = image_statistics(planes["data"], weights)
    made = {"noise": NOISE, "statistics": statistics, **times}
    return Coadd(**planes, weight=weights, context=context, **made)


def built(
    *members, image=None, name="mosaic", header=None, status="COMPLETE", sky=None, skymethod="match"
):
    sky = sky or [{"level": 0.01 * k, "status": "COMPLETE"} for k in range(len(members))]
    sky = [{"subtracted": False, **row} for row in sky]
    model = mosaic.mosaic_model(
        image or coadd(),
        GRID,
        members,
        association={**(header or {}), "products": [{"name": name, "members": []}]},
        sky=sky,
        skymethod=skymethod,
        outliers={"status": status},
        parameters=load({})["resample"],
    )
    with coadd_file.written(model, name) as found:
        return found


@pytest.fixture(scope="module")
def pair():
    return [member(1), member(2)]


# ---- times ----


def test_times(pair):
    info = built(*pair, member(6)).meta.coadd_info
    assert str(info.time_first) == "2027-06-01T00:01:00.000"
    assert str(info.time_last) == "2027-06-01T00:06:50.500"
    assert str(info.time_mean) == "2027-06-01T00:03:00.000"
    assert (info.time_first.format, info.time_first.scale) == ("isot", "utc")
    assert (info.exposure_time, info.max_exposure_time) == (9.0, 20.0)


def test_first_and_last_are_by_time_not_by_order(pair):
    assert built(*pair[::-1]).meta.coadd_info.time_first == built(*pair).meta.coadd_info.time_first


def test_times_with_a_space_are_understood():
    later = member(1, exposure__end_time="2027-06-02 00:00:00.000")
    assert str(built(later).meta.coadd_info.time_last) == "2027-06-02T00:00:00.000"


# ---- blended values ----


@pytest.mark.parametrize("key", ["title", "category", "subcategory", "science_category"])
def test_program_values_that_differ_are_none(pair, key):
    other = member(2, **{f"program__{key}": "other"})
    assert built(pair[0], other).meta.program[key] is None
    assert built(*pair).meta.program[key] == pair[0].meta["program"][key]


def test_unknown_values_are_none_not_placeholders(pair):
    assert built(*pair).meta.program.investigator_name is None


@pytest.mark.parametrize("key", ["program", "execution_plan", "pass", "segment", "visit"])
def test_numbers_that_differ_are_none(pair, key):
    other = member(2, **{f"observation__{key}": 2})
    observation = built(pair[0], other).meta.observation
    assert observation[key] is None
    assert {observation[k] for k in ("program", "pass", "segment", "visit") if k != key} == {1}


def test_origin_of_mixed_members_is_allowed_by_the_schema(pair):
    assert built(*pair).meta.origin == "STSCI"
    assert built(pair[0], member(2, origin="IPAC/SSC")).meta.origin == "STSCI/SOC"


def test_exposures_of_one_pointing_count_once(pair):
    same = member(3, observation__observation_id=pair[0].meta["observation"]["observation_id"])
    assert built(*pair, same).meta.resample.pointings == 2


@pytest.mark.parametrize(
    "name, header, product_type, grouping",
    [
        ("r00001_r7_full_135p90x51y67_f158", {"data_release_id": "r7"}, "r7_full_coadd", "full"),
        ("r00001_p_p01001_x_f158", {"data_release_id": "p"}, "p_pass_coadd", "p01001"),
        ("my_finest_field", {}, "p_user_coadd", "v01001001001001"),
        ("my_view", {"data_release_id": None}, "p_user_coadd", "v01001001001001"),
    ],
)
def test_product_type_and_grouping(pair, name, header, product_type, grouping):
    meta = built(*pair, name=name, header=header).meta
    assert meta.product_type == product_type
    assert meta.observation.exposure_grouping == grouping
    assert meta.get("data_release_id") == header.get("data_release_id")
    assert meta.association.name == f"{name}_asn.json"


def test_steps_say_what_was_done(pair):
    skipped = [{"level": 0.0, "status": "SKIPPED"}] * 2
    steps = built(*pair, sky=skipped, status="SKIPPED").meta.cal_step
    assert (steps.flux, steps.resample) == ("COMPLETE", "COMPLETE")
    assert (steps.skymatch, steps.outlier_detection) == ("SKIPPED", "SKIPPED")
    half = [{"level": 0.0, "status": "SKIPPED"}, {"level": 0.1, "status": "COMPLETE"}]
    assert built(*pair, sky=half).meta.cal_step.skymatch == "COMPLETE"


def test_pixel_scale_ratio_is_output_over_input(pair):
    assert built(*pair).meta.resample.pixel_scale_ratio == pytest.approx(0.5, rel=1e-4)


# ---- tables of members ----


def test_tables_have_a_row_per_member(pair):
    tables = built(*pair).meta.individual_image_meta
    sections = {"basic", "cal_step", "exposure", "instrument", "observation", "program", "wcsinfo"}
    assert set(tables) == {*sections, "background"}
    assert {len(table) for table in tables.values()} == {2}
    basic = tables["basic"]
    assert basic.colnames == ["origin", "prd_version", "filename", "file_date"]
    assert basic["filename"].tolist() == ["exposure1_cal.asdf", "exposure2_cal.asdf"]
    assert tables["exposure"]["nresultants"].tolist() == [6, 7]
    assert tables["exposure"]["read_pattern"][0] == "[[1], [2, 3]]"
    assert tables["wcsinfo"]["v2_ref"].tolist() == [11.0, 12.0]


@pytest.mark.parametrize(
    "name, expected",
    [
        ("r00001_p_v01002003004005_135p90x51y67_f158", ("visit", "v01002003004005")),
        ("r00001_r2_d01002003_135p90x51y67_f158", ("daily", "d01002003")),
        ("r00001_p_p01002_135p90x51y67_f158", ("pass", "p01002")),
        ("r00001_p_full_135p90x51y67_f158", ("full", "full")),
        ("r00001_p_user_135p90x51y67_f158", ("user", "user")),
        ("my_nice_field", ("user", None)),
        ("a_b_vision", ("user", None)),
        ("mosaic", ("user", None)),
    ],
)
def test_group_of_a_name(name, expected):
    assert mosaic.group_of(name) == expected


def test_grouping_of_members_of_several_visits_is_unknown(pair):
    other = member(2, observation__visit=2)
    assert built(pair[0], other).meta.observation.exposure_grouping is None


def test_steps_of_members_are_those_of_the_image_and_those_taken_since(pair):
    steps = {"photom": "COMPLETE", "skymatch": "INCOMPLETE", "outlier_detection": "INCOMPLETE"}
    members = [member(n, cal_step=steps) for n in (1, 2)]
    sky = [
        {"level": 0.3, "status": "COMPLETE", "subtracted": False},
        {"level": 0.0, "status": "SKIPPED", "subtracted": False},
    ]
    table = built(*members, sky=sky).meta.individual_image_meta["cal_step"]
    assert set(table.colnames) == {*steps, "flux"}
    assert table["photom"].tolist() == table["flux"].tolist() == ["COMPLETE"] * 2
    assert table["skymatch"].tolist() == ["COMPLETE", "SKIPPED"]
    assert table["outlier_detection"].tolist() == ["COMPLETE"] * 2


def test_logs_tell_the_variances_and_those_of_the_members_are_kept(pair):
    model = built(*pair)
    assert list(model.meta.cal_logs) == describe(NOISE)
    assert len(model.meta.cal_logs) == 3
    assert model["individual_image_cal_logs"] == [["a line"], ["a line"]]


def test_map_of_exposure_times_is_made_of_the_context_and_a_table(pair):
    image = coadd()
    image.context[0, :20] = 3
    model = built(*pair, image=image)
    times = exposure_time_map(
        model.context, model.meta.individual_image_meta["exposure"]["exposure_time"]
    )
    assert np.unique(times[:20]).tolist() == [101.0] and np.unique(times[20:]).tolist() == [50.5]


def test_background_has_the_levels_and_how_they_were_found(pair):
    table = built(*pair).meta.individual_image_meta["background"]
    np.testing.assert_allclose(table["level"], [0.0, 0.01])
    assert table["subtracted"].tolist() == [False, False]
    assert table["method"].tolist() == ["match", "match"]
    sky = [{"level": 0.3, "status": "COMPLETE", "subtracted": True}] * 2
    for skymethod, method in (("global+match", "global+match"), ("user", "None")):
        meta = built(*pair, sky=sky, skymethod=skymethod).meta
        table = meta.individual_image_meta["background"]
        assert table["subtracted"].tolist() == [True, True]
        # The schema knows romancal's methods.
        assert table["method"].tolist() == [method] * 2


def test_a_section_without_any_value_makes_no_table(pair):
    members = [member(1, wcsinfo__v2_ref=None), member(2, wcsinfo__v2_ref=None)]
    assert "wcsinfo" in built(*pair).meta.individual_image_meta
    assert "wcsinfo" not in built(*members).meta.individual_image_meta


def test_a_section_that_one_member_lacks_keeps_its_rows(pair):
    lacking = member(2)
    del lacking.meta["wcsinfo"]
    table = built(pair[0], lacking).meta.individual_image_meta["wcsinfo"]
    np.testing.assert_array_equal(table["v2_ref"], [11.0, np.nan])


# ---- statistics ----


@pytest.mark.parametrize("n_rows", [10, 9])
def test_statistics_are_those_of_the_covered_pixels(n_rows):
    data = np.random.default_rng(3).normal(-0.01, 1, GRID.shape).astype(np.float32)
    data[0, :2] = 0.0, -0.0
    weight = np.zeros(GRID.shape, np.float32)
    weight[:n_rows] = 2
    data[0, 2:4] = np.nan, np.inf  # do not count
    covered = data[:n_rows].ravel()[np.isfinite(data[:n_rows].ravel())].astype(float)
    median = np.median(covered)
    found = image_statistics(data, weight)
    assert found == image_statistics(data, weight, threads=2)
    assert found["image_median"] == median
    # The schema: "mean absolute deviation of the image values".
    assert found["image_rms"] == pytest.approx(np.abs(covered - median).mean(), rel=1e-9)
    assert found["good_pixel_fraction"] == covered.size / data.size


@pytest.mark.parametrize("values", [[-3.0, 5.0], [7.0], [0.0, 0.0, 0.0], [-1e30, 1.0, 1e30, 2.0]])
def test_statistics_of_few_pixels(values):
    """Middle values far apart, alone, and all the same."""
    data = np.array([values], np.float32)
    found = image_statistics(data, np.ones_like(data))
    median = np.median(data.astype(float))
    assert found["image_median"] == median
    rms = np.abs(data.astype(float) - median).mean()
    assert found["image_rms"] == pytest.approx(rms, rel=1e-9)


def test_an_empty_product_is_valid(pair):
    """An overlap of a few pixels may leave nothing."""
    read = built(*pair, image=coadd(weight=0.0))
    read.validate()
    assert np.isnan(read.meta.statistics.image_median)
    assert read.meta.statistics.good_pixel_fraction == 0
    assert read.meta.wcsinfo.skycell_name is None
    assert read.meta.wcs(30, 25) == pytest.approx((30.0, -20.0), abs=1e-12)
