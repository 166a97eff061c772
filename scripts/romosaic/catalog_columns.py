"""
The catalog's table: column order, and types, units and descriptions from the Roman schema.

Rows are in the order of `_healpix_29`, as importers of HATS catalogs want them; `label` leads from a row to the
segmentation map.
"""

import re
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

#: Columns of a catalog without PSF fits, in romancal's order.
BASE_COLUMNS = (
    *("label", "flagged_spatial_id", "x_centroid", "y_centroid", "x_centroid_err"),
    *("y_centroid_err", "x_centroid_win", "y_centroid_win", "x_centroid_win_err"),
    *("y_centroid_win_err", "ra", "dec", "ra_centroid", "dec_centroid", "ra_centroid_err"),
    *("dec_centroid_err", "ra_centroid_win", "dec_centroid_win", "ra_centroid_win_err"),
    *("dec_centroid_win_err", "bbox_xmin", "bbox_xmax", "bbox_ymin", "bbox_ymax"),
    *("segment_area", "semimajor", "semiminor", "fwhm", "ellipticity", "orientation_pix"),
    *("orientation_sky", "cxx", "cxy", "cyy", "kron_radius", "nn_label", "nn_distance"),
    *("sharpness", "roundness1", "is_extended", "fluxfrac_radius_50", "aper_bkg_flux"),
    *("aper_bkg_flux_err", "aper01_flux", "aper01_flux_err", "aper02_flux", "aper02_flux_err"),
    *("aper04_flux", "aper04_flux_err", "aper08_flux", "aper08_flux_err", "aper16_flux"),
    *("aper16_flux_err", "segment_flux", "segment_flux_err", "kron_flux", "kron_flux_err"),
    *("kron_abmag", "kron_abmag_err", "warning_flags", "image_flags", "dust_ebv"),
)
#: Columns that a PSF fit adds, each group after the column named.
PSF_COLUMNS = {
    "y_centroid_win_err": ("x_psf", "x_psf_err", "y_psf", "y_psf_err"),
    "dec_centroid_win_err": ("ra_psf", "dec_psf", "ra_psf_err", "dec_psf_err"),
    "aper16_flux_err": ("psf_flux", "psf_flux_err"),
    "image_flags": ("psf_flags", "psf_gof"),
}
#: Columns that the schema does not know: name -> (dtype, unit, description).
OWN_COLUMNS = {
    "_healpix_29": (
        np.int64,
        None,
        "HEALPix index of ra, dec (order 29, nested; -1 if not finite)",
    ),
    "skycell": (np.dtype("U12"), None, "Skycell of the mosaic, empty on another grid"),
    "filter": (np.dtype("U4"), None, "Optical element of the mosaic"),
}
#: Columns of a forced catalog that say how its own image looks where another one's sources are: romancal
#: prefixes them, and then adds its own image's centroids and shapes under prefixed names.
FORCED_LIGHT = (
    *("x_psf", "x_psf_err", "y_psf", "y_psf_err", "ra_psf", "dec_psf", "ra_psf_err"),
    *("dec_psf_err", "psf_flags", "psf_gof", "psf_flux", "psf_flux_err", "warning_flags"),
    *BASE_COLUMNS[BASE_COLUMNS.index("sharpness") : BASE_COLUMNS.index("warning_flags")],
)
FORCED_SHAPES = (
    *("flagged_spatial_id", "x_centroid", "y_centroid", "x_centroid_err", "y_centroid_err"),
    *("ra", "dec", "ra_centroid", "dec_centroid", "ra_centroid_err", "dec_centroid_err"),
    *BASE_COLUMNS[BASE_COLUMNS.index("semimajor") : BASE_COLUMNS.index("sharpness")],
)
#: What the forced measurements are called.
FORCED = "forced_"
#: Definitions of the columns in the version of the schema that products follow.
_SCHEMA = "source_catalog_columns-2.1.0.yaml"
_RADIUS = re.compile(r"aper\d{2}_")
_DTYPES = {"bool8": "bool"}


def column_names(fit_psf: bool, forced: bool = False) -> list[str]:
    """Names of the columns in their order, of a catalog or of a forced one."""
    names: list[str] = []
    for name in BASE_COLUMNS:
        names.append(name)
        if fit_psf:
            names.extend(PSF_COLUMNS.get(name, ()))
    if forced:
        names = [FORCED + name if name in FORCED_LIGHT else name for name in names]
        names += [FORCED + name for name in FORCED_SHAPES]
    return names + list(OWN_COLUMNS)


def make_table(
    columns: dict[str, np.ndarray], fit_psf: bool, meta: dict[str, Any], forced: bool = False
):
    """
    Table of a catalog with the types, units and descriptions of the schema, rows by `_healpix_29`.

    Parameters
    ----------
    columns : dict
        (n,) arrays by name, in the units of the schema; a name without an array is filled with NaN, 0,
        False or an empty text (a table without rows needs none).
    fit_psf : bool
        With the columns of a PSF fit.
    meta : dict
        Metadata of the table: plain numbers, strings, lists and dicts.
    forced : bool, optional
        With the columns of a forced catalog.

    Returns
    -------
    astropy.table.Table
        The float columns cast to the schema's precision.

    Raises
    ------
    ValueError
        A column that the catalog does not have, or that differs in length.
    """
    from astropy.table import Column, Table

    names = column_names(fit_psf, forced)
    unknown = sorted(set(columns) - set(names))
    if unknown:
        raise ValueError(f"columns that no catalog has: {', '.join(unknown)}")
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        raise ValueError(f"columns of different lengths: {sorted(lengths)}")
    n = lengths.pop() if lengths else 0
    rows = np.argsort(columns.get("_healpix_29", np.zeros(n)), kind="stable")
    table = Table(meta=meta)
    for name, (dtype, unit, description) in _definitions(names).items():
        values = columns.get(name)
        if values is None:
            values = np.full(n, {"f": np.nan, "U": ""}.get(np.dtype(dtype).kind, 0))
        values = cast(np.asarray(values)[rows], dtype)
        table[name] = Column(values, unit=unit, description=description)
    return table


def _definitions(names: list[str]) -> dict[str, tuple[Any, str | None, str]]:
    """Type, unit and description of columns."""
    schema, found = _schema(), {}
    for name in names:
        if name in OWN_COLUMNS:
            found[name] = OWN_COLUMNS[name]
            continue
        definition = schema[_RADIUS.sub("aper~radius~_", name.removeprefix(FORCED))]
        unit = None if definition["unit"] == "none" else definition["unit"]
        dtype = definition["properties"]["data"]["properties"]["datatype"]["enum"][0]
        found[name] = np.dtype(_DTYPES.get(dtype, dtype)), unit, definition["description"]
    return found


@cache
def _schema() -> dict[str, dict]:
    """
    Definitions of the columns in Roman's schemas, by name.

    The package that holds them is read, not `roman_datamodels`, whose import takes longer than a catalog.
    """
    import yaml

    text = files("rad").joinpath("resources", "schemas", "tables", _SCHEMA).read_bytes()
    definitions = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))["definitions"]
    return {name.replace("_~band~", ""): value for name, value in definitions.items()}


def cast(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Convert to a column's type: floats beyond its range become infinite without a warning."""
    with np.errstate(over="ignore"):
        return np.asarray(values).astype(dtype)
