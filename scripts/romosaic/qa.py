"""
Step `qa`: what a product is worth, in numbers; `qa_table` holds them against limits and neighbours.

Measured of one product, from its own files:

sky       level of each member, and how much the skies of overlapping members differ before and after they
          are subtracted
flagged   part of each member's pixels in the product that are outliers
depth     exposures, area, and the magnitude of a point source at 5 sigma in an aperture of 0.2 arcsec
noise     scatter of empty pixels over what `err` and the noise factor of the coadd (`pixel_noise`) say
PSF       FWHM of bright point sources
astrometry positions of stars in each member against those in the others (`star_offsets`)
metadata  which of the entries that the data model is for are known
"""

from collections.abc import Mapping, Sequence

import numpy as np

from .coadd_file import CoaddBlocks
from .grid import Grid
from .pixel_noise import autocorrelation
from .star_offsets import choose_stars, member_offsets

#: Catalog columns that are used.
COLUMNS = (
    *("ra", "dec", "fwhm", "is_extended", "image_flags", "warning_flags"),
    *("aper04_flux", "aper04_flux_err"),
)
#: Every so many pixels one is looked at for the noise, and the side of the sky's boxes in these.
_STEP, _BOX = 3, 32
#: Radius of the aperture of the depth, arcsec, and its signal over noise.
_RADIUS, _SNR = 0.2, 5.0
#: Entries of the metadata that a coadd must have, by path.
_WANTED = (
    *("association.name", "calibration_software_name", "calibration_software_version"),
    *("coadd_info.exposure_time", "coadd_info.max_exposure_time", "coadd_info.time_first"),
    *("coadd_info.time_last", "coadd_info.time_mean", "coordinates.reference_frame"),
    *("cal_step.flux", "cal_step.skymatch", "cal_step.outlier_detection", "cal_step.resample"),
    *("filename", "file_date", "instrument.optical_element", "origin", "product_type"),
    *("observation.exposure_grouping", "resample.members", "resample.weight_type"),
    *("statistics.image_median", "statistics.image_rms", "statistics.good_pixel_fraction"),
    *("telescope", "wcs", "wcsinfo.s_region", "individual_image_meta.basic"),
)
_PLACEHOLDERS = (None, "?", "", -999999)


def measure(
    coadd: CoaddBlocks,
    sky: Mapping,
    outliers: Mapping,
    columns: Mapping[str, np.ndarray],
    segmentation: np.ndarray,
    members: Sequence,
    grid: Grid,
) -> dict:
    """
    Measure a product.

    Parameters
    ----------
    coadd : CoaddBlocks
        The coadd.
    sky, outliers : mapping
        Results of `skymatch` and `outlier_detection`.
    columns : mapping
        `COLUMNS` of its catalog.
    segmentation : (ny, nx) uint32 array
        Its segmentation map.
    members : sequence of FluxExposure
        Its members.
    grid : Grid
        Its grid.

    Returns
    -------
    dict
        Plain values; None for what cannot be measured.
    """
    depth = coadd.depth(_STEP)
    stars = choose_stars(columns)
    flagged = [row["flagged"] for row in outliers["members"]]
    astrometry = member_offsets(members, flagged, columns["ra"][stars], columns["dec"][stars], grid)
    rows = [
        _member(use, row) for use, row in zip(coadd.own["members"], sky["members"], strict=True)
    ]
    for row, offset in zip(rows, astrometry.pop("offsets"), strict=True):
        row["offset"] = offset
    known, missing = metadata(coadd.meta, coadd.own, len(members))
    covered = depth[depth > 0]
    return {
        "optical_element": coadd.optical_element,
        "grid": grid.to_wcs_info(),
        "members": rows,
        "exposures": float(np.median(covered)) if covered.size else 0.0,
        "covered_fraction": covered.size / depth.size,
        "exposure_time": float(coadd.meta["coadd_info"]["exposure_time"]),
        "sky": sky_pairs(sky["pairs"]),
        **_noise(coadd, segmentation, grid),
        "sources": len(columns["ra"]),
        "stars": len(stars),
        "fwhm": float(np.median(columns["fwhm"][stars])) if len(stars) else None,
        "astrometry": astrometry,
        "metadata": {"known": known, "missing": missing},
    }


def _member(use: Mapping, sky: Mapping) -> dict:
    """Row of one member."""
    looked_at = use["n_used"] + use["n_flagged"]
    return {
        "exposure": use["exposure"],
        "status": use["status"],
        "sky_level": float(sky["level"]),
        "sky_status": sky["status"],
        "flagged_fraction": use["n_flagged"] / looked_at if looked_at else None,
    }


def sky_pairs(pairs: Mapping[str, np.ndarray]) -> dict:
    """
    Sum up how much the skies of overlapping members differ, MJy/sr, before and after matching.

    Parameters
    ----------
    pairs : mapping
        Of `skymatch`: `difference`, `residual`.
    """
    found = {"pairs": len(pairs["difference"])}
    for name, column in (("before", pairs["difference"]), ("after", pairs["residual"])):
        values = np.asarray(column, float)
        found[f"largest_{name}"] = float(np.abs(values).max()) if values.size else None
        found[f"rms_{name}"] = float(np.sqrt(np.mean(values**2))) if values.size else None
    return found


