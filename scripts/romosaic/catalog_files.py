"""Files of the source catalog: the coadd it is made from, catalog (ASDF and parquet), segmentation map."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .asdf_writer import Tagged, time_tree
from .catalog_parquet import write_parquet
from .coadd_file import CoaddBlocks, open_coadd
from .coadd_psf import DETECTOR_PIXEL
from .errors import REMAKE, ProductError
from .grid import Grid
from .noise_correlation import read_correlation
from .product import write_model
from .psf import JITTER, mean_jitter
from .table_tree import table_tree

if TYPE_CHECKING:
    from .forcing import Forcing

#: Versions of the schemas that the files follow.
CATALOG_TAG = "asdf://stsci.edu/datamodels/roman/tags/mosaic_source_catalog-2.2.0"
FORCED_TAG = "asdf://stsci.edu/datamodels/roman/tags/forced_mosaic_source_catalog-2.2.0"
SEGMENTATION_TAG = "asdf://stsci.edu/datamodels/roman/tags/mosaic_segmentation_map-2.1.0"
#: What catalog and segmentation map repeat of their coadd's metadata.
_REPEATED = (
    *("association", "cal_step", "calibration_software_name", "calibration_software_version"),
    *("coadd_info", "coordinates", "data_release_id", "instrument", "observation", "origin"),
    *("product_type", "program", "resample", "telescope", "wcsinfo"),
)


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
    meta : dict
        ``roman.meta`` of the mosaic: plain values, times as text, tables and WCS as nodes.
    inputs : list of (name, fingerprint)
        Level-2 exposures that it was made of: name, fingerprint.
    excluded : list of dict
        Those that were left out of it: expname, reason.
    steps : dict
        Parameters of the steps that made it: see `product.steps_of`.
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
    meta: Mapping
    inputs: list[tuple[str, str]]
    excluded: list[dict]
    steps: dict[str, dict]


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
        The file is missing, damaged or not one of `resample`'s.
    """
    coadd = open_coadd(path)
    planes = _planes(coadd)
    try:
        pixfrac, made = float(coadd.meta["resample"]["pixfrac"]), coadd.own["provenance"]
        side = DETECTOR_PIXEL / 3600 / coadd.grid.pixel_scale
        return CoaddFile(
            *planes,
            coadd.grid,
            coadd.optical_element,
            pixfrac,
            str(made["parameters"].get("kernel", "square")),
            read_correlation(coadd.own.get("noise"), pixfrac, side),
            _jitter(coadd),
            coadd.meta,
            coadd.inputs,
            [dict(entry) for entry in made.get("excluded", [])],
            coadd.steps,
        )
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        what = f"cannot be read as a coadd ({type(error).__name__}: {error})"
        raise ProductError(path, what, REMAKE) from error


def _planes(coadd: CoaddBlocks) -> list[np.ndarray]:
    """Images data, err, weight of a coadd, their bytes proven."""
    path, names = coadd.blocks.path, ("data", "err", "weight")
    try:
        nodes = [coadd.tree["roman"][name] for name in names]
        coadd.blocks.verify(node["source"] for node in nodes if "source" in node)
        planes = [np.asarray(coadd.image(name), np.float32) for name in names]
    except (KeyError, TypeError) as error:
        raise ProductError(path, f"cannot be read as a coadd ({error!r})", REMAKE) from error
    except ProductError as error:
        raise ProductError(path, error.what, REMAKE) from error
    if any(plane.ndim != 2 for plane in planes):
        raise ProductError(path, "has planes that are no images", "make it with resample")
    return planes


def _jitter(coadd: CoaddBlocks) -> float:
    """Pointing jitter of a mosaic's members, mas rms per axis."""
    table = coadd.meta.get("individual_image_meta", {}).get("guide_star", {"columns": []})
    columns = {column["name"]: column["data"] for column in table["columns"]}
    nodes = [columns.get(f"jitter_{axis}") for axis in ("major", "minor")]
    # A column of which some member has no number is text.
    if not all(isinstance(node, dict) and isinstance(node["datatype"], str) for node in nodes):
        return JITTER
    return mean_jitter(np.stack([np.asarray(coadd.blocks.array(n), float) for n in nodes], axis=1))


def write_catalog(
    path_asdf: str | Path,
    path_parquet: str | Path,
    path_segm: str | Path,
    table: Any,
    segmentation: np.ndarray,
    mosaic_meta: Mapping,
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
    mosaic_meta : dict
        ``roman.meta`` of the coadd; the common keys are copied.
    provenance : dict
        See `product.provenance`.
    forcing : Forcing, optional
        Of a forced catalog (ForcedMosaicSourceCatalogModel).

    Raises
    ------
    ProductError
        A file cannot be written.
    """
    image = {"filename": mosaic_meta["filename"], "file_date": time_tree(mosaic_meta["file_date"])}
    tag, kind = CATALOG_TAG, "MosaicSourceCatalogModel"
    if forcing:
        tag, kind = FORCED_TAG, "ForcedMosaicSourceCatalogModel"
        image["forced_segmentation"] = f"{forcing.product}_segm.asdf" if forcing.product else "none"
    segments = {"meta": _meta(mosaic_meta, "MosaicSegmentationMapModel", image)}
    segments["data"] = segmentation
    write_model(path_segm, Tagged(SEGMENTATION_TAG, segments), provenance)
    catalog = {"meta": _meta(mosaic_meta, kind, image), "source_catalog": table_tree(table)}
    write_model(path_asdf, Tagged(tag, catalog), provenance)
    write_parquet(path_parquet, table, catalog["meta"])


def _meta(mosaic_meta: Mapping, model_type: str, image: dict) -> dict:
    """Metadata of a product made of a mosaic."""
    meta = {name: mosaic_meta[name] for name in _REPEATED if name in mosaic_meta}
    times = {
        name: time_tree(value) if name.startswith("time_") else value
        for name, value in meta["coadd_info"].items()
    }
    return {**meta, "coadd_info": times, "model_type": model_type, "image": image}
