"""
Errors of sums over correlated pixels.

Drizzled neighbours share detector pixels, so their noise is correlated: with `err` the root of the variance of
large areas, the covariance of two pixels is ``rho(offset) err err``, rho(0) < 1 and the sum of rho about 1
(`romosaic.pixel_noise` measures rho on the geometry of each coadd). A sum ``sum t d`` then has the variance
``sum t_j t_l rho(j - l) err_j err_l``. Every error of the catalog is of this form: the weights t are overlaps
with an aperture, a segment, or what a fit or a centroid makes of a pixel. rho = 1 at offset 0 alone gives back
the errors of independent pixels.
"""

import math
from collections.abc import Mapping

import numpy as np

from .apertures import bounding_box, pixel_overlap
from .compiled import compiled

#: rho of independent pixels.
INDEPENDENT = np.ones((1, 1))
_STEPS = 8  # samples per output pixel of the average over rolls


def read_correlation(noise: Mapping | None, pixfrac: float, pixel_ratio: float) -> np.ndarray:
    """
    Correlation of a coadd's neighbours: as its file says, else that of square drops at any roll.

    Parameters
    ----------
    noise : mapping or None
        What `pixel_noise.noise_factors` wrote into the coadd; None for a coadd from elsewhere.
    pixfrac : float
        Side of a drop, detector pixels.
    pixel_ratio : float
        Side of a detector pixel, output pixels.

    Returns
    -------
    (2 k + 1, 2 k + 1) float64
        rho by offset, offset 0 in the middle.
    """
    stored = (noise or {}).get("correlation")
    if stored is not None:
        return np.array(stored, np.float64)
    return roll_averaged(pixfrac * pixel_ratio)


def roll_averaged(side: float) -> np.ndarray:
    """
    Correlation for square drops at many rolls and phases, from the autocorrelations of drop and output pixel.

    Parameters
    ----------
    side : float
        Side of a drop, output pixels.

    Returns
    -------
    (2 k + 1, 2 k + 1) float64
        rho, sum 1.
    """
    reach = math.ceil(math.sqrt(2) * side)
    at = np.arange(-_STEPS * (reach + 1), _STEPS * (reach + 1) + 1) / _STEPS
    drop, angles = np.zeros((at.size, at.size)), np.radians(np.arange(0, 90, 5) + 2.5)
    for angle in angles:
        u = np.cos(angle) * at + np.sin(angle) * at[:, None]
        v = -np.sin(angle) * at + np.cos(angle) * at[:, None]
        drop += np.maximum(side - np.abs(u), 0) * np.maximum(side - np.abs(v), 0)
    offsets = np.arange(-reach, reach + 1)
    pixel = np.maximum(1 - np.abs(offsets[:, None] - at), 0)
    rho = pixel @ drop @ pixel.T
    return rho / rho.sum()


def taps(rho: np.ndarray) -> np.ndarray:
    """Half of a symmetric correlation, as `halved` takes it: offsets from 0 on, the middle one halved."""
    half = rho.shape[0] // 2
    out = np.array(rho[half:], np.float64)
    out[0, :half] = 0.0
    out[0, half] *= 0.5
    return out


@compiled
def halved(t, half_rho):
    """
    Half of the correlated image of t: ``sum a h(b) + sum b h(a)`` is ``sum a_j b_l rho(j - l)``.

    Parameters
    ----------
    t : (h, w) float64
        Weights times `err`; outside it is 0.
    half_rho : (k + 1, 2 k + 1) float64
        From `taps`.

    Returns
    -------
    (h, w) float64
    """
    height, width = t.shape
    reach = half_rho.shape[0] - 1
    # All rows end to end with zeros between: one long loop per offset, which compiles to vector instructions.
    wide = width + 2 * reach
    size = height * wide
    padded, out = np.zeros(size + reach * wide + 2 * reach), np.zeros(size)
    for row in range(height):
        padded[2 * reach + row * wide : 2 * reach + row * wide + width] = t[row]
    for dy in range(reach + 1):
        for dx in range(-reach, reach + 1):
            rho = half_rho[dy, reach + dx]
            if rho != 0.0:
                moved = padded[reach + dy * wide + dx : reach + dy * wide + dx + size]
                for k in range(size):
                    out[k] += rho * moved[k]
    return out.reshape((height, wide))[:, reach : reach + width]


