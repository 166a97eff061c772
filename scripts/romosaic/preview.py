"""
Step `preview`: pictures of a product, and the small image that `color`, `overview` and `qa` look at.

The coadd with its sources beside a map of where it lies; its planes (`preview_planes`): coadd, number of
exposures, weight, outliers; a thumbnail of these for the report.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from . import association_file
from .coadd_file import CoaddBlocks
from .grid import Grid
from .pictures import (
    FAINT,
    INK,
    OWN,
    PAPER,
    PNG,
    QUIET,
    SHADES,
    draw_compass,
    draw_scale_bar,
    frame,
    new_figure,
    shades,
)
from .pixmap import PixelMap
from .preview_planes import Planes
from .sky_outlines import draw_outlines
from .small_image import SmallImage, block_grid, block_side, covered_box, shrink, stretch

#: Blocks along the longer side of a small image, at most.
SMALL = 1080
#: Inches; the resolution makes the height as many pixels as asked for.
_WIDTH, _HEIGHT = 12.6, 7.5


def small_image(coadd: CoaddBlocks, data: np.ndarray, grid: Grid) -> SmallImage:
    """
    Average a coadd down.

    Parameters
    ----------
    coadd : CoaddBlocks
        The file; its weights are read.
    data : (ny, nx) float32 array
        Its image, MJy/sr.
    grid : Grid
        Its grid.
    """
    side = block_side(data.shape, SMALL)
    weight = coadd.image("weight")
    # The fill value of uncovered pixels may be a number.
    small, covered = shrink(np.where(weight > 0, data, np.float32(np.nan)), side)
    return SmallImage(
        small, shrink(weight, side)[0], covered, block_grid(grid, side), coadd.optical_element
    )


def planes(
    coadd: CoaddBlocks, small: SmallImage, outliers: Mapping, records: Sequence[str | Path]
) -> Planes:
    """
    Put together what `preview_planes` draws.

    Parameters
    ----------
    coadd : CoaddBlocks
        The file; its context is read.
    small : SmallImage
        Its small image.
    outliers : mapping
        Result of `outlier_detection`.
    records : sequence of path
        Records of the exposures.
    """
    side = round(small.grid.pixel_scale / float(coadd.meta["wcsinfo"]["pixel_scale_ref"]))
    counts, unknown = outlier_counts(outliers["members"], records, small.grid)
    return Planes(small, coadd.depth(side), counts, unknown, coadd.weight_unit)


def outlier_counts(
    members: Sequence[Mapping], records: Sequence[str | Path], grid: Grid
) -> tuple[np.ndarray, int]:
    """
    Count flagged detector pixels on a grid.

    Parameters
    ----------
    members : sequence of mapping
        Of `outlier_detection`: exposure, shape, and `flagged`, flat indices into the detector's frame.
    records : sequence of path
        Records of the exposures; they hold the pixel maps.
    grid : Grid
        A grid, of pixels or blocks.

    Returns
    -------
    counts : (ny, nx) int array
        Number of pixels of all members.
    unknown : int
        Members that are left out: their map is no series, and stands with the images only.
    """
    counts = np.zeros(grid.ny * grid.nx, np.int64)
    texts = {r["exposure"]: r["pixmap"] for r in map(association_file.read, records)}
    unknown = [row["exposure"] for row in members if not texts[row["exposure"]]]
    for row in members:
        if row["exposure"] in unknown or not row["flagged"].size:
            continue
        pixmap = PixelMap.from_tree(json.loads(texts[row["exposure"]]))
        y, x = np.unravel_index(row["flagged"], row["shape"])
        place = grid.to_pixel(*pixmap.sky(x.astype(float), y.astype(float)))
        x, y = (np.rint(np.nan_to_num(axis, nan=-9)).astype(int) for axis in place)
        inside = (x >= 0) & (x < grid.nx) & (y >= 0) & (y < grid.ny)
        counts += np.bincount(y[inside] * grid.nx + x[inside], minlength=counts.size)
    return counts.reshape(grid.shape), len(unknown)


def draw(
    path: str | Path,
    data: np.ndarray,
    grid: Grid,
    *,
    title: str,
    x: np.ndarray,
    y: np.ndarray,
    footprints: Sequence[tuple[np.ndarray, np.ndarray]],
    cells: Sequence[Grid],
    shallow: np.ndarray | None = None,
    small: SmallImage | None = None,
    size: int = 1080,
) -> None:
    """
    Draw the picture of a product: the coadd with its sources beside a map of the sky.

    Parameters
    ----------
    path : str or path
        PNG file.
    data : (ny, nx) float32 array
        Coadd, MJy/sr.
    grid : Grid
        Its grid.
    title : str
        Name of the product.
    x, y : (n,) float arrays
        Pixel positions of the sources.
    footprints : sequence of (ra, dec)
        Vertices of the members' footprints, degrees.
    cells : sequence of Grid
        Grids of the skycells around, for the map.
    shallow : (n,) bool array, optional
        Sources where few exposures cover, which may be left-over cosmic rays; marked in grey.
    small : SmallImage, optional
        Small image of the coadd, if it is there already.
    size : int
        Height of the picture, pixels.
    """
    data = np.asarray(data)
    side = block_side(data.shape, SMALL)
    tiny, covered = (small.data, small.covered) if small else shrink(data, side)
    figure = new_figure(_WIDTH, _HEIGHT, size)
    image = figure.add_axes((0.055, 0.07, 0.5, 0.5 * _WIDTH / _HEIGHT))
    sky = figure.add_axes((0.655, 0.91 - 0.3 * _WIDTH / _HEIGHT, 0.3, 0.3 * _WIDTH / _HEIGHT))
    box = shown_pixels(covered, side, grid)
    part = (tiny, side) if box == (0, grid.ny, 0, grid.nx) and side > 1 else _part(data, box, size)
    shallow = np.zeros(len(x), bool) if shallow is None else shallow
    _draw_image(image, *part, grid, box, (np.asarray(x), np.asarray(y), shallow))
    draw_outlines(sky, grid, box, footprints, cells)
    letters = 13 * min(1, 80 / len(title)) if title else 13
    figure.text(0.055, 0.955, title, color=INK, fontsize=letters, weight="bold")
    facts = _facts(tiny, covered, grid, shallow, len(footprints))
    for number, (name, value) in enumerate(facts):
        height = 0.27 - 0.033 * number
        figure.text(0.655, height, name, color=QUIET, fontsize=9.5)
        figure.text(0.725, height, value, color=INK, fontsize=9.5)
    figure.savefig(path, facecolor=PAPER, **PNG)


def shown_pixels(covered: np.ndarray, side: int, grid: Grid) -> tuple[int, int, int, int]:
    """Pixels (y0, y1, x0, x1) of a grid to show, from the covered part of its blocks."""
    y0, y1, x0, x1 = covered_box(covered > 0)
    return y0 * side, min(y1 * side, grid.ny), x0 * side, min(x1 * side, grid.nx)


def _part(data: np.ndarray, box: tuple[int, int, int, int], size: int) -> tuple[np.ndarray, int]:
    """Average a part of the image down, and the side of the blocks."""
    y0, y1, x0, x1 = box
    side = block_side((y1 - y0, x1 - x0), size)
    return shrink(data[y0:y1, x0:x1], side)[0], side


def _facts(
    small: np.ndarray, covered: np.ndarray, grid: Grid, shallow: np.ndarray, n_exposures: int
) -> list[tuple[str, str]]:
    """What stands under the map."""
    doubtful = np.count_nonzero(shallow)
    sources = f"{len(shallow)}" + (f", {doubtful} at low depth (grey)" if doubtful else "")
    ra, dec = grid.center
    finite = small[np.isfinite(small)]
    median = f"{np.median(finite):.4g} MJy/sr" if finite.size else "no data"
    return [
        ("skycell", grid.skycell or "none: regular grid"),
        ("centre", f"RA {ra:.5f}  Dec {dec:+.5f}"),
        ("pixels", f"{grid.nx} x {grid.ny} of {grid.pixel_scale * 3600:.4g} arcsec"),
        ("covered", f"{100 * covered.mean():.3g} %"),
        ("median", median),
        ("made of", f"{n_exposures} exposure{'' if n_exposures == 1 else 's'}"),
        ("sources", sources),
    ]


def _draw_image(axes, small: np.ndarray, side: int, grid: Grid, box, sources) -> None:
    """Coadd as it is stored, with its sources, north and east."""
    y0, y1, x0, x1 = box
    extent = (x0 - 0.5, x0 + small.shape[1] * side - 0.5)
    extent += (y0 - 0.5, y0 + small.shape[0] * side - 0.5)
    show = {"origin": "lower", "cmap": shades(SHADES), "vmin": 0, "vmax": 1}
    axes.imshow(stretch(small), extent=extent, **show)
    x, y, shallow = sources
    ring = np.clip(200 / np.sqrt(max(len(x), 1)), 3.5, 10)
    style = {"ms": ring, "mfc": "none", "mew": 0.3 + 0.05 * ring, "alpha": 0.45 + 0.04 * ring}
    axes.plot(x[~shallow], y[~shallow], "o", mec=OWN, **style)
    axes.plot(x[shallow], y[shallow], "o", mec=FAINT, **style)
    if not np.isfinite(small).any():
        axes.text(0.5, 0.5, "no data", transform=axes.transAxes, color=INK, ha="center")
    axes.set_anchor("NW")
    axes.set_xlim(x0 - 0.5, x1 - 0.5)
    axes.set_ylim(y0 - 0.5, y1 - 0.5)
    part = "the covered part of the coadd" if x1 - x0 < grid.nx else "the coadd"
    frame(axes, f"{part}, sources marked", "x, pixels", "y, pixels")
    draw_compass(axes, grid, box)
    draw_scale_bar(axes, grid, box)
