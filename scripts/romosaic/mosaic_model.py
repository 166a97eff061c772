"""The Level-3 data model of a coadd: its WCS, and metadata blended from its members."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from . import __version__
from .grid import Grid, east_north
from .names import SUFFIX
from .pixel_noise import describe

if TYPE_CHECKING:
    from .flux_file import FluxExposure
    from .resample import Coadd

#: What `association.make_associations` and romancal call their products, up to the group of exposures.
_PRODUCT_NAME = re.compile(r"r\d{5}_[A-Za-z0-9]+_(v\d{14}|d\d{8}|p\d{5}|full|user)_")
#: meta keys that a coadd has only when all members agree on them.
_COMMON = {
    "observation": (
        "execution_plan",
        "exposure",
        "observation",
        "pass",
        "program",
        "segment",
        "visit",
    ),
    "program": ("title", "investigator_name", "category", "subcategory", "science_category"),
    "instrument": ("optical_element",),
}
#: Sections of the members' metadata that become tables with one row per member.
_TABLES = (
    "cal_step",
    "coordinates",
    "ephemeris",
    "exposure",
    "guide_star",
    "instrument",
    "observation",
    "photometry",
    "pointing",
    "program",
    "rcs",
    "ref_file",
    "source_catalog",
    "velocity_aberration",
    "visit",
    "wcsinfo",
)


def grid_wcs(grid: Grid):
    """
    Build the gwcs of a grid, 0-based pixels to ICRS degrees.

    Returns
    -------
    gwcs.WCS
        Invertible, with LONPOLE 180 degrees at the poles too; with its bounding box unless it holds a pole.
    """
    from astropy import coordinates, units
    from astropy.modeling.models import Pix2Sky_TAN
    from gwcs import WCS, FITSImagingWCSTransform, coordinate_frames

    # Of all transforms this one tells crpix, crval, cdelt and pc to who reads the file.
    transform = FITSImagingWCSTransform(
        Pix2Sky_TAN(),
        crpix=(grid.x0, grid.y0),
        crval=(grid.ra0, grid.dec0),
        cdelt=(grid.pixel_scale, grid.pixel_scale),
        pc=_turn(grid),
    )
    detector = coordinate_frames.Frame2D(
        name="detector", axes_order=(0, 1), unit=(units.pix, units.pix)
    )
    sky = coordinate_frames.CelestialFrame(
        name="icrs", reference_frame=coordinates.ICRS(), unit=(units.deg, units.deg)
    )
    wcs = WCS([(detector, transform), (sky, None)], name=grid.skycell or "mosaic")
    wcs.pixel_shape = (grid.nx, grid.ny)
    # With a box gwcs inverts only what lies between the least and the greatest declination of the corners:
    # nothing at all where they surround a pole.
    if not _holds(grid, 0.0, 90.0) and not _holds(grid, 0.0, -90.0):
        wcs.bounding_box = ((-0.5, grid.nx - 0.5), (-0.5, grid.ny - 0.5))
    return wcs


def _holds(grid: Grid, ra: float, dec: float) -> bool:
    x, y = grid.to_pixel(ra, dec)
    return bool(-0.5 <= x <= grid.nx - 0.5 and -0.5 <= y <= grid.ny - 0.5)


def _turn(grid: Grid) -> list[list[float]]:
    """PC matrix of a grid, pixel offsets to plane offsets: its determinant tells the handedness."""
    o, east = np.radians(grid.orientation), 1.0 if grid.x_east else -1.0
    cosine, sine = float(np.cos(o)), float(np.sin(o))
    return [[east * cosine, east * sine], [-sine, cosine]]


def wcsinfo(grid: Grid) -> dict:
    """Summary of a grid for ``meta.wcsinfo``; scales in degrees as the files of the archive have them."""
    x, y = (grid.nx - 1) / 2, (grid.ny - 1) / 2
    ra, dec = _place(grid, x, y)
    # Counter-clockwise, viewed from the origin towards the sky (IVOA DALI 1.1, 3.3.7).
    order = [0, 3, 2, 1] if grid.x_east else [0, 1, 2, 3]
    corners = np.stack(grid.corners(), axis=1)[order]
    return {
        "ra_ref": float(grid.ra0),
        "dec_ref": float(grid.dec0),
        "x_ref": float(grid.x0),
        "y_ref": float(grid.y0),
        "pixel_scale_ref": float(grid.pixel_scale),
        "pixel_scale": float(np.degrees(np.sqrt(grid.middle_pixel_area))),
        "projection": "TAN",
        "s_region": "POLYGON ICRS " + " ".join(f"{r:.9f} {d:.9f}" for r, d in corners),
        "image_shape": [int(grid.ny), int(grid.nx)],
        "ra": ra,
        "dec": dec,
        "orientation": _north_angle(grid, x, y),
        "orientation_ref": _north_angle(grid, grid.x0, grid.y0),
        "skycell_name": grid.skycell,
        "rotation_matrix": _turn(grid),
    }


def _place(grid: Grid, x: float, y: float) -> tuple[float, float]:
    """Sky position of a pixel, degrees; that of the tangent point as it is given, at a pole too."""
    if (x, y) == (grid.x0, grid.y0):
        return float(grid.ra0), float(grid.dec0)
    ra, dec = grid.to_sky(x, y)
    return float(ra), float(dec)


def _north_angle(grid: Grid, x: float, y: float) -> float:
    """Position angle of the +y axis at a pixel, degrees east of north in [0, 360)."""
    east, north = east_north(*_place(grid, x, y))
    here = grid.frame.T @ [(x - grid.x0) * grid.scale, (y - grid.y0) * grid.scale, 1.0]
    here /= np.linalg.norm(here)
    along = grid.frame[1] - here * (here @ grid.frame[1])
    # A tiny negative angle modulo 360 rounds to 360 itself.
    return float(np.degrees(np.arctan2(along @ east, along @ north)) % 360 % 360)


def common_value(values: Sequence[object]) -> object:
    """Return the value that all members have; None when they differ or it is not known ('?', -999999)."""
    first = values[0]
    known = first not in ("?", -999999)
    return first if known and all(value == first for value in values) else None


def member_table(rows: Sequence[dict]):
    """
    Tabulate one section of the members' metadata.

    Parameters
    ----------
    rows : sequence of dict
        The section of each member; keys may be missing.

    Returns
    -------
    astropy.table.Table
        Numbers stay numbers (NaN where missing), truth values that all members have stay such, everything
        else is text. What no member has a value of is left out.
    """
    from astropy.table import Table

    table = Table()
    for key in dict.fromkeys(key for row in rows for key in row):
        values = [row.get(key) for row in rows]
        known = [v for v in values if v is not None]
        if not known:
            continue
        if any(isinstance(v, bool) for v in known):
            table[key] = values if all(isinstance(v, bool) for v in values) else _texts(values)
        elif all(isinstance(v, int) for v in values):
            table[key] = np.array(values, dtype=np.int64)
        elif all(isinstance(v, int | float) for v in known):
            table[key] = np.array([np.nan if v is None else v for v in values], dtype=float)
        else:
            table[key] = _texts(values)
    return table


def _texts(values: Sequence[object]) -> list[str]:
    return [str(value) for value in values]


def mosaic_model(
    coadd: "Coadd",
    grid: Grid,
    members: Sequence["FluxExposure"],
    *,
    association: dict,
    sky: Sequence[dict],
    skymethod: str,
    outliers: dict,
    parameters: dict,
):
    """
    Assemble the Level-3 model of a coadd.

    Parameters
    ----------
    coadd : Coadd
        Arrays: see `resample.resample`.
    grid : Grid
        Its grid.
    members : sequence of FluxExposure
        In the order of the context bits.
    association : dict
        The association that the product was made from.
    sky : sequence of dict
        level (MJy/sr), status and subtracted of each member, from `skymatch`.
    skymethod : {'local', 'global', 'match', 'global+match', 'user'}
        How the levels were found.
    outliers : dict
        What `outlier_detection` wrote: its status, and flagged pixels of each member.
    parameters : dict
        Section `resample` of the configuration.

    Returns
    -------
    roman_datamodels.datamodels.MosaicModel
    """
    import roman_datamodels.datamodels as rdm

    model = rdm.MosaicModel.create_minimal()
    for name in ("data", "err", "weight", "context", "var_poisson", "var_rnoise", "var_flat", "dq"):
        if (array := getattr(coadd, name)) is not None:
            model[name] = array
    meta, metas = model.meta, [member.meta for member in members]
    _blend(meta, metas)
    _name(meta, association)
    meta.coadd_info.update(_times(metas, coadd))
    meta.cal_step = _steps(sky, outliers["status"])
    meta.cal_logs = describe(coadd.noise)
    meta.resample = _resample(members, metas, grid, parameters)
    meta.statistics = _statistics(coadd)
    meta.wcs = grid_wcs(grid)
    meta.wcsinfo = wcsinfo(grid)
    steps = [_steps([row], outliers["status"]) for row in sky]
    meta.individual_image_meta = _tables(members, metas, steps)
    meta.individual_image_meta["background"] = _background(sky, skymethod)
    if logs := [list(m["cal_logs"]) for m in metas if m.get("cal_logs")]:
        model["individual_image_cal_logs"] = logs
    return model


def _name(meta, association: dict) -> None:
    """Say what kind of product it is and who made it."""
    product, release = association["products"][0]["name"], association.get("data_release_id")
    kind, label = group_of(product)
    meta.calibration_software_name = "romosaic"
    meta.calibration_software_version = __version__
    meta.product_type = f"{release or 'p'}_{kind}_coadd"
    meta.observation["exposure_grouping"] = label or _visit(meta.observation)
    meta.association = {"name": f"{product}_asn.json"}
    if release:
        meta.data_release_id = str(release)


def _visit(observation) -> str | None:
    """Label of the one visit of all members, as in the names of visit products; None if there are several."""
    widths = {"execution_plan": 2, "pass": 3, "segment": 3, "observation": 3, "visit": 3}
    numbers = [observation[key] for key in widths]
    if None in numbers:
        return None
    parts = (f"{n:0{width}d}" for n, width in zip(numbers, widths.values(), strict=True))
    return "v" + "".join(parts)


def _steps(sky: Sequence[dict], outlier_detection: str) -> dict:
    matched = any(row["status"] == "COMPLETE" for row in sky)
    return {
        "flux": "COMPLETE",
        "skymatch": "COMPLETE" if matched else "SKIPPED",
        "outlier_detection": outlier_detection,
        "resample": "COMPLETE",
    }


def _resample(
    members: Sequence["FluxExposure"], metas: list[dict], grid: Grid, parameters: dict
) -> dict:
    areas = [member.pixmap.on_grid(grid).pixel_ratio for member in members]
    return {
        "good_bits": str(parameters["good_bits"]),
        "pixel_scale_ratio": float(1 / np.sqrt(np.median(areas))),
        "pixfrac": float(parameters["pixfrac"]),
        "pixmap_stepsize": 1,  # the map holds at every pixel
        "pointings": len({m["observation"].get("observation_id") for m in metas}),
        "members": [member.name + SUFFIX for member in members],
        "weight_type": str(parameters["weight_type"]),
    }


def group_of(product: str) -> tuple[str, str | None]:
    """
    Kind and label of the group of exposures in a product's name.

    Returns
    -------
    kind : {'visit', 'daily', 'pass', 'full', 'user'}
        'user' for names that are not of the archive's form.
    label : str or None
        Such as v01001001001001; None where the name has none.
    """
    found = _PRODUCT_NAME.match(product)
    if not found:
        return "user", None
    label = found[1]
    kinds = {"v": "visit", "d": "daily", "p": "pass", "f": "full", "u": "user"}
    return kinds[label[0]], label


def _blend(meta, metas: list[dict]) -> None:
    """Keep what all members agree on."""
    for section, keys in _COMMON.items():
        for key in keys:
            meta[section][key] = common_value([m.get(section, {}).get(key) for m in metas])
    meta.instrument.name = "WFI"
    program = meta.observation["program"]
    meta.observation["program"] = None if program is None else int(program)
    meta.origin = str(common_value([m.get("origin") for m in metas]) or "STSCI/SOC")


def _times(metas: list[dict], coadd: "Coadd") -> dict:
    from astropy.time import Time

    starts = Time([str(m["exposure"]["start_time"]) for m in metas], scale="utc")
    ends = Time([str(m["exposure"]["end_time"]) for m in metas], scale="utc")
    starts.format = ends.format = "isot"
    return {
        "time_first": starts.min(),
        "time_last": ends.max(),
        "time_mean": starts.mean(),
        "exposure_time": float(coadd.exposure_time),
        "max_exposure_time": float(coadd.max_exposure_time),
    }


def _statistics(coadd: "Coadd") -> dict:
    """Median, mean absolute deviation (as the schema defines image_rms) and fraction of the covered pixels."""
    covered = coadd.data[(coadd.weight > 0) & np.isfinite(coadd.data)]
    if not covered.size:
        return {"image_median": np.nan, "image_rms": np.nan, "good_pixel_fraction": 0.0}
    median = np.median(covered, overwrite_input=True)
    pieces = np.array_split(covered, max(covered.size // 100_000, 1))  # that fit in the cache
    deviation = sum(float(np.abs(piece - median).sum(dtype=np.float64)) for piece in pieces)
    return {
        "image_median": float(median),
        "image_rms": deviation / covered.size,
        "good_pixel_fraction": covered.size / coadd.data.size,
    }


def _tables(members: Sequence["FluxExposure"], metas: list[dict], steps: list[dict]) -> dict:
    """One table per section of the members' metadata, one row per member; `steps` taken since count, too."""
    basic = [
        {key: value for key, value in m.items() if not isinstance(value, dict | list)}
        for m in metas
    ]
    for row, member in zip(basic, members, strict=True):
        row |= {"filename": member.name + SUFFIX, "file_date": member.file_date}
    tables = {"basic": member_table(basic)}
    for section in _TABLES:
        rows = [m.get(section) if isinstance(m.get(section), dict) else {} for m in metas]
        if section == "cal_step":
            rows = [
                row | {step: state for step, state in taken.items() if step != "resample"}
                for row, taken in zip(rows, steps, strict=True)
            ]
        table = member_table(rows)
        if table.colnames:
            tables[section] = table
    return tables


def _background(sky: Sequence[dict], skymethod: str):
    """Table of the sky levels, as the schema has it: it knows romancal's methods."""
    rows = [
        {
            "level": float(row["level"]),
            "method": "None" if skymethod == "user" else skymethod,
            "subtracted": bool(row["subtracted"]),
        }
        for row in sky
    ]
    return member_table(rows)
