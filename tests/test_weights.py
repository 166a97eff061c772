"""Weights of detector pixels: their formulas, and that those of the sky do not follow the signal."""

import numpy as np
import pytest
from drizzle_scene import coadd, detector, exposure, grid
from romosaic.dq import FLAGS
from romosaic.errors import ExposureError
from romosaic.sky import BLOCK_SIZE, block_variances
from romosaic.weights import WEIGHT_TYPES, exposure_weights, pixel_weights, smooth_blocks

SKY, VARIANCE = 0.3, 0.01


def with_blocks(member):
    """Give an exposure in memory the block variances that `flux` would measure."""
    bad = member.dq != 0
    variances = (np.asarray(plane, np.float32) for plane in (member.var_rnoise, member.var_poisson))
    centers = [
        np.minimum(np.arange(0, n, BLOCK_SIZE) + BLOCK_SIZE, n) / 2
        + np.arange(0, n, BLOCK_SIZE) / 2
        - 0.5
        for n in member.shape
    ]
    member.sky_blocks = {
        "variance": block_variances(member.data, bad, *variances),
        "y": centers[0],
        "x": centers[1],
    }
    return member


def weights_of(member, weight_type, part=None, unit=1.0):
    """Weights of a part of an exposure, all of it by default."""
    part = part or np.s_[0 : member.shape[0], 0 : member.shape[1]]
    planes = (np.asarray(p[part], np.float32) for p in (member.var_rnoise, member.var_poisson))
    weight = exposure_weights([member], weight_type)[0]
    weigh = pixel_weights(member, weight_type, weight, unit)
    return np.broadcast_to(weigh(part, member.data[part], *planes), member.data[part].shape)


# ---- formulas ----


def test_formulas_by_hand():
    member = exposure("a", shape=(2, 2), dtype=np.float32)
    member.data[:] = [[0.3, 3.0], [0.05, -0.2]]
    member.var_rnoise[:] = [[0.01, 0.04], [0.01, 0.02]]
    member.var_poisson[:] = [[0.03, 0.30], [0.01, 0.0]]
    member.pedestal = 0.3
    read_noise = [[100, 25], [100, 50]]
    assert np.allclose(weights_of(member, "ivm-pixel"), read_noise, rtol=1e-6)
    # 0.01 + 0.03 * 0.3 / 0.3, 0.04 + 0.30 * 0.3 / 3; near 0: data count as half the sky level
    by_sky = [[1 / 0.04, 1 / 0.07], [1 / (0.01 + 0.01 * 2), 1 / 0.02]]
    assert np.allclose(weights_of(member, "ivm-sky"), by_sky, rtol=1e-6)
    assert np.allclose(weights_of(member, "ivm"), 1 / VARIANCE)
    assert np.allclose(weights_of(member, "exptime"), 139.15)
    assert np.allclose(weights_of(member, "none", unit=0.25), 4)


@pytest.mark.parametrize("kind", ["ivm-sky", "ivm-pixel"])
def test_coadds_by_pixel_are_means_with_these_weights(kind):
    pair = [exposure("a", 1.0, roll=0.0), exposure("b", 4.0, roll=0.0)]
    pair[1].var_rnoise[:] *= 3
    pair[1].var_poisson[:] *= 8
    for member in pair:
        member.pedestal = 1.0
    w = np.array([weights_of(member, kind)[40, 35] for member in pair], float)
    made = coadd(pair, grid(50), weight_type=kind)
    assert np.allclose(made.data, (w * [1, 4]).sum() / w.sum(), rtol=1e-5)
    assert np.allclose(made.weight, w.sum() / 4, rtol=1e-5)
    variance = (w**2 * [float(m.var_rnoise[0, 0]) for m in pair]).sum() / w.sum() ** 2
    assert np.allclose(made.var_rnoise, 4 * variance, rtol=1e-3)


