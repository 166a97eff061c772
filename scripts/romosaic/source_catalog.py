"""
Source catalog of one coadd: detection, positions, shapes, aperture and PSF photometry.

Steps and parameters are those of romancal's SourceCatalogStep, measured on the background-subtracted coadd
inside its covered window. Different from it: position errors are real; the best position is the windowed one;
position angle and spatial index follow the sky; pixels without data are left out of sums and flagged; errors
count with the correlation of drizzled neighbours (`noise_correlation`).
"""

import platform
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy as np

from . import forced_catalog, photometry, sky_columns, star_finder
from .catalog_columns import FORCED, make_table
from .catalog_flags import IMAGE_FLAGS, WARNING_FLAGS
from .catalog_measurements import measure
from .coadd_psf import CoaddPSF
from .depth import depth
from .detection import Detection, covered_window, detect, unusable
from .forcing import Forcing
from .grid import Grid
from .noise_correlation import INDEPENDENT
from .psf_photometry import PSF_FLAGS

_VERSIONS = ("numpy", "scipy", "astropy", "photutils", "roman_datamodels")
_POSITIONS = ("x_centroid", "x_centroid_win", "x_psf")
_PIXEL_COLUMNS = (*_POSITIONS, *(FORCED + name for name in _POSITIONS), "bbox_xmin", "bbox_xmax")
_ERRORS = "correlated pixels: the variance of sum(t d) is sum(t_j t_l rho(j - l) err_j err_l)"
_DETECT = ("bkg_boxsize", "kernel_fwhm", "snr_threshold", "npixels", "deblend")
_STARS = ("method", "kernel_fwhm", "star_threshold", "npixels")
#: Keys of section `source_catalog` that the catalog tells: all but those of files.
_TOLD = (*_DETECT, "fit_psf", "method", "star_threshold")


def make_catalog(
    data: np.ndarray,
    err: np.ndarray,
    weight: np.ndarray,
    grid: Grid,
    parameters: Mapping[str, Any],
    *,
    psf: CoaddPSF | None = None,
    energy: tuple[np.ndarray, np.ndarray] | None = None,
    cell: sky_columns.Cell | None = None,
    optical_element: str = "",
    forcing: Forcing | None = None,
    correlation: np.ndarray = INDEPENDENT,
) -> tuple[Any, np.ndarray]:
    """
    Detect and measure the sources of a coadd.

    Parameters
    ----------
    data, err, weight : (ny, nx) float
        Coadd and its one-sigma error, MJy/sr, NaN without data; its weight, 0 without data.
    grid : Grid
    parameters : mapping
        Section `source_catalog` of the configuration.
    psf : CoaddPSF, optional
        Point-spread function on this grid; needed to fit PSFs.
    energy : (radius, fraction), optional
        Encircled energy of a point source at radii in arcsec; default: that of `psf`.
    cell : Cell, optional
        The coadd's skycell; without it `flagged_spatial_id` is 0.
    optical_element : str, optional
        Filter of the coadd.
    forcing : Forcing, optional
        Catalog of another filter, whose sources are measured instead of the coadd's own.
    correlation : (2 k + 1, 2 k + 1) float64
        Of the pixels' noise, by offset: see `noise_correlation`.

    Returns
    -------
    table : astropy.table.Table
        One row per source, by place on the sky; without rows when nothing is found or covered.
    segmentation : (ny, nx) uint32
        Labels of the sources.

    Raises
    ------
    ValueError
        Arrays of different shapes, or PSF fits without a PSF.
    """
    planes = tuple(_read_only(plane) for plane in (data, err, weight))
    _check(planes, grid, parameters, psf, forcing)
    scale = photometry.Scale(grid.middle_pixel_area, np.asarray(correlation, float))
    options = {"psf": psf if parameters["fit_psf"] else None, "energy": _fractions(psf, energy)}
    options |= {"kernel_fwhm": parameters["kernel_fwhm"], "scale": scale}
    columns, segmentation, depths = _sources(planes, grid, cell, parameters, options, forcing)
    if columns:
        columns["filter"] = np.full(len(columns["label"]), optical_element)
    meta = _meta(parameters, psf, options["energy"], scale, forcing) | depths
    return make_table(columns, parameters["fit_psf"], meta, forcing is not None), segmentation


def find(
    data: np.ndarray, bad: np.ndarray, parameters: Mapping[str, Any], stars: bool = True
) -> Detection:
    """
    Find the sources of an image.

    Parameters
    ----------
    data, bad : (ny, nx) arrays
        See `detection.detect`.
    parameters : mapping
        Section `source_catalog` of the configuration.
    stars : bool, optional
        Whether its stars are wanted, see `star_finder.add_stars`.
    """
    found = detect(data, bad, **{name: parameters[name] for name in _DETECT})
    if parameters["method"] == "segmentation" or not stars:
        return found
    return star_finder.add_stars(found, **{name: parameters[name] for name in _STARS})


def _read_only(plane: np.ndarray) -> np.ndarray:
    """View that cannot be written to: mapped files cannot, and kernels are compiled anew for those that can."""
    plane = plane.view()
    plane.flags.writeable = False
    return plane


def _sources(
    planes: tuple[np.ndarray, ...],
    grid: Grid,
    cell: sky_columns.Cell | None,
    parameters: Mapping[str, Any],
    options: dict[str, Any],
    forcing: Forcing | None,
) -> tuple[dict[str, np.ndarray], np.ndarray, dict[str, Any]]:
    """Columns of the sources (none where nothing is covered), segmentation and depth, by the covered window."""
    segmentation = np.zeros(grid.shape, np.uint32)
    bad = unusable(*planes)
    window = covered_window(bad)
    if window is None:
        return {}, segmentation, {}
    cut = (np.ascontiguousarray(plane[window]) for plane in planes)
    planes = *map(_read_only, cut), np.ascontiguousarray(bad[window])
    options = options | {"grid": _cut(grid, window)}
    columns, segmentation[window], depths = _measure(planes, window, parameters, options, forcing)
    _place(columns, window, grid, cell)
    return columns, segmentation, depths


