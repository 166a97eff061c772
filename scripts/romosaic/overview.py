"""
Step `overview`: all products of a filter on one picture of the sky, from the small images of `preview`.

One image after the other is averaged down to the size of the picture's pixels and reprojected onto the plane
of its field; where skycells overlap, and where products of several visits do, it is the weighted mean. So
memory is that of the picture, whatever the number of products. Each image is shown without its own sky
level: levels of skycells made of different exposures need not agree (`qa` says by how much they do not).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from .grid import Grid, sky_position, unit_vector
from .pictures import EMPTY, FAINT, INK, PAPER, PNG, SHADES, new_figure, shades
from .sky_fields import fields
from .sky_plane import Plane, draw_graticule, outline
from .small_image import SmallImage, block_grid, shrink, stretch

#: Images farther apart are fields of their own, degrees: three skycells, more than the gaps between detectors.
LINK = 0.25
#: Fields drawn, the ones with most products; a note says how many more there are.
PANELS = 12


@dataclass(frozen=True)
class Canvas:
    """
    Pixels of a picture in the plane of a field.

    Attributes
    ----------
    plane : Plane
        The plane.
    middle : (2,) float64 array
        Middle of the canvas in the plane, degrees.
    half : float
        Half its side, degrees.
    size : int
        Pixels on a side.
    """

    plane: Plane
    middle: np.ndarray
    half: float
    size: int

    @classmethod
    def around(cls, grids: Sequence[Grid], size: int) -> "Canvas":
        """Canvas that holds all of some grids with a small margin, its pixels no finer than theirs."""
        outlines = np.concatenate([outline(grid) for grid in grids], axis=1)
        ra, dec = sky_position(unit_vector(*outlines).sum(axis=1))
        plane = Plane(float(ra), float(dec), grids[0].x_east)
        points = plane.to_plane(*outlines)
        middle = (points.min(axis=1) + points.max(axis=1)) / 2
        half = 0.52 * float(np.ptp(points, axis=1).max())
        finest = min(grid.pixel_scale for grid in grids)
        return cls(plane, middle, half, max(min(size, int(np.ceil(2 * half / finest))), 16))

    @property
    def step(self) -> float:
        """Side of a pixel, degrees."""
        return 2 * self.half / self.size

    @cached_property
    def sums(self) -> np.ndarray:
        """(2, size, size) float64: weighted sum of the images so far, and of their weights."""
        return np.zeros((2, self.size, self.size))

    def add(self, image: SmallImage) -> None:
        """Add an image, its sky level taken off."""
        side = max(int(self.step / image.grid.pixel_scale), 1)
        data = np.where(np.isfinite(image.data), image.data - np.float32(image.sky), np.nan)
        data, share = shrink(data, side)
        weight = shrink(image.weight, side)[0] * share
        grid = block_grid(image.grid, side)
        rows, columns = self._box(image.grid)
        x = self.middle[0] + (np.arange(self.size)[columns] + 0.5) * self.step - self.half
        y = self.middle[1] + (np.arange(self.size)[rows] + 0.5) * self.step - self.half
        if not x.size or not y.size:
            return
        place = grid.to_pixel(*self.plane.to_sky(*np.meshgrid(x, y)))
        products = np.stack([np.where(weight > 0, weight * np.nan_to_num(data), 0), weight])
        self.sums[:, rows, columns] += bilinear(products, *place)

    def _box(self, grid: Grid) -> tuple[slice, slice]:
        """Rows and columns of the canvas that a grid may touch."""
        points = self.plane.to_plane(*outline(grid))
        first = (points.min(axis=1) - self.middle + self.half) / self.step
        last = (points.max(axis=1) - self.middle + self.half) / self.step
        low = np.clip(np.floor(first) - 1, 0, self.size).astype(int)
        high = np.clip(np.ceil(last) + 1, 0, self.size).astype(int)
        return slice(low[1], high[1]), slice(low[0], high[0])

    def image(self) -> np.ndarray:
        """(size, size) float32: weighted mean of what was added, MJy/sr; NaN where there is nothing."""
        total, weights = self.sums
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(weights > 0, total / weights, np.nan).astype(np.float32)


def covered_part(image: SmallImage) -> Grid:
    """Grid of the part of an image that is covered; all of it where nothing is."""
    rows, columns = (np.flatnonzero((image.covered > 0).any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return image.grid
    y0, x0 = int(rows[0]), int(columns[0])
    size = {"ny": int(rows[-1]) + 1 - y0, "nx": int(columns[-1]) + 1 - x0}
    return replace(image.grid, x0=image.grid.x0 - x0, y0=image.grid.y0 - y0, **size)


def bilinear(images: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Values (n, ...) of images (n, ny, nx) at positions; 0 outside."""
    ny, nx = images.shape[1:]
    # Behind the tangent plane there is nothing.
    x, y = (np.nan_to_num(np.clip(axis, -9, n + 9), nan=-9) for axis, n in ((x, nx), (y, ny)))
    left, low = np.floor(x).astype(int), np.floor(y).astype(int)
    total = np.zeros((len(images), *x.shape))
    for dy in (0, 1):
        for dx in (0, 1):
            col, row = left + dx, low + dy
            share = (1 - np.abs(x - col)) * (1 - np.abs(y - row))
            share *= (col >= 0) & (col < nx) & (row >= 0) & (row < ny)
            total += share * images[:, np.clip(row, 0, ny - 1), np.clip(col, 0, nx - 1)]
    return total


