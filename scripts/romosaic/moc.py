"""
Step `moc`, on request: the part of the sky that coadds cover, as a multi-order coverage map (MOC).

IVOA Recommendation MOC 2.0 (Fernique et al. 2022), section 4.3: HEALPix cells, written as their NUNIQ numbers,
4^(order + 1) + index. Aladin, TOPCAT and mocpy read it.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from .atomic import atomic
from .errors import ProductError
from .grid import Grid

#: Samples of a mosaic along the side of a HEALPix cell.
_SAMPLES = 6
#: Side of a HEALPix cell of order 0, degrees, about: root of a twelfth of the sky.
_BASE = 58.6


def covered(weight: np.ndarray, grid: Grid, order: int) -> np.ndarray:
    """
    HEALPix cells in which a mosaic has data.

    Pixels are looked at in blocks of at most a sixth of a cell: the cells of the middles of those that hold a
    covered pixel count, so that the map's edge is true to a twelfth of a cell.

    Parameters
    ----------
    weight : (ny, nx) float array
        Weights; covered where positive.
    grid : Grid
        Its pixels.
    order : int
        Order of the cells, 0 to 29.

    Returns
    -------
    (n,) int64 array
        Nested indices, sorted.
    """
    from astropy import units
    from astropy_healpix import lonlat_to_healpix

    side = max(int(_BASE / 2**order / grid.pixel_scale / _SAMPLES), 1)
    rows = np.arange(0, grid.ny, side)
    found = []
    for start in rows:
        band = (weight[start : start + side] > 0).any(axis=0)
        columns = np.flatnonzero(np.logical_or.reduceat(band, np.arange(0, grid.nx, side)))
        if columns.size:
            x = (columns * side + np.minimum((columns + 1) * side, grid.nx) - 1) / 2
            y = (start + min(start + side, grid.ny) - 1) / 2
            ra, dec = grid.to_sky(x, np.full(x.shape, y))
            lon, lat = ra * units.deg, dec * units.deg
            found.append(lonlat_to_healpix(lon, lat, 1 << order, order="nested"))
    return union(found)


def union(parts: Iterable[np.ndarray]) -> np.ndarray:
    """Cells of one order that are in any of the parts, sorted int64."""
    return np.unique(np.concatenate([np.empty(0, np.int64), *parts]).astype(np.int64))


def join(parts: list[tuple[np.ndarray, int]]) -> tuple[np.ndarray, int]:
    """Cells (indices, order) of all parts, of the finest of their orders."""
    order = max((own for _, own in parts), default=0)
    return union(_finer(cells, order - own) for cells, own in parts), order


def _finer(cells: np.ndarray, steps: int) -> np.ndarray:
    """Indices of the parts of cells, so many orders further down."""
    n = 1 << (2 * steps)
    return (cells[:, None] * n + np.arange(n)).ravel()


def uniq(cells: np.ndarray, order: int) -> np.ndarray:
    """NUNIQ numbers of cells of an order, int64, sorted: four of one parent are written as the parent."""
    found = []
    while order > 0:
        parents, counts = np.unique(cells >> 2, return_counts=True)
        whole = parents[counts == 4]
        found.append(cells[~np.isin(cells >> 2, whole)] + (4 << (2 * order)))
        cells, order = whole, order - 1
    return np.sort(np.concatenate([*found, cells + 4]))


def square_degrees(cells: np.ndarray, order: int) -> float:
    """Area of cells of one order."""
    return float(len(cells) * np.degrees(np.degrees(4 * np.pi)) / (12 << (2 * order)))


def write(path: str | Path, cells: np.ndarray, order: int) -> None:
    """Write cells of one order as a MOC."""
    from astropy.io import fits

    column = fits.Column("UNIQ", "K", array=uniq(cells, order))
    table = fits.BinTableHDU.from_columns([column], name="MOC")
    cards = {
        "MOCVERS": "2.0",
        "MOCDIM": "SPACE",
        "PIXTYPE": "HEALPIX",
        "ORDERING": "NUNIQ",
        "COORDSYS": "C",
        "MOCORD_S": order,
        "MOCORDER": order,
        "MOCTOOL": "romosaic",
    }
    table.header.update(cards)
    with atomic(path) as temporary:
        fits.HDUList([fits.PrimaryHDU(), table]).writeto(temporary, output_verify="exception")


def read(path: str | Path) -> tuple[np.ndarray, int]:
    """
    Read what `write` wrote.

    Returns
    -------
    cells : (n,) int64 array
        Nested indices, sorted.
    order : int
        Their order.

    Raises
    ------
    ProductError
        The file is missing or not a MOC.
    """
    from astropy.io import fits

    try:
        with fits.open(path) as file:
            numbers = np.array(file["MOC"].data["UNIQ"], np.int64)
            order = int(file["MOC"].header["MOCORD_S"])
    except (OSError, KeyError) as error:
        raise ProductError(path, f"is not a MOC ({error})", "delete it and run again") from error
    own = np.floor(np.log2(numbers / 4) / 2).astype(int)
    parts = [_finer(numbers[own == k] - (4 << (2 * k)), order - k) for k in np.unique(own)]
    return union(parts), order
