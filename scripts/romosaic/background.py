"""
Background level and rms of an image, from clipped statistics in boxes.

The numbers are those of photutils.background.Background2D with a MedianBackground and a StdBackgroundRMS. Its
clipping finds a median and a median deviation from scratch in every pass; of sorted pixels both are at hand.
"""

from bisect import bisect_left, bisect_right

import numpy as np

from .detection_kernels import expand

# Clipping as astropy.stats.SigmaClip(3, stdfunc="mad_std"): so many sigma around the median, so often.
_CLIP_SIGMA = 3.0
_CLIP_PASSES = 5
# Standard deviation of a normal distribution over its median absolute deviation.
_MAD_TO_STD = 1.482602218505602
# A box counts when more than this part of a full box is left.
_LEAST_FILLED = 0.9
# Once sources are masked: part of a full box that must be left, and values of a box that are looked at.
_LEAST_LEFT = 0.05
_MOST_VALUES = 250_000
# Boxes that do not count take the mean of so many around, weighted by inverse distance.
_NEIGHBOURS = 10


def background(data: np.ndarray, bad: np.ndarray, boxsize: int) -> tuple[np.ndarray, np.ndarray]:
    """
    Background level and its pixel-to-pixel rms.

    Clipped medians in boxes (3 sigma from the median, sigma from the median absolute deviation), median
    filtered over 3x3 boxes and interpolated. Where no box is filled well enough, the whole image is one box.

    Parameters
    ----------
    data : (ny, nx) float32
        With at least one usable pixel.
    bad : (ny, nx) bool
        Pixels to leave out.
    boxsize : int
        Side of a box, pixels.

    Returns
    -------
    level, rms : (ny, nx) float32
        0 where `bad`.
    """
    box = tuple(min(boxsize, n) for n in data.shape)
    boxes = _box_statistics(data, bad, box, _LEAST_FILLED)
    if np.isnan(boxes[0]).all():
        box = data.shape
        boxes = _box_statistics(data, bad, box, 0.0)
    level, rms = np.empty(bad.shape, np.float32), np.empty(bad.shape, np.float32)
    for values, image in zip(boxes, (level, rms), strict=True):
        _full_size(_filtered(_filled(values)), box, bad, image)
    return level, rms


def level_between(
    data: np.ndarray, bad: np.ndarray, near: np.ndarray, boxsize: int, level: np.ndarray
) -> bool:
    """
    Fill an image with the background level between the sources.

    As that of `background`, but of the pixels that are left when sources and their wings are masked: where few
    are, boxes count that have a twentieth of theirs, and of many every so many-th is looked at (neighbours
    share noise: a quarter of a million gives the level to 1/400 of it).

    Parameters
    ----------
    data : (ny, nx) float32
    bad : (ny, nx) bool
        Pixels without a value.
    near : (ny, nx) bool
        These and those of sources.
    boxsize : int
        Side of a box, pixels.
    level : (ny, nx) float32
        Written to: the level, 0 where `bad`.

    Returns
    -------
    bool
        False, and nothing is written, when sources leave too little of every box.
    """
    box = tuple(min(boxsize, n) for n in data.shape)
    boxes = _box_statistics(data, near, box, _LEAST_LEFT, _MOST_VALUES)[0]
    if np.isnan(boxes).all():
        return False
    _full_size(_filtered(_filled(boxes)), box, bad, level)
    return True


