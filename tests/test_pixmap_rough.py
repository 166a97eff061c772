"""WCSs that no series follows, and those with limits and units: positions of every consumer against gwcs."""

from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
from romosaic import product
from romosaic.drizzle_tiles import place_tiles
from romosaic.drizzling import Drizzle
from romosaic.errors import ExposureError, ProductError
from romosaic.exposure import pixel_map, read_exposure, read_record, wcs_function
from romosaic.flux import calibrate
from romosaic.flux_file import open_flux, write_flux
from romosaic.grid import Grid, unit_vector
from romosaic.outlier_detection import DETECTOR_PATCH, GRID_PATCH, detect_outliers
from romosaic.outlier_kernels import HALO
from romosaic.patches import Patches, cut
from romosaic.pixmap import PixelMap
from romosaic.simulate_wcs import build_wcs

SHAPE = (130, 150)
SCALE = 0.055 / 3600
PIXEL = np.radians(0.11 / 3600)


@cache
def roman(shape=SHAPE, ra=359.9995, dec=84.85, roll=33.0, detector="WFI01"):
    return build_wcs(shape, ra, dec, roll, detector, 1.00007)


def tabulated(pitch, amplitude, seed=0, beyond=3, raises=False):
    """Put bilinear tables of detector shifts in front of Roman's distortion; NaN or an error beyond."""
    from astropy.modeling import models
    from gwcs import WCS

    ny, nx = SHAPE
    rng = np.random.default_rng(seed)
    knots = [np.linspace(-0.5 - beyond, n - 0.5 + beyond, int(n / pitch) + 2) for n in (nx, ny)]
    x, y = (
        models.Tabular2D(
            points=knots,
            lookup_table=knots[k].reshape((-1, 1) if k == 0 else (1, -1))
            + rng.normal(0, amplitude, [len(t) for t in knots]),
            bounds_error=raises,
            fill_value=np.nan,
        )
        for k in range(2)
    )
    steps = roman().pipeline
    table = models.Mapping((0, 1, 0, 1)) | x & y
    first = (steps[0].frame, table | steps[0].transform)
    return wcs_function(WCS([first, *[(s.frame, s.transform) for s in steps[1:]]]))


def moved(dx, dy):
    own = wcs_function(roman())
    return lambda x, y: own(x + dx(x, y), y + dy(x, y))


def jumping():
    return moved(lambda x, y: 0.4 * (x > 60.2), lambda x, y: -0.3 * (y + 0.2 * x > 71.7))


def rippled():
    return moved(
        lambda x, y: 0.2 * np.sin(2 * np.pi * y / 31), lambda x, y: 0.1 * np.cos(2 * np.pi * x / 27)
    )


ROUGH = {
    "table": (lambda: tabulated(16, 0.03), 0.5),
    "jump": (jumping, 0.5),
    "ripple": (rippled, 1.0),
}


@pytest.fixture(params=ROUGH)
def rough(request):
    make, step = ROUGH[request.param]
    wcs = make()
    return SimpleNamespace(wcs=wcs, step=step, pixmap=mapped(request.param))


@cache
def mapped(name):
    return PixelMap.fit(ROUGH[name][0](), SHAPE)


def lattices(shape=SHAPE):
    """Centres and corners of all pixels: columns and rows."""
    ny, nx = shape
    return [(np.arange(nx + k) - k / 2, np.arange(ny + k) - k / 2) for k in range(2)]


def grid_on(wcs, n=300, orientation=20.0, shape=SHAPE) -> Grid:
    ra, dec = wcs(np.array([shape[1] / 2.0]), np.array([shape[0] / 2.0]))
    return Grid(float(ra[0]), float(dec[0]), n / 2, n / 2, SCALE, n, n, orientation)


