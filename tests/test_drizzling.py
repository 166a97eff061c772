"""Drizzling: the tiled engine against exact geometry and against the drizzle library."""

import numpy as np
import pytest
from drizzle_scene import detector, exact_sums, grid, skycell
from romosaic import threads
from romosaic.drizzle_tiles import FIELD, PITCH, field_edges, place_tiles
from romosaic.drizzling import KERNELS, Drizzle, choose_engine
from romosaic.exposure import wcs_function
from romosaic.pixmap import PixelMap
from romosaic.simulate_wcs import build_wcs
from romosaic.skymap import SkyMap

PLACES = {
    "inside": {"roll": 30.0},
    "unrotated": {"roll": 0.0},
    "quarter turn": {"roll": 90.0},
    "mirrored": {"roll": -17.0, "mirror": True},
    "over the right border": {"roll": 63.0, "at": (95.0, 10.0)},
    "over the lower left corner": {"roll": 130.0, "at": (-90.0, -80.0)},
    "mirrored over the top": {"roll": 5.0, "at": (10.0, 100.0), "mirror": True},
}
each_place = pytest.mark.parametrize("where", PLACES.values(), ids=PLACES.keys())


def planes_of(shape, n_planes=3, seed=1) -> np.ndarray:
    """Random planes with the weight in plane 1; a few bad pixels are zero."""
    rng = np.random.default_rng(seed)
    planes = rng.uniform(0.5, 1.5, (*shape, n_planes)).astype(np.float32)
    planes[..., 1:2] = 1.0
    planes[rng.random(shape) < 0.03] = 0.0
    return planes


def add(drizzle: Drizzle, pixmap, planes, member=0, weight=1.0):
    placement = drizzle.place(pixmap)
    y0, y1, x0, x1 = placement.window
    window = np.ascontiguousarray(planes[y0:y1, x0:x1])
    return drizzle.add(member, placement, window, weight)


def drizzled(pixmap, planes, output, **options) -> Drizzle:
    made = Drizzle(output, planes.shape[2], 1, **options)
    add(made, pixmap, planes)
    return made


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("at", [(0.0, 0.0), (-12.0, 9.0)], ids=["inside", "over a corner"])
def test_tiles_give_the_exact_overlaps_on_a_bent_detector(at, mirror):
    pixmap = detector((14, 16), at=at, roll=28.0, mirror=mirror, bend=1.5)
    output = grid(40, 36)
    planes = planes_of(pixmap.shape)
    made = drizzled(pixmap, planes, output)
    exact = exact_sums(pixmap, planes, output)
    exact[:, exact[1] <= 1e-6 * 0.25] = 0
    assert np.abs(made.sums - exact).max() < 1e-7
    assert np.array_equal(made.context[0] > 0, exact[1] > 0)


@each_place
def test_engines_agree(where):
    pixmap, output = detector(**where), grid(200, 190)
    planes = planes_of(pixmap.shape)
    tiled, library = (drizzled(pixmap, planes, output, engine=e) for e in ("tiled", "drizzle"))
    assert np.array_equal(tiled.context, library.context)
    weight = tiled.sums[1]
    assert np.abs(weight - library.sums[1]).max() < 1e-5 * weight.max()
    covered = weight > 0
    assert covered.sum() > 1000
    for p in (0, 2):
        ratio = library.sums[p][covered] / library.sums[1][covered]
        assert np.abs(tiled.sums[p][covered] / weight[covered] / ratio - 1).max() < 1e-6


@pytest.mark.parametrize("roll", [0.0, 33.0, 90.0])
def test_engines_agree_on_every_pixel_of_an_exposure_with_the_real_distortion(roll):
    """Data to 1e-6, weight to 1e-5 (here 1e-6), the borders of the exposure and of the skycell included."""
    cell = SkyMap().cell("000p86x52y60").grid  # its corner lies in the exposure
    shape = (1000, 900)
    pixmap = PixelMap.fit(wcs_function(build_wcs(shape, 11.2982, 86.44203, roll)), shape)
    planes = planes_of(shape)
    tiled, library = (drizzled(pixmap, planes, cell, engine=e) for e in ("tiled", "drizzle"))
    assert np.array_equal(tiled.context, library.context)
    covered = tiled.sums[1] > 0
    assert 1e6 < covered.sum() < 2e6
    assert covered[0].sum() > 900 and covered[:, 0].sum() > 900
    # all sums of float32: a few roundings of 6e-8
    sums, others = tiled.sums[:, covered].astype(float), library.sums[:, covered].astype(float)
    assert np.abs(sums[1] / others[1] - 1).max() < 1e-6
    for p in (0, 2):
        assert np.abs(sums[p] / sums[1] * others[1] / others[p] - 1).max() < 1e-6


