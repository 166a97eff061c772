"""Measure detected sources: every column of the catalog, in pixels of the detection's window."""

import numpy as np

from . import centroids, noise_correlation, photometry, shapes, sky_columns
from .catalog_flags import STAR_FINDER, image_flags, warning_flags
from .coadd_psf import CoaddPSF
from .detection import Detection
from .grid import Grid
from .photometry import Kron, Scale
from .psf_photometry import fit_psf
from .shapes import Moments

Columns = dict[str, np.ndarray]


def measure(
    found: Detection,
    err: np.ndarray,
    weight: np.ndarray,
    grid: Grid,
    kernel_fwhm: float,
    psf: CoaddPSF | None,
    energy: dict[str, float] | None,
    scale: Scale,
) -> Columns:
    """
    Measure the sources of a detection.

    Parameters
    ----------
    found : Detection
    err, weight : (ny, nx) float32
        Planes of the coadd on the detection's window.
    grid : Grid
        Grid of the window.
    kernel_fwhm : float
        Width of the DAOFIND kernel, pixels.
    psf : CoaddPSF or None
        PSF to fit, None for no fits.
    energy : dict or None
        Encircled energy of a point source by aperture name.
    scale : Scale

    Returns
    -------
    dict
        (n,) arrays by column name, in the units of the schema.
    """
    labels, shape = own_shapes(found)
    radii = photometry.kron(found, err, labels, shape, scale)
    columns: Columns = (
        {"label": labels} | isophotal(found, err, labels, shape, scale) | radii.columns
    )
    columns |= positions(found, err, labels, shape, radii, grid, scale)
    columns |= neighbours(labels, shape, scale)
    columns |= light(found, err, weight, shape, radii, grid, kernel_fwhm, psf, energy, scale)
    columns["_healpix_29"] = sky_columns.healpix_29(columns["ra"], columns["dec"])
    return columns


def own_shapes(found: Detection) -> tuple[np.ndarray, Moments]:
    """Labels of a detection, and what its own image says of the shapes of its segments."""
    n = found.blended.size
    shape = shapes.moments(found.data, found.smoothed, found.segments, n)
    return np.arange(1, n + 1, dtype=np.int32), shape


def light(
    found: Detection,
    err: np.ndarray,
    weight: np.ndarray,
    shape: Moments,
    radii: Kron,
    grid: Grid,
    kernel_fwhm: float,
    psf: CoaddPSF | None,
    energy: dict[str, float] | None,
    scale: Scale,
) -> Columns:
    """
    Measure light and its quality at given places.

    Parameters
    ----------
    found, err, weight
        As for `measure`.
    shape : Moments
        Places of the sources.
    radii : Kron
        Their Kron apertures.
    grid, kernel_fwhm, psf, energy, scale
        As for `measure`.

    Returns
    -------
    dict
        (n,) arrays by column name: circles, annulus, DAOFIND's statistics, PSF fits, flags.
    """
    columns, coverage = photometry.circles(found, err, shape.x, shape.y, scale)
    columns["sharpness"], columns["roundness1"] = shapes.daofind(
        found.data, shape.x, shape.y, kernel_fwhm
    )
    columns["is_extended"] = photometry.is_extended(columns, energy)
    coverage["kron"] = radii.coverage
    columns["image_flags"] = image_flags(found.segments, found.bad, weight, found.blended, coverage)
    if found.stars is not None:
        columns["image_flags"] |= np.where(found.stars, np.int32(STAR_FINDER), np.int32(0))
    columns["warning_flags"] = warning_flags(shape.x, shape.y, found.bad)
    if psf is not None:
        columns |= _psf(found, err, shape, psf, grid, scale)
    return columns


def isophotal(
    found: Detection, err: np.ndarray, labels: np.ndarray, shape: Moments, scale: Scale
) -> Columns:
    """
    Sizes, shapes and fluxes of the segments.

    Parameters
    ----------
    found : Detection
    err : (ny, nx) float32
    labels : (n,) int32
    shape : Moments
    scale : Scale

    Returns
    -------
    dict
        (n,) arrays by column name.
    """
    place = (err, found.segments, labels, shape.bounds)
    variance = noise_correlation.segment_variances(*place, scale.half_rho)
    major, minor = shape.semimajor, shape.semiminor
    cxx, cxy, cyy = (c / scale.arcsec**2 for c in shape.ellipse)
    return {
        "bbox_xmin": shape.xmin,
        "bbox_xmax": shape.xmax,
        "bbox_ymin": shape.ymin,
        "bbox_ymax": shape.ymax,
        "segment_area": shape.area * scale.arcsec**2,
        "semimajor": major * scale.arcsec,
        "semiminor": minor * scale.arcsec,
        "fwhm": 2.0 * np.sqrt(np.log(2.0) * (major**2 + minor**2)) * scale.arcsec,
        "ellipticity": 1.0 - minor / major,
        "orientation_pix": np.degrees(shape.theta),
        "cxx": cxx,
        "cxy": cxy,
        "cyy": cyy,
        "segment_flux": shape.flux * scale.flux,
        "segment_flux_err": np.sqrt(variance) * scale.flux,
    }


