"""One skycell of the sky map."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from .grid import Grid

if TYPE_CHECKING:
    from .skymap import SkyMap


@dataclass(frozen=True)
class Skycell:
    """
    One skycell.

    Attributes
    ----------
    name : str
        Its name.
    region : int
        Index of its projection region in the whole sky.
    row, col : int
        Place in the region's lattice, northward and eastward from the tangent point.
    grid : Grid
        Its pixels.
    skymap : SkyMap
        The map that it belongs to.
    """

    name: str
    region: int
    row: int
    col: int
    grid: Grid
    skymap: "SkyMap" = field(repr=False, compare=False)
    _region_row: int = field(repr=False, compare=False)

    def in_core(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """
        Whether pixel positions belong to this cell and to no other.

        A position is the cell's own when it lies on the cell's part of the lattice (99.5 <= x < 4899.5 for
        the Roman cells, likewise y) and within the limits of the cell's projection region.

        Parameters
        ----------
        x, y : array_like of float
            0-based pixels of `grid`.

        Returns
        -------
        bool array of the broadcast shape
        """
        x, y = np.broadcast_arrays(np.asarray(x, float), np.asarray(y, float))
        row, col = self.skymap.place(x - self.grid.x0, y - self.grid.y0)
        inside = np.asarray((row == self.row) & (col == self.col))
        ra, dec = self.grid.to_sky(x[inside], y[inside])
        inside[inside] = self.skymap.tables.regions.find(ra, dec) == self._region_row
        return inside[()]
