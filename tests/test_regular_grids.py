"""Regular grids: tight around their members, and as romancal's options say."""

from dataclasses import replace

import numpy as np
import pytest
from asn_records import REGULAR, record
from header_files import CORNER
from romosaic.config import load
from romosaic.errors import AssociationError
from romosaic.grid import Grid
from romosaic.mosaic_wcs import wcsinfo
from romosaic.regular_grids import MARGIN, RegularGrids

PLACES = [(0, 90), (123, -90), (10, 89.9999), (0, 0), (359.99999, 45), (180, -60), CORNER]
FIELD = [record(width=60, number=k, roll=20 * k) for k in (1, 2)]


def described(**options):
    return REGULAR.described(load({"resample": options})["resample"])


def edges(grid, records):
    """Limits of the members in pixels, [low, high] of x and y."""
    vertices = [np.concatenate([r["footprint"][key] for r in records]) for key in ("ra", "dec")]
    return [(float(v.min()), float(v.max())) for v in grid.to_pixel(*vertices)]


@pytest.mark.parametrize("ra, dec", PLACES)
@pytest.mark.parametrize("rotation, scale", [(0.0, 0.055), (37.0, 0.11), (-120.0, 0.2)])
def test_the_smallest_grid_holds_its_members_closely(ra, dec, rotation, scale):
    plane = Grid(ra, dec, 0, 0, 1 / 3600, 1, 1)
    records = [
        record(*(float(v) for v in plane.to_sky(*xy)), width=60, roll=20 * k)
        for k, xy in enumerate([(0, 0), (130, 40), (-60, 220)])
    ]
    grid = described(rotation=rotation, pixel_scale=scale).around(records, "x")
    # Near a pole each tangent point has its own north, so that no box is the smallest for certain.
    close = MARGIN + 0.6 if abs(dec) < 89 else MARGIN + 0.02 * min(grid.shape)
    for (low, high), n in zip(edges(grid, records), (grid.nx, grid.ny), strict=True):
        assert MARGIN - 0.001 <= low + 0.5 < close
        assert MARGIN - 0.001 <= n - 0.5 - high < close
    assert (grid.x0, grid.y0) == ((grid.nx - 1) / 2, (grid.ny - 1) / 2)
    assert (grid.pixel_scale, grid.x_east) == (scale / 3600, False)
    # The schema asks for this of a product that is no skycell.
    info = wcsinfo(grid)
    for key in ("ra", "dec", "pixel_scale", "orientation"):
        assert info[key] == pytest.approx(info[f"{key}_ref"], rel=1e-12)
    assert info["orientation"] == pytest.approx(rotation % 360)


def test_rotation_is_the_position_angle_of_y_and_x_is_west():
    grid = described(rotation=25).around([record(30.0, 10.0)], "x")
    ra, dec = grid.to_sky(grid.x0 + np.array([0, 0, 100]), grid.y0 + np.array([0, 100, 0]))
    east, north = (ra[1:] - ra[0]) * np.cos(np.radians(10)), dec[1:] - dec[0]
    assert np.degrees(np.arctan2(east, north)) == pytest.approx([25.0, 25.0 - 90], abs=0.01)


def test_one_member_that_is_turned_as_the_grid_fits_it():
    grid = described(rotation=-45).around([record(roll=45)], "x")
    assert grid.nx == grid.ny == pytest.approx(100 / 0.055 + 2 * MARGIN, abs=1)


def test_the_scale_is_that_of_skycells_or_given_or_relative_to_the_first_member():
    records = [record(width=11.0), record(width=99.0, number=2)]
    assert described().around(records, "x").pixel_scale == REGULAR.pixel_scale == 0.055 / 3600
    assert described(pixel_scale_ratio=0.5).around(records, "x").pixel_scale == 0.055 / 3600
    both = described(pixel_scale_ratio=0.5, pixel_scale=0.2)
    assert both.around(records, "x").pixel_scale == 0.2 / 3600


