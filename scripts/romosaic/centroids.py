"""
Covariances of isophotal centroids, windowed centroids and theirs, for correlated noise (numba kernels).

Positions are pixels counted from 0, integers are pixel centres.
"""

import math

import numpy as np

from .compiled import compiled
from .noise_correlation import covariances

_FWHM_TO_SIGMA = 1.0 / (2.0 * math.sqrt(2.0 * math.log(2.0)))


@compiled
def centroid_covariances(
    err, smoothed, threshold, segments, labels, x, y, bounds, kernel, half_rho
):
    """
    Covariance of moment centroids of a smoothed image, from the correlated errors of the unsmoothed one.

    To first order the centroid is linear in the noise of the smoothed image G: ``dx = sum u_i dG_i / sum G``
    with the lever arms ``u_i = (x_i - x) (inside + T / |grad G| on the isophote)``: inside, noise moves the
    centre of light; on the isophote G = T it moves the segment's edge. The smoothing kernel is then
    applied to the levers: those of the data are ``K u``, and their noise is correlated. Whole pixels at the
    edge are in or out although the isophote cuts them: each adds ``T^2 (x_i - x)^2 f^2``, f its wrong part.

    Parameters
    ----------
    err, smoothed : (ny, nx) float32
    threshold : (ny, nx) float32
        Isophote T of the segments.
    segments : (ny, nx) int32
    labels : (n,) int32
    x, y : (n,) float64
    bounds : (n, 4) int64
        Inclusive xmin, xmax, ymin, ymax of the segments.
    kernel : (k,) float64
        Smoothing kernel along one axis, odd length; the other axis is the same.
    half_rho : (k + 1, 2 k + 1) float64
        Correlation of the pixels' noise, from `noise_correlation.taps`.

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
        noise = _lever_variance(err, lever_x, lever_y, box[0], box[2], kernel, half_rho)
        for k in range(3):
            out[i, k] = (noise[k] + sums[1 + k]) / sums[0] ** 2
    return out


@compiled
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


@compiled
def _lever_variance(err, lever_x, lever_y, xmin, ymin, kernel, half_rho):
    """Smooth the lever arms along y, too; variances and covariance of the sums they make."""
    ny, nx = err.shape
    height, width = lever_x.shape
    half = kernel.size // 2
    tx, ty = np.zeros((2, height + 2 * half, width))
    for row in range(max(ymin - half, 0), min(ymin + height + half, ny)):
        for c in range(width):
            col = xmin + c - half
            if col < 0 or col >= nx:
                continue
            sigma = np.float64(err[row, col])
            if not math.isfinite(sigma):
                continue
            for k in range(kernel.size):
                source = row - ymin + k - half
                if 0 <= source < height:
                    tx[row - ymin + half, c] += kernel[k] * lever_x[source, c] * sigma
                    ty[row - ymin + half, c] += kernel[k] * lever_y[source, c] * sigma
    return covariances(tx, ty, half_rho)


@compiled
def windowed_centroids(data, err, bad, segments, labels, x, y, half_light, half_rho):
    """
    Gaussian-windowed centroids (XWIN_IMAGE of SExtractor) and their covariances.

    The window has sigma = 2 r50 / 2.3548 with r50 >= 0.5 pixel and ends at 4 sigma; the position moves by
    twice the weighted mean offset until it moves by less than 1e-4 pixel, 16 times at most. The covariance
    is that of the fixed point itself: ``J^-1 V J^-T`` with V the covariance of ``sum w I d`` and
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
    half_rho : (k + 1, 2 k + 1) float64
        Correlation of the pixels' noise, from `noise_correlation.taps`.

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
        sums = np.zeros(6)
        for _ in range(16):
            _window_sums(data, bad, segments, labels[i], cx, cy, sigma, along, sums)
            step_x, step_y = sums[1] / sums[0], sums[2] / sums[0]
            cx, cy = cx + 2.0 * step_x, cy + 2.0 * step_y
            # NaN ends the search too: the window is empty or has left the image.
            if not step_x * step_x + step_y * step_y > 1e-8:
                break
        if not math.isfinite(cx + cy):
            continue
        out[i, 0], out[i, 1] = cx, cy
        jxx, jyy, jxy = sums[3:]
        determinant = jxx * jyy - jxy * jxy
        if jxx > 0.0 and determinant > 0.0:
            vxx, vyy, vxy = _window_noise(err, bad, segments, labels[i], cx, cy, sigma, half_rho)
            ixx, iyy, ixy = jyy / determinant, jxx / determinant, -jxy / determinant
            out[i, 2] = ixx * ixx * vxx + 2.0 * ixx * ixy * vxy + ixy * ixy * vyy
            out[i, 3] = ixy * ixy * vxx + 2.0 * ixy * iyy * vxy + iyy * iyy * vyy
            out[i, 4] = ixx * ixy * vxx + (ixx * iyy + ixy * ixy) * vxy + ixy * iyy * vyy
    return out


@compiled
def _window(cx, cy, sigma, ny, nx):
    """Rows and columns [y0, y1), [x0, x1) of the image that a window of 4 sigma can touch."""
    reach = 4.0 * sigma
    y0, y1 = max(int(cy - reach), 0), min(int(cy + reach) + 2, ny)
    x0, x1 = max(int(cx - reach), 0), min(int(cx + reach) + 2, nx)
    return y0, y1, x0, x1


@compiled
def _window_weight(dx, dy, sigma, out):
    """Weight of an offset; 0 beyond 4 sigma and for pixels left out."""
    r2 = (dx * dx + dy * dy) / (sigma * sigma)
    return 0.0 if out or r2 > 16.0 else math.exp(-0.5 * r2)


@compiled
def _window_sums(data, bad, segments, label, cx, cy, sigma, along, sums):
    """Fill `sums` with sum wI, its first moments and the Jacobian (xx, yy, xy)."""
    ny, nx = data.shape
    sums[:] = 0.0
    precision = 1.0 / (sigma * sigma)
    y0, y1, x0, x1 = _window(cx, cy, sigma, ny, nx)
    # The window is a product: exponentials of rows and columns instead of pixels.
    for col in range(x0, x1):
        along[col] = math.exp(-0.5 * (col - cx) ** 2 * precision)
    for row in range(y0, y1):
        dy = row - cy
        across = math.exp(-0.5 * dy * dy * precision)
        for col in range(x0, x1):
            dx, other = col - cx, segments[row, col]
            far = (dx * dx + dy * dy) * precision > 16.0
            if far or bad[row, col] or (other != 0 and other != label):
                continue
            light = across * along[col] * data[row, col]
            sums[0] += light
            sums[1] += light * dx
            sums[2] += light * dy
            sums[3] += light * (1.0 - dx * dx * precision)
            sums[4] += light * (1.0 - dy * dy * precision)
            sums[5] -= light * dx * dy * precision


@compiled
def _window_noise(err, bad, segments, label, cx, cy, sigma, half_rho):
    """Variances and covariance of the first moments in a window."""
    ny, nx = err.shape
    y0, y1, x0, x1 = _window(cx, cy, sigma, ny, nx)
    tx, ty = np.zeros((2, max(y1 - y0, 0), max(x1 - x0, 0)))
    for row in range(y0, y1):
        for col in range(x0, x1):
            dx, dy, other = col - cx, row - cy, segments[row, col]
            out = bad[row, col] or (other != 0 and other != label)
            w = _window_weight(dx, dy, sigma, out)
            if w > 0.0:
                tx[row - y0, col - x0] = w * dx * err[row, col]
                ty[row - y0, col - x0] = w * dy * err[row, col]
    return covariances(tx, ty, half_rho)
