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
from .psf_spline import psf_value

# Steps shrink slowly where residuals are as large as the light.
_MAX_ITERATIONS = 2000
# Last step, pixels and relative to the flux: what is left of a star's after it is its square.
_ROUGH = 1e-3  # before windows move
_SMALL = 1e-5  # while they do
_SMALLEST = 1e-7  # in one that stays
_MAX_STEP = 0.5  # pixels
#: Radius within which the pixels of a window weigh alike, width of its rim, and side of what holds it, pixels.
HALF, TAPER = 2, 2
SIDE = 2 * (HALF + TAPER) + 1
_MAX_WINDOWS = 100
_FEWEST = 4  # usable pixels: one more than parameters
_POOR = 2.0  # chi-square over its expectation from which the residuals count in the errors
_DELTA = 0.05  # pixels


@compiled
def window(bad, x, y, box, weights):
    """
    Fill the rows and columns of a window and the weights of its pixels, zero in bad ones.

    The weight is 1 within `HALF` pixels of (x, y) and falls smoothly to 0 at `HALF` + `TAPER`.

    Parameters
    ----------
    bad : (ny, nx) bool
        Pixels to leave out.
    x, y : float
        Position, pixels.
    box : (4,) int64
        Filled: first and end of rows, then of columns, cut at the image.
    weights : (SIDE, SIDE) float64
        Filled from its corner on.

    Returns
    -------
    n_inside, n_usable : int
        Pixels of more than half of the full weight, off the image too, and the usable ones of them.
    """
    col, row, reach = math.ceil(x - 0.5), math.ceil(y - 0.5), HALF + TAPER
    box[0], box[1] = max(row - reach, 0), min(row + reach + 1, bad.shape[0])
    box[2], box[3] = max(col - reach, 0), min(col + reach + 1, bad.shape[1])
    n_inside, n_usable = 0, 0
    for r in range(row - reach, row + reach + 1):
        for c in range(col - reach, col + reach + 1):
            square = (c - x) * (c - x) + (r - y) * (r - y)
            t = 1.0 - min(max(math.sqrt(square) - HALF, 0.0) / TAPER, 1.0)
            weight = t * t * (3.0 - 2.0 * t)
            n_inside += weight > 0.5
            if box[0] <= r < box[1] and box[2] <= c < box[3]:
                if bad[r, c]:
                    weight = 0.0
                weights[r - box[0], c - box[2]] = weight
                n_usable += weight > 0.5
    return n_inside, n_usable


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
            value, sx, sy = psf_value(coefficients, oversample, col - p[1], row - p[2], work)
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
    """Inverse of a 3x3 matrix with damped diagonal; False if singular or without a positive determinant."""
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
def _levenberg(data, box, weights, coefficients, oversample, p, matrix, tolerance):
    """Levenberg-Marquardt from p in one window, in place; returns whether it converged."""
    work, inverse, trial = np.empty((4, 4)), np.empty((3, 3)), np.empty(3)
    vector = np.empty(3)
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
        small = _step(inverse, vector, p, trial, tolerance)
    return False


@compiled
def _step(inverse, vector, p, trial, tolerance):
    """Fill `trial` with p plus a Newton step of limited length; True when the step is negligible."""
    for j in range(3):
        trial[j] = 0.0
        for k in range(3):
            trial[j] += inverse[j, k] * vector[k]
    length = math.sqrt(trial[1] * trial[1] + trial[2] * trial[2])
    small = length < tolerance and abs(trial[0]) <= tolerance * abs(p[0])
    factor = _MAX_STEP / length if length > _MAX_STEP else 1.0
    for j in range(3):
        trial[j] = p[j] + factor * trial[j]
    return small


@compiled
def _follow(data, bad, coefficients, oversample, p, box, weights, matrix):
    """
    Fit in windows that follow the position, from p, in place; False where they do not settle near it.

    Residuals of extended sources make Gauss-Newton steps fall short; Anderson's acceleration (of depth 1, see
    Walker & Ni 2011, SIAM J. Numer. Anal. 49, 1715) makes up for it.
    """
    work, vector, inverse, trial = np.empty((4, 4)), np.empty(3), np.empty((3, 3)), np.empty(3)
    last, last_move = np.zeros(3), np.zeros(3)
    x0, y0 = p[1], p[2]
    window(bad, x0, y0, box, weights)
    if not _levenberg(data, box, weights, coefficients, oversample, p, matrix, _ROUGH):
        return False
    for n in range(_MAX_WINDOWS):
        if _strayed(p[1], p[2], x0, y0):
            return False
        if window(bad, p[1], p[2], box, weights)[1] < _FEWEST:
            return False
        _normal(data, box, weights, coefficients, oversample, p, work, matrix, vector)
        if not _inverse(matrix, 0.0, inverse):
            return False
        small = _step(inverse, vector, p, trial, _SMALL)
        move = trial - p
        p[:] = trial
        if small:
            return True
        turn = move - last_move
        bend = turn[1] * turn[1] + turn[2] * turn[2]
        if n > 0 and bend > 0.0:
            back = (move[1] * turn[1] + move[2] * turn[2]) / bend * (trial - last)
            back /= max(1.0, math.hypot(back[1], back[2]) / _MAX_STEP)
            p[1:] -= back[1:]
        last[:], last_move[:] = trial, move
    return False