@pytest.mark.parametrize("pixfrac", [0.4, 0.7, 1.0])
def test_library_places_the_corners_of_drops_where_the_map_has_them(pixfrac):
    pixmap, output = detector((12, 12), roll=25.0, bend=0.5), grid(30)
    made = drizzled(
        pixmap, np.ones((12, 12, 2), np.float32), output, engine="drizzle", pixfrac=pixfrac
    )
    exact = exact_sums(pixmap, np.ones((12, 12, 1)), output, pixfrac=pixfrac)[0]
    exact[exact < 1e-6] = 0
    assert np.abs(made.sums[1] - exact).max() < 2e-6


def test_engines_count_the_same_pixels():
    pixmap, output = detector(at=(90.0, 30.0)), grid(200)
    planes = planes_of(pixmap.shape)
    counts = []
    for engine in ("tiled", "drizzle"):
        made = Drizzle(output, planes.shape[2], 1, engine=engine)
        counts.append(add(made, pixmap, planes))
        assert counts[-1][1] == np.count_nonzero(made.sums[1])
    assert counts[0] == counts[1]
    x, y = pixmap.on_grid(output).forward(np.arange(70), np.arange(80))
    inside = (x >= -0.5) & (x < 199.5) & (y >= -0.5) & (y < 199.5)
    assert counts[0][0] == np.count_nonzero(inside & (planes[..., 1] > 0))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("pixfrac", [1.0, 0.7])
def test_library_keeps_a_constant_image_with_every_kernel(kernel, pixfrac):
    pixmap, output = detector(at=(85.0, 0.0)), grid(200)
    planes = np.ones((*pixmap.shape, 2), np.float32) * np.float32([2.5, 1.0])
    made = drizzled(pixmap, planes, output, engine="drizzle", kernel=kernel, pixfrac=pixfrac)
    covered = made.sums[1] > 0
    assert covered.sum() > 1000
    # the lobes of a lanczos kernel cancel at the rim, and the rounding of the sums with them
    steady = made.sums[1] > 0.01 * made.sums[1].max()
    assert np.allclose(made.sums[0][steady] / made.sums[1][steady], 2.5, rtol=1e-5)
    assert np.array_equal(made.context[0] > 0, covered)


def test_library_reaches_the_border_of_the_grid():
    # Unpadded, the library leaves border pixels out.
    pixmap, output = detector((120, 120), roll=37.0), grid(100)
    planes = np.ones((120, 120, 2), np.float32)
    made = drizzled(pixmap, planes, output, engine="drizzle")
    assert np.abs(made.sums[1] - 0.25).max() < 1e-5


def test_library_keeps_the_rim_of_a_bent_detector():
    # Given a bent detector without a rim, the library leaves out its first rows.
    pixmap, output = detector((300, 300), at=(144.0, 144.0), roll=-50.0, bend=3.0), grid(366)
    planes = np.ones((300, 300, 2), np.float32)
    tiled, library = (drizzled(pixmap, planes, output, engine=e) for e in ("tiled", "drizzle"))
    assert np.array_equal(tiled.context, library.context)
    assert np.abs(tiled.sums - library.sums).max() < 1e-4


def test_flux_is_conserved():
    pixmap = detector(roll=41.0, bend=1.0)
    planes = planes_of(pixmap.shape)
    made = drizzled(pixmap, planes, grid(250))
    assert np.allclose(
        made.sums.sum(axis=(1, 2), dtype=float), planes.sum(axis=(0, 1), dtype=float), rtol=1e-6
    )


def test_same_bits_for_any_number_of_threads():
    pixmap = detector((400, 380), bend=1.0)
    planes = planes_of(pixmap.shape, 4)
    one, two, five = (drizzled(pixmap, planes, grid(1100), threads=n) for n in (1, 2, 5))
    assert len(place_tiles(pixmap, grid(1100))[0]) > 4
    assert np.array_equal(one.sums, two.sums)
    assert np.array_equal(one.sums, five.sums)
    assert np.array_equal(one.context, five.context)


def test_two_skycells_agree_bit_for_bit():
    pixmap = detector((300, 340), at=(2400.0, 300.0), roll=33.0, bend=1.0)
    planes = planes_of(pixmap.shape, 4)
    west, east = (drizzled(pixmap, planes, skycell(col, 0)) for col in (0, 1))
    shared = west.sums[:, 2300:3300, 4800:]
    assert np.count_nonzero(shared[1]) > 50000
    assert np.array_equal(shared, east.sums[:, 2300:3300, :200])
    assert np.array_equal(west.context[:, :, 4800:], east.context[:, :, :200])


