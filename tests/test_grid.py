"""The output grid: the sky map's own formulas, astropy's TAN projection, poles, RA 0, mirrored grids."""

from dataclasses import replace

import numpy as np
import pytest
from romosaic.grid import Grid, east_north, sky_position, unit_vector
from romosaic.skymap import SkyMap

SCALE = 0.055 / 3600
#: Tangent points of projection regions and others.
TANGENTS = [
    (135.0, 90.0),
    (225.0, -90.0),
    (0.0, 0.0),
    (0.0, 86.1538),
    (45.0, -86.1538),
    (359.9999, 12.3),
    (180.0, -45.0),
]


def grid(ra0=0.0, dec0=0.0, **changes) -> Grid:
    values = {
        **{"x0": 2499.5, "y0": 2499.5, "pixel_scale": SCALE, "nx": 5000, "ny": 5000},
        **changes,
    }
    return Grid(ra0, dec0, **values)


def separation(ra1, dec1, ra2, dec2) -> np.ndarray:
    """Degrees, by the chord: exact for small angles and at poles."""
    chord = np.linalg.norm(unit_vector(ra1, dec1) - unit_vector(ra2, dec2), axis=0)
    return np.degrees(2 * np.arcsin(chord / 2))


def definition(ra0, dec0, x, y):
    """Sky of offsets (x, y) in pixels from the tangent point: the definition of the sky map."""
    xi, eta = np.radians(x * SCALE), np.radians(y * SCALE)
    sin, cos = np.sin(np.radians(dec0)), np.cos(np.radians(dec0))
    if abs(dec0) == 90:
        sin, cos = np.sign(dec0), 0.0
    w = cos - eta * sin
    ra = (ra0 + np.degrees(np.arctan2(xi, w))) % 360
    return ra, np.degrees(np.arctan2(sin + eta * cos, np.hypot(xi, w)))


@pytest.mark.parametrize(("ra0", "dec0"), TANGENTS)
def test_sky_is_the_definition_of_the_sky_map(ra0, dec0):
    x, y = np.random.default_rng(1).uniform(-130_000, 130_000, (2, 500))
    ra, dec = grid(ra0, dec0).to_sky(x + 2499.5, y + 2499.5)
    assert separation(ra, dec, *definition(ra0, dec0, x, y)).max() < 1e-13 * 360
    assert np.all((ra >= 0) & (ra < 360))


@pytest.mark.parametrize(("ra0", "dec0"), TANGENTS)
@pytest.mark.parametrize("orientation", [0.0, 33.3, -170.0])
@pytest.mark.parametrize("x_east", [True, False])
def test_pixels_are_those_of_a_fits_tan_header(ra0, dec0, orientation, x_east):
    from astropy.wcs import WCS

    own = grid(ra0, dec0, x0=-7300.25, y0=11200.75, orientation=orientation, x_east=x_east)
    cos, sin = np.cos(np.radians(orientation)), np.sin(np.radians(orientation))
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crpix = [own.x0 + 1, own.y0 + 1]
    wcs.wcs.crval = [ra0, dec0]
    wcs.wcs.cdelt = [SCALE, SCALE]
    wcs.wcs.pc = [[cos, sin], [-sin, cos]]
    if not x_east:
        wcs.wcs.pc = [[-cos, -sin], [-sin, cos]]
    wcs.wcs.lonpole = 180.0
    x, y = np.random.default_rng(2).uniform(-500, 5500, (2, 300))
    ra, dec = own.to_sky(x, y)
    assert separation(ra, dec, *wcs.all_pix2world(x, y, 0)).max() * 3600 < 1e-9
    fx, fy = wcs.all_world2pix(ra, dec, 0)
    np.testing.assert_allclose([fx, fy], [x, y], rtol=0, atol=1e-8)
    np.testing.assert_allclose(own.to_pixel(ra, dec), [x, y], rtol=0, atol=1e-8)


@pytest.mark.parametrize(("ra0", "dec0"), TANGENTS)
def test_there_and_back(ra0, dec0):
    own = grid(ra0, dec0, orientation=12.0)
    x, y = np.random.default_rng(3).uniform(-1e5, 1e5, (2, 1000))
    np.testing.assert_allclose(own.to_pixel(*own.to_sky(x, y)), [x, y], rtol=0, atol=1e-8)


