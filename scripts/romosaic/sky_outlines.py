"""A map of where a product lies: its skycell, the skycells around, the footprints of its exposures."""

from collections.abc import Sequence

import numpy as np

from .grid import Grid
from .pictures import EXPOSURE, FAINT, INK, OWN, frame, outlined


def draw_outlines(
    axes,
    grid: Grid,
    box: tuple[int, int, int, int],
    footprints: Sequence[tuple[np.ndarray, np.ndarray]],
    cells: Sequence[Grid],
) -> None:
    """
    Draw skycells and footprints in the tangent plane of the product's middle: no trouble at a pole or RA 0.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Empty axes.
    grid : Grid
        Grid of the product.
    box : (y0, y1, x0, x1)
        Part of it that is shown beside the map.
    footprints : sequence of (ra, dec)
        Vertices of the members' footprints, degrees.
    cells : sequence of Grid
        Grids of the skycells around.
    """
    plane = Grid(*grid.center, 0, 0, 1 / 60, 1, 1, x_east=grid.x_east)
    own = np.stack(plane.to_pixel(*grid.corners()))
    outlines = [np.stack(plane.to_pixel(np.asarray(ra), np.asarray(dec))) for ra, dec in footprints]
    shown = np.concatenate([own, *outlines], axis=1)
    middle = (shown.min(axis=1) + shown.max(axis=1)) / 2
    half = 0.54 * float(np.ptp(shown, axis=1).max())
    for outline in outlines:
        axes.fill(*outline, fc=EXPOSURE, alpha=0.1, lw=0)
        axes.plot(*_closed(outline), color=EXPOSURE, lw=1.0, alpha=0.9, label="exposures")
    for cell in cells:
        if cell.skycell != grid.skycell:
            outline = np.stack(plane.to_pixel(*cell.corners()))
            axes.plot(*_closed(outline), color=FAINT, lw=0.9, label="skycells")
            _label(axes, cell, plane, middle, half, INK)
    axes.plot(*_closed(own), color=OWN, lw=2, label="this product")
    if grid.skycell:
        _label(axes, grid, plane, middle, half, OWN)
    y0, y1, x0, x1 = box
    if x1 - x0 < grid.nx:
        part = grid.to_sky(np.array([x0, x1, x1, x0]) - 0.5, np.array([y0, y0, y1, y1]) - 0.5)
        outline = np.stack(plane.to_pixel(*part))
        axes.plot(*_closed(outline), color=OWN, lw=1.2, ls=(0, (1, 1.5)), label="part shown")
    axes.set_aspect("equal")
    axes.set_xlim(middle[0] - half, middle[0] + half)
    axes.set_ylim(middle[1] - half, middle[1] + half)
    frame(axes, "", f"arcmin to the {'east' if grid.x_east else 'west'}", "arcmin to the north")
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
        labelcolor=INK,
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
        **outlined(),
    )
