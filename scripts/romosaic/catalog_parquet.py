"""The catalog as parquet, as its data model lays it out, zstd-compressed."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .asdf_writer import Tagged
from .atomic import atomic

#: Rows of a row group: readers of a piece of sky skip groups by their statistics.
ROW_GROUP = 100_000


def write_parquet(path: str | Path, table: Any, meta: Mapping) -> None:
    """
    Write a catalog's table with all its metadata.

    The model's own `to_parquet` gives the same columns and metadata. It validates, imports pandas and does not
    compress: ten times the CPU seconds.

    Parameters
    ----------
    path : str or path
        File to make.
    table : astropy.table.Table
        The sources.
    meta : dict
        ``roman.meta`` of the catalog.
    """
    import pyarrow.parquet as pq

    meta = {**meta, "filename": Path(path).name}
    metadata = {key: str(value) for key, value in _leaves("roman.meta", meta)}
    metadata |= {key: str(value) for key, value in _leaves("source_catalog", table.meta)}
    with atomic(path) as temporary:
        pq.write_table(
            arrow_table(table, metadata),
            temporary,
            compression="zstd",
            row_group_size=ROW_GROUP,
            write_page_checksum=True,
        )


def arrow_table(table: Any, metadata: dict[str, str]) -> Any:
    """
    Turn a table into one for parquet that astropy reads back with units, descriptions and metadata.

    Parameters
    ----------
    table : astropy.table.Table
        Columns of numbers and texts.
    metadata : dict
        Further metadata of the file.

    Returns
    -------
    pyarrow.Table
    """
    import pyarrow as pa
    from astropy.table.meta import get_yaml_from_table

    columns = {name: np.asarray(table[name]) for name in table.colnames}
    arrays = [_arrow(values) for values in columns.values()]
    fields = [
        pa.field(name, array.type, metadata={"unit": str(table[name].unit)})
        for name, array in zip(columns, arrays, strict=True)
    ]
    metadata = metadata | {"table_meta_yaml": "\n".join(get_yaml_from_table(table))}
    # Without it astropy measures the longest text, and cannot where there are no rows.
    metadata |= {
        f"table::len::{name}": str(values.dtype.itemsize // 4)
        for name, values in columns.items()
        if values.dtype.kind == "U"
    }
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=metadata))


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Names and values of what nested dicts and lists hold."""
    if isinstance(value, Tagged):
        value = value.value
    if isinstance(value, dict | list | tuple):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in pairs:
            yield from _leaves(f"{name}.{key}", inner)
    elif value is not None:
        yield name, value


def _arrow(values: np.ndarray):
    """Arrow array of a column, made of its bytes: of values pyarrow would import pandas."""
    import pyarrow as pa

    if values.dtype.kind not in "biuf":
        texts = [str(value).encode() for value in values]
        ends = np.cumsum([0, *map(len, texts)], dtype=np.int32)
        buffers = pa.py_buffer(ends), pa.py_buffer(b"".join(texts))
        return pa.StringArray.from_buffers(len(texts), *buffers)
    bits = np.packbits(values, bitorder="little") if values.dtype == bool else values
    buffer = pa.py_buffer(np.ascontiguousarray(bits))
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, buffer])
