"""The loops of outlier_detection: median, sampling, patches."""

import itertools

import numpy as np
import pytest
from outlier_scene import (
    grid_of,
    pixel_map,
)
from romosaic import medians
from romosaic import outlier_kernels as kernels
from romosaic.dq_list import BadPixels
from romosaic.patches import Patches


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


def test_patches_follow_the_map_of_a_full_detector():
    pixmap = pixel_map(0, 0, 37, shape=(4088, 4088), distortion=4e-6)
    gridmap = pixmap.on_grid(grid_of(5000, 5000))
    y0, _, _, x1 = gridmap.grid_window()
    rng = np.random.default_rng(0)
    rows, columns = np.array([[2048, 2304], [y0, y0 + 9]]), np.array([[1024, 1280], [x1 - 1, x1]])
    patches = Patches.fit(gridmap.inverse, rows, columns)
    for row, column in itertools.product(range(2), range(2)):
        ys = rng.uniform(rows[row, 0], rows[row, 1] - 1, 9)
        xs = rng.uniform(columns[column, 0], columns[column, 1] - 1, 9)
        px, sx, py, sy = patches.place[row, column]
        u, v = (np.vander(t, 4, increasing=True) for t in ((xs - px) * sx, (ys - py) * sy))
        got = [v @ c @ u.T for c in patches.coefficients[row, column]]
        np.testing.assert_allclose(got, gridmap.inverse(xs, ys), atol=1e-6)
