"""The loops of outlier_detection: median, sampling, patches."""

import itertools

import numpy as np
import pytest
from outlier_scene import CENTER, grid_of, pixel_map
from romosaic import medians
from romosaic import outlier_kernels as kernels
from romosaic.dq_list import BadPixels
from romosaic.exposure import wcs_function
from romosaic.outlier_detection import DETECTOR_PATCH, GRID_PATCH
from romosaic.patches import Patches, cut
from romosaic.pixmap import PixelMap
from romosaic.simulate_wcs import FULL_SIZE, build_wcs


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 11, 12])
def test_sorting_network_sorts_all_zeros_and_ones(n):
    # The 0-1 principle: a network that sorts these sorts everything.
    lines = np.array(list(itertools.product((0, 1), repeat=n))).T
    for low, high in medians.sorting_network(n):
        lines[[low, high]] = np.sort(lines[[low, high]], axis=0)
    assert np.all(np.diff(lines, axis=0) >= 0)


@pytest.mark.parametrize("n", [2, 3, 6, 31, 40, 64, 65, 257, 600])
def test_median_of_valid_members(n):
    rng = np.random.default_rng(n)
    stack = rng.normal(size=(n, 3, 700)).astype(np.float32)
    stack[rng.random(stack.shape) < rng.random(700)] = np.nan
    wanted = np.full((3, 700), np.nan)
    depth = np.isfinite(stack).sum(axis=0)
    for at in np.argwhere(depth >= 2):
        values = stack[:, at[0], at[1]]
        values = values[np.isfinite(values)].astype(float)
        wanted[tuple(at)] = np.median(values) if values.size > 2 else values.min()
    reference, count = np.zeros((5, 710), np.float32), np.zeros((5, 710), np.uint8)
    larger = medians.sorting_network(medians.FEW)
    medians.combine(stack, larger, reference, count, (1, 6))
    np.testing.assert_array_equal(count[1:4, 6:706], np.minimum(depth, medians.DEEPEST))
    np.testing.assert_allclose(reference[1:4, 6:706], wanted, rtol=1e-6, atol=1e-7)
    assert not reference[0].any()


def sample_at(data, x, y, min_weight=0.7):
    """One bilinear sample of a member at a detector position; NaN is bad."""
    bad = BadPixels.of(np.uint32(2) * np.isnan(data), np.uint32(6))
    rows, window = (np.nan_to_num(data) + 3, *bad.of_rows(0, 2)), (0, 2, 0, 2)
    given = rows, window, np.float32(3)
    coefficients = np.zeros((2, 4, 4))
    coefficients[:, 0, 0] = x, y
    out = np.zeros((1, 1), np.float32)
    box = np.array([0, 1, 0, 1])
    least, table, found = np.float32(min_weight), np.array([[[x]], [[y]]]), []
    for where in (np.empty((2, 0, 0)), table):  # by the cubics, by the table
        count = kernels.sample(
            *given,
            (coefficients, np.ones(4), where),
            box,
            least,
            np.empty(5, np.float32),
            out,
            (0, 0),
        )
        assert count == np.isfinite(out).sum()
        found.append(out[0, 0])
    np.testing.assert_array_equal(*found)
    return out[0, 0]


def test_bilinear_sample_and_bad_pixels():
    window = np.array([[1, 2], [3, np.nan]], np.float32)
    assert sample_at(window, 0.0, 0.0) == 1
    assert sample_at(window, 0.25, 0.0) == pytest.approx(1.25)
    # 1/16 of the weight is bad: the rest is renormalised.
    assert sample_at(window, 0.25, 0.25) == pytest.approx((9 + 3 * 2 + 3 * 3) / 15)
    assert np.isnan(sample_at(window, 0.75, 0.75))
    assert sample_at(window, 0.75, 0.75, 0.4) == pytest.approx((1 + 3 * 2 + 3 * 3) / 7)
    # Beyond the outermost pixel centre, by what is left of the weight.
    assert sample_at(window, -0.25, 0.0) == 1
    assert np.isnan(sample_at(window, -0.35, 0.0))
    assert np.isnan(sample_at(window, 5.0, -70.0))


def full_detector(detector):
    """Map of a full detector, and what it follows: a toy, or a simulated detector's gwcs."""
    shape = FULL_SIZE, FULL_SIZE
    if detector == "toy":
        pixmap = pixel_map(0, 0, 37, shape=shape, distortion=4e-6)
        return pixmap, pixmap.sky
    sky = wcs_function(build_wcs(shape, *CENTER, 37.0, detector, 1.00007))
    return PixelMap.fit(sky, shape), sky


def by_cubics(patches, xs, ys):
    """Positions by the cubics of all patches, at xs, (columns, n), and ys, (rows, n), of each of them."""
    x0, sx, y0, sy = np.moveaxis(patches.place, 2, 0)[..., None]
    u = ((xs - x0[0]) * sx[0])[..., None] ** np.arange(4)
    v = ((ys - y0[:, 0]) * sy[:, 0])[..., None] ** np.arange(4)
    found = np.einsum("rkp,rcapq,clq->arkcl", v, patches.coefficients, u, optimize=True)
    return found.reshape(2, ys.size, xs.size)


@pytest.mark.parametrize("detector", ["toy", "WFI01", "WFI18"])
def test_patches_follow_the_map_of_a_full_detector(detector):
    """Maps, and the cubics of every patch of a reference and of a blot: to 1e-6 pixels, there and back."""
    pixmap, sky = full_detector(detector)
    grid, rng = grid_of(5000, 5000), np.random.default_rng(0)
    gridmap = pixmap.on_grid(grid)

    def within(limits, halo):
        low, high = limits.T[..., None] + [[[-halo]], [[halo - 1]]]
        return rng.uniform(low, high, (len(limits), 3))

    y0, y1, x0, x1 = gridmap.grid_window()
    # with the smallest patches
    rows = np.append(cut(y0, y1, GRID_PATCH), [[y0, y0 + 9]], axis=0)
    columns = np.append(cut(x0, x1, GRID_PATCH), [[x1 - 1, x1]], axis=0)
    reference = Patches.fit(gridmap.inverse, rows, columns)
    xs, ys = within(columns, 0), within(rows, 0)
    for found in (by_cubics(reference, xs, ys), gridmap.inverse(xs.ravel(), ys.ravel())):
        back = grid.to_pixel(*sky(*found))
        np.testing.assert_allclose(back, np.meshgrid(xs, ys), rtol=0, atol=1e-6)

    rows = cut(0, FULL_SIZE, DETECTOR_PATCH)
    blot = Patches.fit(gridmap.forward, rows, rows, halo=kernels.HALO)
    xs, ys = within(rows, kernels.HALO), within(rows, kernels.HALO)
    wanted = grid.to_pixel(*sky(*np.meshgrid(xs, ys)))
    for found in (by_cubics(blot, xs, ys), gridmap.forward(xs.ravel(), ys.ravel())):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)
    assert gridmap.smooth and reference.good.all() and blot.good.all()
