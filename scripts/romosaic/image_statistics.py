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
    bits = data.view(np.uint32)

    def tally(upper: int) -> np.ndarray:
        def band(start: int) -> np.ndarray:
            rows, found = slice(start, start + BAND), np.zeros((2, 1 << 16))
            _tally(bits[rows], data[rows], weight[rows], upper, found)
            return found

        return sum(in_threads(band, range(0, len(data), BAND), threads), np.zeros((2, 1 << 16)))

    coarse = tally(-1)
    n = int(coarse[0].sum())
    if n == 0:
        return {"image_median": np.nan, "image_rms": np.nan, "good_pixel_fraction": 0.0}
    ends, middle, fine = np.cumsum(coarse[0]), [], {}
    for rank in ((n - 1) // 2, n // 2):
        upper = int(np.searchsorted(ends, rank, side="right"))
        if upper not in fine:
            fine[upper] = tally(upper)
        rest = rank - (ends[upper] - coarse[0, upper])
        lower = int(np.searchsorted(np.cumsum(fine[upper][0]), rest, side="right"))
        middle.append(_value(upper << 16 | lower))
    median = (middle[0] + middle[1]) / 2
    # What is counted together lies on one side of the median.
    coarse[:, list(fine)] = 0
    parts = [np.abs(total - counts * median).sum() for counts, total in (coarse, *fine.values())]
    return {
        "image_median": median,
        "image_rms": float(sum(parts) / n),
        "good_pixel_fraction": n / data.size,
    }


def _value(key: int) -> float:
    """Return the number whose key (see `_count`) this is."""
    bits = key ^ 0x8000_0000 if key & 0x8000_0000 else key ^ 0xFFFF_FFFF
    return float(np.uint32(bits).view(np.float32))


@compiled
def _tally(bits, data, weight, upper, found):
    """
    Count and sum up pixels by the upper half of their keys, or by the lower half those with a given upper half.

    Keys are the bits of numbers, changed such that they are in the order of the numbers.
    """
    for y in range(bits.shape[0]):
        for x in range(bits.shape[1]):
            b = np.int64(bits[y, x])
            if weight[y, x] > 0.0 and b & 0x7F80_0000 != 0x7F80_0000:
                key = b ^ 0xFFFF_FFFF if b & 0x8000_0000 else b ^ 0x8000_0000
                if upper < 0 or key >> 16 == upper:
                    k = key >> 16 if upper < 0 else key & 0xFFFF
                    found[0, k] += 1.0
                    found[1, k] += data[y, x]
