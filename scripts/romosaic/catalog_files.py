"""Files of the source catalog: the coadd it is made from, catalog (ASDF and parquet), segmentation map."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .atomic import atomic
from .errors import ProductError
from .grid import Grid, unit_vector
from .product import write_model

# Rows per group of the parquet file: HATS importers read group by group.
_ROW_GROUP = 100_000


@dataclass(frozen=True)
class CoaddFile:
    """
    What the catalog needs of a coadd file.

    Attributes
    ----------
    data, err, weight : (ny, nx) float32
        MJy/sr, MJy/sr, weight.
    grid : Grid
        Its pixels.
    optical_element : str
        Filter.
    pixfrac, kernel : float, str
        How it was drizzled (kernel ``square`` where the file does not say).
    meta : dict-like
        ``roman.meta`` of the mosaic.
    inputs : list of (name, fingerprint)
        Level-2 exposures that it was made of: name, fingerprint.
    excluded : list of dict
        Those that were left out of it: expname, reason.
    """

    data: np.ndarray
    err: np.ndarray
    weight: np.ndarray
    grid: Grid
    optical_element: str
    pixfrac: float
    kernel: str
    meta: Any
    inputs: list[tuple[str, str]]
    excluded: list[dict]


def read_coadd(path: str | Path) -> CoaddFile:
    """
    Read a coadd, checking the checksums of what is read.

    Parameters
    ----------
    path : str or path
        ``_coadd.asdf`` file.

    Raises
    ------
    ProductError
        The file is missing, damaged or no mosaic, or its WCS is not the grid that its wcsinfo describes.
    """
    import asdf
    import roman_datamodels as rdm

    try:
        # Only the blocks that are used are read and checked: the coadd has several times as many.
        with asdf.open(path, validate_checksums=True, memmap=False) as file:
            own = file.tree.get("romosaic", {}).get("provenance", {})
            model = rdm.open(file)
            planes = [np.array(model[name], np.float32) for name in ("data", "err", "weight")]
            meta = model.meta.copy()
            grid = _grid(path, meta)
    except ProductError:
        raise
    except (OSError, TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ProductError(
            path, f"cannot be read as a coadd ({reason[0]})", "delete it and run again"
        ) from error
    return CoaddFile(
        *planes,
        grid,
        str(meta.instrument.optical_element),
        float(meta.resample.pixfrac),
        str(own.get("parameters", {}).get("kernel", "square")),
        meta,
        [(entry["name"], entry["fingerprint"]) for entry in own.get("inputs", [])],
        [dict(entry) for entry in own.get("excluded", [])],
    )


def _grid(path: str | Path, meta: Any) -> Grid:
    """Grid of a mosaic's wcsinfo, checked against its WCS."""
    info = meta.wcsinfo
    ny, nx = (int(n) for n in info.image_shape)
    turn = np.asarray(info.rotation_matrix, float)
    grid = Grid(
        ra0=float(info.ra_ref),
        dec0=float(info.dec_ref),
        x0=float(info.x_ref),
        y0=float(info.y_ref),
        pixel_scale=float(info.pixel_scale_ref),
        nx=nx,
        ny=ny,
        orientation=float(np.degrees(np.arctan2(-turn[1, 0], turn[1, 1]))),
        skycell=info.get("skycell_name"),
        x_east=bool(np.linalg.det(turn) > 0),
    )
    x, y = np.array([0.0, nx - 1.0]), np.array([0.0, 0.0])
    sky = unit_vector(*meta.wcs(x, y))
    if not np.abs(unit_vector(*grid.to_sky(x, y)) - sky).max() < 0.01 * grid.scale:
        raise ProductError(path, "its wcsinfo does not describe its WCS", "make it with resample")
    return grid


def write_catalog(
    path_asdf: str | Path,
    path_parquet: str | Path,
    path_segm: str | Path,
    table: Any,
    segmentation: np.ndarray,
    mosaic_meta: Any,
    provenance: dict,
) -> None:
    """
    Write the three files of a catalog; each appears whole or not at all.

    Parameters
    ----------
    path_asdf, path_parquet, path_segm : str or path
        ``_cat.asdf`` (MosaicSourceCatalogModel), ``_cat.parquet``, ``_segm.asdf``
        (MosaicSegmentationMapModel).
    table : astropy.table.Table
    segmentation : (ny, nx) uint32
        Results of `source_catalog.make_catalog`.
    mosaic_meta : dict-like
        ``roman.meta`` of the coadd; the common keys are copied.
    provenance : dict
        See `product.provenance`.

    Raises
    ------
    ProductError
        A file cannot be written, or would not be valid by its schema.
    """
    from roman_datamodels.datamodels import MosaicSegmentationMapModel, MosaicSourceCatalogModel

    image = {"filename": mosaic_meta["filename"], "file_date": mosaic_meta["file_date"]}
    models = []
    for kind in (MosaicSourceCatalogModel, MosaicSegmentationMapModel):
        model = kind.create_minimal({"meta": mosaic_meta})
        model.meta["image"] = dict(image)
        if "data_release_id" in mosaic_meta:
            model.meta.data_release_id = mosaic_meta["data_release_id"]
        models.append(model)
    catalog, segments = models
    catalog.source_catalog = table
    segments.data = segmentation
    write_model(path_segm, segments, provenance)
    write_model(path_asdf, catalog, provenance)
    _write_parquet(path_parquet, catalog)


def _write_parquet(path: str | Path, catalog: Any) -> None:
    """Write the catalog's table with all its metadata, zstd-compressed, under its own name."""
    import pyarrow.parquet as pq

    with atomic(path) as temporary:
        catalog.to_parquet(temporary)
        arrow = pq.read_table(temporary)
        # The model wrote the temporary name into the metadata.
        metadata = dict(arrow.schema.metadata) | {b"roman.meta.filename": Path(path).name.encode()}
        pq.write_table(
            arrow.replace_schema_metadata(metadata),
            temporary,
            compression="zstd",
            row_group_size=_ROW_GROUP,
        )
