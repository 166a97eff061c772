"""Pixel maps against the exact gwcs, at points the fit has not seen: positions, windows, edges of the sky."""

import json
from functools import cache

import numpy as np
import pytest
from romosaic import pixmap as pixmap_module
from romosaic.errors import ExposureError
from romosaic.exposure import wcs_function
from romosaic.grid import Grid, unit_vector
from romosaic.pixmap import PixelMap
from romosaic.simulate_wcs import build_wcs

SCALE = 0.055 / 3600
PIXEL = np.radians(0.11 / 3600)
#: Shape, ra, dec, roll, detector.
EXPOSURES = [
    ((32, 32), 11.3, 86.4, 45.0, "WFI01"),
    ((200, 300), 0.0, 0.0, 20.0, "WFI07"),
    ((300, 200), 33.0, 90.0, 10.0, "WFI09"),
    ((256, 256), 359.99, -90.0, 45.0, "WFI18"),
    ((1000, 1000), 359.9999, 10.0, -100.0, "WFI03"),
    ((4088, 4088), 200.0, -60.0, 45.0, "WFI01"),
    ((4088, 4088), 0.01, 89.99, 170.0, "WFI18"),
]


@cache
def exact(case):
    shape, *where = case
    return wcs_function(build_wcs(shape, *where, 1.00007))


@cache
def fitted(case) -> PixelMap:
    return PixelMap.fit(exact(case), case[0])


def points(shape, n=2000, seed=1):
    rng = np.random.default_rng(seed)
    return rng.uniform(-0.5, shape[1] - 0.5, n), rng.uniform(-0.5, shape[0] - 0.5, n)


def grid_at(case, n=5000, offset=(0.0, 0.0), orientation=0.0, **changes) -> Grid:
    """Grid whose middle is `offset` pixels from the middle of the exposure."""
    (ny, nx), *_ = case
    ra, dec = exact(case)(np.array([(nx - 1) / 2]), np.array([(ny - 1) / 2]))
    middle = (n - 1) / 2
    return Grid(
        *(float(ra[0]), float(dec[0]), middle + offset[0], middle + offset[1], SCALE, n, n),
        orientation,
        **changes,
    )


@pytest.mark.parametrize("case", EXPOSURES, ids=str)
def test_sky_and_detector_are_the_gwcs(case):
    own, (x, y) = fitted(case), points(case[0])
    ra, dec = exact(case)(x, y)
    error = np.linalg.norm(unit_vector(*own.sky(x, y)) - unit_vector(ra, dec), axis=0)
    assert error.max() < 1e-7 * PIXEL
    np.testing.assert_allclose(own.detector(ra, dec), [x, y], rtol=0, atol=1e-7)
    np.testing.assert_allclose(own.detector(*own.sky(x, y)), [x, y], rtol=0, atol=1e-7)
    assert own.error < 1e-7


@pytest.mark.parametrize("case", EXPOSURES, ids=str)
@pytest.mark.parametrize("orientation", [0.0, 45.0, 110.0])
@pytest.mark.parametrize("x_east", [True, False])
def test_grid_positions_are_the_gwcs_and_the_grid(case, orientation, x_east):
    n = 500 if case[0][0] <= 300 else 5000
    grid = grid_at(case, n, (n / 3, -n / 4), orientation, x_east=x_east)
    own = fitted(case).on_grid(grid)
    ny, nx = case[0]
    xs, ys = np.sort(points((ny, nx), 40, 2))
    ra, dec = exact(case)(*np.meshgrid(xs, ys))
    expected = np.array(grid.to_pixel(ra, dec))
    found = np.array(own.forward(xs, ys))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7)
    # Back, at grid pixels that the detector covers.
    gx, gy = np.linspace(-0.5, n - 0.5, 47), np.linspace(-0.5, n - 0.5, 45)
    x, y = own.inverse(gx, gy)
    seen = (x > -0.5) & (x < nx - 0.5) & (y > -0.5) & (y < ny - 0.5)
    assert seen.sum() >= 4 or min(ny, nx) < 200
    ra, dec = exact(case)(x[seen], y[seen])
    back = grid.to_pixel(ra, dec)
    mesh = np.meshgrid(gx, gy)
    np.testing.assert_allclose(back, [mesh[0][seen], mesh[1][seen]], rtol=0, atol=1e-6)


