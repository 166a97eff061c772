"""
Positions and shapes of segments: image moments, windowed centroids and their covariances, DAOFIND statistics.

Positions are pixels counted from 0, integers are pixel centres; angles are radians here.
"""

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from .detection_kernels import segment_sums

_jit = njit(cache=True, nogil=True, error_model="numpy")

# A detection thinner than a pixel gets the second moment of a pixel (Bertin & Arnouts 1996).
_PIXEL_VARIANCE = 1.0 / 12.0
_FWHM_TO_SIGMA = 1.0 / (2.0 * math.sqrt(2.0 * math.log(2.0)))


@dataclass(frozen=True)
class Moments:
    """
    Measurements of N segments, arrays of length N, float64 unless said otherwise.

    Attributes
    ----------
    x, y : centroid of the smoothed image, pixels
    xx, yy, xy : second central moments, pixels^2, kept above a pixel's own
    xmin, xmax, ymin, ymax : int64, inclusive bounds
    area : int64, pixels
    flux, variance : sums of data and err^2 over the segment
    """

    x: np.ndarray
    y: np.ndarray
    xx: np.ndarray
    yy: np.ndarray
    xy: np.ndarray
    xmin: np.ndarray
    xmax: np.ndarray
    ymin: np.ndarray
    ymax: np.ndarray
    area: np.ndarray
    flux: np.ndarray
    variance: np.ndarray

    @property
    def semimajor(self) -> np.ndarray:
        """One-sigma semi-major axis, pixels."""
        return np.sqrt(0.5 * (self.xx + self.yy) + self._split)

    @property
    def semiminor(self) -> np.ndarray:
        """One-sigma semi-minor axis, pixels."""
        return np.sqrt(np.maximum(0.5 * (self.xx + self.yy) - self._split, 0.0))

    @property
    def _split(self) -> np.ndarray:
        return np.hypot(0.5 * (self.xx - self.yy), self.xy)

    @property
    def theta(self) -> np.ndarray:
        """Angle of the major axis from +x, counter-clockwise, radians in [-pi/2, pi/2]."""
        return 0.5 * np.arctan2(2.0 * self.xy, self.xx - self.yy)

    @property
    def ellipse(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Coefficients cxx, cxy, cyy (pixel^-2) of the one-sigma ellipse cxx x^2 + cxy x y + cyy y^2 = 1."""
        determinant = self.xx * self.yy - self.xy**2
        return self.yy / determinant, -2.0 * self.xy / determinant, self.xx / determinant


def moments(
    data: np.ndarray, err: np.ndarray, smoothed: np.ndarray, segments: np.ndarray, n: int
) -> Moments:
    """
    Measure segments 1..n.

    Centroid and second moments are those of the smoothed image with negative values taken as zero
    (photutils.segmentation.SourceCatalog); fluxes are sums of the unsmoothed data.

    Parameters
    ----------
    data, err, smoothed : (ny, nx) float32
    segments : (ny, nx) int32
        Labels 1..n, every one present; 0 is background.
    n : int
        Number of segments.

    Returns
    -------
    Moments
    """
    sums, bounds, area = segment_sums(data, err, smoothed, segments, n)
    x, y, xx, yy, xy, flux, variance = sums
    return Moments(x, y, *_thicken(xx, yy, xy), *bounds, area, flux, variance)


def _thicken(
    xx: np.ndarray, yy: np.ndarray, xy: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Add a pixel's variance to the diagonal until no ellipse is thinner than a pixel."""
    determinant = xx * yy - xy * xy
    # Rounding alone can make the moments of a line of pixels slightly negative.
    xy = np.where(determinant < 0, np.sign(xy) * np.sqrt(np.maximum(xx * yy, 0)), xy)
    for _ in range(3):
        thin = xx * yy - xy * xy < _PIXEL_VARIANCE**2
        xx, yy = xx + thin * _PIXEL_VARIANCE, yy + thin * _PIXEL_VARIANCE
    return xx, yy, xy


@_jit
def centroid_covariances(err, smoothed, threshold, segments, labels, x, y, bounds, kernel):
    """
    Covariance of moment centroids of a smoothed image, from the independent errors of the unsmoothed one.

    To first order the centroid is linear in the noise of the smoothed image G: ``dx = sum u_i dG_i / sum G``
    with the lever arms ``u_i = (x_i - x) (inside + T / |grad G| on the isophote)``: inside, noise moves the
    centre of light; on the isophote G = T it moves the segment's edge. The smoothing kernel is then
    applied to the levers, ``var = sum err_k^2 (K u)_k^2 / (sum G)^2``. Whole pixels at the edge are
    in or out although the isophote cuts them: each adds ``T^2 (x_i - x)^2 f^2``, f the part on the wrong side.

    Parameters
    ----------
    err, smoothed : (ny, nx) float32
    threshold : (ny, nx) float32
        Isophote T of the segments.
    segments : (ny, nx) int32
    labels : (n,) int32
    x, y : (n,) float64
        Centroids.
    bounds : (n, 4) int64
        Inclusive xmin, xmax, ymin, ymax of the segments.
    kernel : (k,) float64
        Smoothing kernel along one axis, odd length; the other axis is the same.

    Returns
    -------
    (n, 3) float64
        var x, var y, cov xy, pixels^2.
    """
    ny, nx = err.shape
    out = np.full((x.size, 3), np.nan)
    sums, box = np.zeros(4), np.zeros(4, np.int64)
    for i in range(x.size):
        # The isophote runs through the pixels just outside the segment too.
        box[0], box[1] = max(bounds[i, 0] - 1, 0), min(bounds[i, 1] + 1, nx - 1)
        box[2], box[3] = max(bounds[i, 2] - 1, 0), min(bounds[i, 3] + 1, ny - 1)
        shape = (box[3] - box[2] + 1, box[1] - box[0] + kernel.size)
        lever_x, lever_y = np.zeros(shape), np.zeros(shape)
        sums[:] = 0.0
        for row in range(box[2], box[3] + 1):
            for col in range(box[0], box[1] + 1):
                arm, cut = _lever(smoothed, threshold, segments, labels[i], row, col)
                dx, dy = col - x[i], row - y[i]
                sums[1] += cut * dx * dx
                sums[2] += cut * dy * dy
                sums[3] += cut * dx * dy
                if segments[row, col] == labels[i]:
                    sums[0] += max(np.float64(smoothed[row, col]), 0.0)
                if arm > 0.0:
                    for k in range(kernel.size):
                        lever_x[row - box[2], col - box[0] + k] += arm * kernel[k] * dx
                        lever_y[row - box[2], col - box[0] + k] += arm * kernel[k] * dy
        vx, vy, vxy = _lever_variance(err, lever_x, lever_y, box[0], box[2], kernel)
        norm = sums[0] ** 2
        out[i, 0], out[i, 1] = (vx + sums[1]) / norm, (vy + sums[2]) / norm
        out[i, 2] = (vxy + sums[3]) / norm
    return out


@_jit
def _lever(smoothed, threshold, segments, label, row, col):
    """Weight of a pixel's noise in the sum over a segment, and the variance of its being in or out."""
    ny, nx = smoothed.shape
    inside = segments[row, col] == label
    left, right = max(col - 1, 0), min(col + 1, nx - 1)
    low, high = max(row - 1, 0), min(row + 1, ny - 1)
    touches = segments[row, left] == label or segments[row, right] == label
    touches = touches or segments[low, col] == label or segments[high, col] == label
    arm = 1.0 if inside and smoothed[row, col] > 0.0 else 0.0
    if not (inside or (touches and segments[row, col] == 0)):
        return arm, 0.0
    # Range of the smoothed image within the pixel: the isophote crosses it when T lies in that range.
    spread = abs(np.float64(smoothed[row, right]) - smoothed[row, left]) / max(right - left, 1)
    spread += abs(np.float64(smoothed[high, col]) - smoothed[low, col]) / max(high - low, 1)
    level = np.float64(threshold[row, col])
    depth = (smoothed[row, col] - level) / spread
    if not abs(depth) < 0.5:
        return arm, 0.0
    return arm + level / spread, level * level * (0.5 - abs(depth)) ** 2


@_jit
def _lever_variance(err, lever_x, lever_y, xmin, ymin, kernel):
    """Smooth the lever arms along y and sum their squares times the pixel variances."""
    ny, nx = err.shape
    height, width = lever_x.shape
    half = kernel.size // 2
    vx, vy, vxy = 0.0, 0.0, 0.0
    for row in range(max(ymin - half, 0), min(ymin + height + half, ny)):
        for c in range(width):
            col = xmin + c - half
            if col < 0 or col >= nx:
                continue
            hx, hy = 0.0, 0.0
            for k in range(kernel.size):
                source = row - ymin + k - half
                if 0 <= source < height:
                    hx += kernel[k] * lever_x[source, c]
                    hy += kernel[k] * lever_y[source, c]
            sigma = np.float64(err[row, col])
            if math.isfinite(sigma):
                vx += (hx * sigma) ** 2
                vy += (hy * sigma) ** 2
                vxy += hx * hy * sigma * sigma
    return vx, vy, vxy


@_jit
def windowed_centroids(data, err, bad, segments, labels, x, y, half_light):
    """
    Gaussian-windowed centroids (XWIN_IMAGE of SExtractor) and their covariances.

    The window has sigma = 2 r50 / 2.3548 with r50 >= 0.5 pixel and ends at 4 sigma; the position moves by
    twice the weighted mean offset until it moves by less than 1e-4 pixel, 16 times at most. The covariance
    is that of the fixed point itself: ``J^-1 V J^-T`` with ``V = sum w^2 err^2 d d^T`` and
    ``J = sum w I (1 - d d^T / sigma^2)``; for a Gaussian that fits its window this is the usual factor 2.

    Parameters
    ----------
    data, err : (ny, nx) float32
    bad : (ny, nx) bool
    segments : (ny, nx) int32
    labels : (n,) int32
    x, y : (n,) float64
        Starting positions.
    half_light : (n,) float64
        Half-light radii r50, pixels.

    Returns
    -------
    (n, 5) float64
        x, y, var x, var y, cov xy; NaN where the window holds no light or leaves the image.
    """
    out, along = np.full((x.size, 5), np.nan), np.empty(data.shape[1])
    for i in range(x.size):
        if not math.isfinite(x[i] + y[i] + half_light[i]):
            continue
        sigma = 2.0 * max(half_light[i], 0.5) * _FWHM_TO_SIGMA
        cx, cy = x[i], y[i]
        sums = np.zeros(9)
        for _ in range(16):
            _window_sums(data, err, bad, segments, labels[i], cx, cy, sigma, along, sums)
            step_x, step_y = sums[1] / sums[0], sums[2] / sums[0]
            cx, cy = cx + 2.0 * step_x, cy + 2.0 * step_y
            # NaN ends the search too: the window is empty or has left the image.
            if not step_x * step_x + step_y * step_y > 1e-8:
                break
        if not math.isfinite(cx + cy):
            continue
        out[i, 0], out[i, 1] = cx, cy
        jxx, jyy, jxy, vxx, vyy, vxy = sums[3:]
        determinant = jxx * jyy - jxy * jxy
        if jxx > 0.0 and determinant > 0.0:
            ixx, iyy, ixy = jyy / determinant, jxx / determinant, -jxy / determinant
            out[i, 2] = ixx * ixx * vxx + 2.0 * ixx * ixy * vxy + ixy * ixy * vyy
            out[i, 3] = ixy * ixy * vxx + 2.0 * ixy * iyy * vxy + iyy * iyy * vyy
            out[i, 4] = ixx * ixy * vxx + (ixx * iyy + ixy * ixy) * vxy + ixy * iyy * vyy
    return out


@_jit
def _window_sums(data, err, bad, segments, label, cx, cy, sigma, along, sums):
    """Fill `sums` with sum wI, its first moments, the Jacobian (xx, yy, xy) and the noise (xx, yy, xy)."""
    ny, nx = data.shape
    sums[:] = 0.0
    reach, precision = 4.0 * sigma, 1.0 / (sigma * sigma)
    # The window is a product: exponentials of rows and columns instead of pixels.
    first, last = max(int(cx - reach), 0), min(int(cx + reach) + 2, nx)
    for col in range(first, last):
        along[col] = math.exp(-0.5 * (col - cx) ** 2 * precision)
    for row in range(max(int(cy - reach), 0), min(int(cy + reach) + 2, ny)):
        dy = row - cy
        across = math.exp(-0.5 * dy * dy * precision)
        for col in range(first, last):
            other = segments[row, col]
            dx = col - cx
            r2 = dx * dx + dy * dy
            if r2 > reach * reach or bad[row, col] or (other != 0 and other != label):
                continue
            w = across * along[col]
            light = w * data[row, col]
            noise = (w * np.float64(err[row, col])) ** 2
            sums[0] += light
            sums[1] += light * dx
            sums[2] += light * dy
            sums[3] += light * (1.0 - dx * dx * precision)
            sums[4] += light * (1.0 - dy * dy * precision)
            sums[5] -= light * dx * dy * precision
            sums[6] += noise * dx * dx
            sums[7] += noise * dy * dy
            sums[8] += noise * dx * dy


def daofind(
    data: np.ndarray, x: np.ndarray, y: np.ndarray, fwhm: float
) -> tuple[np.ndarray, np.ndarray]:
    """
    DAOFIND sharpness and roundness1 at given positions (Stetson 1987, PASP 99, 191).

    Parameters
    ----------
    data : (ny, nx) float32
        Image without NaN; outside of it counts as zero.
    x, y : (n,) float64
        Positions; the statistics are those of the nearest pixel.
    fwhm : float
        Width of the Gaussian kernel, pixels.

    Returns
    -------
    sharpness, roundness1 : (n,) float32
        NaN where the position is not finite or the statistic is undefined.
    """
    sigma = fwhm * _FWHM_TO_SIGMA
    radius = max(2.0, 1.5 * sigma)
    half = int(radius)
    offsets = np.arange(-half, half + 1)
    r2 = offsets[:, None] ** 2 + offsets[None, :] ** 2
    inside = r2 <= radius**2
    gauss = np.exp(-0.5 * r2 / sigma**2) * inside
    count = inside.sum()
    kernel = (gauss - gauss.sum() / count) / ((gauss**2).sum() - gauss.sum() ** 2 / count) * inside
    good = np.isfinite(x) & np.isfinite(y)
    # One gather of twice the size holds every pixel that the convolved cut-out needs.
    wide = 2 * half
    stamps = gather(data, np.where(good, x, -1e6), np.where(good, y, -1e6), wide)
    windows = np.lib.stride_tricks.sliding_window_view(stamps, kernel.shape, axis=(1, 2))
    convolved = np.einsum("nijkl,kl->nij", windows, kernel)
    core = stamps[:, half:-half, half:-half] * inside
    peak, height = core[:, half, half], convolved[:, half, half].copy()
    with np.errstate(divide="ignore", invalid="ignore"):
        sharpness = (peak - (core.sum(axis=(1, 2)) - peak) / (count - 1)) / height
        convolved[:, half, half] = 0.0
        quads = (
            -convolved[:, : half + 1, half + 1 :].sum(axis=(1, 2))
            + convolved[:, :half, : half + 1].sum(axis=(1, 2))
            - convolved[:, half:, :half].sum(axis=(1, 2))
            + convolved[:, half + 1 :, half:].sum(axis=(1, 2))
        )
        roundness = 2.0 * quads / np.abs(convolved).sum(axis=(1, 2))
    sharpness[~good] = roundness[~good] = np.nan
    return sharpness.astype(np.float32), roundness.astype(np.float32)


def gather(image: np.ndarray, x: np.ndarray, y: np.ndarray, half: int) -> np.ndarray:
    """
    Cut-outs around the pixels nearest to positions.

    Parameters
    ----------
    image : (ny, nx) array
    x, y : (n,) float64
        Finite positions.
    half : int
        Pixels on each side.

    Returns
    -------
    (n, 2 half + 1, 2 half + 1) float64
        Zero outside the image.
    """
    ny, nx = image.shape
    offsets = np.arange(-half, half + 1)
    cols = np.ceil(x - 0.5).astype(np.int64)[:, None, None] + offsets[None, None, :]
    rows = np.ceil(y - 0.5).astype(np.int64)[:, None, None] + offsets[None, :, None]
    inside = (cols >= 0) & (cols < nx) & (rows >= 0) & (rows < ny)
    values = image[np.clip(rows, 0, ny - 1), np.clip(cols, 0, nx - 1)].astype(np.float64)
    return np.where(inside, values, 0.0)
