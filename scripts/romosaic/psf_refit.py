"""
Fits by photutils of the few point sources whose batch fit does not converge: where that begins again.

Gauss-Newton steps may circle where residuals are larger than the light that is fitted; the fitter of
photutils (trust region) ends there. Each source is fitted alone on a small cutout, so that memory does not
grow with the image and its numbers depend on no other source.
"""

import warnings

import numpy as np

from .psf_kernels import HALF, SIDE, window


def refit(
    data: np.ndarray,
    bad: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    stamp: np.ndarray,
    oversample: float,
) -> np.ndarray:
    """
    Fit each source with photutils, pixels weighing as in the window of the start, which stays.

    Parameters
    ----------
    data : (ny, nx) float32
        Background-subtracted image.
    bad : (ny, nx) bool
        Pixels to leave out.
    x, y : (n,) float64
        Start positions, pixels.
    stamp : (m, m) float64
        The unit-flux point-spread function, m odd.
    oversample : float
        Samples of the stamp per pixel.

    Returns
    -------
    (2, n) float64
        x and y; NaN where photutils does not converge either.
    """
    from astropy.table import Table
    from astropy.utils.exceptions import AstropyWarning
    from photutils.psf import ImagePSF, PSFPhotometry

    whole = max(int(np.ceil(oversample - 1e-6)), 1)
    model = ImagePSF(_resampled(stamp, oversample, whole), oversampling=whole)
    photometry = PSFPhotometry(model, (SIDE, SIDE), aperture_radius=HALF + 0.5)
    found, box, weights = np.full((2, len(x)), np.nan), np.zeros(4, int), np.zeros((SIDE, SIDE))
    for k in range(len(x)):
        window(bad, x[k], y[k], box, weights)
        cut = np.s_[box[0] : box[1], box[2] : box[3]]
        weight = weights[: box[1] - box[0], : box[3] - box[2]]
        mask = weight == 0
        error = 1 / np.sqrt(np.where(mask, 1, weight))
        start = Table({"x": [x[k] - box[2]], "y": [y[k] - box[0]]})
        with warnings.catch_warnings():
            # what it warns of is in its flags
            warnings.simplefilter("ignore", AstropyWarning)
            image = data[cut].astype(float)
            fit = photometry(image, error=error, mask=mask, init_params=start)[0]
        if not fit["flags"] & ~1:
            found[:, k] = fit["x_fit"] + box[2], fit["y_fit"] + box[0]
    return found


def _resampled(stamp: np.ndarray, oversample: float, whole: int) -> np.ndarray:
    """Stamp at a whole number of samples per pixel, as ImagePSF asks for."""
    from scipy.ndimage import map_coordinates

    if oversample == whole:
        return stamp
    middle = stamp.shape[0] // 2
    reach = int(middle * whole / oversample)
    at = middle + np.arange(-reach, reach + 1) * (oversample / whole)
    return map_coordinates(stamp, np.meshgrid(at, at, indexing="ij"), order=3, mode="mirror")
