import json
import time
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from romosaic.errors import SkymapError
from romosaic.footprint import (
    closed_polygon,
    detector_outline,
    holds_origin,
    square_overlaps,
)
from romosaic.grid import Grid, sky_position, unit_vector
from romosaic.skymap import PIXEL_SCALE, SkyMap
from skymap_tables import index_of_cell
from skymap_vectors import VECTORS

ALL_VECTORS = Path(__file__).parents[2] / "shared" / "data" / "footprints.json"
SKY = SkyMap()
RELAXED = settings(derandomize=True, deadline=None, max_examples=60)


@st.composite
def positions(draw):
    """Random sky positions, a third of them near a pole, none on a limit to the last bit."""
    part = st.integers(0, 10**9 - 1).map(lambda i: (i + 0.5) / 1e9)
    ra, kind = 360 * draw(part), draw(st.integers(0, 2))
    if kind == 0:
        return ra, draw(st.sampled_from([-1, 1])) * (90 - 4 * draw(part))
    return ra, float(np.degrees(np.arcsin(2 * draw(part) - 1)))


@st.composite
def footprints(draw):
    """Outlines of detectors (0.01 to 0.3 degrees) anywhere, in any orientation."""
    ra, dec = draw(positions())
    n, turn = draw(st.integers(300, 10_000)), draw(st.integers(0, 359))
    grid = Grid(ra, dec, n / 2, n / 2, 0.11 / 3600, n, n, float(turn))
    return grid.to_sky(*detector_outline(n, n, 2))


def check_vector(corners, cells):
    ra, dec = np.array(corners).T
    names, pixels = SKY.overlaps(ra, dec)
    assert names == [cell[0] for cell in cells]
    np.testing.assert_allclose(pixels, [cell[2] for cell in cells], rtol=1e-6)
    assert [index_of_cell(SKY, name) for name in names] == [cell[1] for cell in cells]
    own = SKY.cells_overlapping(ra, dec, own_regions_only=True)
    assert own == [cell[0] for cell in cells if cell[3]]


@pytest.mark.parametrize("kind", VECTORS)
def test_footprints_have_exactly_the_cells_of_brute_force(kind):
    check_vector(*VECTORS[kind])


@pytest.mark.skipif(not ALL_VECTORS.exists(), reason="the full set of vectors is not here")
def test_all_brute_force_vectors_are_reproduced():
    every = json.loads(ALL_VECTORS.read_text())["footprints"]
    assert len(every) >= 100
    keys = ("name", "index", "overlap_pixels2", "region_touched")
    for one in every:
        check_vector(one["corners"], [tuple(cell[key] for key in keys) for cell in one["cells"]])


def test_order_of_vertices_does_not_matter():
    for corners, cells in VECTORS.values():
        ra, dec = np.array(corners).T
        for turned in (np.s_[::-1], [2, 3, 0, 1]):
            names, pixels = SKY.overlaps(ra[turned], dec[turned])
            assert names == [cell[0] for cell in cells]
            np.testing.assert_allclose(pixels, [cell[2] for cell in cells], rtol=1e-6)
        assert SKY.cells_overlapping(ra - 360, dec) == [cell[0] for cell in cells]


def test_small_overlaps_are_dropped_on_request():
    corners, cells = VECTORS["subset"]
    ra, dec = np.array(corners).T
    least = min(cell[2] for cell in cells)
    assert least == pytest.approx(477.419, abs=0.001)
    assert len(SKY.cells_overlapping(ra, dec, min_overlap_pixels=477)) == len(cells)
    kept = SKY.cells_overlapping(ra, dec, min_overlap_pixels=478)
    assert kept == [cell[0] for cell in cells if cell[2] > 478]
    assert len(kept) == len(cells) - 1


