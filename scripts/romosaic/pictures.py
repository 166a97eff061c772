"""What the pictures share: colours, frames, compass, scale bar, outlines of letters."""

import numpy as np

from .grid import Grid

PAPER, EMPTY, FAINT, INK = "#0d1220", "#1a2133", "#5b6b8c", "#e8ecf4"
OWN, EXPOSURE, QUIET = "#f0b429", "#5db0f5", "#93a0bd"
#: From the sky to the brightest sources.
SHADES = ("#03050a", "#1d2740", "#6d80a8", "#d9deea", "#fffaf0")
#: From a touch of an exposure to the deepest place.
DEPTHS = ("#1d2b45", "#24577a", "#2f8f83", "#8cc46a", "#f4e285")
#: From no outlier to many.
SPARKS = ("#03050a", "#5a3b2b", "#b0652a", "#f0b429", "#fff3c9")
#: How pictures are saved: noise does not get much smaller with more effort.
PNG = {"format": "png", "pil_kwargs": {"compress_level": 3}}
#: How thumbnails are saved.
JPEG = {"format": "jpg", "pil_kwargs": {"quality": 80, "optimize": True}}


def new_figure(width: float, height: float, pixels: float):
    """Make an empty figure of a width and height in inches, so many pixels high, drawn without a screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=pixels / height, facecolor=PAPER)
    FigureCanvasAgg(figure)
    return figure


def flatness(box: tuple[int, int, int, int]) -> float:
    """Height of the pixels (y0, y1, x0, x1) that are shown over their width, at most 1."""
    y0, y1, x0, x1 = box
    return min((y1 - y0) / (x1 - x0), 1.0)


def shades(colors: tuple[str, ...]):
    """Colour map through some colours; what has no value is `EMPTY`."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("shades", colors).with_extremes(bad=EMPTY)


def outlined(width: float = 2.5) -> dict:
    """Make lines and letters readable on any background."""
    from matplotlib.patheffects import withStroke

    return {"path_effects": [withStroke(linewidth=width, foreground=PAPER)]}


def frame(axes, label: str, x_label: str = "", y_label: str = "") -> None:
    """
    Give axes their colours, title and round ticks.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        The axes.
    label, x_label, y_label : str
        Title and names of the axes; without both names there are no ticks.
    """
    from matplotlib.ticker import MaxNLocator

    axes.set_facecolor(EMPTY)
    axes.tick_params(colors=INK, labelsize=8, color=FAINT)
    axes.set_title(label, color=INK, fontsize=10, loc="left")
    axes.set_xlabel(x_label, color=INK, fontsize=9)
    axes.set_ylabel(y_label, color=INK, fontsize=9)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    if not x_label and not y_label:
        axes.set_xticks([])
        axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(FAINT)


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


def draw_compass(axes, grid: Grid, box: tuple[int, int, int, int], scale: float = 1.0) -> None:
    """
    Draw arrows to north and east at the middle of a picture, in its upper right corner.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Axes in pixels of the grid.
    grid : Grid
        The grid.
    box : (y0, y1, x0, x1)
        Pixels that are shown.
    scale : float, optional
        Size of arrows and letters.
    """
    y0, y1, x0, x1 = box
    length = scale * min(0.06 * max(x1 - x0, y1 - y0), 0.2 * min(x1 - x0, y1 - y0))
    x, y = x1 - 1.9 * length, y1 - 1.9 * length
    for name, (dx, dy) in zip("NE", compass(grid, (x0 + x1) / 2, (y0 + y1) / 2), strict=True):
        tip = (x + length * dx, y + length * dy)
        arrow = {"arrowstyle": "->", "color": INK, "lw": 1.4, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", tip, (x, y), arrowprops=arrow | outlined())
        axes.text(
            x + 1.35 * length * dx,
            y + 1.35 * length * dy,
            name,
            color=INK,
            fontsize=10,
            weight="bold",
            ha="center",
            va="center",
            **outlined(),
        )


def draw_scale_bar(axes, grid: Grid, box: tuple[int, int, int, int]) -> None:
    """Draw a bar of round length in the lower left corner; parameters as for `draw_compass`."""
    y0, y1, x0, x1 = box
    width, height = x1 - x0, y1 - y0
    length = round_length(0.2 * width * grid.pixel_scale * 3600)
    x, y = x0 + 0.04 * width, y0 + 0.04 * height
    ends = [x, x + length / 3600 / grid.pixel_scale]
    axes.plot(ends, [y, y], color=INK, lw=2.5, solid_capstyle="butt", **outlined(5))
    above = {"xytext": (0, 5), "textcoords": "offset points"}
    axes.annotate(length_text(length), (x, y), **above, color=INK, fontsize=10, **outlined())


def length_text(arcsec: float) -> str:
    """Write a length in arcsec, arcmin or degrees."""
    if arcsec >= 3600:
        return f"{arcsec / 3600:.4g} deg"
    return f"{arcsec:g} arcsec" if arcsec < 60 else f"{arcsec / 60:g} arcmin"


def round_length(value: float) -> float:
    """Largest 1, 2 or 5 times a power of ten, or whole minute from 60 on, that is not larger than a value."""
    unit = 60.0 if value >= 60 else 1.0
    power = 10.0 ** np.floor(np.log10(value / unit))
    steps = [step * power * unit for step in (1, 2, 5)]
    return float(max(step for step in steps if step <= value * (1 + 1e-12)))
