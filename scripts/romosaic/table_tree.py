"""Tables as tagged trees: what asdf reads back as an `astropy.table.Table`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .asdf_writer import ASDF, Tagged

if TYPE_CHECKING:
    from astropy.table import Table

_ASTROPY = "tag:astropy.org:astropy/"


def columns_tree(columns: Mapping[str, np.ndarray]) -> Tagged:
    """Tree of a table of plain columns, (n,) arrays by name."""
    return _tree({name: {"data": data, "name": name} for name, data in columns.items()})


def table_tree(table: "Table") -> Tagged:
    """
    Tree of a table with units, descriptions and metadata.

    Parameters
    ----------
    table : astropy.table.Table
        Without masked columns; its metadata plain values.

    Returns
    -------
    Tagged
    """
    columns = {}
    for name in table.colnames:
        column = table[name]
        columns[name] = {"data": np.asarray(column), "name": name}
        if column.description:
            columns[name]["description"] = column.description
        if column.unit:
            columns[name]["unit"] = _unit(column.unit)
    return _tree(columns, {"meta": dict(table.meta)} if table.meta else None)


def _tree(columns: dict[str, dict], more: Mapping | None = None) -> Tagged:
    tagged = [Tagged(f"{ASDF}table/column-1.2.0", column) for column in columns.values()]
    tree = {"colnames": list(columns), "columns": tagged, "qtable": False, **(more or {})}
    return Tagged(f"{_ASTROPY}table/table-1.3.0", tree)


def _unit(unit: Any) -> Tagged:
    """Unit as asdf has it: magnitudes by the quantity they are the logarithm of."""
    if hasattr(unit, "physical_unit"):
        return Tagged(f"{_ASTROPY}units/magunit-1.1.0", unit.physical_unit.to_string())
    return Tagged(f"{ASDF}unit/unit-1.0.0", unit.to_string("vounit"))
