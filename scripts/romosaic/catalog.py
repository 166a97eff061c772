"""
One catalog per filter: the sources of all products, each source once, in the HATS layout that LSDB reads.

Sources of overlapping skycells are in the catalogs of each; kept are those in the core of their skycell
(bit 59 of `flagged_spatial_id` is clear), and the cores share out the sky. Where a skycell has several
products of the filter (one per visit, say), each has its rows, and `product` tells them apart. Products on
grids of their own have no core: all their sources are kept.

HATS (Hierarchical Adaptive Tiling Scheme, IVOA Note 1.0 of August 2025) is a folder of parquet files, one for
each HEALPix pixel of a partition of the sky: pixels are as large as `max_rows` allows. Products are looked
through once for the places of their sources; then each partition is gathered from the row groups that may
hold some of it, so that the rows of one partition are all that is held at a time.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import __version__
from .atomic import atomic_folder
from .catalog_parquet import ROW_GROUP, arrow_table
from .errors import ProductError, first_line

_ENDING = "_cat.parquet"
_OUTSIDE_CORE = 1 << 59
# Metadata of a product's table that holds for all products of a run.
_SHARED = ("parameters", "kron_params", "aperture_mask_method", "versions")
_PLACE = "_healpix_29"
#: Order of the smallest partitions, HEALPix pixels of 13 arcsec.
_DEEPEST = 14


@dataclass(frozen=True)
class Partition:
    """
    One file of the catalog: a HEALPix pixel (nested) and the number of sources in it.

    Attributes
    ----------
    order, pixel, rows : int
        Order and index of the pixel; sources.
    """

    order: int
    pixel: int
    rows: int

    @property
    def places(self) -> tuple[int, int]:
        """Range of `_healpix_29` in it, half-open."""
        return self.pixel << 2 * (29 - self.order), self.pixel + 1 << 2 * (29 - self.order)

    @property
    def path(self) -> str:
        """Where its file is below ``dataset``."""
        folder = f"Norder={self.order}/Dir={self.pixel // 10_000 * 10_000}"
        return f"{folder}/Npix={self.pixel}.parquet"


def merge(catalogs: Sequence[str | Path], folder: str | Path, max_rows: int) -> int:
    """
    Write the catalog of a filter; it appears whole or not at all.

    Parameters
    ----------
    catalogs : sequence of path
        ``_cat.parquet`` files of the products.
    folder : str or path
        Folder to make; what it held before is replaced.
    max_rows : int
        Most rows of a partition, where HEALPix pixels of 13 arcsec have no more.

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
    schema = _form(paths).schema
    ranges, cells = {}, [np.empty(0, np.int64)]
    for path in paths:
        places = _places(path, schema, paths[0].name)
        if places.size:
            ranges[path] = places.min(), places.max()
            cells.append(places >> 2 * (29 - _DEEPEST))
    # Without any source there is still a file, that says which columns there are.
    parts = partitions(np.concatenate(cells), max_rows) or [Partition(0, 0, 0)]
    footers: list[Any] = []
    with atomic_folder(folder) as temporary:
        dataset = temporary / "dataset"
        for part in parts:
            first, end = part.places
            near = [path for path, (low, high) in ranges.items() if low < end and high >= first]
            table = _gather(near, part, schema)
            (dataset / part.path).parent.mkdir(parents=True, exist_ok=True)
            options = {"compression": "zstd", "row_group_size": ROW_GROUP}
            pq.write_table(table, dataset / part.path, metadata_collector=footers, **options)
            footers[-1].set_file_path(part.path)
        pq.write_metadata(schema, dataset / "_common_metadata")
        pq.write_metadata(schema, dataset / "_metadata", metadata_collector=footers)
        rows = [f"{part.order},{part.pixel}\n" for part in parts]
        (temporary / "partition_info.csv").write_text("".join(["Norder,Npix\n", *rows]))
        size = sum(path.stat().st_size for path in dataset.rglob("*.parquet"))
        text = properties(f"romosaic_{Path(folder).name}", parts, max_rows, size)
        (temporary / "hats.properties").write_text(text)
    return sum(part.rows for part in parts)


