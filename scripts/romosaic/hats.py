"""
The sources of a filter in the HATS layout that LSDB reads.

HATS (Hierarchical Adaptive Tiling Scheme, IVOA Note 1.0 of August 2025) is a folder of parquet files, one for
each HEALPix pixel of a partition of the sky: pixels are as large as `max_rows` allows. It is made of catalogs
of the projection regions (`catalog`); the rows of one partition are all that is held at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import __version__
from .atomic import atomic_folder
from .catalog_parquet import ROW_GROUP
from .catalog_rows import ORDER, PLACE, look, readable


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


def make(folder: str | Path, catalogs: Sequence[str | Path], max_rows: int) -> int:
    """
    Write the HATS catalog of a filter; it appears whole or not at all.

    Parameters
    ----------
    folder : str or path
        Folder to make; what it held before is replaced.
    catalogs : sequence of path
        Catalogs of the projection regions, which `catalog` makes.
    max_rows : int
        Most rows of a partition, where HEALPix pixels of 51 arcsec have no more.

    Returns
    -------
    int
        Number of partitions.

    Raises
    ------
    ProductError
        A catalog cannot be read, or has other columns than the first; the disk is full.
    """
    import pyarrow.parquet as pq

    paths = sorted(Path(path) for path in catalogs)
    schema, places = _schema(paths), look(paths)
    # Without any source there is still a file, that says which columns there are.
    parts = partitions(places.pixels, places.counts, max_rows) or [Partition(0, 0, 0)]
    footers: list[Any] = []
    with atomic_folder(folder) as temporary:
        dataset = temporary / "dataset"
        for part in parts:
            table = places.gather(*part.places, schema)
            (dataset / part.path).parent.mkdir(parents=True, exist_ok=True)
            options = {
                "compression": "zstd",
                "row_group_size": ROW_GROUP,
                "write_page_checksum": True,
            }
            pq.write_table(table, dataset / part.path, metadata_collector=footers, **options)
            footers[-1].set_file_path(part.path)
        pq.write_metadata(schema, dataset / "_common_metadata")
        pq.write_metadata(schema, dataset / "_metadata", metadata_collector=footers)
        rows = [f"{part.order},{part.pixel}\n" for part in parts]
        (temporary / "partition_info.csv").write_text("".join(["Norder,Npix\n", *rows]))
        size = sum(path.stat().st_size for path in dataset.rglob("*.parquet"))
        text = properties(f"romosaic_{Path(folder).name}", parts, max_rows, size)
        (temporary / "hats.properties").write_text(text)
    return len(parts)


def _schema(paths: Sequence[Path]) -> Any:
    """Columns and metadata, of the file with the longest names of products."""
    schemas = []
    for path in paths:
        with readable(path) as file:
            schema = file.schema_arrow
            schemas.append((int((schema.metadata or {})[b"table::len::product"]), schema))
    return max(schemas, key=lambda pair: pair[0])[1]


def partitions(pixels: np.ndarray, counts: np.ndarray, max_rows: int) -> list[Partition]:
    """
    Share out the sky in HEALPix pixels of at most so many sources, each as large as can be.

    Parameters
    ----------
    pixels : (n,) int64 array
        Pixels of order 12, nested.
    counts : (n,) int array
        Sources in each; a pixel may come several times.
    max_rows : int
        Most sources of a pixel, where those of order 12 have no more.

    Returns
    -------
    list of Partition
        Those with sources, in the order of their places on the nested curve.
    """
    found, order = [], 0
    while pixels.size:
        larger, which = np.unique(pixels >> 2 * (ORDER - order), return_inverse=True)
        rows = np.bincount(which, counts).astype(int)
        done = (rows <= max_rows) | (order == ORDER)
        pairs = zip(larger[done].tolist(), rows[done].tolist(), strict=True)
        found += [Partition(order, pixel, number) for pixel, number in pairs]
        rest = ~done[which]
        pixels, counts, order = pixels[rest], counts[rest], order + 1
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
        "hats_col_healpix": PLACE,
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


def index(folders: Sequence[str | Path]) -> str:
    """Table of the HATS catalogs of all filters, tab-separated: sources, finest order, megabytes."""
    rows = []
    for folder in map(Path, folders):
        lines = (folder / "hats.properties").read_text().splitlines()
        own = dict(line.split("=", 1) for line in lines)
        size = int(own["hats_estsize"]) / 1024
        rows.append(f"{folder.name}\t{own['hats_nrows']}\t{own['hats_order']}\t{size:.1f}")
    return "\n".join(["filter\tsources\torder\tmegabytes", *rows]) + "\n"
