"""The sky picture of a plan: skycells by depth and the footprints, field by field."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .grid import Grid, sky_position, unit_vector
from .pictures import (
    DEPTHS,
    EMPTY,
    EXPOSURE,
    FAINT,
    INK,
    OWN,
    PAPER,
    PNG,
    QUIET,
    new_figure,
    shades,
)
from .plan import Planned
from .run_lines import count
from .sky_fields import fields
from .sky_plane import Plane, draw_graticule, outline

#: Panels drawn; the all-sky map shows the fields beyond.
PANELS = 12
#: Dots in half a panel, about.
_DOTS = 280
#: Height of a number on the all-sky map, points.
_LABEL = 9.0


@dataclass(frozen=True)
class Tile:
    """
    A skycell or regular grid of the picture.

    Attributes
    ----------
    grid : Grid
        Its grid.
    optical_element : str
        Filter.
    depth : float
        Number of exposures, mean over the grid.
    nearly_empty : bool
        Drawn with a dashed outline.
    """

    grid: Grid
    optical_element: str
    depth: float
    nearly_empty: bool


def contents(products: Sequence[Planned], table, exposures: dict[str, dict]) -> tuple[list, list]:
    """
    Tiles and footprints of a plan, for `draw`.

    Parameters
    ----------
    products : sequence of Planned
        The products.
    table : pandas.DataFrame
        Their rows, in the same order (`plan.make_table`).
    exposures : dict
        Records by exposure name; those that no product uses are left out.
    """
    depths = table["mean_depth"] * table["covered_fraction"]
    columns = zip(products, depths, table["nearly_empty"], strict=True)
    tiles = [Tile(p.grid, p.optical_element, float(d), bool(empty)) for p, d, empty in columns]
    used = dict.fromkeys(name for product in products for name in product.members)
    records = [exposures[name] for name in used]
    footprints = [
        (record["optical_element"], record["footprint"]["ra"], record["footprint"]["dec"])
        for record in records
    ]
    return tiles, footprints


def draw(
    path: str | Path,
    tiles: Sequence[Tile],
    footprints: Sequence[tuple[str, Sequence[float], Sequence[float]]],
    title: str = "",
) -> None:
    """
    Draw skycells and footprints: a panel per field and filter, and an all-sky map of several fields.

    Parameters
    ----------
    path : str or path
        PNG file.
    tiles : sequence of Tile
        Skycells and regular grids, one or more.
    footprints : sequence of (optical_element, ra, dec)
        Vertices of the exposures, degrees.
    title : str, optional
        Above the picture.
    """
    from matplotlib.colors import PowerNorm

    panels, middles = _panels(_merged(tiles), footprints)
    frames, several = _frames(panels), int(len(middles) > 1)
    shown = sorted(panels)[: PANELS - several]
    number = len(shown) + several
    columns = min(number, 4 if number > 6 else 3 if number > 4 else 2)
    inches = 6.6 if number <= 2 else 5.4 if number <= 4 else 4.6
    wide, high = max(inches * columns, 7.0), inches * -(-number // columns) + 1.1
    figure, colors = new_figure(wide, high, round(150 * high)), shades(DEPTHS)
    deepest = max(tile.depth for panel in panels.values() for tile in panel[0])
    norm = PowerNorm(0.6, vmin=0, vmax=max(deepest, 1))

    def place(number: int) -> tuple[float, float, float, float]:
        side = inches - 1.1
        x = (wide - inches * columns) / 2 + inches * (number % columns) + 0.75
        y = high - 0.4 - inches * (number // columns + 1) + 0.65
        return x / wide, y / high, side / wide, side / high

    if several:
        _draw_sky(figure.add_axes(place(0), projection="mollweide"), middles, tiles[0].grid.x_east)
    for number, key in enumerate(shown, several):
        label = f"{key[0] + 1}: {key[1]}" if several else key[1]
        axes = figure.add_axes(place(number))
        _draw_field(axes, label, panels[key], frames[key[0]], colors, norm)
    _color_bar(figure, colors, norm, high)
    left = len(panels) - len(shown)
    note = f" ({count(left, 'more panel')} left out)" if left else ""
    figure.text(0.25 / wide, 1 - 0.3 / high, title + note, color=INK, fontsize=10, weight="bold")
    figure.savefig(path, facecolor=PAPER, **PNG)


def _merged(tiles: Sequence[Tile]) -> list[Tile]:
    """One tile per grid and filter: the depths of its groups of exposures add up."""
    groups = defaultdict(list)
    for tile in tiles:
        groups[tile.grid, tile.optical_element].append(tile)
    return [
        Tile(
            grid,
            element,
            sum(tile.depth for tile in group),
            all(tile.nearly_empty for tile in group),
        )
        for (grid, element), group in groups.items()
    ]


def _panels(tiles: list[Tile], footprints: Sequence) -> tuple[dict, list[tuple[float, float]]]:
    """Tiles with their outlines and outlines of exposures by (field, filter); the middle of each field."""
    outlines = [outline(tile.grid) for tile in tiles]
    outlines += [np.stack([np.asarray(ra), np.asarray(dec)]) for _, ra, dec in footprints]
    centers = np.stack([_center(vertices) for vertices in outlines], axis=1)
    number = fields(centers).tolist()
    panels = defaultdict(lambda: ([], [], []))
    for i, tile in enumerate(tiles):
        own = panels[number[i], tile.optical_element]
        own[0].append(tile)
        own[1].append(outlines[i])
    for i, (element, _, _) in enumerate(footprints, len(tiles)):
        panels[number[i], element][2].append(outlines[i])
    middles = [
        sky_position(centers[:, np.equal(number, f)].sum(axis=1)) for f in range(max(number) + 1)
    ]
    return dict(panels), [(float(ra), float(dec)) for ra, dec in middles]


def _center(vertices: np.ndarray) -> np.ndarray:
    total = unit_vector(*vertices).sum(axis=1)
    return total / np.linalg.norm(total)


def _draw_sky(axes, middles: list[tuple[float, float]], x_east: bool) -> None:
    """All-sky map with the numbers of the fields, RA 0 in its middle."""
    axes.set_facecolor(EMPTY)
    axes.grid(color=FAINT, lw=0.4, alpha=0.6)
    sign = 1 if x_east else -1
    ticks = np.arange(-120, 121, 60)
    axes.set_xticks(np.radians(ticks), [f"{sign * tick % 360}\N{DEGREE SIGN}" for tick in ticks])
    axes.set_yticks(np.radians([-60, -30, 0, 30, 60]))
    axes.tick_params(colors=QUIET, labelsize=6.5)
    ra, dec = np.radians(np.array(middles)).T
    x = sign * ((ra + np.pi) % (2 * np.pi) - np.pi)
    axes.plot(x, dec, "o", ms=4, mfc=OWN, mec="none", alpha=0.9)
    dots = axes.transData.transform(np.stack([x, dec], axis=1)) * 72 / axes.figure.dpi
    near: dict[int, list[str]] = {}  # numbers that would cover each other stand in a row
    for number in range(min(len(middles), PANELS)):
        first = next((k for k in near if np.abs(dots[k] - dots[number]).max() < _LABEL), number)
        near.setdefault(first, []).append(f"{number + 1}")
    for first, numbers in near.items():
        axes.annotate(
            ", ".join(numbers),
            (x[first], dec[first]),
            (4, 3),
            textcoords="offset points",
            color=INK,
            fontsize=8,
        )
    axes.set_title(f"{len(middles)} fields", color=INK, fontsize=9, loc="left", pad=14)


def _frames(panels: dict) -> dict[int, tuple[Plane, np.ndarray, float]]:
    """Plane, middle and half width of each field: the same for all its filters."""
    members = defaultdict(lambda: ([], []))
    for (field, _), (tiles, outlines, exposures) in panels.items():
        members[field][0].extend(tiles)
        members[field][1].extend(outlines + exposures)
    frames = {}
    for field, (tiles, outlines) in members.items():
        ra, dec = sky_position(sum(_center(vertices) for vertices in outlines))
        plane = Plane(float(ra), float(dec), tiles[0].grid.x_east)
        points = plane.to_plane(*np.concatenate(outlines, axis=1))
        middle = (points.min(axis=1) + points.max(axis=1)) / 2
        frames[field] = plane, middle, 0.53 * float(np.ptp(points, axis=1).max())
    return frames


def _draw_field(axes, label, panel, frame, colors, norm) -> None:
    """Skycells coloured by depth under the outlines of the exposures, in the plane of their field."""
    from matplotlib.collections import PolyCollection

    (tiles, outlines, exposures), (plane, middle, half) = panel, frame
    # Outlines of nearly empty cells lie on top of their neighbours'.
    order = sorted(range(len(tiles)), key=lambda i: tiles[i].nearly_empty)
    cells = [plane.to_plane(*outlines[i]).T for i in order]
    empty = [tiles[i].nearly_empty for i in order]
    style = {
        "fc": colors(norm([tiles[i].depth for i in order])),
        "ec": [OWN if flag else PAPER for flag in empty],
        "ls": ["--" if flag else "-" for flag in empty],
    }
    # Cells of a few dots are nothing but their colour.
    dots = np.median([np.ptp(cell, axis=0).max() for cell in cells]) / half * _DOTS
    style |= {"lw": min(0.02 * dots, 1.2)} if dots > 12 else {"ec": "face", "ls": "-", "lw": 0.2}
    axes.add_collection(PolyCollection(cells, **style))
    draw_graticule(axes, plane, middle, half)
    if exposures:
        shapes = [plane.to_plane(*vertices).T for vertices in exposures]
        alpha, width = np.clip(6 / np.sqrt(len(shapes)), [0.08, 0.2], [0.9, 1.0]).tolist()
        axes.add_collection(PolyCollection(shapes, fc="none", ec=EXPOSURE, lw=width, alpha=alpha))
    _frame(axes, middle, half, plane.x_east)
    counts = f"{count(len(tiles), 'cell')}, {count(len(exposures), 'exposure')}"
    where = f"0 = RA {plane.ra:.4f}  Dec {round(plane.dec, 4) + 0.0:+.4f}"
    axes.set_title(f"{label}: {counts}\n{where}", color=INK, fontsize=8.5, loc="left")


def _frame(axes, middle: np.ndarray, half: float, x_east: bool) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    unit, factor = ("arcmin", 60) if half < 0.5 else ("degrees", 1)
    for axis in (axes.xaxis, axes.yaxis):
        reach = (np.abs(middle).max() + half) * factor
        steps = MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(-reach, reach)
        axis.set_ticks([value / factor for value in steps])
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * factor:.4g}"))
    axes.tick_params(colors=QUIET, labelsize=7, color=FAINT)
    axes.set_xlabel(f"{unit} to the {'east' if x_east else 'west'}", color=QUIET, fontsize=7.5)
    axes.set_ylabel(f"{unit} to the north", color=QUIET, fontsize=7.5)
    axes.set_facecolor(EMPTY)
    axes.set_aspect("equal")
    axes.set_xlim(middle[0] - half, middle[0] + half)
    axes.set_ylim(middle[1] - half, middle[1] + half)
    for spine in axes.spines.values():
        spine.set_color(FAINT)


def _color_bar(figure, colors, norm, high: float) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.ticker import MaxNLocator

    axes = figure.add_axes((0.3, 0.42 / high, 0.4, 0.11 / high))
    bar = figure.colorbar(ScalarMappable(norm, colors), cax=axes, orientation="horizontal")
    bar.outline.set_visible(False)
    bar.locator = MaxNLocator(5)
    axes.tick_params(colors=QUIET, labelsize=7, length=2, pad=2)
    text = "exposures, mean over the skycell (dashed: nearly empty)"
    axes.set_title(text, color=INK, fontsize=8, pad=3)
