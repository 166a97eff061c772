"""Small images: averages, stretch, sky level, what part is shown, the file."""

import numpy as np
import pytest
from romosaic import small_image
from romosaic.errors import ProductError
from romosaic.grid import Grid
from romosaic.product import write_step
from romosaic.skymap import SkyMap
from romosaic.small_image import SmallImage

RNG = np.random.default_rng(11)


def test_shrink_averages_finite_values():
    data = np.arange(24, dtype=np.float32).reshape(4, 6)
    data[0, 0] = np.nan
    data[2:, 4:] = np.nan
    data[0, 2] = np.inf
    small, share = small_image.shrink(data, 2)
    expected = [[(1 + 6 + 7) / 3, (3 + 8 + 9) / 3, 7.5], [15.5, 17.5, np.nan]]
    np.testing.assert_allclose(small, np.array(expected, np.float32))
    np.testing.assert_array_equal(share, [[0.75, 0.75, 1], [1, 1, 0]])
    assert small.dtype == share.dtype == np.float32


@pytest.mark.parametrize(
    "shape, size, expected, side",
    [
        ((10, 10), 10, (10, 10), 1),
        ((10, 10), 100, (10, 10), 1),
        ((11, 5), 10, (6, 3), 2),
        ((5000, 5000), 1080, (1000, 1000), 5),
        ((1, 7), 2, (1, 2), 4),
        ((403, 1003), 250, (81, 201), 5),
    ],
)
def test_shrink_size(shape, size, expected, side):
    assert small_image.block_side(shape, size) == side
    small, share = small_image.shrink(np.ones(shape, np.float32), side)
    assert small.shape == expected and max(small.shape) <= size
    # Blocks at the rim are whole when what there is of them is.
    assert (small == 1).all() and np.allclose(share, 1)


def test_blocks_lie_where_their_pixels_do():
    grid = Grid(359.99, 40.0, 200.0, 300.0, 1e-5, 400, 603, 130.0)
    blocks = small_image.block_grid(grid, 5)
    assert blocks.shape == (121, 80)
    x, y = np.array([0, 7, 79]), np.array([0, 60, 120])
    np.testing.assert_allclose(
        blocks.to_pixel(*grid.to_sky(5 * x + 2.0, 5 * y + 2.0)), np.stack([x, y]), atol=1e-9
    )


def test_blocks_of_neighbouring_skycells_are_the_same_pixels():
    first, second = (SkyMap().cell(f"000p86x5{n}y59").grid for n in (1, 2))
    x, y = (
        small_image.block_grid(second, 5).x0 - small_image.block_grid(first, 5).x0,
        small_image.block_grid(second, 5).y0 - small_image.block_grid(first, 5).y0,
    )
    assert sorted(np.abs([x, y]).tolist()) == [0, 960]


def test_sky_level_knows_nothing_of_sources():
    image = RNG.normal(0.3, 0.01, (300, 300)).astype(np.float32)
    image[:100, :60] += RNG.exponential(0.5, (100, 60))  # 7 % of the pixels
    image[200:210] = np.nan
    level, noise = small_image.sky_level(image)
    # A clipped median is drawn to the tail of sources that hide in the noise by less than 0.2 sigma here.
    assert abs(level - 0.3) < 0.002 and noise == pytest.approx(0.01, rel=0.1)
    assert small_image.sky_level(np.full((3, 3), np.nan)) == (0, 0)


def test_stretch_is_monotone_within_0_and_1():
    image = RNG.normal(0.3, 0.01, (100, 100)).astype(np.float32)
    image[:5, :5] = np.geomspace(0.4, 400, 25).reshape(5, 5)
    image[50] = np.nan
    scaled = small_image.stretch(image)
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
    scaled = small_image.stretch(np.full((5, 5), value, np.float32))
    assert np.isfinite(scaled).all() and scaled.max() < 0.5


def test_stretch_without_data():
    assert np.isnan(small_image.stretch(np.full((3, 4), np.nan, np.float32))).all()


def test_the_covered_part_is_shown():
    covered = np.zeros((1000, 800), bool)
    assert small_image.covered_box(covered) == (0, 1000, 0, 800)
    covered[600:700, 300:350] = True
    y0, y1, x0, x1 = small_image.covered_box(covered)
    assert 580 < y0 < 600 and 700 < y1 < 720 and 280 < x0 < 300 and 350 < x1 < 370
    covered[0, 0] = True
    assert small_image.covered_box(covered)[::2] == (0, 0)
    covered[:900] = True
    assert small_image.covered_box(covered) == (0, 1000, 0, 800)


def test_file(tmp_path):
    grid = small_image.block_grid(SkyMap().cell("000p86x52y60").grid, 100)
    data = RNG.normal(0.2, 0.01, grid.shape).astype(np.float32)
    data[3, 4] = np.nan
    covered = np.ones(grid.shape, np.float32)
    covered[3, 4], covered[3, 5] = 0, 0.4
    image = SmallImage(data, covered * 700, covered, grid, "F106")
    image.write(tmp_path / "a_small.asdf", {"inputs": []})
    found = SmallImage.read(tmp_path / "a_small.asdf")
    np.testing.assert_array_equal(found.data, data)
    np.testing.assert_array_equal(found.weight, image.weight)
    assert found.covered[3, 4] == 0 and found.covered[0, 0] == 1
    assert abs(found.covered[3, 5] - 0.4) <= 0.5 / 255
    assert (found.grid, found.optical_element) == (grid, "F106")
    assert found.sky == pytest.approx(0.2, abs=0.002)


def test_damaged_files_are_refused(tmp_path):
    path, grid = tmp_path / "a_small.asdf", SkyMap().cell("000p86x52y60").grid
    ones = np.ones((64, 64), np.float32)
    SmallImage(ones, ones, ones, grid, "F106").write(path, {"inputs": []})
    content = bytearray(path.read_bytes())
    content[content.index(ones.tobytes()) + 7] ^= 1
    path.write_bytes(content)
    with pytest.raises(ProductError, match="does not match its checksum"):
        SmallImage.read(path)
    write_step(path, {"members": []})
    with pytest.raises(ProductError, match="is no small image"):
        SmallImage.read(path)
