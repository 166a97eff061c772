"""
Exact sums over circles and ellipses, and the per-source measurements built on them (numba kernels).

Every kernel runs over sources one by one, so a source's numbers depend neither on the other sources nor on
the order or number of them. Positions are pixels counted from 0, integers are pixel centres; sums are
float64. `bad` marks pixels without a usable value; with a `label`, pixels of other segments are left out
(photutils' ``aperture_mask_method='mask'``).
"""

import math

import numpy as np

from .compiled import compiled

# Half the diagonal of a pixel: no point of a pixel is farther from its centre.
_HALF_DIAGONAL = 0.70710678118654757
# Kron apertures are measured in an ellipse of this many semi-axes (Bertin & Arnouts 1996).
_KRON_REACH = 6.0


@compiled
def _sector(ax, ay, bx, by):
    """Signed area of the unit-circle sector from direction a to direction b."""
    return 0.5 * math.atan2(ax * by - ay * bx, ax * bx + ay * by)


@compiled
def _edge_area(ax, ay, bx, by):
    """Signed area shared by the unit disc and the triangle (origin, a, b)."""
    dx, dy = bx - ax, by - ay
    dd = dx * dx + dy * dy
    if dd == 0.0:
        return 0.0
    ad = ax * dx + ay * dy
    discriminant = ad * ad - dd * (ax * ax + ay * ay - 1.0)
    if discriminant <= 0.0:
        return _sector(ax, ay, bx, by)
    root = math.sqrt(discriminant)
    enter, leave = (-ad - root) / dd, (-ad + root) / dd
    if leave <= 0.0 or enter >= 1.0:
        return _sector(ax, ay, bx, by)
    area = 0.0
    px, py, qx, qy = ax, ay, bx, by
    if enter > 0.0:
        px, py = ax + enter * dx, ay + enter * dy
        area += _sector(ax, ay, px, py)
    if leave < 1.0:
        qx, qy = ax + leave * dx, ay + leave * dy
        area += _sector(qx, qy, bx, by)
    return area + 0.5 * (px * qy - py * qx)


@compiled
def pixel_overlap(dx, dy, a, b, cos_t, sin_t):
    """
    Area of a pixel that lies inside an ellipse.

    Parameters
    ----------
    dx, dy : float
        Offset of the pixel's centre from that of the ellipse, pixels.
    a, b : float
        Semi-axes, pixels.
    cos_t, sin_t : float
        Of the angle of the first axis from +x.
    """
    u, v = (cos_t * dx + sin_t * dy) / a, (-sin_t * dx + cos_t * dy) / b
    # Half-pixel steps in the plane where the ellipse is the unit circle.
    xu, xv = 0.5 * cos_t / a, -0.5 * sin_t / b
    yu, yv = 0.5 * sin_t / a, 0.5 * cos_t / b
    u0, v0 = u - xu - yu, v - xv - yv
    u1, v1 = u + xu - yu, v + xv - yv
    u2, v2 = u + xu + yu, v + xv + yv
    u3, v3 = u - xu + yu, v - xv + yv
    area = _edge_area(u0, v0, u1, v1) + _edge_area(u1, v1, u2, v2)
    area += _edge_area(u2, v2, u3, v3) + _edge_area(u3, v3, u0, v0)
    return min(max(area * a * b, 0.0), 1.0)


@compiled
def _limits(b):
    """Squared radii, in units of the ellipse, within which pixels are whole and beyond which they are out."""
    reach = _HALF_DIAGONAL / b
    return max(1.0 - reach, 0.0) ** 2, (1.0 + reach) ** 2


@compiled
def bounding_box(x, y, half_x, half_y, ny, nx):
    """
    Rows and columns [y0, y1), [x0, x1) of an image that a region can touch.

    Parameters
    ----------
    x, y : float
        Its middle, pixels.
    half_x, half_y : float
        Half its sides, pixels.
    ny, nx : int
        Size of the image.
    """
    x0 = max(math.floor(x - half_x + 0.5), 0)
    x1 = min(math.floor(x + half_x + 0.5) + 1, nx)
    y0 = max(math.floor(y - half_y + 0.5), 0)
    y1 = min(math.floor(y + half_y + 0.5) + 1, ny)
    return y0, y1, x0, x1


