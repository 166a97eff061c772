"""
Point-spread function of the Wide Field Instrument, analytic and radially symmetric in the optics.

The optical transfer function is the autocorrelation of an annular pupil (O'Neill 1956, J. Opt. Soc. Am. 46,
285) at the filter's pivot wavelength, times Gaussians for pointing jitter and charge diffusion, times the
square responses of the pixels the light falls into. All is done in frequency space, where the function
ends at D/λ; in image space it never does (half a per cent of the light is beyond 8" in F158).

Not modelled: struts and aberrations, the width of the filter, colour. Real images have more light beyond 0.5".
"""

from collections.abc import Iterable, Sequence

import numpy as np

PUPIL_DIAMETER = 2.36
"""Diameter of the primary mirror, m."""

OBSCURATION = 0.3
"""Diameter of the central obscuration over that of the pupil."""

DETECTOR_PIXEL = 0.11
"""Side of a detector pixel, arcsec."""

JITTER = 8.0
"""Pointing jitter, mas rms per axis."""

CHARGE_DIFFUSION = 0.022
"""Charge diffusion and interpixel capacitance as one Gaussian, arcsec rms per axis (0.2 pixel)."""

PIVOT_WAVELENGTHS = {
    "F062": 0.630,
    "F087": 0.874,
    "F106": 1.065,
    "F129": 1.287,
    "F146": 1.436,
    "F158": 1.584,
    "F184": 1.843,
    "F213": 2.137,
}
"""Pivot wavelengths of the filters, µm."""

_ARCSEC = np.pi / 648000


def cutoff_frequency(optical_element: str) -> float:
    """
    Frequency above which the optics carry nothing, D/λ.

    Parameters
    ----------
    optical_element : str
        Filter name, a key of `PIVOT_WAVELENGTHS`.

    Returns
    -------
    float
        Cycles per arcsec.

    Raises
    ------
    KeyError
        Unknown filter.
    """
    return PUPIL_DIAMETER / (PIVOT_WAVELENGTHS[optical_element] * 1e-6) * _ARCSEC


def optical_transfer(
    optical_element: str, frequency: np.ndarray, jitter: float = JITTER
) -> np.ndarray:
    """
    Transfer function of optics, jitter and charge diffusion: all but the pixel.

    Parameters
    ----------
    optical_element : str
        Filter name.
    frequency : array_like of float
        Radial frequency, cycles per arcsec.
    jitter : float
        Pointing jitter, mas rms per axis.

    Returns
    -------
    float64 array
        1 at frequency 0, 0 from `cutoff_frequency` on.
    """
    frequency = np.asarray(frequency, float)
    # Separation of the two pupils in units of the pupil's radius.
    d = 2 * frequency / cutoff_frequency(optical_element)
    overlap = (
        _common_area(d, 1.0, 1.0)
        - 2 * _common_area(d, 1.0, OBSCURATION)
        + _common_area(d, OBSCURATION, OBSCURATION)
    )
    variance = (jitter / 1000) ** 2 + CHARGE_DIFFUSION**2
    blur = np.exp(-2 * np.pi**2 * variance * frequency**2)
    return np.maximum(overlap, 0.0) / (np.pi * (1 - OBSCURATION**2)) * blur


def mean_jitter(axes: Iterable[Sequence[float | None]]) -> float:
    """
    Root mean square of pointing jitters, mas per axis.

    Parameters
    ----------
    axes : iterable of sequences
        Rms along the major and the minor axis of each exposure, mas; None or a negative fill value counts as
        what the mission expects, `JITTER`.
    """
    known = [JITTER if v is None or not 0 <= v < np.inf else float(v) for row in axes for v in row]
    return float(np.sqrt(np.mean(np.square(known)))) if known else JITTER


def _common_area(d: np.ndarray, r1: float, r2: float) -> np.ndarray:
    """Area common to two discs of radii r1 >= r2 whose centres are d apart."""
    # Outside (r1 - r2, r1 + r2) the clipped distance gives the two limits, pi r2^2 and 0.
    d = np.clip(d, max(r1 - r2, 1e-12), r1 + r2)
    a1 = np.clip((d**2 + r1**2 - r2**2) / (2 * d * r1), -1.0, 1.0)
    a2 = np.clip((d**2 + r2**2 - r1**2) / (2 * d * r2), -1.0, 1.0)
    kite = (r1 + r2) ** 2 - d**2
    kite = np.sqrt(np.maximum(kite * (d**2 - (r1 - r2) ** 2), 0.0))
    return r1**2 * np.arccos(a1) + r2**2 * np.arccos(a2) - kite / 2


