"""
Compressed blocks of ASDF files (standard 1.6, "Compression"): zlib, bzp2 and lz4.

The size of what comes out is known from the block's header and is never exceeded, whatever the bytes say.
"""

import bz2
import struct
import zlib
from collections.abc import Iterator

import numpy as np

#: Bytes handed to a decompressor in one go.
_PIECE = 1 << 22


def unpack(compression: str, packed: memoryview, content: np.ndarray) -> int:
    """
    Decompress a block.

    Parameters
    ----------
    compression : str
        Name in the block's header.
    packed : memoryview
        The block as stored.
    content : (n,) uint8 array
        Receives what was packed.

    Returns
    -------
    int
        Bytes unpacked; fewer than n when the block is damaged.

    Raises
    ------
    ValueError
        Unknown compression, or more than n bytes. The decompressors raise errors of their own, too.
    """
    if compression == "lz4":
        return _unpack_lz4(packed, content)
    if compression in ("zlib", "bzp2"):
        engine = zlib.decompressobj() if compression == "zlib" else bz2.BZ2Decompressor()
        return _unpack_stream(engine, packed, content)
    raise ValueError(f"compression {compression!r} is not known")


def _unpack_lz4(packed: memoryview, content: np.ndarray) -> int:
    done = 0
    for piece in lz4_pieces(packed, content.size):
        content[done : done + piece.size] = piece
        done += piece.size
    return done


def lz4_pieces(packed: memoryview, size: int) -> Iterator[np.ndarray]:
    """
    Unpack pieces one after the other: size packed (big-endian), size unpacked (little-endian), bytes.

    Parameters
    ----------
    packed : memoryview
        The block as stored.
    size : int
        Bytes that it may hold at most.

    Yields
    ------
    (n,) uint8 array
        Read-only.

    Raises
    ------
    ValueError
        A piece is cut short, or there is more than `size`.
    """
    from lz4.block import decompress

    place = done = 0
    while place < len(packed):
        (length,) = struct.unpack_from(">I", packed, place)
        piece = packed[place + 4 : place + 4 + length]
        (full,) = struct.unpack_from("<I", piece)
        if len(piece) != length or full > size - done:
            raise ValueError("a piece is cut short or too large")
        yield np.frombuffer(decompress(piece), np.uint8)
        place, done = place + 4 + length, done + full


def _unpack_stream(engine, packed: memoryview, content: np.ndarray) -> int:
    done = 0
    for start in range(0, len(packed), _PIECE):
        # One byte more than fits shows that there is too much.
        out = engine.decompress(packed[start : start + _PIECE], content.size - done + 1)
        if len(out) > content.size - done:
            raise ValueError("it holds more than it says")
        content[done : done + len(out)] = np.frombuffer(out, np.uint8)
        done += len(out)
        if engine.eof:
            break
    return done
