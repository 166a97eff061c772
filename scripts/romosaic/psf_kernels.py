"""
Kernels of PSF photometry: least-squares fits of flux and position in a window that moves with the position.

The pixels of a source weigh alike in the middle of its window and fall to nothing at its rim. A box of whole
pixels would cut a source that is wider than the PSF by where it lies in its pixels: the fitted positions
of discs with scale lengths of 0.08" and 0.22" were off by 0.09 and 0.18 pixels (now by 0.003 and 0.009).
"""

import math

import numpy as np

from .compiled import compiled
from .noise_correlation import form, halved

# Steps shrink slowly where residuals are as large as the light: of 400 stars with 30 times the noise of a pixel
# 37 do not converge in 60 passes and all in 2000.
_MAX_ITERATIONS = 2000
_POSITION_TOLERANCE = 1e-5  # pixels: what is left of a star's after such a step is its square
_FLUX_TOLERANCE = 1e-6  # relative
_ROUGH = 1e-3  # of both, before windows move
_MAX_STEP = 0.5  # pixels
#: Width of a window's rim, pixels.
TAPER = 2
_MAX_WINDOWS = 100
_FEWEST = 4  # usable pixels: one more than parameters
_POOR = 2.0  # chi-square over its expectation from which the residuals count in the errors
_DELTA = 0.05  # pixels


@compiled
def window(bad, x, y, half, box, weights):
    """
    Fill the rows and columns of a window and the weights of its pixels, zero in bad ones.

    The weight is 1 within `half` pixels of (x, y) and falls smoothly to 0 at `half` + `TAPER`.

    Parameters
    ----------
    bad : (ny, nx) bool
        Pixels to leave out.
    x, y : float
        Position, pixels.
    half : int
        Radius within which all pixels weigh alike.
    box : (4,) int64
        Filled: first and end of rows, then of columns, cut at the image.
    weights : (2 (half + TAPER) + 1, same) float64
        Filled from its corner on.

    Returns
    -------
    n_inside, n_usable : int
        Pixels of more than half of the full weight, off the image too, and the usable ones of them.
    """
    col, row, reach = math.ceil(x - 0.5), math.ceil(y - 0.5), half + TAPER
    box[0], box[1] = max(row - reach, 0), min(row + reach + 1, bad.shape[0])
    box[2], box[3] = max(col - reach, 0), min(col + reach + 1, bad.shape[1])
    n_inside, n_usable = 0, 0
    for r in range(row - reach, row + reach + 1):
        for c in range(col - reach, col + reach + 1):
            square = (c - x) * (c - x) + (r - y) * (r - y)
            t = 1.0 - min(max(math.sqrt(square) - half, 0.0) / TAPER, 1.0)
            weight = t * t * (3.0 - 2.0 * t)
            n_inside += weight > 0.5
            if box[0] <= r < box[1] and box[2] <= c < box[3]:
                if bad[r, c]:
                    weight = 0.0
                weights[r - box[0], c - box[2]] = weight
                n_usable += weight > 0.5
    return n_inside, n_usable


@compiled
def _basis(t, weights, slopes):
    """Cubic B-spline weights and their derivatives of the four samples around fraction t."""
    s = 1.0 - t
    weights[0] = s * s * s / 6.0
    weights[1] = 2.0 / 3.0 - 0.5 * t * t * (2.0 - t)
    weights[2] = 2.0 / 3.0 - 0.5 * s * s * (2.0 - s)
    weights[3] = t * t * t / 6.0
    slopes[0] = -0.5 * s * s
    slopes[1] = t * (1.5 * t - 2.0)
    slopes[2] = -s * (1.5 * s - 2.0)
    slopes[3] = 0.5 * t * t


@compiled
def _model(coefficients, oversample, dx, dy, work):
    """Value and slopes (per pixel) of the unit-flux PSF at an offset from its centre; 0 off the stamp."""
    centre = (coefficients.shape[0] - 1) / 2.0
    u, v = centre + dx * oversample, centre + dy * oversample
    i, j = math.floor(u), math.floor(v)
    if i < 1 or j < 1 or i + 2 >= coefficients.shape[1] or j + 2 >= coefficients.shape[0]:
        return 0.0, 0.0, 0.0
    _basis(u - i, work[0], work[1])
    _basis(v - j, work[2], work[3])
    value, slope_x, slope_y = 0.0, 0.0, 0.0
    for k in range(4):
        line, slope = 0.0, 0.0
        for m in range(4):
            line += work[0, m] * coefficients[j - 1 + k, i - 1 + m]
            slope += work[1, m] * coefficients[j - 1 + k, i - 1 + m]
        value += work[2, k] * line
        slope_x += work[2, k] * slope
        slope_y += work[3, k] * line
    return value, slope_x * oversample, slope_y * oversample


