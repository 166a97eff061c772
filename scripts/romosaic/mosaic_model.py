"""The Level-3 data model of a coadd: its WCS, and metadata blended from its members."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from . import __version__
from .exposure import FluxExposure
from .grid import Grid
from .names import SUFFIX

if TYPE_CHECKING:
    from .resample import Coadd

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
        With its bounding box, invertible; LONPOLE is 180 degrees at the poles too.
    """
    from astropy import coordinates, units
    from astropy.modeling.models import (
        AffineTransformation2D,
        Identity,
        Pix2Sky_TAN,
        RotateNative2Celestial,
        Scale,
        Shift,
    )
    from gwcs import WCS, coordinate_frames

    o = np.radians(grid.orientation)
    mirror = 1.0 if grid.x_east else -1.0
    rotation = [
        [mirror * np.cos(o), mirror * np.sin(o)],
        [-np.sin(o), np.cos(o)],
    ]
    transform = (
        (Shift(-grid.x0) & Shift(-grid.y0))
        | AffineTransformation2D(matrix=np.array(rotation), translation=[0.0, 0.0])
        | (Scale(grid.pixel_scale) & Scale(grid.pixel_scale))
        | Pix2Sky_TAN()
        | RotateNative2Celestial(grid.ra0, grid.dec0, 180.0)
        | Identity(2)
    )
    detector = coordinate_frames.Frame2D(
        name="detector", axes_order=(0, 1), unit=(units.pix, units.pix)
    )
    sky = coordinate_frames.CelestialFrame(
        name="icrs", reference_frame=coordinates.ICRS(), unit=(units.deg, units.deg)
    )
    wcs = WCS([(detector, transform), (sky, None)], name=grid.skycell or "mosaic")
    wcs.bounding_box = ((-0.5, grid.nx - 0.5), (-0.5, grid.ny - 0.5))
    wcs.pixel_shape = (grid.nx, grid.ny)
    return wcs


def wcsinfo(grid: Grid) -> dict:
    """Summary of a grid for ``meta.wcsinfo``; scales in degrees as the files of the archive have them."""
    ra, dec = grid.center
    o = np.radians(grid.orientation)
    corners = " ".join(f"{r:.9f} {d:.9f}" for r, d in zip(*grid.corners(), strict=True))
    return {
        "ra_ref": float(grid.ra0),
        "dec_ref": float(grid.dec0),
        "x_ref": float(grid.x0),
        "y_ref": float(grid.y0),
        "pixel_scale_ref": float(grid.pixel_scale),
        "pixel_scale": _local_scale(grid),
        "projection": "TAN",
        "s_region": f"POLYGON ICRS {corners}",
        "image_shape": [int(grid.ny), int(grid.nx)],
        "ra": ra,
        "dec": dec,
        "orientation": _north_angle(grid, (grid.nx - 1) / 2, (grid.ny - 1) / 2),
        "orientation_ref": float(grid.orientation % 360),
        "skycell_name": grid.skycell,
        "rotation_matrix": [
            [float(np.cos(o)), float(np.sin(o))],
            [float(-np.sin(o)), float(np.cos(o))],
        ],
    }


def _local_scale(grid: Grid) -> float:
    """Square root of the solid angle of the middle pixel, degrees."""
    x, y = (grid.nx - 1) / 2 - grid.x0, (grid.ny - 1) / 2 - grid.y0
    # A gnomonic pixel shrinks with the cube of the cosine of its distance from the tangent point.
    cosine = 1 / np.sqrt(1 + (x**2 + y**2) * grid.scale**2)
    return float(grid.pixel_scale * cosine**1.5)


