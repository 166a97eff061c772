"""
Rows of many catalogs in the order of their places on the sky, only some of them in memory at a time.

Files are looked through once: how many of their primary sources lie in which HEALPix pixel. Then the rows of a
range of pixels are gathered from the row groups that may hold some of them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .errors import REMAKE, ProductError, first_line

#: What the name of a product's catalog has behind that of the product.
ENDING = "_cat.parquet"
#: Column of the places: HEALPix indices of order 29, nested.
PLACE = "_healpix_29"
#: Order of the pixels in which sources are counted, 51 arcsec.
ORDER = 12
_OUTSIDE_CORE = 1 << 59


@dataclass(frozen=True)
class Places:
    """
    How many primary sources of which file lie in which pixel, in the order of the pixels.

    Attributes
    ----------
    paths : list of Path
        The files.
    pixels : (n,) int64 array
        HEALPix pixels of order 12, nested.
    files : (n,) int32 array
        Number of the file in `paths`.
    counts : (n,) int32 array
        Sources of the file in the pixel.
    """

    paths: list[Path]
    pixels: np.ndarray
    files: np.ndarray
    counts: np.ndarray

    @property
    def rows(self) -> int:
        """Number of sources."""
        return int(self.counts.sum())

    def ranges(self, max_rows: int) -> Iterator[tuple[int, int]]:
        """
        Cut the curve of places into ranges that can be held.

        Parameters
        ----------
        max_rows : int
            Most sources of a range, where single pixels have no more.

        Yields
        ------
        (first, end) : int
            Half-open range of `_healpix_29` with sources in it.
        """
        starts = np.flatnonzero(np.diff(self.pixels, prepend=-1))
        pixels, done = self.pixels[starts], np.append(0, np.cumsum(self.counts))
        done = done[np.append(starts, len(self.pixels))]
        begin, shift = 0, 2 * (29 - ORDER)
        while begin < len(pixels):
            end = int(np.searchsorted(done, done[begin] + max_rows, "right")) - 1
            end = max(end, begin + 1)
            yield int(pixels[begin]) << shift, int(pixels[end - 1]) + 1 << shift
            begin = end

    def gather(self, first: int, end: int, schema: Any) -> Any:
        """
        Read the primary sources of a range of places.

        Parameters
        ----------
        first, end : int
            Half-open range of `_healpix_29`; ends are borders of pixels.
        schema : pyarrow.Schema
            Columns of the result: those of the files, and ``product`` where they have none.

        Returns
        -------
        pyarrow.Table
            In the order of their places.
        """
        import pyarrow as pa

        borders = [place >> 2 * (29 - ORDER) for place in (first, end)]
        part = slice(*np.searchsorted(self.pixels, borders))
        tables = [schema.empty_table()]
        for path in (self.paths[number] for number in np.unique(self.files[part])):
            with readable(path) as file:
                for table in _rows(file, first, end):
                    if "product" not in table.column_names:
                        name = [path.name.removesuffix(ENDING)] * len(table)
                        table = table.append_column("product", pa.array(name, pa.string()))
                    tables.append(table.cast(schema))
        keys = [(name, "ascending") for name in (PLACE, "product", "label")]
        return pa.concat_tables(tables).sort_by(keys)


def look(catalogs: Sequence[str | Path]) -> Places:
    """
    Count the primary sources of catalogs by their places; those without a position have none.

    Parameters
    ----------
    catalogs : sequence of path
        Parquet files with the same columns.

    Returns
    -------
    Places

    Raises
    ------
    ProductError
        A catalog cannot be read, or has other columns than the first.
    """
    paths = [Path(path) for path in catalogs]
    columns: list[str] = []
    found = [(np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.int32))]
    for number, path in enumerate(paths):
        with readable(path) as file:
            columns = columns or file.schema_arrow.names
            if file.schema_arrow.names != columns:
                what = f"has not the columns of {paths[0].name}"
                raise ProductError(path, what, "make both with one version")
            for batch in file.iter_batches(columns=[PLACE, "flagged_spatial_id"]):
                outside = batch["flagged_spatial_id"].to_numpy() & _OUTSIDE_CORE
                places = batch[PLACE].to_numpy()
                places = places[(outside == 0) & (places >= 0)]
                pixels, counts = np.unique(places >> 2 * (29 - ORDER), return_counts=True)
                files = np.full(len(pixels), number, np.int32)
                found.append((pixels, files, counts.astype(np.int32)))
    pixels, files, counts = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.argsort(pixels, kind="stable")
    return Places(paths, pixels[order], files[order], counts[order])


def _rows(file: Any, first: int, end: int) -> Iterator[Any]:
    """Primary sources of a file in a range of places, by row groups; those without any are not read."""
    import pyarrow.compute as pc

    column = file.schema_arrow.names.index(PLACE)
    for number in range(file.num_row_groups):
        known = file.metadata.row_group(number).column(column).statistics
        if known and known.has_min_max and (known.max < first or known.min >= end):
            continue
        table = file.read_row_group(number)
        outside = pc.bit_wise_and(table["flagged_spatial_id"], _OUTSIDE_CORE)
        here = pc.and_(pc.greater_equal(table[PLACE], first), pc.less(table[PLACE], end))
        yield table.filter(pc.and_(pc.equal(outside, 0), here))


@contextmanager
def readable(path: Path) -> Iterator[Any]:
    """Open a catalog as `pyarrow.parquet.ParquetFile`; what fails is told as that file's fault."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise ProductError(
            path, f"cannot be read as a catalog ({first_line(error)})", REMAKE
        ) from error
