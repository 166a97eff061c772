"""Statistics of the covered pixels of a coadd; no copy of them, as fresh memory costs more than counting."""

import numpy as np

from .compiled import compiled
from .threads import in_threads

#: Rows that are looked at in one go.
BAND = 256


def image_statistics(data: np.ndarray, weight: np.ndarray, threads: int = 1) -> dict[str, float]:
    """
    Work out ``meta.statistics`` of a coadd.

    Parameters
    ----------
    data, weight : (ny, nx) float32 arrays
        Pixels of positive weight whose data are finite count.
    threads : int
        Results do not depend on it.

    Returns
    -------
    dict
        image_median; image_rms, the mean absolute deviation from it (as the schema defines it); both NaN
        without pixels; good_pixel_fraction.
    """
    bits, bands = data.view(np.uint32), range(0, len(data), BAND)

    def histogram(upper: int) -> np.ndarray:
        def band(start: int) -> np.ndarray:
            rows, counts = slice(start, start + BAND), np.zeros(1 << 16, np.int64)
            _count(bits[rows], weight[rows], upper, counts)
            return counts

        return sum(in_threads(band, bands, threads), np.zeros(1 << 16, np.int64))

    first = histogram(-1)
    n = int(first.sum())
    if n == 0:
        return {"image_median": np.nan, "image_rms": np.nan, "good_pixel_fraction": 0.0}
    middle = []
    for rank in ((n - 1) // 2, n // 2):
        upper = int(np.searchsorted(np.cumsum(first), rank, side="right"))
        rest = rank - int(first[:upper].sum())
        lower = int(np.searchsorted(np.cumsum(histogram(upper)), rest, side="right"))
        middle.append(_value(upper << 16 | lower))
    median = (middle[0] + middle[1]) / 2
    deviation = in_threads(
        lambda start: _deviation(data[start : start + BAND], weight[start : start + BAND], median),
        bands,
        threads,
    )
    return {
        "image_median": median,
        "image_rms": sum(deviation) / n,
        "good_pixel_fraction": n / data.size,
    }


def _value(key: int) -> float:
    """Return the number whose key (see `_count`) this is."""
    bits = key ^ 0x8000_0000 if key & 0x8000_0000 else key ^ 0xFFFF_FFFF
    return float(np.uint32(bits).view(np.float32))


@compiled
def _count(bits, weight, upper, counts):
    """
    Count pixels by the upper half of their keys, or by the lower half those with a given upper half.

    Keys are the bits of numbers, changed such that they are in the order of the numbers.
    """
    for y in range(bits.shape[0]):
        for x in range(bits.shape[1]):
            b = np.int64(bits[y, x])
            if weight[y, x] > 0.0 and b & 0x7F80_0000 != 0x7F80_0000:
                key = b ^ 0xFFFF_FFFF if b & 0x8000_0000 else b ^ 0x8000_0000
                if upper < 0:
                    counts[key >> 16] += 1
                elif key >> 16 == upper:
                    counts[key & 0xFFFF] += 1


@compiled
def _deviation(data, weight, median):
    """Sum of the absolute deviations."""
    total = 0.0
    for y in range(data.shape[0]):
        for x in range(data.shape[1]):
            if weight[y, x] > 0.0 and np.isfinite(data[y, x]):
                total += abs(data[y, x] - median)
    return total
