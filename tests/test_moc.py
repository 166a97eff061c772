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


@pytest.mark.parametrize("name", ["000p86x52y60", "135p90x50y50", "225m90x50y50"])
def test_cells_of_a_disc(name):
    grid, order, radius = SKY.cell(name).grid, 14, 1800
    y, x = np.ogrid[: grid.ny, : grid.nx]
    weight = ((x - 2400) ** 2 + (y - 2600) ** 2 < radius**2).astype(np.float32)
    cells = moc.covered(weight, grid, order)
    pixel = grid.middle_pixel_area * np.degrees(1) ** 2
    # a cell counts as soon as it is touched: half a cell more all around
    grown = np.pi * (radius * grid.pixel_scale + 0.5 * moc._BASE / 2**order) ** 2
    assert weight.sum() * pixel < moc.square_degrees(cells, order) < 1.2 * grown
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
    (cell,) = moc.covered(weight, grid, 20)
    ra, dec = grid.to_sky(60, 17)
    assert cell == lonlat_to_healpix(ra * units.deg, dec * units.deg, 1 << 20, order="nested")


def test_whole_parents_are_written_as_such(tmp_path):
    cells = np.array(
        [*range(64, 80), 100, 101, 102], np.int64
    )  # one of order 1, and three of order 3
    numbers = moc.uniq(cells, 3)
    levels, pixels = uniq_to_level_ipix(numbers)
    assert sorted(zip(levels.tolist(), pixels.tolist(), strict=True)) == [
        (1, 4),
        (3, 100),
        (3, 101),
        (3, 102),
    ]
    moc.write(tmp_path / "a.fits", cells, 3)
    found, order = moc.read(tmp_path / "a.fits")
    assert order == 3 and found.tolist() == cells.tolist()
    header = fits.getheader(tmp_path / "a.fits", "MOC")
    assert (header["ORDERING"], header["MOCORD_S"], header["COORDSYS"]) == ("NUNIQ", 3, "C")
    whole = np.arange(12 * 4**3)
    assert moc.uniq(whole, 3).tolist() == [*range(4, 16)]
    assert moc.square_degrees(whole, 3) == pytest.approx(41252.96, abs=0.01)


def test_maps_of_different_orders_are_joined():
    cells, order = moc.join([(np.array([1]), 2), (np.array([4, 99]), 3)])
    assert order == 3 and cells.tolist() == [4, 5, 6, 7, 99]


def test_what_is_no_map_is_told(tmp_path):
    (tmp_path / "a.fits").write_text("nothing")
    with pytest.raises(ProductError, match="is not a MOC"):
        moc.read(tmp_path / "a.fits")
