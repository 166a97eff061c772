"""
Half-precision arrays, scaled and converted by tables.

Data models keep errors and variances as float16. numpy converts those one by one in software: six planes of a
detector cost 1.5 CPU seconds. A table of all 65536 halves makes them float32, or halves again, and scales them
in one pass.
"""

from functools import lru_cache

import numpy as np

#: Values looked up at a time: numpy makes 64-bit indices of them, which are to stay in the cache.
_PIECE = 1 << 18
_LARGEST = np.finfo(np.float16).max


def from_half(array: np.ndarray, factor: float = 1.0) -> np.ndarray:
    """
    Float32 values of a float16 array, times a factor.

    Parameters
    ----------
    array : float16 array
        Of any shape and byte order.
    factor : float
        Multiplied in float32.

    Returns
    -------
    float32 array
        The same as ``array.astype(float32) * float32(factor)``.
    """
    return _look_up(half_table(factor), array, np.empty(array.shape, np.float32))


def scale_half(array: np.ndarray, factor: float, in_place: bool = False) -> np.ndarray:
    """
    Float16 values of a float16 array times a factor.

    Parameters
    ----------
    array : float16 array
        Of any shape and byte order.
    factor : float
        Multiplied in float32.
    in_place : bool
        Whether the array may be overwritten.

    Returns
    -------
    float16 array
        The same as ``to_half(from_half(array, factor))``.
    """
    flags = array.flags
    own = in_place and flags.writeable and flags.c_contiguous and array.dtype.isnative
    return _look_up(
        to_half(half_table(factor)), array, array if own else np.empty(array.shape, np.float16)
    )


def to_half(array: np.ndarray) -> np.ndarray:
    """
    Nearest float16 values of a float32 array; finite values beyond the range become the largest finite ones.

    Parameters
    ----------
    array : float32 array
        Of any shape.

    Returns
    -------
    float16 array
        As ``array.astype(float16)``, but an error of 1e5 becomes 65504 and not infinity.
    """
    with np.errstate(over="ignore", under="ignore"):
        halves = array.astype(np.float16)
    beyond = np.isinf(halves) & np.isfinite(array)
    halves[beyond] = np.copysign(_LARGEST, halves[beyond])
    return halves


def is_positive(array: np.ndarray, or_zero: bool = False) -> np.ndarray:
    """
    Whether values are finite and above zero.

    Parameters
    ----------
    array : float array
        Of any shape, kind and byte order.
    or_zero : bool
        Whether zero will do.

    Returns
    -------
    bool array
    """
    if array.dtype != np.float16:
        return ((array >= 0) if or_zero else (array > 0)) & (array < np.inf)
    bits = array.view(np.uint16)
    # The bits of positive halves are in the order of their values; the next ones are infinity.
    finite = bits < 0x7C00
    return finite | (bits == 0x8000) if or_zero else finite & (bits > 0)


@lru_cache(maxsize=4)
def half_table(factor: float = 1.0) -> np.ndarray:
    """Float32 values of all halves times a factor, in the order of their bits."""
    with np.errstate(invalid="ignore", over="ignore"):
        table = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
        table *= np.float32(factor)
    table.flags.writeable = False
    return table


def _look_up(table: np.ndarray, array: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Fill `out` with the table's values for the halves of an array; it may be the array itself."""
    bits = np.ascontiguousarray(array, dtype=np.float16).view(np.uint16).reshape(-1)
    values = out.reshape(-1)
    for k in range(0, bits.size, _PIECE):
        # Bits cannot be out of range; the other modes check that in a copy.
        np.take(table, bits[k : k + _PIECE], out=values[k : k + _PIECE], mode="clip")
    return out
