"""
One catalog per filter and projection region: the sources of all its products, each source once.

Sources of overlapping skycells are in the catalogs of each; kept are those in the core of their skycell
(bit 59 of `flagged_spatial_id` is clear), and the cores share out the sky, across the borders of regions too.
Where a skycell has several products of the filter (one per visit, say), each has its rows, and `product` tells
them apart. Products on grids of their own have no core: all their sources are kept, but for those without a
position (`_healpix_29` is -1).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .atomic import atomic
from .catalog_parquet import arrow_table
from .catalog_rows import ENDING, look, readable

# Metadata of a product's table that holds for all products of a run.
_SHARED = ("parameters", "kron_params", "aperture_mask_method", "versions")


def merge(catalogs: Sequence[str | Path], path: str | Path, max_rows: int) -> int:
    """
    Write the catalog of a filter in a projection region, in the order of `_healpix_29`.

    Parameters
    ----------
    catalogs : sequence of path
        ``_cat.parquet`` files of the products.
    path : str or path
        File to make.
    max_rows : int
        Most rows of a row group, where HEALPix pixels of 51 arcsec have no more.

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

    paths = sorted(Path(name) for name in catalogs)
    schema, places = _form(paths).schema, look(paths)
    with (
        atomic(path) as temporary,
        pq.ParquetWriter(temporary, schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        for first, end in places.ranges(max_rows):
            table = places.gather(first, end, schema)
            writer.write_table(table, row_group_size=len(table))
    return places.rows


def _form(paths: Sequence[Path]) -> Any:
    """Table without rows that has the columns and the metadata of the merged one."""
    from astropy.table import Column, Table

    with readable(paths[0]):
        first = Table.read(paths[0])[:0]
    first.meta = {
        name: value
        for name, value in first.meta.items()
        if name in _SHARED or name.endswith("_flags")
    }
    longest = max(len(path.name.removesuffix(ENDING)) for path in paths)
    text = "Product that the source was measured on"
    first["product"] = Column([], dtype=f"U{longest}", description=text)
    return arrow_table(first, {})
