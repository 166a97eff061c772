"""
Half-precision arrays, converted by compiled loops.

Data models keep errors and variances as float16. numpy converts those one by one in software: six planes of
a detector cost 1.5 CPU seconds, a quarter of the flux step. A table of all 65536 halves makes them float32 and
scales them in one pass; the way back is integer arithmetic on the bits (IEEE 754, to nearest, ties to even).
"""

import numpy as np
from numba import njit


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
    with np.errstate(invalid="ignore", over="ignore"):
        table = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
        table *= np.float32(factor)
    # Ascending and native, whatever the file's byte order.
    bits = np.ascontiguousarray(array, dtype=np.float16).view(np.uint16)
    values = np.empty(array.shape, np.float32)
    _look_up(table, bits.reshape(-1), values.reshape(-1))
    return values


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
    bits = np.ascontiguousarray(array, dtype=np.float32).view(np.uint32)
    halves = np.empty(array.shape, np.uint16)
    _round(bits.reshape(-1), halves.reshape(-1))
    return halves.view(np.float16)


@njit(cache=True, nogil=True)
def _look_up(table, bits, values):
    for i in range(bits.size):
        values[i] = table[bits[i]]


@njit(cache=True, nogil=True)
def _round(bits, halves):
    for i in range(bits.size):
        x = np.int64(bits[i])
        sign, x = (x >> 16) & 0x8000, x & 0x7FFFFFFF
        if x >= 0x477FE000:  # 65504 and beyond
            half = 0x7BFF if x < 0x7F800000 else 0x7C00 if x == 0x7F800000 else 0x7E00
        elif x >= 0x38800000:  # normal numbers: drop 13 bits of the mantissa, move the exponent
            half = (x - 0x38000000 + 0xFFF + ((x >> 13) & 1)) >> 13
        else:  # subnormal: the mantissa with its leading one, in units of 2**-24
            shift = min(126 - (x >> 23), 31)
            mantissa = (x & 0x7FFFFF) | 0x800000
            half = (mantissa + (1 << (shift - 1)) - 1 + ((mantissa >> shift) & 1)) >> shift
        halves[i] = sign | half
