"""The overview: images of several projection regions on one canvas, their overlaps, several fields."""

import numpy as np
import pytest
from matplotlib.image import imread
from romosaic import overview
from romosaic.grid import Grid, unit_vector
from romosaic.pictures import new_figure
from romosaic.sky_plane import Plane, draw_graticule
from romosaic.skymap import SkyMap
from romosaic.small_image import SmallImage, block_grid

SKY = SkyMap()


def wave(name: str, level: float, weight: float = 1.0) -> SmallImage:
    """A smooth pattern of the sky on a skycell, over a level that is the cell's own."""
    grid = block_grid(SKY.cell(name).grid, 25)
    data = (level + pattern(*grid.to_sky(*np.meshgrid(np.arange(200.0), np.arange(200.0))))).astype(
        "f4"
    )
    return SmallImage(data, np.full_like(data, weight), np.ones_like(data), grid, "F158")


def pattern(ra, dec):
    vectors = unit_vector(ra, dec)
    return 0.05 * np.sin(vectors[0] * 2e4) * np.sin(vectors[1] * 2e4)


@pytest.mark.parametrize(
    "names",
    [("000p86x51y59", "000p86x51y60"), ("000p86x54y68", "045p86x54y31"), ("135p90x50y50",)],
    ids=["one region", "two regions", "pole"],
)
@pytest.mark.parametrize("size", [900, 120])
def test_cells_are_put_where_they_belong(names, size):
    images = [wave(name, level) for name, level in zip(names, (0.3, -2.0), strict=False)]
    canvas = overview.Canvas.around([image.grid for image in images], size)
    for image in images:
        canvas.add(image)
    found = canvas.image()
    assert canvas.size <= size and found.shape == (canvas.size, canvas.size)
    where = (np.arange(canvas.size) + 0.5) * canvas.step - canvas.half
    ra, dec = canvas.plane.to_sky(*np.meshgrid(canvas.middle[0] + where, canvas.middle[1] + where))
    covered = np.isfinite(found)
    inside = np.zeros_like(covered)
    for image in images:
        x, y = image.grid.to_pixel(ra, dec)
        inside |= (np.abs(x - 99.5) < 98) & (np.abs(y - 99.5) < 98)
    assert (covered | ~inside).all() and 0.3 < covered.mean() < 1
    difference = (found - pattern(ra, dec))[inside]
    # Levels are gone, in the overlap as well; what is left is interpolation and averaging of the pattern.
    assert np.abs(difference - np.median(difference)).max() < (0.004 if size == 900 else 0.02)
    assert abs(np.median(difference)) < 0.005


def test_overlapping_visits_are_averaged_by_weight():
    a, b = wave("000p86x51y59", 0.3, 1.0), wave("000p86x51y59", 0.3, 3.0)
    b.data[100:110, 100:110] += 4
    canvas = overview.Canvas.around([a.grid], 300)
    canvas.add(a)
    once = canvas.image()
    canvas.add(b)
    more = canvas.image() - once
    # Three quarters of the difference; the sky level, of 40000 values, moves by next to nothing.
    assert np.nanmax(more) == pytest.approx(3, abs=0.01) and np.nanmedian(np.abs(more)) < 1e-3


def test_holes_stay_holes():
    image = wave("000p86x51y59", 0.3)
    image.data[80:120, 80:120] = np.nan
    image.weight[80:120, 80:120] = image.covered[80:120, 80:120] = 0
    canvas = overview.Canvas.around([image.grid], 200)
    canvas.add(image)
    hole = np.isnan(canvas.image()[80:120, 80:120])
    assert 0.3 < hole.mean() < 1
    assert overview.covered_part(image) == image.grid
    image.covered[:, :150] = 0
    part = overview.covered_part(image)
    assert part.shape == (200, 50)
    np.testing.assert_allclose(part.to_sky(0, 0), image.grid.to_sky(150, 0))


def test_picture_of_several_fields(tmp_path):
    names = ["000p86x51y59", "000p86x51y60", "135p90x50y50", "225m90x50y50"]
    paths = [tmp_path / f"{name}_small.asdf" for name in names]
    for name, path in zip(names, paths, strict=True):
        wave(name, 0.3).write(path, {"inputs": []})
    overview.draw(tmp_path / "a.png", paths, "F158: 4 products", 600)
    picture = imread(tmp_path / "a.png")
    assert max(picture.shape[:2]) == pytest.approx(600, abs=2)
    overview.draw(tmp_path / "b.png", paths, "F158: 4 products", 600)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("ra", [0.0, 228.9])
@pytest.mark.parametrize("dec", [-90.0, 90.0, -89.99])
def test_a_pole_has_rings_and_spokes(ra, dec):
    axes = new_figure(4, 4, 100).add_axes((0, 0, 1, 1))
    draw_graticule(axes, Plane(ra, dec), np.zeros(2), 0.05)
    places = {text.get_text(): text.get_position() for text in axes.texts}
    spokes = [f"{value}\N{DEGREE SIGN}" for value in (0, 90, 180, 270)]
    rings = [f"{np.sign(dec) * value:+g}\N{DEGREE SIGN}" for value in (89.94, 89.96, 89.98)]
    assert {*spokes, *rings} <= set(places)
    assert min(np.hypot(*places[spoke]) for spoke in spokes) > 0.04


def test_nothing_but_holes(tmp_path):
    grid = Grid(10.0, 20.0, 5.0, 5.0, 1e-4, 10, 10)
    nothing = np.zeros(grid.shape, np.float32)
    SmallImage(nothing * np.nan, nothing, nothing, grid, "F158").write(tmp_path / "a.asdf", {})
    overview.draw(tmp_path / "a.png", [tmp_path / "a.asdf"], "nothing", 200)
    assert imread(tmp_path / "a.png").shape[0] == pytest.approx(200, abs=2)
