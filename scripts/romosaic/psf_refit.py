"""
Fits of the few point sources whose batch fit does not converge, by photutils.

Gauss-Newton steps may circle where residuals are larger than the light that is fitted; the fitter of
photutils (trust region) ends there. Each source is fitted alone on a small cutout, so that memory does not
grow with the image and its numbers depend on no other source.
"""

import warnings

import numpy as np


def refit(
    data: np.ndarray,
    bad: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    stamp: np.ndarray,
    oversample: float,
    box: int,
) -> np.ndarray:
    """
    Fit each source with photutils, all pixels weighing alike as in `psf_photometry`.

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
    box : int
        Side of the fitted square, odd, pixels.

    Returns
    -------
    (n, 3) float64
        Flux, x, y; NaN where photutils does not converge either.
    """
    from astropy.table import Table
    from astropy.utils.exceptions import AstropyWarning
    from photutils.psf import ImagePSF, PSFPhotometry

    whole = max(int(np.ceil(oversample - 1e-6)), 1)
    model = ImagePSF(_resampled(stamp, oversample, whole), oversampling=whole)
    photometry = PSFPhotometry(model, (box, box), aperture_radius=box / 2)
    found = np.full((len(x), 3), np.nan)
    for k in range(len(x)):
        left, top = (max(int(np.ceil(v[k] - 0.5)) - box, 0) for v in (x, y))
        cut = np.s_[top : top + 2 * box + 1, left : left + 2 * box + 1]
        start = Table({"x": [x[k] - left], "y": [y[k] - top]})
        with warnings.catch_warnings():
            # what it warns of is in its flags
            warnings.simplefilter("ignore", AstropyWarning)
            fit = photometry(data[cut].astype(float), mask=bad[cut], init_params=start)[0]
        if not fit["flags"] & ~1:
            found[k] = fit["flux_fit"], fit["x_fit"] + left, fit["y_fit"] + top
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
