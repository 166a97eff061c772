"""Tables of sky map reference files, made of a computed map: files for tests and benchmarks."""

from functools import cache

import numpy as np
from romosaic.grid import Grid
from romosaic.skycell import Skycell
from romosaic.skymap import SkyMap
from romosaic.skymap_file import CELL_DTYPE, REGION_DTYPE


@cache
def region_starts(sky: SkyMap) -> np.ndarray:
    """(R + 1,) int64: index in the whole sky of the first cell of each region, and the number of cells."""
    counts = [len(sky.tables.lattice(row)) for row in range(len(sky.tables.regions))]
    return np.concatenate([[0], np.cumsum(counts)])


def cell_of_index(sky: SkyMap, index: int) -> Skycell:
    """Skycell of an index in the whole sky."""
    row = int(np.searchsorted(region_starts(sky), index, side="right")) - 1
    return sky.cell(sky.tables.names(row, np.array([index - region_starts(sky)[row]]))[0])


def index_of_cell(sky: SkyMap, name: str) -> int:
    """Index in the whole sky of a skycell."""
    row, local = sky.tables.locate(name)
    return int(region_starts(sky)[row]) + local


def reference_tables(sky: SkyMap, regions: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """
    Tables of a reference file for some projection regions of a sky map.

    Parameters
    ----------
    sky : SkyMap
        The map; its regions must be computed ones.
    regions : list of int
        Indices of the regions, ascending.

    Returns
    -------
    projection_regions : (R,) structured array of `REGION_DTYPE`
    skycells : (n,) structured array of `CELL_DTYPE`
        In index order.
    """
    source = sky.tables.regions
    table = np.zeros(len(regions), REGION_DTYPE)
    cells = []
    for out, row in zip(table, regions, strict=True):
        cells.append(_cell_rows(sky, row))
        start = region_starts(sky)[row]
        nx, ny = _nominal_size(sky, row)
        out["index"], out["orientat"] = source.index[row], source.orientation[row]
        out["ra_tangent"], out["dec_tangent"] = source.ra[row], source.dec[row]
        for limit in ("ra_min", "ra_max", "dec_min", "dec_max"):
            out[limit] = getattr(source, limit)[row]
        out["nx"], out["ny"] = nx, ny
        out["x_tangent"], out["y_tangent"] = (nx - 1) / 2, (ny - 1) / 2
        out["skycell_start"], out["skycell_end"] = start, start + len(cells[-1])
    return table, np.concatenate(cells)


def _cell_rows(sky: SkyMap, row: int) -> np.ndarray:
    lattice, regions = sky.tables.lattice(row), sky.tables.regions
    middle, edge = (sky.cell_size - 1) / 2, sky.cell_size / 2
    cells = np.zeros(len(lattice), CELL_DTYPE)
    cells["name"] = sky.tables.names(row, np.arange(len(lattice)))
    cells["x_tangent"], cells["y_tangent"] = middle - lattice.x, middle - lattice.y
    plane = Grid(
        regions.ra[row],
        regions.dec[row],
        0.0,
        0.0,
        sky.pixel_scale,
        1,
        1,
        regions.orientation[row],
        None,
        sky.x_east,
    )
    ra, dec = plane.to_sky(lattice.x, lattice.y)
    cells["ra_center"], cells["dec_center"] = ra, dec
    through_zero = regions.ra_min[row] > regions.ra_max[row]
    cells["orientat"] = regions.ra[row] - np.where(through_zero & (ra > 270), ra - 360, ra)
    for number, (dx, dy) in enumerate(((-1, -1), (1, -1), (1, 1), (-1, 1)), start=1):
        ra, dec = plane.to_sky(lattice.x + dx * edge, lattice.y + dy * edge)
        cells[f"ra_corn{number}"], cells[f"dec_corn{number}"] = ra, dec
    return cells


def _nominal_size(sky: SkyMap, row: int) -> tuple[int, int]:
    """Nominal size of a region, pixels: of its height and of its width at its wider parallel."""
    regions = sky.tables.regions
    low, high = regions.dec_min[row], regions.dec_max[row]
    if regions.width[row] == 360:
        side = 2 * int((high - low) / sky.pixel_scale)
        return side, side
    width = regions.width[row] * np.cos(np.radians(min(abs(low), abs(high))))
    return 2 * int(width / sky.pixel_scale / 2), 2 * int((high - low) / sky.pixel_scale / 2)
