"""
The Level-3 data model of a coadd as a tagged tree: its arrays, and metadata blended from its members.

The tree is what `roman_datamodels` would write of a MosaicModel. Making it without that package and asdf saves
`resample` a sixth of its time. That it is valid by its schema is shown by the tests, and seen again by who
opens it with either.
"""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from . import __version__
from .asdf_writer import Tagged, time_tree
from .grid import Grid
from .mosaic_wcs import wcs_tree, wcsinfo
from .names import ASSOCIATION, SUFFIX
from .pixel_noise import describe
from .table_tree import columns_tree

if TYPE_CHECKING:
    from .flux_file import FluxExposure
    from .resample import Coadd

#: Version of the schema that products follow.
TAG = "asdf://stsci.edu/datamodels/roman/tags/wfi_mosaic-2.1.0"
_PLANES = ("data", "err", "weight", "context", "var_poisson", "var_rnoise", "var_flat", "dq")
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


def common_value(values: Sequence[object]) -> object:
    """Return the value that all members have; None when they differ or it is not known ('?', -999999)."""
    first = values[0]
    known = first not in ("?", -999999)
    return first if known and all(value == first for value in values) else None


def member_table(rows: Sequence[dict]) -> dict[str, np.ndarray]:
    """
    Tabulate one section of the members' metadata.

    Parameters
    ----------
    rows : sequence of dict
        The section of each member; keys may be missing.

    Returns
    -------
    dict of (n,) arrays
        Columns. Numbers stay numbers (NaN where missing), truth values that all members have stay such,
        everything else is text. What no member has a value of is left out.
    """
    table = {}
    for key in dict.fromkeys(key for row in rows for key in row):
        values = [row.get(key) for row in rows]
        known = [v for v in values if v is not None]
        if not known:
            continue
        if any(isinstance(v, bool) for v in known):
            same = all(isinstance(v, bool) for v in values)
            table[key] = np.array(values) if same else _texts(values)
        elif all(isinstance(v, int) for v in values):
            table[key] = np.array(values, dtype=np.int64)
        elif all(isinstance(v, int | float) for v in known):
            table[key] = np.array([np.nan if v is None else v for v in values], dtype=float)
        else:
            table[key] = _texts(values)
    return table


def _texts(values: Sequence[object]) -> np.ndarray:
    return np.array([str(value) for value in values])


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
) -> Tagged:
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
    Tagged
        What is read back as a `roman_datamodels.datamodels.MosaicModel`, but for its file name and date: see
        `product.write_model`.
    """
    metas = [member.meta for member in members]
    steps = [_steps([row], outliers["status"]) for row in sky]
    tables = _tables(members, metas, steps) | {"background": _background(sky, skymethod)}
    meta = {
        **_blended(metas),
        "coadd_info": _times(metas, coadd),
        "cal_step": _steps(sky, outliers["status"]),
        "cal_logs": describe(coadd.noise),
        "resample": _resample(members, metas, grid, parameters),
        "statistics": coadd.statistics,
        "wcs": wcs_tree(grid),
        "wcsinfo": wcsinfo(grid),
        "individual_image_meta": {name: columns_tree(table) for name, table in tables.items()},
    }
    _name(meta, association)
    planes = {name: getattr(coadd, name) for name in _PLANES}
    tree = {"meta": meta, **{name: plane for name, plane in planes.items() if plane is not None}}
    if logs := [list(m["cal_logs"]) for m in metas if m.get("cal_logs")]:
        tree["individual_image_cal_logs"] = logs
    return Tagged(TAG, tree)


def _name(meta: dict, association: dict) -> None:
    """Say what kind of product it is and who made it."""
    product, release = association["products"][0]["name"], association.get("data_release_id")
    kind, label = group_of(product)
    meta["calibration_software_name"] = "romosaic"
    meta["calibration_software_version"] = __version__
    meta["product_type"] = f"{release or 'p'}_{kind}_coadd"
    meta["observation"]["exposure_grouping"] = label or _visit(meta["observation"])
    meta["association"] = {"name": product + ASSOCIATION}
    if release:
        meta["data_release_id"] = str(release)


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


def _blended(metas: list[dict]) -> dict:
    """Keep what all members agree on."""
    meta = {"model_type": "MosaicModel", "telescope": "ROMAN"}
    meta["coordinates"] = {"reference_frame": "ICRS"}
    meta |= {
        section: {key: common_value([m.get(section, {}).get(key) for m in metas]) for key in keys}
        for section, keys in _COMMON.items()
    }
    meta["instrument"]["name"] = "WFI"
    program = meta["observation"]["program"]
    meta["observation"]["program"] = None if program is None else int(program)
    meta["origin"] = str(common_value([m.get("origin") for m in metas]) or "STSCI/SOC")
    return meta


def _times(metas: list[dict], coadd: "Coadd") -> dict:
    starts, ends = (
        [datetime.fromisoformat(str(m["exposure"][key])).replace(tzinfo=None) for m in metas]
        for key in ("start_time", "end_time")
    )
    mean = starts[0] + sum((start - starts[0] for start in starts), timedelta()) / len(starts)
    return {
        "time_first": _time(min(starts)),
        "time_last": _time(max(ends)),
        "time_mean": _time(mean),
        "exposure_time": float(coadd.exposure_time),
        "max_exposure_time": float(coadd.max_exposure_time),
    }


def _time(moment: datetime) -> Tagged:
    """Return what is read back as an `astropy.time.Time`, in milliseconds."""
    return time_tree((moment + timedelta(microseconds=500)).isoformat(timespec="milliseconds"))


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
        if table:
            tables[section] = table
    return tables


def _background(sky: Sequence[dict], skymethod: str) -> dict[str, np.ndarray]:
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
