"""
PSF photometry: least-squares fits of position and flux, all sources in one compiled loop.

The pixels of a source weigh alike: with weights 1 / err^2, which follow the light, pixels that happen to be
bright count less, and the uneven sampling of few dithers made stars of 18 to 21 mag 1 to 2 % too faint and
their fluxes scatter 4 times as much. For faint sources, whose err is that of the sky, both are the same.

Each source is fitted alone in a small box around its start (romancal: 5x5 pixels); a source's numbers depend
on no other source and on no chunking (of more than `MOST_REFITS` failures the first ones are fitted again).
"""

import math
from dataclasses import dataclass

import numpy as np

from .coadd_psf import CoaddPSF
from .compiled import compiled
from .noise_correlation import INDEPENDENT, form, halved, taps

#: Bits of `psf_flags`: those of photutils.psf that can occur here, and from 4096 on our own.
PSF_FLAGS = {
    1: "some pixels of the fit box are unusable or outside the image",
    2: "fitted position outside the image",
    4: "fitted flux not positive",
    8: "fit did not converge",
    16: "no covariance: uncertainties are NaN",
    64: "fit box outside the image",
    128: "all pixels of the fit box are unusable",
    256: "too few usable pixels to fit",
    4096: "fitted position outside the fit box",
    8192: "fitted by photutils, as the batch fit did not converge",
}
# Steps shrink slowly where residuals are as large as the light: of 400 stars with 30 times the noise of a pixel
# 37 do not converge in 60 passes and all in 2000.
_MAX_ITERATIONS = 2000
_POSITION_TOLERANCE = 1e-7  # pixels
_FLUX_TOLERANCE = 1e-9  # relative
_MAX_STEP = 0.5  # pixels
#: Sources of one call that photutils fits again at most, the first ones (it bounds the time; about 25 ms each).
MOST_REFITS = 1000
_REFIT_TOLERANCE = 1e-3  # of the sum of squares: photutils stops earlier and its spline is another
_SPLINE_REACH = 12  # pixels of the model on each side of its centre that the fit may use


@dataclass(frozen=True)
class PSFFit:
    """
    Fits of N sources, arrays of length N; NaN where a fit was impossible.

    Attributes
    ----------
    x, y, flux : float64, pixels and data units times pixels
    var_x, var_y, cov_xy : float64, pixels^2
    flux_err : float64
    flags : int32, see `PSF_FLAGS`
    gof : float64, chi-square over what noise alone would leave (independent pixels: their number minus three)
    """

    x: np.ndarray
    y: np.ndarray
    flux: np.ndarray
    var_x: np.ndarray
    var_y: np.ndarray
    cov_xy: np.ndarray
    flux_err: np.ndarray
    flags: np.ndarray
    gof: np.ndarray


