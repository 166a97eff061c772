"""Sky statistics of one exposure: a clipped value per block of pixels, and the noise of the sky."""

from collections.abc import Iterator

import numpy as np

#: Side of a sky block, detector pixels. 32 to 128 give the same levels; 64 keeps 4096 values a block.
BLOCK_SIZE = 64
#: A block with fewer good pixels than this has no value.
MIN_GOOD = 64
#: Part of the values of a normal distribution that lie more than a standard deviation below the mean.
_BELOW = 0.1587
#: A seventh of the pixels, some 580, tells the median of a block; an odd step falls on all columns in turn.
_VARIANCE_STEP = 7
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
    n_blocks = [-(-n // size) for n in data.shape]
    value, error = np.full((2, *n_blocks), np.nan, np.float32)
    n_good = np.zeros(n_blocks, np.int32)
    for k, rows in enumerate(bands(data, size)):
        ordered = _ordered(_kept(data[rows], bad[rows], lower, upper), size)
        for i, span in enumerate(zip(*_clip(ordered, nclip, lsigma, usigma), strict=True)):
            start, end, mean, std = span
            n_good[k, i] = n = end - start
            if n >= MIN_GOOD:
                value[k, i] = _statistic(ordered[i, start:end], mean, std, skystat, binwidth)
                error[k, i] = std / np.sqrt(n) * _ERROR_FACTOR[skystat]
    y, x = (_centers(n, size) for n in data.shape)
    return {"size": size, "x": x, "y": y, "value": value, "error": error, "n_good": n_good}


def block_variances(
    data: np.ndarray,
    bad: np.ndarray,
    var_rnoise: np.ndarray,
    var_poisson: np.ndarray,
    factor: float = 1.0,
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
    var_rnoise, var_poisson : (ny, nx) float16 or float32 arrays
        Variances.
    factor : float
        MJy^2/sr^2 per unit of the variances.
    size : int
        Side of a block, pixels.

    Returns
    -------
    (nby, nbx) float32 array
        Median of var_rnoise + var_poisson, MJy^2/sr^2; NaN where fewer than 64 pixels are good.
    """
    found = np.full([-(-n // size) for n in data.shape], np.nan, np.float32)
    for k, rows in enumerate(bands(data, size)):
        good = _blocks(~bad[rows], size, False)
        sample = np.s_[:, ::_VARIANCE_STEP]
        some = good[sample]
        values = np.where(some, _blocks(data[rows], size, 0)[sample], np.float32(np.nan))
        planes = (_blocks(plane[rows], size, 0)[sample] for plane in (var_rnoise, var_poisson))
        variances = sum(_scaled(plane, factor) for plane in planes)
        ordered, values = np.sort(values).astype(float), values.astype(float)
        n, each = some.sum(axis=1), np.arange(len(some))
        middle = ordered[each, n // 2]
        width = 3 * (middle - ordered[each, (_BELOW * n).astype(int)])
        sky = np.abs(values - middle[:, None]) <= width[:, None]
        ordered, n = np.sort(np.where(sky, variances, np.nan)), sky.sum(axis=1)
        medians = (ordered[each, n // 2] + ordered[each, np.maximum(n - 1, 0) // 2]) / 2
        found[k] = np.where(good.sum(axis=1) >= MIN_GOOD, medians, np.nan)
    return found


def sample_step(size: int) -> int:
    """Every how many pixels a median over an image is taken of."""
    # A million pixels fix it to a thousandth of the noise. An odd step falls on all columns in turn.
    return max(1, size // 1_000_000) | 1


def _centers(n: int, size: int) -> np.ndarray:
    edges = np.append(np.arange(0, n, size), n)
    return (edges[:-1] + edges[1:] - 1) / 2


def sky_noise(
    data: np.ndarray,
    bad: np.ndarray,
    var_rnoise: np.ndarray,
    var_poisson: np.ndarray,
    factor: float = 1.0,
) -> dict:
    """
    Noise model of an exposure: variance of its sky pixels, and how variance grows with the signal.

    Parameters
    ----------
    data, bad, var_rnoise, var_poisson, factor
        As for `block_variances`.

    Returns
    -------
    dict
        `pedestal`: median level of the sky pixels, MJy/sr; `sky_variance`: median of var_rnoise +
        var_poisson over them, MJy^2/sr^2; `poisson_slope`: increase of var_poisson per MJy/sr of light
        above the pedestal. All NaN when no pixel is good.
    """
    sample = np.s_[:: sample_step(data.size)]
    good = ~bad.ravel()[sample]
    values = data.ravel()[sample][good]
    if not values.size:
        return dict.fromkeys(("pedestal", "sky_variance", "poisson_slope"), float("nan"))
    middle = _selected(values)
    # The width of the fainter half: sources are in the other one.
    sigma = middle - float(np.percentile(values, 15.87))
    sky = np.abs(values - middle) <= 3 * sigma
    values = values[sky]
    pedestal = _selected(values)
    poisson = _scaled(var_poisson.ravel()[sample][good][sky], factor)
    total = _scaled(var_rnoise.ravel()[sample][good][sky], factor) + poisson
    limit, nx = pedestal + 20 * sigma, data.shape[1]
    bright = np.concatenate(
        [
            rows.start * nx + np.flatnonzero((data[rows] > limit) & ~bad[rows])
            for rows in bands(data)
        ]
    )
    variances = _scaled(var_poisson.ravel()[bright], factor)
    slope = _poisson_slope(values, poisson, pedestal, data.ravel()[bright], variances)
    return {"pedestal": pedestal, "sky_variance": _selected(total), "poisson_slope": slope}


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
    level = _selected(sky_variance)
    slopes = [0.0]
    if bright.size >= 100:
        slopes.append(float(np.percentile((bright_variance - level) / (bright - pedestal), 90)))
    away = sky.astype(np.float64) - pedestal
    if (square := float(away @ away)) > 0:
        slopes.append(float(away @ (sky_variance.astype(np.float64) - level)) / square)
    if max(slopes) == 0 and pedestal > 0:
        return level / pedestal
    return max(slopes)


def bands(image: np.ndarray, size: int = BLOCK_SIZE) -> Iterator[slice]:
    """Rows of blocks of an image: what is done to one after the other stays in the processor's cache."""
    return (slice(k, k + size) for k in range(0, image.shape[0], size))


def _kept(
    band: np.ndarray, bad: np.ndarray, lower: float | None, upper: float | None
) -> np.ndarray:
    """Values of a row of blocks, NaN where they are not to count."""
    keep = ~bad & np.isfinite(band)
    # The limits in double precision, whatever that of the data.
    if lower is not None:
        keep &= band >= np.float64(lower)
    if upper is not None:
        keep &= band <= np.float64(upper)
    return np.where(keep, band, np.float32(np.nan))


def _blocks(band: np.ndarray, size: int, fill: float) -> np.ndarray:
    """Blocks of a row of blocks, a row of values each; `fill` where a block is smaller."""
    height, nx = band.shape
    n = -(-nx // size)
    whole = np.full((height, n * size), fill, band.dtype)
    whole[:, :nx] = band
    return whole.reshape(height, n, size).swapaxes(0, 1).reshape(n, height * size)


def _ordered(band: np.ndarray, size: int) -> np.ndarray:
    """Values of each block in ascending order, float64, with a NaN behind each, where sums may start."""
    values = _blocks(band, size, np.nan)
    values.sort()
    ordered = np.empty((len(values), values.shape[1] + 1))
    ordered[:, :-1], ordered[:, -1] = values, np.nan
    return ordered


def _clip(
    ordered: np.ndarray, nclip: int, lsigma: float, usigma: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """
    Clip rows of values in ascending order, NaN last.

    Returns
    -------
    start, end : (n,) int64 arrays
        What is left of each row.
    mean, std : (n,) float64 arrays
        Its mean and standard deviation.
    """
    n_rows, width = ordered.shape
    each = np.arange(n_rows)
    start, end = np.zeros(n_rows, np.int64), np.count_nonzero(~np.isnan(ordered), axis=1)
    # Off one of the values: the difference of the sums keeps its digits.
    middle = ordered[each, end // 2]
    away = ordered - middle[:, None]
    squares = away * away

    def moments():
        places = np.stack([start, end]).T + width * each[:, None]
        with np.errstate(invalid="ignore", divide="ignore"):
            mean, square = (
                np.add.reduceat(terms.ravel(), places.ravel())[::2] / (end - start)
                for terms in (away, squares)
            )
            return middle + mean, np.sqrt(np.maximum(square - mean * mean, 0.0))

    mean, std = middle, middle - ordered[each, (_BELOW * end).astype(int)]
    for turn in range(nclip):
        limits = mean - lsigma * std, mean + usigma * std
        inner = zip(ordered, *limits, strict=True)
        low, high = np.transpose(
            [(row.searchsorted(a), row.searchsorted(b, "right")) for row, a, b in inner]
        )
        before, (start, end) = (start, end), (np.maximum(start, low), np.minimum(end, high))
        end = np.maximum(start, end)  # limits below one standard deviation can leave nothing
        mean, std = moments()
        if turn > 0 and np.array_equal(before, (start, end)):
            break
    return start, end, *((mean, std) if nclip else moments())


def _scaled(plane: np.ndarray, factor: float) -> np.ndarray:
    """Float32 values of a few pixels times a factor."""
    return plane.astype(np.float32) * np.float32(factor)


def _median(ordered: np.ndarray) -> float:
    """Median of values in ascending order."""
    return float((ordered[(ordered.size - 1) // 2] + ordered[ordered.size // 2]) / 2)


def _selected(values: np.ndarray) -> float:
    """Median of values in any order: one place is selected, as numpy is slow with two."""
    half = values.size // 2
    parted = np.partition(values, half)
    lower = parted[half] if values.size % 2 else parted[:half].max()
    return float((lower + parted[half]) / 2)


def _statistic(values: np.ndarray, mean: float, std: float, skystat: str, binwidth: float) -> float:
    """Statistic of values in ascending order."""
    if skystat == "mean":
        return mean
    if skystat == "median" or std == 0 or binwidth == 0:
        return _median(values)
    midpt = _histogram_median(values, binwidth * std)
    if skystat == "midpt":
        return midpt
    # Where the two disagree by much, the block is crowded and the extrapolation to the mode is not safe.
    return 2.5 * midpt - 1.5 * mean if abs(mean - midpt) < 0.3 * std else midpt


def _histogram_median(values: np.ndarray, width: float) -> float:
    """Median of values in ascending order by linear interpolation in their cumulative histogram."""
    places = (values - values[0]) / width
    bin = int(places[(values.size - 1) // 2])
    below, upto = places.searchsorted([bin, bin + 1])
    return values[0] + width * (bin + (values.size / 2 - below) / (upto - below))
