"""
Images of which windows are read, each piece of them held against its checksum once.

The checksum that ASDF gives a block is one for all of its bytes: whoever reads a window would have to read the
whole. Files of `flux` have a CRC-32 for each piece of their large blocks instead, which takes a quarter of
MD5's time and finds every damage of up to four bytes in a row (Peterson & Brown 1961, Proc. IRE 49, 228), and
others but for one in four thousand million.
"""

import zlib
from pathlib import Path

import numpy as np

from .errors import REMAKE, ProductError

#: Bytes of a piece, and of the largest block without checksums by pieces. Threads hand over a lock between
#: pieces: with smaller ones they would wait for each other.
PIECE, SMALL = 1 << 19, 1 << 17


def n_pieces(size: int) -> int:
    """Pieces with a checksum of a block of `size` bytes; none of a small one."""
    return -(-size // PIECE) if size > SMALL else 0


def piece_checksums(content: np.ndarray) -> np.ndarray:
    """
    Checksums of the pieces of a large block.

    Parameters
    ----------
    content : (n,) uint8 array
        Its bytes in the file.

    Returns
    -------
    (n_pieces(n),) uint32 array
        CRC-32 of each; none for a small block.
    """
    starts = range(0, content.size if n_pieces(content.size) else 0, PIECE)
    return np.array([zlib.crc32(content[at : at + PIECE]) for at in starts], np.uint32)


def row_span(part, ny: int) -> tuple[int, int]:
    """First row, and the one behind the last, of a part (slices or integers) of an image of `ny` rows."""
    rows = range(ny)[part[0] if isinstance(part, tuple) else part]
    rows = rows if isinstance(rows, range) else range(rows, rows + 1)
    return (min(rows[0], rows[-1]), max(rows[0], rows[-1]) + 1) if rows else (0, 0)


class CheckedPlane:
    """
    Image of a file; its parts are read by rows, or rows and columns (slices or integers), as those of an array.

    Parameters
    ----------
    path : Path
        The file, for messages.
    plane : array
        Map of the image, the whole of its block; of its bytes, where they are packed.
    checksums : (n,) uint32 array
        Of its pieces.
    proven : (n,) bool array
        Pieces that are known to be right, or that a thread is about to check; kept up to date. Of threads that
        read a damaged piece at a time only one need be told: what the others make of it is to be dropped.
    """

    def __init__(
        self, path: Path, plane: np.ndarray, checksums: np.ndarray, proven: np.ndarray
    ) -> None:
        # not the map itself: each part of one would be a map, which takes longer to make
        self._path, self._plane = path, np.asarray(plane)
        self._checksums, self._proven = checksums, proven
        self.shape, self.dtype = plane.shape, plane.dtype

    def __getitem__(self, part) -> np.ndarray:
        """
        Return a part as the map has it.

        Raises
        ------
        ProductError
            A piece with rows of it is not what was written.
        """
        first, stop = row_span(part, self.shape[0])
        if stop > first:
            stride = self._plane.strides[0]
            self._prove(first * stride // PIECE, -(-stop * stride // PIECE))
        return self._plane[part]

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        """Return the whole image, checked."""
        return np.array(self[:], dtype=dtype, copy=copy)

    def _prove(self, first: int, stop: int) -> None:
        if self._proven[first:stop].all():
            return
        content = self._plane.reshape(-1).view(np.uint8)
        for number in range(first, stop):
            if self._proven[number]:
                continue
            self._proven[number] = True  # or is going to be: other threads need not, too
            piece = content[number * PIECE : (number + 1) * PIECE]
            if zlib.crc32(piece) != self._checksums[number]:
                self._proven[number] = False
                what = f"is corrupt: {len(piece)} bytes do not match their checksum"
                raise ProductError(self._path, what, REMAKE)
