"""Circles on the sky, and what meets them."""

import numpy as np

from .footprint import holds_origin
from .grid import Grid, unit_vector


def meets_circle(grid: Grid, ra: float, dec: float, radius: float) -> bool:
    """
    Whether a grid and a circle on the sky have a point in common.

    Parameters
    ----------
    grid : Grid
        Its outline is a polygon of great circles.
    ra, dec, radius : float
        Centre and radius of the circle, degrees.
    """
    x, y = grid.to_pixel(ra, dec)
    if -0.5 <= x <= grid.nx - 0.5 and -0.5 <= y <= grid.ny - 0.5:
        return True
    corners = unit_vector(*grid.corners())
    outline = np.concatenate([corners, corners[:, :1]], axis=1)
    return bool(_distance(outline, unit_vector(ra, dec)) <= np.radians(radius))


def footprint_meets_circle(polygon: np.ndarray, ra: float, dec: float, radius: float) -> bool:
    """
    Whether a footprint and a circle on the sky have a point in common.

    Parameters
    ----------
    polygon : (3, V + 1) float64
        See `footprint.closed_polygon`.
    ra, dec, radius : float
        Centre and radius of the circle, degrees.
    """
    center = unit_vector(ra, dec)
    if _distance(polygon, center) <= np.radians(radius):
        return True
    # Else the circle is all inside or all outside; what holds its centre lies in front of its plane.
    u, v, w = Grid(float(ra), float(dec), 0, 0, 1, 1, 1).frame @ polygon
    return bool(w.min() > 0 and holds_origin((u / w)[None], (v / w)[None])[0])


def _distance(outline: np.ndarray, point: np.ndarray) -> float:
    """Distance (radians) of a point from a closed line of great-circle arcs, all as unit vectors."""
    a, b = outline[:, :-1].T, outline[:, 1:].T
    # From the circle of an arc where the foot lies on the arc, else from one of its ends.
    normal = np.cross(a, b)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-300)
    beside = (np.cross(normal, a) @ point > 0) & (np.cross(b, normal) @ point > 0)
    to_circle = np.arcsin(np.clip(np.abs(normal @ point), 0, 1))
    to_end = 2 * np.arcsin(np.clip(np.linalg.norm(a - point, axis=1) / 2, 0, 1))
    return np.where(beside, to_circle, to_end).min()
