"""
Drizzle (Fruchter & Hook 2002, PASP 114, 144): weighted sums of detector pixels on an output grid.

Two engines add the same sums. `tiled` walks pixel edges over tiles of the output (square kernel, pixfrac 1; see
`drizzle_kernels` and `drizzle_tiles`). `drizzle` is the STScI library, for every other kernel and pixfrac; it
runs on a padded grid, because it leaves out or misweights pixels near a border that the input crosses.
"""

from dataclasses import dataclass, field

import numpy as np

from .drizzle_kernels import accumulate, walk_edges
from .drizzle_library import RIM, add_image, padding, positions
from .drizzle_tiles import Tile, place_tiles, window_of
from .grid import Grid
from .pixmap import GridMap, PixelMap
from .threads import Scratch, in_threads

KERNELS = ("square", "point", "turbo", "gaussian", "lanczos2", "lanczos3")
#: Which of the planes is the weight.
WEIGHT = 1
#: Output pixels with less weight than this part of a fully covered one count as not covered.
SLIVER = 1e-6


@dataclass(frozen=True)
class Placement:
    """
    Where one exposure falls.

    Attributes
    ----------
    window : tuple of int
        Part (y0, y1, x0, x1) of the detector that is needed.
    pixel_ratio : float
        Area of a detector pixel in output pixels.
    gridmap : GridMap
        Engine `tiled`: map to the plane of the tiles. Engine `drizzle`: map to the padded grid.
    tiles : list of Tile
        Engine `tiled`.
    pad : int
        Engine `drizzle`: pixels added on every side of the grid.
    """

    window: tuple[int, int, int, int]
    pixel_ratio: float
    gridmap: GridMap
    tiles: list[Tile] = field(default_factory=list)
    pad: int = 0


def choose_engine(engine: str, kernel: str, pixfrac: float) -> str:
    """
    Return the engine, `tiled` or `drizzle`, for a kernel and a pixfrac.

    Raises
    ------
    ValueError
        Unknown kernel or engine, pixfrac outside (0, 1], or `tiled` for what it cannot do.
    """
    if kernel not in KERNELS:
        raise ValueError(f"kernel is one of {', '.join(KERNELS)}, not {kernel!r}")
    if not 0 < pixfrac <= 1:
        raise ValueError(f"pixfrac lies above 0 and up to 1, not at {pixfrac}")
    simple = kernel == "square" and pixfrac == 1
    if engine == "auto":
        return "tiled" if simple else "drizzle"
    if engine not in ("tiled", "drizzle"):
        raise ValueError(f"engine is auto, tiled or drizzle, not {engine!r}")
    if engine == "tiled" and not simple:
        raise ValueError("engine tiled does kernel square with pixfrac 1 only")
    return engine