def test_pixel_ratio_is_the_ratio_of_areas():
    case = EXPOSURES[1]
    own = fitted(case).on_grid(grid_at(case, 1000))
    (ny, nx), h = case[0], 0.5
    cx, cy = (nx - 1) / 2, (ny - 1) / 2
    x = cx + np.array([-h, h, h, -h])
    y = cy + np.array([-h, -h, h, h])
    gx, gy = own.grid.to_pixel(*exact(case)(x, y))
    area = 0.5 * abs(np.sum(gx * np.roll(gy, -1) - gy * np.roll(gx, -1)))
    assert own.pixel_ratio == pytest.approx(area, rel=1e-4)
    assert 3.5 < own.pixel_ratio < 4.6


def test_inverse_is_nan_outside_the_grid_window():
    case = EXPOSURES[1]
    own = fitted(case).on_grid(grid_at(case, 2000))
    y0, _, x0, x1 = own.grid_window()
    x, y = own.inverse(np.array([x0 - 3.0, x0, x1 - 1.0, x1 + 3.0]), np.array([y0 - 3.0, y0 + 0.0]))
    assert np.isnan(x[0]).all() and np.isnan(x[:, [0, 3]]).all()
    assert np.isfinite(x[1, 1:3]).all()
    np.testing.assert_array_equal(np.isnan(x), np.isnan(y))


@pytest.mark.parametrize("seed", range(12))
def test_window_holds_every_pixel_that_falls_in_the_grid(seed):
    rng = np.random.default_rng(seed)
    case = EXPOSURES[rng.integers(5)]
    ny, nx = case[0]
    n = int(rng.choice([1, 3, 40, 300, 1500]))
    reach = n / 2 + 1.6 * max(ny, nx)
    offset = tuple(rng.uniform(-reach, reach, 2))
    grid = grid_at(case, n, offset, rng.uniform(0, 360), x_east=bool(rng.integers(2)))
    own = fitted(case).on_grid(grid)
    ra, dec = exact(case)(*np.meshgrid(np.arange(nx), np.arange(ny)))
    x, y = grid.to_pixel(ra, dec)
    # A detector pixel is two grid pixels wide, and half again across its diagonal.
    touches = (x > -2.0) & (x < n + 1.0) & (y > -2.0) & (y < n + 1.0)
    window, box = own.window(), own.grid_window()
    rows, columns = np.nonzero(touches)
    if window is None:
        assert not touches.any()
        return
    y0, y1, x0, x1 = window
    assert 0 <= y0 < y1 <= ny and 0 <= x0 < x1 <= nx
    if not rows.size:
        return
    assert y0 <= rows.min() and rows.max() < y1 and x0 <= columns.min() and columns.max() < x1
    # And is not wasteful, where the grid lies square within the detector.
    inside = (x > -0.5) & (x < n - 0.5) & (y > -0.5) & (y < n - 0.5)
    if inside.any():
        gy0, gy1, gx0, gx1 = box
        assert gy0 <= np.floor(y[inside].min()) + 1 and gy1 >= np.ceil(y[inside].max())
        assert gx0 <= np.floor(x[inside].min()) + 1 and gx1 >= np.ceil(x[inside].max())


def test_window_is_tight_for_a_small_grid_inside():
    case = EXPOSURES[4]
    own = fitted(case).on_grid(grid_at(case, 100, (300.0, -200.0)))
    y0, y1, x0, x1 = own.window()
    assert y1 - y0 < 90 and x1 - x0 < 90
    assert own.grid_window() == (0, 100, 0, 100)


