"""Pixel maps as cubics on a lattice of rectangles, and as tables of all pixels where a cubic does not do."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

#: Largest error of a cubic, pixels, where it is checked: between its nodes, at its corners and in the middle.
ERROR, CHECKS = 1e-6, np.array([-1.0, -0.7, 0.05, 0.7, 1.0])

Lattice = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Patches:
    """
    A smooth map as cubics on a lattice of rectangles.

    Cubics through 4 x 4 Chebyshev nodes follow a detector's distortion within 256 grid pixels to better than
    1e-6 pixels, and are quick to evaluate. Where they do not, positions are asked of the map itself.

    Attributes
    ----------
    lattice : callable
        The map, (xs, ys) -> (u, v), arrays of shape (ys.size, xs.size).
    rows, columns : (n, 2) int64 arrays
        Half-open limits of the rectangles.
    place : (rows, columns, 4) float64 array
        (x0, sx, y0, sy): the variables of the cubics are u = (x - x0) sx and v = (y - y0) sy.
    coefficients : (rows, columns, 2, 4, 4) float64 array
        Of both output axes: [power of v, power of u].
    good : (rows, columns) bool array
        Whether the cubic follows the map.
    """

    lattice: Lattice
    rows: np.ndarray
    columns: np.ndarray
    place: np.ndarray
    coefficients: np.ndarray
    good: np.ndarray

    @classmethod
    def fit(
        cls,
        lattice: Lattice,
        rows: np.ndarray,
        columns: np.ndarray,
        smooth: bool = True,
        halo: int = 0,
    ) -> "Patches":
        """
        Fit cubics to a map.

        Parameters
        ----------
        lattice : callable
            The map.
        rows, columns : (n, 2) int64 arrays
            Half-open limits of the rectangles.
        smooth : bool
            Whether the map is smooth between the points where it is tried; else no cubic is taken for good.
        halo : int
            Pixels beyond the rectangles in which they are used, too.

        Returns
        -------
        Patches
        """
        nodes = np.cos(np.pi * (np.arange(4) + 0.5) / 4)
        to_powers = np.linalg.inv(np.vander(nodes, increasing=True))
        (y0, ry), (x0, rx) = _middle(rows), _middle(columns)
        place = np.empty((len(rows), len(columns), 4))
        place[..., 0], place[..., 1] = x0, 1 / rx
        place[..., 2], place[..., 3] = y0[:, None], 1 / ry[:, None]
        if not smooth:
            none = np.zeros(place.shape[:2], bool)
            return cls(lattice, rows, columns, place, np.zeros((*none.shape, 2, 4, 4)), none)
        xs = (x0[:, None] + rx[:, None] * nodes).ravel()
        ys = (y0[:, None] + ry[:, None] * nodes).ravel()
        values = np.stack(lattice(xs, ys)).reshape(2, len(rows), 4, len(columns), 4)
        coefficients = np.einsum("pk,arkcl,ql->rcapq", to_powers, values, to_powers, optimize=True)
        # Checks reach as far as the cubics are used.
        v, u = (CHECKS * (1 + halo / r[:, None]) for r in (ry, rx))
        truth = np.stack(
            lattice(
                (x0[:, None] + rx[:, None] * u).ravel(), (y0[:, None] + ry[:, None] * v).ravel()
            )
        )
        truth = truth.reshape(2, *v.shape, *u.shape)
        basis = (np.vander(t.ravel(), 4, increasing=True).reshape(*t.shape, 4) for t in (v, u))
        found = np.einsum(
            "rkp,rcapq,clq->arkcl", next(basis), coefficients, next(basis), optimize=True
        )
        good = np.abs(found - truth).max(axis=(0, 2, 4)) <= ERROR
        return cls(lattice, rows, columns, place, np.ascontiguousarray(coefficients), good)

    def positions(
        self, row: int, columns: int | slice, box
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """
        Return what gives the positions in a box of pixels in or around rectangles of a row.

        Parameters
        ----------
        row : int
            The row.
        columns : int or slice
            The rectangle, or several.
        box : sequence of int
            Rows and columns (y0, y1, x0, x1), half-open.

        Returns
        -------
        coefficients : (2, 4, 4) or (n, 2, 4, 4) float64 array
            Of the cubics.
        place : (4,) or (n, 4) float64 array
            Of the cubics.
        table : (2, y1 - y0, x1 - x0) float64 array
            Positions of all pixels where a cubic does not follow the map; (2, 0, 0) where all do.
        """
        y0, y1, x0, x1 = box
        table = np.empty((2, 0, 0))
        if not self.good[row, columns].all():
            table = np.stack(self.lattice(np.arange(x0, x1), np.arange(y0, y1)))
        return self.coefficients[row, columns], self.place[row, columns], table


def _middle(limits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre and half-width of ranges of pixel centres; a range of one pixel gets a width too."""
    return (limits[:, 0] + limits[:, 1] - 1) / 2, np.maximum((np.diff(limits)[:, 0] - 1) / 2, 0.5)


def cut(start: int, stop: int, size: int, origin: int = 0) -> np.ndarray:
    """
    Cut a range of pixels into patches.

    Parameters
    ----------
    start, stop : int
        The range, half-open.
    size : int
        Side of a patch.
    origin : int
        Cuts lie at origin + multiples of `size`.

    Returns
    -------
    (n, 2) int64 array
        Half-open ranges.
    """
    first = origin + ((start - origin) // size + 1) * size
    edges = np.array([start, *range(first, stop, size), stop], np.int64)
    return np.stack([edges[:-1], edges[1:]], axis=1)