@compiled
def form(a, half_b):
    """Sum of products of two images."""
    total = 0.0
    for row in range(a.shape[0]):
        for col in range(a.shape[1]):
            total += a[row, col] * half_b[row, col]
    return total


@compiled
def variance(t, half_rho):
    """Variance of the sum whose weights times `err` are t."""
    return 2.0 * form(t, halved(t, half_rho))


@compiled
def covariances(tx, ty, half_rho):
    """Variances of two sums and their covariance."""
    hx, hy = halved(tx, half_rho), halved(ty, half_rho)
    return 2.0 * form(tx, hx), 2.0 * form(ty, hy), form(tx, hy) + form(ty, hx)


@compiled
def ellipse_variances(err, bad, segments, labels, x, y, a, b, theta, half_rho):
    """
    Variances of the sums over ellipses.

    Parameters
    ----------
    err : (ny, nx) float32
    bad, segments, labels, x, y, a, b, theta
        As `apertures.ellipse_sums`.
    half_rho : (k + 1, 2 k + 1) float64
        From `taps`.

    Returns
    -------
    (n,) float64
        NaN where no pixel could be summed.
    """
    ny, nx = err.shape
    out = np.full(x.size, np.nan)
    for i in range(x.size):
        if not (math.isfinite(x[i] + y[i] + a[i] + b[i] + theta[i]) and a[i] > 0 and b[i] > 0):
            continue
        cos_t, sin_t = math.cos(theta[i]), math.sin(theta[i])
        half_x = math.sqrt((a[i] * cos_t) ** 2 + (b[i] * sin_t) ** 2)
        half_y = math.sqrt((a[i] * sin_t) ** 2 + (b[i] * cos_t) ** 2)
        y0, y1, x0, x1 = bounding_box(x[i], y[i], half_x, half_y, ny, nx)
        t = np.zeros((max(y1 - y0, 0), max(x1 - x0, 0)))
        area = 0.0
        for row in range(y0, y1):
            for col in range(x0, x1):
                other = segments[row, col]
                if bad[row, col] or (labels[i] > 0 and other != 0 and other != labels[i]):
                    continue
                w = pixel_overlap(col - x[i], row - y[i], a[i], b[i], cos_t, sin_t)
                t[row - y0, col - x0] = w * err[row, col]
                area += w
        if area > 0.0:
            out[i] = variance(t, half_rho)
    return out


@compiled
def segment_variances(err, segments, labels, bounds, half_rho):
    """
    Variances of the sums over segments.

    Parameters
    ----------
    err : (ny, nx) float32
    segments : (ny, nx) int32
    labels : (n,) int32
    bounds : (n, 4) int64
        Inclusive xmin, xmax, ymin, ymax.
    half_rho : (k + 1, 2 k + 1) float64
        From `taps`.

    Returns
    -------
    (n,) float64
    """
    out = np.zeros(labels.size)
    for i in range(labels.size):
        x0, x1, y0, y1 = bounds[i, 0], bounds[i, 1] + 1, bounds[i, 2], bounds[i, 3] + 1
        t = np.zeros((y1 - y0, x1 - x0))
        for row in range(y0, y1):
            for col in range(x0, x1):
                if segments[row, col] == labels[i]:
                    t[row - y0, col - x0] = err[row, col]
        out[i] = variance(t, half_rho)
    return out


def median_factor(rho: np.ndarray, inner: float, outer: float) -> float:
    """
    Variance of the median over an annulus times the number of its pixels, over the variance of one pixel.

    For normal noise the covariance of the signs of two pixels with correlation c is ``(2 / pi) asin c``;
    independent pixels give ``pi / 2``.

    Parameters
    ----------
    rho : (2 k + 1, 2 k + 1) float64
        Correlation.
    inner, outer : float
        Radii of the annulus, pixels.
    """
    half = rho.shape[0] // 2
    signs = np.arcsin(np.clip(rho / rho[half, half], -1, 1))
    n = math.ceil(outer)
    y, x = np.mgrid[-n : n + 1, -n : n + 1]
    r2 = x**2 + y**2
    ring = ((r2 >= inner**2) & (r2 < outer**2)).astype(np.float64)
    return variance(ring, taps(signs)) / ring.sum()
