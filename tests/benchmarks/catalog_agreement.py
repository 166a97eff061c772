"""How far two catalogs of one coadd agree, column by column."""

from dataclasses import dataclass

import numpy as np

_PSF = "another PSF on the coadd, pixels weighted alike: see above"
_MISFIT = "of what the source is: of a galaxy, several times those of a star"
_OVERLAPS = "sum of (overlap err)^2; romancal's with photutils before 3.1 is that of overlap err^2"
_BACKGROUND = "background without the wings of sources: see above"
_ORDER = "segments on the border have a row more, as the filter's weights are normalised there: another order"
#: Columns that differ by intent, and why.
INTENDED = {
    "label": _ORDER,
    "nn_label": _ORDER,
    "ra": "the windowed position; romancal's is that of the centroid",
    "dec": "as ra",
    "flagged_spatial_id": "bit 59 follows the core of the skycell",
    "warning_flags": "any pixel without data; romancal asks the weight alone",
    "image_flags": "bits of our own; romancal's are zero",
    "orientation_sky": "east of north; romancal turns the other way where +x is east",
    "is_extended": "encircled energies of the coadd; romancal's are of the detector",
    "psf_flags": "a bit of our own for positions far from the start",
    **{f"{axis}_psf": _PSF for axis in ("x", "y", "ra", "dec")},
    **{name: _PSF for name in ("psf_flux", "psf_gof")},
    **{name: _MISFIT for name in ("psf_flux_err", "x_psf_err", "y_psf_err")},
    **{f"aper{radius}_flux_err": _OVERLAPS for radius in ("01", "02", "04", "08", "16")},
    **{name: _OVERLAPS for name in ("kron_flux_err", "kron_abmag_err")},
    **{f"aper{name}_flux": _BACKGROUND for name in ("_bkg", "01", "02", "04", "08", "16")},
    **{f"{name}_flux": _BACKGROUND for name in ("segment", "kron")},
    **{name: _BACKGROUND for name in ("kron_abmag", "kron_radius", "fluxfrac_radius_50")},
    **{f"{axis}_centroid_win": _BACKGROUND for axis in ("x", "y", "ra", "dec")},
}
# Zero in romancal: these have nothing to be compared with.
PLACEHOLDER = "an error; romancal's is zero"
# Numbers around zero: their differences count as they are.
_ABSOLUTE = ("ellipticity", "sharpness", "roundness1")
_ANGLES = {"orientation_pix": 180.0, "orientation_sky": 180.0}


@dataclass(frozen=True)
class Agreement:
    """
    Comparison of one column.

    Attributes
    ----------
    name : str
    median, most : float
        Half and 99 % of the absolute differences are no larger; of flags and labels the share that differs.
    unit : str
        What they are counted in.
    finite : int
        Sources compared.
    note : str
        Why the column differs, if it is meant to.
    """

    name: str
    median: float
    most: float
    unit: str
    finite: int
    note: str


def match(ours, theirs, within: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Rows of two tables whose centroids are nearest to each other, within so many pixels."""
    from scipy.spatial import KDTree

    places = [
        np.stack([t["x_centroid"], t["y_centroid"]], axis=1).astype(float) for t in (ours, theirs)
    ]
    distance, nearest = KDTree(places[1]).query(places[0])
    rows = np.flatnonzero(distance < within)
    return rows, nearest[rows]


def compare(ours, theirs) -> list[Agreement]:
    """Compare all columns that both tables have, of rows that belong together."""
    return [
        _column(name, ours, theirs)
        for name in ours.colnames
        if name in theirs.colnames and name != "dust_ebv"
    ]


def _column(name: str, ours, theirs) -> Agreement:
    a, b = np.asarray(ours[name]), np.asarray(theirs[name])
    note = INTENDED.get(name, "")
    if a.dtype.kind != "f":
        differ = float(np.mean(a != b))
        return Agreement(name, differ, differ, "share that differs", len(a), note)
    a, b = a.astype(float), b.astype(float)
    good = np.isfinite(a) & np.isfinite(b)
    if name.endswith("_err") and not b[good].any():
        return Agreement(name, np.nan, np.nan, "", int(good.sum()), PLACEHOLDER)
    difference = np.abs(a - b)
    if name in _ANGLES:
        difference = difference % _ANGLES[name]
        difference = np.minimum(difference, _ANGLES[name] - difference)
        unit = "deg"
    else:
        difference, unit = _scaled(name, difference, b, ours)
    values = difference[good & np.isfinite(difference)]
    median, most = np.quantile(values, [0.5, 0.99]) if values.size else (np.nan, np.nan)
    return Agreement(name, float(median), float(most), unit, int(good.sum()), note)


def _scaled(name: str, difference: np.ndarray, value: np.ndarray, ours) -> tuple[np.ndarray, str]:
    """Differences in units of the column's error, or of its value."""
    if name in _ABSOLUTE:
        return difference, "absolute"
    if name == "cxy":
        return difference / np.sqrt(np.asarray(ours["cxx"], float) * ours["cyy"]), "sqrt(cxx cyy)"
    error = f"{name}_err"
    if name in ("ra", "dec"):
        error = f"{name}_centroid_win_err"
    if name.endswith("_err") or error not in ours.colnames:
        with np.errstate(divide="ignore", invalid="ignore"):
            return difference / np.abs(value), "relative"
    sigma = np.asarray(ours[error], float)
    if name.startswith(("ra", "dec")):
        difference = difference * 3600
        if name.startswith("ra"):
            difference = difference * np.cos(np.radians(np.asarray(ours["dec"], float)))
    return difference / sigma, "error"
