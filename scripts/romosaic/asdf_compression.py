"""
Compressed blocks of ASDF files (standard 1.6, "Compression"): zlib, bzp2 and lz4.

The size of what comes out is known from the block's header and is never exceeded, whatever the bytes say.
"""

import bz2
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np

#: Bytes handed to a decompressor in one go.
_PIECE = 1 << 22
#: Bytes of each piece by which `pack` sees whether compression pays, and what they may shrink to.
_SAMPLE, _WORTH = 1 << 16, 0.9


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
    decompress, done = _decompress_lz4(), 0
    for piece, size in _lz4_parts(packed, content.size):
        if decompress(piece, content[done : done + size]) != size:
            raise ValueError("a piece is damaged")
        done += size
    return done


def lz4_pieces(packed: memoryview, size: int) -> Iterator[np.ndarray]:
    """
    Unpack pieces one after the other.

    Parameters
    ----------
    packed : memoryview
        The block as stored.
    size : int
        Bytes that it may hold at most.

    Yields
    ------
    (n,) uint8 array

    Raises
    ------
    ValueError
        A piece is cut short or damaged, or there is more than `size`.
    """
    decompress = _decompress_lz4()
    for piece, full in _lz4_parts(packed, size):
        content = np.empty(full, np.uint8)
        if decompress(piece, content) != full:
            raise ValueError("a piece is damaged")
        yield content


def unpack_part(packed: memoryview, size: int, start: int, content: np.ndarray) -> int:
    """
    Unpack a part of an lz4 block: pieces before it are passed over, those after it not looked at.

    Parameters
    ----------
    packed : memoryview
        The block as stored.
    size : int
        Bytes of the whole block, unpacked.
    start : int
        First byte wanted.
    content : (n,) uint8 array
        Receives the n bytes from there on.

    Returns
    -------
    int
        Bytes unpacked into `content`; fewer than n when the block is cut short.

    Raises
    ------
    ValueError
        A piece is cut short or damaged, or there is more than `size`.
    """
    decompress, stop, first, done = _decompress_lz4(), start + content.size, 0, 0
    for piece, full in _lz4_parts(packed, size):
        low, high = max(first, start), min(first + full, stop)
        if low < high:
            out = np.empty(full, np.uint8)
            if decompress(piece, out) != full:
                raise ValueError("a piece is damaged")
            content[low - start : high - start] = out[low - first : high - first]
            done += high - low
        first += full
        if first >= stop:
            break
    return done


def _lz4_parts(packed: memoryview, size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Pieces as stored, and their sizes: size packed (big-endian), size unpacked (little-endian), bytes."""
    source, place, done = np.frombuffer(packed, np.uint8), 0, 0
    while place < len(packed):
        (length,) = struct.unpack_from(">I", packed, place)
        (full,) = struct.unpack_from("<I", packed, place + 4)
        piece = source[place + 8 : place + 4 + length]
        if len(piece) != length - 4 or full > size - done:
            raise ValueError("a piece is cut short or too large")
        yield piece, full
        place, done = place + 4 + length, done + full


@cache
def _decompress_lz4() -> Callable[[np.ndarray, np.ndarray], int]:
    """
    Return the function (packed, content) -> bytes unpacked, negative for a damaged piece.

    The Python package makes two copies of each piece in memory that is fresh each time, which costs several
    times what the unpacking does: the library in it is called instead, which never writes beyond `content`.
    """
    import ctypes

    from lz4 import block

    try:
        function = ctypes.CDLL(block._block.__file__).LZ4_decompress_safe
    except (AttributeError, OSError):  # a package that hides its library
        return _copied_lz4
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int]

    def decompress(packed, content):
        if max(packed.size, content.size) >= 1 << 31:
            return -1
        return function(packed.ctypes.data, content.ctypes.data, packed.size, content.size)

    return decompress


def _copied_lz4(packed: np.ndarray, content: np.ndarray) -> int:
    from lz4.block import decompress

    piece = np.frombuffer(decompress(packed, uncompressed_size=content.size), np.uint8)
    content[: piece.size] = piece
    return piece.size


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


def pack(content: memoryview) -> list[bytes] | None:
    """
    Compress a block by lz4.

    Parameters
    ----------
    content : memoryview of uint8
        The block.

    Returns
    -------
    list of bytes or None
        Pieces as they are stored; None where compression would gain too little: noisy floats do not shrink.
    """
    from lz4.block import compress

    starts = range(0, len(content), _PIECE)
    samples = [content[start : start + _SAMPLE] for start in starts]
    if sum(len(compress(s)) for s in samples) >= _WORTH * sum(len(s) for s in samples):
        return None
    pieces = []
    for start in starts:
        piece = compress(content[start : start + _PIECE])
        pieces += [struct.pack(">I", len(piece)), piece]
    return pieces
