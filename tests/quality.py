"""Quality of products against the truth of simulated exposures: used by tests and benchmarks."""

import numpy as np
from romosaic.flux_file import FluxExposure
from romosaic.grid import Grid


def coverage(member: FluxExposure, members: list[FluxExposure]) -> np.ndarray:
    """Number of members whose detector holds the sky position of each pixel of a member, itself included."""
    ny, nx = member.shape
    x, y = np.meshgrid(np.arange(nx, dtype=float), np.arange(ny, dtype=float))
    ra, dec = member.pixmap.sky(x, y)
    count = np.zeros(member.shape, int)
    for other in members:
        ox, oy = other.pixmap.detector(ra, dec)
        oy_max, ox_max = other.shape[0] - 0.5, other.shape[1] - 0.5
        count += (ox > -0.5) & (ox < ox_max) & (oy > -0.5) & (oy < oy_max)
    return count


def outlier_scores(
    member: FluxExposure,
    flagged: np.ndarray,
    cr_index: np.ndarray,
    cr_amplitude: np.ndarray,
    defects: np.ndarray,
    judged: np.ndarray,
) -> dict[str, tuple[int, int]]:
    """
    Flagged and all pixels by cosmic-ray amplitude over the sky noise, and of clean pixels.

    Parameters
    ----------
    flagged, cr_index, defects : flat indices
        Flagged pixels; pixels touched by cosmic rays; hot and bad pixels.
    cr_amplitude : float array
        MJy/sr.
    judged : (ny, nx) bool array
        Pixels that count.
    """
    found = np.zeros(member.data.size, bool)
    found[flagged] = True
    amplitude = np.zeros(found.size)
    np.add.at(amplitude, cr_index, cr_amplitude)
    ok = judged.ravel() & ((np.asarray(member.dq) & 1) == 0).ravel()
    ok[defects] = False
    snr = amplitude / np.sqrt(member.sky_variance)
    scores = {}
    for low, high in ((5, 10), (10, 30), (30, 100), (100, np.inf)):
        here = ok & (snr >= low) & (snr < high)
        scores[f"{low}-{high}"] = int(found[here].sum()), int(here.sum())
    clean = ok & (amplitude == 0)
    scores["clean"] = int(found[clean].sum()), int(clean.sum())
    return scores


def aperture_flux(
    data: np.ndarray, grid: Grid, ra: np.ndarray, dec: np.ndarray, radius: float = 0.4
) -> np.ndarray:
    """
    Flux (Jy) in circular apertures above a local annulus (2.4-2.8 arcsec), NaN where not all is covered.

    Parameters
    ----------
    data : (ny, nx) float array
        MJy/sr.
    radius : float
        Arcseconds.
    """
    from photutils.aperture import CircularAnnulus, CircularAperture

    x, y = grid.to_pixel(ra, dec)
    scale = grid.pixel_scale * 3600
    inside = (x > 60) & (x < grid.nx - 60) & (y > 60) & (y < grid.ny - 60)
    flux = np.full(x.shape, np.nan)
    for i in np.flatnonzero(inside):
        ring = CircularAnnulus((x[i], y[i]), 2.4 / scale, 2.8 / scale).to_mask(method="center")
        sky = ring.get_values(data)
        circle = CircularAperture((x[i], y[i]), radius / scale)
        total = np.sum(circle.to_mask(method="exact").multiply(data))
        if np.isfinite(sky).all() and np.isfinite(total):
            flux[i] = (total - np.median(sky) * circle.area) * 1e6 * grid.pixel_area
    return flux


def isolated(ra: np.ndarray, dec: np.ndarray, of: np.ndarray, flux: np.ndarray) -> np.ndarray:
    """Of the sources numbered `of`: those without a neighbour of a hundredth of their flux within 2 arcsec."""
    grid = Grid(float(np.median(ra)), float(np.median(dec)), 0, 0, 1 / 3600, 1, 1)
    x, y = grid.to_pixel(ra, dec)
    alone = []
    for i in of:
        near = np.hypot(x - x[i], y - y[i]) < 2
        near[i] = False
        alone.append(not np.any(flux[near] > 0.01 * flux[i]))
    return np.array(alone, bool)