def test_a_cell_and_its_neighbours_overlap_by_the_border():
    """A footprint that is a cell itself: its sides are shared, but shared sides are no overlap."""
    cell = SKY.cell("270p65x48y49")
    names, pixels = SKY.overlaps(*cell.grid.corners())
    places = {
        (SKY.cell(n).row - cell.row, SKY.cell(n).col - cell.col): p
        for n, p in zip(names, pixels, strict=True)
    }
    border, side = 200.0, 5000.0
    expected = {
        (i, j): (side, border)[abs(i)] * (side, border)[abs(j)]
        for i in (-1, 0, 1)
        for j in (-1, 0, 1)
    }
    assert places == pytest.approx(expected, rel=1e-7)
    inner = Grid(
        **{
            **vars_of(cell.grid),
            "x0": cell.grid.x0 - 200,
            "y0": cell.grid.y0 - 200,
            "nx": 4600,
            "ny": 4600,
        }
    )
    assert SKY.cells_overlapping(*inner.corners()) == [cell.name]


def vars_of(grid):
    return {
        name: getattr(grid, name) for name in ("ra0", "dec0", "x0", "y0", "pixel_scale", "nx", "ny")
    }


@pytest.mark.parametrize(
    ("ra", "dec", "region"),
    [(0, 84.85, 1), (45, 84.85, 2), (90, 84.80, 3), (180, -84.85, 4053), (225, -84.83, 4054)],
)
def test_no_gap_below_the_first_ring(ra, dec, region):
    """The peer finds no cell here: it takes the parallels that bound a region for great circles."""
    grid = Grid(ra, dec, 499.5, 499.5, 0.11 / 3600, 1000, 1000)
    names = SKY.cells_overlapping(*grid.corners())
    assert len(names) >= 1
    primary = SKY.primary_cell(ra, dec)
    assert primary in names
    assert SKY.cell(primary).region == region
    assert names == SKY.cells_overlapping(*grid.corners(), own_regions_only=True)


@RELAXED
@given(footprints(), st.integers(0, 2**31))
def test_every_point_of_a_footprint_lies_in_a_returned_cell(footprint, seed):
    rng = np.random.default_rng(seed)
    inside = unit_vector(*footprint) @ rng.dirichlet(np.full(12, 0.3), 200).T
    cores = set(SKY.primary_cell(*sky_position(inside)).tolist())
    names = SKY.cells_overlapping(*footprint)
    assert cores <= set(names)
    assert cores <= set(SKY.cells_overlapping(*footprint, own_regions_only=True))
    assert names == sorted(names, key=partial(index_of_cell, SKY))


@RELAXED
@given(footprints())
def test_regions_met_hold_every_sampled_point(footprint):
    """`own_regions_only` keeps exactly the regions that a dense sample of the footprint finds."""
    part = np.linspace(1e-9, 1 - 1e-9, 60)
    v = unit_vector(*footprint)[:, [0, 3, 6, 9]]
    u, w = (a.ravel() for a in np.meshgrid(part, part))
    inside = v[:, :1] * (1 - u) * (1 - w) + v[:, 1:2] * u * (1 - w)
    inside = inside + v[:, 2:3] * u * w + v[:, 3:] * (1 - u) * w
    regions = SKY.tables.regions
    sampled = set(regions.find(*sky_position(inside)).tolist())
    polygon, center, radius = closed_polygon(*footprint)
    rows = regions.near(center, radius)
    x = regions.frames[rows] @ polygon
    met = regions.crossed(rows, polygon) | holds_origin(x[:, 0] / x[:, 2], x[:, 1] / x[:, 2])
    assert sampled <= set(rows[met].tolist())
    # More than the sample finds must be a sliver along a limit, less than the sample's step.
    for row in set(rows[met].tolist()) - sampled:
        ra, dec = sky_position(inside)
        gap = np.maximum(regions.dec_min[row] - dec, dec - regions.dec_max[row])
        beside = np.abs((ra - regions.ra[row] + 180) % 360 - 180) - regions.width[row] / 2
        gap = np.maximum(gap, beside * np.cos(np.radians(dec)))
        assert gap.min() < 2 * np.degrees(radius) / 60


