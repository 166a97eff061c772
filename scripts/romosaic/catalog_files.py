"""Files of the source catalog: the coadd it is made from, catalog (ASDF and parquet), segmentation map."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .asdf_blocks import AsdfBlocks
from .asdf_plugins import load_plugins
from .catalog_parquet import write_parquet
from .coadd_psf import DETECTOR_PIXEL
from .errors import ProductError
from .grid import Grid, unit_vector
from .mosaic_wcs import grid_of
from .noise_correlation import read_correlation
from .product import write_model
from .psf import JITTER, mean_jitter

if TYPE_CHECKING:
    from .forcing import Forcing


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
    correlation : (2 k + 1, 2 k + 1) float64
        Correlation of its pixels' noise by offset.
    jitter : float
        Pointing jitter of its exposures, mas rms per axis.
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
    correlation: np.ndarray
    jitter: float
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
    load_plugins()
    import asdf
    import roman_datamodels as rdm

    try:
        planes = _planes(path)
        with asdf.open(path, validate_checksums=True, memmap=False) as file:
            own = file.tree.get("romosaic", {})
            noise, own = own.get("noise"), own.get("provenance", {})
            meta = rdm.open(file).meta.copy()
            grid = _grid(path, meta)
            side = DETECTOR_PIXEL / 3600 / grid.pixel_scale
            jitter = _jitter(meta)
            rho = read_correlation(noise, float(meta.resample.pixfrac), side)
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
        rho,
        jitter,
        meta,
        [(entry["name"], entry["fingerprint"]) for entry in own.get("inputs", [])],
        [dict(entry) for entry in own.get("excluded", [])],
    )


def _planes(path: str | Path) -> list[np.ndarray]:
    """Images data, err, weight of a coadd, their bytes proven (asdf takes three times as long)."""
    try:
        blocks = AsdfBlocks.read(path)
        images = [blocks.tree()["roman"][name] for name in ("data", "err", "weight")]
        blocks.verify(node["source"] for node in images if "source" in node)
        planes = [np.asarray(blocks.array(node), np.float32) for node in images]
    except ProductError as error:
        raise ProductError(path, error.what, "delete it and run again") from error
    if any(plane.ndim != 2 for plane in planes):
        raise ProductError(path, "has planes that are no images", "make it with resample")
    return planes


def _jitter(meta: Any) -> float:
    """Pointing jitter of a mosaic's members, mas rms per axis."""
    table = meta.individual_image_meta.get("guide_star")
    names = [f"jitter_{axis}" for axis in ("major", "minor")]
    if table is None or not set(names) <= set(getattr(table, "colnames", ())):
        return JITTER
    columns = [np.ma.filled(np.ma.asarray(table[name], float), np.nan) for name in names]
    return mean_jitter(np.stack(columns, axis=1))


def _grid(path: str | Path, meta: Any) -> Grid:
    """Grid of a mosaic's wcsinfo, checked against its WCS."""
    grid = grid_of(meta.wcsinfo)
    x, y = np.array([0.0, grid.nx - 1.0]), np.array([0.0, 0.0])
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
    forcing: "Forcing | None" = None,
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
    forcing : Forcing, optional
        Of a forced catalog (ForcedMosaicSourceCatalogModel).

    Raises
    ------
    ProductError
        A file cannot be written, or would not be valid by its schema.
    """
    import roman_datamodels.datamodels as rdm

    kind = rdm.ForcedMosaicSourceCatalogModel if forcing else rdm.MosaicSourceCatalogModel
    image = {"filename": mosaic_meta["filename"], "file_date": mosaic_meta["file_date"]}
    if forcing:
        image["forced_segmentation"] = f"{forcing.product}_segm.asdf" if forcing.product else "none"
    models = []
    for made in (kind, rdm.MosaicSegmentationMapModel):
        model = made.create_minimal({"meta": mosaic_meta})
        model.meta["image"] = dict(image)
        if "data_release_id" in mosaic_meta:
            model.meta.data_release_id = mosaic_meta["data_release_id"]
        models.append(model)
    catalog, segments = models
    catalog.source_catalog = table
    segments.data = segmentation
    write_model(path_segm, segments, provenance)
    write_model(path_asdf, catalog, provenance)
    write_parquet(path_parquet, catalog)
