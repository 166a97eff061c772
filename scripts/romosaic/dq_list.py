"""
Data quality of an exposure without its zeros: the pixels that have a flag.

Most pixels have none. Steps that leave out bad pixels read a list of them in place of four bytes per pixel.
"""

from dataclasses import dataclass

import numpy as np

from .checked_plane import row_span

#: Rows that are looked at at a time.
_PIECE = 64


@dataclass(frozen=True)
class DqList:
    """
    Data quality, of which parts are read like an array's.

    Attributes
    ----------
    shape : tuple of int
        (ny, nx) of the exposure.
    index : (n,) uint32 array
        Flat indices of the pixels that have a flag, ascending.
    values : (n,) uint32 array
        Their flags.
    """

    shape: tuple[int, int]
    index: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, dq: np.ndarray) -> "DqList":
        """
        List those of a plane.

        Parameters
        ----------
        dq : (ny, nx) uint32 array

        Returns
        -------
        DqList
        """
        ny, nx = dq.shape
        # of bools, of which numpy takes many at a time, and of pieces that stay in the processor's cache
        pieces = range(0, ny, _PIECE)
        found = [y * nx + np.flatnonzero(dq[y : y + _PIECE].ravel() != 0) for y in pieces]
        index = np.concatenate(found).astype(np.uint32)
        return cls(dq.shape, index, dq.ravel()[index])

    def mask(self, bits: np.uint32) -> np.ndarray:
        """(ny, nx) bool array: pixels with any of some bits."""
        plane = np.zeros(self.shape, bool)
        plane.ravel()[self.index[self.values & bits != 0]] = True
        return plane

    @property
    def dtype(self) -> np.dtype:
        """Of the flags."""
        return self.values.dtype

    def __getitem__(self, part) -> np.ndarray:
        """Flags of a part of the exposure: rows, or rows and columns, as slices or integers."""
        ny, nx = self.shape
        first, stop = row_span(part, ny)
        low, high = np.searchsorted(self.index, np.array([first * nx, stop * nx], np.uint32))
        plane = np.zeros((stop - first, nx), np.uint32)
        plane.ravel()[self.index[low:high] - first * nx] = self.values[low:high]
        rows, *columns = part if isinstance(part, tuple) else (part,)
        numbers = np.arange(ny)[rows] - first
        if np.array_equal(numbers, np.arange(stop - first)):  # all that is there: no copy
            numbers = slice(None)
        return plane[(numbers, *columns)]

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        """Return the whole plane."""
        return np.asarray(self[:], dtype=dtype)


@dataclass(frozen=True)
class BadPixels:
    """
    Pixels to leave out, row by row.

    Attributes
    ----------
    starts : (ny + 1,) int64 array
        Where the columns of each row begin, and where the last ones end.
    columns : (n,) uint16 array
        Ascending in each row.
    """

    starts: np.ndarray
    columns: np.ndarray

    @classmethod
    def of(cls, dq: np.ndarray | DqList, bits: np.uint32) -> "BadPixels":
        """
        Find the pixels with any of some bits.

        Parameters
        ----------
        dq : (ny, nx) uint32 array or DqList
            Data quality.
        bits : uint32
            Bits of bad pixels.

        Returns
        -------
        BadPixels
        """
        if isinstance(dq, DqList):
            index = dq.index[dq.values & bits != 0]
        else:
            index = np.flatnonzero(np.asarray(dq).ravel() & bits != 0)
        ny, nx = dq.shape
        starts = np.searchsorted(index, (np.arange(ny + 1) * nx).astype(index.dtype))
        return cls(starts.astype(np.int64), (index % nx).astype(np.uint16))

    def of_rows(self, y0: int, y1: int) -> tuple[np.ndarray, np.ndarray]:
        """Starts of rows `y0` to `y1` - 1, and the columns of all: for compiled loops."""
        return self.starts[y0 : y1 + 1], self.columns

    @property
    def nbytes(self) -> int:
        """Bytes of both arrays."""
        return self.starts.nbytes + self.columns.nbytes