@compiled
def ellipse_sums(data, err, bad, segments, labels, x, y, a, b, theta):
    """
    Sum data over ellipses with exact pixel overlaps.

    Parameters
    ----------
    data, err : (ny, nx) float32
        Image and its one-sigma error.
    bad : (ny, nx) bool
        Pixels to leave out.
    segments : (ny, nx) int32
        Segmentation map.
    labels : (n,) int32
        Segment of each source: other segments are left out; 0 keeps all segments.
    x, y, a, b, theta : (n,) float64
        Centre, semi-axes (pixels) and angle of the first axis from +x (radians).

    Returns
    -------
    (n, 4) float64
        ``sum w d``, ``sum w^2 err^2`` (the variance of the former for independent pixels), the area of the
        ellipse that was summed and the area of the whole ellipse, pixels. NaN, NaN, 0 where no pixel could be
        summed or the ellipse is not finite.
    """
    ny, nx = data.shape
    out = np.full((x.size, 4), np.nan)
    for i in range(x.size):
        out[i, 2] = 0.0
        if not (math.isfinite(x[i] + y[i] + a[i] + b[i] + theta[i]) and a[i] > 0 and b[i] > 0):
            continue
        cos_t, sin_t = math.cos(theta[i]), math.sin(theta[i])
        half_x = math.sqrt((a[i] * cos_t) ** 2 + (b[i] * sin_t) ** 2)
        half_y = math.sqrt((a[i] * sin_t) ** 2 + (b[i] * cos_t) ** 2)
        y0, y1, x0, x1 = bounding_box(x[i], y[i], half_x, half_y, ny, nx)
        total, variance, area = 0.0, 0.0, 0.0
        inside, outside = _limits(b[i])
        cos_a, sin_a, cos_b, sin_b = cos_t / a[i], sin_t / a[i], cos_t / b[i], sin_t / b[i]
        for row in range(y0, y1):
            dy = row - y[i]
            for col in range(x0, x1):
                dx = col - x[i]
                r2 = (cos_a * dx + sin_a * dy) ** 2 + (cos_b * dy - sin_b * dx) ** 2
                if r2 >= outside:
                    continue
                other = segments[row, col]
                if bad[row, col] or (labels[i] > 0 and other != 0 and other != labels[i]):
                    continue
                w = 1.0 if r2 <= inside else pixel_overlap(dx, dy, a[i], b[i], cos_t, sin_t)
                if w > 0.0:
                    sigma = np.float64(err[row, col])
                    total += w * data[row, col]
                    variance += w * w * sigma * sigma
                    area += w
        out[i, 3] = math.pi * a[i] * b[i]
        if area > 0.0:
            out[i, 0], out[i, 1], out[i, 2] = total, variance, area
    return out


@compiled
def kron_radii(data, bad, segments, labels, x, y, cxx, cxy, cyy, minimum):
    """
    Unscaled first-moment radii, in units of the source ellipse (Kron 1980; Bertin & Arnouts 1996).

    Parameters
    ----------
    data, bad, segments, labels, x, y
        As `ellipse_sums`.
    cxx, cxy, cyy : (n,) float64
        Coefficients of the unit ellipse, pixel^-2.
    minimum : float
        Least value returned; also where the sums are not positive.

    Returns
    -------
    (n,) float64
        ``sum r I / sum I`` within the ellipse r <= 6, NaN where it exceeds 6 or the ellipse is not finite.
    """
    ny, nx = data.shape
    out = np.full(x.size, np.nan)
    for i in range(x.size):
        determinant = cxx[i] * cyy[i] - 0.25 * cxy[i] * cxy[i]
        if not (math.isfinite(x[i] + y[i] + determinant) and determinant > 0):
            continue
        half_x = _KRON_REACH * math.sqrt(cyy[i] / determinant)
        half_y = _KRON_REACH * math.sqrt(cxx[i] / determinant)
        y0, y1, x0, x1 = bounding_box(x[i], y[i], half_x, half_y, ny, nx)
        upper, lower = 0.0, 0.0
        for row in range(y0, y1):
            dy = row - y[i]
            for col in range(x0, x1):
                other = segments[row, col]
                if bad[row, col] or (other != 0 and other != labels[i]):
                    continue
                dx = col - x[i]
                r2 = cxx[i] * dx * dx + cxy[i] * dx * dy + cyy[i] * dy * dy
                if r2 <= _KRON_REACH * _KRON_REACH:
                    upper += data[row, col] * math.sqrt(max(r2, 0.0))
                    lower += data[row, col]
        if upper <= 0.0 or lower <= 0.0:
            out[i] = minimum
        elif upper / lower <= _KRON_REACH:
            out[i] = max(upper / lower, minimum)
    return out


@compiled
def _circle_flux(data, bad, segments, label, x, y, radius):
    """Sum of data over a circle without other segments."""
    ny, nx = data.shape
    y0, y1, x0, x1 = bounding_box(x, y, radius, radius, ny, nx)
    total = 0.0
    inside, outside = _limits(radius)
    inside, outside = inside * radius * radius, outside * radius * radius
    for row in range(y0, y1):
        dy = row - y
        for col in range(x0, x1):
            dx = col - x
            r2 = dx * dx + dy * dy
            other = segments[row, col]
            if r2 >= outside or bad[row, col] or (other != 0 and other != label):
                continue
            w = 1.0 if r2 <= inside else pixel_overlap(dx, dy, radius, radius, 1.0, 0.0)
            total += w * data[row, col]
    return total