def test_one_pixel_of_overlap_is_not_lost():
    case = EXPOSURES[1]
    ny, nx = case[0]
    full = fitted(case).on_grid(grid_at(case, 4000))
    x, y = full.forward(np.array([0.0, nx - 1.0]), np.array([0.0, ny - 1.0]))
    for px, py in zip(x.ravel(), y.ravel(), strict=True):
        # Grids that hold the middle of one corner pixel only just.
        for dx, dy in ((0, 0), (-30, 0), (0, -30), (-30, -30)):
            grid = grid_at(case, 4000)
            corner = Grid(
                *(grid.ra0, grid.dec0, grid.x0 - (int(px) + dx), grid.y0 - (int(py) + dy)),
                *(SCALE, 31, 31),
            )
            assert fitted(case).on_grid(corner).window() is not None


@pytest.mark.parametrize("seed", range(4))
def test_grids_elsewhere_are_missed(seed):
    rng = np.random.default_rng(seed)
    for case in EXPOSURES:
        z, ra = rng.uniform(-1, 1), rng.uniform(0, 360)
        grid = Grid(ra, np.degrees(np.arcsin(z)), 2499.5, 2499.5, SCALE, 5000, 5000)
        own = fitted(case).on_grid(grid)
        (ny, nx), *_ = case
        sky = exact(case)(np.array([(nx - 1) / 2]), np.array([(ny - 1) / 2]))
        if unit_vector(*sky)[:, 0] @ grid.frame[2] > np.cos(np.radians(0.3)):
            continue
        assert own.window() is None and own.grid_window() is None
        x, y = own.inverse(np.arange(3.0), np.arange(2.0))
        assert x.shape == y.shape == (2, 3) and np.isnan(x).all() and np.isnan(y).all()


@pytest.mark.parametrize("distance", [89.9, 89.99, 89.9990, 90.0, 90.001, 90.1, 135.0, 180.0])
def test_horizon_and_antipode_of_the_grid(distance):
    case = EXPOSURES[4]
    _, ra, dec, *_ = case
    for n in (10, 50_000):
        grid = Grid(ra, dec + distance - 180 * (dec + distance > 90), n / 2, n / 2, SCALE, n, n)
        if dec + distance > 90:  # over the pole
            grid = Grid((ra + 180) % 360, 180 - dec - distance, n / 2, n / 2, SCALE, n, n)
        own = fitted(case).on_grid(grid)
        assert own.window() is None and own.grid_window() is None
        own.forward(np.arange(3.0), np.arange(3.0))


def test_detector_is_nan_beyond_its_reach():
    own = fitted(EXPOSURES[4])
    ra, dec = np.array([359.9999, 179.9999, 359.9999, 0.5]), np.array([10.0, -10.0, 11.0, 10.0])
    x, y = own.detector(ra, dec)
    np.testing.assert_array_equal(np.isnan(x), [False, True, True, True])
    np.testing.assert_array_equal(np.isnan(y), np.isnan(x))
    # One pixel outside is still within reach: sky blocks and stars at the edge need it.
    x, y = own.detector(*own.sky(np.array([-1.0, 1000.0]), np.array([500.0, 1000.0])))
    np.testing.assert_allclose([x, y], [[-1.0, 1000.0], [500.0, 1000.0]], atol=1e-6)


def test_single_numbers_stay_single():
    own = fitted(EXPOSURES[1])
    ra, dec = own.sky(10.0, 20.0)
    assert np.shape(ra) == () and np.shape(own.detector(ra, dec)[0]) == ()
    assert own.sky(np.zeros((2, 3)), 1.0)[0].shape == (2, 3)


