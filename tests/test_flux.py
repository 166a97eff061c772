"""Calibration to MJy/sr: values, unusable pixels, exposures without read-noise variance, refusals."""

import numpy as np
import pytest
from romosaic import exposure
from romosaic.errors import ExposureError
from romosaic.flux import FLOAT16_VARIANCE, calibrate

CONVERSION = 0.7708
DO_NOT_USE = 1


@pytest.fixture(scope="module")
def raw(simulated):
    return {n: np.asarray(simulated[0][n]) for n in exposure.IMAGES}


@pytest.fixture
def arrays(raw):
    return {name: array.copy() for name, array in raw.items()}


def calibrated(arrays, conversion=CONVERSION, **options):
    return calibrate(arrays, conversion, where="a_cal.asdf", **options)


def test_values_are_products_in_float32(raw):
    found = calibrated(raw)
    expected = raw["data"] * np.float32(CONVERSION)
    assert found.data.dtype == np.float32
    np.testing.assert_array_equal(found.data, expected)
    assert set(found.variances) == {"var_poisson", "var_rnoise", "var_flat"}
    for name, plane in {"err": found.err, **found.variances}.items():
        factor = np.float32(CONVERSION if name == "err" else CONVERSION**2)
        assert plane.dtype == np.float16
        expected = (raw[name].astype(np.float32) * factor).astype(np.float16)
        np.testing.assert_array_equal(plane, expected)
    assert found.dq.dtype == np.uint32
    np.testing.assert_array_equal(found.dq, raw["dq"])


@pytest.mark.parametrize("kind", [np.float16, ">f2", np.float32, np.float64])
def test_whatever_the_precision_of_errors_and_variances(arrays, raw, kind):
    for name in ("err", "var_poisson", "var_rnoise", "var_flat"):
        arrays[name] = arrays[name].astype(kind)
    arrays["err"][3, 4] = arrays["var_flat"][3, 5] = np.nan
    arrays["dq"][3, 4:6] = 0
    found, expected = calibrated(arrays), calibrated(raw)
    assert found.unusable["err not positive"] == found.unusable["var_flat not positive"] == 1
    for name, plane in {"err": found.err, **found.variances}.items():
        assert plane.dtype == np.float16 and plane.dtype.isnative
        same = expected.err if name == "err" else expected.variances[name]
        assert np.count_nonzero(plane != same) == (name in ("err", "var_flat"))
    assert found.noise == pytest.approx(expected.noise, rel=1e-4)


def test_arrays_that_may_be_overwritten_give_the_same(arrays, raw):
    arrays["err"][3, 4] = np.nan
    arrays["dq"].flags.writeable = arrays["var_flat"].flags.writeable = False
    expected, before = calibrated(arrays), {n: arrays[n].copy() for n in ("dq", "var_flat")}
    found = calibrated(arrays, in_place=True)
    for name in ("data", "err", "dq"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    for name, plane in found.variances.items():
        np.testing.assert_array_equal(plane, expected.variances[name])
    for name in ("data", "err", "var_poisson"):
        taken = found.variances[name] if name in found.variances else getattr(found, name)
        assert np.shares_memory(taken, arrays[name])
    for name, array in before.items():
        np.testing.assert_array_equal(arrays[name], array)
    assert found.noise == expected.noise
    for key, values in expected.sky_blocks.items():
        np.testing.assert_array_equal(found.sky_blocks[key], values)


def test_input_is_left_alone(arrays, raw):
    arrays["err"][3, 4] = np.nan
    before = {name: array.copy() for name, array in arrays.items()}
    calibrated(arrays)
    calibrated(arrays, 1.0)
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, before[name])


def test_sky_and_noise_are_those_of_the_exposure(raw, simulated):
    found, truth = calibrated(raw), simulated[1]
    sky = float(truth["sky"])
    values, errors = found.sky_blocks["value"], found.sky_blocks["error"]
    assert np.median((values - sky) / errors) == pytest.approx(0, abs=2.5)
    assert found.noise["pedestal"] == pytest.approx(sky, rel=0.05)
    electrons = float(truth["gain"] * truth["exposure_time"]) / CONVERSION
    variance = (float(truth["read_noise"]) * CONVERSION) ** 2 + sky / electrons
    assert found.noise["sky_variance"] == pytest.approx(variance, rel=0.05)
    assert found.noise["poisson_slope"] == pytest.approx(1 / electrons, rel=0.1)


def test_a_calibrated_exposure_is_not_calibrated_again(raw):
    found = calibrated(raw, 1.0)
    np.testing.assert_array_equal(found.data, raw["data"])
    np.testing.assert_array_equal(found.err, raw["err"].astype(np.float32))
    np.testing.assert_array_equal(found.variances["var_poisson"], raw["var_poisson"])


