"""What the steps after `associate` read of its associations and records."""

import json
from collections.abc import Iterable
from pathlib import Path

from .grid import Grid


def output_grid(association: dict) -> Grid:
    """Grid on which the product of an association that `associate` wrote is made."""
    info = association["skycell_wcs_info"]
    return Grid.from_wcs_info(info if isinstance(info, dict) else association["output_grid"])


def read(path: str | Path) -> dict:
    """Read an association file."""
    return json.loads(Path(path).read_text())


def read_grid(path: str | Path) -> Grid:
    """Read the `output_grid` of an association file."""
    return output_grid(read(path))


def read_footprints(records: Iterable[str | Path]) -> list[tuple[list[float], list[float]]]:
    """Vertices (ra, dec), degrees, of the footprints in records that `associate` wrote."""
    footprints = [json.loads(Path(path).read_text())["footprint"] for path in records]
    return [(footprint["ra"], footprint["dec"]) for footprint in footprints]
