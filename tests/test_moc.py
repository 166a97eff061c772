"""Coverage maps: which cells, their numbers, the file."""

import numpy as np
import pytest
from astropy import units
from astropy.io import fits
from astropy_healpix import healpix_to_lonlat, lonlat_to_healpix, uniq_to_level_ipix
from romosaic import moc
from romosaic.errors import ProductError
from romosaic.grid import Grid
from romosaic.skymap import SkyMap

SKY = SkyMap()


def cells_of(ranges) -> np.ndarray:
    """Indices of the cells in ranges, which are sorted and apart."""
    assert ranges.dtype == np.int64 and (ranges[1:, 0] > ranges[:-1, 1]).all()
    return np.concatenate([np.arange(*pair) for pair in ranges] or [np.empty(0, np.int64)])


@pytest.mark.parametrize("name", ["000p86x52y60", "135p90x50y50", "225m90x50y50"])
def test_cells_of_a_disc(name):
    grid, order, radius = SKY.cell(name).grid, 14, 1800
    y, x = np.ogrid[: grid.ny, : grid.nx]
    weight = ((x - 2400) ** 2 + (y - 2600) ** 2 < radius**2).astype(np.float32)
    ranges = moc.covered(weight, grid, order)
    cells = cells_of(ranges)
    pixel = grid.middle_pixel_area * np.degrees(1) ** 2
    # a cell counts as soon as it is touched: half a cell more all around
    grown = np.pi * (radius * grid.pixel_scale + 0.5 * moc._BASE / 2**order) ** 2
    assert weight.sum() * pixel < moc.square_degrees(ranges, order) < 1.2 * grown
    lon, lat = healpix_to_lonlat(cells, 1 << order, order="nested")
    px, py = grid.to_pixel(lon.to_value("deg"), lat.to_value("deg"))
    side = moc._BASE / 2**order / grid.pixel_scale
    assert np.hypot(px - 2400, py - 2600).max() < radius + side
    # and none within is missing
    angle = np.random.default_rng(1).uniform(0, 2 * np.pi, 500)
    far = radius - side / 6
    ra, dec = grid.to_sky(2400 + far * np.cos(angle), 2600 + far * np.sin(angle))
    inside = lonlat_to_healpix(ra * units.deg, dec * units.deg, 1 << order, order="nested")
    assert np.isin(inside, cells).all()


def test_one_pixel_and_none():
    grid = Grid(10.0, 20.0, 30.5, 20.0, 0.055 / 3600, 70, 50)
    weight = np.zeros(grid.shape, np.float32)
    assert moc.covered(weight, grid, 16).size == 0
    weight[17, 60] = 1
    (cell,) = cells_of(moc.covered(weight, grid, 20))
    ra, dec = grid.to_sky(60, 17)
    assert cell == lonlat_to_healpix(ra * units.deg, dec * units.deg, 1 << 20, order="nested")


def test_whole_parents_are_written_as_such(tmp_path):
    ranges = np.array([[64, 80], [100, 103]])  # one cell of order 1, and three of order 3
    numbers = moc.uniq(ranges, 3)
    levels, pixels = uniq_to_level_ipix(numbers)
    found = sorted(zip(levels.tolist(), pixels.tolist(), strict=True))
    assert found == [(1, 4), (3, 100), (3, 101), (3, 102)]
    moc.write(tmp_path / "a.fits", ranges, 3)
    found, order = moc.read(tmp_path / "a.fits")
    assert order == 3 and found.tolist() == ranges.tolist()
    header = fits.getheader(tmp_path / "a.fits", "MOC")
    assert (header["ORDERING"], header["MOCORD_S"], header["COORDSYS"]) == ("NUNIQ", 3, "C")


@pytest.mark.parametrize("order", [0, 3, 20])
def test_the_whole_sky_is_twelve_cells(tmp_path, order):
    """Whatever their number at the finest order, which is 13 million millions for 20."""
    whole = np.array([[0, 12 << 2 * order]])
    assert moc.uniq(whole, order).tolist() == [*range(4, 16)]
    assert moc.square_degrees(whole, order) == pytest.approx(41252.96, abs=0.01)
    moc.write(tmp_path / "a.fits", whole, order)
    assert moc.read(tmp_path / "a.fits")[0].tolist() == whole.tolist()


def test_of_nothing_there_is_an_empty_map(tmp_path):
    moc.write(tmp_path / "a.fits", moc.union([]), 16)
    found, order = moc.read(tmp_path / "a.fits")
    assert (found.shape, order) == ((0, 2), 16) and moc.square_degrees(found, order) == 0


def test_numbers_are_those_of_any_cells():
    """Random cells, some alone, some of whole parents, come back from their numbers."""
    rng = np.random.default_rng(3)
    order = 5
    parts = [
        np.arange(first, first + n) for first, n in rng.integers(1, [12 * 4**5 - 300, 300], (40, 2))
    ]
    cells = np.unique(np.concatenate([*parts, rng.integers(0, 12 * 4**5, 100)]))
    ranges = moc.union([np.stack([cells, cells + 1], axis=1)[::-1]])
    np.testing.assert_array_equal(cells_of(ranges), cells)
    levels, pixels = uniq_to_level_ipix(moc.uniq(ranges, order))
    back = [
        np.arange(p << 2 * (order - k), (p + 1) << 2 * (order - k))
        for k, p in zip(levels, pixels, strict=True)
    ]
    np.testing.assert_array_equal(np.sort(np.concatenate(back)), cells)
    # no four of one parent are left apart
    at = pixels[levels == order] >> 2
    assert np.unique(at, return_counts=True)[1].max() < 4


def test_maps_of_different_orders_are_joined():
    parts = [(np.array([[1, 2]]), 2), (np.array([[4, 5], [99, 100]]), 3)]
    ranges, order = moc.join(parts)
    assert order == 3 and ranges.tolist() == [[4, 8], [99, 100]]


def test_what_is_no_map_is_told(tmp_path):
    (tmp_path / "a.fits").write_text("nothing")
    with pytest.raises(ProductError, match="is not a MOC"):
        moc.read(tmp_path / "a.fits")
