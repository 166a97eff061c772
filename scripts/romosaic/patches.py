"""Smooth maps of the plane as cubics on small rectangles, quick to evaluate at every pixel."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Patches:
    """
    A smooth map as cubics on a lattice of rectangles.

    Cubics through 4 x 4 Chebyshev nodes follow a detector's distortion within 256 grid pixels to better than
    1e-6 pixels, and are quick to evaluate.

    Attributes
    ----------
    rows, columns : (n, 2) int64 arrays
        Half-open limits of the rectangles.
    place : (rows, columns, 4) float64 array
        (x0, sx, y0, sy): the variables of the cubics are u = (x - x0) sx and v = (y - y0) sy.
    coefficients : (rows, columns, 2, 4, 4) float64 array
        Of both output axes: [power of v, power of u].
    """

    rows: np.ndarray
    columns: np.ndarray
    place: np.ndarray
    coefficients: np.ndarray

    @classmethod
    def fit(cls, lattice: Callable, rows: np.ndarray, columns: np.ndarray) -> "Patches":
        """
        Fit a map.

        Parameters
        ----------
        lattice : callable
            (xs, ys) -> (u, v): columns and rows to arrays of shape (ys.size, xs.size).
        rows, columns : (n, 2) int arrays
            Half-open limits of the rectangles.
        """
        nodes = np.cos(np.pi * (np.arange(4) + 0.5) / 4)
        to_powers = np.linalg.inv(np.vander(nodes, increasing=True))
        (y0, ry), (x0, rx) = _middle(rows), _middle(columns)
        xs = (x0[:, None] + rx[:, None] * nodes).ravel()
        ys = (y0[:, None] + ry[:, None] * nodes).ravel()
        values = np.stack(lattice(xs, ys)).reshape(2, len(rows), 4, len(columns), 4)
        coefficients = np.einsum("pk,arkcl,ql->rcapq", to_powers, values, to_powers, optimize=True)
        place = np.empty((len(rows), len(columns), 4))
        place[..., 0], place[..., 1] = x0, 1 / rx
        place[..., 2], place[..., 3] = y0[:, None], 1 / ry[:, None]
        return cls(rows, columns, place, np.ascontiguousarray(coefficients))


def _middle(limits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre and half-width of ranges of pixel centres; a range of one pixel gets a width too."""
    return (limits[:, 0] + limits[:, 1] - 1) / 2, np.maximum((np.diff(limits)[:, 0] - 1) / 2, 0.5)


def cut(start: int, stop: int, size: int, origin: int = 0) -> np.ndarray:
    """
    Cut a range into pieces.

    Parameters
    ----------
    start, stop : int
        The range, half-open.
    size, origin : int
        It is cut at the origin plus multiples of the size.

    Returns
    -------
    (n, 2) int64 array
        Half-open ranges.
    """
    first = origin + ((start - origin) // size + 1) * size
    edges = np.array([start, *range(first, stop, size), stop], np.int64)
    return np.stack([edges[:-1], edges[1:]], axis=1)
