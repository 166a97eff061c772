"""
The point-spread function of a coadd: optics, detector pixel, drizzle drop and output pixel.

Averaged over many dithers, drizzle smears the image that the detector pixels see with the drop (the kernel) and
with the square output pixel; exposures come at several rolls, so the result is averaged over angle.

Encircled energies are those that circular apertures measure: the light of a pixel counts as spread evenly over
it, which smears the image with the output pixel once more (0.402 instead of 0.414 within 0.1" in F158).
"""

from dataclasses import dataclass

import numpy as np

from .psf import DETECTOR_PIXEL, JITTER, encircled_energy, psf_image

_SQUARE_DROPS = ("square", "turbo")
_STAMP_REACH = 20  # coadd pixels on each side of the centre of an analytic stamp


@dataclass(frozen=True)
class CoaddPSF:
    """
    Point-spread function on a coadd's grid.

    Attributes
    ----------
    image : (m, m) float64
        Flux of a unit source that falls into a coadd pixel centred at each sample; m is odd, the source is at
        the middle sample.
    oversample : float
        Samples per coadd pixel.
    energy_radius, energy : (k,) float64
        Encircled energy: fraction of all light that apertures with radii in arcsec find on the coadd's pixels.
    source : str
        Where it comes from: ``file: <name>`` or ``analytic``.
    """

    image: np.ndarray
    oversample: float
    energy_radius: np.ndarray
    energy: np.ndarray
    source: str

    @classmethod
    def from_image(
        cls, image: np.ndarray, oversample: float, pixel_scale: float, source: str
    ) -> "CoaddPSF":
        """
        PSF of a sampled image, its encircled energy integrated from the image.

        Parameters
        ----------
        image : (m, m) array
            As the attribute, m odd.
        oversample : float
            Samples per coadd pixel.
        pixel_scale : float
            Side of a coadd pixel, arcsec.
        source : str
            Kept for the catalog's metadata.
        """
        image = np.asarray(image, np.float64)
        if image.ndim != 2 or image.shape[0] != image.shape[1] or image.shape[0] % 2 == 0:
            raise ValueError("a PSF image has an odd number of samples, the same along both axes")
        radius, profile = radial_profile(_smear(image, [oversample]))
        energy = _energy(radius, profile) / oversample**2
        return cls(image, oversample, radius * pixel_scale / oversample, energy, source)

    def central(self, reach: int) -> np.ndarray:
        """Samples within `reach` coadd pixels of the centre along each axis (fewer if the image ends)."""
        middle = self.image.shape[0] // 2
        half = min(middle, int(np.ceil(reach * self.oversample)))
        return np.ascontiguousarray(
            self.image[middle - half : middle + half + 1, middle - half : middle + half + 1]
        )

    def encircled_energy(self, radius: np.ndarray) -> np.ndarray:
        """Fraction of a point source's light within radii in arcsec."""
        return np.interp(radius, self.energy_radius, self.energy)


def analytic_psf(
    optical_element: str,
    pixel_scale: float,
    *,
    pixfrac: float = 1.0,
    kernel: str = "square",
    jitter: float = JITTER,
) -> CoaddPSF:
    """
    PSF of a coadd from the analytic model of the telescope (`romosaic.psf`).

    Parameters
    ----------
    optical_element : str
        Filter name.
    pixel_scale : float
        Side of a coadd pixel, arcsec.
    pixfrac : float
        Side of the drizzle drop, detector pixels.
    kernel : str
        Drizzle kernel; only square and turbo drops have a side, the others are taken as points.
    jitter : float
        Pointing jitter, mas rms per axis.

    Raises
    ------
    KeyError
        Unknown filter.
    """
    oversample = 4
    responses = (DETECTOR_PIXEL, *_boxes(pixel_scale, pixfrac, kernel))
    image = psf_image(
        optical_element,
        pixel_scale=pixel_scale,
        size=2 * _STAMP_REACH * oversample + 1,
        oversample=oversample,
        responses=responses,
        jitter=jitter,
    )
    radius = np.concatenate([np.linspace(0, 1, 201), np.linspace(1.01, 10, 225)])
    seen = (*responses, pixel_scale)
    energy = encircled_energy(radius, optical_element, responses=seen, jitter=jitter)
    return CoaddPSF(circularised(image), float(oversample), radius, energy, "analytic")


