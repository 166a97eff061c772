"""The output grid: a tangent-plane (TAN) pixel grid on the sky, of a skycell or of a regular mosaic."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Grid:
    """
    A gnomonic pixel grid.

    Pixels are counted from 0, integers are pixel centres. The plane coordinates of pixel (x, y) are
    ``xi = s (cos o (x - x0) + sin o (y - y0))`` and ``eta = s (-sin o (x - x0) + cos o (y - y0))`` towards
    east and north (Calabretta & Greisen 2002, A&A 395, 1077), with s the pixel scale in radians and o the
    orientation; `x_east` false mirrors xi.

    Attributes
    ----------
    ra0, dec0 : float
        Tangent point, degrees (projection centre of a skycell).
    x0, y0 : float
        Pixel of the tangent point, 0-based.
    pixel_scale : float
        Degrees per pixel at the tangent point.
    nx, ny : int
        Size in pixels.
    orientation : float
        Rotation of the pixel axes, degrees.
    skycell : str or None
        Name of the skycell, None for a regular grid.
    x_east : bool
        Whether +x is east at orientation 0, as in the sky map; west if not.
    """

    ra0: float
    dec0: float
    x0: float
    y0: float
    pixel_scale: float
    nx: int
    ny: int
    orientation: float = 0.0
    skycell: str | None = None
    x_east: bool = True

    @cached_property
    def frame(self) -> np.ndarray:
        """(3, 3) float64: unit vectors of the +x axis, the +y axis and the tangent point, as rows."""
        ra, (cos_dec, sin_dec) = np.radians(self.ra0), _exact_at_poles(self.dec0)
        east, north = east_north(self.ra0, self.dec0)
        tangent = np.array([cos_dec * np.cos(ra), cos_dec * np.sin(ra), sin_dec])
        if not self.x_east:
            east = -east
        o = np.radians(self.orientation)
        return np.array(
            [np.cos(o) * east - np.sin(o) * north, np.sin(o) * east + np.cos(o) * north, tangent]
        )

    @property
    def scale(self) -> float:
        """Pixel scale in radians."""
        return np.radians(self.pixel_scale)

    @property
    def pixel_area(self) -> float:
        """Solid angle of a pixel at the tangent point, steradians."""
        return self.scale**2

    @property
    def middle_pixel_area(self) -> float:
        """
        Solid angle of the pixel in the middle of the grid, steradians.

        A gnomonic pixel shrinks with the cube of the cosine of its distance from the tangent point; across
        a skycell it varies by less than 2e-4, between cells by 0.5 per cent.
        """
        xi = ((self.nx - 1) / 2 - self.x0) * self.scale
        eta = ((self.ny - 1) / 2 - self.y0) * self.scale
        return float(self.pixel_area / (1 + xi**2 + eta**2) ** 1.5)

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx)."""
        return self.ny, self.nx

    def to_pixel(self, ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        Pixel positions of sky positions.

        Parameters
        ----------
        ra, dec : array_like of float
            Degrees.

        Returns
        -------
        x, y : float64 arrays
            0-based pixels; NaN for positions 90 degrees or more from the tangent point.
        """
        return self.vectors_to_pixel(unit_vector(ra, dec))

    def vectors_to_pixel(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixel positions of vectors of shape (3, ...) and any length; as `to_pixel` otherwise."""
        v = np.tensordot(self.frame, vectors, axes=1)
        front = np.where(v[2] > 0, v[2], np.nan)
        return v[0] / front / self.scale + self.x0, v[1] / front / self.scale + self.y0

    def to_sky(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        Sky positions of pixel positions.

        Parameters
        ----------
        x, y : array_like of float
            0-based pixels.

        Returns
        -------
        ra, dec : float64 arrays
            Degrees, right ascension in [0, 360).
        """
        xi = (np.asarray(x, float) - self.x0) * self.scale
        eta = (np.asarray(y, float) - self.y0) * self.scale
        xi, eta = np.broadcast_arrays(xi, eta)
        v = np.tensordot(self.frame.T, np.stack([xi, eta, np.ones_like(xi)]), axes=1)
        return sky_position(v)

    def corners(self) -> tuple[np.ndarray, np.ndarray]:
        """Sky positions (degrees) of the four outer corners, counter-clockwise in pixels from (-0.5, -0.5)."""
        x1, y1 = self.nx - 0.5, self.ny - 0.5
        return self.to_sky(np.array([-0.5, x1, x1, -0.5]), np.array([-0.5, -0.5, y1, y1]))

    @property
    def center(self) -> tuple[float, float]:
        """Sky position of the middle of the grid, degrees."""
        ra, dec = self.to_sky((self.nx - 1) / 2, (self.ny - 1) / 2)
        return float(ra), float(dec)

    def padded(self, n: int) -> "Grid":
        """Return the grid with n more pixels on every side."""
        return replace(self, x0=self.x0 + n, y0=self.y0 + n, nx=self.nx + 2 * n, ny=self.ny + 2 * n)

    def to_wcs_info(self) -> dict:
        """
        Return the keys of an association's ``skycell_wcs_info`` (degrees, 0-based pixels).

        A mirrored grid has one key more, ``x_east``: false; the others do not tell it from its mirror image.
        """
        ra_center, dec_center = self.center
        return {
            "name": self.skycell or "none",
            "pixel_scale": float(self.pixel_scale),
            "ra_projection_center": float(self.ra0),
            "dec_projection_center": float(self.dec0),
            "x0_projection": float(self.x0),
            "y0_projection": float(self.y0),
            "ra_center": ra_center,
            "dec_center": dec_center,
            "nx": int(self.nx),
            "ny": int(self.ny),
            "orientat": float(np.float32(_offset(self.ra0, ra_center))),
            "orientat_projection_center": float(self.orientation),
            **({} if self.x_east else {"x_east": False}),
        }

    @classmethod
    def from_wcs_info(cls, info: dict) -> "Grid":
        """Grid of an association's ``skycell_wcs_info``; raises KeyError for a missing key."""
        name = info["name"]
        return cls(
            ra0=float(info["ra_projection_center"]),
            dec0=float(info["dec_projection_center"]),
            x0=float(info["x0_projection"]),
            y0=float(info["y0_projection"]),
            pixel_scale=float(info["pixel_scale"]),
            nx=int(info["nx"]),
            ny=int(info["ny"]),
            orientation=float(info.get("orientat_projection_center", 0.0)),
            skycell=None if name == "none" else str(name),
            x_east=bool(info.get("x_east", True)),
        )


def _offset(ra0: float, ra: float) -> float:
    """Difference of two right ascensions, degrees, as the sky map has it: it wraps in regions on RA 0 only."""
    return ra0 - (ra - 360 if ra0 == 0 and ra > 270 else ra)


def unit_vector(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """Unit vectors, shape (3, ...), of positions in degrees."""
    ra, dec = np.broadcast_arrays(np.radians(ra), np.radians(dec))
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])


def east_north(ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    Unit vectors towards east and north, each of shape (3, ...), at positions in degrees.

    At a pole north is where the meridian `ra` leads on, and exactly at right angles to the axis.
    """
    ra, dec = np.broadcast_arrays(np.radians(ra), np.asarray(dec, float))
    cos_dec, sin_dec = _exact_at_poles(dec)
    east = np.stack([-np.sin(ra), np.cos(ra), np.zeros_like(ra)])
    return east, np.stack([-sin_dec * np.cos(ra), -sin_dec * np.sin(ra), cos_dec])


def _exact_at_poles(dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosine and sine of degrees; at a pole the cosine is zero, which leaves no hair's breadth of offset."""
    pole, angle = np.abs(dec) == 90, np.radians(dec)
    return np.where(pole, 0.0, np.cos(angle)), np.where(pole, np.sign(dec), np.sin(angle))


def sky_position(v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Right ascension in [0, 360) and declination, degrees, of vectors of shape (3, ...) of any length."""
    ra = np.degrees(np.arctan2(v[1], v[0])) % 360.0
    # A tiny negative angle modulo 360 rounds to 360 itself.
    ra = np.where(ra == 360.0, 0.0, ra)
    return ra, np.degrees(np.arctan2(v[2], np.hypot(v[0], v[1])))
