"""Columns on the sky: positions, their uncertainties, position angles, spatial indices."""

import re
from typing import Protocol

import numpy as np

from .grid import Grid, east_north

_ARCSEC = 180 * 3600 / np.pi
# The spatial index counts pixels of this size, whatever the grid's own.
_INDEX_PIXEL = 0.05
_OUTSIDE_CORE = 1 << 59


class Cell(Protocol):
    """What a skycell must offer (`romosaic.skymap.Skycell` does)."""

    name: str
    region: int

    def in_core(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Whether pixel positions belong to this cell and to no other."""


def jacobian(grid: Grid, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """
    Derivatives of the sky position with respect to pixels.

    Parameters
    ----------
    grid : Grid
    x, y : (n,) float64
        0-based pixels.

    Returns
    -------
    (n, 2, 2) float64
        Rows east and north, columns x and y, arcsec per pixel (true angles, not differences of right
        ascension).
    """
    east, north = east_north(*grid.to_sky(x, y))
    # The plane point is (xi, eta, 1) in the grid's frame, the sky vector that point over its length.
    xi, eta = (x - grid.x0) * grid.scale, (y - grid.y0) * grid.scale
    scale = grid.scale / np.sqrt(1 + xi**2 + eta**2) * _ARCSEC
    along = grid.frame[:2]
    rows = [along @ east, along @ north]  # each (2, n)
    return np.stack(rows, axis=0).transpose(2, 0, 1) * scale[:, None, None]


def sky_errors(
    matrix: np.ndarray, var_x: np.ndarray, var_y: np.ndarray, cov_xy: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """
    Errors of positions on the sky.

    Parameters
    ----------
    matrix : (n, 2, 2) float64
        `jacobian` at the positions.
    var_x, var_y, cov_xy : (n,) float64
        Covariances, pixel^2.

    Returns
    -------
    east, north : (n,) float64
        One sigma, arcsec.
    """

    def along(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.sqrt(np.maximum(a * a * var_x + 2 * a * b * cov_xy + b * b * var_y, 0.0))

    return along(matrix[:, 0, 0], matrix[:, 0, 1]), along(matrix[:, 1, 0], matrix[:, 1, 1])


def position_angle(matrix: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """
    Position angle on the sky of an axis in pixels.

    Parameters
    ----------
    matrix : (n, 2, 2) float64
        `jacobian` at the sources.
    theta : (n,) float64
        Angle from +x towards +y, radians.

    Returns
    -------
    (n,) float64
        Degrees from north through east, in [0, 180).
    """
    axis = np.stack([np.cos(theta), np.sin(theta)], axis=-1)
    east, north = (matrix * axis[:, None, :]).sum(axis=2).T
    return np.degrees(np.arctan2(east, north)) % 180.0


def flagged_spatial_id(
    x: np.ndarray,
    y: np.ndarray,
    pixel_scale: float,
    region: int,
    skycell: str,
    in_core: np.ndarray,
) -> np.ndarray:
    """
    Spatial index of sources in a skycell.

    Bits 0-15 and 16-31 hold x and y in pixels of 0.05", 32-38 and 39-45 the numbers after x and y in the
    skycell's name, 46-58 the projection region; bit 59 is set outside the cell's core, so that the sources of
    overlapping cells with bit 59 clear hold every source once.

    Parameters
    ----------
    x, y : (n,) float64
        0-based pixels; not finite counts as 0.
    pixel_scale : float
        Arcsec per pixel.
    region : int
        Index of the projection region.
    skycell : str
        Name of the cell.
    in_core : (n,) bool
        Whether the source belongs to this cell's core.

    Returns
    -------
    (n,) int64
        Zero where the name has no x and y numbers.
    """
    found = re.search(r"x(\d+)y(\d+)$", skycell)
    if found is None:
        return np.zeros(len(x), np.int64)

    def index(position: np.ndarray) -> np.ndarray:
        pixel = np.nan_to_num(position * (pixel_scale / _INDEX_PIXEL), nan=0.0)
        return np.clip(pixel, 0, 65535).astype(np.int64)

    place = (int(region) << 46) | (int(found[2]) << 39) | (int(found[1]) << 32)
    flag = np.where(np.asarray(in_core, bool), 0, _OUTSIDE_CORE)
    return (flag | place | (index(y) << 16) | index(x)).astype(np.int64)


def healpix_29(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """
    HEALPix index of order 29 in the nested scheme, the spatial key of HATS catalogs.

    Parameters
    ----------
    ra, dec : (n,) float64
        Degrees.

    Returns
    -------
    (n,) int64
        -1 where a position is not finite.
    """
    from astropy import units as u
    from astropy_healpix import HEALPix

    index = np.full(len(ra), -1, np.int64)
    good = np.isfinite(ra) & np.isfinite(dec)
    if good.any():
        pixels = HEALPix(nside=2**29, order="nested")
        index[good] = pixels.lonlat_to_healpix(ra[good] * u.deg, dec[good] * u.deg)
    return index