def reference_psf(
    stamp: np.ndarray,
    oversample: float,
    pixel_scale: float,
    source: str,
    *,
    pixfrac: float = 1.0,
    kernel: str = "square",
    more_jitter: float = 0.0,
) -> CoaddPSF:
    """
    PSF of a coadd from an oversampled detector PSF of a reference file.

    Parameters
    ----------
    stamp : (m, m) array
        Detector PSF, m odd. A sum near ``oversample**2`` means that it holds the light per detector pixel; a
        sum near 1 that it holds the light per sample, without the detector pixel. What the sum lacks is
        light outside the stamp.
    oversample : float
        Samples per detector pixel.
    pixel_scale : float
        Side of a coadd pixel, arcsec.
    source : str
        Kept for the catalog's metadata.
    pixfrac, kernel
        As `analytic_psf`.
    more_jitter : float
        Variance of the exposures' jitter less that of the stamp, mas^2 per axis; negative sharpens.
    """
    step = DETECTOR_PIXEL / oversample
    boxes = list(_boxes(pixel_scale, pixfrac, kernel))
    stamp = np.asarray(stamp, np.float64)
    per_pixel = stamp.sum() > 0.5 * oversample**2
    if not per_pixel:
        boxes.append(DETECTOR_PIXEL)
        stamp = stamp * oversample**2
    # Light per detector pixel to light per coadd pixel: the area of a pixel.
    variance = more_jitter * 1e-6 / step**2
    smeared = _smear(stamp, [side / step for side in boxes], variance)
    smeared *= (pixel_scale / DETECTOR_PIXEL) ** 2
    return CoaddPSF.from_image(circularised(smeared), pixel_scale / step, pixel_scale, source)


def _boxes(pixel_scale: float, pixfrac: float, kernel: str) -> tuple[float, ...]:
    """Sides in arcsec of the squares that drizzling averages over."""
    drop = pixfrac * DETECTOR_PIXEL if kernel in _SQUARE_DROPS else 0.0
    return tuple(side for side in (drop, pixel_scale) if side > 0)


def profile_psf(
    radius: np.ndarray, light: np.ndarray, pixel_scale: float, model: CoaddPSF, source: str
) -> CoaddPSF:
    """
    PSF of a measured radial profile; what lies beyond its last radius, and its level there, are the model's.

    Parameters
    ----------
    radius, light : (k,) float64
        Coadd pixels, increasing; light per pixel in any unit.
    pixel_scale : float
        Side of a coadd pixel, arcsec.
    model : CoaddPSF
        Analytic PSF of such coadds, its energies those of an aperture correction if there is one.
    source : str
        Kept for the catalog's metadata.
    """
    from scipy.interpolate import CubicSpline

    oversample, reach = 4, min(int(radius[-1]), _STAMP_REACH)
    # what the model has in the outer fifth of the radii tells the level of the sky there
    outer = radius > 0.8 * reach
    core = radius < 2
    at, wings = radial_profile(model.image)
    wing = np.interp(radius, at / model.oversample, wings)
    brightness = np.sum(light[core]) / np.sum(wing[core])
    light = light - np.mean(light[outer] - brightness * wing[outer])
    # round and smooth: the same on both sides of the centre
    mirrored = np.concatenate([-radius[::-1], radius]), np.concatenate([light[::-1], light])
    spline = CubicSpline(*mirrored)
    at = np.arange(-reach * oversample, reach * oversample + 1) / oversample
    r = np.hypot(at, at[:, None])
    image = np.where(r <= reach, spline(np.minimum(r, reach)), 0.0)
    part = CoaddPSF.from_image(image, oversample, pixel_scale, source)
    # the edge of the image is smeared: join the model a little before it
    joint = 0.95 * reach * pixel_scale
    total = float(part.encircled_energy(joint) / model.encircled_energy(joint))
    inner, outer = part.energy_radius < joint, model.energy_radius >= joint
    return CoaddPSF(
        image / total,
        float(oversample),
        np.concatenate([part.energy_radius[inner], model.energy_radius[outer]]),
        np.concatenate([part.energy[inner] / total, model.energy[outer]]),
        source,
    )


