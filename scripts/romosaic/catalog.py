"""
One catalog per filter: the sources of all products, each source once, as parquet by projection region.

Sources of overlapping skycells are in the catalogs of each; kept are those in the core of their skycell
(bit 59 of `flagged_spatial_id` is clear), and the cores share out the sky. Where a skycell has several
products of the filter (one per visit, say), each has its rows, and `product` tells them apart.

The files are those of a Hive-partitioned data set, ``region=<projection region>/part.parquet``, that
pyarrow, pandas, DuckDB and the importers of HATS catalogs read. Products on grids of their own belong to
no region and have no core: all their sources are kept, in region -1. (Hive's name for a missing value is
not read where all of a catalog is there.)

Products are read one after the other; a row group's rows are all that is held at a time. They are in the
order of `_healpix_29`, so that a reader of a piece of sky skips row groups by their statistics.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

from .atomic import atomic_folder
from .catalog_parquet import arrow_table
from .errors import ProductError, first_line

#: Partition of the products that lie on no skycell.
NO_REGION = "-1"
_ENDING = "_cat.parquet"
_OUTSIDE_CORE = 1 << 59
# Metadata of a product's table that holds for all products of a run.
_SHARED = ("parameters", "kron_params", "aperture_mask_method", "versions")


def merge(catalogs: Sequence[str | Path], folder: str | Path, row_group_size: int) -> int:
    """
    Write the catalog of a filter; it appears whole or not at all.

    Parameters
    ----------
    catalogs : sequence of path
        ``_cat.parquet`` files of the products.
    folder : str or path
        Folder to make; what it held before is replaced.
    row_group_size : int
        Most rows of a row group.

    Returns
    -------
    int
        Number of sources.

    Raises
    ------
    ProductError
        A catalog cannot be read, or has other columns than the first; the disk is full.
    """
    import pyarrow.parquet as pq

    paths = sorted(Path(path) for path in catalogs)
    regions = {path: _region(path) for path in paths}
    form = _form(paths)
    written = 0
    with atomic_folder(folder) as temporary:
        order = sorted((path for path in paths if regions[path] is not None), key=regions.get)
        parts = [(region, list(group)) for region, group in groupby(order, key=regions.get)]
        # Without any source there is still a file, that says which columns there are.
        for region, group in parts or [(NO_REGION, [])]:
            part = temporary / f"region={region}" / "part.parquet"
            part.parent.mkdir()
            with pq.ParquetWriter(part, form.schema, compression="zstd") as writer:
                for table in _row_groups(_primary(group, form.schema), row_group_size):
                    writer.write_table(table, row_group_size=row_group_size)
                    written += table.num_rows
    return written


def _region(path: Path) -> str | None:
    """Partition of a product's sources, from the statistics of its file; None without sources."""
    with _readable(path) as file:
        if file.metadata.num_rows == 0:
            return None
        column = file.schema_arrow.names.index("flagged_spatial_id")
        lowest = file.metadata.row_group(0).column(column).statistics.min
    return str(lowest >> 46 & 0x1FFF) if lowest else NO_REGION


def _form(paths: Sequence[Path]) -> Any:
    """Table without rows that has the columns and the metadata of the merged one."""
    from astropy.table import Column, Table

    with _readable(paths[0]):
        first = Table.read(paths[0])[:0]
    first.meta = {
        name: value
        for name, value in first.meta.items()
        if name in _SHARED or name.endswith("_flags")
    }
    longest = max(len(path.name.removesuffix(_ENDING)) for path in paths)
    text = "Product that the source was measured on"
    first["product"] = Column([], dtype=f"U{longest}", description=text)
    return arrow_table(first, {})


def _primary(paths: Iterable[Path], schema: Any) -> Iterator[Any]:
    """Sources of the products that are in their skycell's core, a row group of a file at a time."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for path in paths:
        with _readable(path) as file:
            if file.schema_arrow.names != schema.names[:-1]:
                raise ProductError(
                    path, f"has not the columns of {paths[0].name}", "make both with one version"
                )
            for number in range(file.num_row_groups):
                table = file.read_row_group(number)
                outside = pc.bit_wise_and(table["flagged_spatial_id"], _OUTSIDE_CORE)
                table = table.filter(pc.equal(outside, 0))
                name = pa.array([path.name.removesuffix(_ENDING)] * len(table), pa.string())
                yield table.append_column("product", name).cast(schema)


def _row_groups(tables: Iterable[Any], size: int) -> Iterator[Any]:
    """Join and cut tables to row groups, each in the order of its places on the sky."""
    import pyarrow as pa

    held: list[Any] = []
    for table in tables:
        held.append(table)
        while sum(map(len, held)) >= size:
            joined = pa.concat_tables(held)
            yield joined[:size].sort_by("_healpix_29")
            held = [joined[size:]]
    if sum(map(len, held)):
        yield pa.concat_tables(held).sort_by("_healpix_29")


@contextmanager
def _readable(path: Path) -> Iterator[Any]:
    """Open a product's catalog; what fails is that file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise ProductError(
            path, f"cannot be read as a catalog ({first_line(error)})", "delete it and run again"
        ) from error