def psf_image(
    optical_element: str,
    pixel_scale: float = DETECTOR_PIXEL,
    size: int = 65,
    oversample: int = 1,
    *,
    responses: Sequence[float] | None = None,
    jitter: float = JITTER,
) -> np.ndarray:
    """
    Image of a point source in its middle.

    Parameters
    ----------
    optical_element : str
        Filter name.
    pixel_scale : float
        Side of an image pixel, arcsec.
    size : int
        Samples along each axis of the image returned.
    oversample : int
        Samples per pixel and axis.
    responses : sequence of float, optional
        Sides (arcsec) of the square pixels that the light is averaged over, one after the other; default: one
        detector pixel. A coadd made with the square kernel at pixfrac 1 has the detector pixel, the drop
        and the output pixel: ``(0.11, 0.11, 0.055)``. Rotations are ignored: squares are parallel to the
        image.
    jitter : float
        Pointing jitter, mas rms per axis.

    Returns
    -------
    (size, size) float64 array
        Part of the source's flux that falls into a pixel centred at each sample. The sum over all
        samples of an endless image is ``oversample**2``; over this one, that times the energy in it.
        The image is not normalised to the box: the wings outside stay outside.
    """
    responses = (DETECTOR_PIXEL,) if responses is None else responses
    step = pixel_scale / oversample
    # A field larger than the stamp, as the transform repeats the image with the field's period.
    period = max(2 * size, int(np.ceil(16.0 / step)))
    # Sampling must hold the whole band, or it would be folded: finer steps inside if need be.
    fine = max(1, int(np.ceil(2 * cutoff_frequency(optical_element) * step)))
    n = _fast_length(period * fine)
    spectrum = _spectrum(optical_element, n, step / fine, responses, jitter)
    middle = (size - 1) / 2
    spectrum = spectrum * _phases(n, middle * fine)
    image = np.fft.irfft2(spectrum, (n, n))[: size * fine : fine, : size * fine : fine]
    y, x = np.ogrid[:size, :size]
    r = np.hypot(y - middle, x - middle) * step
    density = image * (fine / step) ** 2 - _repeated_wings(optical_element, r, n * step / fine)
    return density * pixel_scale**2


def _spectrum(optical_element, n, step, responses, jitter):
    fx, fy = np.fft.rfftfreq(n, step), np.fft.fftfreq(n, step)
    spectrum = optical_transfer(optical_element, np.hypot(fy[:, None], fx), jitter)
    for side in responses:
        spectrum *= np.sinc(side * fy)[:, None] * np.sinc(side * fx)
    return spectrum


def _phases(n, middle):
    py = np.exp(-2j * np.pi * np.fft.fftfreq(n) * middle)
    px = np.exp(-2j * np.pi * np.fft.rfftfreq(n) * middle)
    return py[:, None] * px


def _fast_length(n: int) -> int:
    """Smallest even length >= n whose only prime factors are 2, 3 and 5."""
    n += n % 2
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 2


def wing_brightness(optical_element: str) -> float:
    """
    Strength a of the far wings, whose mean brightness over the rings is ``a / r**3``.

    From the asymptotic Bessel functions of the annular pupil's diffraction pattern; the energy
    outside radius r is ``2 pi a / r``.

    Parameters
    ----------
    optical_element : str
        Filter name.

    Returns
    -------
    float
        Arcsec; the brightness is in parts of the flux per arcsec2.
    """
    return 1 / (np.pi**3 * (1 - OBSCURATION) * cutoff_frequency(optical_element))


def _repeated_wings(optical_element, r, period):
    """Brightness (per arcsec2) that the transform's repeated copies of the source add at radius r."""
    # Sums of |k|^-3 and |k|^-5 over the points of the integer plane but the origin.
    s3, s5 = 9.03362, 5.09026
    a = wing_brightness(optical_element)
    return a / period**3 * (s3 + 2.25 * s5 * (r / period) ** 2)


def encircled_energy(
    radius: np.ndarray,
    optical_element: str,
    *,
    responses: Sequence[float] = (DETECTOR_PIXEL,),
    jitter: float = JITTER,
) -> np.ndarray:
    """
    Part of a point source's flux within a circle around it.

    Exact integral of the transfer function over its band (no stamp is involved), so the wings are all there:
    in F158 0.903 within 0.4", 0.960 within 1" and 0.9960 within 10".

    Parameters
    ----------
    radius : array_like of float
        Arcsec.
    optical_element : str
        Filter name.
    responses : sequence of float
        Sides (arcsec) of the square pixels, as in `psf_image`.
    jitter : float
        Pointing jitter, mas rms per axis.

    Returns
    -------
    float64 array
        Of the shape of `radius`.
    """
    from scipy.special import j1

    radius = np.asarray(radius, float)
    flat = np.atleast_1d(radius).ravel()
    end = cutoff_frequency(optical_element)
    # Several nodes per period of the fastest oscillation, and many for the kinks of the annulus.
    nodes, weights = np.polynomial.legendre.leggauss(256)
    pieces = 2 + int(np.ceil(end * flat.max(initial=0.0) / 32))
    edges = np.linspace(0, end, pieces + 1)
    width = np.diff(edges)
    f = (edges[:-1, None] + width[:, None] * (nodes + 1) / 2).ravel()
    w = (width[:, None] * weights / 2).ravel()
    transfer = optical_transfer(optical_element, f, jitter) * _mean_response(f, responses) * w
    energy = [2 * np.pi * r * np.dot(transfer, j1(2 * np.pi * f * r)) for r in flat]
    return np.reshape(energy, radius.shape)


def _mean_response(f: np.ndarray, responses: Sequence[float]) -> np.ndarray:
    """Azimuthal mean of the pixels' transfer function at radial frequencies f."""
    angle = (np.arange(32) + 0.5) * (np.pi / 4 / 32)
    fx, fy = f[:, None] * np.cos(angle), f[:, None] * np.sin(angle)
    product = np.ones_like(fx)
    for side in responses:
        product *= np.sinc(side * fx) * np.sinc(side * fy)
    return product.mean(axis=1)
