"""
Tiles of an output grid, and the detector pixels that fall on each of them.

The tiles belong to the tangent plane, not to the skycell: skycells of one projection region share their pixel
lattice and their tiles, and everything about a tile follows from its place in the plane and from the exposure
alone, so that two cells agree bit for bit where they overlap.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise, product

import numpy as np

from .drizzle_kernels import columns_on
from .grid import Grid
from .pixmap import GridMap, PixelMap

#: Skycells are 5000 pixels on a pitch of 4800: their borders lie at 2301 and 2501 modulo 4800 of the plane's
#: pixels. No field crosses one. Tiles are quarters of fields: small enough for a core's share of the caches,
#: while the polynomials, which take longer than all else of a tile's place, are those of its field.
PITCH, BORDER, OVERLAP, FIELD = 4800, 2301, 200, 460
#: Rows and columns (start, stop) of the plane, of a field or a tile.
Span = tuple[tuple[int, int], tuple[int, int]]
#: Detector pixels of a block when tiles look for their part of the detector.
BLOCK = 64
#: Degrees tried for the polynomial that stands for the pixel map within a field; its largest error (pixels).
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
        Detector (y0, y1, x0, x1) of the polynomials: of the tile's field.
    cx, cy : (n, n) float64 arrays
        Tile position, in output pixels from the tile's lower left corner, of the corners of the box's pixels:
        coefficients of powers of the row and column coordinates, which run from -1 to 1 over the box. Empty
        where no polynomial follows the map: see `corners`.
    lo, hi : (rows of the box,) int64 arrays
        Columns [lo, hi) of the box that may overlap the tile; (columns, 0) for none.
    window : tuple of int
        Detector (y0, y1, x0, x1) that holds these.
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
    window: tuple[int, int, int, int]

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


def field_edges(first: int, stop: int) -> list[int]:
    """Borders of the plane's fields, from the last one up to pixel `first` to the first one from `stop` on."""
    steps = (0, *range(OVERLAP, PITCH, FIELD))
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
    sides = (-oy, grid.ny), (-ox, grid.nx)
    fields = product(*(_spans(*side, grid.skycell is None) for side in sides))
    found = [(field, box) for field in fields if (box := _detector_box(lines, extents, field))]
    tiles = []
    for (field, box), series in zip(found, _polynomials(gridmap, found), strict=True):
        tiles += _tiles(field, box, series, (oy, ox), grid)
    return tiles, gridmap


def window_of(tiles: list[Tile]) -> tuple[int, int, int, int]:
    """Part (y0, y1, x0, x1) of the detector that the tiles need."""
    windows = np.array([tile.window for tile in tiles])
    low, high = windows.min(axis=0), windows.max(axis=0)
    return int(low[0]), int(high[1]), int(low[2]), int(high[3])


def _tiles(field: Span, box, series: np.ndarray, shift: tuple[int, int], grid: Grid) -> list[Tile]:
    """Tiles of a field that the grid, which is moved by `shift` from the plane, and the box reach."""
    # without polynomials each tile would look at all pixels of the box: the field is one tile
    parts = list(product(*(_halves(*side) for side in field))) if series.size else [field]
    inner = np.array(parts) - np.array(field)[:, :1]
    lo, hi, windows = columns_on(inner, series, box[1] - box[0], box[3] - box[2])
    windows += np.array([box[0], box[0], box[2], box[2]])
    tiles = []
    for number, ((y0, y1), (x0, x1)) in enumerate(parts):
        corner, shape = (y0 + shift[0], x0 + shift[1]), (y1 - y0, x1 - x0)
        crop = (*_crop(corner[0], shape[0], grid.ny), *_crop(corner[1], shape[1], grid.nx))
        window = tuple(windows[number].tolist())
        if crop[0] < crop[1] and crop[2] < crop[3] and window[0] < window[1]:
            cx, cy = series.copy()
            if series.size:
                cx[0, 0] -= inner[number, 1, 0]
                cy[0, 0] -= inner[number, 0, 0]
            origin = x0 - 0.5, y0 - 0.5
            part = lo[number], hi[number], window
            tiles.append(Tile(corner, shape, crop, origin, box, cx, cy, *part))
    return tiles


def _spans(first: int, size: int, clip: bool) -> Iterator[tuple[int, int]]:
    """Fields of one axis of the plane, as (start, stop), that cover `size` pixels from `first`."""
    edges = field_edges(first, first + size)
    if clip:
        edges[0], edges[-1] = first, first + size
    return pairwise(edges)


def _halves(start: int, stop: int) -> list[tuple[int, int]]:
    """Tiles of a field along one axis; one of a field of a single pixel."""
    middle = (start + stop) // 2
    return [(a, b) for a, b in ((start, middle), (middle, stop)) if b > a]


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


def _detector_box(lines, extents, span: Span) -> tuple[int, int, int, int] | None:
    """Rectangle of blocks (y0, y1, x0, x1) that holds all that may overlap a part of the plane."""
    (y0, y1), (x0, x1) = span
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


def _polynomials(gridmap: GridMap, fields: list[tuple[Span, tuple]]) -> list[np.ndarray]:
    """
    Polynomials of the positions in fields of the corners of the pixels of their detector boxes; see `Tile`.

    (2, n, n) for x and y; (2, 0, 0) where none follows the map. Of all fields at once, but by products of small
    matrices each: what a field gets does not depend on the others.
    """
    found = [np.empty((2, 0, 0))] * len(fields)
    corners = np.array([(columns[0], rows[0]) for (rows, columns), _ in fields]).reshape(-1, 2)
    boxes = np.array([box for _, box in fields], float).reshape(-1, 2, 2)
    middle, half = boxes.sum(axis=2) / 2 - 0.5, np.diff(boxes)[..., 0] / 2
    left = np.arange(len(fields))
    for degree in DEGREES if gridmap.smooth else ():
        n, (nodes, powers, basis) = degree + 1, _matrices(degree)
        ys, xs = np.moveaxis(middle[left, :, None] + nodes * half[left, :, None], 1, 0)
        positions = np.stack(gridmap.forward(xs, ys), axis=1)
        positions -= corners[left, :, None, None] - 0.5
        series = powers @ positions[..., :n, :n] @ powers.T
        error = np.abs(basis @ series @ basis.T - positions[..., n:, n:]).max(axis=(1, 2, 3))
        good = error < ERROR
        for number, one in zip(left[good], series[good], strict=True):
            found[number] = one
        left = left[~good]
    return found


@cache
def _matrices(degree: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nodes of a polynomial and then its checks; matrix from values to powers; matrix from powers to checks."""
    nodes = np.cos(np.pi * (np.arange(degree + 1) + 0.5) / (degree + 1))
    powers = np.linalg.inv(np.vander(nodes, increasing=True))
    return np.append(nodes, CHECKS), powers, np.vander(CHECKS, degree + 1, increasing=True)