def test_every_pixel_is_where_the_wcs_says(rough):
    own = rough.pixmap
    assert own.table.step == rough.step
    assert own.to_tree()["kind"] == "table" and own.error < 5e-5
    for xs, ys in lattices():
        x, y = np.meshgrid(xs, ys)
        sky = rough.wcs(x, y)
        error = np.linalg.norm(unit_vector(*own.sky(x, y)) - unit_vector(*sky), axis=0)
        assert error.max() < 1e-4 * PIXEL
        back = np.array(own.detector(*sky))
        # Two pixels next to each other may be one place where the map jumps: no inverse tells them apart.
        assert np.quantile(np.abs(back - [x, y]), 0.97) < 1e-4
        np.testing.assert_allclose(back, [x, y], rtol=0, atol=0.8)
        if rough.step == 1.0:
            np.testing.assert_allclose(back, [x, y], rtol=0, atol=1e-4)


def test_grid_positions_both_ways(rough):
    grid = grid_on(rough.wcs)
    gridmap = rough.pixmap.on_grid(grid)
    for xs, ys in lattices():
        wanted = grid.to_pixel(*rough.wcs(*np.meshgrid(xs, ys)))
        np.testing.assert_allclose(gridmap.forward(xs, ys), wanted, rtol=0, atol=2e-4)
    gx, gy = np.arange(10, 290, 7), np.arange(10, 290, 5)
    x, y = gridmap.inverse(gx, gy)
    on = (x > 0) & (x < SHAPE[1] - 1) & (y > 0) & (y < SHAPE[0] - 1)
    back = np.array(rough.pixmap.on_grid(grid).grid.to_pixel(*rough.pixmap.sky(x[on], y[on])))
    apart = np.abs(back - np.array(np.meshgrid(gx, gy))[:, on]).max(axis=0)
    assert on.sum() > 500 and np.quantile(apart, 0.95) < 1e-5 and apart.max() < 1.0


def test_windows_hold_all_that_touches(rough):
    x, y = np.meshgrid(*lattices()[0])
    ra, dec = rough.wcs(x, y)
    for n, shift in ((20, 40.0), (61, -90.0), (300, 0.0)):
        grid = grid_on(rough.wcs, n)
        grid = Grid(grid.ra0, grid.dec0, grid.x0 + shift, grid.y0 - shift, SCALE, n, n, 50.0)
        gx, gy = grid.to_pixel(ra, dec)
        touches = (gx > -2) & (gx < n + 1) & (gy > -2) & (gy < n + 1)
        y0, y1, x0, x1 = rough.pixmap.on_grid(grid).window()
        rows, columns = np.nonzero(touches)
        assert y0 <= rows.min() and rows.max() < y1 and x0 <= columns.min() and columns.max() < x1


def test_both_engines_drizzle_with_exact_corners(rough):
    grid = grid_on(rough.wcs, 420)
    rng = np.random.default_rng(3)
    planes = rng.uniform(0.5, 1.5, (*SHAPE, 2)).astype(np.float32)
    tiles, of_plane = place_tiles(rough.pixmap, grid)
    xs, ys = lattices()[1]
    wanted = np.array(grid.to_pixel(*rough.wcs(*np.meshgrid(xs, ys))))
    for tile in tiles:
        y0, y1, x0, x1 = tile.box
        found = tile.corners(of_plane) + np.reshape(tile.corner[::-1], (2, 1, 1)) - 0.5
        np.testing.assert_allclose(found, wanted[:, y0 : y1 + 1, x0 : x1 + 1], rtol=0, atol=2e-4)
    made = []
    for engine in ("tiled", "drizzle"):
        drizzle = Drizzle(grid, 2, 1, engine=engine)
        placement = drizzle.place(rough.pixmap)
        y0, y1, x0, x1 = placement.window
        drizzle.add(0, placement, planes[y0:y1, x0:x1], 1.0)
        made.append(drizzle.sums)
        # The detector lies in the grid: no pixel may be lost or counted twice.
        np.testing.assert_allclose(
            drizzle.sums.sum(axis=(1, 2), dtype=float),
            planes.sum(axis=(0, 1), dtype=float),
            rtol=1e-4,
        )
    # The library makes each pixel of its centre and its neighbours', which is no quadrilateral at a jump.
    assert np.quantile(np.abs(made[0] - made[1]), 0.9) < 2e-3