def test_four_skycells_agree_bit_for_bit():
    pixmap = detector((300, 340), at=(2400.0, -2400.0), roll=-70.0, mirror=True, bend=1.0)
    planes = planes_of(pixmap.shape)
    rows = {0: slice(0, 200), -1: slice(4800, 5000)}
    columns = {0: slice(4800, 5000), 1: slice(0, 200)}
    cells = [
        drizzled(pixmap, planes, skycell(col, row)).sums[:, rows[row], columns[col]].copy()
        for row in rows
        for col in columns
    ]
    assert np.count_nonzero(cells[0][1]) > 0.99 * 200 * 200
    for other in cells[1:]:
        assert np.array_equal(cells[0], other)


def test_any_grids_on_one_lattice_with_skycells_names_agree_bit_for_bit():
    pixmap = detector((120, 110), bend=1.0)
    planes = planes_of(pixmap.shape)
    whole = drizzled(pixmap, planes, grid(300, x=149.5, y=149.5, skycell="a"))
    part = drizzled(pixmap, planes, grid(77, 123, x=62.5, y=40.5, skycell="b"))
    assert np.count_nonzero(part.sums[1]) > 5000
    assert np.array_equal(part.sums, whole.sums[:, 109 : 109 + 123, 87 : 87 + 77])


@pytest.mark.parametrize("col", [-7, -1, 0, 1, 28])
def test_no_tile_crosses_a_skycell_border(col):
    first = PITCH * col - 2499
    edges = field_edges(first, first + 5000)
    assert edges[0] == first
    assert edges[-1] == first + 5000
    assert min(np.diff(edges)) > 0
    assert max(np.diff(edges)) <= FIELD
    assert {PITCH * col - 2499 + 200, PITCH * col + 2501 - 200} <= set(edges)


@pytest.mark.parametrize(("first", "stop"), [(0, 1), (2301, 2302), (-100, 90), (2300, 9999)])
def test_tiles_enclose_any_range(first, stop):
    edges = field_edges(first, stop)
    assert edges[0] <= first < edges[1]
    assert edges[-2] < stop <= edges[-1]
    assert max(np.diff(edges)) <= FIELD


def test_polynomials_of_tiles_follow_the_map():
    pixmap = detector((4088, 4088), at=(1500.0, -800.0), roll=25.0, bend=30.0)
    output = skycell(0, 0)
    gridmap = pixmap.on_grid(output)
    tiles, of_plane = place_tiles(pixmap, output)
    assert of_plane.pixel_ratio == pytest.approx(gridmap.pixel_ratio, rel=1e-9)
    for tile in tiles[::11]:
        y0, y1, x0, x1 = tile.box
        u, v = np.array([-0.77, 0.31, 0.9]), np.array([-0.95, 0.05, 0.6])
        powers = [np.vander(t, len(tile.cx), increasing=True) for t in (v, u)]
        x, y = gridmap.forward(
            (x0 + x1 - 1) / 2 + u * (x1 - x0) / 2, (y0 + y1 - 1) / 2 + v * (y1 - y0) / 2
        )
        at_x = powers[0] @ tile.cx @ powers[1].T + tile.corner[1] - 0.5
        at_y = powers[0] @ tile.cy @ powers[1].T + tile.corner[0] - 0.5
        assert max(np.abs(at_x - x).max(), np.abs(at_y - y).max()) < 1e-7


@pytest.mark.parametrize("roll", [0.0, 38.0, 90.0, -120.0])
def test_tiles_walk_all_pixels_that_touch_them(roll):
    pixmap = detector((300, 420), roll=roll, bend=20.0)
    tiles, of_plane = place_tiles(pixmap, grid(1200))
    assert len(tiles) > 9
    seen = np.zeros((300, 420), bool)
    for tile in tiles:
        y0, y1, x0, x1 = tile.box
        corners = of_plane.forward(np.arange(x0, x1 + 1) - 0.5, np.arange(y0, y1 + 1) - 0.5)
        touches = np.ones((y1 - y0, x1 - x0), bool)
        for c, origin, size in zip(corners, tile.origin, tile.shape[::-1], strict=True):
            four = np.stack([c[:-1, :-1], c[1:, :-1], c[:-1, 1:], c[1:, 1:]]) - origin
            touches &= (four.max(axis=0) > 0) & (four.min(axis=0) < size)
        walked = np.arange(x1 - x0)[None, :]
        walked = (walked >= tile.lo[:, None]) & (walked < tile.hi[:, None])
        assert not (touches & ~walked).any()
        assert walked.sum() < 1.3 * touches.sum() + 8 * sum(touches.shape)  # and hardly more
        rows, columns = np.nonzero(walked)
        window = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
        assert tile.window == tuple(np.add(window, (y0, y0, x0, x0)))
        seen[y0:y1, x0:x1] |= touches
    assert seen.all()


