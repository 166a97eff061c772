"""Resample: variances of coadds against real noise, and pixels that must not spoil them."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from drizzle_scene import DETECTOR, OUTPUT, coadd, exposure, grid, planes_of_coadd
from romosaic import association_file
from romosaic.config import load
from romosaic.config_grids import GRID_KEYS
from romosaic.dq import FLAGS
from romosaic.errors import ExposureError
from romosaic.exposure import pixel_map, read_record
from test_associate import run, write_asn

VARIANCE = 0.01


# ---- variances --------------------------------------------------------------------------------------


def test_variances_of_identical_copies_go_with_their_number():
    """N identical copies of one exposure (rc#1146)."""
    one, four = (coadd([exposure(str(i)) for i in range(n)], grid(150)) for n in (1, 4))
    assert np.array_equal(one.weight > 0, four.weight > 0)
    covered = one.weight > 0
    assert np.allclose(four.data[covered], one.data[covered], rtol=1e-6)
    assert np.allclose(four.weight, 4 * one.weight, rtol=1e-6)
    for name in ("var_rnoise", "var_poisson"):
        ratio = getattr(four, name)[covered] / getattr(one, name)[covered]
        assert np.allclose(ratio, 0.25, rtol=1e-5)
    total = one.var_rnoise + one.var_poisson
    assert np.allclose(one.err[covered], np.sqrt(total[covered]), rtol=1e-6)
    # four output pixels share one of the detector: variances for areas are four times as large
    assert np.allclose(total[70:80, 70:80], 4 * VARIANCE, rtol=1e-3)


@pytest.mark.parametrize("variance", [1e-28, 1e-10, 1.0, 1e10])
def test_variances_of_any_size(variance):
    """Variances of 1e-28 overflowed float32 and gave zero errors (st#556)."""
    base, scaled = (
        coadd(
            [
                exposure("a", 1.0, variance=v, dtype=np.float32),
                exposure("b", variance=2 * v, dtype="f4"),
            ],
            grid(120),
        )
        for v in (VARIANCE, variance)
    )
    covered = base.weight > 0
    assert np.array_equal(covered, scaled.weight > 0)
    ratio = variance / VARIANCE
    assert np.allclose(scaled.var_rnoise[covered] / base.var_rnoise[covered], ratio, rtol=1e-5)
    assert np.allclose(scaled.var_poisson[covered] / base.var_poisson[covered], ratio, rtol=1e-5)
    assert np.allclose(scaled.err[covered] / base.err[covered], np.sqrt(ratio), rtol=1e-5)
    assert np.allclose(scaled.weight[covered] * ratio, base.weight[covered], rtol=1e-5)
    assert np.allclose(scaled.data[covered], 1.0, rtol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 0.5, 2.0])
def test_variance_per_area_does_not_depend_on_the_pixel_scale(scale):
    """With pixel_scale_ratio != 1 variances were not scaled (st#370, rc#1780)."""
    output = grid(60, scale=OUTPUT * scale)
    made = coadd([exposure()], output)
    per_pixel = VARIANCE * (DETECTOR / OUTPUT / scale) ** 2
    assert np.allclose(made.err[30, 30] ** 2, per_pixel, rtol=2e-3)


@pytest.fixture(scope="module")
def simulated_pair(survey):
    """Two exposures of one brightness and one variance on the pixel maps of simulated files."""
    paths = [survey.paths[name] for name in survey.names[:2]]
    records = [read_record(path) for path in paths]
    maps = [pixel_map(*given) for given in zip(paths, records, strict=True)]
    members = [exposure(f"m{k}", pixmap=pixmap) for k, pixmap in enumerate(maps)]
    return SimpleNamespace(paths=paths, members=members, side=records[0]["pixel_scale"] / 3600)