def test_tree_round_trip_is_exact():
    own = fitted(EXPOSURES[5])
    tree = json.loads(json.dumps(own.to_tree(), default=np.ndarray.tolist))
    again = PixelMap.from_tree(tree)
    x, y = points((4088, 4088), 100)
    for one, other in zip(own.sky(x, y), again.sky(x, y), strict=True):
        np.testing.assert_array_equal(one, other)
    sky = own.sky(x, y)
    for one, other in zip(own.detector(*sky), again.detector(*sky), strict=True):
        np.testing.assert_array_equal(one, other)
    assert again.shape == own.shape and again.error == own.error
    grid = grid_at(EXPOSURES[5])
    assert again.on_grid(grid).window() == own.on_grid(grid).window()


def test_mirrored_and_sheared_detectors():
    case = EXPOSURES[1]
    nx = case[0][1]

    def mirrored(x, y):
        return exact(case)(nx - 1 - np.asarray(x) + 0.3 * np.asarray(y), y)

    own, (x, y) = PixelMap.fit(mirrored, case[0]), points(case[0], 300)
    np.testing.assert_allclose(own.detector(*mirrored(x, y)), [x, y], atol=1e-7)


def test_strong_distortion_takes_a_higher_degree():
    case = EXPOSURES[5]

    def rippled(x, y):
        return exact(case)(x + 0.3 * np.sin(2 * np.pi * y / 2000), y + 0.3 * np.cos(x / 400))

    own, (x, y) = PixelMap.fit(rippled, case[0]), points(case[0])
    assert own.forward.coefficients.shape[1] > 10
    ra, dec = rippled(x, y)
    np.testing.assert_allclose(own.detector(ra, dec), [x, y], atol=1e-4)
    # The box of a turned grid reaches beyond the detector, where a high degree grows wild.
    for orientation in (0.0, 45.0, 90.0):
        grid = grid_at(case, 12_000, orientation=orientation)
        gridmap = own.on_grid(grid)
        gx, gy = grid.to_pixel(ra[:50], dec[:50])
        found = np.array([np.ravel(gridmap.inverse([a], [b])) for a, b in zip(gx, gy, strict=True)])
        np.testing.assert_allclose(found, np.transpose([x[:50], y[:50]]), rtol=0, atol=1e-4)


def step(x, y):
    ra, dec = exact(EXPOSURES[1])(x, y)
    return ra, dec + 1e-4 * (np.asarray(x) > 150)


def kink(x, y):
    return exact(EXPOSURES[1])(np.abs(np.asarray(x) - 120.3) ** 1.5, y)


def noise(x, y):
    ra, dec = exact(EXPOSURES[1])(x, y)
    return ra, dec + np.random.default_rng(1).normal(0, 1e-6, np.shape(dec))


@pytest.mark.parametrize(
    ("wcs", "what"),
    [
        (step, "jumps or folds by 3"),
        (kink, "folds"),
        (noise, "is not smooth: the pixel map is off"),
    ],
)
def test_a_wcs_that_has_no_map_is_refused(wcs, what):
    with pytest.raises(ExposureError, match=what) as e:
        PixelMap.fit(wcs, (200, 300))
    assert "\n" not in str(e.value)


def nowhere(x, y):
    return np.full(np.shape(x), np.nan), np.full(np.shape(x), np.nan)


def half(x, y):
    ra, dec = exact(EXPOSURES[1])(x, y)
    return np.where(np.asarray(x) > 200, np.nan, ra), dec


def constant(x, y):
    return np.full(np.shape(x), 10.0), np.full(np.shape(x), 20.0)


def line(x, y):
    return 10 + np.asarray(x) * 3e-5, 20 + 0 * np.asarray(x)


@pytest.mark.parametrize("wcs", [nowhere, half, constant, line])
def test_a_wcs_without_positions_is_refused(wcs):
    with pytest.raises(ExposureError) as e:
        PixelMap.fit(wcs, (200, 300))
    assert "\n" not in str(e.value)


def test_error_bound_is_the_documented_one():
    assert pixmap_module.TOLERANCE == 1e-4
