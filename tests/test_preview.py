"""Pictures: averaging, stretch, what part is shown, compass, and a PNG for every kind of product."""

import numpy as np
import pytest
from asn_records import record
from matplotlib.image import imread
from romosaic import association, preview
from romosaic.grid import Grid
from romosaic.skymap import PIXEL_SCALE, SkyMap

SKY = SkyMap()
RNG = np.random.default_rng(11)


# ---- shrink ----


def test_shrink_averages_finite_values():
    data = np.arange(24, dtype=np.float32).reshape(4, 6)
    data[0, 0] = np.nan
    data[2:, 4:] = np.nan
    data[0, 2] = np.inf
    small, factor = preview.shrink(data, 3)
    assert factor == 2
    expected = [[(1 + 6 + 7) / 3, (3 + 8 + 9) / 3, 7.5], [15.5, 17.5, np.nan]]
    np.testing.assert_allclose(small, np.array(expected, np.float32))
    assert small.dtype == np.float32


@pytest.mark.parametrize(
    "shape, size, expected, factor",
    [
        ((10, 10), 10, (10, 10), 1),
        ((10, 10), 100, (10, 10), 1),
        ((11, 5), 10, (6, 3), 2),
        ((5000, 5000), 1080, (1000, 1000), 5),
        ((1, 7), 2, (1, 2), 4),
    ],
)
def test_shrink_size(shape, size, expected, factor):
    small, found = preview.shrink(np.ones(shape, np.float32), size)
    assert (small.shape, found) == (expected, factor)
    assert max(small.shape) <= size
    assert (small == 1).all()


# ---- stretch ----


def test_stretch_is_monotone_within_0_and_1():
    image = RNG.normal(0.3, 0.01, (100, 100)).astype(np.float32)
    image[:5, :5] = np.geomspace(0.4, 400, 25).reshape(5, 5)
    image[50] = np.nan
    scaled = preview.stretch(image)
    assert np.isnan(scaled[50]).all()
    assert np.isfinite(scaled).sum() == np.isfinite(image).sum()
    order = np.argsort(image[np.isfinite(image)])
    values = scaled[np.isfinite(image)][order]
    assert (np.diff(values) >= 0).all()
    assert (values[0], values[-1]) == (0, 1)
    # The sky is dark, a faint source stands out, a bright one is not all that is seen.
    assert 0.02 < np.nanmedian(scaled) < 0.2
    assert scaled[0, 0] > 2 * np.nanmedian(scaled)
    assert scaled[2, 2] < 1


@pytest.mark.parametrize("value", [0.0, 0.25, -3.0])
def test_stretch_of_a_flat_image(value):
    scaled = preview.stretch(np.full((5, 5), value, np.float32))
    assert np.isfinite(scaled).all() and scaled.max() < 0.5


def test_stretch_without_data():
    assert np.isnan(preview.stretch(np.full((3, 4), np.nan, np.float32))).all()


# ---- what is shown ----


def test_the_covered_part_is_shown():
    data = np.full((1000, 800), np.nan, np.float32)
    assert preview.covered_box(data) == (0, 1000, 0, 800)
    data[600:700, 300:350] = 1
    y0, y1, x0, x1 = preview.covered_box(data)
    assert 580 < y0 < 600 and 700 < y1 < 720 and 280 < x0 < 300 and 350 < x1 < 370
    data[0, 0] = 1
    assert preview.covered_box(data)[::2] == (0, 0)
    data[:900] = 1
    assert preview.covered_box(data) == (0, 1000, 0, 800)


@pytest.mark.parametrize(
    "value, expected",
    [
        *[(1, 1), (1.99, 1), (2, 2), (7.3, 5), (10, 10), (55, 50), (0.034, 0.02), (0.1, 0.1)],
        *[(60, 60), (119, 60), (130, 120), (900, 600)],
    ],
)
def test_scale_bars_have_round_lengths(value, expected):
    assert preview.round_length(value) == pytest.approx(expected)


GRIDS = {
    "cell": SKY.cell("000p86x52y60").grid,
    "pole": SKY.cell("135p90x51y49").grid,
    "RA 0": SKY.cell(str(SKY.primary_cell(0.0, -12.3))).grid,
    "turned": Grid(359.99, 40.0, 200.0, 300.0, 1e-5, 400, 600, 130.0),
    "mirrored": SkyMap(x_east=False).cell("225m90x52y47").grid,
}


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS.keys())
def test_compass(grid):
    x, y = (grid.nx - 1) / 2, (grid.ny - 1) / 2
    (nx, ny), (ex, ey) = preview.compass(grid, x, y)
    ra, dec = grid.to_sky(x, y)
    for (dx, dy), (d_ra, d_dec) in {
        (nx, ny): (0, 1e-5),
        (ex, ey): (1e-5 / np.cos(np.radians(dec)), 0),
    }.items():
        assert np.hypot(dx, dy) == pytest.approx(1)
        to_x, to_y = grid.to_pixel(ra + d_ra, dec + d_dec)
        cosine = (dx * (to_x - x) + dy * (to_y - y)) / np.hypot(to_x - x, to_y - y)
        assert cosine == pytest.approx(1, abs=1e-4)
    # East is to the right of north where right ascension increases with x.
    assert np.sign(ex * ny - ey * nx) == (1 if grid.x_east else -1)


# ---- the picture ----


