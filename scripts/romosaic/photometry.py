"""Aperture photometry of detected sources, in the units of the catalog."""

from dataclasses import dataclass, field

import numpy as np

from . import apertures, noise_correlation
from .detection import Detection
from .shapes import Moments

#: Radii of the circular apertures, arcsec, by the name in the columns (tenths of arcsec).
APERTURE_RADII = {"01": 0.1, "02": 0.2, "04": 0.4, "08": 0.8, "16": 1.6}
#: Inner and outer radius of the annulus of the local background, arcsec.
ANNULUS_RADII = (2.4, 2.8)
#: Kron aperture: factor on the first-moment radius, least first-moment radius (units of the source ellipse).
KRON_PARAMS = (2.5, 1.4)
# A source is extended when it gains this much more light from 0.2" to 0.4" than a point source.
_EXTENDED = 1.2
_NJY_PER_MJY = 1e15
_AB_ZERO = 31.4  # magnitude of 1 nJy


@dataclass(frozen=True)
class Scale:
    """
    What the numbers of one grid mean.

    Attributes
    ----------
    area : float
        Solid angle of a pixel, steradians.
    correlation : (2 k + 1, 2 k + 1) float64
        Correlation of the pixels' noise by offset, to go with `err`: see `noise_correlation`.
    """

    area: float
    correlation: np.ndarray = field(default_factory=lambda: noise_correlation.INDEPENDENT)

    @property
    def half_rho(self) -> np.ndarray:
        """Half of the correlation, as the kernels take it."""
        return noise_correlation.taps(self.correlation)

    @property
    def flux(self) -> float:
        """From MJy/sr times pixels to nJy."""
        return self.area * _NJY_PER_MJY

    @property
    def arcsec(self) -> float:
        """Side of a square pixel of that solid angle, arcsec."""
        return float(np.degrees(np.sqrt(self.area)) * 3600)


@dataclass(frozen=True)
class Kron:
    """Kron apertures: `radius` (unscaled), half-light radius `half_light` (pixels), columns, area summed."""

    radius: np.ndarray
    half_light: np.ndarray
    columns: dict[str, np.ndarray]
    coverage: np.ndarray


def kron(
    found: Detection,
    err: np.ndarray,
    labels: np.ndarray,
    shape: Moments,
    scale: Scale,
    radius: np.ndarray | None = None,
) -> Kron:
    """
    Kron and half-light measurements with other sources masked.

    Parameters
    ----------
    found : Detection
    err : (ny, nx) float32
        MJy/sr.
    labels : (n,) int32
    shape : Moments
    scale : Scale
    radius : (n,) float64, optional
        Kron radii, unscaled; without them they are measured.

    Returns
    -------
    Kron
        Columns `kron_radius`, `kron_flux`, `kron_abmag` with errors, `fluxfrac_radius_50`.
    """
    place = (found.data, found.bad, found.segments, labels, shape.x, shape.y)
    factor, least = KRON_PARAMS
    if radius is None:
        radius = apertures.kron_radii(*place, *shape.ellipse, least)
    major, minor = factor * radius * shape.semimajor, factor * radius * shape.semiminor
    ellipse = (major, minor, shape.theta)
    sums, variance = _sums(found, err, labels, shape.x, shape.y, ellipse, scale)
    half_light = apertures.flux_radii(*place, 0.5 * sums[:, 0], major)
    flux, flux_err = sums[:, 0] * scale.flux, np.sqrt(variance) * scale.flux
    abmag, abmag_err = magnitudes(flux, flux_err)
    columns = {
        "kron_radius": radius * scale.arcsec,
        "kron_flux": flux,
        "kron_flux_err": flux_err,
        "kron_abmag": abmag,
        "kron_abmag_err": abmag_err,
        "fluxfrac_radius_50": half_light * scale.arcsec,
    }
    return Kron(radius, half_light, columns, _coverage(sums))


def _sums(
    found: Detection,
    err: np.ndarray,
    labels: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    ellipse: tuple[np.ndarray, np.ndarray, np.ndarray],
    scale: Scale,
) -> tuple[np.ndarray, np.ndarray]:
    """Sums over ellipses as `apertures.ellipse_sums`, and their variances for correlated noise."""
    place = (found.bad, found.segments, labels, x, y, *ellipse)
    variance = noise_correlation.ellipse_variances(err, *place, scale.half_rho)
    return apertures.ellipse_sums(found.data, err, *place), variance


def circles(
    found: Detection, err: np.ndarray, x: np.ndarray, y: np.ndarray, scale: Scale
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """
    Fluxes in circles and the local background in an annulus around positions, neighbours included.

    Parameters
    ----------
    found : Detection
    err : (ny, nx) float32
        MJy/sr.
    x, y : (n,) float64
        Centres, pixels.
    scale : Scale

    Returns
    -------
    columns : dict
        ``aperNN_flux``, ``aperNN_flux_err`` (nJy), ``aper_bkg_flux``, ``aper_bkg_flux_err`` (nJy/arcsec2; the
        background is not subtracted from the fluxes).
    coverage : dict
        ``aperNN``: part of the circle's area that holds data.
    """
    columns, coverage = {}, {}
    everything, turn = np.zeros(x.size, np.int32), np.zeros(x.size)
    for name, radius in APERTURE_RADII.items():
        size = np.full(x.size, radius / scale.arcsec)
        sums, variance = _sums(found, err, everything, x, y, (size, size, turn), scale)
        columns[f"aper{name}_flux"] = sums[:, 0] * scale.flux
        columns[f"aper{name}_flux_err"] = np.sqrt(variance) * scale.flux
        coverage[f"aper{name}"] = _coverage(sums)
    inner, outer = (radius / scale.arcsec for radius in ANNULUS_RADII)
    level = apertures.annulus_levels(found.data, found.bad, x, y, inner, outer)
    per_arcsec2 = scale.flux / scale.arcsec**2
    columns["aper_bkg_flux"] = level[:, 0] * per_arcsec2
    # the error of the annulus is that of independent pixels
    ratio = noise_correlation.median_factor(scale.correlation, inner, outer) / (np.pi / 2)
    columns["aper_bkg_flux_err"] = level[:, 1] * per_arcsec2 * np.sqrt(ratio)
    return columns, coverage


def _coverage(sums: np.ndarray) -> np.ndarray:
    """Part of an ellipse's area that was summed; 0 for an ellipse that is not finite."""
    return np.where(sums[:, 3] > 0, sums[:, 2] / np.where(sums[:, 3] > 0, sums[:, 3], 1.0), 0.0)


def magnitudes(flux: np.ndarray, flux_err: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AB magnitudes of fluxes in nJy, and their errors to the bright side as romancal's; NaN for flux <= 0."""
    positive = np.where(flux > 0, flux, np.nan)
    return (
        _AB_ZERO - 2.5 * np.log10(positive),
        2.5 * np.log10(1.0 + flux_err / positive),
    )


def is_extended(columns: dict[str, np.ndarray], energy: dict[str, float] | None) -> np.ndarray:
    """
    Whether sources gain more light from 0.2" to 0.4" than a point source.

    Parameters
    ----------
    columns : dict
        With ``aper02_flux`` and ``aper04_flux``, (n,) float64.
    energy : dict or None
        Encircled energy of a point source by aperture name; None calls nothing extended.

    Returns
    -------
    (n,) bool
    """
    if energy is None:
        return np.zeros(columns["aper04_flux"].shape, bool)
    gain = _EXTENDED * energy["04"] / energy["02"]
    return columns["aper04_flux"] > gain * columns["aper02_flux"]