def test_poles_are_exact():
    north, south = grid(135.0, 90.0), grid(225.0, -90.0)
    assert north.to_sky(2499.5, 2499.5)[1] == 90.0
    assert south.to_sky(2499.5, 2499.5)[1] == -90.0
    np.testing.assert_allclose(north.to_pixel(77.0, 90.0), [2499.5, 2499.5], atol=1e-9)
    np.testing.assert_allclose(south.to_pixel(200.0, -90.0), [2499.5, 2499.5], atol=1e-9)
    # North cap: ra = 135 + atan2(x, -y); south cap: ra = 225 + atan2(x, y).
    x, y = np.array([10.0, -3.0, 5.0]), np.array([4.0, 8.0, -6.0])
    for own, sign in ((north, -1), (south, 1)):
        expected = (own.ra0 + np.degrees(np.arctan2(x, sign * y))) % 360
        np.testing.assert_allclose(own.to_sky(x + 2499.5, y + 2499.5)[0], expected, atol=1e-9)


def test_x_runs_east_y_north_and_the_mirrored_grid_west():
    for own, direction in ((grid(10.0, 20.0), 1), (grid(10.0, 20.0, x_east=False), -1)):
        ra, dec = own.to_sky(np.array([2499.5, 2509.5, 2499.5]), np.array([2499.5, 2499.5, 2509.5]))
        assert direction * (ra[1] - ra[0]) > 0
        assert dec[2] - dec[0] == pytest.approx(10 * SCALE, rel=1e-9)
        assert ra[2] == pytest.approx(ra[0], abs=1e-12)


def test_orientation_is_the_position_angle_of_y():
    own = grid(10.0, 0.0, orientation=30.0)
    ra, dec = own.to_sky(np.array([2499.5, 2499.5]), np.array([2499.5, 2500.5]))
    # xi = sin(o) y, eta = cos(o) y: y points 30 degrees from north to east.
    angle = np.degrees(np.arctan2(ra[1] - ra[0], dec[1] - dec[0]))
    assert angle == pytest.approx(30.0, abs=1e-6)


def test_right_ascension_stays_below_360():
    own = grid(0.0, 0.0)
    ra, _ = own.to_sky(2499.5 - np.array([1e-14, 1e-12, 1e-9, 1.0, 0.0]), 2499.5)
    assert np.all((ra >= 0) & (ra < 360))
    assert sky_position(np.array([1.0, -1e-20, 0.0]))[0] == 0.0
    left, right = own.to_sky(np.array([2498.5, 2500.5]), 2499.5)[0]
    assert left > 359.9 and right < 0.1
    np.testing.assert_allclose(
        own.to_pixel([359.99, -0.01], 0.0)[0], 2499.5 - 0.01 / SCALE, rtol=1e-6
    )


def test_the_far_hemisphere_has_no_pixel():
    own = grid(30.0, 40.0)
    ra, dec = np.array([210.0, 210.0, 121.0, 30.0]), np.array([-40.0, 50.0, -1.0, 41.0])
    x, y = own.to_pixel(ra, dec)
    np.testing.assert_array_equal(np.isnan(x), [True, True, True, False])
    np.testing.assert_array_equal(np.isnan(y), np.isnan(x))


def test_scalars_and_broadcasting():
    own = grid(30.0, 40.0)
    x, y = own.to_pixel(30.0, 40.0)
    assert np.ndim(x) == 0 and (x, y) == (pytest.approx(2499.5), pytest.approx(2499.5))
    assert own.to_sky(np.arange(4.0), np.arange(3.0)[:, None])[0].shape == (3, 4)
    assert own.shape == (5000, 5000)
    assert own.pixel_area == pytest.approx(np.radians(SCALE) ** 2)


def test_corners_and_centre():
    own = grid(30.0, 40.0, nx=11, ny=7, x0=100.0, y0=-50.0)
    x, y = own.to_pixel(*own.corners())
    np.testing.assert_allclose(x, [-0.5, 10.5, 10.5, -0.5], atol=1e-8)
    np.testing.assert_allclose(y, [-0.5, -0.5, 6.5, 6.5], atol=1e-8)
    np.testing.assert_allclose(own.to_pixel(*own.center), [5.0, 3.0], atol=1e-8)


