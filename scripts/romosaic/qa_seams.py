"""Seams: what neighbouring skycells say of the sky that they share, levels and sources."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .grid import Grid, unit_vector
from .small_image import SmallImage

#: Catalog columns that are used.
COLUMNS = ("ra", "dec", "aper04_flux", "aper04_flux_err", "image_flags", "warning_flags")
#: Two catalogs' positions of one source differ by less than this, arcsec.
MATCH = 0.15
#: Least signal over noise of a source that is compared, and least number of blocks and sources.
_SNR, _BLOCKS, _SOURCES = 20.0, 20, 3


@dataclass(frozen=True)
class Cell:
    """
    A product on a skycell.

    Attributes
    ----------
    name : str
        The product.
    series : str
        What products that are compared share: their name without the skycell.
    grid : Grid
        Its grid.
    """

    name: str
    series: str
    grid: Grid


def neighbours(cells: Sequence[Cell]) -> Iterator[tuple[int, int]]:
    """
    Pairs of products of a series whose skycells overlap, each once.

    Parameters
    ----------
    cells : sequence of Cell
        The products.
    """
    from scipy.spatial import cKDTree

    groups = defaultdict(list)
    for number, cell in enumerate(cells):
        groups[cell.series].append(number)
    for members in groups.values():
        centers = np.array([unit_vector(*cells[k].grid.center) for k in members])
        reach = max(np.hypot(*cells[k].grid.shape) * cells[k].grid.scale for k in members)
        for a, b in sorted(cKDTree(centers).query_pairs(reach)):
            i, j = sorted((members[a], members[b]))
            if _touch(cells[i].grid, cells[j].grid):
                yield i, j


def _touch(first: Grid, second: Grid) -> bool:
    """Whether some place of a lattice on the first grid lies on the second."""
    x, y = np.meshgrid(np.linspace(0, first.nx - 1, 101), np.linspace(0, first.ny - 1, 101))
    x, y = second.to_pixel(*first.to_sky(x, y))
    return bool(((x > 0) & (x < second.nx - 1) & (y > 0) & (y < second.ny - 1)).any())


def level_difference(first: SmallImage, second: SmallImage) -> tuple[float | None, int]:
    """
    Difference of the levels of two images where both are fully covered, first - second, MJy/sr.

    Parameters
    ----------
    first, second : SmallImage
        In the same projection region their blocks are the same pixels; otherwise the second is interpolated.

    Returns
    -------
    difference : float or None
        Median over the shared blocks; None if there are fewer than 20.
    n : int
        Shared blocks.
    """
    y0, y1, x0, x1 = _shared_blocks(first.grid, second.grid)
    if y1 <= y0 or x1 <= x0:
        return None, 0
    part = np.s_[y0:y1, x0:x1]
    place = second.grid.to_pixel(
        *first.grid.to_sky(*np.meshgrid(np.arange(x0, x1), np.arange(y0, y1)))
    )
    own = np.where(first.covered[part] == 1, first.data[part], np.nan)
    difference = own - _sample(second, *place)
    difference = difference[np.isfinite(difference)]
    if difference.size < _BLOCKS:
        return None, int(difference.size)
    return float(np.median(difference)), int(difference.size)


def _shared_blocks(first: Grid, second: Grid) -> tuple[int, int, int, int]:
    """Box (y0, y1, x0, x1) on the first grid around what lies on the second."""
    steps = np.arange(0.0, max(first.shape), 4)
    x, y = np.meshgrid(
        np.r_[steps[steps < first.nx], first.nx - 1], np.r_[steps[steps < first.ny], first.ny - 1]
    )
    u, v = second.to_pixel(*first.to_sky(x, y))
    inside = (u > -6) & (u < second.nx + 5) & (v > -6) & (v < second.ny + 5)
    if not inside.any():
        return 0, 0, 0, 0
    y, x = y[inside], x[inside]
    return (
        max(int(y.min()) - 4, 0),
        min(int(y.max()) + 5, first.ny),
        max(int(x.min()) - 4, 0),
        min(int(x.max()) + 5, first.nx),
    )


def _sample(image: SmallImage, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Bilinear values; NaN where a pixel that counts is not fully covered."""
    # Positions on pixel centres, but for rounding, take that pixel alone.
    near = [np.rint(axis) for axis in (x, y)]
    if max(np.abs(x - near[0]).max(), np.abs(y - near[1]).max()) < 1e-3:
        x, y = near
    left, low = np.floor(x), np.floor(y)
    total = np.zeros(x.shape)
    for dy in (0, 1):
        for dx in (0, 1):
            share = (1 - np.abs(x - left - dx)) * (1 - np.abs(y - low - dy))
            col, row = (left + dx).astype(int), (low + dy).astype(int)
            inside = (col >= 0) & (col < image.grid.nx) & (row >= 0) & (row < image.grid.ny)
            row, col = np.where(inside, row, 0), np.where(inside, col, 0)
            whole = inside & (image.covered[row, col] == 1)
            total += np.where(share > 0, share * np.where(whole, image.data[row, col], np.nan), 0)
    return total


def same_sources(first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]) -> dict:
    """
    Compare bright sources that two catalogs share.

    Parameters
    ----------
    first, second : mapping
        `COLUMNS` of the catalogs.

    Returns
    -------
    dict
        `sources`: number; `flux`: median of flux ratio - 1; `flux_scatter`: of the ratio; `offset`: median
        distance, mas; None with fewer than three sources.
    """
    from scipy.spatial import cKDTree

    a, b = _bright(first), _bright(second)
    nothing = {"sources": 0, "flux": None, "flux_scatter": None, "offset": None}
    if not len(a[0]) or not len(b[0]):
        return nothing
    limit = np.radians(MATCH / 3600)
    distance, partner = cKDTree(b[0]).query(a[0], distance_upper_bound=limit)
    mine = np.flatnonzero(np.isfinite(distance))
    # Each other's nearest, or a blend would be compared with one of its parts.
    mine = mine[cKDTree(a[0]).query(b[0][partner[mine]])[1] == mine]
    if len(mine) < _SOURCES:
        return nothing | {"sources": len(mine)}
    ratio = a[1][mine] / b[1][partner[mine]]
    middle = float(np.median(ratio))
    return {
        "sources": len(mine),
        "flux": middle - 1,
        "flux_scatter": float(1.4826 * np.median(np.abs(ratio - middle))),
        "offset": float(np.median(np.degrees(distance[mine]) * 3.6e6)),
    }


def _bright(columns: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors (n, 3) and fluxes of sources that are bright and whole."""
    with np.errstate(invalid="ignore", divide="ignore"):
        good = columns["aper04_flux"] / columns["aper04_flux_err"] > _SNR
    # A segment cut off by the rim (1, 2) has its centroid elsewhere; 64: the aperture itself is cut.
    good &= (columns["image_flags"] & (1 | 2 | 64) == 0) & (columns["warning_flags"] == 0)
    good &= np.isfinite(columns["ra"]) & np.isfinite(columns["dec"])
    return unit_vector(columns["ra"][good], columns["dec"][good]).T, columns["aper04_flux"][good]