def partitions(cells: np.ndarray, max_rows: int) -> list[Partition]:
    """
    Share out the sky in HEALPix pixels of at most so many sources, each as large as can be.

    Parameters
    ----------
    cells : (n,) int64 array
        For each source the pixel of order 14 that it is in, nested.
    max_rows : int
        Most sources of a pixel, where those of order 14 have no more.

    Returns
    -------
    list of Partition
        Those with sources, in the order of their places on the nested curve.
    """
    cells, counts = np.unique(cells, return_counts=True)
    found, order = [], 0
    while cells.size:
        pixels, which = np.unique(cells >> 2 * (_DEEPEST - order), return_inverse=True)
        rows = np.bincount(which, counts).astype(int)
        done = (rows <= max_rows) | (order == _DEEPEST)
        pairs = zip(pixels[done].tolist(), rows[done].tolist(), strict=True)
        found += [Partition(order, pixel, number) for pixel, number in pairs]
        rest = ~done[which]
        cells, counts, order = cells[rest], counts[rest], order + 1
    return sorted(found, key=lambda part: part.places)


def properties(name: str, parts: Sequence[Partition], max_rows: int, size: int) -> str:
    """
    Write what readers ask of a HATS catalog.

    Parameters
    ----------
    name : str
        Of the catalog, one word.
    parts : sequence of Partition
        Its partitions.
    max_rows : int
        Most rows of one that were asked for.
    size : int
        Bytes of its files.

    Returns
    -------
    str
        Text of ``hats.properties``.
    """
    lines = {
        "obs_collection": name,
        "dataproduct_type": "object",
        "hats_nrows": sum(part.rows for part in parts),
        "hats_col_ra": "ra",
        "hats_col_dec": "dec",
        "hats_col_healpix": _PLACE,
        "hats_col_healpix_order": 29,
        "hats_cols_survey_id": "product label",
        "hats_npix_suffix": ".parquet",
        "hats_max_rows": max_rows,
        "hats_order": max(part.order for part in parts),
        "hats_frame": "equatorial",
        "hats_estsize": -(-size // 1024),
        "hats_builder": f"romosaic {__version__}",
        "hats_version": "v1.0",
        "moc_sky_fraction": f"{sum(4.0**-part.order for part in parts) / 12:.6g}",
    }
    return "".join(f"{key}={value}\n" for key, value in lines.items())


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


def _places(path: Path, schema: Any, first: str) -> np.ndarray:
    """`_healpix_29` of the primary sources of a product."""
    with _readable(path) as file:
        if file.schema_arrow.names != schema.names[:-1]:
            raise ProductError(
                path, f"has not the columns of {first}", "make both with one version"
            )
        table = file.read(columns=[_PLACE, "flagged_spatial_id"])
        outside = table["flagged_spatial_id"].to_numpy() & _OUTSIDE_CORE
        return table[_PLACE].to_numpy()[outside == 0]


def _gather(paths: Iterable[Path], part: Partition, schema: Any) -> Any:
    """Primary sources of products in a partition, in the order of their places."""
    import pyarrow as pa

    tables = [schema.empty_table()]
    for path in paths:
        with _readable(path) as file:
            for table in _rows(file, part.places):
                name = pa.array([path.name.removesuffix(_ENDING)] * len(table), pa.string())
                tables.append(table.append_column("product", name).cast(schema))
    keys = [(name, "ascending") for name in (_PLACE, "product", "label")]
    return pa.concat_tables(tables).sort_by(keys)


def _rows(file: Any, places: tuple[int, int]) -> Iterator[Any]:
    """Primary sources of a file in a range of places, by row groups; those without any are not read."""
    import pyarrow.compute as pc

    column = file.schema_arrow.names.index(_PLACE)
    for number in range(file.num_row_groups):
        known = file.metadata.row_group(number).column(column).statistics
        if known and known.has_min_max and (known.max < places[0] or known.min >= places[1]):
            continue
        table = file.read_row_group(number)
        outside = pc.bit_wise_and(table["flagged_spatial_id"], _OUTSIDE_CORE)
        here = pc.and_(
            pc.greater_equal(table[_PLACE], places[0]), pc.less(table[_PLACE], places[1])
        )
        yield table.filter(pc.and_(pc.equal(outside, 0), here))


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