def _measure(
    planes: tuple[np.ndarray, ...],
    window: tuple[slice, slice],
    parameters: Mapping[str, Any],
    options: dict[str, Any],
    forcing: Forcing | None,
) -> tuple[dict[str, np.ndarray], np.ndarray, dict[str, Any]]:
    """Columns of the sources, in pixels of the window, the segmentation of the window and its depth."""
    data, err, weight = (plane.astype(np.float32, copy=False) for plane in planes[:3])
    elsewhere = forcing is not None and forcing.product is not None
    found = find(data, planes[3], parameters, stars=not elsewhere)
    depths = depth(found, err, options["scale"], options["psf"])
    if elsewhere:
        found, given = forced_catalog.force(found, forcing, window)
        columns = forced_catalog.measure_forced(found, given, err, weight, window, options)
        return columns, np.append(given["label"], 0)[found.segments - 1], depths
    if forcing is not None:
        columns = forced_catalog.measure_unforced(found, err, weight, options)
        return columns, found.segments, depths
    return measure(found, err, weight, **options), found.segments, depths


def _check(
    planes: tuple[np.ndarray, ...],
    grid: Grid,
    parameters: Mapping[str, Any],
    psf: CoaddPSF | None,
    forcing: Forcing | None,
) -> None:
    shapes = [*(plane.shape for plane in planes), grid.shape]
    if forcing is not None and forcing.segments is not None:
        shapes.append(forcing.segments.shape)
    if len(set(shapes)) > 1:
        raise ValueError(f"data, err, weight, grid and segments of {shapes}: not one shape")
    if parameters["fit_psf"] and psf is None:
        raise ValueError("PSF photometry needs a PSF")


def _fractions(
    psf: CoaddPSF | None, energy: tuple[np.ndarray, np.ndarray] | None
) -> dict[str, float] | None:
    """Encircled energy of a point source by aperture name: of the file, else of the PSF."""
    if energy is None:
        if psf is None:
            return None
        energy = psf.energy_radius, psf.energy
    radii = photometry.APERTURE_RADII
    return {name: float(np.interp(radius, *energy)) for name, radius in radii.items()}


def _cut(grid: Grid, window: tuple[slice, slice]) -> Grid:
    """Grid of a window of the image."""
    rows, cols = window
    return replace(
        grid,
        x0=grid.x0 - cols.start,
        y0=grid.y0 - rows.start,
        nx=cols.stop - cols.start,
        ny=rows.stop - rows.start,
    )


def _place(
    columns: dict[str, np.ndarray],
    window: tuple[slice, slice],
    grid: Grid,
    cell: sky_columns.Cell | None,
) -> None:
    """Move pixel columns from the window to the image, and add the spatial index."""
    rows, cols = window
    for name in _PIXEL_COLUMNS:
        if name in columns:
            columns[name] = columns[name] + cols.start
            other = name.replace("x", "y", 1) if name.startswith("x") else name.replace("_x", "_y")
            columns[other] = columns[other] + rows.start
    columns["skycell"] = np.full(len(columns["label"]), grid.skycell or "")
    for prefix in ("", FORCED):
        name = f"{prefix}flagged_spatial_id"
        if f"{prefix}x_centroid" not in columns or name in columns:
            continue
        x, y = columns[f"{prefix}x_centroid"], columns[f"{prefix}y_centroid"]
        columns[name] = np.zeros(len(x), np.int64)
        if cell is not None:
            columns[name] = sky_columns.flagged_spatial_id(
                x, y, grid.pixel_scale * 3600, cell.region, cell.name, cell.in_core(x, y)
            )


def _meta(
    parameters: Mapping[str, Any],
    psf: CoaddPSF | None,
    fractions: dict[str, float] | None,
    scale: photometry.Scale,
    forcing: Forcing | None,
) -> dict[str, Any]:
    """Metadata of the table: what was measured how, and what the flags mean."""
    meta: dict[str, Any] = {
        "versions": {"Python": platform.python_version()} | {k: version(k) for k in _VERSIONS},
        "parameters": {name: parameters[name] for name in _TOLD},
        "aperture_mask_method": "mask",
        "kron_params": [*photometry.KRON_PARAMS, 0.0],
        "aperture_radii": {
            "circle_arcsec": list(photometry.APERTURE_RADII.values()),
            "circle_pix": [r / scale.arcsec for r in photometry.APERTURE_RADII.values()],
            "annulus_arcsec": list(photometry.ANNULUS_RADII),
            "annulus_pix": [r / scale.arcsec for r in photometry.ANNULUS_RADII],
        },
        "pixel_area_sr": scale.area,
        "psf_source": psf.source if psf is not None else "none",
        "flux_errors": _ERRORS,
        "noise_correlation": scale.correlation.tolist(),
        "image_flags": {str(bit): text for bit, text in IMAGE_FLAGS.items()},
        "warning_flags": {str(bit): text for bit, text in WARNING_FLAGS.items()},
    }
    if forcing is not None:
        meta["forced_by"] = {
            "filter": forcing.optical_element,
            "product": forcing.product or "none here: its own sources, image_flags bit 512",
        }
    if fractions is not None:
        meta["ee_fractions"] = list(fractions.values())
    if parameters["fit_psf"]:
        meta["psf_flags"] = {str(bit): text for bit, text in PSF_FLAGS.items()}
    return meta