@compiled
def _normal(data, box, weights, coefficients, oversample, p, work, matrix, vector):
    """Fill the normal equations of (flux, x, y) at p; return the weighted sum of squared residuals."""
    for j in range(3):
        vector[j] = 0.0
        for k in range(3):
            matrix[j, k] = 0.0
    square = 0.0
    for row in range(box[0], box[1]):
        for col in range(box[2], box[3]):
            weight = weights[row - box[0], col - box[2]]
            if weight == 0.0:
                continue
            value, sx, sy = _model(coefficients, oversample, col - p[1], row - p[2], work)
            residual = data[row, col] - p[0] * value
            gx, gy = -p[0] * sx, -p[0] * sy
            square += weight * residual * residual
            matrix[0, 0] += weight * value * value
            matrix[0, 1] += weight * value * gx
            matrix[0, 2] += weight * value * gy
            matrix[1, 1] += weight * gx * gx
            matrix[1, 2] += weight * gx * gy
            matrix[2, 2] += weight * gy * gy
            vector[0] += weight * value * residual
            vector[1] += weight * gx * residual
            vector[2] += weight * gy * residual
    matrix[1, 0], matrix[2, 0], matrix[2, 1] = matrix[0, 1], matrix[0, 2], matrix[1, 2]
    return square


@compiled
def _inverse(m, damping, out):
    """Inverse of a 3x3 matrix with damped diagonal; False if singular or not positive."""
    grow = 1.0 + damping
    a, b, c, d, e, f, g, h, i = m.flat
    a, e, i = a * grow, e * grow, i * grow
    out[0, 0], out[0, 1], out[0, 2] = e * i - f * h, c * h - b * i, b * f - c * e
    out[1, 0], out[1, 1], out[1, 2] = f * g - d * i, a * i - c * g, c * d - a * f
    out[2, 0], out[2, 1], out[2, 2] = d * h - e * g, b * g - a * h, a * e - b * d
    determinant = a * out[0, 0] + b * out[1, 0] + c * out[2, 0]
    # Relative to the diagonal: a flux of zero leaves the position undetermined.
    if not determinant > 1e-12 * abs(a * e * i):
        return False
    out /= determinant
    return True


@compiled
def _levenberg(data, box, weights, coefficients, oversample, p, matrix, vector):
    """Levenberg-Marquardt from p in one window, in place; returns whether it converged."""
    work, inverse, trial = np.empty((4, 4)), np.empty((3, 3)), np.empty(3)
    next_matrix, next_vector = np.empty((3, 3)), np.empty(3)
    square, damping, small = np.inf, 0.0, False
    # The flux enters linearly: the first pass starts from nothing and finds it at the start position.
    trial[0], trial[1], trial[2] = 0.0, p[1], p[2]
    for pass_ in range(_MAX_ITERATIONS):
        new = _normal(
            data, box, weights, coefficients, oversample, trial, work, next_matrix, next_vector
        )
        if pass_ < 2 or new <= square or small:
            square = new
            for j in range(3):
                p[j], vector[j] = trial[j], next_vector[j]
                for k in range(3):
                    matrix[j, k] = next_matrix[j, k]
            damping = 0.1 * damping if damping > 1e-6 else 0.0
            if small:
                return True
        else:
            damping = max(10.0 * damping, 1e-3)
            if damping > 1e12:
                # No step lowers the sum of squares any more: a minimum to machine precision.
                return True
        if pass_ == 0:
            trial[0] = vector[0] / matrix[0, 0]
            continue
        if not _inverse(matrix, damping, inverse):
            return False
        small = _step(inverse, vector, p, trial, _ROUGH, _ROUGH)
    return False


@compiled
def _step(inverse, vector, p, trial, position_tolerance, flux_tolerance):
    """Fill `trial` with p plus a Newton step of limited length; True when the step is negligible."""
    for j in range(3):
        trial[j] = 0.0
        for k in range(3):
            trial[j] += inverse[j, k] * vector[k]
    length = math.sqrt(trial[1] * trial[1] + trial[2] * trial[2])
    small = length < position_tolerance and abs(trial[0]) <= flux_tolerance * abs(p[0])
    factor = _MAX_STEP / length if length > _MAX_STEP else 1.0
    for j in range(3):
        trial[j] = p[j] + factor * trial[j]
    return small


