"""The planes of a product side by side: coadd, number of exposures, weight, outliers; large and small."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .pictures import (
    DEPTHS,
    FAINT,
    INK,
    JPEG,
    PAPER,
    PNG,
    QUIET,
    SHADES,
    SPARKS,
    draw_compass,
    draw_scale_bar,
    flatness,
    frame,
    new_figure,
    shades,
)
from .small_image import SmallImage, block_grid, covered_box, shrink, stretch

#: Side of the boxes in which outliers are counted, arcsec: single pixels would not be seen.
_BOX = 1.65
#: Blocks of the small image to a dot of the thumbnail.
_THUMBNAIL = 3


@dataclass(frozen=True)
class Planes:
    """
    What is drawn, all on the blocks of the small image.

    Attributes
    ----------
    small : SmallImage
        Coadd and weight.
    depth : (ny, nx) uint16 array
        Number of exposures of a pixel of each block.
    outliers : (ny, nx) int array
        Flagged detector pixels whose centre lies in the block.
    left_out : int
        Members whose outliers cannot be placed.
    weight_unit : str
        Unit of the weights; empty where they are numbers.
    """

    small: SmallImage
    depth: np.ndarray
    outliers: np.ndarray
    left_out: int = 0
    weight_unit: str = ""

    def coarser(self, side: int) -> "Planes":
        """Return the same with blocks of side x side of these."""
        small = self.small
        data, weight, covered = (
            shrink(array, side)[0] for array in (small.data, small.weight, small.covered)
        )
        grid = block_grid(small.grid, side)
        small = SmallImage(data, weight, covered, grid, small.optical_element)
        depth, counts = self.depth[::side, ::side], _join(self.outliers, np.add, side)
        return replace(self, small=small, depth=depth, outliers=counts)


def draw_planes(path: str | Path, planes: Planes, title: str, size: int = 1080) -> None:
    """
    Draw the four planes, two above two.

    Parameters
    ----------
    path : str or path
        PNG file.
    planes : Planes
        What is drawn.
    title : str
        Name of the product.
    size : int, optional
        Height of the picture of a square mosaic, pixels.
    """
    wide, side, square = 9.4, 4.3, 10.35
    box = covered_box(planes.small.covered > 0)
    tall = side * flatness(box)
    high = square - 2 * (side - tall)
    figure = new_figure(wide, high, size * high / square)
    for number, panel in enumerate(_panels(planes)):
        x, y = 0.3 + 4.5 * (number % 2), 0.45 + (tall + 0.6) * (1 - number // 2)
        axes = figure.add_axes((x / wide, y / high, side / wide, tall / high))
        image = _draw_panel(axes, panel, box)
        if number == 0:
            draw_compass(axes, planes.small.grid, box, 1.2)
            draw_scale_bar(axes, planes.small.grid, box)
        else:
            bar = figure.add_axes((x / wide, (y - 0.16) / high, side / wide, 0.09 / high))
            _draw_bar(figure, bar, image, whole=number in (1, 3))
    figure.text(0.3 / wide, 1 - 0.3 / high, title, color=INK, fontsize=11, weight="bold")
    figure.savefig(path, facecolor=PAPER, **PNG)


def draw_thumbnail(path: str | Path, planes: Planes, title: str) -> None:
    """
    Draw the four planes in a row: small, for the report.

    Parameters
    ----------
    path : str or path
        JPEG file.
    planes : Planes
        What is drawn.
    title : str
        Name of the product.
    """
    wide, side = 12.4, 3.0
    planes = planes.coarser(_THUMBNAIL)
    box = covered_box(planes.small.covered > 0)
    tall = side * flatness(box)
    high = tall + 0.55
    figure = new_figure(wide, high, 100 * high)
    for number, panel in enumerate(_panels(planes)):
        axes = figure.add_axes(
            ((0.05 + 3.1 * number) / wide, 0.05 / high, side / wide, tall / high)
        )
        image = _draw_panel(axes, panel, box)
        if number == 0:
            draw_compass(axes, planes.small.grid, box, 1.4)
            draw_scale_bar(axes, planes.small.grid, box)
        else:
            low, most = image.get_clim()
            axes.set_title(f"{low:.4g} to {most:.4g}", color=QUIET, fontsize=9, loc="right")
    figure.text(0.05 / wide, 1 - 0.2 / high, title, color=INK, fontsize=10, weight="bold")
    figure.savefig(path, facecolor=PAPER, **JPEG)


@dataclass(frozen=True)
class _Panel:
    """One plane: its image (NaN: not shown), title, colours, limits, blocks to a side of its dots."""

    image: np.ndarray
    label: str
    colors: tuple[str, ...]
    low: float
    high: float
    repeat: int = 1


def _panels(planes: Planes) -> list[_Panel]:
    small, empty = planes.small, ~(planes.small.covered > 0)
    depth = np.where(planes.depth > 0, planes.depth.astype(np.float32), np.nan)
    weight = np.where(empty, np.nan, small.weight)
    box = max(round(_BOX / (small.grid.pixel_scale * 3600)), 1)
    outliers = _join(planes.outliers, np.add, box).astype(np.float32)
    outliers[_join(empty, np.logical_and, box)] = np.nan
    deepest = float(np.nanmax(depth, initial=1))
    heaviest = float(np.nanpercentile(weight, 99.5)) if not empty.all() else 1.0
    most = float(max(np.nanpercentile(outliers, 99.8), 2)) if not empty.all() else 2.0
    arcsec = small.grid.pixel_scale * 3600 * box
    unit = planes.weight_unit.replace("^-2", "\N{SUPERSCRIPT MINUS}\N{SUPERSCRIPT TWO}")
    note = f", {planes.left_out} members not shown" if planes.left_out else ""
    return [
        _Panel(stretch(small.data), "coadd", SHADES, 0, 1),
        _Panel(depth, "exposures", DEPTHS, 0, deepest),
        _Panel(
            weight,
            f"weight, {unit}" if unit else "weight",
            DEPTHS,
            0,
            max(heaviest, 1e-30),
        ),
        _Panel(
            outliers,
            f"outliers, in {arcsec:.3g} x {arcsec:.3g} arcsec{note}",
            SPARKS,
            0,
            most,
            box,
        ),
    ]


def _draw_panel(axes, panel: _Panel, box: tuple[int, int, int, int]):
    y0, y1, x0, x1 = box
    show = {"origin": "lower", "cmap": shades(panel.colors), "vmin": panel.low, "vmax": panel.high}
    ny, nx = (panel.repeat * n for n in panel.image.shape)
    extent = (-0.5, nx - 0.5, -0.5, ny - 0.5)
    # Only the coadd has anything that averaging would save.
    show["interpolation"] = "antialiased" if panel.colors is SHADES else "nearest"
    image = axes.imshow(panel.image, extent=extent, **show)
    axes.set_anchor("SW")  # beside its colour bar, whatever the shape of the image
    axes.set_xlim(x0 - 0.5, x1 - 0.5)
    axes.set_ylim(y0 - 0.5, y1 - 0.5)
    frame(axes, panel.label)
    return image


def _draw_bar(figure, axes, image, whole: bool) -> None:
    from matplotlib.ticker import MaxNLocator

    bar = figure.colorbar(image, cax=axes, orientation="horizontal")
    bar.outline.set_edgecolor(FAINT)
    bar.locator = MaxNLocator(6, integer=whole)
    bar.update_ticks()
    axes.tick_params(colors=QUIET, labelsize=7.5, length=2, pad=2)


def _join(blocks: np.ndarray, add: np.ufunc, side: int) -> np.ndarray:
    """Join side x side blocks."""
    for axis, n in enumerate(blocks.shape):
        blocks = add.reduceat(blocks, np.arange(0, n, side), axis=axis)
    return blocks