class Drizzle:
    """
    Sums of several planes over the exposures of one grid.

    Parameters
    ----------
    grid : Grid
        Output grid.
    n_planes : int
        Planes per exposure.
    n_members : int
        Exposures, for the size of the context.
    kernel : str
        One of `KERNELS`.
    pixfrac : float
        Linear size of the drop over that of the detector pixel, above 0 and up to 1; 1 for lanczos.
    engine : {"auto", "tiled", "drizzle"}
        `auto` takes `tiled` for kernel square with pixfrac 1.
    threads : int
        Threads of the tiled engine; results do not depend on it.

    Attributes
    ----------
    sums : (n_planes, ny, nx) float32 array
        Sum over exposures and pixels of a * plane, a = overlap area over the area of the detector pixel
        (for other kernels the kernel's share).
    context : (n, ny, nx) uint32 array
        Bit m % 32 of plane m // 32 is set where exposure m contributed.

    Raises
    ------
    ValueError
        From `choose_engine`.
    """

    def __init__(
        self,
        grid: Grid,
        n_planes: int,
        n_members: int,
        *,
        kernel: str = "square",
        pixfrac: float = 1.0,
        engine: str = "auto",
        threads: int = 1,
    ) -> None:
        self.engine = choose_engine(engine, kernel, pixfrac)
        self.grid, self.kernel, self.pixfrac = grid, kernel, float(pixfrac)
        self.threads = max(int(threads), 1)
        self.sums = np.zeros((n_planes, grid.ny, grid.nx), np.float32)
        self.context = np.zeros((max(-(-n_members // 32), 1), grid.ny, grid.nx), np.uint32)
        self._buffers = Scratch(np.float64)

    def place(self, pixmap: PixelMap) -> Placement | None:
        """Find the part of an exposure that falls in the grid; None when there is none."""
        if self.engine == "tiled":
            tiles, gridmap = place_tiles(pixmap, self.grid)
            if not tiles:
                return None
            return Placement(window_of(tiles), gridmap.pixel_ratio, gridmap, tiles)
        pixel_ratio = pixmap.on_grid(self.grid).pixel_ratio
        if not np.isfinite(pixel_ratio):  # behind the tangent plane
            return None
        pad = padding(pixel_ratio)
        gridmap = pixmap.on_grid(self.grid.padded(pad))
        window = gridmap.window()
        return window and Placement(window, pixel_ratio, gridmap, pad=pad)

    def add(
        self, member: int, placement: Placement, planes: np.ndarray, weight: float
    ) -> tuple[int, int]:
        """
        Add one exposure.

        Parameters
        ----------
        member : int
            Its number in the context.
        placement : Placement
            From `place`.
        planes : (rows, columns, n_planes) float32 array
            Its planes in ``placement.window``, one of them the weight (`WEIGHT`), the others multiplied by the
            weights they are to have; finite, and zero in bad pixels.
        weight : float
            Weight of an ordinary pixel; sums below `SLIVER` of it count as not covered.

        Returns
        -------
        n_used, n_covered : int
            Detector pixels of positive weight with their centre in the grid; output pixels added to.
        """
        y0, y1, x0, x1 = placement.window
        if planes.shape != (y1 - y0, x1 - x0, len(self.sums)):
            raise ValueError(f"planes of shape {planes.shape} do not fit {placement.window}")
        context, bit = self.context[member // 32], np.uint32(1 << (member % 32))
        threshold = SLIVER * weight / placement.pixel_ratio
        if self.engine == "drizzle":
            return self._add_library(placement, planes, context, bit, threshold)

        def one(tile: Tile) -> tuple[int, int]:
            return self._add_tile(tile, placement, planes, context, bit, threshold)

        counts = in_threads(one, placement.tiles, self.threads)
        return sum(n for n, _ in counts), sum(n for _, n in counts)

    def _add_tile(self, tile, placement, planes, context, bit, threshold) -> tuple[int, int]:
        rows, columns = tile.shape
        n_planes = planes.shape[2]
        y0, _, x0, x1 = tile.box
        # `accumulate` leaves the buffer zero, as the next tile needs it
        with self._buffers.array((rows, columns + 1, n_planes)) as buffer:
            n_used = walk_edges(
                buffer,
                planes,
                (placement.window[0] - y0, placement.window[2] - x0),
                tile.cx,
                tile.cy,
                tile.corners(placement.gridmap),
                tile.lo,
                tile.hi,
                x1 - x0,
                tuple(float(edge) for edge in tile.crop),
                WEIGHT,
            )
            place = tile.corner, tile.crop
            n_covered = accumulate(
                *(buffer, self.sums, context, bit, *place, WEIGHT, threshold),
                each=(0,) * n_planes,
            )
        return n_used, n_covered

    def _add_library(self, placement, planes, context, bit, threshold) -> tuple[int, int]:
        """Add one exposure by the drizzle library, within the part of the padded grid it falls in."""
        y0, y1, x0, x1 = placement.window
        pad, padded, rim = placement.pad, placement.gridmap.grid, RIM
        spans = np.arange(x0 - rim, x1 + rim), np.arange(y0 - rim, y1 + rim)
        pixmap = positions(placement.gridmap, *spans, self.kernel, self.pixfrac)
        x, y = pixmap[..., 0], pixmap[..., 1]
        weights = np.pad(planes[..., WEIGHT], rim)
        inside = (x >= pad - 0.5) & (x < pad + self.grid.nx - 0.5)
        inside &= (y >= pad - 0.5) & (y < pad + self.grid.ny - 0.5)
        n_used = int(np.count_nonzero(inside & (weights > 0)))
        # part of the padded grid, with room for the kernel's reach
        gx0, gx1 = max(int(x.min()) - pad, 0), min(int(x.max()) + pad + 1, padded.nx)
        gy0, gy1 = max(int(y.min()) - pad, 0), min(int(y.max()) + pad + 1, padded.ny)
        pixmap -= gx0, gy0
        # part of it, and of the output, that counts
        ty0, ty1 = max(gy0, pad) - gy0, min(gy1, pad + self.grid.ny) - gy0
        tx0, tx1 = max(gx0, pad) - gx0, min(gx1, pad + self.grid.nx) - gx0
        if ty1 <= ty0 or tx1 <= tx0:
            return n_used, 0
        output = np.s_[ty0 + gy0 - pad : ty1 + gy0 - pad, tx0 + gx0 - pad : tx1 + gx0 - pad]
        covered = None
        for p in range(len(self.sums)):
            if p == WEIGHT:  # any other one tells it
                continue
            library = add_image(
                _ratio(np.pad(planes[..., p], rim), weights),
                weights,
                pixmap,
                (gy1 - gy0, gx1 - gx0),
                placement.pixel_ratio,
                self.kernel,
                self.pixfrac,
            )
            total = library.out_wht[ty0:ty1, tx0:tx1]
            if covered is None:
                covered = total > threshold
                self.sums[WEIGHT][output][covered] += total[covered]
                context[output][covered] |= bit
            mean = library.out_img[ty0:ty1, tx0:tx1]
            self.sums[p][output][covered] += mean[covered] * total[covered]
        return n_used, int(np.count_nonzero(covered))


def _ratio(plane: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Plane over weights where there is weight, else 0."""
    return np.divide(plane, weights, out=np.zeros_like(weights), where=weights > 0)
