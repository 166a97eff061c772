"""Noise of single pixels and apertures of coadds against simulated noise and exact geometry."""

import numpy as np
import pytest
from drizzle_scene import DETECTOR, OUTPUT, coadd, detector, exact_sums, exposure, grid, parameters
from romosaic.pixel_noise import describe, noise_factors
from romosaic.resample import resample


def rolled(n: int, shape=(130, 120), variance=0.01, **where) -> list:
    """Exposures of noise at n orientations, each a little aside."""
    members = []
    for i in range(n):
        member = exposure(
            str(i), 0.0, shape=shape, roll=23.0 * i + 4, at=(7.3 * i, -4.1 * i), **where
        )
        rng = np.random.default_rng(10 + i)
        member.data[:] = rng.normal(0, np.sqrt(variance), shape)
        members.append(member)
    return members


@pytest.mark.parametrize("n", [1, 3, 6])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weight_type": "none"},
        {"kernel": "square", "pixfrac": 0.6},
        {"kernel": "gaussian", "pixfrac": 0.8},
        {"kernel": "lanczos3"},
        {"kernel": "point"},
    ],
    ids=lambda options: " ".join(map(str, options.values())) or "default",
)
def test_scatter_of_pixels_is_err_times_the_root_of_the_factor(n, options):
    # 130 x 120 detector pixels: the scatter of so many is good to 1 %
    made = coadd(rolled(n, bend=0.7), grid(200), **options)
    inner = np.s_[10:-10, 10:-10]
    covered = np.isfinite(made.err[inner]) & (made.weight[inner] > 0.02 * made.weight.max())
    pulls = (made.data[inner] / made.err[inner])[covered]
    assert pulls.size > 5000
    assert np.std(pulls) == pytest.approx(np.sqrt(made.noise["pixel_factor"]), rel=0.03)


def test_factor_of_one_exposure_is_that_of_its_overlaps():
    pixmap, output = detector((20, 20), roll=31.0, bend=0.1), grid(24)
    ones = np.ones((20, 20, 1), np.float32)
    shares, squares = exact_sums(pixmap, ones, output), exact_sums(pixmap, ones, output, power=2)
    exact = np.mean(squares / shares)
    made = coadd([exposure(pixmap=pixmap)], output)
    assert made.noise["pixel_factor"] == pytest.approx(exact, rel=1e-3)
    low, high = made.noise["pixel_factor_range"]
    assert low <= made.noise["pixel_factor"] <= high


def test_factor_counts_the_weights_that_were_used():
    # a turned exposure and one whose pixels fall on 2 x 2 output pixels exactly, as weighted
    turned, straight = exposure("a", roll=45.0), exposure("b", roll=0.0)
    found = [coadd([m], grid(60)).noise["pixel_factor"] for m in (turned, straight)]
    assert found[1] == pytest.approx(0.25, rel=1e-4)
    assert found[0] < 0.19
    straight.sky_variance = 0.03
    for kind, share in (("ivm", 0.25), ("none", 0.75)):
        made = coadd([turned, straight], grid(60), weight_type=kind)
        expected = found[0] * (1 - share) + found[1] * share
        assert made.noise["pixel_factor"] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("kernel", ["square", "point", "turbo", "gaussian", "lanczos2", "lanczos3"])
def test_variances_of_large_areas_and_weights_hold_for_every_kernel(kernel):
    # Means over an area of n detector pixels, 4 n output pixels: the sum of the latter has variance 16 n v, 4 v
    # for each. A kernel that shares out more or less than 1 would say otherwise. The point kernel hits a pixel
    # in four, which has all of the weight and its variance alone. lanczos2 shares out 1.02, and turbo's drops,
    # which do not turn with the detector, overlap unevenly: 5 % is allowed.
    made = coadd([exposure(shape=(150, 150), roll=28.0)], grid(150), kernel=kernel)
    hit = 0.25 if kernel == "point" else 1.0
    variance, weight = (np.mean(plane[made.weight > 0]) for plane in (made.err**2, made.weight))
    assert np.mean(made.weight > 0) == pytest.approx(hit, rel=0.01)
    assert weight == pytest.approx(0.25 / 0.01 / hit, rel=0.05)
    assert variance == pytest.approx(4 * 0.01 * hit, rel=0.05)


def test_aperture_sums_have_the_stated_factor():
    """Pulls with f = 1 - 0.40 p / r lie within 5 % of 1 at 0.1 to 0.8 arcsec, at several orientations."""
    x, y = np.meshgrid(np.arange(200), np.arange(200))
    radii = np.array([0.1, 0.2, 0.4, 0.8])
    centers = [(cx, cy) for cx in range(35, 176, 35) for cy in range(35, 176, 35)]
    masks = {
        (r, c): np.hypot(x - c[0] - 0.3, y - c[1] + 0.2) < r / 3600 / OUTPUT
        for r in radii
        for c in centers
    }
    pulls = {r: [] for r in radii}
    for roll in (0.0, 17.0, 45.0):
        for seed in range(12):
            member = exposure("a", 0.0, shape=(160, 160), roll=roll, bend=0.7)
            member.data[:] = np.random.default_rng(seed).normal(0, 0.1, (160, 160))
            made = coadd([member], grid(200))
            assert made.noise["aperture_factor"] == "1 - 0.40 p / r"
            variance = made.err.astype(float) ** 2
            for (r, _), mask in masks.items():
                factor = 1 - 0.40 * made.noise["detector_pixel"] / r
                pulls[r].append(made.data[mask].sum() / np.sqrt(factor * variance[mask].sum()))
    for r in radii:
        assert np.std(pulls[r]) == pytest.approx(1.0, abs=0.05), r


def test_side_of_a_detector_pixel_and_kernels_without_aperture_factor():
    made = coadd([exposure()], grid(60))
    assert made.noise["detector_pixel"] == pytest.approx(DETECTOR * 3600, rel=1e-3)
    assert coadd([exposure()], grid(60), pixfrac=0.9).noise["aperture_factor"] is None
    assert coadd([exposure()], grid(60), kernel="turbo").noise["aperture_factor"] is None


def test_coadds_without_coverage_have_no_factor():
    for members in ([], [exposure(at=(900.0, 0.0))]):
        noise = coadd(members, grid(40)).noise
        assert noise["pixel_factor"] is noise["pixel_factor_range"] is None
        assert len(describe(noise)) <= 2


def test_description_says_both_conventions_and_the_factors():
    member = exposure()
    made = resample([member], [0.0], [None], grid(60), parameters())
    text = "\n".join(describe(made.noise))
    for part in (
        "large areas",
        "sum(a w^2 v) / (sum a w)^2",
        "sum(a^2 w^2 v) / (sum a w)^2",
        f"{made.noise['pixel_factor']:.4f}",
        "1 - 0.40 p / r",
        '0.1100"',
    ):
        assert part in text
    assert noise_factors([member], [100.0], made.context, grid(60), parameters()) == made.noise
