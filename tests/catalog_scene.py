"""Synthetic coadds with known sources for the tests of the catalog."""

from functools import cache

import numpy as np
from romosaic.coadd_psf import CoaddPSF, analytic_psf
from romosaic.config_models import SourceCatalog
from romosaic.grid import Grid
from scipy.interpolate import RectBivariateSpline
from scipy.signal import fftconvolve

SCALE = 0.055 / 3600
NOISE = 0.01  # MJy/sr
SKY = 0.2  # MJy/sr


def parameters(**options) -> dict:
    """Section `source_catalog` of the configuration; values are not held against its limits."""
    return SourceCatalog().model_dump() | options


@cache
def psf() -> CoaddPSF:
    return analytic_psf("F158", 0.055)


@cache
def _profile(radius: float):
    """Spline of a star (radius 0) or of a galaxy with an exponential disc, coadd pixels."""
    image, oversample = psf().image, psf().oversample
    half = image.shape[0] // 2
    axis = np.arange(-half, half + 1) / oversample
    if radius > 0:
        disc = np.exp(-np.hypot(axis[:, None], axis) / radius)
        image = fftconvolve(image, disc / disc.sum(), mode="same")
    return RectBivariateSpline(axis, axis, image)


def grid(ny: int = 400, nx: int | None = None) -> Grid:
    return Grid(30.0, -10.0, 2000.0, -1500.0, SCALE, nx or ny, ny)


def nanojansky(area: Grid) -> float:
    """NJy per MJy/sr and pixel."""
    return area.middle_pixel_area * 1e15


def lattice(rng, size: int, step: int, faint: float, bright: float, edge: int = 25) -> np.ndarray:
    """Places (x, y) off a lattice by up to half a pixel, and fluxes in units of NOISE times pixels."""
    at = np.arange(edge, size - edge + 1, step)
    x, y = (v.ravel() + rng.uniform(-0.5, 0.5, v.size) for v in np.meshgrid(at, at))
    flux = 10 ** rng.uniform(np.log10(faint), np.log10(bright), x.size)
    return np.stack([x, y, flux * NOISE], axis=1)


def render(shape: tuple[int, int], sources: np.ndarray, radius: float = 0.0) -> np.ndarray:
    """Noiseless image of sources with the flux per pixel in MJy/sr."""
    image = np.zeros(shape)
    spline, reach = _profile(radius), np.arange(-19, 20)
    for x, y, flux in sources:
        rows, cols = round(y) + reach, round(x) + reach
        stamp = flux * spline(rows - y, cols - x)
        r, c = (rows >= 0) & (rows < shape[0]), (cols >= 0) & (cols < shape[1])
        image[np.ix_(rows[r], cols[c])] += stamp[np.ix_(r, c)]
    return image


def observe(rng, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coadd planes data, err, weight with independent noise that grows with the light."""
    err = NOISE * np.sqrt(1 + np.maximum(image, 0) / NOISE / 20)
    data = SKY + image + rng.normal(size=image.shape) * err
    return data.astype(np.float32), err.astype(np.float32), np.full(image.shape, 9, np.float32)


def match(table, sources: np.ndarray, within: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the table and of the sources that belong together."""
    from scipy.spatial import KDTree

    places = np.stack([table["x_centroid"], table["y_centroid"]], axis=1).astype(float)
    distance, nearest = KDTree(sources[:, :2]).query(places)
    rows = np.flatnonzero(distance < within)
    return rows, nearest[rows]
