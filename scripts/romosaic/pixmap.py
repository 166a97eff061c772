"""
Pixel maps: where each detector pixel falls on the sky and on an output grid.

The path detector -> sky of a Roman exposure is smooth, so that a two-dimensional Chebyshev series reproduces it
to 1e-8 pixels (Mason & Handscomb 2003, Chebyshev Polynomials). The series is made once per exposure, against
the tangent plane of the exposure's own centre, and stored; the steps after that need no gwcs. Gnomonic planes
are projections of one another from the centre of the sphere: going from the exposure's plane to that of a
skycell is a 3x3 matrix, with no pole and no RA 0 to care for.

Where no series follows the WCS (tabulated distortion, kinks), a table of small shifts of the detector pixels
makes up for what it leaves. `pixmap_fit` makes the maps.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .chebyshev import Chebyshev2D, Function
from .footprint import detector_outline
from .grid import Grid, sky_position, unit_vector
from .offset_table import OffsetTable

#: Largest error of a map, in detector pixels.
TOLERANCE = 1e-4
#: Error of a shorter way to the same positions, in pixels, from which on the longer way is taken.
SHORT_CUT = 1e-7
#: Vertices on each edge of an outline, of a detector or of a window, by which the other's part is found.
VERTICES = 30
#: Part of the distance from the detector's centre by which a tame inverse may leave its linear part.
WILD = 0.15


@dataclass(frozen=True)
class PixelMap:
    """
    Detector pixels <-> sky for one exposure, without its gwcs.

    Attributes
    ----------
    frame : (3, 3) float64 array
        Rows: unit vectors of plane axes u and v (u along detector x at the centre) and of the tangent point.
    shape : tuple of int
        Detector (ny, nx).
    forward : Chebyshev2D
        Detector pixel (0-based) -> plane (radians).
    backward : Chebyshev2D
        Plane (radians) -> detector pixel.
    error : float
        Largest error in detector pixels, both ways, at points that the fit has not seen; of a map with a
        table, at the centres and corners of pixels.
    table : OffsetTable or None
        Shifts of detector pixels before the series applies; None for a map that is smooth.
    """

    frame: np.ndarray
    shape: tuple[int, int]
    forward: Chebyshev2D
    backward: Chebyshev2D
    error: float
    table: OffsetTable | None = None

    @classmethod
    def fit(cls, wcs: Function, shape: tuple[int, int]) -> "PixelMap":
        """Make the map of an exposure: see `pixmap_fit.fit`."""
        from .pixmap_fit import fit

        return fit(wcs, shape)

    @property
    def reach(self) -> float:
        """Largest shift of a detector pixel before the series applies, pixels."""
        return self.table.reach if self.table else 0.0

    def sky(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sky positions (ra, dec), degrees, of detector pixels (0-based)."""
        if self.table:
            x, y = self.table.straighten(x, y)
        u, v = self.forward.points(x, y)
        return sky_position(np.tensordot(self.frame.T, np.stack([u, v, np.ones_like(u)]), axes=1))

    def detector(self, ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Detector pixels (x, y) of sky positions in degrees; NaN beyond the reach of the map."""
        u, v = to_plane(self.frame, unit_vector(ra, dec))
        outside = ~self.holds(u, v)
        x, y = self.backward.points(np.where(outside, 0.0, u), np.where(outside, 0.0, v))
        if self.table:
            x, y = self.table.bend(x, y)
        return np.where(outside, np.nan, x), np.where(outside, np.nan, y)

    def holds(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Whether positions in the plane (radians) lie where the inverse series is good."""
        u_min, u_max, v_min, v_max = self.backward.domain
        # The outer half of the last pixels counts where the WCS ends with their centres.
        rim = 0.5 + self.reach
        du, dv = rim * (u_max - u_min) / self.shape[1], rim * (v_max - v_min) / self.shape[0]
        return (u >= u_min - du) & (u <= u_max + du) & (v >= v_min - dv) & (v <= v_max + dv)

    def on_grid(self, grid: Grid) -> "GridMap":
        """Return the map between this detector and an output grid."""
        return GridMap(self, grid)

    def to_tree(self) -> dict:
        """Return numbers and arrays for a file."""
        return {
            "kind": "table" if self.table else "series",
            "error": float(self.error),
            "frame": self.frame.tolist(),
            "shape": [int(n) for n in self.shape],
            "forward": self.forward.to_tree(),
            "backward": self.backward.to_tree(),
            **({"table": self.table.to_tree()} if self.table else {}),
        }

    @classmethod
    def from_tree(cls, tree: dict, array: Callable = np.asarray) -> "PixelMap":
        """Rebuild from `to_tree`; `array` makes an array of what stands for one in the tree of a file."""
        return cls(
            np.array(tree["frame"], dtype=float),
            tuple(tree["shape"]),
            Chebyshev2D.from_tree(tree["forward"], array),
            Chebyshev2D.from_tree(tree["backward"], array),
            float(tree["error"]),
            OffsetTable.from_tree(tree["table"], array) if "table" in tree else None,
        )


class GridMap:
    """
    Detector pixels <-> pixels of an output grid, for one exposure.

    Parameters
    ----------
    pixmap : PixelMap
        Map of the exposure.
    grid : Grid
        Output grid.
    """

    def __init__(self, pixmap: PixelMap, grid: Grid) -> None:
        self.pixmap, self.grid = pixmap, grid
        self._matrix = grid.frame @ pixmap.frame.T
        degree = pixmap.forward.coefficients.shape[1] - 1
        # Short cuts: one series each way for the whole path. They and the windows are of the smooth part.
        self._forward, self._backward = None, None
        if not pixmap.table:
            self._forward = Chebyshev2D.fit(self._smooth_to_grid, pixmap.forward.domain, degree)
            if not self._forward_error() <= SHORT_CUT:
                self._forward = None
        self._box = self._grid_box()
        self._tame = self._box is not None and self._is_tame()
        if self._tame:
            y0, y1, x0, x1 = self._box
            domain = (x0 - 1.0, x1 + 1.0, y0 - 1.0, y1 + 1.0)
            self._backward = Chebyshev2D.fit(self._smooth_to_detector, domain, degree)
            if not self._backward_error() <= SHORT_CUT:
                self._backward = None

    def _project(self, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Grid positions of positions in the exposure's plane; NaN behind the grid's tangent plane."""
        # Value by value and no matrix product, whose last bits may depend on how many values there are.
        x, y, w = (a * u + b * v + c for a, b, c in self._matrix)
        front = np.where(w > 0, w, np.nan) * self.grid.scale
        return x / front + self.grid.x0, y / front + self.grid.y0

    def _to_plane(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions in the exposure's plane of grid positions."""
        xi = (x - self.grid.x0) * self.grid.scale
        eta = (y - self.grid.y0) * self.grid.scale
        w = np.tensordot(self._matrix.T, np.stack([xi, eta, np.ones_like(xi)]), axes=1)
        return w[0] / w[2], w[1] / w[2]

    def _smooth_to_grid(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._project(*self.pixmap.forward.points(x, y))

    def _smooth_to_detector(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.pixmap.backward.points(*self._to_plane(x, y))

    def _lattice(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Columns and rows of n x n points from edge to edge of the detector, as far as the WCS goes."""
        x_min, x_max, y_min, y_max = self.pixmap.forward.domain
        ny, nx = self.pixmap.shape
        return (
            np.linspace(max(-0.5, x_min), min(nx - 0.5, x_max), n),
            np.linspace(max(-0.5, y_min), min(ny - 0.5, y_max), n),
        )

    def _forward_error(self) -> float:
        """Largest error of the short cut forward, grid pixels, at points within the detector."""
        xs, ys = self._lattice(11)
        x, y = self._project(*self.pixmap.forward.lattice(xs, ys))
        fx, fy = self._forward.lattice(xs, ys)
        return float(np.hypot(fx - x, fy - y).max())

    def _backward_error(self) -> float:
        """Largest error of the short cut back, detector pixels, at points of the detector within the grid."""
        x, y = np.meshgrid(*self._lattice(11))
        gx, gy = self._smooth_to_grid(x, y)
        y0, y1, x0, x1 = self._box
        inside = (gx >= x0 - 0.5) & (gx <= x1 - 0.5) & (gy >= y0 - 0.5) & (gy <= y1 - 0.5)
        x, y = self._smooth_to_detector(gx[inside], gy[inside])
        bx, by = self._backward.points(gx[inside], gy[inside])
        return float(np.hypot(bx - x, by - y).max(initial=0.0))

    def _is_tame(self) -> bool:
        """
        Whether the inverse series can be used all over the window in the grid.

        The window of a turned detector reaches beyond it, where a series of high degree grows wild and may
        lead back into the detector. A tame one stays near its own linear part.
        """
        y0, y1, x0, x1 = self._box
        u, v = self._to_plane(*np.meshgrid(np.linspace(x0, x1, 17), np.linspace(y0, y1, 17)))
        x, y = self.pixmap.backward.points(u, v)
        h = 1e-3 * (self.pixmap.backward.domain[1] - self.pixmap.backward.domain[0])
        cx, cy = self.pixmap.backward.points(np.array([0, h, 0]), np.array([0, 0, h]))
        dx = cx[0] + ((cx[1] - cx[0]) * u + (cx[2] - cx[0]) * v) / h
        dy = cy[0] + ((cy[1] - cy[0]) * u + (cy[2] - cy[0]) * v) / h
        far = np.hypot(dx - cx[0], dy - cy[0]) + 8.0
        return bool(np.all(np.hypot(x - dx, y - dy) <= WILD * far))

    def _grid_box(self) -> tuple[int, int, int, int] | None:
        """Rows and columns (y0, y1, x0, x1) of the grid within which the detector falls."""
        ny, nx = self.pixmap.shape
        # Not the short cut: near the horizon of the tangent plane it is no longer good.
        x, y = self._smooth_to_grid(*detector_outline(nx, ny, VERTICES))
        if not np.all(np.isfinite(x)):
            return None
        rim = 1 + self.shift
        x0, x1 = max(_floor(x.min()) - rim, 0), min(_floor(x.max()) + rim + 2, self.grid.nx)
        y0, y1 = max(_floor(y.min()) - rim, 0), min(_floor(y.max()) + rim + 2, self.grid.ny)
        return (y0, y1, x0, x1) if x1 > x0 and y1 > y0 else None

    @property
    def smooth(self) -> bool:
        """Whether the map is a polynomial: what follows it at a few points follows it between them."""
        return self.pixmap.table is None

    @property
    def shift(self) -> int:
        """Grid pixels by which the map may lie off its smooth part; 0 for a smooth map."""
        ratio = 0.0 if self.smooth else self.pixel_ratio
        return int(np.ceil(2 * self.pixmap.reach * np.sqrt(ratio))) if ratio < np.inf else 0

    def grid_window(self) -> tuple[int, int, int, int] | None:
        """Part of the grid, as (y0, y1, x0, x1) half-open, in which the detector falls; None if it misses."""
        return self._box

    def window(self) -> tuple[int, int, int, int] | None:
        """Part of the detector, as (y0, y1, x0, x1) half-open, that falls in the grid; None if it misses."""
        ny, nx = self.pixmap.shape
        if not self._tame:
            return None if self._box is None else (0, ny, 0, nx)
        gy0, gy1, gx0, gx1 = self._box
        x, y = detector_outline(gx1 - gx0, gy1 - gy0, VERTICES)
        x, y = self._smooth_to_detector(x + gx0, y + gy0)
        rim = 2 + int(np.ceil(self.pixmap.reach))
        x0, x1 = max(_floor(x.min()) - rim, 0), min(_floor(x.max()) + rim + 2, nx)
        y0, y1 = max(_floor(y.min()) - rim, 0), min(_floor(y.max()) + rim + 2, ny)
        return (y0, y1, x0, x1) if x1 > x0 and y1 > y0 else None

    def forward(self, xs: np.ndarray, ys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        Grid positions of detector positions.

        Parameters
        ----------
        xs, ys : (nx,), (ny,) float arrays
            Columns and rows of the detector, 0-based pixels, fractions allowed; of a smooth map
            (..., nx), (..., ny).

        Returns
        -------
        x, y : (ny, nx) float64 arrays
            0-based grid pixels; (..., ny, nx).
        """
        if self._forward:
            return self._forward.lattice(xs, ys)
        if not self.pixmap.table:
            return self._project(*self.pixmap.forward.lattice(xs, ys))
        xs, ys = np.asarray(xs, float)[None, :], np.asarray(ys, float)[:, None]
        return self._smooth_to_grid(*self.pixmap.table.straighten(xs, ys))

    def inverse(self, xs: np.ndarray, ys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        Detector positions of grid positions.

        Parameters
        ----------
        xs, ys : (nx,), (ny,) float arrays
            Columns and rows of the grid, 0-based pixels, fractions allowed.

        Returns
        -------
        x, y : (ny, nx) float64 arrays
            0-based detector pixels; NaN where the grid position is outside `grid_window`, and may be NaN off
            the detector.
        """
        xs, ys = np.asarray(xs, float), np.asarray(ys, float)
        if self._box is None:
            empty = np.full((ys.size, xs.size), np.nan)
            return empty, empty.copy()
        if self._backward:
            x, y = self._backward.lattice(xs, ys)
        else:
            u, v = self._to_plane(*np.meshgrid(xs, ys))
            outside = ~self.pixmap.holds(u, v)
            x, y = self.pixmap.backward.points(np.where(outside, 0, u), np.where(outside, 0, v))
            x[outside], y[outside] = np.nan, np.nan
        y0, y1, x0, x1 = self._box
        rows, columns = (ys < y0 - 1) | (ys > y1 + 1), (xs < x0 - 1) | (xs > x1 + 1)
        for position in (x, y):
            position[rows] = np.nan
            position[:, columns] = np.nan
        return self.pixmap.table.bend(x, y) if self.pixmap.table else (x, y)

    @property
    def pixel_ratio(self) -> float:
        """Area of a detector pixel in grid pixels, at the middle of the detector."""
        ny, nx = self.pixmap.shape
        x, y = self._smooth_to_grid(
            np.array([0.0, 1.0, 0.0]) + (nx - 1) / 2, np.array([0.0, 0.0, 1.0]) + (ny - 1) / 2
        )
        return float(abs((x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0])))


def to_plane(frame: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Plane positions (radians) of unit vectors (3, ...); NaN behind the plane."""
    w = np.tensordot(frame, v, axes=1)
    front = np.where(w[2] > 0, w[2], np.nan)
    return w[0] / front, w[1] / front


def _floor(value: float) -> int:
    return int(np.floor(value))
