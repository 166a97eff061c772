"""Step `preview`: one picture per product, the coadd with its sources beside a map of where it lies."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .grid import Grid

_FAINT, _SKY, _PAPER = "#5b6b8c", "#f0b429", "#0d1220"


def shrink(data: np.ndarray, size: int) -> tuple[np.ndarray, int]:
    """
    Average an image down to at most `size` pixels on its longer side.

    Parameters
    ----------
    data : (ny, nx) float array
        NaN where there is no data.
    size : int
        Pixels.

    Returns
    -------
    small : float32 array
        Mean of the finite values in each block, NaN where there is none.
    factor : int
        Side of a block, pixels.
    """
    factor = max(1, -(-max(data.shape) // size))
    ny, nx = (-(-n // factor) * factor for n in data.shape)
    padded = np.full((ny, nx), np.nan, np.float32)
    padded[: data.shape[0], : data.shape[1]] = data
    blocks = padded.reshape(ny // factor, factor, nx // factor, factor)
    finite = np.isfinite(blocks)
    count = finite.sum(axis=(1, 3))
    total = np.where(finite, blocks, 0).sum(axis=(1, 3), dtype=np.float64)
    small = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return small.astype(np.float32), factor


def stretch(image: np.ndarray) -> np.ndarray:
    """Asinh stretch from a little below the sky to the brightest thousandth, in [0, 1]; NaN stays NaN."""
    finite = image[np.isfinite(image)]
    if not finite.size:
        return image
    low, sky, high = np.percentile(finite, [1, 50, 99.9])
    noise = max(sky - np.percentile(finite, 16), 1e-12)
    low, high = sky - 3 * noise, max(high, sky + 20 * noise)
    scaled = np.arcsinh((image - low) / (3 * noise)) / np.arcsinh((high - low) / (3 * noise))
    return np.clip(scaled, 0, 1)


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
    size: int = 1080,
) -> None:
    """
    Draw the picture of a product.

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
    size : int
        Height of the picture, pixels.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(size * 1.72 / 100, size / 100), dpi=100, facecolor=_PAPER)
    FigureCanvasAgg(figure)
    image, sky = figure.subplots(1, 2, width_ratios=(1, 0.62))
    _draw_image(image, data, grid, x, y, size)
    _draw_map(sky, grid, footprints, cells)
    figure.suptitle(title, color="white", fontsize=13, x=0.02, ha="left")
    figure.subplots_adjust(left=0.045, right=0.985, bottom=0.055, top=0.93, wspace=0.12)
    figure.savefig(path, facecolor=_PAPER)


def _axes(axes, label: str, unit: str) -> None:
    axes.set_facecolor(_PAPER)
    axes.tick_params(colors="white", labelsize=8)
    axes.set_title(label, color="white", fontsize=10, loc="left")
    axes.set_xlabel(unit, color="white", fontsize=8)
    for spine in axes.spines.values():
        spine.set_color(_FAINT)


def _draw_image(axes, data: np.ndarray, grid: Grid, x, y, size: int) -> None:
    """Coadd with north and east; +x is shown as it is stored."""
    small, factor = shrink(data, size)
    extent = (-0.5, small.shape[1] * factor - 0.5, -0.5, small.shape[0] * factor - 0.5)
    axes.imshow(
        stretch(small), origin="lower", extent=extent, cmap="gray", vmin=0, vmax=1, aspect="equal"
    )
    axes.plot(
        x, y, "o", markersize=4, markerfacecolor="none", markeredgecolor=_SKY, markeredgewidth=0.4
    )
    axes.set_xlim(-0.5, grid.nx - 0.5)
    axes.set_ylim(-0.5, grid.ny - 0.5)
    _axes(axes, f"coadd and its {len(x)} sources", "x, pixels")
    _compass(axes, grid)
    bar = _round_length(0.15 * grid.nx * grid.pixel_scale * 3600)
    x0, y0 = 0.05 * grid.nx, 0.04 * grid.ny
    axes.plot([x0, x0 + bar / 3600 / grid.pixel_scale], [y0, y0], color="white", lw=2)
    axes.text(x0, y0 + 0.012 * grid.ny, f'{bar:g}"', color="white", fontsize=9)


def _compass(axes, grid: Grid) -> None:
    """Arrows to north and east at the middle of the grid, drawn in a corner."""
    ra, dec = grid.center
    step = 0.05 * grid.nx * grid.pixel_scale
    plane = Grid(ra, dec, 0, 0, 1, 1, 1)
    ra_to, dec_to = plane.to_sky(np.array([0, step]), np.array([step, 0]))
    x, y = grid.to_pixel(ra_to, dec_to)
    cx, cy = (grid.nx - 1) / 2, (grid.ny - 1) / 2
    x0, y0 = 0.9 * grid.nx, 0.88 * grid.ny
    for name, dx, dy in zip("NE", x - cx, y - cy, strict=True):
        axes.annotate(
            "", (x0 + dx, y0 + dy), (x0, y0), arrowprops={"arrowstyle": "->", "color": "white"}
        )
        axes.text(
            x0 + 1.3 * dx, y0 + 1.3 * dy, name, color="white", ha="center", va="center", fontsize=9
        )


def _round_length(value: float) -> float:
    """Largest 1, 2 or 5 times a power of ten that is not larger than a value."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(max(step * power for step in (1, 2, 5) if step * power <= value))


def _draw_map(axes, grid: Grid, footprints, cells: Sequence[Grid]) -> None:
    """Skycells and footprints in the tangent plane of the product's middle: no trouble at a pole or RA 0."""
    plane = Grid(*grid.center, 0, 0, 1 / 60, 1, 1)
    for cell in cells:
        mine = cell.skycell is not None and cell.skycell == grid.skycell
        _polygon(axes, plane, cell.corners(), _SKY if mine else _FAINT, 1.8 if mine else 0.8)
        if cell.skycell:
            px, py = plane.to_pixel(*cell.center)
            axes.text(px, py, cell.skycell, color="white", fontsize=8, ha="center", va="center")
    if grid.skycell is None:
        _polygon(axes, plane, grid.corners(), _SKY, 1.8)
    for ra, dec in footprints:
        _polygon(axes, plane, (ra, dec), "#4dabf7", 1.0, fill=True)
    axes.set_aspect("equal")
    axes.autoscale_view()
    _axes(axes, f"skycells and the {len(footprints)} exposures", "offset, arcminutes (east right)")


def _polygon(axes, plane: Grid, vertices, color: str, width: float, fill: bool = False) -> None:
    px, py = plane.to_pixel(np.asarray(vertices[0]), np.asarray(vertices[1]))
    axes.plot(np.append(px, px[0]), np.append(py, py[0]), color=color, lw=width)
    if fill:
        axes.fill(px, py, color=color, alpha=0.08, lw=0)