@compiled
def flux_radii(data, bad, segments, labels, x, y, flux, largest):
    """
    Radii of circles that hold a given flux.

    Parameters
    ----------
    data, bad, segments, labels, x, y
        As `ellipse_sums`.
    flux : (n,) float64
        Flux to enclose, data units times pixels.
    largest : (n,) float64
        Upper end of the search, pixels; the lower end is 0.1.

    Returns
    -------
    (n,) float64
        Radius in pixels, NaN where no circle of the range holds the flux.
    """
    out = np.full(x.size, np.nan)
    for i in range(x.size):
        if not math.isfinite(x[i] + y[i] + flux[i] + largest[i]) or flux[i] == 0.0:
            continue
        low, high = 0.1, largest[i]
        f_low = 1.0 - _circle_flux(data, bad, segments, labels[i], x[i], y[i], low) / flux[i]
        f_high = 1.0
        # A curve of growth that falls again at large radii hides its root: shrink until one is bracketed.
        while high > low:
            f_high = 1.0 - _circle_flux(data, bad, segments, labels[i], x[i], y[i], high) / flux[i]
            if f_low * f_high <= 0.0:
                break
            high -= 0.1 * largest[i]
        if high <= low:
            continue
        for _ in range(60):  # Illinois method: superlinear, never leaves the bracket
            middle = (low * f_high - high * f_low) / (f_high - f_low)
            f_mid = 1.0 - _circle_flux(data, bad, segments, labels[i], x[i], y[i], middle) / flux[i]
            if f_mid * f_high < 0.0:
                low, f_low = high, f_high
            else:
                f_low *= 0.5
            high, f_high = middle, f_mid
            if abs(f_mid) < 1e-9 or abs(high - low) < 1e-9:
                break
        out[i] = high
    return out


@compiled
def annulus_levels(data, bad, x, y, inner, outer):
    """
    Local level in circular annuli: the median of the pixels inside after clipping.

    Pixels count when their centre lies in the annulus; they are clipped at three standard deviations from
    the median, five times or until nothing changes (astropy.stats.SigmaClip with its defaults).

    Parameters
    ----------
    data, bad, x, y
        As `ellipse_sums`.
    inner, outer : float
        Radii, pixels.

    Returns
    -------
    (n, 2) float64
        Median and its error ``sqrt(pi / (2 N)) std``; NaN without pixels.
    """
    ny, nx = data.shape
    out = np.full((x.size, 2), np.nan)
    values = np.empty((2 * int(outer) + 4) ** 2, dtype=np.float64)
    for i in range(x.size):
        if not math.isfinite(x[i] + y[i]):
            continue
        y0, y1, x0, x1 = bounding_box(x[i], y[i], outer, outer, ny, nx)
        count = 0
        for row in range(y0, y1):
            dy2 = (row - y[i]) ** 2
            # Columns of the hole are jumped over, with a margin for rounding.
            hole = math.sqrt(max(inner * inner - dy2, 0.0)) - 1.0
            middle = math.floor(x[i] - hole) if hole > 0.0 else x1
            col = x0
            while col < x1:
                if middle < col < x[i] + hole:
                    col = math.floor(x[i] + hole)
                r2 = (col - x[i]) ** 2 + dy2
                if col < x1 and inner * inner <= r2 < outer * outer and not bad[row, col]:
                    values[count] = data[row, col]
                    count += 1
                col += 1
        if count > 0:
            out[i, 0], out[i, 1] = _clipped_median(np.sort(values[:count]))
    return out


@compiled
def _clipped_median(values):
    """Median of sorted values clipped at 3 sigma, and its error."""
    first, last = 0, values.size
    median, std = np.nan, np.nan
    for pass_ in range(6):
        n = last - first
        middle = first + n // 2
        median = values[middle] if n % 2 else 0.5 * (values[middle - 1] + values[middle])
        mean = 0.0
        for k in range(first, last):
            mean += values[k]
        mean /= n
        std = 0.0
        for k in range(first, last):
            std += (values[k] - mean) ** 2
        std = math.sqrt(std / n)
        if pass_ == 5:
            break
        low, high = first, last
        while values[low] < median - 3.0 * std:
            low += 1
        while values[high - 1] > median + 3.0 * std:
            high -= 1
        if low == first and high == last:
            break
        first, last = low, high
    return median, math.sqrt(math.pi / (2.0 * (last - first))) * std