@pytest.mark.parametrize("kind", WEIGHT_TYPES)
def test_bad_pixels_have_no_weight(kind):
    member = with_blocks(exposure("a", 3.0, shape=(90, 90), dtype=np.float32))
    other = with_blocks(exposure("b", 3.0, shape=(90, 90), dtype=np.float32))
    member.dq[40:44, 30:60] = FLAGS["DO_NOT_USE"]
    member.data[40:44, 30:60] = 1e5
    if kind == "ivm-pixel":
        member.var_rnoise[50, 50] = 0.0  # the inverse is no number
    made = coadd([member, other], grid(150), weight_type=kind)
    assert np.allclose(made.data[made.weight > 0], 3.0, rtol=1e-5)
    assert made.members[0].n_bad == 4 * 30 + (kind == "ivm-pixel")
    # where one is bad the other one's weight is left
    assert made.weight[made.weight > 0].min() < 0.51 * made.weight.max()


@pytest.mark.parametrize("kind", WEIGHT_TYPES)
def test_weights_of_a_pixel_do_not_depend_on_the_window(kind):
    member = exposure("a", SKY, shape=(300, 260), dtype=np.float32)
    rng = np.random.default_rng(3)
    member.var_rnoise[:] *= 1 + np.linspace(0, 2, 260)[None] + rng.uniform(0, 0.2, member.shape)
    member.data[:] += rng.normal(0, 0.05, member.shape)
    with_blocks(member)
    whole = weights_of(member, kind)
    for part in (np.s_[7:130, 41:42], np.s_[200:300, 0:260], np.s_[63:66, 100:260]):
        assert np.array_equal(weights_of(member, kind, part), whole[part])


@pytest.mark.parametrize("level", [0.0, -0.1, np.nan])
def test_a_sky_level_that_is_not_positive_is_named(level):
    member = exposure("first")
    member.pedestal = level
    with pytest.raises(ExposureError, match="first: cannot be weighted by ivm-sky: its sky level"):
        coadd([member], grid(50), weight_type="ivm-sky")
    assert coadd([member], grid(50)).weight.any()


def test_a_pixel_of_little_weight_is_no_sliver():
    # saturated cores may have a thousand times the noise of the sky: they are covered all the same
    member = exposure("a", 2.0, dtype=np.float32)
    member.var_rnoise[30:40, 30:40] *= 5000
    made = coadd([member], grid(60), weight_type="ivm-pixel")
    assert np.allclose(made.data, 2.0, rtol=1e-5)
    assert made.weight.min() < 1e-3 * made.weight.max()


# ---- blocks ----


def halves(name, seed, quiet_left, shape=(128, 512)):
    """Exposure of noise with two halves of different read noise, variances 0.01 and 0.09."""
    member = exposure(name, SKY, shape=shape, roll=0.0, dtype=np.float32)
    quiet = np.arange(shape[1]) < shape[1] // 2
    variance = np.where(quiet == quiet_left, 0.01, 0.09).astype(np.float32)
    member.var_poisson[:] = 0.004
    member.var_rnoise[:] = variance - 0.004
    member.sky_variance = 0.05
    rng = np.random.default_rng(seed)
    member.data[:] += (rng.normal(size=shape) * np.sqrt(variance)).astype(np.float32)
    return with_blocks(member)


def test_halves_of_different_noise_get_the_better_noise_with_blocks():
    pair = [halves("a", 1, True), halves("b", 2, False)]
    scatter = {
        kind: np.std(coadd(pair, grid(1000, 230), weight_type=kind).data)
        for kind in ("ivm", "ivm-block")
    }
    # equal weights: (0.01 + 0.09) / 4 = 0.025; inverse variances: 1 / (1/0.01 + 1/0.09) = 0.009;
    # the step is spread over the 64 pixels between two centres of blocks
    best = np.sqrt(0.009 / 0.025)
    assert scatter["ivm-block"] / scatter["ivm"] == pytest.approx(best, abs=0.06)