def test_padding_moves_no_pixel_on_the_sky():
    own = grid(30.0, 40.0, orientation=5.0)
    wide = own.padded(7)
    assert (wide.nx, wide.ny) == (5014, 5014)
    np.testing.assert_allclose(wide.to_sky(17.0, 27.0), own.to_sky(10.0, 20.0), rtol=0, atol=1e-13)


@pytest.mark.parametrize("x_east", [True, False])
@pytest.mark.parametrize("skycell", ["045p86x47y51", None])
def test_wcs_info_round_trip(x_east, skycell):
    import json

    own = grid(
        *(45.0, 86.1538),
        **{"x0": -2300.5, "y0": 16899.5, "orientation": 3.0, "skycell": skycell, "x_east": x_east},
    )
    info = own.to_wcs_info()
    assert Grid.from_wcs_info(json.loads(json.dumps(info))) == own
    assert set(info) - {"x_east"} == {
        *("name", "pixel_scale", "ra_projection_center", "dec_projection_center"),
        *("x0_projection", "y0_projection", "ra_center", "dec_center", "nx", "ny"),
        *("orientat", "orientat_projection_center"),
    }
    assert ("x_east" in info) == (not x_east)
    with pytest.raises(KeyError):
        Grid.from_wcs_info({key: value for key, value in info.items() if key != "nx"})


def test_wcs_info_of_a_real_skycell():
    own = SkyMap().cell("135p90x25y49").grid
    info = own.to_wcs_info()
    assert (info["ra_projection_center"], info["dec_projection_center"]) == (135.0, 90.0)
    assert (info["x0_projection"], info["y0_projection"]) == (7299.5, 122499.5)
    ra, dec = own.to_sky(0, 0)
    assert (ra, dec) == (
        pytest.approx(131.58989149650404, abs=1e-11),
        pytest.approx(88.12582889870446, abs=1e-12),
    )


@pytest.mark.parametrize(
    ("ra0", "ra", "expected"),
    [(0.0, 359.0, 1.0), (0.0, 200.0, -200.0), (135.0, 359.0, -224.0), (225.0, 10.0, 215.0)],
)
def test_orientat_wraps_as_in_the_sky_map_only_around_zero(ra0, ra, expected):
    from romosaic.grid import _offset

    assert _offset(ra0, ra) == pytest.approx(expected)


def test_mirror_image_is_another_place():
    own = grid(45.0, 80.0, x0=-2300.5)
    mirrored = replace(own, x_east=False)
    assert separation(*own.to_sky(10.0, 20.0), *mirrored.to_sky(10.0, 20.0)) > 0.05


def test_middle_pixel_shrinks_away_from_the_tangent_point():
    assert grid().middle_pixel_area == pytest.approx(grid().pixel_area, rel=1e-15)
    far = grid(30.0, -10.0, y0=-150_000.0)
    angle = np.arctan((2499.5 - far.y0) * far.scale)
    assert far.middle_pixel_area == pytest.approx(far.pixel_area * np.cos(angle) ** 3, rel=1e-14)
    assert far.middle_pixel_area < 0.999 * far.pixel_area


def test_east_and_north_are_the_derivatives_of_the_position():
    ra, dec = np.random.default_rng(3).uniform([[0.0], [-80.0]], [[360.0], [80.0]], (2, 50))
    east, north = east_north(ra, dec)
    h = 1e-4
    along_ra = unit_vector(ra + h, dec) - unit_vector(ra - h, dec)
    along_dec = unit_vector(ra, dec + h) - unit_vector(ra, dec - h)
    np.testing.assert_allclose(east, along_ra / np.linalg.norm(along_ra, axis=0), atol=1e-9)
    np.testing.assert_allclose(north, along_dec / np.linalg.norm(along_dec, axis=0), atol=1e-9)


def test_east_and_north_are_exact_at_poles():
    east, north = east_north([135.0, 225.0, 10.0], [90.0, -90.0, 0.0])
    r = np.sqrt(0.5)
    np.testing.assert_allclose(east[:, :2], [[-r, r], [-r, -r], [0, 0]], atol=1e-15)
    np.testing.assert_allclose(north[:, :2], [[r, -r], [-r, -r], [0, 0]], atol=1e-15)
    assert (north[2, :2] == 0).all() and north[2, 2] == 1
    # one number as well as many
    assert [v.shape for v in east_north(135.0, 90.0)] == [(3,), (3,)]
    np.testing.assert_array_equal(east_north(135.0, 90.0)[1], north[:, 0])
