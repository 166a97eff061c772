"""Step `preview`: one picture per product, the coadd with its sources beside a map of where it lies."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .grid import Grid

_PAPER, _EMPTY, _FAINT, _INK = "#0d1220", "#1a2133", "#5b6b8c", "#e8ecf4"
_OWN, _EXPOSURE, _QUIET = "#f0b429", "#5db0f5", "#93a0bd"
#: From the sky to the brightest sources.
_SHADES = ("#03050a", "#1d2740", "#6d80a8", "#d9deea", "#fffaf0")
#: Inches; the resolution makes the height as many pixels as asked for.
_WIDTH, _HEIGHT = 12.6, 7.5


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
    faint, sky, bright = np.percentile(finite, [16, 50, 99.9]).astype(float)
    noise = max(sky - faint, 1e-6 * abs(sky), 1e-12)
    low, high = sky - 1.5 * noise, max(bright, sky + 30 * noise)
    # The knee at three sigma: below it noise is shown as it is, above it four decades fit in.
    scaled = np.arcsinh((image - low) / (3 * noise)) / np.arcsinh((high - low) / (3 * noise))
    return np.clip(scaled, 0, 1)


def covered_box(data: np.ndarray) -> tuple[int, int, int, int]:
    """
    Part of an image to show: what is covered and a little more, or everything when most of it is.

    Parameters
    ----------
    data : (ny, nx) float array
        NaN where there is no data.

    Returns
    -------
    y0, y1, x0, x1 : int
        Half-open; the whole image when nothing is covered.
    """
    ny, nx = data.shape
    finite = np.isfinite(data)
    rows, columns = (np.flatnonzero(finite.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return 0, ny, 0, nx
    margin = 8 + max(np.ptp(rows), np.ptp(columns)) // 25
    y0, y1 = max(int(rows[0] - margin), 0), min(int(rows[-1] + margin + 1), ny)
    x0, x1 = max(int(columns[0] - margin), 0), min(int(columns[-1] + margin + 1), nx)
    if max((y1 - y0) / ny, (x1 - x0) / nx) > 0.85:
        return 0, ny, 0, nx
    return y0, y1, x0, x1


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
    shallow : (n,) bool array, optional
        Sources where few exposures cover, which may be left-over cosmic rays; marked in grey.
    size : int
        Height of the picture, pixels.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    data = np.asarray(data)
    figure = Figure(figsize=(_WIDTH, _HEIGHT), dpi=size / _HEIGHT, facecolor=_PAPER)
    FigureCanvasAgg(figure)
    image = figure.add_axes((0.055, 0.07, 0.5, 0.5 * _WIDTH / _HEIGHT))
    sky = figure.add_axes((0.655, 0.91 - 0.3 * _WIDTH / _HEIGHT, 0.3, 0.3 * _WIDTH / _HEIGHT))
    box = covered_box(data)
    shallow = np.zeros(len(x), bool) if shallow is None else shallow
    _draw_image(image, data, grid, box, (np.asarray(x), np.asarray(y), shallow), size)
    _draw_map(sky, grid, box, footprints, cells)
    letters = 13 * min(1, 80 / len(title)) if title else 13
    figure.text(0.055, 0.955, title, color=_INK, fontsize=letters, weight="bold")
    for number, (name, value) in enumerate(_facts(data, grid, shallow, len(footprints))):
        height = 0.27 - 0.033 * number
        figure.text(0.655, height, name, color=_QUIET, fontsize=9.5)
        figure.text(0.725, height, value, color=_INK, fontsize=9.5)
    figure.savefig(path, facecolor=_PAPER, format="png")


def _facts(data: np.ndarray, grid: Grid, shallow, n_exposures: int) -> list[tuple[str, str]]:
    """What stands under the map."""
    doubtful = np.count_nonzero(shallow)
    sources = f"{len(shallow)}" + (f", {doubtful} at low depth (grey)" if doubtful else "")
    ra, dec = grid.center
    finite = data[np.isfinite(data)]
    median = f"{np.median(finite):.4g} MJy/sr" if finite.size else "no data"
    return [
        ("skycell", grid.skycell or "none: regular grid"),
        ("centre", f"RA {ra:.5f}  Dec {dec:+.5f}"),
        ("pixels", f"{grid.nx} x {grid.ny} of {grid.pixel_scale * 3600:.4g} arcsec"),
        ("covered", f"{100 * finite.size / data.size:.3g} %"),
        ("median", median),
        ("made of", f"{n_exposures} exposure{'' if n_exposures == 1 else 's'}"),
        ("sources", sources),
    ]


def _frame(axes, label: str, x_label: str, y_label: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_facecolor(_EMPTY)
    axes.tick_params(colors=_INK, labelsize=8, color=_FAINT)
    axes.set_title(label, color=_INK, fontsize=10, loc="left")
    axes.set_xlabel(x_label, color=_INK, fontsize=9)
    axes.set_ylabel(y_label, color=_INK, fontsize=9)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    for spine in axes.spines.values():
        spine.set_color(_FAINT)


def _draw_image(axes, data, grid: Grid, box, sources, size: int) -> None:
    """Coadd as it is stored, with its sources, north and east."""
    from matplotlib.colors import LinearSegmentedColormap

    y0, y1, x0, x1 = box
    small, factor = shrink(data[y0:y1, x0:x1], size)
    shades = LinearSegmentedColormap.from_list("sky", _SHADES).with_extremes(bad=_EMPTY)
    extent = (x0 - 0.5, x0 + small.shape[1] * factor - 0.5)
    extent += (y0 - 0.5, y0 + small.shape[0] * factor - 0.5)
    axes.imshow(stretch(small), origin="lower", extent=extent, cmap=shades, vmin=0, vmax=1)
    x, y, shallow = sources
    side = np.clip(200 / np.sqrt(max(len(x), 1)), 3.5, 10)
    ring = {"ms": side, "mfc": "none", "mew": 0.3 + 0.05 * side, "alpha": 0.45 + 0.04 * side}
    axes.plot(x[~shallow], y[~shallow], "o", mec=_OWN, **ring)
    axes.plot(x[shallow], y[shallow], "o", mec=_FAINT, **ring)
    if not np.isfinite(small).any():
        axes.text(0.5, 0.5, "no data", transform=axes.transAxes, color=_INK, ha="center")
    axes.set_anchor("NW")
    axes.set_xlim(x0 - 0.5, x1 - 0.5)
    axes.set_ylim(y0 - 0.5, y1 - 0.5)
    part = "the covered part of the coadd" if x1 - x0 < grid.nx else "the coadd"
    _frame(axes, f"{part}, sources marked", "x, pixels", "y, pixels")
    _compass(axes, grid, box)
    _scale_bar(axes, grid, box)


def _outlined(width: float = 2.5) -> dict:
    """Make lines and letters readable on any background."""
    from matplotlib.patheffects import withStroke

    return {"path_effects": [withStroke(linewidth=width, foreground=_PAPER)]}


def compass(grid: Grid, x: float, y: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """
    Unit vectors to north and to east at a pixel, in pixel coordinates (dx, dy).

    Parameters
    ----------
    grid : Grid
        The image's grid.
    x, y : float
        0-based pixel.
    """
    ra, dec = grid.to_sky(x, y)
    plane = Grid(float(ra), float(dec), 0, 0, grid.pixel_scale, 1, 1)
    # East and north in the tangent plane of the place itself: right at a pole too.
    to = grid.to_pixel(*plane.to_sky(np.array([0.0, 1.0]), np.array([1.0, 0.0])))
    steps = np.stack([to[0] - x, to[1] - y], axis=1)
    north, east = steps / np.linalg.norm(steps, axis=1, keepdims=True)
    return (float(north[0]), float(north[1])), (float(east[0]), float(east[1]))


def _compass(axes, grid: Grid, box) -> None:
    """Arrows to north and east at the middle of the picture, in its upper right corner."""
    y0, y1, x0, x1 = box
    length = min(0.06 * max(x1 - x0, y1 - y0), 0.2 * min(x1 - x0, y1 - y0))
    x, y = x1 - 1.9 * length, y1 - 1.9 * length
    for name, (dx, dy) in zip("NE", compass(grid, (x0 + x1) / 2, (y0 + y1) / 2), strict=True):
        tip = (x + length * dx, y + length * dy)
        arrow = {"arrowstyle": "->", "color": _INK, "lw": 1.4, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", tip, (x, y), arrowprops=arrow | _outlined())
        axes.text(
            x + 1.35 * length * dx,
            y + 1.35 * length * dy,
            name,
            color=_INK,
            fontsize=10,
            weight="bold",
            ha="center",
            va="center",
            **_outlined(),
        )


def _scale_bar(axes, grid: Grid, box) -> None:
    y0, y1, x0, x1 = box
    width, height = x1 - x0, y1 - y0
    length = round_length(0.2 * width * grid.pixel_scale * 3600)
    x, y = x0 + 0.04 * width, y0 + 0.04 * height
    ends = [x, x + length / 3600 / grid.pixel_scale]
    axes.plot(ends, [y, y], color=_INK, lw=2.5, solid_capstyle="butt", **_outlined(5))
    text = f"{length:g} arcsec" if length < 60 else f"{length / 60:g} arcmin"
    axes.text(x, y + 0.015 * height, text, color=_INK, fontsize=10, **_outlined())


def round_length(value: float) -> float:
    """Largest 1, 2 or 5 times a power of ten, or whole minute from 60 on, that is not larger than a value."""
    unit = 60.0 if value >= 60 else 1.0
    power = 10.0 ** np.floor(np.log10(value / unit))
    steps = [step * power * unit for step in (1, 2, 5)]
    return float(max(step for step in steps if step <= value * (1 + 1e-12)))


def _draw_map(axes, grid: Grid, box, footprints, cells: Sequence[Grid]) -> None:
    """Skycells and footprints in the tangent plane of the product's middle: no trouble at a pole or RA 0."""
    plane = Grid(*grid.center, 0, 0, 1 / 60, 1, 1, x_east=grid.x_east)
    own = np.stack(plane.to_pixel(*grid.corners()))
    outlines = [np.stack(plane.to_pixel(np.asarray(ra), np.asarray(dec))) for ra, dec in footprints]
    shown = np.concatenate([own, *outlines], axis=1)
    middle = (shown.min(axis=1) + shown.max(axis=1)) / 2
    half = 0.54 * float(np.ptp(shown, axis=1).max())
    for outline in outlines:
        axes.fill(*outline, fc=_EXPOSURE, alpha=0.1, lw=0)
        axes.plot(*_closed(outline), color=_EXPOSURE, lw=1.0, alpha=0.9, label="exposures")
    for cell in cells:
        if cell.skycell != grid.skycell:
            outline = np.stack(plane.to_pixel(*cell.corners()))
            axes.plot(*_closed(outline), color=_FAINT, lw=0.9, label="skycells")
            _label(axes, cell, plane, middle, half, _INK)
    axes.plot(*_closed(own), color=_OWN, lw=2, label="this product")
    if grid.skycell:
        _label(axes, grid, plane, middle, half, _OWN)
    y0, y1, x0, x1 = box
    if x1 - x0 < grid.nx:
        part = grid.to_sky(np.array([x0, x1, x1, x0]) - 0.5, np.array([y0, y0, y1, y1]) - 0.5)
        outline = np.stack(plane.to_pixel(*part))
        axes.plot(*_closed(outline), color=_OWN, lw=1.2, ls=(0, (1, 1.5)), label="part shown")
    axes.set_aspect("equal")
    axes.set_xlim(middle[0] - half, middle[0] + half)
    axes.set_ylim(middle[1] - half, middle[1] + half)
    _frame(axes, "", f"arcmin to the {'east' if grid.x_east else 'west'}", "arcmin to the north")
    _legend(axes)


