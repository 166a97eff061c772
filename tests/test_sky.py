"""Sky statistics against a known sky: values, errors that are true to their name, edges, clipping."""

import numpy as np
import pytest
from romosaic.sky import block_statistics, block_variances, sky_noise

SKY, NOISE = 0.3, 0.03
STATISTICS = ["mean", "median", "midpt", "mode"]


def noise(shape=(1024, 1024), seed=1) -> np.ndarray:
    return np.random.default_rng(seed).normal(SKY, NOISE, shape).astype(np.float32)


def no_bad(data) -> np.ndarray:
    return np.zeros(data.shape, bool)


def pulls(blocks) -> np.ndarray:
    return ((blocks["value"].astype(float) - SKY) / blocks["error"]).ravel()


def field(seed=2, per_block=1.0, shape=(1024, 1024)) -> np.ndarray:
    """Image with stars: widths of 1.2 pixels, peaks of 1 to 1000 times the noise."""
    rng = np.random.default_rng(seed)
    data = noise(shape, seed)
    offsets = np.arange(-7, 8)
    star = np.exp(-(offsets**2 + offsets[:, None] ** 2) / (2 * 1.2**2))
    for _ in range(int(per_block * data.size / 4096)):
        y, x = rng.integers(8, shape[0] - 8), rng.integers(8, shape[1] - 8)
        data[y - 7 : y + 8, x - 7 : x + 8] += star * NOISE * 10 ** rng.uniform(0, 3)
    return data


@pytest.mark.parametrize("skystat", STATISTICS)
def test_pure_noise_has_pulls_of_unit_width(skystat):
    data = noise((2048, 1024))
    blocks = block_statistics(data, no_bad(data), skystat=skystat)
    found = pulls(blocks)
    assert found.size == 512
    # Five standard errors of the width and of the mean of 512 pulls.
    assert found.std() == pytest.approx(1.0, abs=0.16)
    assert abs(found.mean()) < 5 / np.sqrt(512)
    # The standard error of the mean of 4096 values is a 64th of the noise.
    factor = {"mean": 1.0, "median": 1.25, "midpt": 1.24, "mode": 2.08}[skystat]
    np.testing.assert_allclose(blocks["error"], factor * NOISE / 64, rtol=0.06)


@pytest.mark.parametrize(("skystat", "bias"), [("median", 0.7), ("midpt", 0.7), ("mode", 0.25)])
def test_stars_and_bad_pixels_hardly_move_the_sky(skystat, bias):
    data = field()
    rng = np.random.default_rng(3)
    bad = rng.uniform(size=data.shape) < 0.05
    data[bad] = rng.choice([np.nan, np.inf, -np.inf, 1e30, -5.0, 0.0], bad.sum())
    blocks = block_statistics(data, bad, skystat=skystat)
    found = pulls(blocks)
    assert abs(found.mean()) < bias
    assert 0.7 < found.std() < 1.25
    assert np.all(blocks["n_good"] < 4096 * 0.97) and np.all(blocks["n_good"] > 4096 * 0.9)


def test_the_mode_is_biased_least_and_the_clipped_mean_most():
    data = field(per_block=3.0)
    bias = [
        np.mean(block_statistics(data, no_bad(data), skystat=s)["value"] - SKY) for s in STATISTICS
    ]
    assert bias[0] > bias[1] > bias[3] and bias[1] > bias[2] > bias[3]
    assert abs(bias[3]) < 0.6 * bias[1]