def _noise(coadd: CoaddBlocks, segmentation: np.ndarray, grid: Grid) -> dict:
    """Noise of empty pixels and depth of a coadd."""
    sample = np.s_[::_STEP, ::_STEP]
    empty = segmentation[sample] == 0
    data, err = (np.array(coadd.image(name)[sample]) for name in ("data", "err"))
    noise = coadd.own["noise"]
    factor = noise["pixel_factor"]
    empty &= np.isfinite(data) & np.isfinite(err) & (err > 0)
    nothing = {"noise": None, "noise_ratio": None, "depth": None}
    if factor is None or empty.sum() < 100:
        return nothing
    ratio, scatter = noise_ratio(data, err * np.float32(factor**0.5), empty)
    return {
        "noise": scatter,
        "noise_ratio": ratio,
        "depth": _magnitude(float(np.median(err[empty])), noise["correlation"], grid),
    }


def noise_ratio(
    data: np.ndarray, predicted: np.ndarray, empty: np.ndarray
) -> tuple[float | None, float | None]:
    """
    Scatter of empty pixels over its prediction, and the scatter itself.

    Parameters
    ----------
    data, predicted : (ny, nx) float arrays
        Values of pixels that do not touch, and their standard deviations.
    empty : (ny, nx) bool array
        Pixels without sources; data and prediction are finite there.

    Returns
    -------
    ratio, scatter : float or None
        From median absolute deviations about the mean of boxes of 32 x 32 values; None without a full box.
    """
    ny, nx = (n // _BOX * _BOX for n in data.shape)
    boxes = ny // _BOX, _BOX, nx // _BOX, _BOX
    inside = empty[:ny, :nx].reshape(boxes)
    values = np.where(inside, data[:ny, :nx].reshape(boxes), 0)
    count = inside.sum(axis=(1, 3), keepdims=True)
    with np.errstate(invalid="ignore"):
        values = values - values.sum(axis=(1, 3), keepdims=True) / count
    # Boxes with few empty pixels hold wings of something bright.
    inside = inside & (count > _BOX**2 / 4)
    if not inside.any():
        return None, None
    residual = np.abs(values[inside])
    pulls = residual / predicted[:ny, :nx].reshape(boxes)[inside]
    return float(1.4826 * np.median(pulls)), float(1.4826 * np.median(residual))


def _magnitude(err: float, rho: Sequence | None, grid: Grid) -> float | None:
    """AB magnitude of a source with 5 sigma in the aperture, among pixels of an error and a correlation."""
    if rho is None:
        return None
    # MJy to nJy
    flux = _SNR * np.sqrt(circle_variance(rho, _RADIUS / (grid.pixel_scale * 3600))) * err
    return float(31.4 - 2.5 * np.log10(flux * grid.middle_pixel_area * 1e15))


def circle_variance(rho: Sequence, radius: float) -> float:
    """
    Variance of the sum over a circle in the middle of a pixel, in units of the square of the pixels' error.

    Parameters
    ----------
    rho : (2 k + 1, 2 k + 1) array_like of float
        Correlation of the pixels' noise by offset: see `pixel_noise`.
    radius : float
        Pixels.
    """
    n, fine = int(radius) + 1, 16
    at = (np.arange((2 * n + 1) * fine) + 0.5) / fine - 0.5 - n
    inside = at**2 + at[:, None] ** 2 < radius**2
    circle = inside.reshape(2 * n + 1, fine, 2 * n + 1, fine).mean(axis=(1, 3))
    return float(np.vdot(rho, autocorrelation(circle, len(rho) // 2)))


def metadata(meta: Mapping, own: Mapping, n_members: int) -> tuple[float, list[str]]:
    """
    Part of the wanted metadata that is known, and what is missing.

    Parameters
    ----------
    meta : mapping
        ``roman.meta`` of the coadd, plain types.
    own : mapping
        What the workflow says of it.
    n_members : int
        Exposures that must be listed.
    """
    missing = []
    for path in _WANTED:
        node: object = meta
        for key in path.split("."):
            node = node.get(key) if isinstance(node, Mapping) else None
        if not isinstance(node, Mapping | list) and node in _PLACEHOLDERS:
            missing.append(path)
    listed = {
        "provenance.versions": own["provenance"]["versions"],
        "provenance.parameters": own["provenance"]["parameters"],
        "provenance.inputs": len(own["provenance"]["inputs"]) == n_members,
        "resample.members (all)": len(meta.get("resample", {}).get("members", [])) == n_members,
        "noise.pixel_factor": own["noise"]["pixel_factor"],
    }
    missing += [name for name, value in listed.items() if not value]
    return 1 - len(missing) / (len(_WANTED) + len(listed)), missing