def drizzled_energy(
    energy: tuple[np.ndarray, np.ndarray],
    optical_element: str,
    pixel_scale: float,
    *,
    pixfrac: float = 1.0,
    kernel: str = "square",
) -> tuple[np.ndarray, np.ndarray]:
    """
    Encircled energy on a coadd from that of detector images.

    What drop and output pixels take out of small apertures is the same for all but identical PSFs: the ratio is
    that of the analytic model (0.837 at 0.1" in F158, both for the model and for the reference ePSF).

    Parameters
    ----------
    energy : (radius, fraction)
        Of the detector image, radii in arcsec.
    optical_element, pixel_scale, pixfrac, kernel
        As `analytic_psf`.

    Returns
    -------
    radius, fraction : (k,) float64
    """
    radius = energy[0]
    blurred = (DETECTOR_PIXEL, *_boxes(pixel_scale, pixfrac, kernel), pixel_scale)
    with np.errstate(invalid="ignore"):
        ratio = encircled_energy(radius, optical_element, responses=blurred)
        ratio /= encircled_energy(radius, optical_element, responses=(DETECTOR_PIXEL,))
    return radius, energy[1] * np.where(radius > 0, ratio, 1.0)


def _smear(image: np.ndarray, sides: list[float], variance: float = 0.0) -> np.ndarray:
    """Average an image over squares with sides in samples and a Gaussian, exactly in frequency space."""
    n = image.shape[0]
    padded = n + 2 * int(np.ceil(sum(sides))) + 2
    spectrum = np.fft.rfft2(image, (padded, padded))
    fy, fx = np.fft.fftfreq(padded), np.fft.rfftfreq(padded)
    for side in sides:
        spectrum *= np.sinc(side * fy)[:, None] * np.sinc(side * fx)
    if variance:
        spectrum *= np.exp(-2 * np.pi**2 * variance * (fy[:, None] ** 2 + fx**2))
    return np.fft.irfft2(spectrum, (padded, padded))[:n, :n]


def radial_profile(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    Mean of an image over circles around its middle.

    Parameters
    ----------
    image : (m, m) float64
        m odd.

    Returns
    -------
    radius, profile : (k,) float64
        Radii in samples, from 0 to the nearest edge in quarter steps, and the means.
    """
    from scipy.ndimage import map_coordinates, spline_filter

    middle = image.shape[0] // 2
    radius = np.arange(4 * middle + 1) / 4.0
    angle = (np.arange(64) + 0.5) * (2 * np.pi / 64)
    rows = middle + radius[:, None] * np.sin(angle)
    cols = middle + radius[:, None] * np.cos(angle)
    values = map_coordinates(spline_filter(image, mode="mirror"), [rows, cols], prefilter=False)
    return radius, values.mean(axis=1)


def circularised(image: np.ndarray) -> np.ndarray:
    """Image with its radial profile around the middle, zero in the corners beyond the nearest edge."""
    from scipy.interpolate import CubicSpline

    middle = image.shape[0] // 2
    radius, profile = radial_profile(image)
    r = np.hypot(*(np.mgrid[: image.shape[0], : image.shape[1]] - middle))
    # A smooth image is flat at its centre.
    spline = CubicSpline(radius, profile, bc_type=((1, 0.0), "not-a-knot"))
    return np.where(r <= radius[-1], spline(np.minimum(r, radius[-1])), 0.0)


def _energy(radius: np.ndarray, profile: np.ndarray) -> np.ndarray:
    """Integral of a radial profile over circles."""
    from scipy.interpolate import CubicSpline

    return 2 * np.pi * CubicSpline(radius, radius * profile).antiderivative()(radius)
