"""
PSF photometry: least-squares fits of position and flux, all sources in one compiled loop.

The pixels of a source weigh alike, but for the rim of the window (`psf_kernels`): with weights 1 / err^2, which
follow the light, pixels that happen to be bright count less, and the uneven sampling of few dithers made stars
of 18 to 21 mag 1 to 2 % too faint and their fluxes scatter 4 times as much. For faint sources, whose err is
that of the sky, both are the same.

Each source is fitted alone in a small window around its position (romancal: 5x5 pixels around its start). Where
that does not settle within 2.5 pixels of the start, between the stars of a blend, the window stays there. Its
numbers depend on no other source and on no chunking (of more than `MOST_REFITS` failures the first ones are
fitted again).
"""

from dataclasses import dataclass

import numpy as np

from .coadd_psf import CoaddPSF
from .noise_correlation import INDEPENDENT, taps
from .psf_kernels import HALF, fit_all

#: Bits of `psf_flags`: those of photutils.psf that can occur here, and from 4096 on our own.
PSF_FLAGS = {
    1: "some pixels of the fit window are unusable or outside the image",
    2: "fitted position outside the image",
    4: "fitted flux not positive",
    8: "fit did not converge",
    16: "no covariance: uncertainties are NaN",
    64: "fit window outside the image",
    128: "all pixels of the fit window are unusable",
    256: "too few usable pixels to fit",
    4096: "fitted position more than 2.5 pixels from the start",
    8192: "begun where photutils ended, as the fit did not converge",
}
#: Sources of one call that photutils fits again at most, the first ones (it bounds the time; about 25 ms each).
MOST_REFITS = 1000
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
    gof : float64, chi-square, weighted as the fit, over what noise alone would leave
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
    correlation: np.ndarray = INDEPENDENT,
) -> PSFFit:
    """
    Fit one point source per start position.

    Covariances are those of this estimator for correlated noise,

        J^-1 (sum w_j w_l g_j g_l^T rho err err) J^-T

    with g the slopes of the model, w the weights of the window and J minus the derivative of
    ``sum w g residual``. That is ``sum w g g^T`` for point sources. Where gof is above 2, J is measured on
    the source's pixels: the light of a disc moves a fit two to five times less than a star's.

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
    shared = (coefficients, psf.oversample, taps(correlation))
    values, flags = fit_all(data, err, bad, x, y, *shared)
    failed = np.flatnonzero(flags & 8)[:MOST_REFITS]
    if failed.size:
        from .psf_refit import refit  # photutils takes long to import

        found = refit(data, bad, x[failed], y[failed], stamp, psf.oversample)
        again, new = fit_all(data, err, bad, *found, *shared)
        far = np.abs(again[:, :2] - np.stack([x[failed], y[failed]], axis=1)).max(axis=1)
        sound = ((new & ~1) == 0) & (far <= HALF + 0.5)
        values[failed[sound]], flags[failed[sound]] = again[sound], new[sound] | 8192
    return PSFFit(*values[:, :7].T.copy(), flags, values[:, 7].copy())
