"""Associations: which exposures make a product, on which grid; the JSON files that romancal reads."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from .circles import meets_circle
from .errors import AssociationError
from .grid import Grid
from .names import SUFFIX, exposure_name
from .record_footprints import RecordFootprints
from .regular_grids import MAX_SIDE, RegularGrids
from .skymap import SkyMap, read_skymap
from .user_association import MEND, science_members

#: Parts of the visit number PPPPPCCAAASSSOOOVVV that exposures of one product share, by product type.
_GROUP_DIGITS = {"visit": 19, "daily": 5, "pass": 10, "full": 5, "user": 5}


def group_label(visit_id: str, product_type: str) -> str:
    """
    Name of a group of exposures in a product's name, as romancal gives it.

    Parameters
    ----------
    visit_id : str
        PPPPPCCAAASSSOOOVVV: program, execution plan, pass, segment, observation, visit.
    product_type : {'visit', 'daily', 'pass', 'full', 'user'}
        What the exposures of a product share.
    """
    return {
        "visit": "v" + visit_id[5:19],
        "daily": "d" + visit_id[5:13],
        "pass": "p" + visit_id[5:10],
        "full": "full",
        "user": "user",
    }[product_type]


def make_associations(
    records: list[dict], skymap: SkyMap, parameters: dict, regular: RegularGrids
) -> dict[str, dict]:
    """
    Group exposures by skycell, filter and group, one association each.

    Where products are not made on their skycells, those of which no member meets the grid are not made.

    Parameters
    ----------
    records : list of dict
        See `exposure.read_record`; those with ``excluded``, the reason why they cannot be used, are listed in
        products that others make.
    skymap : SkyMap
        The sky map.
    parameters : dict
        Section `associate` of the configuration.
    regular : RegularGrids
        How to make the grids of products that are not made on their skycells.

    Returns
    -------
    dict
        Associations by product name, in the order of their names; none for product type ``custom``.
    """
    product_type = parameters["product_type"]
    if product_type == "custom":
        return {}
    members = defaultdict(list)
    wanted = _cell_filter(skymap, parameters)
    for record in sorted(records, key=lambda record: record["exposure"]):
        if not _selected(record, parameters):
            continue
        group = record["visit_id"][: _GROUP_DIGITS[product_type]]
        cells = skymap.cells_overlapping(
            record["footprint"]["ra"],
            record["footprint"]["dec"],
            min_overlap_pixels=parameters["min_overlap_pixels"],
            own_regions_only=parameters["own_regions_only"],
        )
        for cell in cells:
            if wanted(cell):
                members[group, cell, record["optical_element"]].append(record)
    associations = {}
    for (_, cell, element), found in members.items():
        group_records, excluded = split(found)
        visit_id = found[0]["visit_id"]
        label = group_label(visit_id, product_type)
        release = parameters["data_release_id"]
        name = f"r{visit_id[:5]}_{release}_{label}_{cell}_{element.lower()}"
        grid = skymap.cell(cell).grid
        if group_records and not regular.on_skycell:
            grid = regular.around(group_records, f"product {name}")
            outside = outsiders(group_records, grid, regular)
            group_records = [r for r in group_records if r["exposure"] not in outside]
        if group_records:
            associations[name] = new_association(name, group_records, grid, release, excluded)
    return dict(sorted(associations.items()))


def split(records: list[dict]) -> tuple[list[dict], list[dict]]:
    """Records of the exposures that can be used, and rows (see `excluded_row`) of those that are excluded."""
    good = [record for record in records if "excluded" not in record]
    bad = [record for record in records if "excluded" in record]
    return good, [excluded_row(record["exposure"], record["excluded"]) for record in bad]


def excluded_row(exposure: str, reason: str) -> dict:
    """Entry of an exposure that cannot be used in the ``excluded`` of a product that it belongs to."""
    return {"expname": exposure + SUFFIX, "reason": " ".join(reason.split())}


def new_association(
    name: str, records: list[dict], grid: Grid, release: str, excluded: list[dict] = ()
) -> dict:
    """
    Write down a product as romancal would, but for its version: a newer one would remake every product.

    Parameters
    ----------
    name : str
        Name of the product.
    records : list of dict
        Its members, see `exposure.read_record`; the first one's program is that of the product.
    grid : Grid
        Its pixels: of a skycell, or of a regular grid, which romancal's keys have no place for.
    release : str
        Data release.
    excluded : list of dict, optional
        Rows (see `excluded_row`) of the exposures that would be members if they could be used.
    """
    members = [{"expname": record["exposure"] + SUFFIX, "exptype": "science"} for record in records]
    own = {} if grid.skycell else {"output_grid": grid.to_wcs_info()}
    return {
        "asn_type": "image",
        "asn_rule": "DMS_ELPP_Base",
        "degraded_status": "No known degraded exposures in association.",
        "program": records[0]["visit_id"][:5],
        "data_release_id": release,
        "version_id": None,
        "target": grid.skycell or "none",
        "constraints": "No constraints",
        "asn_id": "a3001",
        "asn_pool": "none",
        "skycell_wcs_info": grid.to_wcs_info() if grid.skycell else "none",
        **own,
        "products": [{"name": name, "members": members, **_excluded(excluded)}],
    }


def _excluded(rows: list[dict]) -> dict:
    """Key of a product for what is excluded; none where nothing is."""
    return {"excluded": sorted(rows, key=lambda row: row["expname"])} if rows else {}


def outsiders(records: list[dict], grid: Grid, regular: RegularGrids) -> list[str]:
    """Names of the members that do not overlap their regular grid, which may not have been made for them."""
    made_for_them = not (regular.given or regular.crval or regular.crpix or regular.output_shape)
    return [] if made_for_them else RecordFootprints(records).outside(grid)


def _selected(record: dict, parameters: dict) -> bool:
    filters, visits = parameters["filters"], parameters["visits"]
    return (not filters or record["optical_element"] in filters) and (
        not visits or record["visit_id"] in visits
    )


def _cell_filter(skymap: SkyMap, parameters: dict) -> Callable[[str], bool]:
    """Whether the selection allows a skycell of a name."""
    names = {skymap.cell(name).name for name in parameters["skycells"]}
    region = parameters["region"]

    @cache
    def wanted(name: str) -> bool:
        if names and name not in names:
            return False
        return region is None or meets_circle(skymap.cell(name).grid, **region)

    return wanted


def resolve_association(
    path: str | Path,
    association: dict,
    records: dict[str, dict],
    skymap: SkyMap,
    regular: RegularGrids,
) -> tuple[dict[str, dict], list[str]]:
    """
    Take a user's association as it is, and settle the output grid of each of its products.

    The grid is that of the skycell named in the header's ``skycell_wcs_info``, else of ``target``; the
    name wins over numbers that disagree. Numbers of a grid that is no skycell are used as they are. Without
    either, or if no product is to be made on its skycell, it is a regular grid.

    Parameters
    ----------
    path : str or path
        Where the association came from, for messages.
    association : dict
        See `user_association.read_association`.
    records : dict
        Records of exposures by name.
    skymap : SkyMap
        The sky map.
    regular : RegularGrids
        How to make regular grids.

    Returns
    -------
    associations : dict
        One association per product, by product name; its members are the science members.
    warnings : list of str
        One line each.

    Raises
    ------
    AssociationError
        A product mixes filters, has an unusable ``skycell_wcs_info``, or members too far apart for one grid.
    """
    grid, notes = _given_grid(path, association, skymap) if regular.on_skycell else (None, [])
    resolved = {}
    for product in association["products"]:
        members = science_members(product)
        own = [records[exposure_name(member["expname"])] for member in members]
        _refuse_mixed(path, product["name"], own)
        settled = {key: value for key, value in association.items() if key != "products"}
        settled["skycell_wcs_info"] = grid.to_wcs_info() if grid else "none"
        if not grid:
            where = f"{path}: product {product['name']}"
            made = regular.around(own, where)
            settled["output_grid"] = made.to_wcs_info()
            if outside := outsiders(own, made, regular):
                notes.append(f"{where}: not on its grid: {', '.join(outside)}")
        elif grid.skycell:
            notes += _beside_skycell(path, product["name"], own, grid.skycell, skymap)
        settled["products"] = [{**product, "members": members}]
        resolved[product["name"]] = settled
    return resolved, notes


def _refuse_mixed(path: str | Path, product: str, records: list[dict]) -> None:
    filters = sorted({record["optical_element"] for record in records})
    if len(filters) > 1:
        raise AssociationError(
            path, f"mixes filters in product {product}: {' '.join(filters)}", MEND
        )


def _given_grid(
    path: str | Path, association: dict, skymap: SkyMap
) -> tuple[Grid | None, list[str]]:
    """Grid that the header gives, None for a regular one, and warnings."""
    info, target = association.get("skycell_wcs_info"), association.get("target")
    info = info if isinstance(info, dict) else None
    name = info.get("name", target) if info else target
    if isinstance(name, str) and name in skymap:
        grid = skymap.cell(name).grid
        if info and _differs(info, grid):
            return grid, [f"{path}: skycell {name} and its numbers disagree; the name is used"]
        return grid, []
    known = isinstance(name, str) and name.lower() not in ("none", "")
    if not info:
        note = f"{path}: target {name} is no skycell; its products get regular grids"
        return None, [note] if known else []
    note = f"{path}: {name} is no skycell of the sky map; the numbers beside it are used"
    return _usable_grid(path, info), [note] if known else []


def _usable_grid(path: str | Path, info: dict) -> Grid:
    """Grid of the numbers of a header, which is no skycell."""
    try:
        grid = replace(Grid.from_wcs_info({"name": "none", **info}), skycell=None)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise AssociationError(
            path, f"has an unusable skycell_wcs_info ({error!r})", MEND
        ) from error
    numbers = (grid.ra0, grid.x0, grid.y0, grid.orientation, grid.pixel_scale)
    if (
        not np.isfinite(numbers).all()
        or not abs(grid.dec0) <= 90
        or not 0 < grid.pixel_scale <= 1 / 60
        or not (0 < grid.nx <= MAX_SIDE and 0 < grid.ny <= MAX_SIDE)
    ):
        raise AssociationError(
            path,
            "has a skycell_wcs_info with impossible numbers",
            f"give degrees, and sides of at most {MAX_SIDE} pixels",
        )
    return grid


def _differs(info: dict, grid: Grid) -> bool:
    """Whether the numbers of a header put the corners elsewhere than the skycell's (by half a pixel)."""
    try:
        other = replace(Grid.from_wcs_info(info), x_east=grid.x_east)
        there, here = grid.to_pixel(*other.corners()), grid.to_pixel(*grid.corners())
    except (KeyError, TypeError, ValueError, OverflowError):
        return True
    return not np.hypot(there[0] - here[0], there[1] - here[1]).max() < 0.5


def _beside_skycell(
    path: str | Path, product: str, records: list[dict], cell: str, skymap: SkyMap
) -> list[str]:
    """Warn of members that do not touch their skycell."""
    outside = [
        record["exposure"]
        for record in records
        if not skymap.overlap_pixels(cell, record["footprint"]["ra"], record["footprint"]["dec"])
    ]
    if not outside:
        return []
    return [f"{path}: product {product}: not on skycell {cell}: {', '.join(outside)}"]


def cells_around(grid: Grid, footprints: list, reference_file: str | None = None) -> list[Grid]:
    """
    Grids of the skycells around a product, for a map of it.

    Parameters
    ----------
    grid : Grid
        Grid of the product.
    footprints : list of (ra, dec)
        Vertices of its members, degrees.
    reference_file : str, optional
        Sky map reference file; without it the map is computed.

    Returns
    -------
    list of Grid
        The product's own skycell first, if it is one, then those that its members touch.
    """
    skymap = read_skymap(reference_file)
    names = [name for ra, dec in footprints for name in skymap.cells_overlapping(ra, dec)]
    others = [skymap.cell(name).grid for name in dict.fromkeys(names) if name != grid.skycell]
    return ([grid] if grid.skycell else []) + others
