"""A plane for pictures of any part of the sky, and its lines of right ascension and declination."""

from dataclasses import dataclass

import numpy as np

from .footprint import detector_outline
from .grid import Grid, sky_position, unit_vector
from .pictures import INK, outlined

#: Distances of lines, degrees.
_STEPS = (90, 45, 30, 15, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)


@dataclass(frozen=True)
class Plane:
    """
    Lambert's azimuthal equal-area plane around a position: no trouble at a pole, at RA 0 or in a wide survey.

    Attributes
    ----------
    ra, dec : float
        Its centre, degrees.
    x_east : bool
        East is to the right, as in the mosaics; false for the mirrored sky map.
    """

    ra: float
    dec: float
    x_east: bool = True

    def to_plane(self, ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
        """Plane positions (2, ...), degrees, of sky positions in degrees."""
        x, y, z = np.tensordot(self._frame, unit_vector(ra, dec), axes=1)
        factor = np.degrees(np.sqrt(2 / np.maximum(1 + z, 1e-9)))
        return np.stack([x * factor, y * factor])

    def to_sky(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sky positions (ra, dec), degrees, of plane positions in degrees; NaN beyond the sky."""
        x, y = np.radians(x), np.radians(y)
        square = x**2 + y**2
        square = np.where(square <= 4, square, np.nan)
        factor = np.sqrt(1 - square / 4)
        vectors = np.stack([x * factor, y * factor, 1 - square / 2])
        return sky_position(np.tensordot(self._frame.T, vectors, axes=1))

    @property
    def _frame(self) -> np.ndarray:
        return Grid(self.ra, self.dec, 0, 0, 1, 1, 1, x_east=self.x_east).frame


def outline(grid: Grid) -> np.ndarray:
    """Sky positions (2, 16), degrees, of places around a grid: its straight sides bend in a picture."""
    return np.stack(grid.to_sky(*detector_outline(grid.nx, grid.ny)))


def draw_graticule(axes, plane: Plane, middle: np.ndarray, half: float) -> None:
    """
    Draw meridians and parallels, labelled in degrees: rings and spokes around a pole.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Axes in degrees of the plane.
    plane : Plane
        The plane.
    middle : (2,) float64
        Middle of the axes.
    half : float
        Half their width.
    """
    steps = np.linspace(-half, half, 41)
    ra, dec = plane.to_sky(*np.meshgrid(middle[0] + steps, middle[1] + steps))
    low, high = float(np.nanmin(dec)), float(np.nanmax(dec))
    # The point opposite to the middle has no place in the plane.
    near = [pole for pole in (-90.0, 90.0) if abs(pole - plane.dec) < 179]
    poles = [pole for pole in near if _inside(plane.to_plane(0.0, pole), middle, half)]
    if poles:
        low, high = min([low, *poles]), max([high, *poles])
        west, east = -180.0, 180.0
    else:
        offset = (ra - plane.ra + 180) % 360 - 180
        west, east = float(np.nanmin(offset)), float(np.nanmax(offset))
    along = np.linspace(0, 1, 361)
    for value in _round_values(plane.ra + west, plane.ra + east):
        if value >= plane.ra + west + 360 - 1e-6:  # drawn already
            continue
        line = plane.to_plane(value, low + (high - low) * along)
        _draw_line(axes, line, f"{_number(value % 360)}", middle, half, bool(poles), across=False)
    for value in _round_values(low, high):
        if abs(value) < 90:
            line = plane.to_plane(plane.ra + west + (east - west) * along, value)
            _draw_line(axes, line, f"{_number(value, '+')}", middle, half, False, across=True)


def _inside(point: np.ndarray, middle: np.ndarray, half: float) -> np.ndarray:
    return (np.abs(point.T - middle) < half).all(axis=-1)


def _number(value: float, sign: str = "") -> str:
    text = f"{value:{sign}.4f}".rstrip("0").rstrip(".")
    return f"{text}\N{DEGREE SIGN}"


def _round_values(low: float, high: float) -> np.ndarray:
    """Round values from low to high, about five."""
    step = next((s for s in reversed(_STEPS) if (high - low) / s <= 6), _STEPS[0])
    return np.arange(np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9) + 1) * step


def _draw_line(axes, line, label, middle, half, outward: bool, across: bool) -> None:
    axes.plot(*line, color=INK, lw=0.4, alpha=0.35)
    seen = np.flatnonzero(_inside(line, middle, 0.97 * half))
    if not seen.size:
        return
    points = line[:, seen]
    # Meridians are labelled at the lower rim, around a pole where they leave the picture, parallels left.
    if outward:
        best = np.argmax(np.hypot(*(points - middle[:, None])))
    else:
        best = np.argmin(points[0] if across else points[1])
    x, y = points[:, best]
    axes.text(
        *np.clip((x, y), middle - 0.93 * half, middle + 0.92 * half),
        label,
        color=INK,
        fontsize=7,
        ha="left" if across else "center",
        va="bottom",
        clip_on=True,
        **outlined(2),
    )
