"""
Stars of crowded fields: DAOFIND's peaks beside, or in place of, the segments of the detection.

A segment of a crowded field holds many stars. The star finder (photutils.detection.DAOStarFinder) looks
for peaks of the width of its kernel instead, and sees stars on each other's wings.

A segment stands for the brightest star that lies in it. Every other star, in a segment or in none, is a
source of its own: its pixels are a disc of `npixels` pixels, less those that lie nearer to another star,
and never leave the segment (or the background) that the star lies in. Discs are cut out of the segments,
so that each pixel of the segmentation has one label and each source has pixels. Without segments (method
``dao``) each star has its disc. Extended sources with more than one peak are cut up too: this is for
fields of stars.
"""

from dataclasses import replace

import numpy as np

from .detection import Detection

#: Robust standard deviation of a normal sample from its median absolute deviation.
_MAD_TO_SIGMA = 1.4826
# The noise is measured on every so many-th block of rows of this height.
_BLOCK, _EVERY = 32, 8


def add_stars(
    found: Detection, *, method: str, kernel_fwhm: float, star_threshold: float, npixels: int
) -> Detection:
    """
    Add the stars of an image to the sources that detection found in it.

    Parameters
    ----------
    found : Detection
    method : str
        ``both``: keep the segments; ``dao``: stars only.
    kernel_fwhm : float
        Width of the star finder's kernel, pixels.
    star_threshold : float
        Height of a star in the image through that kernel, in units of the noise there.
    npixels : int
        Pixels of a star's disc.

    Returns
    -------
    Detection
        Labels 1..m are the segments as they were, m+1..n the stars, brightest first.
    """
    x, y = find_stars(found, kernel_fwhm, star_threshold)
    segments = found.segments if method == "both" else np.zeros_like(found.segments)
    count = int(segments.max(initial=0))
    own = segments[y, x]
    labels, parents = _label(own, count)
    radius = max(np.sqrt(npixels / np.pi), 1.5)
    cut = _with_discs(segments, found.bad, x, y, labels, radius)
    blended = np.zeros(labels.max(initial=count) + 1, bool)
    blended[1 : count + 1] = found.blended if method == "both" else False
    # Whoever shares a segment is cut out of it.
    blended[labels[parents]] = True
    blended[own[parents]] = True
    starts = np.full((blended.size, 2), np.nan)
    heads = (labels == own) & blended[own]
    starts[own[heads]] = np.stack([x, y], axis=1)[heads]
    stars = np.arange(1, blended.size) > count
    return replace(found, segments=cut, blended=blended[1:], stars=stars, starts=starts[1:])


def find_stars(
    found: Detection, kernel_fwhm: float, star_threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """
    Find the pixels that stars are in.

    Parameters
    ----------
    found : Detection
        Its image, noise and unusable pixels are used, and its segments left out of the noise.
    kernel_fwhm : float
        Width of the kernel, pixels.
    star_threshold : float
        In units of the noise of the image through the kernel.

    Returns
    -------
    x, y : (k,) int64
        Usable pixels, each once, that of the highest star first.
    """
    import warnings

    from photutils.detection import DAOStarFinder

    # The threshold follows the background's noise; star finders take one number.
    level = found.data / np.where(found.threshold > 0, found.threshold, np.float32(np.inf))
    finder = DAOStarFinder(1.0, kernel_fwhm)
    noise = _filtered_noise(level, found, finder.kernel)
    empty = np.zeros(0, np.int64)
    if not noise > 0:
        return empty, empty
    finder = DAOStarFinder(star_threshold * noise, kernel_fwhm, scale_threshold=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = finder(level, mask=found.bad)
    if table is None:
        return empty, empty
    position = [np.asarray(table[f"{axis}_centroid"], float) for axis in "xy"]
    x, y = (np.rint(p).astype(np.int64) for p in position)
    # In units of the threshold there, as `level` is.
    order = np.argsort(-np.asarray(table["peak"], float), kind="stable")
    x, y = x[order], y[order]
    ny, nx = level.shape
    inside = (x >= 0) & (x < nx) & (y >= 0) & (y < ny)
    inside[inside] = ~found.bad[y[inside], x[inside]]
    x, y = x[inside], y[inside]
    _, first = np.unique(y * nx + x, return_index=True)
    first.sort()
    return x[first], y[first]


def _filtered_noise(level: np.ndarray, found: Detection, kernel) -> float:
    """Noise of the image through the star finder's kernel, away from segments; neighbours may share noise."""
    from scipy.ndimage import correlate

    values = []
    step = min(_EVERY, max(level.shape[0] // (2 * _BLOCK), 1))
    for start in range(0, level.shape[0], _BLOCK * step):
        rows = slice(start, start + _BLOCK)
        through = correlate(level[rows], np.asarray(kernel.data, np.float32), mode="reflect")
        values.append(through[(found.segments[rows] == 0) & ~found.bad[rows]])
    sky = np.concatenate(values)
    if sky.size == 0:
        return 0.0
    return float(_MAD_TO_SIGMA * np.median(np.abs(sky - np.median(sky))))


def _label(own: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Label of each star (given by falling brightness), and which of them are further stars of a segment."""
    first = np.zeros(own.size, bool)
    first[np.unique(own, return_index=True)[1]] = True
    first &= own > 0
    labels = np.where(first, own, 0)
    labels[~first] = count + 1 + np.arange(np.count_nonzero(~first))
    return labels, ~first & (own > 0)


def _with_discs(
    segments: np.ndarray,
    bad: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    labels: np.ndarray,
    radius: float,
) -> np.ndarray:
    """Segmentation with a disc around each star, its pixels nearer to it than to any other star."""
    from scipy.spatial import KDTree

    cut = segments.copy()
    if x.size == 0:
        return cut
    reach = int(radius)
    dy, dx = (v.ravel() for v in np.mgrid[-reach : reach + 1, -reach : reach + 1])
    disc = dx**2 + dy**2 <= radius**2
    rows, cols = (y[:, None] + dy[disc]).ravel(), (x[:, None] + dx[disc]).ravel()
    star = np.repeat(np.arange(x.size), np.count_nonzero(disc))
    ny, nx = segments.shape
    kept = (rows >= 0) & (rows < ny) & (cols >= 0) & (cols < nx)
    rows, cols, star = rows[kept], cols[kept], star[kept]
    kept = (segments[rows, cols] == segments[y[star], x[star]]) & ~bad[rows, cols]
    rows, cols, star = rows[kept], cols[kept], star[kept]
    nearest = KDTree(np.stack([x, y], axis=1)).query(np.stack([cols, rows], axis=1))[1]
    mine = nearest == star
    cut[rows[mine], cols[mine]] = labels[star[mine]]
    return cut