@compiled
def _strayed(x, y, x0, y0):
    """Whether a position has left the box of its start."""
    return abs(x - x0) > HALF + 0.5 or abs(y - y0) > HALF + 0.5


@compiled
def _jacobian(data, bad, coefficients, oversample, p, box, weights, moving, out):
    """
    Minus the derivative of the normal equations at their solution, the window moving along or not.

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
            if moving:
                window(bad, moved[1], moved[2], box, weights)
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
            value, sx, sy = psf_value(coefficients, oversample, x - p[1], y - p[2], work)
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
def _errors(
    data, err, bad, coefficients, oversample, p, box, weights, matrix, half_rho, moving, out
):
    """Fill variances, flux error and goodness of a fit with these normal equations; False without variances."""
    inverse, covariance = np.empty((3, 3)), np.empty((3, 3))
    if not _inverse(matrix, 0.0, inverse):
        return False
    shared = coefficients, oversample, p
    out[7], middle = _covariance(data, err, box, weights, *shared, inverse, half_rho, covariance)
    if out[7] > _POOR:
        _jacobian(data, bad, *shared, box, weights, moving, matrix)
        if not _inverse(matrix, 0.0, inverse):
            return False
        covariance[:] = inverse @ middle @ inverse.T
    out[3], out[4], out[5] = covariance[1, 1], covariance[2, 2], covariance[1, 2]
    out[6] = math.sqrt(covariance[0, 0])
    return True


@compiled
def _fit(data, err, bad, x, y, coefficients, oversample, half_rho, box, weights, out):
    """Fill the row of one source; return its flags."""
    if not math.isfinite(x + y):
        return 64
    n_usable = window(bad, x, y, box, weights)[1]
    if box[0] >= box[1] or box[2] >= box[3]:
        return 64
    if n_usable < _FEWEST:
        return 1 | (128 if n_usable == 0 else 256)
    p, matrix, flag = np.array([0.0, x, y]), np.empty((3, 3)), 0
    model, rest = (coefficients, oversample, p), (box, weights, matrix)
    sound = _follow(data, bad, *model, *rest)
    if sound:
        n_inside, n_usable = window(bad, p[1], p[2], box, weights)
        sound = _errors(data, err, bad, *model, *rest, half_rho, True, out)
    if not sound:
        # Between the stars of a blend, in noise: the window stays where the source was found.
        p[0], p[1], p[2] = 0.0, x, y
        out[:] = np.nan
        n_inside, n_usable = window(bad, x, y, box, weights)
        flag |= 0 if _levenberg(data, box, weights, *model, matrix, _SMALLEST) else 8
        flag |= 0 if _errors(data, err, bad, *model, *rest, half_rho, False, out) else 16
    out[0], out[1], out[2] = p[1], p[2], p[0]
    ny, nx = data.shape
    flag |= (n_usable < n_inside) | (0 if p[0] > 0.0 else 4)
    flag |= 0 if -0.5 <= p[1] < nx - 0.5 and -0.5 <= p[2] < ny - 0.5 else 2
    return flag | (4096 if _strayed(p[1], p[2], x, y) else 0)


@compiled
def fit_all(data, err, bad, x, y, coefficients, oversample, half_rho):
    """
    Fit every source; the flags are those of `psf_photometry.PSF_FLAGS`.

    Parameters
    ----------
    data, err, bad, x, y
        As for `psf_photometry.fit_psf`.
    coefficients : (m, m) float64
        Cubic spline of the unit-flux point-spread function, m odd.
    oversample : float
        Its samples per pixel.
    half_rho : (k + 1, 2 k + 1) float64
        Correlation of the pixels' noise, from `noise_correlation.taps`.

    Returns
    -------
    values : (n, 8) float64
        Columns x, y, flux, var x, var y, cov xy, flux error, chi-square over its expectation.
    flags : (n,) int32
    """
    out, flags = np.full((x.size, 8), np.nan), np.zeros(x.size, np.int32)
    box, weights = np.zeros(4, np.int64), np.zeros((SIDE, SIDE))
    for i in range(x.size):
        shared = coefficients, oversample, half_rho, box, weights
        flags[i] = _fit(data, err, bad, x[i], y[i], *shared, out[i])
    return out, flags