def draw(path: str | Path, images: Sequence[str | Path], title: str, size: int = 2000) -> None:
    """
    Draw the products of a filter, a panel per field.

    Parameters
    ----------
    path : str or path
        PNG file.
    images : sequence of path
        Small images, read one after the other.
    title : str
        Above the picture.
    size : int, optional
        Longer side of the picture, pixels, about.
    """
    grids = [covered_part(SmallImage.read(one)) for one in images]
    centers = np.stack([unit_vector(*grid.center) for grid in grids], axis=1)
    number = fields(centers, LINK)
    count = min(int(number.max()) + 1, PANELS)
    columns = int(np.ceil(np.sqrt(count)))
    side, gap, top = 7.0, 0.25, 0.3
    wide = columns * (side + gap) + gap
    high = -(-count // columns) * (side + top) + gap + 0.5
    figure = new_figure(wide, high, max(int(size * high / max(wide, high)), 100))
    dots = int(size * side / max(wide, high))
    for panel in range(count):
        mine = np.flatnonzero(number == panel)
        canvas = Canvas.around([grids[k] for k in mine], dots)
        whole = []
        for k in mine:
            image = SmallImage.read(images[k])
            canvas.add(image)
            whole.append(image.grid)
        x = gap + (side + gap) * (panel % columns)
        y = high - 0.5 - (side + top) * (panel // columns + 1)
        axes = figure.add_axes((x / wide, y / high, side / wide, side / high))
        _draw_field(
            axes, canvas, whole, f": {len(mine)} product{'s' * (len(mine) > 1)}" * (count > 1)
        )
    left = int(number.max()) + 1 - count
    note = f" ({left} more field{'s' * (left > 1)} left out)" if left else ""
    figure.text(gap / wide, 1 - 0.36 / high, title + note, color=INK, fontsize=13, weight="bold")
    figure.savefig(path, facecolor=PAPER, **PNG)


def _draw_field(axes, canvas: Canvas, grids: Sequence[Grid], note: str) -> None:
    """One field with its skycells and the lines of right ascension and declination, its middle above it."""
    half, middle = canvas.half, canvas.middle
    extent = (middle[0] - half, middle[0] + half, middle[1] - half, middle[1] + half)
    show = {"origin": "lower", "extent": extent, "cmap": shades(SHADES), "vmin": 0, "vmax": 1}
    axes.imshow(stretch(canvas.image()), **show)
    for grid in dict.fromkeys(grids):
        points = canvas.plane.to_plane(*outline(grid))
        axes.fill(*points, fc="none", ec=FAINT, lw=0.5, alpha=0.7)
    draw_graticule(axes, canvas.plane, middle, half)
    axes.set_facecolor(EMPTY)
    axes.set_xlim(extent[:2])
    axes.set_ylim(extent[2:])
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(FAINT)
    plane = canvas.plane
    label = f"RA {plane.ra:.4f}  Dec {round(plane.dec, 4) + 0.0:+.4f}{note}"
    axes.set_title(label, color=INK, fontsize=10, loc="left")
