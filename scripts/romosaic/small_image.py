"""Small images: a coadd averaged down for pictures, its file, and the stretch that shows it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from .asdf_blocks import AsdfBlocks
from .errors import REMAKE, ProductError
from .grid import Grid
from .product import write_step

#: Rows of the full image that are worked on at once, about: they stay in the cache.
_BAND = 100
#: Noise above the sky that white stands for at least.
_CONTRAST = 30.0


@dataclass(frozen=True)
class SmallImage:
    """
    A coadd averaged over blocks of pixels.

    Blocks begin at the first pixel: as skycells lie a multiple of 4800 pixels apart, blocks of a divisor of
    that are the same pixels of the sky in neighbouring skycells.

    Attributes
    ----------
    data : (ny, nx) float32 array
        MJy/sr, mean of the covered pixels; NaN where there is none.
    weight : (ny, nx) float32 array
        Mean weight, uncovered pixels 0.
    covered : (ny, nx) float32 array
        Part of the block's pixels that is covered.
    grid : Grid
        Grid of the blocks.
    optical_element : str
        Filter.
    """

    data: np.ndarray
    weight: np.ndarray
    covered: np.ndarray
    grid: Grid
    optical_element: str

    @cached_property
    def sky(self) -> float:
        """Level of the empty sky, MJy/sr: the mode of the data; 0 where there are none."""
        return sky_level(self.data)[0]

    def write(self, path: str | Path, provenance: dict) -> None:
        """Write to a file that `read` reads."""
        tree = {
            "grid": self.grid.to_wcs_info(),
            "optical_element": self.optical_element,
            **{name: getattr(self, name) for name in ("data", "weight")},
            "covered": np.rint(self.covered * 255).astype(np.uint8),
            "provenance": provenance,
        }
        write_step(path, tree)

    @classmethod
    def read(cls, path: str | Path) -> "SmallImage":
        """
        Read a file of `write`; its arrays are held against their checksums and mapped.

        Raises
        ------
        ProductError
            The file is missing, damaged, or not one of `write`'s.
        """
        blocks = AsdfBlocks.read(path, REMAKE)
        blocks.verify()
        try:
            own = blocks.tree["romosaic"]
            data, weight, covered = (blocks.array(own[k]) for k in ("data", "weight", "covered"))
            grid = Grid.from_wcs_info(own["grid"])
            return cls(data, weight, covered / np.float32(255), grid, own["optical_element"])
        except (KeyError, TypeError, ValueError) as error:
            raise ProductError(path, "is no small image", REMAKE) from error


def block_side(shape: tuple[int, int], size: int) -> int:
    """Side of the blocks that make an image at most `size` blocks long."""
    return max(1, -(-max(shape) // size))


def block_grid(grid: Grid, factor: int) -> Grid:
    """Grid of the blocks of `factor` x `factor` pixels of a grid."""
    middle = (factor - 1) / 2
    return replace(
        grid,
        x0=(grid.x0 - middle) / factor,
        y0=(grid.y0 - middle) / factor,
        pixel_scale=grid.pixel_scale * factor,
        nx=-(-grid.nx // factor),
        ny=-(-grid.ny // factor),
    )


def shrink(data: np.ndarray, factor: int) -> tuple[np.ndarray, np.ndarray]:
    """
    Average an image over blocks.

    Parameters
    ----------
    data : (ny, nx) array
        Real numbers; what is not finite does not count.
    factor : int
        Side of a block, pixels; blocks at the far rims may hold fewer pixels.

    Returns
    -------
    mean : float32 array
        Mean of the finite values in each block, NaN where there is none.
    share : float32 array
        Part of the block's pixels that is finite.
    """
    ny, nx = data.shape
    shape = -(-ny // factor), -(-nx // factor)
    mean, share = np.empty((2, *shape), np.float32)
    for rows, band in _bands(data, factor):
        finite = np.isfinite(band)
        count = _sums(finite.view(np.uint8), factor, np.uint16)
        total = _sums(np.where(finite, band, 0), factor, np.float32)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean[rows] = total / count
        share[rows] = count / np.float32(factor**2)
    share[-1] *= factor / (ny - (shape[0] - 1) * factor)
    share[:, -1] *= factor / (nx - (shape[1] - 1) * factor)
    return mean, share


def _bands(data: np.ndarray, factor: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Rows of blocks and the pixels in them, by bands."""
    step = max(_BAND // factor, 1)
    for start in range(0, -(-data.shape[0] // factor), step):
        yield slice(start, start + step), data[start * factor : (start + step) * factor]


def _sums(band: np.ndarray, factor: int, dtype: type) -> np.ndarray:
    """Sum over blocks: first down the columns, where memory is contiguous."""
    down = np.add.reduceat(band, np.arange(0, band.shape[0], factor), axis=0, dtype=dtype)
    if factor == 1:
        return down
    pad = -band.shape[1] % factor
    return np.pad(down, ((0, 0), (0, pad))).reshape(len(down), -1, factor).sum(axis=2, dtype=dtype)


def sky_level(image: np.ndarray) -> tuple[float, float]:
    """
    Level and noise of the empty sky of an image.

    Parameters
    ----------
    image : float array
        NaN where there is no data.

    Returns
    -------
    level, noise : float
        Median and standard deviation of what is left when the sources are clipped away; (0, 0) without data.
    """
    values = image[np.isfinite(image)]
    for _ in range(6):
        if not values.size:
            return 0.0, 0.0
        # Sources are on the bright side only: the faint side tells the noise.
        faint, level = np.percentile(values, [15.87, 50]).astype(float)
        inside = np.abs(values - level) <= 3 * (level - faint)
        if inside.all():
            break
        values = values[inside]
    return level, level - faint


@dataclass(frozen=True)
class Stretch:
    """
    Asinh stretch from a little below the sky to the brightest thousandth.

    Attributes
    ----------
    low, high : float
        Values shown as black and as white.
    knee : float
        Height above `low` at which it bends, three sigma: below it noise is shown as it is, above it four
        decades fit in.
    """

    low: float
    high: float
    knee: float

    @classmethod
    def of(cls, image: np.ndarray) -> "Stretch | None":
        """
        Stretch of an image, None without data.

        Parameters
        ----------
        image : float array
            NaN where there is no data.
        """
        finite = image[np.isfinite(image)]
        if not finite.size:
            return None
        faint, sky, bright = np.percentile(finite, [16, 50, 99.9]).astype(float)
        noise = max(sky - faint, 1e-6 * abs(sky), 1e-12)
        return cls(sky - 1.5 * noise, max(bright, sky + _CONTRAST * noise), 3 * noise)

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Shades in [0, 1]; NaN stays NaN."""
        white = np.arcsinh((self.high - self.low) / self.knee)
        return np.clip(np.arcsinh((image - self.low) / self.knee) / white, 0, 1)


def stretch(image: np.ndarray) -> np.ndarray:
    """Show an image by its own `Stretch`."""
    found = Stretch.of(image)
    return found.apply(image) if found else image


def covered_box(covered: np.ndarray) -> tuple[int, int, int, int]:
    """
    Part of an image to show: what is covered and a little more, or everything when most of it is.

    Parameters
    ----------
    covered : (ny, nx) bool array
        Where there are data.

    Returns
    -------
    y0, y1, x0, x1 : int
        Half-open; the whole image when nothing is covered.
    """
    ny, nx = covered.shape
    rows, columns = (np.flatnonzero(covered.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return 0, ny, 0, nx
    margin = 2 + max(np.ptp(rows), np.ptp(columns)) // 25
    y0, y1 = max(int(rows[0] - margin), 0), min(int(rows[-1] + margin + 1), ny)
    x0, x1 = max(int(columns[0] - margin), 0), min(int(columns[-1] + margin + 1), nx)
    if max((y1 - y0) / ny, (x1 - x0) / nx) > 0.85:
        return 0, ny, 0, nx
    return y0, y1, x0, x1
