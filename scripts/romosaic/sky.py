"""Sky statistics of one exposure: a clipped value per block of pixels, and the noise of the sky."""

import numpy as np
from numba import njit

#: Side of a sky block, detector pixels. 32 to 128 give the same levels; 64 keeps 4096 values a block.
BLOCK_SIZE = 64
#: A block with fewer good pixels than this has no value.
MIN_GOOD = 64
_LARGEST = float(np.finfo(np.float32).max)
_STATISTICS = {"mean": 0, "median": 1, "midpt": 2, "mode": 3}
#: Standard error of each statistic for Gaussian noise, in units of that of the mean: measured on 16384 blocks.
_ERROR_FACTOR = {"mean": 1.0, "median": 1.2533, "midpt": 1.24, "mode": 2.08}


def block_statistics(
    data: np.ndarray,
    bad: np.ndarray,
    *,
    skystat: str = "mode",
    lower: float | None = None,
    upper: float | None = None,
    nclip: int = 5,
    lsigma: float = 4.0,
    usigma: float = 4.0,
    binwidth: float = 0.1,
    size: int = BLOCK_SIZE,
) -> dict:
    """
    Clipped sky statistic of every block of an image.

    Each block is clipped first about its median with the width of its fainter half, which stars do not
    touch, then `nclip` times about its mean.

    Parameters
    ----------
    data : (ny, nx) float32 array
        Image, MJy/sr.
    bad : (ny, nx) bool array
        Pixels to leave out.
    skystat : {'mean', 'median', 'midpt', 'mode'}
        Statistic of the clipped values. 'midpt' is the median read from a histogram, 'mode' is
        2.5 midpt - 1.5 mean (Bertin & Arnouts 1996, A&AS 117, 393), which sources bias least.
    lower, upper : float, optional
        Values outside are left out, MJy/sr.
    nclip : int
        Number of clipping turns; 0 keeps all values.
    lsigma, usigma : float
        Clipping limits below and above, in standard deviations.
    binwidth : float
        Bin width of the histogram for 'midpt' and 'mode', in standard deviations.
    size : int
        Side of a block, pixels. Blocks at the far edges are smaller.

    Returns
    -------
    dict
        `size`; `x`, `y` float64: pixel positions of the centres of the block columns and rows; `value`,
        `error` (nby, nbx) float32, MJy/sr, NaN where fewer than 64 pixels are good; `n_good` (nby, nbx) int32.
    """
    low, high = -_LARGEST if lower is None else lower, _LARGEST if upper is None else upper
    clipping = (low, high, nclip, lsigma, usigma, binwidth, MIN_GOOD)
    value, error, n_good = _block_kernel(data, bad, size, _STATISTICS[skystat], *clipping)
    return {
        "size": size,
        "x": _centers(data.shape[1], size),
        "y": _centers(data.shape[0], size),
        "value": value.astype(np.float32),
        "error": (error * _ERROR_FACTOR[skystat]).astype(np.float32),
        "n_good": n_good,
    }


def block_variances(
    data: np.ndarray,
    bad: np.ndarray,
    var_rnoise: np.ndarray,
    var_poisson: np.ndarray,
    size: int = BLOCK_SIZE,
) -> np.ndarray:
    """
    Median variance of the sky pixels of every block of an image.

    Sky pixels lie within three times the width of the fainter half of their block, as in `sky_noise`: sources
    and hits do not count.

    Parameters
    ----------
    data : (ny, nx) float32 array
        Image, MJy/sr.
    bad : (ny, nx) bool array
        Pixels to leave out.
    var_rnoise, var_poisson : (ny, nx) float32 arrays
        Variances, MJy^2/sr^2.
    size : int
        Side of a block, pixels.

    Returns
    -------
    (nby, nbx) float32 array
        Median of var_rnoise + var_poisson, MJy^2/sr^2; NaN where fewer than 64 pixels are good.
    """
    return _variance_kernel(data, bad, var_rnoise, var_poisson, size, MIN_GOOD)


def _centers(n: int, size: int) -> np.ndarray:
    edges = np.append(np.arange(0, n, size), n)
    return (edges[:-1] + edges[1:] - 1) / 2