def test_full_detector_leaves_no_seam_between_tiles():
    pixmap = detector((1500, 1500), roll=12.0, bend=5.0)
    planes = np.ones((1500, 1500, 2), np.float32)
    made = drizzled(pixmap, planes, grid(1400), threads=2)
    # the area of a pixel changes by a few per cent over the detector, and by 1e-4 between tiles at most
    assert np.abs(np.diff(made.sums[1], axis=0)).max() < 1e-4
    assert np.abs(np.diff(made.sums[1], axis=1)).max() < 1e-4


@pytest.mark.parametrize("engine", ["tiled", "drizzle"])
@pytest.mark.parametrize("size", [1, 3, 30])
def test_output_smaller_than_input(engine, size):
    pixmap = detector((90, 90), roll=30.0)
    planes = np.ones((90, 90, 2), np.float32)
    made = drizzled(pixmap, planes, grid(size), engine=engine)
    assert np.abs(made.sums - 0.25).max() < 1e-5


@pytest.mark.parametrize("engine", ["tiled", "drizzle"])
def test_an_exposure_that_misses_the_grid_has_no_place(engine):
    made = Drizzle(grid(100), 2, 1, engine=engine)
    assert made.place(detector(at=(1000.0, 0.0))) is None
    behind = detector()
    away = type(behind)(-behind.frame, behind.shape, behind.forward, behind.backward, 0.0)
    assert made.place(away) is None


@pytest.mark.parametrize("engine", ["tiled", "drizzle"])
def test_context_bits_of_seventy_members(engine):
    made = Drizzle(grid(60), 2, 70, engine=engine)
    pixmap = detector((10, 10))
    planes = np.ones((10, 10, 2), np.float32)
    for member in (0, 31, 32, 63, 64, 69):
        add(made, pixmap, planes, member)
    assert made.context.shape == (3, 60, 60)
    assert made.context[:, 30, 30].tolist() == [1 | 1 << 31, 1 | 1 << 31, 1 | 1 << 5]
    assert made.context[:, 0, 0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("engine", ["tiled", "drizzle"])
def test_slivers_do_not_count(engine):
    pixmap = detector((11, 11), at=(0.5 + 1e-8, 0.5), roll=0.0)
    made = drizzled(pixmap, np.ones((11, 11, 2), np.float32), grid(40), engine=engine)
    weight = made.sums[1]
    assert weight[weight > 0].min() > 1e-6 * weight.max()
    assert np.array_equal(weight > 0, made.context[0] > 0)


def test_without_weight_nothing_is_covered():
    made = Drizzle(grid(60), 2, 1)
    assert add(made, detector((10, 10)), np.zeros((10, 10, 2), np.float32)) == (0, 0)
    assert not made.sums.any()
    assert not made.context.any()


def test_planes_must_fit_the_window():
    made = Drizzle(grid(60), 2, 1)
    placement = made.place(detector((10, 10)))
    with pytest.raises(ValueError, match="do not fit"):
        made.add(0, placement, np.zeros((10, 10, 3), np.float32), 1.0)


def test_engine_follows_kernel_and_pixfrac():
    assert choose_engine("auto", "square", 1) == "tiled"
    assert choose_engine("auto", "square", 0.8) == "drizzle"
    assert choose_engine("auto", "point", 1.0) == "drizzle"
    assert choose_engine("drizzle", "square", 1.0) == "drizzle"
    for bad in (
        ("tiled", "point", 1),
        ("auto", "cubic", 1),
        ("gpu", "square", 1),
        ("auto", "square", 0),
    ):
        with pytest.raises(ValueError, match=r"pixfrac|kernel|engine"):
            choose_engine(*bad)


@pytest.mark.parametrize("number", [1, 3])
def test_threads_keep_the_order(number):
    squares = [n * n for n in range(20)]
    assert threads.in_threads(lambda n: n * n, range(20), number) == squares
    assert list(threads.in_order(lambda n: n * n, range(20), number)) == squares


@pytest.mark.parametrize("number", [1, 3])
def test_what_is_ahead_is_bounded(number):
    taken = []

    def items():
        for n in range(20):
            taken.append(n)
            yield n

    for n in threads.in_order(lambda n: n, items(), number):
        assert len(taken) - n <= number + 1
