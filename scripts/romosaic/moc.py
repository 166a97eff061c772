"""
Step `moc`, on request: the part of the sky that coadds cover, as a multi-order coverage map (MOC).

IVOA Recommendation MOC 2.0 (Fernique et al. 2022), section 4.3: HEALPix cells, written as their NUNIQ numbers,
4^(order + 1) + index. Aladin, TOPCAT and mocpy read it.

Cells are held as ranges of nested indices, (n, 2) int64 [first, last), sorted and apart: a survey covers
thousands of millions of cells, and its ranges are as many as cells lie along its edge.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from .atomic import atomic
from .errors import REMAKE, ProductError
from .grid import Grid

#: Samples of a mosaic along the side of a HEALPix cell.
_SAMPLES = 6
#: Side of a HEALPix cell of order 0, degrees, about: root of a twelfth of the sky.
_BASE = 58.6


def covered(weight: np.ndarray, grid: Grid, order: int) -> np.ndarray:
    """
    Ranges of the HEALPix cells in which a mosaic has data.

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
    (n, 2) int64 array
        Ranges.
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
    cells = np.concatenate([np.empty(0, np.int64), *found]).astype(np.int64)
    return union([np.stack([cells, cells + 1], axis=1)])


def union(parts: Iterable[np.ndarray]) -> np.ndarray:
    """Ranges of what is in any of the parts, ranges of one order too, in any order and overlapping."""
    ranges = np.concatenate([np.empty((0, 2), np.int64), *parts])
    ranges = ranges[np.argsort(ranges[:, 0], kind="stable")]
    # A range that begins behind all ends so far is the first of the next ones.
    ends = np.maximum.accumulate(ranges[:, 1])
    apart = ranges[1:, 0] > ends[:-1]
    first, last = np.r_[True, apart][: len(ranges)], np.r_[apart, True][: len(ranges)]
    return np.stack([ranges[first, 0], ends[last]], axis=1)


def cells(ranges: np.ndarray) -> np.ndarray:
    """Cells (m,) int64 of ranges, one after the other."""
    n = ranges[:, 1] - ranges[:, 0]
    return np.repeat(ranges[:, 0] - np.cumsum(n) + n, n) + np.arange(n.sum())


def join(parts: list[tuple[np.ndarray, int]]) -> tuple[np.ndarray, int]:
    """Ranges (ranges, order) of all parts, of the finest of their orders."""
    order = max((own for _, own in parts), default=0)
    return union(ranges << 2 * (order - own) for ranges, own in parts), order


def uniq(ranges: np.ndarray, order: int) -> np.ndarray:
    """NUNIQ numbers of ranges of an order, int64, sorted: four cells of one parent are the parent."""
    found, left = [], ranges
    for level in range(order + 1):
        shift = 2 * (order - level)
        first, last = -(-left[:, 0] >> shift), left[:, 1] >> shift
        whole = first < last
        first, last = first[whole], last[whole]
        found.append(cells(np.stack([first, last], axis=1)) + (4 << 2 * level))
        before = np.stack([left[whole, 0], first << shift], axis=1)
        behind = np.stack([last << shift, left[whole, 1]], axis=1)
        left = np.concatenate([left[~whole], before, behind])
        left = left[left[:, 0] < left[:, 1]]
    return np.sort(np.concatenate(found))


def square_degrees(ranges: np.ndarray, order: int) -> float:
    """Area of ranges of one order."""
    count = int((ranges[:, 1] - ranges[:, 0]).sum())
    return float(count * np.degrees(np.degrees(4 * np.pi)) / (12 << (2 * order)))


def write(path: str | Path, ranges: np.ndarray, order: int) -> None:
    """Write ranges of one order as a MOC."""
    from astropy.io import fits

    column = fits.Column("UNIQ", "K", array=uniq(ranges, order))
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
        file = fits.HDUList([fits.PrimaryHDU(), table])
        file.writeto(temporary, output_verify="exception", checksum=True)


def read(path: str | Path) -> tuple[np.ndarray, int]:
    """
    Read what `write` wrote.

    Returns
    -------
    ranges : (n, 2) int64 array
        Ranges.
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
        raise ProductError(path, f"is not a MOC ({error})", REMAKE) from error
    level = np.floor(np.log2(numbers / 4) / 2).astype(np.int64)
    first = numbers - (4 << 2 * level)
    return union([np.stack([first, first + 1], axis=1) << 2 * (order - level)[:, None]]), order
