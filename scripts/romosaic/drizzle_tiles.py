"""
Tiles of an output grid, and the detector pixels that fall on each of them.

The tiles belong to the tangent plane, not to the skycell: skycells of one projection region share their pixel
lattice and their tiles, and everything about a tile follows from its place in the plane and from the exposure
alone, so that two cells agree bit for bit where they overlap.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise

import numpy as np

from .grid import Grid
from .pixmap import GridMap, PixelMap

#: Skycells are 5000 pixels on a pitch of 4800: their borders lie at 2301 and 2501 modulo 4800 of the plane's
#: pixels. No tile crosses one. Tiles of 460 pixels keep what a detector row crosses in the cache.
PITCH, BORDER, OVERLAP, TILE = 4800, 2301, 200, 460
#: Detector pixels of a block when tiles look for their part of the detector.
BLOCK = 64
#: Degrees tried for the polynomial that stands for the pixel map within a tile, and its largest error (pixels).
DEGREES, ERROR = (5, 9, 15), 1e-7
#: Where the polynomials are checked: in none of their nodes, and at the outermost corners.
CHECKS = np.array([-1.0, -0.83, -0.57, -0.29, 0.03, 0.31, 0.59, 0.85, 1.0])


@dataclass(frozen=True)
class Tile:
    """
    One tile of the output and the detector pixels that may overlap it.

    Attributes
    ----------
    corner : tuple of int
        Output (row, column) of its first pixel; negative where the tile begins before the grid.
    shape : tuple of int
        (rows, columns).
    crop : tuple of int
        Its part (y0, y1, x0, x1) that lies in the grid.
    origin : tuple of float
        Position (x, y) of its lower left corner in the plane.
    box : tuple of int
        Detector (y0, y1, x0, x1) of the polynomials.
    cx, cy : (n, n) float64 arrays
        Tile position, in output pixels from the tile's lower left corner, of the corners of the box's pixels:
        coefficients of powers of the row and column coordinates, which run from -1 to 1 over the box. Empty
        where no polynomial follows the map: see `corners`.
    lo, hi : (rows of the box,) int64 arrays
        Columns [lo, hi) of the box that may overlap the tile; (columns, 0) for none.
    """

    corner: tuple[int, int]
    shape: tuple[int, int]
    crop: tuple[int, int, int, int]
    origin: tuple[float, float]
    box: tuple[int, int, int, int]
    cx: np.ndarray
    cy: np.ndarray
    lo: np.ndarray
    hi: np.ndarray

    def corners(self, gridmap: GridMap) -> np.ndarray:
        """
        Positions of the corners of the box's pixels, where there are no polynomials.

        Parameters
        ----------
        gridmap : GridMap
            Map to the plane's pixels that made the tile.

        Returns
        -------
        (2, rows of the box + 1, columns + 1) or (2, 0, 0) float64 array
            Tile positions x and y.
        """
        if self.cx.size:
            return np.empty((2, 0, 0))
        y0, y1, x0, x1 = self.box
        position = gridmap.forward(np.arange(x0, x1 + 1) - 0.5, np.arange(y0, y1 + 1) - 0.5)
        return np.stack(position) - np.reshape(self.origin, (2, 1, 1))


def tile_edges(first: int, stop: int) -> list[int]:
    """Borders of the plane's tiles, from the last one up to pixel `first` to the first one from `stop` on."""
    steps = (0, *range(OVERLAP, PITCH, TILE))
    period = (first - BORDER) // PITCH
    edges = [
        (period + k) * PITCH + BORDER + step
        for k in range(1 + (stop - first) // PITCH + 1)
        for step in steps
    ]
    start = max(i for i, edge in enumerate(edges) if edge <= first)
    return [edge for edge in edges[start:] if edge < stop] + [next(e for e in edges if e >= stop)]


def place_tiles(pixmap: PixelMap, grid: Grid) -> tuple[list[Tile], GridMap]:
    """
    Find the tiles of a grid that an exposure falls on.

    Parameters
    ----------
    pixmap : PixelMap
        Map of the exposure.
    grid : Grid
        Output grid. The tiles of a grid without a skycell end at its borders.

    Returns
    -------
    tiles : list of Tile
        In rows.
    gridmap : GridMap
        Map to the pixels of the plane, which the tiles were made of.
    """
    # Pixel lattice of the whole plane: neighbouring skycells compute with the same numbers.
    ox, oy = int(np.floor(grid.x0)), int(np.floor(grid.y0))
    gridmap = pixmap.on_grid(replace(grid, x0=grid.x0 - ox, y0=grid.y0 - oy, nx=1, ny=1))
    lines, extents = _blocks(gridmap)
    tiles = []
    for y0, y1 in _spans(-oy, grid.ny, grid.skycell is None):
        for x0, x1 in _spans(-ox, grid.nx, grid.skycell is None):
            box = _detector_box(lines, extents, (y0, y1, x0, x1))
            if box is None:
                continue
            origin = (x0 - 0.5, y0 - 0.5)
            cx, cy = _polynomials(gridmap, box, origin)
            lo, hi = _columns(cx, cy, box, (y1 - y0, x1 - x0))
            if np.any(lo < hi):
                corner = (y0 + oy, x0 + ox)
                crop = (*_crop(corner[0], y1 - y0, grid.ny), *_crop(corner[1], x1 - x0, grid.nx))
                shape = (y1 - y0, x1 - x0)
                tiles.append(Tile(corner, shape, crop, origin, box, cx, cy, lo, hi))
    return tiles, gridmap


def window_of(tiles: list[Tile]) -> tuple[int, int, int, int]:
    """Part (y0, y1, x0, x1) of the detector that the tiles need."""
    spans = []
    for tile in tiles:
        y0, _, x0, _ = tile.box
        rows = np.flatnonzero(tile.lo < tile.hi)
        lo, hi = tile.lo[rows].min(), tile.hi[rows].max()
        spans.append((y0 + rows[0], y0 + rows[-1] + 1, x0 + lo, x0 + hi))
    low, high = np.min(spans, axis=0), np.max(spans, axis=0)
    return int(low[0]), int(high[1]), int(low[2]), int(high[3])


def _spans(first: int, size: int, clip: bool) -> Iterator[tuple[int, int]]:
    """Tiles of one axis of the plane, as (start, stop), that cover `size` pixels from `first`."""
    edges = tile_edges(first, first + size)
    if clip:
        edges[0], edges[-1] = first, first + size
    return pairwise(edges)


def _crop(corner: int, size: int, limit: int) -> tuple[int, int]:
    return max(-corner, 0), min(size, limit - corner)


def _blocks(gridmap: GridMap) -> tuple[tuple[np.ndarray, np.ndarray], list[np.ndarray]]:
    """Borders (y, x) of the detector's blocks, and the range of plane positions of each block."""
    lines = tuple(
        np.append(np.arange(0, n, BLOCK), n).astype(np.int64) for n in gridmap.pixmap.shape
    )
    extents = []
    for position in gridmap.forward(lines[1] - 0.5, lines[0] - 0.5):
        four = np.stack(
            [position[:-1, :-1], position[1:, :-1], position[:-1, 1:], position[1:, 1:]]
        )
        low, high = four.min(axis=0), four.max(axis=0)
        # a block's outline bends by much less than a twentieth of its size
        bulge = 0.05 * (high - low) + 1.0 + 2 * gridmap.shift
        extents += [low - bulge, high + bulge]
    return lines, extents


def _detector_box(lines, extents, tile) -> tuple[int, int, int, int] | None:
    """Rectangle of blocks that holds all that may overlap a tile (y0, y1, x0, x1 of the plane)."""
    y0, y1, x0, x1 = tile
    x_low, x_high, y_low, y_high = extents
    hit = (x_high > x0 - 0.5) & (x_low < x1 - 0.5) & (y_high > y0 - 0.5) & (y_low < y1 - 0.5)
    if not hit.any():
        return None
    rows, columns = np.flatnonzero(hit.any(axis=1)), np.flatnonzero(hit.any(axis=0))
    return (
        int(lines[0][rows[0]]),
        int(lines[0][rows[-1] + 1]),
        int(lines[1][columns[0]]),
        int(lines[1][columns[-1] + 1]),
    )


def _polynomials(gridmap: GridMap, box, origin) -> tuple[np.ndarray, np.ndarray]:
    """Polynomials of the tile positions of the corners of the pixels of `box`, or none; see `Tile`."""
    y0, y1, x0, x1 = box
    middle_y, middle_x = (y0 + y1 - 1) / 2, (x0 + x1 - 1) / 2
    for degree in DEGREES if gridmap.smooth else ():
        n, (nodes, powers, basis) = degree + 1, _matrices(degree)
        x, y = gridmap.forward(middle_x + nodes * (x1 - x0) / 2, middle_y + nodes * (y1 - y0) / 2)
        positions = x - origin[0], y - origin[1]
        cx, cy = (powers @ p[:n, :n] @ powers.T for p in positions)
        if all(
            np.abs(basis @ c @ basis.T - p[n:, n:]).max() < ERROR
            for c, p in zip((cx, cy), positions, strict=True)
        ):
            return cx, cy
    return np.empty((0, 0)), np.empty((0, 0))


@cache
def _matrices(degree: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nodes of a polynomial and then its checks; matrix from values to powers; matrix from powers to checks."""
    nodes = np.cos(np.pi * (np.arange(degree + 1) + 0.5) / (degree + 1))
    powers = np.linalg.inv(np.vander(nodes, increasing=True))
    return np.append(nodes, CHECKS), powers, np.vander(CHECKS, degree + 1, increasing=True)


def _columns(cx, cy, box, shape) -> tuple[np.ndarray, np.ndarray]:
    """Columns of each row of a box whose pixels may overlap a tile: see `lo` and `hi` of `Tile`."""
    height, width = box[1] - box[0], box[3] - box[2]
    if not cx.size:
        return np.zeros(height, np.int64), np.full(height, width, np.int64)
    v = np.vander(np.linspace(-1.0, 1.0, height + 1), len(cx), increasing=True)
    u = np.vander(np.array([-1.0, 0.0, 1.0]), len(cx), increasing=True)
    low, high = np.full(height, -1.0), np.full(height, 1.0)
    for c, size in zip((cy, cx), shape, strict=True):
        line = v @ c @ u.T
        middle, slope = (line[:, 0] + line[:, 2]) / 2, (line[:, 2] - line[:, 0]) / 2
        # A row of pixels is its first line of corners, widened by a pixel's extent and by the line's bend.
        bend = 1.5 * np.abs(line[:, 1] - middle).max()
        slack = np.abs(np.diff(line, axis=0)).max() + 2 * np.abs(slope).max() / width + bend + 0.1
        middle, slope = middle[:-1], slope[:-1]
        with np.errstate(divide="ignore", invalid="ignore"):
            ends = (np.array([-slack, size + slack])[:, None] - middle) / slope
        # A line along the tile's side never leaves the strip, or is never in it.
        inside = (middle > -slack) & (middle < size + slack)
        ends = np.where(slope == 0.0, np.where(inside, [[-2.0], [2.0]], 2.0), ends)
        low, high = np.maximum(low, ends.min(axis=0)), np.minimum(high, ends.max(axis=0))
    lo = np.floor((low + 1) / 2 * width).astype(np.int64) - 1
    hi = np.ceil((high + 1) / 2 * width).astype(np.int64) + 1
    empty = low >= high
    lo, hi = np.clip(lo, 0, width), np.clip(hi, 0, width)
    return np.where(empty, width, lo), np.where(empty, 0, hi)