def stars(shape, number=30):
    """A star field and the places of its stars."""
    data = RNG.normal(0.0, 0.01, shape).astype(np.float32)
    y, x = (RNG.uniform(0.05 * n, 0.95 * n, number) for n in shape)
    data[y.astype(int), x.astype(int)] += 1
    return data, x, y


def footprints_on(grid, width):
    ra, dec = grid.center
    records = [record(ra, dec, width=width, roll=roll) for roll in (0.0, 40.0)]
    return [(entry["footprint"]["ra"], entry["footprint"]["dec"]) for entry in records]


def drawn(path, data, grid, x=(), y=(), width=300.0, size=300, title="product"):
    footprints = footprints_on(grid, width)
    preview.draw(
        path,
        data,
        grid,
        title=title,
        x=np.asarray(x, float),
        y=np.asarray(y, float),
        footprints=footprints,
        cells=association.cells_around(grid, footprints),
        size=size,
    )
    picture = imread(path)
    assert picture.shape[0] == size and 1.4 < picture.shape[1] / size < 2
    return picture[..., :3]


def golden(picture):
    """Number of pixels in the colour of the product."""
    return int((picture[..., 0] - picture[..., 2] > 0.3).sum())


def blue(picture):
    """Number of pixels in the colour of exposures, in the map's half."""
    part = picture[:, int(0.6 * picture.shape[1]) :]
    return int((part[..., 2] - part[..., 0] > 0.3).sum())


@pytest.mark.parametrize(
    "grid, width",
    [
        (GRIDS["cell"], 300),
        (SKY.cell("135p90x50y50").grid, 400),
        (SKY.cell("225m90x50y50").grid, 400),
        (GRIDS["RA 0"], 300),
        (GRIDS["mirrored"], 300),
        (Grid(10.0, 20.0, 100.0, 50.0, PIXEL_SCALE, 201, 101, 30.0), 8),
        (Grid(0.0, 90.0, 100.0, 50.0, PIXEL_SCALE, 201, 101, 30.0), 8),
        (Grid(0.001, -3.0, 1000.0, 10.0, PIXEL_SCALE, 2001, 21), 30),
    ],
    ids=[
        "cell",
        "north pole",
        "south pole",
        "RA 0",
        "mirrored",
        "regular",
        "regular pole",
        "strip",
    ],
)
def test_every_kind_of_grid(tmp_path, grid, width):
    data, x, y = stars(grid.shape)
    picture = drawn(tmp_path / "x.png", data, grid, x, y, width)
    assert golden(picture) > 50
    assert blue(picture) > 50


@pytest.mark.parametrize("x", [[], [2500.0]])
def test_no_data_and_no_sources(tmp_path, x):
    grid = GRIDS["cell"]
    picture = drawn(tmp_path / "x.png", np.full(grid.shape, np.nan, np.float32), grid, x, x)
    assert blue(picture) > 50


def test_no_cells_no_footprints(tmp_path):
    grid = Grid(10.0, 20.0, 9.5, 9.5, PIXEL_SCALE, 20, 20)
    nothing = np.array([])
    preview.draw(
        tmp_path / "x.tmp",
        np.zeros((20, 20), np.float32),
        grid,
        title="",
        x=nothing,
        y=nothing,
        footprints=[],
        cells=[],
        size=100,
    )
    assert (tmp_path / "x.tmp").read_bytes().startswith(b"\x89PNG")


def test_a_star_is_bright_where_it_lies(tmp_path):
    """x to the right, y upwards, also in a picture of the covered part."""
    grid = GRIDS["cell"]
    data = np.full(grid.shape, np.nan, np.float32)
    data[1000:2000, 3000:4000] = RNG.normal(0, 0.01, (1000, 1000))
    data[1195:1206, 3795:3806] = 50
    picture = drawn(tmp_path / "x.png", data, grid, size=600)
    y0, y1, x0, x1 = preview.covered_box(data)
    panel = picture[:, : int(0.56 * picture.shape[1])].min(axis=2)
    rows, columns = np.nonzero(panel > 0.93)
    # Left edge, bottom, width and height of the panel as fractions of the picture.
    left, bottom, width = 0.055, 0.07, 0.5
    height = width * picture.shape[1] / picture.shape[0]
    column = (left + width * (3800 - x0) / (x1 - x0)) * picture.shape[1]
    row = (1 - bottom - height * (1200 - y0) / (y1 - y0)) * picture.shape[0]
    assert (np.hypot(rows - row, columns - column) < 5).sum() >= 9
    mirror = (1 - bottom - height * (y1 - 1200) / (y1 - y0)) * picture.shape[0]
    assert (np.hypot(rows - mirror, columns - column) < 5).sum() == 0


def test_size_is_the_height(tmp_path):
    data, x, y = stars((200, 200))
    grid = Grid(10.0, 20.0, 100.0, 100.0, PIXEL_SCALE, 200, 200)
    for size in (100, 777):
        drawn(tmp_path / "x.png", data, grid, x, y, 10, size, title="a long name " * 12)


def test_drawing_twice_gives_the_same_bytes(tmp_path):
    data, x, y = stars((200, 200))
    grid = Grid(10.0, 20.0, 100.0, 100.0, PIXEL_SCALE, 200, 200)
    for name in ("a.png", "b.png"):
        drawn(tmp_path / name, data, grid, x, y, 10)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