def sky_noise(
    data: np.ndarray, bad: np.ndarray, var_rnoise: np.ndarray, var_poisson: np.ndarray
) -> dict:
    """
    Noise model of an exposure: variance of its sky pixels, and how variance grows with the signal.

    Parameters
    ----------
    data : (ny, nx) float32 array
        Image, MJy/sr.
    bad : (ny, nx) bool array
        Pixels to leave out.
    var_rnoise, var_poisson : (ny, nx) float32 arrays
        Variances, MJy^2/sr^2.

    Returns
    -------
    dict
        `pedestal`: median level of the sky pixels, MJy/sr; `sky_variance`: median of var_rnoise +
        var_poisson over them, MJy^2/sr^2; `poisson_slope`: increase of var_poisson per MJy/sr of light
        above the pedestal. All NaN when no pixel is good.
    """
    # A million pixels fix a median to a thousandth of the noise. An odd step falls on all columns in turn.
    step = max(1, data.size // 1_000_000) | 1
    sample = np.s_[::step]
    good = ~bad.ravel()[sample]
    values = data.ravel()[sample][good]
    if not values.size:
        return dict.fromkeys(("pedestal", "sky_variance", "poisson_slope"), float("nan"))
    pedestal = float(np.median(values))
    # The width of the fainter half: sources are in the other one.
    sigma = pedestal - float(np.percentile(values, 15.87))
    sky = np.abs(values - pedestal) <= 3 * sigma
    values = values[sky]
    pedestal = float(np.median(values))
    poisson = var_poisson.ravel()[sample][good][sky]
    total = var_rnoise.ravel()[sample][good][sky] + poisson
    bright = (data > pedestal + 20 * sigma) & ~bad
    slope = _poisson_slope(values, poisson, pedestal, data[bright], var_poisson[bright])
    return {"pedestal": pedestal, "sky_variance": float(np.median(total)), "poisson_slope": slope}


def _poisson_slope(
    sky: np.ndarray,
    sky_variance: np.ndarray,
    pedestal: float,
    bright: np.ndarray,
    bright_variance: np.ndarray,
) -> float:
    """
    Increase of the Poisson variance per unit of light.

    The ramp fit takes only a part of a cosmic ray's charge for light, and most bright pixels of a field without
    many sources are cosmic rays: of the bright pixels the upper end counts. Sky pixels tell the same, as their
    variance is made from their own noisy signal; where it is not, they say too little. The larger one is taken.
    """
    level = float(np.median(sky_variance))
    slopes = [0.0]
    if bright.size >= 100:
        slopes.append(float(np.percentile((bright_variance - level) / (bright - pedestal), 90)))
    away = sky.astype(np.float64) - pedestal
    if (square := float(away @ away)) > 0:
        slopes.append(float(away @ (sky_variance.astype(np.float64) - level)) / square)
    if max(slopes) == 0 and pedestal > 0:
        return level / pedestal
    return max(slopes)


@njit(cache=True, nogil=True)
def _block_kernel(
    data, bad, size, statistic, lower, upper, nclip, lsigma, usigma, binwidth, min_good
):
    ny, nx = data.shape
    nby, nbx = (ny + size - 1) // size, (nx + size - 1) // size
    value = np.full((nby, nbx), np.nan)
    error = np.full((nby, nbx), np.nan)
    n_good = np.zeros((nby, nbx), np.int32)
    buffer = np.empty(size * size)
    for by in range(nby):
        for bx in range(nbx):
            n = 0
            for y in range(by * size, min((by + 1) * size, ny)):
                for x in range(bx * size, min((bx + 1) * size, nx)):
                    d = data[y, x]
                    if not bad[y, x] and lower <= d <= upper:
                        buffer[n] = d
                        n += 1
            n, mean, std = _clip(buffer, n, nclip, lsigma, usigma)
            n_good[by, bx] = n
            if n < min_good:
                continue
            value[by, bx] = _statistic(buffer[:n], mean, std, statistic, binwidth)
            error[by, bx] = std / np.sqrt(n)
    return value, error, n_good


@njit(cache=True, nogil=True)
def _variance_kernel(data, bad, var_rnoise, var_poisson, size, min_good):
    ny, nx = data.shape
    nby, nbx = (ny + size - 1) // size, (nx + size - 1) // size
    out = np.full((nby, nbx), np.nan, np.float32)
    # A seventh of the pixels, some 580, tells a median well enough; an odd step falls on all columns in turn.
    step = 7
    values, variances = np.empty(size * size // step + 1), np.empty(size * size // step + 1)
    order = np.empty(size * size // step + 1)
    for by in range(nby):
        for bx in range(nbx):
            n, n_seen = 0, 0
            for y in range(by * size, min((by + 1) * size, ny)):
                for x in range(bx * size, min((bx + 1) * size, nx)):
                    if bad[y, x]:
                        continue
                    if n_seen % step == 0:
                        values[n] = data[y, x]
                        variances[n] = var_rnoise[y, x] + var_poisson[y, x]
                        n += 1
                    n_seen += 1
            if n_seen < min_good:
                continue
            order[:n] = values[:n]
            middle = _select(order[:n], n // 2)
            width = 3.0 * (middle - _select(order[: n // 2 + 1], int(0.1587 * n)))
            n_sky = 0
            for i in range(n):
                if abs(values[i] - middle) <= width:
                    order[n_sky] = variances[i]
                    n_sky += 1
            out[by, bx] = _median(order[:n_sky])
    return out


@njit(cache=True, nogil=True)
def _clip(buffer, n, nclip, lsigma, usigma):
    """Clip the first n values in place; returns how many are left, their mean and standard deviation."""
    if n == 0:
        return 0, 0.0, 0.0
    mean = std = 0.0
    for turn in range(nclip + 1):
        if turn == 0 and nclip > 0:
            mean = _select(buffer[:n], n // 2)
            std = mean - _select(buffer[: n // 2 + 1], int(0.1587 * n))
        else:
            mean, std = _moments(buffer[:n])
        if turn == nclip:
            break
        low, high = mean - lsigma * std, mean + usigma * std
        kept = 0
        for i in range(n):
            if low <= buffer[i] <= high:
                buffer[kept] = buffer[i]
                kept += 1
        if kept == 0:  # limits below one standard deviation can leave nothing
            return 0, mean, std
        if kept == n and turn > 0:
            break
        n = kept
    return n, mean, std


@njit(cache=True, nogil=True, fastmath={"reassoc"})
def _moments(values):
    """Mean and standard deviation; sums in any order, so that they are taken several terms at a time."""
    # Off one of the values: the difference of the sums keeps its digits.
    off = values[0]
    total = square = 0.0
    for v in values:
        total += v - off
        square += (v - off) * (v - off)
    total /= values.size
    return off + total, np.sqrt(max(square / values.size - total * total, 0.0))


@njit(cache=True, nogil=True)
def _select(values, k):
    """
    K-th smallest value, counted from 0; puts the smaller ones before it.

    Hoare's method (1961, CACM 4, 321), as numba's own takes five seconds to compile.
    """
    low, high = 0, values.size - 1
    while low < high:
        pivot = values[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if k <= j:
            high = j
        elif k >= i:
            low = i
        else:
            break
    return values[k]


@njit(cache=True, nogil=True)
def _median(values):
    """Median; changes the order of the values."""
    upper = _select(values, values.size // 2)
    if values.size % 2:
        return upper
    lower = values[0]
    for v in values[: values.size // 2]:
        lower = max(lower, v)
    return (lower + upper) / 2


@njit(cache=True, nogil=True)
def _statistic(values, mean, std, statistic, binwidth):
    if statistic == 0:
        return mean
    if statistic == 1 or std == 0 or binwidth == 0:
        return _median(values)
    midpt = _histogram_median(values, binwidth * std)
    if statistic == 2:
        return midpt
    # Where the two disagree by much, the block is crowded and the extrapolation to the mode is not safe.
    return 2.5 * midpt - 1.5 * mean if abs(mean - midpt) < 0.3 * std else midpt


@njit(cache=True, nogil=True)
def _histogram_median(values, width):
    """Median by linear interpolation in the cumulative histogram."""
    start = values.min()
    n_bins = int((values.max() - start) / width) + 1
    counts = np.zeros(n_bins, np.int64)
    for v in values:
        counts[min(int((v - start) / width), n_bins - 1)] += 1
    half, below = values.size / 2, 0
    for i in range(n_bins):
        if below + counts[i] >= half:
            return start + width * (i + (half - below) / counts[i])
        below += counts[i]
    return start + width * n_bins