def _north_angle(grid: Grid, x: float, y: float) -> float:
    """Position angle of the +y axis at a pixel, degrees east of north in [0, 360)."""
    (ra0, ra1), (dec0, dec1) = grid.to_sky(np.array([x, x]), np.array([y - 0.5, y + 0.5]))
    d_ra, d0, d1 = np.radians(ra1 - ra0), np.radians(dec0), np.radians(dec1)
    east = np.sin(d_ra) * np.cos(d1)
    north = np.cos(d0) * np.sin(d1) - np.sin(d0) * np.cos(d1) * np.cos(d_ra)
    return float(np.degrees(np.arctan2(east, north)) % 360)


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
        Numbers stay numbers (NaN where missing), everything else is text.
    """
    from astropy.table import Table

    table = Table()
    for key in dict.fromkeys(key for row in rows for key in row):
        values = [row.get(key) for row in rows]
        if all(isinstance(v, bool) for v in values):
            table[key] = values
        elif all(isinstance(v, int) for v in values):
            table[key] = np.array(values, dtype=np.int64)
        elif all(v is None or isinstance(v, int | float) for v in values) and any(
            v is not None for v in values
        ):
            table[key] = np.array([np.nan if v is None else v for v in values], dtype=float)
        else:
            table[key] = [str(value) for value in values]
    return table


def mosaic_model(
    coadd: "Coadd",
    grid: Grid,
    members: Sequence[FluxExposure],
    *,
    association: dict,
    sky: Sequence[dict],
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
        level (MJy/sr, subtracted) and status of each member, from `skymatch`.
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
    for name in ("data", "err", "weight", "context", "var_poisson", "var_rnoise", "var_flat"):
        if (array := getattr(coadd, name)) is not None:
            model[name] = array
    meta = model.meta
    metas = [member.meta for member in members]
    meta.calibration_software_name = "romosaic"
    meta.calibration_software_version = __version__
    meta.origin = str(common_value([m.get("origin") for m in metas]) or "STSCI/SOC")
    group = association["products"][0]["name"].split("_")[2:3]
    meta.product_type = _product_type(association)
    if release := association.get("data_release_id"):
        meta.data_release_id = release
    meta.cal_logs = []
    _blend(meta, metas, group)
    meta.coadd_info.update(_times(metas, coadd))
    meta.association = {"name": f"{association['products'][0]['name']}_asn.json"}
    matched = any(row["status"] == "COMPLETE" for row in sky)
    meta.cal_step = {
        "flux": "COMPLETE",
        "skymatch": "COMPLETE" if matched else "SKIPPED",
        "outlier_detection": outliers["status"],
        "resample": "COMPLETE",
    }
    member_scale = np.sqrt(np.median([_pixel_area(member, grid) for member in members]))
    meta.resample = {
        "good_bits": str(parameters["good_bits"]),
        "pixel_scale_ratio": float(1 / member_scale),
        "pixfrac": float(parameters["pixfrac"]),
        "pointings": len({m["observation"].get("observation_id") for m in metas}),
        "members": [member.name + SUFFIX for member in members],
        "weight_type": str(parameters["weight_type"]),
    }
    meta.statistics = _statistics(coadd)
    meta.wcs = grid_wcs(grid)
    meta.wcsinfo = wcsinfo(grid)
    meta.individual_image_meta = _tables(members, metas, sky)
    return model


def _product_type(association: dict) -> str:
    """Kind of product as the archive names it, from the group in the product's name."""
    label = association["products"][0]["name"].split("_")
    kinds = {"v": "visit", "d": "daily", "p": "pass", "f": "full", "u": "user"}
    kind = kinds.get(label[2][:1], "user") if len(label) > 2 else "user"
    return f"{association.get('data_release_id') or 'p'}_{kind}_coadd"


def _blend(meta, metas: list[dict], group: list[str]) -> None:
    for section, keys in _COMMON.items():
        for key in keys:
            meta[section][key] = common_value([m.get(section, {}).get(key) for m in metas])
    meta.instrument.name = "WFI"
    program = meta.observation["program"]
    meta.observation["program"] = None if program is None else int(program)
    meta.observation["exposure_grouping"] = group[0] if group else None


def _times(metas: list[dict], coadd: "Coadd") -> dict:
    from astropy.time import Time

    starts = Time([str(m["exposure"]["start_time"]) for m in metas], scale="utc", format="isot")
    ends = Time([str(m["exposure"]["end_time"]) for m in metas], scale="utc", format="isot")
    return {
        "time_first": starts.min(),
        "time_last": ends.max(),
        "time_mean": starts.mean(),
        "exposure_time": float(coadd.exposure_time),
        "max_exposure_time": float(coadd.max_exposure_time),
    }


def _pixel_area(member: FluxExposure, grid: Grid) -> float:
    """Area of a member's pixel in grid pixels."""
    return member.pixmap.on_grid(grid).pixel_ratio


def _statistics(coadd: "Coadd") -> dict:
    covered = coadd.data[coadd.weight > 0]
    if not covered.size:
        return {"image_median": 0.0, "image_rms": 0.0, "good_pixel_fraction": 0.0}
    median = float(np.median(covered))
    return {
        "image_median": median,
        "image_rms": float(np.mean(np.abs(covered - median), dtype=np.float64)),
        "good_pixel_fraction": covered.size / coadd.data.size,
    }


def _tables(members: Sequence[FluxExposure], metas: list[dict], sky: Sequence[dict]) -> dict:
    """One table per section of the members' metadata, one row per member."""
    basic = [
        {key: value for key, value in m.items() if not isinstance(value, dict | list)}
        for m in metas
    ]
    for row, member in zip(basic, members, strict=True):
        row["filename"] = member.name + SUFFIX
    tables = {"basic": member_table(basic)}
    for section in _TABLES:
        rows = [m.get(section) if isinstance(m.get(section), dict) else {} for m in metas]
        if any(rows):
            tables[section] = member_table(rows)
    tables["background"] = member_table(
        [
            {"level": float(row["level"]), "subtracted": row["level"] != 0, "method": "romosaic"}
            for row in sky
        ]
    )
    return tables
