from dataclasses import replace

import numpy as np
import pytest
from romosaic.grid import Grid, unit_vector
from romosaic.sky_columns import (
    flagged_spatial_id,
    healpix_29,
    jacobian,
    position_angle,
    sky_errors,
)
from romosaic.skymap import SkyMap

SCALE = 0.055 / 3600
ARCSEC = 180 * 3600 / np.pi
GRIDS = [
    Grid(30.0, -10.0, 2000.0, -150000.0, SCALE, 5000, 5000),
    Grid(0.0, 89.5, -80000.0, 100.0, SCALE, 5000, 5000, orientation=33.0),
    Grid(0.01, 60.0, 100.0, 100.0, SCALE, 500, 500, x_east=False),
]


def offsets(ra, dec, vector):
    """East and north of small sky vectors from positions, arcsec."""
    a, d = np.radians(ra), np.radians(dec)
    east = np.array([-np.sin(a), np.cos(a), 0 * a])
    north = np.array([-np.sin(d) * np.cos(a), -np.sin(d) * np.sin(a), np.cos(d)])
    return (east * vector).sum(axis=0) * ARCSEC, (north * vector).sum(axis=0) * ARCSEC


@pytest.mark.parametrize("grid", GRIDS)
def test_jacobian_is_the_derivative(grid):
    x, y = np.random.default_rng(0).uniform(0, grid.nx, (2, 20))
    matrix = jacobian(grid, x, y)
    ra, dec = grid.to_sky(x, y)
    for k, (dx, dy) in enumerate(((1.0, 0.0), (0.0, 1.0))):
        step = unit_vector(*grid.to_sky(x + dx, y + dy)) - unit_vector(*grid.to_sky(x - dx, y - dy))
        east, north = offsets(ra, dec, step / 2)
        np.testing.assert_allclose(matrix[:, 0, k], east, atol=1e-8)
        np.testing.assert_allclose(matrix[:, 1, k], north, atol=1e-8)
    np.testing.assert_allclose(
        abs(np.linalg.det(matrix)) / ARCSEC**2, grid.middle_pixel_area, rtol=5e-4
    )


@pytest.mark.parametrize("grid", GRIDS)
def test_position_angles_are_east_of_north(grid):
    x, y = np.random.default_rng(1).uniform(0, grid.nx, (2, 20))
    wanted = np.linspace(0, 175, 20)
    ra, dec = grid.to_sky(x, y)
    a, d, pa = np.radians(ra), np.radians(dec), np.radians(wanted)
    east = np.array([-np.sin(a), np.cos(a), 0 * a])
    north = np.array([-np.sin(d) * np.cos(a), -np.sin(d) * np.sin(a), np.cos(d)])
    end = unit_vector(ra, dec) + 1e-6 * (np.sin(pa) * east + np.cos(pa) * north)
    x1, y1 = grid.to_pixel(np.degrees(np.arctan2(end[1], end[0])), np.degrees(np.arcsin(end[2])))
    theta = np.arctan2(y1 - y, x1 - x)
    found = position_angle(jacobian(grid, x, y), theta)
    assert (found >= 0).all() and (found < 180).all()
    np.testing.assert_allclose((found - wanted + 90) % 180 - 90, 0, atol=3e-3)


def test_sky_errors_rotate_with_the_grid():
    grid = replace(GRIDS[0], x0=100.0, y0=100.0, orientation=90.0)
    matrix = jacobian(grid, np.array([100.0]), np.array([100.0]))
    one = np.ones(1)
    east, north = sky_errors(matrix, 4 * one, one, 0 * one)
    assert (east[0], north[0]) == pytest.approx((0.055, 0.11))
    matrix = jacobian(replace(grid, orientation=45.0), np.array([100.0]), np.array([100.0]))
    east, north = sky_errors(matrix, one, one, one)
    assert sorted((east[0], north[0])) == pytest.approx([0, 0.055 * np.sqrt(2)], abs=1e-7)


def test_spatial_id_holds_its_parts():
    x, y = np.array([0.0, 100.4, np.nan, 4999.4, 1e9]), np.array([0.0, 10.5, 5.0, 4999.4, -9.0])
    core = np.array([True, False, True, True, True])
    index = flagged_spatial_id(x, y, 0.055, 17, "135p90x51y67", core)
    assert index.dtype == np.int64
    np.testing.assert_array_equal(index >> 59 & 1, [0, 1, 0, 0, 0])
    assert (index >> 46 & 0x1FFF == 17).all()
    assert (index >> 39 & 0x7F == 67).all() and (index >> 32 & 0x7F == 51).all()
    np.testing.assert_array_equal(index & 0xFFFF, [0, 110, 0, 5499, 65535])
    np.testing.assert_array_equal(index >> 16 & 0xFFFF, [0, 11, 5, 5499, 0])
    assert not flagged_spatial_id(x, y, 0.055, 17, "none", core).any()


def test_bit_59_leaves_every_source_once():
    """Random positions around a corner of four cells: clear in exactly one of the cells that show them."""
    sky = SkyMap()
    corner = 11.298211110169689, 86.44202879552147
    grid = sky.cell(str(sky.primary_cell(*corner))).grid
    x0, y0 = grid.to_pixel(*corner)
    rng = np.random.default_rng(2)
    ra, dec = grid.to_sky(x0 + rng.uniform(-400, 400, 3000), y0 + rng.uniform(-400, 400, 3000))
    names = sky.cells_overlapping(ra[[0]] + [0, 0.02, 0.02], dec[[0]] + [0, 0, 0.01])
    names = sorted({*names, *map(str, np.unique(sky.primary_cell(ra, dec)))})
    primary, seen = np.zeros(3000, int), np.zeros(3000, int)
    for name in names:
        cell = sky.cell(name)
        x, y = cell.grid.to_pixel(ra, dec)
        inside = (x >= -0.5) & (x < 4999.5) & (y >= -0.5) & (y < 4999.5)
        index = flagged_spatial_id(x, y, 0.055, cell.region, name, cell.in_core(x, y))
        primary += inside & (index >> 59 & 1 == 0)
        seen += inside
    assert len(names) >= 4 and seen.max() >= 4
    assert (primary == 1).all()


def test_healpix_order_29():
    from astropy import units as u
    from astropy_healpix import HEALPix

    ra, dec = np.array([10.0, 0.0, np.nan, 359.999]), np.array([-5.0, 90.0, 1.0, -89.0])
    index = healpix_29(ra, dec)
    assert index.dtype == np.int64 and index[2] == -1
    lon, lat = HEALPix(2**29, order="nested").healpix_to_lonlat(index[[0, 1, 3]])
    apart = unit_vector(ra[[0, 1, 3]], dec[[0, 1, 3]]) - unit_vector(
        lon.to_value(u.deg), lat.to_value(u.deg)
    )
    assert np.abs(apart).max() * ARCSEC < 1e-3
    assert healpix_29(np.zeros(0), np.zeros(0)).size == 0
