"""Footprints on the sky: the outline of a detector, and the exact area of a polygon within squares."""

import numpy as np

from .errors import SkymapError
from .grid import unit_vector

#: Widest footprint: its vertices must lie in front of the tangent plane of every region that it may meet.
MAX_RADIUS = np.radians(40.0)
#: Cells times edges handled at a time, to bound the memory of a footprint of many degrees.
_CHUNK = 1 << 18


def detector_outline(nx: int, ny: int, per_edge: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """
    Outline of a detector, or of a grid, in its own pixels, counter-clockwise from its first corner.

    Parameters
    ----------
    nx, ny : int
        Size, pixels.
    per_edge : int, optional
        Vertices on each edge between its corners, evenly spaced: distortion, or another plane, bends the edges.

    Returns
    -------
    x, y : (4 (per_edge + 1),) float64
        0-based pixels, from -0.5 to n - 0.5: the outer limits of the pixels. Not closed.
    """
    part = np.arange(per_edge + 1) / (per_edge + 1)
    zero, one = np.zeros_like(part), np.ones_like(part)
    x = np.concatenate([part, one, 1 - part, zero])
    y = np.concatenate([zero, part, one, 1 - part])
    return x * nx - 0.5, y * ny - 0.5


def closed_polygon(ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """
    Unit vectors of a footprint's vertices, and the circle around them.

    Parameters
    ----------
    ra, dec : (V,) array_like of float
        Vertices, degrees, in order; edges are great circles.

    Returns
    -------
    polygon : (3, V + 1) float64
        Unit vectors, the first repeated at the end.
    center : (3,) float64
        Middle of the circle.
    radius : float
        Its radius, radians.

    Raises
    ------
    SkymapError
        Fewer than three vertices, one that is not finite or not on the sky, or a footprint wider than
        `MAX_RADIUS`.
    """
    ra, dec = np.asarray(ra, float).ravel(), np.asarray(dec, float).ravel()
    if len(ra) != len(dec) or len(ra) < 3:
        raise SkymapError(
            "footprint", f"has {len(ra)} and {len(dec)} coordinates", "give three vertices or more"
        )
    if not (np.isfinite(ra).all() and np.isfinite(dec).all() and np.abs(dec).max() <= 90):
        raise SkymapError(
            "footprint", "has a vertex that is not a sky position", "check the WCS of the exposure"
        )
    vectors = unit_vector(ra, dec)
    total = vectors.sum(axis=1)
    center = total / max(np.linalg.norm(total), 1e-300)
    # The half chord keeps the digits that the cosine of a small angle loses.
    chord = np.sqrt(((vectors - center[:, None]) ** 2).sum(axis=0).max())
    radius = 2 * np.arcsin(min(chord / 2, 1.0))
    if radius > MAX_RADIUS:
        raise SkymapError(
            "footprint",
            f"reaches {np.degrees(radius):.1f} degrees from its middle",
            f"give footprints of at most {np.degrees(MAX_RADIUS):.0f} degrees, or check their WCS",
        )
    return np.concatenate([vectors, vectors[:, :1]], axis=1), center, float(radius)


def holds_origin(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """
    Whether polygons hold the point (0, 0), by the even-odd rule.

    Parameters
    ----------
    x, y : (r, V + 1) float64
        Vertices of r polygons, the first repeated at the end.

    Returns
    -------
    (r,) bool
    """
    above = y > 0
    rises = above[:, 1:] != above[:, :-1]
    dy = np.where(rises, y[:, 1:] - y[:, :-1], 1.0)
    crossing = x[:, :-1] - y[:, :-1] * (x[:, 1:] - x[:, :-1]) / dy
    return ((rises & (crossing > 0)).sum(axis=1) % 2).astype(bool)


def square_overlaps(
    x: np.ndarray,
    y: np.ndarray,
    which: np.ndarray,
    x_center: np.ndarray,
    y_center: np.ndarray,
    side: float,
) -> np.ndarray:
    """
    Exact areas that polygons share with upright squares.

    By Green's theorem the area is the integral of f dy around the polygon, with f the distance from the
    square's left side, cut to the square. Along an edge f is linear between the places where the edge
    meets the lines of the square's sides, so that trapezia are exact. Any simple polygon will do,
    convex or not, either way round.

    Parameters
    ----------
    x, y : (r, V + 1) float64
        Vertices of r polygons in a plane, the first repeated at the end.
    which : (n,) int
        Polygon of each square.
    x_center, y_center : (n,) float64
        Middles of the squares.
    side : float
        Side of the squares.

    Returns
    -------
    (n,) float64
        Areas in the square of the plane's unit.
    """
    step = max(_CHUNK // x.shape[1], 1)
    areas = [np.empty(0)]
    for k in range(0, len(which), step):
        part = slice(k, k + step)
        left = (x_center[part] - side / 2)[:, None]
        bottom = (y_center[part] - side / 2)[:, None]
        areas.append(_areas(x[which[part]] - left, y[which[part]] - bottom, side))
    return np.concatenate(areas)


def _areas(x, y, side):
    """Areas shared with the square from (0, 0) to (side, side), polygons (n, V + 1)."""
    x1, y1 = x[:, :-1], y[:, :-1]
    dx, dy = x[:, 1:] - x1, y[:, 1:] - y1
    # An edge along an axis never crosses the lines of that axis: any finite place will do for it.
    per_dx, per_dy = (1 / np.where(np.abs(d) < 1e-30, 1.0, d) for d in (dx, dy))
    low, high = -y1 * per_dy, (side - y1) * per_dy
    start, end = np.clip(np.minimum(low, high), 0, 1), np.clip(np.maximum(low, high), 0, 1)
    left, right = -x1 * per_dx, (side - x1) * per_dx
    first = np.clip(np.minimum(left, right), start, end)
    second = np.clip(np.maximum(left, right), start, end)
    f_start, f_first, f_second, f_end = (
        np.clip(x1 + t * dx, 0, side) for t in (start, first, second, end)
    )
    trapezia = (f_start + f_first) * (first - start)
    trapezia += (f_first + f_second) * (second - first)
    trapezia += (f_second + f_end) * (end - second)
    return np.abs((trapezia * dy).sum(axis=1)) / 2