def _box_statistics(
    data: np.ndarray, bad: np.ndarray, box: tuple[int, int], least: float, most: int | None = None
) -> np.ndarray:
    """
    Level and rms of every box, NaN where no more than part `least` of a full box is left by the clipping.

    Of more than twice `most` values of a box every so many-th is used.
    """
    starts = [range(0, n, side) for n, side in zip(data.shape, box, strict=True)]
    boxes = np.full((2, *map(len, starts)), np.nan)
    masked = bad.any()
    for i, y in enumerate(starts[0]):
        for j, x in enumerate(starts[1]):
            here = slice(y, y + box[0]), slice(x, x + box[1])
            values = data[here][~bad[here]] if masked else data[here].flatten()
            step = max(values.size // most, 1) if most else 1
            if step > 1:
                values = values[::step].copy()
            values.sort()
            kept = clipped(values)
            if kept.size * step > least * box[0] * box[1]:
                boxes[:, i, j] = _median(kept), kept.std(dtype=np.float64)
    return boxes


def clipped(values: np.ndarray) -> np.ndarray:
    """
    Clip sorted values around their median.

    Parameters
    ----------
    values : (n,) float
        Sorted.

    Returns
    -------
    (m,) float
        Those within three times the scaled median absolute deviation, after five passes at most.
    """
    for _ in range(_CLIP_PASSES):
        if not values.size:
            break
        median = _median(values)
        reach = _CLIP_SIGMA * _MAD_TO_STD * _median_deviation(values, median)
        # In float64: numpy would round the limits to float32.
        first = bisect_left(values, median - reach, key=float)
        last = bisect_right(values, median + reach, key=float)
        if last - first == values.size:
            break
        values = values[first:last]
    return values


def _median(values: np.ndarray) -> float:
    """Median of sorted values."""
    half = values.size // 2
    return (float(values[half]) + float(values[-half - 1])) / 2


def _median_deviation(values: np.ndarray, centre: float) -> float:
    """Median absolute deviation of sorted values from a centre."""
    n = values.size
    return sum(_nearest(values, centre, k) for k in ((n + 1) // 2, n // 2 + 1)) / 2


def _nearest(values: np.ndarray, centre: float, k: int) -> float:
    """Distance of the k-th nearest of sorted values to a centre."""

    def later(start: int) -> bool:
        """Whether the run of the k nearest values starts no later."""
        return centre - float(values[start]) <= float(values[start + k]) - centre

    start = bisect_left(range(values.size - k), True, key=later)
    return max(centre - float(values[start]), float(values[start + k - 1]) - centre)


def _filled(boxes: np.ndarray) -> np.ndarray:
    """Give boxes without a value the mean of the nearest ones, weighted by inverse distance."""
    empty = np.isnan(boxes)
    if not empty.any():
        return boxes
    from scipy.spatial import KDTree

    places, values = np.argwhere(~empty), boxes[~empty]
    k = min(_NEIGHBOURS, len(values))
    distance, which = KDTree(places).query(np.argwhere(empty), k=range(1, k + 1))
    filled = boxes.copy()
    filled[empty] = np.average(values[which], weights=1 / distance, axis=1)
    return filled


def _filtered(boxes: np.ndarray) -> np.ndarray:
    """Median over 3x3 boxes, or as many as there are."""
    padded = np.pad(boxes, 1, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))
    return np.nanmedian(windows, axis=(2, 3))


def _full_size(mesh: np.ndarray, box: tuple[int, int], bad: np.ndarray, image: np.ndarray) -> None:
    """
    Fill an image with box values, interpolated by cubic splines within the range of the boxes.

    The same numbers as photutils' own interpolation, which evaluates the 2-D spline at every pixel; splines on
    a grid are products of two sets of 1-D weights.
    """
    from scipy.ndimage import zoom

    def weights(n: int, size: int, length: int) -> np.ndarray:
        columns = [zoom(unit, size, mode="reflect", grid_mode=True)[:length] for unit in np.eye(n)]
        return np.stack(columns, axis=1)

    # Around the mean: float32 then loses nothing of the differences between boxes.
    mean, low, high = (np.float32(value) for value in (mesh.mean(), mesh.min(), mesh.max()))
    rows, cols = (weights(mesh.shape[k], box[k], bad.shape[k]) for k in (0, 1))
    across = (mesh - mean) @ cols.T
    expand(rows.astype(np.float32), across.astype(np.float32), mean, low, high, bad, image)
