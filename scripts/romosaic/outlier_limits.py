"""What limits of outlier detection are multiplied by: noise of the reference, sharpness of stars."""

from collections.abc import Sequence

import numpy as np

#: Variance of (pixel - reference) beyond 3 sigma for a reference of two, in units of the pixel's.
TWO_MEMBER_FACTOR = 1.4
#: Factor of `scale` for filters whose stars the pixels sample worse than in F158. A star on the middle of a
#: pixel in one member and on corners in the others is off by more of the derivative: see `scales`.
SHARPER = {"F062": 1.5, "F087": 1.5, "F106": 1.5, "F129": 1.25}
#: Square of the derivative that noise alone exceeds in 1 % of all pixels, in units of a pixel's variance,
#: for a reference of two, of three, and times n of n > 3.
DERIVATIVE_NOISE = (4.8, 2.7, 6.4)


def reference_noise_factors(model: bool = True) -> np.ndarray:
    """
    Count the noise of the reference in the thresholds.

    Three or more members: an outlier is the largest or smallest value, so the median is one of the others and
    does not follow it; it is drawn towards it by half a step in rank, which makes up for the noise it adds.
    In simulations of pure noise through this code, the tails of (pixel - median) at 1e-4 and 1e-5 are those
    of the pixel's own noise, within 3 % for 3 to 20 members: factor 1.

    Two members: when a pixel is high, the minimum is the other member, whose noise adds in full. A bilinear
    sample, interpolated once more, has 0.4 of a pixel's variance: factor 1.4 (tails measured: 1.19 squared). A
    mean would put half of every outlier in the reference and flag both members.

    The derivative of the blot is meant for sources, but between pixels of a noisy reference it is never 0:
    0.7 sigma for three members, which would raise a limit of 5 sigma to 5.8. What noise alone seldom exceeds
    is therefore taken off, in quadrature: star cores, where the derivative is many sigma, do not feel it. The
    figures hold for grid pixels of half a detector pixel, as skycells have; on coarser grids noise is less.

    Parameters
    ----------
    model : bool
        False leaves the derivative as it is, as romancal does.

    Returns
    -------
    (256, 2) float64 array
        By number of members: factor of a pixel's variance; then the square to take off the derivative, in
        units of that product.
    """
    n = np.arange(256)
    variance = np.where(n == 2, TWO_MEMBER_FACTOR, 1.0)
    two, three, more = DERIVATIVE_NOISE
    derivative = np.select([n <= 2, n == 3], [two, three], more / np.maximum(n, 1))
    return np.stack([variance, derivative / variance if model else np.zeros(256)], axis=1)


def scales(optical_element: str, scale: Sequence[float], model: bool = True) -> list[float]:
    """
    Scales of the derivative for a filter.

    In simulations of bright stars through this code, three dithered members without noise, 8, 7, 6 and 0.4 % of
    the stars in F062, F087, F106 and F158 were off by more than 1.2 derivatives somewhere, none to 0.5 % of
    the first three by more than 1.8. Flagging them takes up to a third of a star's flux from its coadd. Away
    from sources there is no derivative, and nothing changes.

    Parameters
    ----------
    optical_element : str
        Filter.
    scale : sequence of float
        As configured: right for F158 and redder.
    model : bool
        False leaves them as they are, as romancal does.
    """
    factor = SHARPER.get(optical_element, 1.0) if model else 1.0
    return [factor * value for value in scale]