@pytest.mark.parametrize("shape", [(100, 70), (64, 64), (63, 130), (32, 32), (65, 64), (1, 4096)])
def test_edge_blocks(shape):
    data = noise(shape)
    blocks = block_statistics(data, no_bad(data), skystat="mean", nclip=0)
    rows, columns = (-(-n // 64) for n in shape)
    assert (
        blocks["value"].shape == blocks["error"].shape == blocks["n_good"].shape == (rows, columns)
    )
    assert blocks["value"].dtype == blocks["error"].dtype == np.float32
    assert blocks["n_good"].dtype == np.int32 and blocks["size"] == 64
    for j in range(rows):
        for i in range(columns):
            part = data[64 * j : 64 * (j + 1), 64 * i : 64 * (i + 1)].astype(float)
            assert blocks["n_good"][j, i] == part.size
            if part.size < 64:
                assert np.isnan(blocks["value"][j, i])
                continue
            assert blocks["value"][j, i] == pytest.approx(part.mean(), rel=1e-6)
            assert blocks["error"][j, i] == pytest.approx(part.std() / np.sqrt(part.size), rel=1e-5)
    y, x = np.arange(shape[0]), np.arange(shape[1])
    np.testing.assert_allclose(blocks["y"], [y[k : k + 64].mean() for k in range(0, shape[0], 64)])
    np.testing.assert_allclose(blocks["x"], [x[k : k + 64].mean() for k in range(0, shape[1], 64)])


def test_size_of_blocks():
    data = noise((96, 96))
    blocks = block_statistics(data, no_bad(data), size=32)
    assert blocks["value"].shape == (3, 3) and blocks["size"] == 32
    np.testing.assert_allclose(blocks["x"], [15.5, 47.5, 79.5])


@pytest.mark.parametrize("skystat", STATISTICS)
def test_blocks_with_too_few_good_pixels_have_no_value(skystat):
    data = noise((128, 128))
    bad = no_bad(data)
    bad[:64, :64] = True
    bad[64:, :64] = True
    bad[64, :63] = False
    bad[:64, 64:] = True
    bad[0, 64:] = False
    blocks = block_statistics(data, bad, skystat=skystat, nclip=0)
    np.testing.assert_array_equal(blocks["n_good"], [[0, 64], [63, 4096]])
    np.testing.assert_array_equal(np.isnan(blocks["value"]), [[True, False], [True, False]])
    np.testing.assert_array_equal(np.isnan(blocks["error"]), [[True, False], [True, False]])


def test_values_that_are_not_finite_are_left_out_unflagged():
    data = noise((64, 64))
    data[0, :10] = np.nan
    blocks = block_statistics(data, no_bad(data), skystat="median")
    assert np.isfinite(blocks["value"]).all() and blocks["n_good"][0, 0] <= 4086


def test_without_clipping_the_mean_is_the_mean():
    data = field()
    blocks = block_statistics(data, no_bad(data), skystat="mean", nclip=0)
    means = data.astype(float).reshape(16, 64, 16, 64).mean(axis=(1, 3))
    np.testing.assert_allclose(blocks["value"], means, rtol=1e-5)
    clipped = block_statistics(data, no_bad(data), skystat="mean")
    assert np.mean(clipped["value"]) < means.mean() and np.all(clipped["n_good"] < 4096 + 1)
    medians = np.median(data.reshape(16, 64, 16, 64).swapaxes(1, 2).reshape(16, 16, -1), axis=2)
    found = block_statistics(data, no_bad(data), skystat="median", nclip=0)["value"]
    np.testing.assert_allclose(found, medians, rtol=1e-6)


def test_lower_and_upper():
    data = noise((64, 64))
    data[:20] = 5.0
    data[20:30] = -5.0
    blocks = block_statistics(data, no_bad(data), skystat="mean", nclip=0, lower=0.0, upper=1.0)
    assert blocks["n_good"][0, 0] == 34 * 64
    assert blocks["value"][0, 0] == pytest.approx(SKY, abs=5 * NOISE / np.sqrt(34 * 64))
    empty = block_statistics(data, no_bad(data), lower=100.0)
    assert empty["n_good"][0, 0] == 0 and np.isnan(empty["value"][0, 0])


def test_clipping_limits_are_their_own_on_each_side():
    data = noise((64, 64), seed=4)
    data[::10, ::10] = SKY + 3.5 * NOISE
    data[5::10, 5::10] = SKY - 3.5 * NOISE
    up, down = data > SKY + 3 * NOISE, data < SKY - 3 * NOISE
    kept = [
        int(block_statistics(data, no_bad(data), nclip=1, lsigma=a, usigma=b)["n_good"][0, 0])
        for a, b in ((9, 9), (3, 9), (9, 3), (3, 3))
    ]
    assert kept[0] == 4096
    assert kept[1] == pytest.approx(4096 - down.sum(), abs=6)
    assert kept[2] == pytest.approx(4096 - up.sum(), abs=6)
    assert kept[3] == kept[1] + kept[2] - 4096


@pytest.mark.parametrize("skystat", STATISTICS)
@pytest.mark.parametrize("limits", [0.5, 0.01, 4.0])
def test_degenerate_values(skystat, limits):
    constant = np.full((64, 64), 0.1, np.float32)
    blocks = block_statistics(constant, no_bad(constant), skystat=skystat, lsigma=limits)
    assert blocks["value"][0, 0] == pytest.approx(0.1) and blocks["error"][0, 0] < 1e-7
    # Two values: narrow limits about the mean between them keep nothing.
    two = np.indices((64, 64)).sum(axis=0) % 2 * np.float32(1.0)
    blocks = block_statistics(two, no_bad(two), skystat=skystat, lsigma=limits, usigma=limits)
    assert np.isnan(blocks["value"][0, 0]) or 0 <= blocks["value"][0, 0] <= 1


@pytest.mark.parametrize("level", [0.0, -2.0, 1e-9, 1e6])
def test_any_level(level):
    data = (np.random.default_rng(5).normal(0, 1, (64, 64)) * abs(level or 1) * 0.1 + level).astype(
        np.float32
    )
    blocks = block_statistics(data, no_bad(data))
    assert abs(blocks["value"][0, 0] - level) < 6 * blocks["error"][0, 0]


def test_binwidth_matters_little():
    data = noise((256, 256))
    values = [
        block_statistics(data, no_bad(data), skystat="midpt", binwidth=w)["value"]
        for w in (0.02, 0.1, 0.5)
    ]
    median = block_statistics(data, no_bad(data), skystat="median")["value"]
    for value in values:
        np.testing.assert_allclose(value, median, atol=0.02 * NOISE)


# --- noise of the sky ---

GAIN = 300.0  # electrons per MJy/sr
READ = 0.0002  # variance, (MJy/sr)**2


def poisson(shape=(400, 500), sky=SKY, seed=6):
    """Poisson image of a sky with extended sources, its variances from the measured signal."""
    rng = np.random.default_rng(seed)
    scene = np.full(shape, sky)
    y, x = np.indices(shape)
    for _ in range(25):
        cy, cx = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        scene += 10 ** rng.uniform(0, 1.5) * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * 3.0**2))
    data = rng.poisson(scene * GAIN) / GAIN + rng.normal(0, np.sqrt(READ), shape)
    data = data.astype(np.float32)
    var_poisson = (np.maximum(data, 0.01) / GAIN).astype(np.float32)
    return data, np.full(shape, READ, np.float32), var_poisson