def test_map_of_blocks_is_the_variance_of_the_sky_and_keeps_a_step():
    member = halves("a", 1, True)
    weights = weights_of(member, "ivm-block")
    assert np.allclose(weights[:, :224], 100, rtol=1e-4)
    assert np.allclose(weights[:, 288:], 1 / 0.09, rtol=1e-4)
    step = 1 / weights[100, 223:289]
    assert np.all(np.diff(step) > 0)


def test_sources_and_hits_leave_no_trace_in_the_map():
    plain, rich = (exposure("a", SKY, shape=(400, 400), dtype=np.float32) for _ in range(2))
    noise = np.random.default_rng(4).normal(0, 0.1, plain.shape)
    y, x = np.indices(plain.shape)
    light = 300 * np.exp(-((y - 200) ** 2 + (x - 190) ** 2) / (2 * 25.0**2))
    light += 50 * np.exp(-((y - 60) ** 2 + (x - 60) ** 2) / (2 * 2.0**2))
    light[350:352, 100:180] += 30  # a hit
    for member, signal in ((plain, 0.0), (rich, light)):
        member.data[:] += noise + signal
        member.var_poisson[:] += np.float32(0.02) * np.float32(signal)
        with_blocks(member)
    assert rich.sky_blocks["variance"].max() > 10 * VARIANCE
    assert np.allclose(weights_of(rich, "ivm-block"), weights_of(plain, "ivm-block"), rtol=1e-3)


def test_smooth_blocks():
    assert np.array_equal(
        smooth_blocks(np.full((3, 4), np.nan), 0.5), np.full((3, 4), np.float32(0.5))
    )
    variance = np.ones((9, 9), np.float32)
    variance[:, 5:] = 3.0
    variance[2, 2], variance[7, 7] = 50.0, np.nan
    expected = np.where(np.arange(9) < 5, 1.0, 3.0) * np.ones((9, 1))
    assert np.array_equal(smooth_blocks(variance, 1.0), expected)


# ---- star cores ----


def star_fluxes(kind, fluxes=(1.0, 10.0, 100.0, 1000.0)) -> np.ndarray:
    """Sums of coadded stars over their flux: undersampled, in four dithered exposures, noise-free."""
    found = []
    for flux in fluxes:
        members = []
        for i, at in enumerate([(0.0, 0.0), (0.9, 0.4), (0.3, 1.1), (1.4, 0.7)]):
            pixmap = detector((128, 128), roll=30.0 * i, at=at)
            x, y = pixmap.on_grid(grid(200)).forward(np.arange(128), np.arange(128))
            light = flux * np.exp(-((x - 99.3) ** 2 + (y - 99.8) ** 2) / (2 * 1.6**2))
            member = exposure(str(i), SKY + light, pixmap=pixmap, dtype=np.float32)
            member.pedestal = SKY
            member.var_poisson[:] += (0.002 * light).astype(np.float32)
            member.var_rnoise[:] *= (1 + 2 * light / (light + 30)).astype(np.float32)
            members.append(with_blocks(member))
        made = coadd(members, grid(200), levels=[SKY] * 4, weight_type=kind)
        found.append(made.data[80:120, 80:120].sum(dtype=float) / flux)
    return np.array(found) / (2 * np.pi * 1.6**2)


@pytest.mark.parametrize("kind", ["ivm", "ivm-block"])
def test_flux_of_a_star_is_constant_with_magnitude(kind):
    fluxes = star_fluxes(kind)
    assert np.ptp(fluxes) < 1e-4 * fluxes.mean()
    assert fluxes.mean() == pytest.approx(1.0, abs=0.02)


def test_flux_of_a_star_is_biased_by_weights_of_pixels():
    # the bias that the documentation states, and that the other types are made to avoid
    fluxes = star_fluxes("ivm-pixel")
    assert fluxes.max() - fluxes.min() > 0.01
