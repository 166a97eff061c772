"""Coadds of real skycells that share a corner: bit for bit the same where they overlap."""

import numpy as np
import pytest
from conftest import CORNER
from drizzle_scene import coadd, noisy, planes_of_coadd
from romosaic.exposure import wcs_function
from romosaic.pixmap import PixelMap
from romosaic.simulate_wcs import build_wcs
from romosaic.skymap import SkyMap
from test_weights import with_blocks

CELLS = [f"000p86x{x}y{y}" for y in (59, 60) for x in (51, 52)]


def overlap(name: str, of: list[str]):
    """The part of a cell that cells of its projection region share."""
    grids = [SkyMap().cell(n).grid for n in of]
    # grid pixels of the plane's tangent point
    x0, y0 = np.array([(g.x0, g.y0) for g in grids]).T
    own = grids[of.index(name)]
    rows, columns = (
        slice(round(here - at.min()), round(here - at.max()) + 5000)
        for here, at in ((own.y0, y0), (own.x0, x0))
    )
    return np.s_[..., rows, columns]


@pytest.fixture(scope="module")
def members():
    """Three exposures with the real distortion round the corner, with flags, and one off the overlap."""
    ra, dec = CORNER
    made = []
    for n, (east, north, roll) in enumerate(
        [(0, 0, 20.0), (2, -1, 75.0), (-1, 2, -40.0), (-45, -45, 5.0)]
    ):
        shape = (260, 240)
        place = ra + east / 3600 / np.cos(np.radians(dec)), dec + north / 3600
        pixmap = PixelMap.fit(wcs_function(build_wcs(shape, *place, roll)), shape)
        member = noisy(str(n), n, pixmap=pixmap)
        member.dq[np.random.default_rng(n).random(shape) < 0.02] |= np.uint32(4)
        made.append(with_blocks(member))
    return made


@pytest.mark.parametrize("weight_type", ["ivm", "ivm-block"])
def test_two_real_cells_agree_bit_for_bit(members, weight_type):
    sky = SkyMap()
    parts = []
    for name in CELLS[:2]:
        cell = sky.cell(name).grid
        made = coadd(members, cell, weight_type=weight_type)
        shared = overlap(name, CELLS[:2])
        parts.append([np.array(plane[shared]) for plane in planes_of_coadd(made)])
    assert parts[0][0].shape == (200, 5000)
    assert np.count_nonzero(parts[0][2]) > 40000
    for one, other in zip(*parts, strict=True):
        assert np.array_equal(one, other, equal_nan=True)


def test_four_real_cells_agree_bit_for_bit_whatever_else_they_hold(members):
    """Data, err, weight, variances, context and dq, by other members of each cell and other threads."""
    sky = SkyMap()
    parts = []
    for n, name in enumerate(CELLS):
        # the fourth member falls in one cell alone: the others are made with it and without
        given = members if n % 2 else members[:3]
        made = coadd(given, sky.cell(name).grid, propagate_dq=True, threads=n)
        arrays = [*planes_of_coadd(made), made.dq]
        parts.append([np.array(plane[overlap(name, CELLS)]) for plane in arrays])
    data, _, weight, _, _, context, dq = parts[0]
    assert np.count_nonzero(weight) == weight.size == 200 * 200
    assert np.unique(context).tolist()[-1] == 7 and np.count_nonzero(dq) > 1000
    assert np.std(data) > 0.01
    for part in parts[1:]:
        for one, other in zip(parts[0], part, strict=True):
            assert np.array_equal(one, other, equal_nan=True)