def member(pixmap, wcs, grid, seed=0, hot=()):
    """Exposure of a sky with stars at places of the grid, blurred so that resampling does not matter."""
    x, y = np.meshgrid(*lattices()[0])
    gx, gy = grid.to_pixel(*wcs(x, y))
    data = np.random.default_rng(seed).normal(0, 0.05, SHAPE)
    for sx, sy in ((120, 130), (170, 160), (150, 190)):
        data += 5 * np.exp(-((gx - sx) ** 2 + (gy - sy) ** 2) / 32)
    for row, column in hot:
        data[row, column] += 30
    return SimpleNamespace(
        shape=SHAPE,
        data=data.astype(np.float32),
        dq=np.zeros(SHAPE, np.uint32),
        pixmap=pixmap,
        optical_element="F158",
        sky_variance=0.05**2,
        pedestal=0.0,
        poisson_slope=0.0,
    )


def test_outliers_of_rough_and_smooth_members(rough):
    """Positions off by half a pixel would flag the stars."""
    smooth = wcs_function(roman())
    grid, hot = grid_on(rough.wcs), [(40, 50), (80, 100), (65, 61)]
    own = PixelMap.fit(smooth, SHAPE)
    members = [
        member(rough.pixmap, rough.wcs, grid, 0, hot),
        *(member(own, smooth, grid, k) for k in (1, 2, 3)),
    ]
    parameters = {
        "noise": "model",
        "snr": (5.0, 4.0),
        "scale": (1.2, 0.7),
        "backg": 0.0,
        "maskpt": 0.7,
        "good_bits": "~DO_NOT_USE+NON_SCIENCE",
        "memory_mb": 100,
    }
    flagged = [f for f, _ in detect_outliers(members, np.zeros(4), grid, parameters)]
    assert flagged[0].tolist() == sorted(r * SHAPE[1] + c for r, c in hot)
    assert sum(len(f) for f in flagged[1:]) <= 1


def test_flux_file_keeps_the_table(rough, tmp_path, survey):
    raw = read_exposure(survey.paths[survey.names[0]])
    made_of = product.provenance({}, [("a", "b")])
    path = tmp_path / "a_flux.asdf"
    calibrated = calibrate(raw.arrays, 1.0, where="a")
    write_flux(path, raw.blocks, calibrated, rough.pixmap, "a", made_of)
    again = open_flux(path).pixmap
    assert again.error == rough.pixmap.error
    x, y = np.meshgrid(*lattices()[1])
    np.testing.assert_array_equal(again.sky(x, y), rough.pixmap.sky(x, y))


def test_a_damaged_table_of_a_flux_file_is_told(rough, tmp_path, survey):
    raw = read_exposure(survey.paths[survey.names[0]])
    path = tmp_path / "a_flux.asdf"
    made_of = product.provenance({}, [("a", "b")])
    write_flux(path, raw.blocks, calibrate(raw.arrays, 1.0, where="a"), rough.pixmap, "a", made_of)
    found = open_flux(path)
    block = found.blocks.blocks[found.tree["romosaic"]["pixmap"]["table"]["values"]["source"]]
    content = bytearray(path.read_bytes())
    content[block.start + block.used - 1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ProductError, match="is corrupt"):
        _ = open_flux(path).pixmap  # a small one is refused when the file is opened


