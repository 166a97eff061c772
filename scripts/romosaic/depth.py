"""
Depth of a coadd, and whether its errors are right: circles where nothing was detected.

The depth is that of the errors, at the median of the places: sources below the threshold do not raise it, and
it holds in crowded skycells, too. The scatter of the fluxes in empty circles over their errors is told beside
it and not applied: near 1 it proves the errors; sources too faint to be detected raise it in large circles.
"""

import numpy as np

from . import apertures, noise_correlation
from .coadd_psf import CoaddPSF
from .detection import Detection
from .photometry import APERTURE_RADII, Scale, magnitudes
from .psf_kernels import SIDE, window

# Places tried, and how far from sources and bad pixels they must be, arcsec.
_PLACES, _CLEAR = 1000, 1.0
_FEWEST = 100  # empty places that a scatter is worth taking of
_SIGMAS = 5.0


def depth(
    found: Detection, err: np.ndarray, scale: Scale, psf: CoaddPSF | None = None
) -> dict[str, dict]:
    """
    Limits of detection in circular apertures and of PSF fits, and the scatter of empty apertures.

    Parameters
    ----------
    found : Detection
    err : (ny, nx) float32
        MJy/sr.
    scale : Scale
    psf : CoaddPSF, optional
        PSF that is fitted.

    Returns
    -------
    dict
        ``m5sigma``: AB magnitude of five errors by aperture (``aper01`` ...; light outside of it is not added)
        and of a point source with a fitted flux (``psf``); ``empty_apertures``: their number, and by aperture
        the robust standard deviation of flux over error, ``factor``. Empty dicts without places.
    """
    ny, nx = found.data.shape
    x, y = np.random.default_rng(0).uniform(-0.5, [[nx - 0.5], [ny - 0.5]], (2, _PLACES))
    none, turn = np.full(x.size, np.iinfo(np.int32).max, np.int32), np.zeros(x.size)

    def circle(radius: float) -> tuple:
        size = np.full(x.size, radius / scale.arcsec)
        return found.bad, found.segments, none, x, y, size, size, turn

    clear = _complete(apertures.ellipse_sums(found.data, err, *circle(_CLEAR)))
    x, y, none, turn = x[clear], y[clear], none[clear], turn[clear]
    limits, factors = {}, {}
    for name, radius in APERTURE_RADII.items():
        sums = apertures.ellipse_sums(found.data, err, *circle(radius))
        variance = noise_correlation.ellipse_variances(err, *circle(radius), scale.half_rho)
        whole = _complete(sums)
        if whole.any():
            limits[f"aper{name}"] = _limit(np.sqrt(variance[whole]), scale)
        if whole.sum() >= _FEWEST:
            factors[f"aper{name}"] = _scatter(sums[whole, 0] / np.sqrt(variance[whole]))
    if psf is not None and x.size:
        here = err[np.rint(y).astype(int), np.rint(x).astype(int)]
        limits["psf"] = _limit(here * _psf_noise(psf, scale.half_rho), scale)
    return {"m5sigma": limits, "empty_apertures": {"count": int(x.size), "factor": factors}}


def _complete(sums: np.ndarray) -> np.ndarray:
    """Whether circles were summed as a whole: no segment, bad pixel or border in them."""
    return sums[:, 2] > (1 - 1e-9) * sums[:, 3]


def _limit(sigma: np.ndarray, scale: Scale) -> float:
    """Magnitude of five times the median error, of errors in data units times pixels."""
    flux = np.atleast_1d(_SIGMAS * np.median(sigma) * scale.flux)
    return float(magnitudes(flux, flux)[0][0])


def _scatter(pulls: np.ndarray) -> float:
    """Standard deviation by the median absolute deviation."""
    return float(1.4826 * np.median(np.abs(pulls - np.median(pulls))))


def _psf_noise(psf: CoaddPSF, half_rho: np.ndarray) -> float:
    """Error of the fitted flux of a faint source in the middle of a pixel, for err = 1."""
    from scipy.ndimage import map_coordinates

    reach, weights = SIDE // 2, np.zeros((SIDE, SIDE))
    window(np.zeros(weights.shape, bool), float(reach), float(reach), np.zeros(4, int), weights)
    at = psf.image.shape[0] // 2 + np.arange(-reach, reach + 1) * psf.oversample
    model = map_coordinates(psf.image, np.meshgrid(at, at, indexing="ij"), mode="nearest")
    variance = noise_correlation.variance(weights * model, half_rho)
    return float(np.sqrt(variance) / np.sum(weights * model**2))
