"""Columns of a product's catalog, read without astropy."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .errors import REMAKE, ProductError, first_line


def read_columns(path: str | Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """
    Read some columns of a catalog.

    Parameters
    ----------
    path : str or path
        ``_cat.parquet`` file.
    names : sequence of str
        Columns.

    Returns
    -------
    dict of (n,) arrays
        By name.

    Raises
    ------
    ProductError
        The file is missing or damaged, or has no such column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read(columns=list(names))
        return {name: _numbers(table[name]) for name in names}
    except (OSError, pa.ArrowException, KeyError) as error:
        raise ProductError(
            path, f"cannot be read as a catalog ({first_line(error)})", REMAKE
        ) from error


def _numbers(column) -> np.ndarray:
    """Values of a column of numbers: its own conversion would import pandas."""
    if str(column.type) == "bool":
        return _numbers(column.cast("uint8")).astype(bool)
    parts = [np.from_dlpack(chunk) for chunk in column.chunks]
    return np.concatenate(parts) if parts else np.empty(0, column.type.to_pandas_dtype())