@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0])
def test_option_pixel_scale_ratio_changes_neither_brightness_nor_variance_per_area(
    tmp_path, simulated_pair, ratio
):
    """From the configuration through `associate` to the coadd (st#370, rc#1780)."""
    given = simulated_pair
    section = load({"resample": {"pixel_scale_ratio": ratio}})["resample"]
    grids = {key: section[key] for key in GRID_KEYS}
    asn = write_asn(tmp_path, given.paths, target="none")
    run(tmp_path, associations=[asn], allow_outside=True, options={"grids": grids})
    output = association_file.read_grid(tmp_path / "associations/mosaic_asn.json")
    assert output.pixel_scale == pytest.approx(ratio * given.side, rel=1e-12)
    made = coadd(given.members, output)
    covered = made.weight > 0
    assert np.allclose(made.data[covered], 1.0, rtol=1e-6)
    # Both members see the middle; their pixels' areas there differ from the first one's by less than 1 in 1000.
    n, size = made.context[0], round(20 / ratio)
    y, x = (side // 2 for side in n.shape)
    middle = np.s_[y - size : y + size, x - size : x + size]
    assert np.all(n[middle] == 3)
    per_area = VARIANCE / 2 / ratio**2
    assert np.allclose(made.err[middle] ** 2, per_area, rtol=1e-3)
    assert np.allclose(made.var_rnoise[middle], 0.25 * per_area, rtol=1e-3)
    assert np.allclose(made.var_poisson[middle], 0.75 * per_area, rtol=1e-3)


def test_small_floats_do_not_overflow():
    # 16-bit variances: their squares and products exceed 65504
    member = exposure(variance=60000.0)
    assert member.var_poisson.dtype == np.float16
    made = coadd([member], grid(50))
    assert np.allclose(made.err**2, 4 * 60000, rtol=2e-3)


def test_variance_of_the_flat_is_optional():
    with_flat = replace(exposure("a"), var_flat=np.full((80, 70), 0.02, np.float32))
    output = grid(50)
    assert coadd([with_flat], output).var_flat is None
    made = coadd([with_flat], output, include_var_flat=True)
    assert np.allclose(made.var_flat, 0.08, rtol=1e-3)
    assert np.allclose(made.err**2, made.var_rnoise + made.var_poisson + made.var_flat, rtol=1e-5)
    pair = coadd([with_flat, exposure("none")], output, include_var_flat=True)
    assert np.allclose(pair.var_flat, 0.08 / 4, rtol=1e-3)


# ---- bad pixels -------------------------------------------------------------------------------------


@pytest.mark.parametrize("plane", ["data", "var_rnoise", "var_poisson"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_do_not_spread(plane, value):
    """1/0, NaN, inf in err or variances: weight 0, counted and reported (jw#6954)."""
    poisoned, flagged = exposure("a", 3.0), exposure("a", 3.0)
    getattr(poisoned, plane)[30:33, 20:60] = value
    flagged.dq[30:33, 20:60] = FLAGS["DO_NOT_USE"]
    made, expected = (coadd([m, exposure("b", 3.0)], grid(170)) for m in (poisoned, flagged))
    for a, b in zip(planes_of_coadd(made), planes_of_coadd(expected), strict=True):
        assert np.array_equal(a, b, equal_nan=True)
    assert np.isfinite(made.data[made.weight > 0]).all()
    assert made.members[0].n_bad == 3 * 40


def test_negative_variances_are_bad():
    member = exposure()
    member.var_rnoise[10, 10] = -1e-3
    assert coadd([member], grid(170)).members[0].n_bad == 1


def test_good_bits_choose_the_pixels():
    member = exposure("a")
    member.dq[:40] = FLAGS["HOT"]
    member.dq[60:] = FLAGS["DO_NOT_USE"]
    counts = [
        coadd([member], grid(200), good_bits=bits).members[0].n_used
        for bits in ("~DO_NOT_USE", "~DO_NOT_USE+HOT", "HOT", "0", None)
    ]
    assert counts == [60 * 70, 20 * 70, 60 * 70, 20 * 70, 80 * 70]


def test_flagged_outliers_are_left_out():
    hit, clean = exposure("a", 1.0), exposure("b", 1.0)
    flat = np.ravel_multi_index(([5, 40, 41, 79], [60, 30, 30, 69]), hit.shape).astype(np.uint32)
    hit.data.ravel()[flat] = 1e6
    hit.dq[5, 60] = FLAGS["DO_NOT_USE"]
    hit.var_rnoise[79, 69] = np.nan
    given = np.append(flat[::-1], flat[:2])  # some of them twice
    made = coadd([hit, clean], grid(200), flagged=[given, np.zeros(0, np.uint32)])
    covered = made.weight > 0
    assert np.allclose(made.data[covered], 1.0, rtol=1e-6)
    assert (made.members[0].n_bad, made.members[0].n_flagged) == (2, 2)
    assert made.members[0].n_used == 80 * 70 - 4
    assert made.members[1].n_used == 80 * 70


def test_flags_outside_the_detector_name_the_exposure():
    with pytest.raises(ExposureError, match="a: has outliers flagged beyond"):
        coadd([exposure("a")], grid(50), flagged=[np.array([80 * 70], np.uint32)])


@pytest.mark.parametrize("fillval", [0.0, -99.0, "0", "NaN"])
def test_fill_value(fillval):
    made = coadd([exposure()], grid(300), fillval=fillval)
    empty = made.weight == 0
    expected = np.float32(fillval)
    assert np.array_equal(np.unique(made.data[empty]), [expected], equal_nan=True)
    assert not made.context[0][empty].any()
    assert np.isnan(made.err[empty]).all()
    assert np.isfinite(made.data[~empty]).all()