def turned_by_90(cell):
    """Region, row and column of a cell after a turn of the sky by +90 degrees in right ascension."""
    sizes = SKY.tables.ring_sizes
    ring = SKY.tables.ring[cell.region]
    if ring == 0:
        return 0, cell.col, -cell.row
    if ring == len(sizes) - 1:
        return cell.region, -cell.col, cell.row
    first = sizes[:ring].sum()
    return int(first + (cell.region - first + sizes[ring] // 4) % sizes[ring]), cell.row, cell.col


@RELAXED
@given(footprints())
def test_a_quarter_turn_of_the_sky_maps_cells_onto_cells(footprint):
    def places(ra, dec, turn):
        names, pixels = SKY.overlaps(ra, dec)
        cells = [SKY.cell(name) for name in names]
        keys = [turn(cell) for cell in cells]
        # A sliver at the level of rounding may be found on one side only.
        return {key: p for key, p in zip(keys, pixels, strict=True) if p > 1}

    before = places(*footprint, turned_by_90)
    after = places(footprint[0] + 90, footprint[1], lambda c: (c.region, c.row, c.col))
    assert after == pytest.approx(before, rel=1e-6, abs=1e-2)


def test_a_region_inside_a_footprint_is_met_without_a_crossing_edge():
    grid = Grid(200.0, 70.0, 0.0, 0.0, 1e-3, 1, 1)
    region = SKY.cell(SKY.primary_cell(*grid.to_sky(0, 0))).region
    corner = 6000 * np.array([-1, 1, 1, -1]), 6000 * np.array([-1, -1, 1, 1])
    names = SKY.cells_overlapping(*grid.to_sky(*corner), own_regions_only=True)
    count = sum(SKY.cell(name).region == region for name in names)
    assert count == len(SKY.tables.lattice(region))


def test_an_edge_that_only_bulges_over_a_parallel_meets_the_region():
    """Both ends of the northern side lie south of the parallel; the great circle between them does not."""
    limit = SKY.tables.regions.dec_min[1]
    bulge = 1 / np.cos(np.radians(3.0))
    dec = np.degrees(np.arctan(np.tan(np.radians(limit)) / bulge)) + 1e-4
    assert dec < limit
    ra, dec = np.array([-3.0, 3, 3, -3]), np.array([dec - 0.1, dec - 0.1, dec, dec])
    regions = {name[:6] for name in SKY.cells_overlapping(ra, dec, own_regions_only=True)}
    assert "000p86" in regions
    lower = {name[:6] for name in SKY.cells_overlapping(ra, dec - 2e-4, own_regions_only=True)}
    assert "000p86" not in lower
    assert regions - lower == {"000p86"}


def test_detector_outline_runs_counter_clockwise_on_the_outer_limits():
    x, y = detector_outline(40, 20, 3)
    assert len(x) == len(y) == 16
    assert (x[0], y[0], x[4], y[4], x[8], y[8], x[12], y[12]) == (
        -0.5,
        -0.5,
        39.5,
        -0.5,
        39.5,
        19.5,
        -0.5,
        19.5,
    )
    np.testing.assert_allclose(np.diff(x[:5]), 10)
    np.testing.assert_allclose(np.diff(y[4:9]), 5)
    area = 0.5 * (x * np.roll(y, -1) - np.roll(x, -1) * y).sum()
    assert area == pytest.approx(40 * 20)
    x, y = detector_outline(40, 20, 0)
    np.testing.assert_array_equal(x, [-0.5, 39.5, 39.5, -0.5])


def closed(points):
    points = np.array([*points, points[0]], float)
    return points[:, 0][None], points[:, 1][None]


def clipped_area(points, x0, y0, side):
    """Sutherland-Hodgman clip of a convex polygon, and the shoelace formula."""
    for axis, limit, sign in ((0, x0, 1), (0, x0 + side, -1), (1, y0, 1), (1, y0 + side, -1)):
        kept = []
        for a, b in zip(points, [*points[1:], *points[:1]], strict=True):
            da, db = sign * (a[axis] - limit), sign * (b[axis] - limit)
            if da >= 0:
                kept.append(a)
            if (da >= 0) != (db >= 0):
                kept.append(a + (b - a) * (da / (da - db)))
        points = kept
        if not points:
            return 0.0
    x, y = np.array(points).T
    return 0.5 * abs((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())


@RELAXED
@given(st.integers(0, 2**31), st.integers(3, 12))
def test_areas_equal_those_of_a_clipped_polygon(seed, number):
    rng = np.random.default_rng(seed)
    angle = np.sort(rng.uniform(0, 2 * np.pi, number))
    size = 10 ** rng.uniform(0, 4)
    points = np.stack([np.cos(angle), np.sin(angle)], 1) * size + rng.normal(size=2) * 500
    x, y = closed(points)
    middles = rng.uniform(-2000, 2000, (20, 2))
    found = square_overlaps(x, y, np.zeros(20, int), *middles.T, 1000.0)
    expected = [clipped_area(list(points), *(m - 500), 1000.0) for m in middles]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-6)


def test_areas_of_a_polygon_that_is_not_convex():
    """A U whose opening faces the squares' lattice: areas by hand."""
    x, y = closed([(0, 0), (30, 0), (30, 30), (20, 30), (20, 10), (10, 10), (10, 30), (0, 30)])
    squares = {
        (15, 25): 0.0,
        (5, 5): 100.0,
        (15, 15): 0.0,
        (10, 10): 75.0,
        (20, 20): 50.0,
        (40, 5): 0.0,
    }
    middles = np.array(list(squares), float)
    found = square_overlaps(x, y, np.zeros(len(middles), int), *middles.T, 10.0)
    np.testing.assert_allclose(found, list(squares.values()), atol=1e-12)
    found = square_overlaps(
        x[:, ::-1], y[:, ::-1], np.zeros(1, int), *np.array([[15.0], [15]]), 100
    )
    np.testing.assert_allclose(found, 700)
    assert holds_origin(x - 5, y - 5)[0]
    assert not holds_origin(x - 15, y - 20)[0]


@pytest.mark.parametrize(
    ("ra", "dec", "said"),
    [
        ([0, 1], [0, 0], "three vertices"),
        ([0, 1, np.nan], [0, 0, 1], "not a sky position"),
        ([0, 1, 1], [0, 0, 91], "not a sky position"),
        ([0, 90, 180, 270], [10, 10, 10, 10], "degrees from its middle"),
        ([0, 180, 180, 0], [0, 0, 1, -1], "degrees from its middle"),
        ([0, 1, 1], [0, 0], "three vertices"),
    ],
)
def test_what_is_no_footprint_is_refused(ra, dec, said):
    with pytest.raises(SkymapError, match=said) as caught:
        SKY.cells_overlapping(ra, dec)
    assert "\n" not in str(caught.value)


def test_a_footprint_of_several_degrees():
    """Larger than a projection region, and handled piecewise: the cores inside add up to its area."""
    grid = Grid(200.0, 70.0, 49_999.5, 49_999.5, 4 * PIXEL_SCALE, 100_000, 100_000)
    names, pixels = SKY.overlaps(*grid.to_sky(*detector_outline(100_000, 100_000, 0)))
    assert len({SKY.cell(name).region for name in names}) > 6
    full = [n for n, p in zip(names, pixels, strict=True) if p > 25e6 - 1]
    x, y = grid.to_pixel(*np.array([SKY.cell(name).grid.center for name in full]).T)
    assert (np.abs(x - 49_999.5) < 50_000).all() & (np.abs(y - 49_999.5) < 50_000).all()
    assert 0.9 < len(full) * 4800**2 / (100_000 * 4) ** 2 < 1.15


@cache
def outlines(number):
    rng = np.random.default_rng(7)
    made = []
    for ra, z, turn in zip(
        *rng.uniform([[0], [-1], [0]], [[360], [1], [360]], (3, number)), strict=True
    ):
        grid = Grid(ra, np.degrees(np.arcsin(z)), 2043.5, 2043.5, 0.11 / 3600, 4088, 4088, turn)
        made.append(grid.to_sky(*detector_outline(4088, 4088)))
    return made


def test_ten_thousand_footprints_take_less_than_twenty_seconds():
    """Measured 0.2 ms each; the limit is 2 ms."""
    made, sky = outlines(500), SkyMap()
    start = time.process_time()
    count = sum(len(sky.cells_overlapping(*one)) for one in made)
    assert time.process_time() - start < 500 * 2e-3
    assert 7 < count / 500 < 11
