"""
Pixel maps: where each detector pixel falls on the sky and on an output grid.

The path detector -> sky of a Roman exposure is smooth, so that a two-dimensional Chebyshev series reproduces it
to 1e-8 pixels (Mason & Handscomb 2003, Chebyshev Polynomials). The series is made once per exposure, against
the tangent plane of the exposure's own centre, and stored; the steps after that need no gwcs. Gnomonic planes
are projections of one another from the centre of the sphere: going from the exposure's plane to that of a
skycell is a 3x3 matrix, with no pole and no RA 0 to care for.
"""

from dataclasses import dataclass, replace

import numpy as np

from .chebyshev import Chebyshev2D, Function
from .errors import ExposureError
from .grid import Grid, sky_position, unit_vector

#: Largest error of an accepted map, in detector pixels, at points that the fit has not seen.
TOLERANCE = 1e-4
#: Degrees tried, in order: a whole Roman detector needs 9, cutouts of it fewer.
DEGREES = (3, 5, 7, 9, 12, 16, 21)
#: Error at which no higher degree is tried: sky positions in double precision are not better.
PRECISION = 5e-9
#: A map covers this much more than the detector on each side (fraction of its size).
MARGIN = 0.02

_CHECK = "check the distortion of meta.wcs"


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
        Largest error in detector pixels, both ways, at points that the fit has not seen.
    """

    frame: np.ndarray
    shape: tuple[int, int]
    forward: Chebyshev2D
    backward: Chebyshev2D
    error: float

    @classmethod
    def fit(cls, wcs: Function, shape: tuple[int, int]) -> "PixelMap":
        """
        Make the map of an exposure.

        Parameters
        ----------
        wcs : callable
            (x, y) in 0-based pixels -> (ra, dec) in degrees, defined a little beyond the detector.
        shape : tuple of int
            Detector (ny, nx).

        Raises
        ------
        ExposureError
            No series of the degrees tried follows the WCS to `TOLERANCE`.
        """
        frame = _frame(wcs, shape)
        ny, nx = shape
        mx, my = MARGIN * nx + 2, MARGIN * ny + 2
        domain = (-0.5 - mx, nx - 0.5 + mx, -0.5 - my, ny - 0.5 + my)

        def plane(x, y):
            return _to_plane(frame, unit_vector(*wcs(x, y)))

        best = None
        for degree in DEGREES:
            forward = Chebyshev2D.fit(plane, domain, degree)
            if not np.all(np.isfinite(forward.coefficients)):
                raise ExposureError("WCS", "gives no position for a part of the detector", _CHECK)
            fitted = cls(frame, tuple(shape), forward, _invert(forward, degree), 0.0)
            fitted = replace(fitted, error=float(fitted._largest_error(plane)))
            if best is None or fitted.error < best.error:
                best = fitted
            if best.error <= PRECISION:
                break
        if best.error <= TOLERANCE:
            return best
        raise ExposureError(
            "WCS", f"is not smooth: the pixel map is off by {best.error:.2g} pixels", _CHECK
        )

    def _largest_error(self, plane: Function) -> float:
        """Largest forward and round-trip error, in pixels, on a lattice that shares no node with the fits."""
        ny, nx = self.shape
        x, y = np.meshgrid(np.linspace(-0.5, nx - 0.5, 23), np.linspace(-0.5, ny - 0.5, 23))
        u, v = plane(x, y)
        fu, fv = self.forward.points(x, y)
        x1, y1 = self.forward.points(np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0]))
        pixel = min(np.hypot(x1[1:] - x1[0], y1[1:] - y1[0]))
        bx, by = self.backward.points(u, v)
        errors = np.hypot(fu - u, fv - v).max() / pixel, np.hypot(bx - x, by - y).max()
        return max(errors) if np.all(np.isfinite(errors)) else np.inf

    def sky(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sky positions (ra, dec), degrees, of detector pixels (0-based)."""
        u, v = self.forward.points(x, y)
        return sky_position(np.tensordot(self.frame.T, np.stack([u, v, np.ones_like(u)]), axes=1))

    def detector(self, ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Detector pixels (x, y) of sky positions in degrees; NaN beyond the reach of the map."""
        u, v = _to_plane(self.frame, unit_vector(ra, dec))
        u_min, u_max, v_min, v_max = self.backward.domain
        outside = ~((u >= u_min) & (u <= u_max) & (v >= v_min) & (v <= v_max))
        x, y = self.backward.points(np.where(outside, 0.0, u), np.where(outside, 0.0, v))
        return np.where(outside, np.nan, x), np.where(outside, np.nan, y)

    def on_grid(self, grid: Grid) -> "GridMap":
        """Return the map between this detector and an output grid."""
        return GridMap(self, grid)

    def to_tree(self) -> dict:
        """Return plain numbers for a file."""
        return {
            "frame": self.frame.tolist(),
            "shape": [int(n) for n in self.shape],
            "forward": self.forward.to_tree(),
            "backward": self.backward.to_tree(),
            "error": float(self.error),
        }

    @classmethod
    def from_tree(cls, tree: dict) -> "PixelMap":
        """Rebuild from `to_tree`."""
        return cls(
            np.array(tree["frame"], dtype=float),
            tuple(tree["shape"]),
            Chebyshev2D.from_tree(tree["forward"]),
            Chebyshev2D.from_tree(tree["backward"]),
            float(tree["error"]),
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
        self._forward = Chebyshev2D.fit(self._to_grid, pixmap.forward.domain, degree)
        self._box = self._grid_box()
        self._backward = None
        if self._box is not None:
            y0, y1, x0, x1 = self._box
            domain = (x0 - 1.0, x1 + 1.0, y0 - 1.0, y1 + 1.0)
            self._backward = Chebyshev2D.fit(self._to_detector, domain, degree)
            # A box turned against the detector reaches beyond it, where a map of high degree grows wild.
            self._separable = self._backward_error() <= TOLERANCE

    def _to_grid(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        u, v = self.pixmap.forward.points(x, y)
        w = np.tensordot(self._matrix, np.stack([u, v, np.ones_like(u)]), axes=1)
        front = np.where(w[2] > 0, w[2], np.nan)
        scale = self.grid.scale
        return w[0] / front / scale + self.grid.x0, w[1] / front / scale + self.grid.y0

    def _to_detector(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        xi = (x - self.grid.x0) * self.grid.scale
        eta = (y - self.grid.y0) * self.grid.scale
        w = np.tensordot(self._matrix.T, np.stack([xi, eta, np.ones_like(xi)]), axes=1)
        return self.pixmap.backward.points(w[0] / w[2], w[1] / w[2])

    def _backward_error(self) -> float:
        """Largest round-trip error of the separable inverse, detector pixels, at points within the grid."""
        ny, nx = self.pixmap.shape
        x, y = np.meshgrid(np.linspace(-0.5, nx - 0.5, 11), np.linspace(-0.5, ny - 0.5, 11))
        gx, gy = self._to_grid(x, y)
        y0, y1, x0, x1 = self._box
        inside = (gx >= x0 - 0.5) & (gx <= x1 - 0.5) & (gy >= y0 - 0.5) & (gy <= y1 - 0.5)
        bx, by = self._backward.points(gx[inside], gy[inside])
        return float(np.hypot(bx - x[inside], by - y[inside]).max(initial=0.0))

    def _grid_box(self) -> tuple[int, int, int, int] | None:
        """Rows and columns (y0, y1, x0, x1) of the grid within which the detector falls."""
        ny, nx = self.pixmap.shape
        # Exact: near the horizon of the tangent plane the series is no longer good.
        x, y = self._to_grid(*_outline(nx, ny))
        if not np.all(np.isfinite(x)):
            return None
        x0, x1 = max(int(np.floor(x.min())) - 1, 0), min(int(np.ceil(x.max())) + 2, self.grid.nx)
        y0, y1 = max(int(np.floor(y.min())) - 1, 0), min(int(np.ceil(y.max())) + 2, self.grid.ny)
        return (y0, y1, x0, x1) if x1 > x0 and y1 > y0 else None

    def grid_window(self) -> tuple[int, int, int, int] | None:
        """Part of the grid, as (y0, y1, x0, x1) half-open, in which the detector falls; None if it misses."""
        return self._box

    def window(self) -> tuple[int, int, int, int] | None:
        """Part of the detector, as (y0, y1, x0, x1) half-open, that falls in the grid; None if it misses."""
        if self._box is None:
            return None
        ny, nx = self.pixmap.shape
        gy0, gy1, gx0, gx1 = self._box
        x, y = _outline(gx1 - gx0, gy1 - gy0)
        x, y = self._to_detector(x + gx0, y + gy0)
        x0, x1 = max(int(np.floor(x.min())) - 2, 0), min(int(np.ceil(x.max())) + 3, nx)
        y0, y1 = max(int(np.floor(y.min())) - 2, 0), min(int(np.ceil(y.max())) + 3, ny)
        return (y0, y1, x0, x1) if x1 > x0 and y1 > y0 else None

    def forward(self, xs: np.ndarray, ys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        Grid positions of detector positions.

        Parameters
        ----------
        xs, ys : (nx,), (ny,) float arrays
            Columns and rows of the detector, 0-based pixels, fractions allowed.

        Returns
        -------
        x, y : (ny, nx) float64 arrays
            0-based grid pixels.
        """
        return self._forward.lattice(xs, ys)

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
            0-based detector pixels; NaN where the grid position is outside `grid_window`.
        """
        xs, ys = np.asarray(xs, float), np.asarray(ys, float)
        if self._backward is None:
            empty = np.full((ys.size, xs.size), np.nan)
            return empty, empty.copy()
        x_min, x_max, y_min, y_max = self._backward.domain
        if self._separable:
            x, y = self._backward.lattice(xs, ys)
        else:
            x, y = self._to_detector(*np.meshgrid(xs, ys))
        rows, columns = (ys < y_min) | (ys > y_max), (xs < x_min) | (xs > x_max)
        for position in (x, y):
            position[rows] = np.nan
            position[:, columns] = np.nan
        return x, y

    @property
    def pixel_ratio(self) -> float:
        """Area of a detector pixel in grid pixels, at the middle of the detector."""
        ny, nx = self.pixmap.shape
        x, y = self._forward.points(
            np.array([0.0, 1.0, 0.0]) + (nx - 1) / 2, np.array([0.0, 0.0, 1.0]) + (ny - 1) / 2
        )
        return float(abs((x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0])))


def _frame(wcs: Function, shape: tuple[int, int]) -> np.ndarray:
    """Tangent frame at the detector's centre, its first axis along detector x."""
    cy, cx = (shape[0] - 1) / 2, (shape[1] - 1) / 2
    sky = unit_vector(*wcs(np.array([cx, cx + 1.0, cx]), np.array([cy, cy, cy + 1.0])))
    center, along, across = sky.T
    if not np.all(np.isfinite(sky)):
        raise ExposureError("WCS", "gives no position for the middle of the detector", _CHECK)
    u, v = along - center, across - center
    if not np.linalg.norm(np.cross(u, v)) > 1e-3 * np.linalg.norm(u) * np.linalg.norm(v):
        raise ExposureError("WCS", "maps the detector to a point or a line", _CHECK)
    for _ in range(2):  # twice: the first difference of two close vectors has lost half its digits
        u -= center * (u @ center)
        u /= np.linalg.norm(u)
    return np.array([u, np.cross(center, u), center])


def _to_plane(frame: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    w = np.tensordot(frame, v, axes=1)
    front = np.where(w[2] > 0, w[2], np.nan)
    return w[0] / front, w[1] / front


def _outline(nx: int, ny: int, per_edge: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Points along the outer edges of an nx x ny raster."""
    x, y = np.linspace(-0.5, nx - 0.5, per_edge), np.linspace(-0.5, ny - 0.5, per_edge)
    return (
        np.concatenate([x, x, np.full(per_edge, x[0]), np.full(per_edge, x[-1])]),
        np.concatenate([np.full(per_edge, y[0]), np.full(per_edge, y[-1]), y, y]),
    )


def _invert(forward: Chebyshev2D, degree: int) -> Chebyshev2D:
    """Series of the inverse map, on the bounding rectangle of the forward map's image."""
    x_min, x_max, y_min, y_max = forward.domain
    x, y = _outline(2, 2)
    u, v = forward.points(
        x_min + (x + 0.5) / 2 * (x_max - x_min), y_min + (y + 0.5) / 2 * (y_max - y_min)
    )
    domain = (u.min(), u.max(), v.min(), v.max())
    width, height = x_max - x_min, y_max - y_min
    x_mid, y_mid = x_min + width / 2, y_min + height / 2
    middle = np.array(forward.points(x_mid, y_mid))
    along = np.array(forward.points(x_mid + width / 4, y_mid)) - middle
    across = np.array(forward.points(x_mid, y_mid + height / 4)) - middle
    # The pseudo-inverse: a hopeless map shall fail by its error and not here.
    step = np.linalg.pinv(np.transpose([along / (width / 4), across / (height / 4)]))

    def inverse(u, v):
        # Newton with a fixed Jacobian: the distortion is a few per cent, each turn gains two digits.
        x, y = np.full_like(u, x_mid), np.full_like(v, y_mid)
        fu, fv = np.full_like(u, middle[0]), np.full_like(v, middle[1])
        for _ in range(40):
            dx = step[0, 0] * (u - fu) + step[0, 1] * (v - fv)
            dy = step[1, 0] * (u - fu) + step[1, 1] * (v - fv)
            # Where it does not converge it stays near, and the map is refused by its error.
            x = np.clip(x + dx, x_min - width, x_max + width)
            y = np.clip(y + dy, y_min - height, y_max + height)
            fu, fv = forward.points(x, y)
            if max(np.abs(dx).max(), np.abs(dy).max()) < 1e-10:
                break
        return x, y

    return Chebyshev2D.fit(inverse, domain, degree)