def test_wcs_that_no_series_follows_is_followed_by_flux(tmp_path, image_model):
    import asdf
    from astropy.modeling import models
    from gwcs import WCS

    knots = np.linspace(-8.0, 264.0, 18)
    shift = models.Tabular2D(
        points=[knots, knots],
        lookup_table=knots[:, None] + np.random.default_rng(3).normal(0, 0.03, (18, 18)),
    )
    steps = image_model.meta.wcs.pipeline
    table = models.Mapping((0, 1, 1)) | shift & models.Identity(1)
    first = (steps[0].frame, table | steps[0].transform)
    image_model.meta["wcs"] = WCS([first, *[(s.frame, s.transform) for s in steps[1:]]])
    path = tmp_path / "a_cal.asdf"
    asdf.AsdfFile({"roman": image_model._instance}).write_to(path)
    record = read_record(path)
    assert record["pixmap"] is None  # too large for a record
    pixmap = pixel_map(path, record)
    assert pixmap.table is not None
    x, y = np.random.default_rng(4).integers(0, 256, (2, 500)).astype(float)
    np.testing.assert_allclose(
        pixmap.detector(*wcs_function(image_model.meta.wcs)(x, y)), [x, y], rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("beyond", [0.0, 0.7, 3.0, -0.5])
def test_a_wcs_that_ends_with_the_detector(beyond, raises):
    wcs = tabulated(1000, 0.0, beyond=beyond, raises=raises)
    own = PixelMap.fit(wcs, SHAPE)
    x, y = np.meshgrid(*lattices()[0])
    np.testing.assert_allclose(own.detector(*wcs(x, y)), [x, y], rtol=0, atol=1e-6)
    # Corners beyond the last pixel centres are those of the smooth continuation.
    exact = wcs_function(roman())
    x, y = np.meshgrid(*lattices()[1])
    error = unit_vector(*own.sky(x, y)) - unit_vector(*exact(x, y))
    assert np.linalg.norm(error, axis=0).max() < 1e-6 * PIXEL
    assert own.on_grid(grid_on(wcs)).window() == (0, SHAPE[0], 0, SHAPE[1])


def test_a_hole_in_the_wcs_is_refused():
    own = wcs_function(roman())

    def wcs(x, y):
        ra, dec = own(x + 0.01 * np.abs(x - 70.3), y)
        return np.where(np.hypot(x - 40.0, y - 40.0) < 1.2, np.nan, ra), dec

    with pytest.raises(ExposureError, match="gives no position for a part of the detector"):
        PixelMap.fit(wcs, SHAPE)


def test_a_wcs_with_units_and_one_with_a_bounding_box():
    from astropy import coordinates, units
    from astropy.modeling import models
    from gwcs import WCS, coordinate_frames

    def plain(pixel, degree):
        return (
            models.Shift(-70.0 * pixel) & models.Shift(-60.0 * pixel)
            | models.Multiply(3.1e-5 * degree / pixel) & models.Multiply(3e-5 * degree / pixel)
            | models.Pix2Sky_TAN()
            | models.RotateNative2Celestial(10.0 * degree, -89.999 * degree, 180.0 * degree)
        )

    frames = (
        coordinate_frames.Frame2D(name="detector", unit=(units.pix, units.pix)),
        coordinate_frames.CelestialFrame(reference_frame=coordinates.ICRS(), name="world"),
    )
    maps = []
    for transform in (plain(1, 1), plain(units.pix, units.deg)):
        wcs = WCS([(frames[0], transform), (frames[1], None)])
        wcs.bounding_box = ((10, SHAPE[1] - 10), (10, SHAPE[0] - 10))
        wcs.array_shape = SHAPE
        maps.append(PixelMap.fit(wcs_function(wcs), SHAPE))
        assert maps[-1].error < 1e-7 and maps[-1].table is None
    x, y = np.meshgrid(*lattices()[1])
    with_units, without = (m.detector(*maps[0].sky(x, y)) for m in maps)
    np.testing.assert_allclose(with_units, without, rtol=0, atol=1e-7)


PLACES = [(0.0, 84.7), (359.99, 84.85), (0.01, 85.0), (123.0, -90.0), (7.0, 89.9999), (0.0, 0.0)]


@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize("roll", [0.0, 61.0, 90.0, 180.0, 299.0])
@pytest.mark.parametrize("mirror", [False, True])
def test_positions_of_every_consumer_of_a_smooth_map(place, roll, mirror):
    """Maps, blot and tiles to 1e-6 pixels of the gwcs, composed exactly with the grid."""
    shape = (600, 1000)
    own = wcs_function(roman(shape, *place, roll))
    wcs = (lambda x, y: own(shape[1] - 1 - x, y)) if mirror else own
    pixmap = PixelMap.fit(wcs, shape)
    grid = grid_on(wcs, 1500, roll / 3, shape)
    x, y = (np.sort(np.random.default_rng(1).uniform(-0.5, n - 0.5, 31)) for n in shape[::-1])
    wanted = np.array(grid.to_pixel(*wcs(*np.meshgrid(x, y))))
    np.testing.assert_allclose(pixmap.on_grid(grid).forward(x, y), wanted, rtol=0, atol=1e-6)
    tiles, of_plane = place_tiles(pixmap, grid)
    for tile in tiles[::3]:
        assert tile.cx.size and not tile.corners(of_plane).size
        y0, y1, x0, x1 = tile.box
        u, v = np.array([-1.0, -0.4, 0.51, 1.0]), np.array([-0.99, 0.21, 0.77])
        at = np.meshgrid(
            (x0 + x1 - 1) / 2 + u * (x1 - x0) / 2, (y0 + y1 - 1) / 2 + v * (y1 - y0) / 2
        )
        powers = [np.vander(t, len(tile.cx), increasing=True) for t in (v, u)]
        found = [powers[0] @ c @ powers[1].T for c in (tile.cx, tile.cy)]
        exact = grid.to_pixel(*wcs(*at))
        for axis in range(2):
            offset = exact[axis] - (tile.corner[1 - axis] - 0.5)
            np.testing.assert_allclose(found[axis], offset, rtol=0, atol=1e-6)
    gridmap = pixmap.on_grid(grid)
    rows, columns = (cut(0, n, DETECTOR_PATCH) for n in shape)
    blot = Patches.fit(gridmap.forward, rows, columns, gridmap.smooth, HALO)
    box = gridmap.grid_window()
    sampled = Patches.fit(
        gridmap.inverse, cut(*box[:2], GRID_PATCH), cut(*box[2:], GRID_PATCH), gridmap.smooth
    )
    assert blot.good.all() and sampled.good.all()
    for row, column in ((0, 0), (2, 4), (len(rows) - 1, len(columns) - 1)):
        xs, ys = np.arange(*columns[column], 9), np.arange(*rows[row], 7)
        found = evaluated(blot, row, column, xs, ys)
        exact = grid.to_pixel(*wcs(*np.meshgrid(xs, ys)))
        np.testing.assert_allclose(found, exact, rtol=0, atol=1e-6)


def evaluated(patches, row, column, xs, ys):
    """Positions by the cubic of a patch."""
    x0, sx, y0, sy = patches.place[row, column]
    u, v = (np.vander(t, 4, increasing=True) for t in ((xs - x0) * sx, (ys - y0) * sy))
    return [v @ c @ u.T for c in patches.coefficients[row, column]]


def test_cubics_that_do_not_follow_give_way_to_tables():
    """A smooth map that bends too much for a cubic within a patch, and one that is rough."""
    for bend, smooth in ((lambda t: 1e-4 * np.sin(t / 20), True), (lambda t: 1e-9 * t, False)):

        def lattice(xs, ys, bend=bend):
            x, y = np.meshgrid(xs, ys)
            return x + bend(y), y - bend(x)

        rows = columns = cut(3, 300, 128)
        patches = Patches.fit(lattice, rows, columns, smooth)
        assert not patches.good[0, 0]
        *_, table = patches.positions(0, 0, (5, 9, 7, 12))
        np.testing.assert_array_equal(table, lattice(np.arange(7, 12), np.arange(5, 9)))