def _legend(axes) -> None:
    """Say above the map what its lines are, each kind once."""
    handles, names = axes.get_legend_handles_labels()
    kinds = dict(zip(names, handles, strict=True))
    axes.legend(
        kinds.values(),
        kinds.keys(),
        loc="lower left",
        bbox_to_anchor=(-0.02, 0.985),
        ncols=4,
        frameon=False,
        fontsize=8.5,
        labelcolor=_INK,
        handlelength=1.3,
        columnspacing=1.2,
    )


def _closed(outline: np.ndarray) -> np.ndarray:
    return np.concatenate([outline, outline[:, :1]], axis=1)


def _label(axes, cell: Grid, plane: Grid, middle: np.ndarray, half: float, color: str) -> None:
    """Name of a skycell in the middle of what is seen of it, if that is enough for the letters."""
    steps = np.linspace(-0.98, 0.98, 33) * half
    u, v = (axis.ravel() for axis in np.meshgrid(middle[0] + steps, middle[1] + steps))
    x, y = cell.to_pixel(*plane.to_sky(u, v))
    inside = (x > 0) & (x < cell.nx) & (y > 0) & (y < cell.ny)
    if inside.mean() < 0.02 or np.ptp(u[inside]) < 0.35 * half:
        return
    axes.text(
        # Far enough from the rim for half a name.
        np.clip(u[inside].mean(), middle[0] - 0.74 * half, middle[0] + 0.74 * half),
        v[inside].mean(),
        cell.skycell,
        color=color,
        fontsize=8,
        ha="center",
        va="center",
        clip_on=True,
        **_outlined(),
    )