def test_products_beyond_float16(arrays):
    arrays["err"][5, 6] = 60000
    arrays["var_poisson"][5, 6] = 60000
    arrays["var_poisson"][7, 8] = 6e-8
    found = calibrated(arrays, 30.0)
    assert found.err[5, 6] == found.variances["var_poisson"][5, 6] == 65504
    precise = calibrated(arrays, 1e-3).precise_variances["var_poisson"]
    assert precise[7, 8] == pytest.approx(6e-14, rel=0.01)
    assert not found.dq[5, 6] & DO_NOT_USE


def test_big_endian_arrays(raw):
    swapped = {k: v.astype(v.dtype.newbyteorder(">")) for k, v in raw.items()}
    found, expected = calibrated(swapped), calibrated(raw)
    np.testing.assert_array_equal(found.data, expected.data)
    np.testing.assert_array_equal(found.variances["var_rnoise"], expected.variances["var_rnoise"])
    np.testing.assert_array_equal(found.sky_blocks["value"], expected.sky_blocks["value"])
    assert found.data.dtype.isnative and found.dq.dtype.isnative


BAD = {
    "nan": np.nan,
    "inf": np.inf,
    "negative": -1.0,
    "zero": 0.0,
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("name", ["err", "var_poisson", "var_rnoise", "var_flat"])
def test_unusable_errors_are_marked_and_counted(arrays, raw, name, kind):
    clean = np.argwhere(raw["dq"] & DO_NOT_USE == 0)[::500]
    flagged = tuple(np.argwhere(raw["dq"] & DO_NOT_USE)[0])
    rows, columns = clean.T
    arrays[name][rows, columns] = BAD[kind]
    arrays[name][flagged] = BAD[kind]
    found = calibrated(arrays)
    reason = f"{name} not positive"
    # The variance of the flat field may be zero.
    expected = 0 if (name, kind) == ("var_flat", "zero") else len(clean)
    assert found.unusable[reason] == expected
    assert found.unusable["flagged"] == np.count_nonzero(raw["dq"] & DO_NOT_USE)
    assert sum(found.unusable.values()) == found.unusable["flagged"] + expected
    assert np.all((found.dq[rows, columns] & DO_NOT_USE) == (expected > 0))
    changed = found.dq != raw["dq"]
    assert changed.sum() == expected
    # So that good_bits that trust all flags do not bring them back; flagged ones keep their values.
    assert np.array_equal(np.isnan(found.data), changed) and np.isfinite(found.data[flagged])
    # The other bits stay.
    np.testing.assert_array_equal(found.dq & ~np.uint32(1), raw["dq"] & ~np.uint32(1))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_data_that_are_not_finite(arrays, value):
    arrays["data"][10, :20] = value
    arrays["dq"][10, :20] = 4
    found = calibrated(arrays)
    assert found.unusable["data not finite"] == 20
    assert np.all(found.dq[10, :20] == 5)
    assert np.isfinite(found.sky_blocks["value"]).all()
    assert np.isfinite(list(found.noise.values())).all()


def test_summary_says_sky_and_what_is_unusable(arrays):
    good, flagged = (np.flatnonzero((arrays["dq"] & DO_NOT_USE) == bit) for bit in (0, 1))
    arrays["data"].flat[good[:20]] = arrays["var_rnoise"].flat[good[20:22]] = np.nan
    found = calibrated(arrays)
    found.noise["pedestal"] = 0.19876
    assert found.summary() == (
        f"sky 0.1988 MJy/sr, unusable pixels: {len(flagged)} flagged, 20 data not finite, "
        "2 var_rnoise not positive"
    )
    found.unusable = dict.fromkeys(found.unusable, 0)
    assert found.summary() == "sky 0.1988 MJy/sr, unusable pixels: none"


def test_negative_data_are_data(arrays):
    arrays["data"][10, :20] = -0.2
    before = arrays["dq"].copy()
    found = calibrated(arrays)
    assert found.unusable["data not finite"] == 0
    np.testing.assert_array_equal(found.dq, before)


# --- read noise from what is left of the errors ---


def test_read_noise_is_made_where_there_is_none(arrays, raw):
    truth = calibrated(raw)
    del arrays["var_rnoise"]
    found = calibrated(arrays)
    made, real = (c.variances["var_rnoise"].astype(np.float32) for c in (found, truth))
    assert np.all(made > 0)
    good = raw["dq"] & DO_NOT_USE == 0
    faint = good & (np.abs(truth.data - truth.noise["pedestal"]) < 3 * 0.03)
    # float16 errors are rounded to 1 in 2000: a few per cent of the smaller part.
    ratio = made[faint] / real[faint]
    assert np.median(ratio) == pytest.approx(1, abs=0.01)
    assert np.percentile(ratio, [1, 99]) == pytest.approx([1, 1], abs=0.1)
    # Under the sources it is between half and a few times that of the sky.
    bright = good & (truth.data > 5)
    assert bright.any() and made[bright].min() >= 0.4 * np.median(real)
    np.testing.assert_array_equal(found.dq, truth.dq)
    assert found.noise["sky_variance"] == pytest.approx(truth.noise["sky_variance"], rel=0.01)


def test_read_noise_needs_no_flat_variance(arrays):
    del arrays["var_rnoise"], arrays["var_flat"]
    found = calibrated(arrays)
    assert set(found.variances) == {"var_poisson", "var_rnoise"}
    assert np.all(found.variances["var_rnoise"] > 0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["err", "var_poisson"])
def test_unusable_errors_stay_so_without_read_noise(arrays, value, name):
    del arrays["var_rnoise"]
    arrays["dq"][2, :9] = 0
    arrays[name][2, :9] = value
    found = calibrated(arrays)
    assert found.unusable[f"{name} not positive"] == 9
    assert np.all(found.dq[2, :9] & DO_NOT_USE)
    assert np.isfinite(found.noise["sky_variance"])
    rest = np.delete(found.variances["var_rnoise"], 2, axis=0)
    assert np.all(rest > 0) and np.isfinite(rest).all()


def test_read_noise_of_photon_limited_errors_is_positive(arrays):
    del arrays["var_rnoise"], arrays["var_flat"]
    arrays["err"] = np.sqrt(arrays["var_poisson"].astype(np.float32)).astype(np.float16)
    made = calibrated(arrays).variances["var_rnoise"]
    assert np.all(made > 0) and np.isfinite(made).all()


# --- refusals ---


def test_too_many_unusable_pixels_are_refused_by_name(arrays):
    arrays["err"][:] = np.nan
    with pytest.raises(ExposureError) as error:
        calibrated(arrays)
    line = str(error.value)
    assert line.startswith("a_cal.asdf: has 100.0 % unusable pixels (flagged ")
    n = arrays["err"].size - np.count_nonzero(arrays["dq"] & DO_NOT_USE)
    assert f"err not positive {n}" in line and "flux.max_unusable_fraction" in line
    assert "data" not in line and "\n" not in line


def test_the_limit_is_the_one_given(arrays):
    arrays["dq"][:] = 0
    half = arrays["dq"].shape[0] // 2
    arrays["dq"][:half] = DO_NOT_USE
    found = calibrated(arrays, max_unusable_fraction=0.51)
    assert found.unusable["flagged"] == arrays["dq"].size // 2
    with pytest.raises(ExposureError, match=r"has 50\.\d % unusable"):
        calibrated(arrays, max_unusable_fraction=0.5)
    arrays["dq"][:] = DO_NOT_USE
    found = calibrated(arrays, max_unusable_fraction=1.0)
    assert np.isnan(found.sky_blocks["value"]).all() and np.isnan(found.noise["pedestal"])


@pytest.mark.parametrize("name", ["dq", "err", "var_poisson", "var_flat"])
def test_shapes_that_disagree(arrays, name):
    arrays[name] = arrays[name][:-1]
    with pytest.raises(ExposureError, match=f"different shapes.*{name}") as error:
        calibrated(arrays)
    assert "\n" not in str(error.value)


def test_cubes_are_refused(arrays):
    with pytest.raises(ExposureError, match="shapes"):
        calibrated({name: array[None] for name, array in arrays.items()})


# --- sky parameters ---


def test_sky_parameters_reach_the_statistics(arrays):
    arrays["dq"][:64, :64] = 4  # JUMP_DET
    base = calibrated(arrays)
    assert base.sky_blocks["n_good"][0, 0] > 3500
    strict = calibrated(arrays, sky={"dqbits": "~DO_NOT_USE+JUMP_DET"})
    assert strict.sky_blocks["n_good"][0, 0] == 0
    loose = calibrated(arrays, sky={"skystat": "mean", "nclip": 0})
    assert np.mean(loose.sky_blocks["value"] - base.sky_blocks["value"]) > 0
    none = calibrated(arrays, sky={"lower": 1e6})
    assert not none.sky_blocks["n_good"].any()


def test_unusable_pixels_are_no_sky_whatever_the_bits(arrays):
    arrays["data"][:64, :64] = np.nan
    found = calibrated(arrays, sky={"dqbits": None})
    assert found.sky_blocks["n_good"][0, 0] == 0


def test_float32_variances_when_float16_would_lose_digits(raw):
    found = calibrated(raw)
    assert found.noise["sky_variance"] > FLOAT16_VARIANCE and found.precise_variances == {}
    small = calibrated(raw, 1e-3)
    assert small.noise["sky_variance"] < FLOAT16_VARIANCE
    precise = small.precise_variances
    assert set(precise) == {"var_poisson", "var_rnoise", "var_flat"}
    np.testing.assert_allclose(
        precise["var_rnoise"], raw["var_rnoise"].astype(float) * 1e-6, rtol=1e-6
    )
