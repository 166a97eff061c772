"""Data quality of a coadd: the flags of all detector pixels that contribute to an output pixel."""

import numpy as np

from .drizzle_library import RIM, add_image, padding, positions
from .grid import Grid
from .pixmap import PixelMap

#: Side of the detector blocks that are drizzled at a time, which bounds the memory.
BLOCK = 512


class DqSum:
    """
    Bitwise OR of the flags of the contributing pixels, as romancal's `propagate_dq` makes it.

    Outliers and other bad pixels do not contribute, so that their flags are not among them.

    Parameters
    ----------
    grid : Grid
        Output grid.
    kernel : str
        That of the coadd.
    pixfrac : float
        That of the coadd.

    Attributes
    ----------
    dq : (ny, nx) uint32 array
        Flags; 0 where nothing is covered.
    """

    def __init__(self, grid: Grid, kernel: str, pixfrac: float) -> None:
        self.grid, self.kernel, self.pixfrac = grid, kernel, pixfrac
        self.dq = np.zeros(grid.shape, np.uint32)

    def add(
        self,
        pixmap: PixelMap,
        window: tuple[int, int, int, int],
        dq: np.ndarray,
        good: np.ndarray,
        covered: np.ndarray,
    ) -> None:
        """
        Add one exposure.

        Parameters
        ----------
        pixmap : PixelMap
            Its map.
        window : tuple of int
            Part (y0, y1, x0, x1) of the detector that is given.
        dq : (rows, columns) uint32 array
            Flags in the window.
        good : (rows, columns) bool array
            Pixels of positive weight.
        covered : (ny, nx) bool array
            Output pixels that the exposure contributes to.
        """
        gridmap = pixmap.on_grid(self.grid)
        pad = padding(gridmap.pixel_ratio)
        weights = (good & (dq != 0)).astype(np.float32)
        for y in range(0, dq.shape[0], BLOCK):
            for x in range(0, dq.shape[1], BLOCK):
                part = np.s_[y : y + BLOCK, x : x + BLOCK]
                if weights[part].any():
                    corner = y + window[0], x + window[2]
                    self._add_block(gridmap, pad, corner, dq[part], weights[part], covered)

    def _add_block(self, gridmap, pad: int, corner, dq, weights, covered) -> None:
        rows, columns = (
            np.arange(first - RIM, first + n + RIM)
            for first, n in zip(corner, dq.shape, strict=True)
        )
        pixmap = positions(gridmap, columns, rows, self.kernel, self.pixfrac)
        x, y = pixmap[..., 0], pixmap[..., 1]
        # output box with room on every side, which may reach beyond the grid
        x0, x1 = int(x.min()) - pad, int(x.max()) + pad + 1
        y0, y1 = int(y.min()) - pad, int(y.max()) + pad + 1
        ty0, ty1 = max(y0, 0), min(y1, self.grid.ny)
        tx0, tx1 = max(x0, 0), min(x1, self.grid.nx)
        if ty1 <= ty0 or tx1 <= tx0:
            return
        weights = np.pad(weights, RIM)
        library = add_image(
            weights,
            weights,
            pixmap - (x0, y0),
            (y1 - y0, x1 - x0),
            gridmap.pixel_ratio,
            self.kernel,
            self.pixfrac,
            dq=np.pad(dq, RIM),
        )
        output = np.s_[ty0:ty1, tx0:tx1]
        flags = library.out_dq[ty0 - y0 : ty1 - y0, tx0 - x0 : tx1 - x0]
        self.dq[output] |= np.where(covered[output], flags, np.uint32(0))
