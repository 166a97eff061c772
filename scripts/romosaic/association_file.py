"""What the rules, and the steps after `associate`, read of its associations and records."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import AssociationError
from .names import exposure_name

if TYPE_CHECKING:  # imports numpy, for which the start of a run has no use
    from .grid import Grid

_DAMAGED = ValueError, TypeError, KeyError, IndexError, AttributeError


@contextmanager
def damage_told(path: str | Path) -> Iterator[None]:
    """Say which file is damaged, and what to do."""
    todo = "run again: it is then written anew"
    try:
        yield
    except FileNotFoundError as error:
        raise AssociationError(path, "is missing", todo) from error
    except _DAMAGED as error:
        what = f"is damaged ({type(error).__name__}: {error})"
        raise AssociationError(path, what, todo) from error


def read(path: str | Path) -> dict:
    """
    Read an association, or the record of an exposure.

    Raises
    ------
    AssociationError
        The file is damaged or missing.
    """
    with damage_told(path):
        return json.loads(Path(path).read_bytes())


def member_names(association: dict) -> list[str]:
    """Names of the exposures of the product of an association."""
    return [exposure_name(member["expname"]) for member in association["products"][0]["members"]]


def grid_info(association: dict) -> dict:
    """Numbers of the grid on which the product of an association is made."""
    info = association["skycell_wcs_info"]
    return info if isinstance(info, dict) else association["output_grid"]


def output_grid(association: dict) -> "Grid":
    """Grid on which the product of an association is made."""
    from .grid import Grid

    return Grid.from_wcs_info(grid_info(association))


def read_grid(path: str | Path) -> "Grid":
    """Read the `output_grid` of an association file."""
    return output_grid(read(path))


def read_footprints(records: Iterable[str | Path]) -> list[tuple[list[float], list[float]]]:
    """Vertices (ra, dec), degrees, of the footprints in records of exposures."""
    footprints = [read(path)["footprint"] for path in records]
    return [(footprint["ra"], footprint["dec"]) for footprint in footprints]