def test_noise_of_poisson_data():
    data, var_rnoise, var_poisson = poisson()
    noise = sky_noise(data, no_bad(data), var_rnoise, var_poisson)
    assert noise["pedestal"] == pytest.approx(SKY, rel=0.02)
    assert noise["sky_variance"] == pytest.approx(READ + SKY / GAIN, rel=0.03)
    assert noise["poisson_slope"] == pytest.approx(1 / GAIN, rel=0.02)
    assert all(isinstance(value, float) for value in noise.values())


def test_noise_of_a_subtracted_sky():
    # The variance keeps the light of the sky that was taken away.
    data, var_rnoise, var_poisson = poisson()
    noise = sky_noise(data - np.float32(SKY), no_bad(data), var_rnoise, var_poisson)
    assert noise["pedestal"] == pytest.approx(0.0, abs=0.02 * SKY)
    assert noise["sky_variance"] == pytest.approx(READ + SKY / GAIN, rel=0.03)
    assert noise["poisson_slope"] == pytest.approx(1 / GAIN, rel=0.02)


def test_noise_of_an_empty_field():
    data, var_rnoise, _ = poisson((60, 60))
    flat = np.random.default_rng(1).normal(SKY, 0.03, data.shape).astype(np.float32)
    noise = sky_noise(flat, no_bad(flat), var_rnoise, np.full_like(flat, SKY / GAIN))
    assert noise["poisson_slope"] == pytest.approx(1 / GAIN, rel=0.05)
    unknown = np.full_like(flat, SKY / GAIN)
    zero = sky_noise(flat - np.float32(SKY + 0.1), no_bad(flat), var_rnoise, unknown)
    assert zero["poisson_slope"] == 0.0


