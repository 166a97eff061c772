"""Names of skycells: how they are made and read, and what to say of one that does not exist."""

import re

import numpy as np

from .errors import SkymapError
from .grid import unit_vector

_NAME = re.compile(r"(\d{3}[pm]\d{2})x(\d{2})y(\d{2})")
#: What a hand may have typed for a name: capitals, signs, missing zeros.
_LOOSE_NAME = re.compile(r"\s*(\d{1,3})([pm+-])(\d{1,2})x(\d{1,2})y(\d{1,2})\s*", re.IGNORECASE)
_NAME_OF_2024 = re.compile(r"[a-z]\d{3}d[pm]\d{2}x[pm]?\d+y[pm]?\d+")
#: Polar caps up to July 2025, and how their lattice turns into the present one: new (row, col) of an old
#: (row, col). The caps' tangent points then were at other right ascensions, 90 degrees away.
_OLD_CAPS = {
    "225p90": ("135p90", lambda row, col: (-col, row)),
    "135m90": ("225m90", lambda row, col: (col, -row)),
}
_EXAMPLE = "names look like 135p90x51y67"


def region_prefix(ra: float, dec: float) -> str:
    """First part of the names in a region: its tangent point (degrees) rounded, halves to even."""
    return f"{round(ra):03d}{'m' if dec < 0 else 'p'}{round(abs(dec)):02d}"


def format_name(prefix: str, row: int, col: int) -> str:
    """Name of the cell at a place; the field x holds the row (northward), y the column (eastward)."""
    return f"{prefix}x{row + 50:02d}y{col + 50:02d}"


def parse_name(name: str) -> tuple[str, int, int] | None:
    """Prefix, row and column of a name; None when it is not written as one."""
    match = _NAME.fullmatch(name)
    return match and (match[1], int(match[2]) - 50, int(match[3]) - 50)


def unknown_name(tables, name: object) -> SkymapError:
    """
    Error for a name that no cell of a map has: says why, as far as the name tells, and what is near.

    Parameters
    ----------
    tables : AnalyticTables or ReferenceTables
        Where the name was looked up.
    name : object
        The name.
    """
    name = str(name)
    if _NAME_OF_2024.fullmatch(name):
        return SkymapError(
            tables.where,
            f"{name} is a skycell name of 2024, of a tessellation that is no longer used",
            "find the present skycell by its position (SkyMap.primary_cell)",
        )
    loose = _LOOSE_NAME.fullmatch(name)
    if loose is None:
        return SkymapError(tables.where, f"{name!r} is not a skycell name", _EXAMPLE)
    ra, sign, dec, x, y = loose.groups()
    prefix = f"{int(ra):03d}{'m' if sign in 'mM-' else 'p'}{int(dec):02d}"
    row, col = int(x) - 50, int(y) - 50
    near = f"the nearest are {', '.join(_nearest(tables, prefix, row, col))}"
    present = _present_name(tables, prefix, row, col)
    if present:
        return SkymapError(
            tables.where,
            f"there is no skycell {name} (a name from before July 2025, when the field x held the column?)",
            f"the skycell of that old name is now {present}; {near}",
        )
    return SkymapError(tables.where, f"there is no skycell {name}", near)


def _present_name(tables, prefix: str, row: int, col: int) -> str | None:
    """Present name of an old name whose fields read as (row, col) by the present rule."""
    if prefix in _OLD_CAPS:
        prefix, turned = _OLD_CAPS[prefix]
        row, col = turned(col, row)
    else:
        row, col = col, row
    if max(abs(row), abs(col)) > 49:
        return None
    name = format_name(prefix, row, col)
    return name if tables.locate(name) else None


def _nearest(tables, prefix: str, row: int, col: int) -> list[str]:
    """Names of the three cells nearest to a place, of the region nearest to the tangent point of a prefix."""
    region = tables.prefixes.get(prefix)
    if region is None:
        dec = min(float(prefix[4:6]), 90.0) * (-1 if prefix[3] == "m" else 1)
        target = unit_vector(float(prefix[:3]), dec)
        region = int(np.argmax(tables.regions.frames[:, 2] @ target))
    lattice = tables.lattice(region)
    distance = (lattice.rows - row) ** 2 + (lattice.cols - col) ** 2
    return tables.names(region, np.argsort(distance, kind="stable")[:3])
