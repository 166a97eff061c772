"""Values and slopes of a point-spread function between the samples of its stamp."""

import math

from .compiled import compiled


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
def psf_value(coefficients, oversample, dx, dy, work):
    """
    Return the unit-flux PSF at an offset from its centre.

    Parameters
    ----------
    coefficients : (m, m) float64
        Cubic spline of the stamp, m odd.
    oversample : float
        Its samples per pixel.
    dx, dy : float
        The offset, pixels.
    work : (4, 4) float64
        Overwritten.

    Returns
    -------
    value, slope_x, slope_y : float
        Per pixel; zeros off the stamp.
    """
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