@compiled
def _fit(data, bad, half, coefficients, oversample, p, box, weights, matrix):
    """
    Fit from p, in place: roughly in the window of the start, then with windows that follow the position.

    Residuals of extended sources make Gauss-Newton steps fall short; Anderson's acceleration (of depth 1, see
    Walker & Ni 2011, SIAM J. Numer. Anal. 49, 1715) makes up for it.

    Returns
    -------
    n_inside, n_usable : int
        As `window` counts them in the last one.
    converged : bool
        A position more than `half` + 1/2 pixels from where it began ends the search.
    """
    work, vector, inverse, trial = np.empty((4, 4)), np.empty(3), np.empty((3, 3)), np.empty(3)
    last, last_move = np.zeros(3), np.zeros(3)
    x0, y0 = p[1], p[2]
    n_inside, n_usable = window(bad, x0, y0, half, box, weights)
    if not _levenberg(data, box, weights, coefficients, oversample, p, matrix, vector):
        return n_inside, n_usable, False
    for n in range(_MAX_WINDOWS):
        n_inside, n_usable = window(bad, p[1], p[2], half, box, weights)
        if n_usable < _FEWEST:
            return n_inside, n_usable, False
        _normal(data, box, weights, coefficients, oversample, p, work, matrix, vector)
        if not _inverse(matrix, 0.0, inverse):
            return n_inside, n_usable, False
        small = _step(inverse, vector, p, trial, _POSITION_TOLERANCE, _FLUX_TOLERANCE)
        move = trial - p
        turn = move - last_move
        bend = turn[1] * turn[1] + turn[2] * turn[2]
        p[:] = trial
        if small or _strayed(p[1], p[2], x0, y0, half):
            return n_inside, n_usable, True
        if n > 0 and bend > 0.0:
            back = (move[1] * turn[1] + move[2] * turn[2]) / bend * (trial - last)
            back /= max(1.0, math.hypot(back[1], back[2]) / _MAX_STEP)
            p[1:] -= back[1:]
        last[:], last_move[:] = trial, move
    return n_inside, n_usable, False


@compiled
def _strayed(x, y, x0, y0, half):
    """Whether a position has left the box of its start."""
    return abs(x - x0) > half + 0.5 or abs(y - y0) > half + 0.5


@compiled
def _jacobian(data, bad, half, coefficients, oversample, p, box, weights, out):
    """
    Minus the derivative of the normal equations at their solution, the window moving along.

    Without residuals that is their matrix. Those of a disc make it smaller: its light moves a fit less.
    """
    work, spare, vector, moved = np.empty((4, 4)), np.empty((3, 3)), np.empty(3), np.empty(3)
    _normal(data, box, weights, coefficients, oversample, p, work, spare, vector)
    out[:] = 0.0
    out[:, 0] = spare[:, 0]
    for axis in range(1, 3):
        for sign in range(-1, 3, 2):
            moved[:] = p
            moved[axis] += sign * _DELTA
            window(bad, moved[1], moved[2], half, box, weights)
            _normal(data, box, weights, coefficients, oversample, moved, work, spare, vector)
            out[:, axis] -= sign * vector / (2.0 * _DELTA)


@compiled
def _covariance(
    data, err, box, weights, coefficients, oversample, p, inverse, half_rho, covariance
):
    """
    Fill the covariance of the estimate of (flux, x, y).

    Returns
    -------
    gof : float64
        Chi-square over what correlated noise alone would leave.
    middle : (3, 3) float64
        Covariance of the normal equations.
    """
    shape = box[1] - box[0], box[3] - box[2]
    # weighted slopes times err and over err, as they meet the noise in the estimate and in chi-square
    times, over = np.zeros((3, *shape)), np.zeros((3, *shape))
    half_times, half_over = np.zeros((3, *shape)), np.zeros((3, *shape))
    work, slopes, curvature = np.empty((4, 4)), np.empty(3), np.zeros((3, 3))
    chi2, total = 0.0, 0.0
    for row in range(shape[0]):
        for col in range(shape[1]):
            weight = weights[row, col]
            if weight == 0.0:
                continue
            y, x = row + box[0], col + box[2]
            value, sx, sy = _model(coefficients, oversample, x - p[1], y - p[2], work)
            slopes[0], slopes[1], slopes[2] = value, -p[0] * sx, -p[0] * sy
            sigma = np.float64(err[y, x])
            for k in range(3):
                times[k, row, col] = weight * slopes[k] * sigma
                over[k, row, col] = weight * slopes[k] / sigma
                for j in range(3):
                    curvature[j, k] += slopes[j] * over[k, row, col] / sigma
            chi2 += weight * ((data[y, x] - p[0] * value) / sigma) ** 2
            total += weight
    for k in range(3):
        half_times[k], half_over[k] = halved(times[k], half_rho), halved(over[k], half_rho)
    middle, mixed = np.empty((3, 3)), np.empty((3, 3))
    for j in range(3):
        for k in range(3):
            middle[j, k] = form(times[j], half_times[k]) + form(times[k], half_times[j])
            mixed[j, k] = form(times[j], half_over[k]) + form(over[k], half_times[j])
    covariance[:] = inverse @ middle @ inverse.T
    expected = 2.0 * half_rho[0, half_rho.shape[0] - 1] * total
    expected -= 2.0 * np.trace(inverse @ mixed) - np.trace(curvature @ covariance)
    return chi2 / expected, middle


