"""Pictures: compass, scale bar, a PNG for every kind of product, the planes and the small image."""

import numpy as np
import pytest
from asn_records import record
from matplotlib.image import imread
from romosaic import association, pictures, preview, preview_planes
from romosaic.grid import Grid
from romosaic.skymap import PIXEL_SCALE, SkyMap
from romosaic.small_image import SmallImage, block_side, shrink
from small_coadds import write_coadd

SKY = SkyMap()
RNG = np.random.default_rng(11)


# ---- parts of a picture ----


@pytest.mark.parametrize(
    "value, expected",
    [
        *[(1, 1), (1.99, 1), (2, 2), (7.3, 5), (10, 10), (55, 50), (0.034, 0.02), (0.1, 0.1)],
        *[(60, 60), (119, 60), (130, 120), (900, 600)],
    ],
)
def test_scale_bars_have_round_lengths(value, expected):
    assert pictures.round_length(value) == pytest.approx(expected)


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
    (nx, ny), (ex, ey) = pictures.compass(grid, x, y)
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
    side = block_side(data.shape, preview.SMALL)
    y0, y1, x0, x1 = preview.shown_pixels(shrink(data, side)[1], side, grid)
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


# ---- planes ----


def test_planes_and_thumbnail(tmp_path):
    grid = Grid(10.0, 20.0, 100.0, 100.0, PIXEL_SCALE * 5, 200, 200)
    data, _, _ = stars(grid.shape)
    data[:40] = np.nan
    covered = np.isfinite(data).astype(np.float32)
    small = SmallImage(data, 900 * covered, covered, grid, "F158")
    outliers = np.zeros(grid.shape, int)
    outliers[80, 60] = 50
    planes = preview_planes.Planes(small, (3 * covered).astype(np.uint16), outliers, left_out=1)
    preview_planes.draw_planes(tmp_path / "a.png", planes, "name", 400)
    preview_planes.draw_thumbnail(tmp_path / "a.jpg", planes, "name")
    large, thumbnail = imread(tmp_path / "a.png"), imread(tmp_path / "a.jpg")
    assert large.shape[0] == 400 and thumbnail.shape[:2] == (355, 1240)
    assert (tmp_path / "a.jpg").stat().st_size < 100_000
    # The one place with outliers is the only light one of its panel, at its place.
    panel = thumbnail[53:347, 938:1234].astype(int).min(axis=2)
    rows, columns = np.nonzero(panel > 150)
    assert len(rows) > 9
    assert np.hypot(rows + 3 - 300 * (1 - 82 / 200), columns + 3 - 300 * 62 / 200).max() < 10


def test_pictures_of_flat_mosaics_are_flat(tmp_path):
    grid = Grid(10.0, 20.0, 100.0, 20.0, PIXEL_SCALE * 5, 200, 40)
    data, _, _ = stars(grid.shape)
    small = SmallImage(data, np.ones_like(data), np.ones_like(data), grid, "F158")
    planes = preview_planes.Planes(small, np.ones(grid.shape, np.uint16), np.zeros(grid.shape, int))
    preview_planes.draw_planes(tmp_path / "a.png", planes, "name", 1035)
    preview_planes.draw_thumbnail(tmp_path / "a.jpg", planes, "name")
    large, thumbnail = imread(tmp_path / "a.png"), imread(tmp_path / "a.jpg")
    assert large.shape[:2] == (347, 940) and thumbnail.shape[:2] == (117, 1240)


def test_planes_of_nothing(tmp_path):
    grid = Grid(10.0, 20.0, 10.0, 10.0, PIXEL_SCALE, 20, 20)
    nothing = np.zeros(grid.shape, np.float32)
    small = SmallImage(np.full_like(nothing, np.nan), nothing, nothing, grid, "F158")
    planes = preview_planes.Planes(small, nothing.astype(np.uint16), nothing.astype(int))
    preview_planes.draw_planes(tmp_path / "a.png", planes, "", 100)
    assert imread(tmp_path / "a.png").shape[0] == 100


@pytest.mark.parametrize(
    ("weight_type", "label"),
    [("ivm-block", "weight, (MJy/sr)⁻²"), ("exptime", "weight, s"), ("none", "weight")],
)
def test_weights_have_the_unit_of_their_type(tmp_path, weight_type, label):
    grid = Grid(10.0, 20.0, 10.0, 10.0, PIXEL_SCALE, 20, 20)
    coadd = write_coadd(tmp_path / "a_coadd.asdf", grid)
    coadd.own["provenance"]["parameters"]["weight_type"] = weight_type
    small = preview.small_image(coadd, coadd.image("data"), grid)
    planes = preview.planes(coadd, small, {"members": []}, [])
    assert preview_planes._panels(planes)[2].label == label


def test_outliers_are_counted_where_they_fall(tmp_path):
    import json

    from romosaic.chebyshev import Chebyshev2D
    from romosaic.pixmap import PixelMap

    grid = Grid(10.0, 20.0, 20.0, 15.0, 1e-4, 41, 31)
    step = 0.5 * np.radians(1e-4)  # a detector pixel is half a pixel of the grid, turned by nothing
    domain, plane = (0.0, 79.0, 0.0, 59.0), (-40 * step, 39 * step, -30 * step, 29 * step)
    forward = Chebyshev2D.fit(lambda x, y: ((x - 40) * step, (y - 30) * step), domain, 2)
    backward = Chebyshev2D.fit(lambda u, v: (u / step + 40, v / step + 30), plane, 2)
    pixmap = PixelMap(grid.frame, (60, 80), forward, backward, 0.0)
    paths = [tmp_path / f"{name}.json" for name in "ab"]
    for path, text in zip(
        paths, (json.dumps(pixmap.to_tree(), default=np.ndarray.tolist), None), strict=True
    ):
        path.write_text(json.dumps({"exposure": path.stem, "pixmap": text}))
    flagged = np.array([30 * 80 + 40, 30 * 80 + 40 + 10, 4 * 80], np.uint32)
    members = [{"exposure": name, "shape": [60, 80], "flagged": flagged} for name in "ab"]
    counts, unknown = preview.outlier_counts(members, paths, grid)
    assert unknown == 1 and counts.sum() == 3
    assert counts[15, 20] == 1 and counts[15, 25] == 1 and counts[2, 0] == 1
