"""What the steps after `associate` read of its associations and records."""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from .grid import Grid


def wcs_info(grid: Grid) -> dict:
    """Return the keys of ``skycell_wcs_info``, and the handedness where it is not the usual one."""
    return grid.to_wcs_info() | ({} if grid.x_east else {"x_east": False})


def info_grid(info: dict) -> Grid:
    """Grid of what `wcs_info` returned; raises KeyError for a missing key."""
    return replace(Grid.from_wcs_info(info), x_east=bool(info.get("x_east", True)))


def read_grid(path: str | Path) -> Grid:
    """Grid on which the product of an association that `associate` wrote is made."""
    association = json.loads(Path(path).read_text())
    info = association["skycell_wcs_info"]
    return info_grid(info if isinstance(info, dict) else association["output_grid"])


def read_footprints(records: Iterable[str | Path]) -> list[tuple[list[float], list[float]]]:
    """Vertices (ra, dec), degrees, of the footprints in records that `associate` wrote."""
    footprints = [json.loads(Path(path).read_text())["footprint"] for path in records]
    return [(footprint["ra"], footprint["dec"]) for footprint in footprints]