def test_output_shape_is_around_the_middle_of_the_members():
    grid, small = described(output_shape=[300, 201]).around(FIELD, "x"), described()
    whole = small.around(FIELD, "x")
    assert grid == replace(whole, nx=300, ny=201, x0=149.5, y0=100.0)


def test_crval_is_on_crpix():
    options = {"crval": [11.3, 86.44], "crpix": [-10, 20.25], "output_shape": "300 200"}
    grid = described(**options, rotation=30, pixel_scale=0.1).around(FIELD, "x")
    assert grid == Grid(11.3, 86.44, -10.0, 20.25, 0.1 / 3600, 300, 200, -30.0, x_east=False)
    assert grid == described(**options, rotation=30, pixel_scale=0.1).fixed()
    assert grid.to_sky(-10, 20.25) == pytest.approx((11.3, 86.44), abs=1e-12)
    del options["crpix"]
    middle = described(**options).around(FIELD, "x")
    assert (middle.x0, middle.y0) == (149.5, 99.5)


def test_crval_alone_is_where_it_falls_on_the_smallest_grid():
    grid = described(crval=[11.35, 86.45]).around(FIELD, "x")
    assert (grid.ra0, grid.dec0) == (11.35, 86.45)
    for (low, high), n in zip(edges(grid, FIELD), (grid.nx, grid.ny), strict=True):
        assert MARGIN - 0.5 <= low < MARGIN + 0.5
        assert MARGIN - 0.5 <= n - 1 - high < MARGIN + 1.5


def test_crpix_without_output_shape_ends_with_the_members():
    grid = described(crpix=[10, 20]).around(FIELD, "x")
    whole = described().around(FIELD, "x")
    assert (grid.ra0, grid.dec0, grid.x0, grid.y0) == (whole.ra0, whole.dec0, 10, 20)
    ends = [(high, n) for (_, high), n in zip(edges(grid, FIELD), grid.shape[::-1], strict=True)]
    assert all(MARGIN - 0.5 <= n - 1 - high < MARGIN + 0.5 for high, n in ends)


def test_only_what_needs_no_members_is_fixed():
    place = {"crval": [1.0, 2.0], "output_shape": [30, 20]}
    assert described(**place).fixed() == described(**place).around(FIELD, "x")
    for options in ({"crval": [1, 2]}, {"output_shape": [3, 2]}, place | {"pixel_scale_ratio": 1}):
        assert described(**options).fixed() is None


@pytest.mark.parametrize(
    "options, places, reason",
    [
        ({}, [(0, 0), (3, 0)], r"need a grid of \d+ x \d+ pixels, more than 100000 on a side"),
        ({}, [(0, 0), (180, 0)], "its members lie all over the sky"),
        ({}, [(0, 90), (0, -90)], "its members lie all over the sky"),
        ({"crval": [180, 0]}, [(0, 0)], r"not in sight of crval \[180.0, 0.0\]"),
        ({"crpix": [-5000, 0]}, [(0, 0)], "before the first pixel of its grid -> correct crpix"),
        ({"pixel_scale": 1e-4}, [(0, 0)], r"need a grid of \d+ x \d+ pixels"),
    ],
)
def test_absurd_grids_are_refused_in_a_line_that_names_the_product(options, places, reason):
    records = [record(*place, number=k) for k, place in enumerate(places, 1)]
    with pytest.raises(AssociationError, match=reason) as caught:
        described(**options).around(records, "product p")
    assert str(caught.value).startswith("product p: its members") and "\n" not in str(caught.value)


def test_a_grid_keeps_scale_and_rotation_that_it_says_nothing_of():
    base = RegularGrids(None, 0.5, 12.0, (1.0, 2.0), (3.0, 4.0), (5, 6))
    quiet = load({})["resample"]
    assert base.described(quiet) == RegularGrids(None, 0.5, 12.0)
    assert base.described(quiet | {"pixel_scale": 0.36, "rotation": 0.0}) == RegularGrids(
        0.36 / 3600
    )
