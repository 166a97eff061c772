"""
Compressed blocks of ASDF files (standard 1.6, "Compression"): zlib, bzp2 and lz4.

The size of what comes out is known from the block's header and is never exceeded, whatever the bytes say.
"""

import bz2
import struct
import zlib
from collections.abc import Callable
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
    """Unpack pieces: size packed (big-endian), size unpacked (little-endian), bytes."""
    decompress = _decompress_lz4()
    source = np.frombuffer(packed, np.uint8)
    place = done = 0
    while place < len(packed):
        (size,) = struct.unpack_from(">I", packed, place)
        (full,) = struct.unpack_from("<I", packed, place + 4)
        piece = source[place + 8 : place + 4 + size]
        if len(piece) != size - 4 or full > content.size - done:
            raise ValueError("a piece is cut short or too large")
        if decompress(piece, content[done : done + full]) != full:
            raise ValueError("a piece is damaged")
        place, done = place + 4 + size, done + full
    return done


def unpack_part(packed: memoryview, size: int, start: int, content: np.ndarray) -> int:
    """
    Decompress a part of an lz4 block: the pieces before it are passed over, those after it not looked at.

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
        A piece is damaged.
    """
    decompress = _decompress_lz4()
    source = np.frombuffer(packed, np.uint8)
    place = first = done = 0
    while place < len(packed) and first < start + content.size:
        (stored,) = struct.unpack_from(">I", packed, place)
        (full,) = struct.unpack_from("<I", packed, place + 4)
        last = first + full
        if last > size:
            raise ValueError("a piece is too large")
        if last > start:
            piece, out = source[place + 8 : place + 4 + stored], np.empty(full, np.uint8)
            if len(piece) != stored - 4 or decompress(piece, out) != full:
                raise ValueError("a piece is damaged")
            low, high = max(first, start), min(last, start + content.size)
            content[low - start : high - start] = out[low - first : high - first]
            done += high - low
        place, first = place + 4 + stored, last
    return done


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