@compiled
def _errors(data, err, bad, half, coefficients, oversample, p, box, weights, matrix, half_rho, out):
    """Fill variances, flux error and goodness of a fit with these normal equations; False without variances."""
    inverse, covariance = np.empty((3, 3)), np.empty((3, 3))
    if not _inverse(matrix, 0.0, inverse):
        return False
    shared = coefficients, oversample, p
    out[7], middle = _covariance(data, err, box, weights, *shared, inverse, half_rho, covariance)
    if out[7] > _POOR:
        _jacobian(data, bad, half, *shared, box, weights, matrix)
        if not _inverse(matrix, 0.0, inverse):
            return False
        covariance[:] = inverse @ middle @ inverse.T
    out[3], out[4], out[5] = covariance[1, 1], covariance[2, 2], covariance[1, 2]
    out[6] = math.sqrt(covariance[0, 0])
    return True


@compiled
def fit_all(data, err, bad, x, y, coefficients, oversample, half, half_rho):
    """
    Fit every source; the flags are those of `psf_photometry.PSF_FLAGS`.

    Parameters
    ----------
    data, err : (ny, nx) float32
        Background-subtracted image and its one-sigma error.
    bad : (ny, nx) bool
        Pixels to leave out.
    x, y : (n,) float64
        Start positions, pixels.
    coefficients : (m, m) float64
        Cubic spline of the unit-flux point-spread function, m odd.
    oversample : float
        Its samples per pixel.
    half : int
        See `window`.
    half_rho : (k + 1, 2 k + 1) float64
        Correlation of the pixels' noise, from `noise_correlation.taps`.

    Returns
    -------
    values : (n, 8) float64
        Columns x, y, flux, var x, var y, cov xy, flux error, chi-square over its expectation.
    flags : (n,) int32
    """
    ny, nx = data.shape
    side = 2 * (half + TAPER) + 1
    out, flags = np.full((x.size, 8), np.nan), np.zeros(x.size, np.int32)
    box, p, weights = np.zeros(4, np.int64), np.zeros(3), np.zeros((side, side))
    matrix = np.empty((3, 3))
    for i in range(x.size):
        if not math.isfinite(x[i] + y[i]):
            flags[i] = 64
            continue
        n_inside, n_usable = window(bad, x[i], y[i], half, box, weights)
        if box[0] >= box[1] or box[2] >= box[3]:
            flags[i] = 64
            continue
        if n_usable < _FEWEST:
            flags[i] = 1 | (128 if n_usable == 0 else 256)
            continue
        p[0], p[1], p[2] = 0.0, x[i], y[i]
        shared = coefficients, oversample, p
        n_inside, n_usable, converged = _fit(data, bad, half, *shared, box, weights, matrix)
        flag = (n_usable < n_inside) | (0 if converged else 8) | (0 if p[0] > 0.0 else 4)
        flag |= 0 if -0.5 <= p[1] < nx - 0.5 and -0.5 <= p[2] < ny - 0.5 else 2
        flag |= 4096 if _strayed(p[1], p[2], x[i], y[i], half) else 0
        out[i, 0], out[i, 1], out[i, 2] = p[1], p[2], p[0]
        rest = box, weights, matrix, half_rho, out[i]
        flags[i] = flag | (0 if _errors(data, err, bad, half, *shared, *rest) else 16)
    return out, flags
