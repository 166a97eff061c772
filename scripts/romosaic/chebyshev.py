"""Smooth maps of the plane as two-dimensional Chebyshev series (Mason & Handscomb 2003)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.polynomial.chebyshev import chebvander

#: Points evaluated at a time, to bound the memory of their polynomials.
CHUNK = 1 << 15

Function = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Chebyshev2D:
    """
    A smooth map of the plane, (x, y) -> (u, v), on a rectangle.

    Attributes
    ----------
    domain : tuple of float
        (x_min, x_max, y_min, y_max).
    coefficients : (2, n, n) float64 array
        Of u and v, indexed by the degrees in y and in x.
    """

    domain: tuple[float, float, float, float]
    coefficients: np.ndarray

    @classmethod
    def fit(cls, function: Function, domain: tuple, degree: int) -> "Chebyshev2D":
        """Project `function` on the series at twice as many Chebyshev nodes as there are degrees."""
        n = 2 * (degree + 1)
        nodes = np.cos(np.pi * (np.arange(n) + 0.5) / n)
        x_min, x_max, y_min, y_max = domain
        x = (x_min + x_max) / 2 + nodes * (x_max - x_min) / 2
        y = (y_min + y_max) / 2 + nodes * (y_max - y_min) / 2
        values = np.stack(function(*np.meshgrid(x, y)))
        # Discrete orthogonality: the series of the interpolating polynomial, cut at `degree`.
        basis = chebvander(nodes, degree) * (2 / n)
        basis[:, 0] /= 2
        return cls(tuple(float(d) for d in domain), basis.T @ values @ basis)

    def _bases(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x_min, x_max, y_min, y_max = self.domain
        degree = self.coefficients.shape[1] - 1
        tx = (2 * np.asarray(x, float) - (x_min + x_max)) / (x_max - x_min)
        ty = (2 * np.asarray(y, float) - (y_min + y_max)) / (y_max - y_min)
        return chebvander(tx, degree), chebvander(ty, degree)

    def points(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Evaluate at points, arrays of one shape or single numbers."""
        x, y = np.broadcast_arrays(x, y)
        shape, x, y = x.shape, x.ravel(), y.ravel()
        u, v = np.empty((2, x.size))
        for k in range(0, x.size, CHUNK):
            part = slice(k, k + CHUNK)
            bx, by = self._bases(x[part], y[part])
            for out, c in zip((u, v), self.coefficients, strict=True):
                out[part] = np.einsum("ij,ij->i", by @ c, bx)
        return u.reshape(shape), v.reshape(shape)

    def lattice(self, xs: np.ndarray, ys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Evaluate at all crossings of columns `xs`, (..., nx), and rows `ys`, (..., ny): (..., ny, nx)."""
        bx, by = self._bases(xs, ys)
        u, v = (by @ (c @ np.swapaxes(bx, -1, -2)) for c in self.coefficients)
        return u, v

    def to_tree(self) -> dict:
        """Return numbers and the array of coefficients for a file."""
        return {"domain": list(self.domain), "coefficients": self.coefficients}

    @classmethod
    def from_tree(cls, tree: dict, array: Callable = np.asarray) -> "Chebyshev2D":
        """Rebuild from `to_tree`; `array` makes an array of what stands for one in the tree."""
        return cls(tuple(tree["domain"]), np.array(array(tree["coefficients"]), dtype=float))