def fit_psf(
    data: np.ndarray,
    err: np.ndarray,
    bad: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    psf: CoaddPSF,
    box: int = 5,
    correlation: np.ndarray = INDEPENDENT,
) -> PSFFit:
    """
    Fit one point source per start position.

    Covariances are those of this estimator for correlated noise, ``H^-1 (sum g_j g_l^T rho err err) H^-1`` with
    g the slopes of the model and ``H = sum g g^T``.

    Parameters
    ----------
    data, err : (ny, nx) float32
        Background-subtracted image and its one-sigma error.
    bad : (ny, nx) bool
        Pixels to leave out.
    x, y : (n,) float64
        Start positions, pixels.
    psf : CoaddPSF
        Point-spread function on this grid.
    box : int
        Side of the fitted square, odd, pixels.
    correlation : (2 k + 1, 2 k + 1) float64
        Correlation of the pixels' noise by offset.

    Returns
    -------
    PSFFit
    """
    from scipy.ndimage import spline_filter

    stamp = psf.central(_SPLINE_REACH)
    coefficients = spline_filter(stamp, order=3, mode="mirror")
    x, y = np.asarray(x, float), np.asarray(y, float)
    shared = (coefficients, psf.oversample, box // 2, taps(correlation))
    values, flags = _fit_all(data, err, bad, x, y, *shared)
    failed = np.flatnonzero(flags & 8)[:MOST_REFITS]
    if failed.size:
        from .psf_refit import refit  # photutils takes long to import

        found = refit(data, bad, x[failed], y[failed], stamp, psf.oversample, box)
        _replace(data, err, bad, x, y, *shared, failed, found, values, flags)
    return PSFFit(*values[:, :7].T.copy(), flags, values[:, 7].copy())


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
def _normal(data, bad, box, coefficients, oversample, p, work, matrix, vector):
    """Fill the normal equations of (flux, x, y) at p; return the sum of squared residuals."""
    for j in range(3):
        vector[j] = 0.0
        for k in range(3):
            matrix[j, k] = 0.0
    square = 0.0
    for row in range(box[0], box[1]):
        for col in range(box[2], box[3]):
            if bad[row, col]:
                continue
            value, sx, sy = _model(coefficients, oversample, col - p[1], row - p[2], work)
            residual = data[row, col] - p[0] * value
            gx, gy = -p[0] * sx, -p[0] * sy
            square += residual * residual
            matrix[0, 0] += value * value
            matrix[0, 1] += value * gx
            matrix[0, 2] += value * gy
            matrix[1, 1] += gx * gx
            matrix[1, 2] += gx * gy
            matrix[2, 2] += gy * gy
            vector[0] += value * residual
            vector[1] += gx * residual
            vector[2] += gy * residual
    return square


@compiled
def _inverse(m, damping, out):
    """Inverse of a symmetric 3x3 matrix (upper half filled) with damped diagonal; False if singular."""
    grow = 1.0 + damping
    a, b, c, d, e, f = m[0, 0] * grow, m[0, 1], m[0, 2], m[1, 1] * grow, m[1, 2], m[2, 2] * grow
    ca, cb, cc = d * f - e * e, c * e - b * f, b * e - c * d
    determinant = a * ca + b * cb + c * cc
    # Relative to the diagonal: a flux of zero leaves the position undetermined.
    if not determinant > 1e-12 * a * d * f:
        return False
    out[0, 0], out[0, 1], out[0, 2] = ca / determinant, cb / determinant, cc / determinant
    out[1, 1] = (a * f - c * c) / determinant
    out[1, 2] = (b * c - a * e) / determinant
    out[2, 2] = (a * d - b * b) / determinant
    out[1, 0], out[2, 0], out[2, 1] = out[0, 1], out[0, 2], out[1, 2]
    return True


@compiled
def _levenberg(data, bad, box, coefficients, oversample, p, matrix, vector):
    """Levenberg-Marquardt from p, in place; returns whether it converged."""
    work, inverse, trial = np.empty((4, 4)), np.empty((3, 3)), np.empty(3)
    next_matrix, next_vector = np.empty((3, 3)), np.empty(3)
    square, damping, small = np.inf, 0.0, False
    # The flux enters linearly: the first pass starts from nothing and finds it at the start position.
    trial[0], trial[1], trial[2] = 0.0, p[1], p[2]
    for pass_ in range(_MAX_ITERATIONS):
        new = _normal(
            data, bad, box, coefficients, oversample, trial, work, next_matrix, next_vector
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
        small = _step(inverse, vector, p, trial)
    return False


@compiled
def _step(inverse, vector, p, trial):
    """Fill `trial` with p plus a Newton step of limited length; True when the step is negligible."""
    for j in range(3):
        trial[j] = 0.0
        for k in range(3):
            trial[j] += inverse[j, k] * vector[k]
    length = math.sqrt(trial[1] * trial[1] + trial[2] * trial[2])
    small = length < _POSITION_TOLERANCE and abs(trial[0]) <= _FLUX_TOLERANCE * abs(p[0])
    factor = _MAX_STEP / length if length > _MAX_STEP else 1.0
    for j in range(3):
        trial[j] = p[j] + factor * trial[j]
    return small


@compiled
def _covariance(data, err, bad, box, coefficients, oversample, p, inverse, half_rho, out):
    """Fill the covariance of (flux, x, y); return chi-square over what correlated noise alone would leave."""
    shape = box[1] - box[0], box[3] - box[2]
    # slopes times err and over err, as they meet the noise in the estimate and in chi-square
    times, over = np.zeros((3, *shape)), np.zeros((3, *shape))
    half_times, half_over = np.zeros((3, *shape)), np.zeros((3, *shape))
    work, slopes = np.empty((4, 4)), np.empty(3)
    chi2, count = 0.0, 0
    for row in range(box[0], box[1]):
        for col in range(box[2], box[3]):
            if bad[row, col]:
                continue
            value, sx, sy = _model(coefficients, oversample, col - p[1], row - p[2], work)
            slopes[0], slopes[1], slopes[2] = value, -p[0] * sx, -p[0] * sy
            sigma = np.float64(err[row, col])
            for k in range(3):
                times[k, row - box[0], col - box[2]] = slopes[k] * sigma
                over[k, row - box[0], col - box[2]] = slopes[k] / sigma
            chi2 += ((data[row, col] - p[0] * value) / sigma) ** 2
            count += 1
    for k in range(3):
        half_times[k], half_over[k] = halved(times[k], half_rho), halved(over[k], half_rho)
    middle, mixed, curvature = np.empty((3, 3)), np.empty((3, 3)), np.empty((3, 3))
    for j in range(3):
        for k in range(3):
            middle[j, k] = form(times[j], half_times[k]) + form(times[k], half_times[j])
            mixed[j, k] = form(times[j], half_over[k]) + form(over[k], half_times[j])
            curvature[j, k] = form(over[j], over[k])
    out[:] = inverse @ middle @ inverse
    expected = 2.0 * half_rho[0, half_rho.shape[0] - 1] * count
    expected -= 2.0 * np.trace(inverse @ mixed) - np.trace(curvature @ out)
    return chi2 / expected


@compiled
def _fit_box(x, y, half, shape, box):
    """Fill the fit box, rows and columns, cut at the image; return its middle column and row."""
    col, row = math.ceil(x - 0.5), math.ceil(y - 0.5)
    box[0], box[1] = max(row - half, 0), min(row + half + 1, shape[0])
    box[2], box[3] = max(col - half, 0), min(col + half + 1, shape[1])
    return col, row


@compiled
def _result(data, err, bad, box, middle, coefficients, oversample, half, half_rho, p, matrix, out):
    """Fill a row of results of a fit that ended at p; return the flags that p decides."""
    ny, nx = data.shape
    inverse, covariance = np.empty((3, 3)), np.empty((3, 3))
    out[:] = np.nan
    out[0], out[1], out[2] = p[1], p[2], p[0]
    flag = 0 if p[0] > 0.0 else 4
    flag |= 0 if -0.5 <= p[1] < nx - 0.5 and -0.5 <= p[2] < ny - 0.5 else 2
    if abs(p[1] - middle[0]) > half + 0.5 or abs(p[2] - middle[1]) > half + 0.5:
        flag |= 4096
    if not _inverse(matrix, 0.0, inverse):
        return flag | 16
    out[7] = _covariance(
        *(data, err, bad, box, coefficients, oversample, p), *(inverse, half_rho, covariance)
    )
    out[3], out[4], out[5] = covariance[1, 1], covariance[2, 2], covariance[1, 2]
    out[6] = math.sqrt(covariance[0, 0])
    return flag


@compiled
def _replace(
    data, err, bad, x, y, coefficients, oversample, half, half_rho, failed, found, values, flags
):
    """Put the fits `found` (flux, x, y; NaN without one) where they are sound and fit no worse."""
    box, work, out = np.zeros(4, np.int64), np.empty((4, 4)), np.empty(8)
    matrix, vector, p = np.empty((3, 3)), np.empty(3), np.empty(3)
    for k in range(failed.size):
        i = failed[k]
        if not np.isfinite(found[k]).all():
            continue
        middle = _fit_box(x[i], y[i], half, data.shape, box)
        p[0], p[1], p[2] = values[i, 2], values[i, 0], values[i, 1]
        before = _normal(data, bad, box, coefficients, oversample, p, work, matrix, vector)
        square = _normal(data, bad, box, coefficients, oversample, found[k], work, matrix, vector)
        flag = _result(
            *(data, err, bad, box, middle, coefficients, oversample, half, half_rho),
            *(found[k], matrix, out),
        )
        if flag == 0 and square <= before * (1.0 + _REFIT_TOLERANCE):
            values[i] = out
            flags[i] = (flags[i] & 1) | 8192


@compiled
def _fit_all(data, err, bad, x, y, coefficients, oversample, half, half_rho):
    """Fit every source; columns x, y, flux, var x, var y, cov xy, flux error, chi-square over expectation."""
    out = np.full((x.size, 8), np.nan)
    flags = np.zeros(x.size, np.int32)
    box, p = np.zeros(4, np.int64), np.zeros(3)
    matrix, vector = np.empty((3, 3)), np.empty(3)
    full = (2 * half + 1) ** 2
    for i in range(x.size):
        if not math.isfinite(x[i] + y[i]):
            flags[i] = 64
            continue
        middle = _fit_box(x[i], y[i], half, data.shape, box)
        if box[0] >= box[1] or box[2] >= box[3]:
            flags[i] = 64
            continue
        count = 0
        for r in range(box[0], box[1]):
            for c in range(box[2], box[3]):
                count += not bad[r, c]
        flags[i] = 1 if count < full else 0
        if count < 4:
            flags[i] |= 128 if count == 0 else 256
            continue
        p[1], p[2] = x[i], y[i]
        converged = _levenberg(data, bad, box, coefficients, oversample, p, matrix, vector)
        flags[i] |= 0 if converged else 8
        flags[i] |= _result(
            *(data, err, bad, box, middle, coefficients, oversample, half, half_rho),
            *(p, matrix, out[i]),
        )
    return out, flags