def positions(
    found: Detection,
    err: np.ndarray,
    labels: np.ndarray,
    shape: Moments,
    radii: Kron,
    grid: Grid,
    scale: Scale,
) -> Columns:
    """
    Isophotal and windowed centroids with errors, in pixels and on the sky; position angles.

    Parameters
    ----------
    found : Detection
    err : (ny, nx) float32
    labels : (n,) int32
    shape : Moments
        Of the detection's own image.
    radii : Kron
    grid : Grid
        Grid of the window.
    scale : Scale

    Returns
    -------
    dict
        (n,) arrays by column name.
    """
    where, rho = (found.segments, labels, shape.x, shape.y), scale.half_rho
    smooth = (err, found.smoothed, found.threshold)
    moment = centroids.centroid_covariances(*smooth, *where, shape.bounds, found.kernel, rho)
    sharp = (found.data, err, found.bad)
    window = centroids.windowed_centroids(*sharp, *where, radii.half_light, rho)
    # A windowed centroid beyond the one-sigma ellipse has run away; without a window there is none.
    cxx, cxy, cyy = shape.ellipse
    dx, dy = window[:, 0] - shape.x, window[:, 1] - shape.y
    inside = cxx * dx**2 + cxy * dx * dy + cyy * dy**2 <= 1
    lost = ~inside & np.isfinite(radii.half_light)
    window[lost, 0], window[lost, 1], window[lost, 2:] = shape.x[lost], shape.y[lost], moment[lost]
    columns = _position("centroid", shape.x, shape.y, *moment.T, grid)
    columns |= _position("centroid_win", *window.T, grid)
    matrix = sky_columns.jacobian(grid, shape.x, shape.y)
    columns["orientation_sky"] = sky_columns.position_angle(matrix, shape.theta)
    # The best position is the windowed one: neither the edge of the segment nor faint wings pull it.
    for name in ("ra", "dec"):
        best, fallback = columns[f"{name}_centroid_win"], columns[f"{name}_centroid"]
        columns[name] = np.where(np.isfinite(columns["ra_centroid_win"]), best, fallback)
    return columns


def _position(
    name: str,
    x: np.ndarray,
    y: np.ndarray,
    var_x: np.ndarray,
    var_y: np.ndarray,
    cov_xy: np.ndarray,
    grid: Grid,
) -> Columns:
    """Columns of one kind of position, ``x_<name>`` to ``dec_<name>_err``."""
    ra, dec = grid.to_sky(x, y)
    east, north = sky_columns.sky_errors(sky_columns.jacobian(grid, x, y), var_x, var_y, cov_xy)
    return {
        f"x_{name}": x,
        f"y_{name}": y,
        f"x_{name}_err": np.sqrt(var_x),
        f"y_{name}_err": np.sqrt(var_y),
        f"ra_{name}": ra,
        f"dec_{name}": dec,
        f"ra_{name}_err": east,
        f"dec_{name}_err": north,
    }


def neighbours(labels: np.ndarray, shape: Moments, scale: Scale) -> Columns:
    """Label of the nearest other source and its distance in arcsec; -1 and NaN without one."""
    from scipy.spatial import KDTree

    nearest = np.full(labels.size, -1, np.int64)
    distance = np.full(labels.size, np.nan)
    places = np.flatnonzero(np.isfinite(shape.x) & np.isfinite(shape.y))
    if places.size > 1:
        points = np.stack([shape.x[places], shape.y[places]], axis=1)
        apart, which = KDTree(points).query(points, k=[2])
        nearest[places] = labels[places[which[:, 0]]]
        distance[places] = apart[:, 0] * scale.arcsec
    return {"nn_label": nearest, "nn_distance": distance}


def _psf(
    found: Detection, err: np.ndarray, shape: Moments, psf: CoaddPSF, grid: Grid, scale: Scale
) -> Columns:
    """PSF photometry started at the centroids, or at the brightest star of a segment of several."""
    x, y = shape.x, shape.y
    if found.starts is not None:
        x, y = (np.where(np.isnan(s), c, s) for s, c in zip(found.starts.T, (x, y), strict=True))
    fit = fit_psf(found.data, err, found.bad, x, y, psf, correlation=scale.correlation)
    columns = _position("psf", fit.x, fit.y, fit.var_x, fit.var_y, fit.cov_xy, grid)
    return columns | {
        "psf_flux": fit.flux * scale.flux,
        "psf_flux_err": fit.flux_err * scale.flux,
        "psf_flags": fit.flags,
        "psf_gof": fit.gof,
    }