def test_noise_leaves_bad_pixels_out():
    data, var_rnoise, var_poisson = poisson()
    bad = np.random.default_rng(7).uniform(size=data.shape) < 0.3
    truth = sky_noise(data, bad, var_rnoise, var_poisson)
    for plane in (data, var_rnoise, var_poisson):
        plane[bad] = np.nan
    assert sky_noise(data, bad, var_rnoise, var_poisson) == truth


def test_noise_without_good_pixels_is_nan():
    data, var_rnoise, var_poisson = poisson((60, 60))
    noise = sky_noise(data, ~no_bad(data), var_rnoise, var_poisson)
    assert set(noise) == {"pedestal", "sky_variance", "poisson_slope"}
    assert all(np.isnan(value) for value in noise.values())


def test_noise_of_the_simulator(simulated):
    model, truth = simulated
    bad = np.asarray(model.dq) & 1 != 0
    planes = [
        np.asarray(model[k]).astype(np.float32) for k in ("data", "var_rnoise", "var_poisson")
    ]
    noise = sky_noise(planes[0], bad, *planes[1:])
    sky = float(truth["sky"] / truth["conversion_megajanskys"])
    electrons = float(truth["gain"] * truth["exposure_time"])
    assert noise["pedestal"] == pytest.approx(sky, rel=0.05)
    variance = float(truth["read_noise"]) ** 2 + sky / electrons
    assert noise["sky_variance"] == pytest.approx(variance, rel=0.05)
    # Cosmic rays, whose charge is not all light, are among the bright pixels.
    assert noise["poisson_slope"] == pytest.approx(1 / electrons, rel=0.1)


# ---- variances of blocks ----


def planes_of_noise(data):
    """Read noise in three quarters, and Poisson noise that follows the pixel's own signal."""
    read = np.full(data.shape, 0.75 * NOISE**2, np.float32)
    return read, (0.25 * NOISE**2 / SKY * data).astype(np.float32)


def test_block_variances_are_those_of_the_sky_pixels():
    data = field()
    read, poisson = planes_of_noise(data)
    read[:, 512:] *= 4
    found = block_variances(data, no_bad(data), read, poisson)
    assert found.dtype == np.float32 and found.shape == (16, 16)
    np.testing.assert_allclose(found[:, :8], NOISE**2, rtol=5e-3)
    np.testing.assert_allclose(found[:, 8:], 3.25 * NOISE**2, rtol=5e-3)


def test_blocks_with_few_good_pixels_have_no_variance():
    data = noise((150, 130))
    bad = no_bad(data)
    bad[:64, :64] = True
    bad[:1, :63] = False
    bad[100:110, 70:80] = True
    data[100:110, 70:80] = np.nan
    found = block_variances(data, bad, *planes_of_noise(np.nan_to_num(data)))
    # 63 good pixels in the first block, 22 x 2 in the last one
    expected = [[False, True, True], [True, True, True], [True, True, False]]
    np.testing.assert_array_equal(np.isfinite(found), expected)
    np.testing.assert_allclose(found[np.isfinite(found)], NOISE**2, rtol=0.02)
