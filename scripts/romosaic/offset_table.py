"""Tables of what a series leaves of a rough map: small shifts of detector pixels, interpolated."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

#: Unit of the stored shifts, detector pixels: rounding costs half of it.
QUANTUM = 2e-5
#: Distance of the nodes of the finest table, detector pixels.
FINEST = 0.5
#: Rounds of the inverse, and the step (pixels) at which a point is settled.
ROUNDS, SETTLED = 40, 1e-7


@dataclass(frozen=True)
class OffsetTable:
    """
    Shifts that take a detector pixel to where a smooth map has to be evaluated.

    Between its nodes the table is a cubic of four of them along each axis, beyond its edges constant. With half
    a pixel between nodes it is linear, so that a kink harms no neighbours, and exact, but for `QUANTUM`, at
    centres and corners of pixels: drizzle and blot ask for no others.

    Attributes
    ----------
    step : float
        Distance of the nodes, detector pixels; the first lie at (-0.5, -0.5).
    values : (2, my, mx) int16 or int32 array
        Shifts along x and y, in `QUANTUM`.
    reach : float
        Largest shift, detector pixels.
    """

    step: float
    values: np.ndarray
    reach: float

    def at(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shifts (dx, dy) at detector pixels, arrays that broadcast; 0 for NaN."""
        (i, across), (j, along) = (
            self._place(t, n) for t, n in zip((y, x), self.values.shape[1:], strict=True)
        )
        dx, dy = (
            QUANTUM
            * sum(
                f * sum(g * v[i + k, j + m] for m, g in enumerate(along))
                for k, f in enumerate(across)
            )
            for v in self.values
        )
        return dx, dy

    def _place(self, t: np.ndarray, n: int) -> tuple[np.ndarray, list[np.ndarray]]:
        """First of the nodes that count at positions along an axis of n nodes, and the nodes' weights."""
        count = 2 if self.step == FINEST else 4
        where = np.fmin(np.fmax((np.asarray(t, float) + 0.5) / self.step, 0.0), n - 1.0)
        node = np.clip(where.astype(np.intp) - (count // 2 - 1), 0, n - count)
        t = where - node
        if count == 2:
            return node, [1 - t, t]
        return node, [
            (1 - t) * (t - 2) * (t - 3) / 6,
            t * (t - 2) * (t - 3) / 2,
            t * (t - 1) * (3 - t) / 2,
            t * (t - 1) * (t - 2) / 6,
        ]

    def straighten(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return where the smooth map is to be evaluated for detector pixels; the arrays broadcast."""
        dx, dy = self.at(x, y)
        return x + dx, y + dy

    def bend(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        Invert `straighten`, by fixed-point iteration: shifts change little from pixel to pixel.

        Within the half pixel of a discontinuity, where there may be no inverse, the result is off by less
        than the jump.
        """
        straight = np.stack([np.ravel(x), np.ravel(y)]).astype(float)
        bent, todo = straight.copy(), np.arange(straight.shape[1])
        for _ in range(ROUNDS):
            new = straight[:, todo] - self.at(*bent[:, todo])
            moved = np.abs(new - bent[:, todo]).max(axis=0) > SETTLED
            bent[:, todo] = new
            todo = todo[moved]
            if not todo.size:
                break
        return bent[0].reshape(np.shape(x)), bent[1].reshape(np.shape(x))

    def to_tree(self) -> dict:
        """Return numbers and the array of values for a file."""
        return {"step": float(self.step), "reach": float(self.reach), "values": self.values}

    @classmethod
    def from_tree(cls, tree: dict, array: Callable) -> "OffsetTable":
        """Rebuild from `to_tree`; `array` makes an array of what stands for one in the tree."""
        return cls(float(tree["step"]), array(tree["values"]), float(tree["reach"]))
