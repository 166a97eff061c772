"""The catalog's table: column order, and types, units and descriptions from the Roman schema."""

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
}


def column_names(fit_psf: bool) -> list[str]:
    """Names of the columns in their order."""
    names: list[str] = []
    for name in BASE_COLUMNS:
        names.append(name)
        if fit_psf:
            names.extend(PSF_COLUMNS.get(name, ()))
    return names + list(OWN_COLUMNS)


def make_table(columns: dict[str, np.ndarray], fit_psf: bool, meta: dict[str, Any]):
    """
    Table of a catalog with the types, units and descriptions of the schema.

    Parameters
    ----------
    columns : dict
        (n,) arrays by name, in the units of the schema; a name without an array is filled with NaN, 0 or
        False (a table without rows needs none).
    fit_psf : bool
        With the columns of a PSF fit.
    meta : dict
        Metadata of the table: plain numbers, strings, lists and dicts.

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
    from roman_datamodels.datamodels import MosaicSourceCatalogModel

    names = column_names(fit_psf)
    unknown = sorted(set(columns) - set(names))
    if unknown:
        raise ValueError(f"columns that no catalog has: {', '.join(unknown)}")
    schema = MosaicSourceCatalogModel.create_minimal()
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        raise ValueError(f"columns of different lengths: {sorted(lengths)}")
    n = lengths.pop() if lengths else 0
    table = Table(meta=meta)
    for name in names:
        if name in OWN_COLUMNS:
            dtype, unit, description = OWN_COLUMNS[name]
        else:
            definition = schema.get_column_definition(name)
            dtype, unit = definition["datatype"], definition["unit"]
            description = definition["description"]
        values = columns.get(name)
        if values is None:
            values = np.full(n, np.nan if np.dtype(dtype).kind == "f" else 0)
        table[name] = Column(
            cast(values, dtype),
            unit=None if unit in (None, "none") else unit,
            description=description,
        )
    return table


def cast(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Convert to a column's type: floats beyond its range become infinite without a warning."""
    with np.errstate(over="ignore"):
        return np.asarray(values).astype(dtype)
