"""Associations: which exposures make a product, on which grid; the JSON files that romancal reads."""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from .errors import AssociationError, SkymapError
from .grid import Grid, sky_position, unit_vector
from .names import SUFFIX, exposure_name
from .skymap import SkyMap, read_skymap

#: Parts of the visit number PPPPPCCAAASSSOOOVVV that exposures of one product share, by product type.
_GROUP_DIGITS = {"visit": 19, "daily": 5, "pass": 10, "full": 5, "user": 5}
_MEND = "correct the association"


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


def make_associations(records: list[dict], skymap: SkyMap, parameters: dict) -> dict[str, dict]:
    """
    Group exposures by skycell, filter and group, one association each.

    Parameters
    ----------
    records : list of dict
        See `exposure.read_record`.
    skymap : SkyMap
        The sky map.
    parameters : dict
        Section `associate` of the configuration.

    Returns
    -------
    dict
        Associations by product name, in the order of their names.
    """
    members = defaultdict(list)
    wanted = _wanted_cells(skymap, parameters)
    product_type = parameters["product_type"]
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
            if wanted is None or cell in wanted:
                members[group, cell, record["optical_element"]].append(record)
    associations = {}
    for (_, cell, element), group_records in members.items():
        visit_id = group_records[0]["visit_id"]
        label = group_label(visit_id, product_type)
        release = parameters["data_release_id"]
        name = f"r{visit_id[:5]}_{release}_{label}_{cell}_{element.lower()}"
        associations[name] = {
            **_header(visit_id[:5], release),
            "target": cell,
            "skycell_wcs_info": skymap.cell(cell).grid.to_wcs_info(),
            "products": [_product(name, group_records)],
        }
    return dict(sorted(associations.items()))


def _header(program: str, release: str) -> dict:
    return {
        "asn_type": "image",
        "asn_rule": "DMS_ELPP_Base",
        "degraded_status": "No known degraded exposures in association.",
        "program": program,
        "data_release_id": release,
        "version_id": None,
        "constraints": "No constraints",
        "asn_id": "a3001",
        "asn_pool": "none",
    }


def _product(name: str, records: list[dict]) -> dict:
    return {
        "name": name,
        "members": [
            {"expname": record["exposure"] + SUFFIX, "exptype": "science"} for record in records
        ],
    }


def _selected(record: dict, parameters: dict) -> bool:
    filters, visits = parameters["filters"], parameters["visits"]
    return (not filters or record["optical_element"] in filters) and (
        not visits or record["visit_id"] in visits
    )


def _wanted_cells(skymap: SkyMap, parameters: dict) -> set[str] | None:
    """Skycells that the selection allows; None when it allows all."""
    wanted = None
    if parameters["skycells"]:
        wanted = {skymap.cell(name).name for name in parameters["skycells"]}
    if parameters["region"]:
        circle = skymap.cells_overlapping(*_circle(**parameters["region"]))
        wanted = set(circle) if wanted is None else wanted & set(circle)
    return wanted


def _circle(ra: float, dec: float, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Polygon of 64 sides about a circle on the sky, degrees."""
    grid = Grid(ra, dec, 0, 0, 1, 1, 1)
    # The sides of the polygon touch the circle, so that nothing within it is left out.
    r = np.degrees(np.tan(np.radians(radius))) / np.cos(np.pi / 64)
    angle = 2 * np.pi * np.arange(64) / 64
    return grid.to_sky(r * np.cos(angle), r * np.sin(angle))


def read_association(path: str | Path) -> dict:
    """
    Read a user's association and check its form.

    Parameters
    ----------
    path : str or path
        ``_asn.json`` file.

    Returns
    -------
    dict
        The association, as it is.

    Raises
    ------
    AssociationError
        The file is not JSON, has no products, or a product has no name, no science members, the same member
        twice, or a member outside the association's folder.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise AssociationError(path, error.strerror or str(error), "check the path") from error
    except ValueError as error:
        raise AssociationError(path, f"is not JSON ({error})", _MEND) from error
    products = content.get("products") if isinstance(content, dict) else None
    if not isinstance(products, list) or not products:
        raise AssociationError(path, "has no products", _MEND)
    for product in products:
        _check_product(path, product)
    return content


def _check_product(path: Path, product: dict) -> None:
    name = product.get("name") if isinstance(product, dict) else None
    if not isinstance(name, str) or not name or name != Path(name).name or name.startswith("."):
        raise AssociationError(path, f"has a product with an unusable name ({name!r})", _MEND)
    try:
        members = [str(m["expname"]) for m in product["members"] if m["exptype"] == "science"]
    except (KeyError, TypeError) as error:
        raise AssociationError(
            path, f"has a malformed member in product {name} ({error!r})", _MEND
        ) from error
    if not members:
        raise AssociationError(path, f"has no science member in product {name}", _MEND)
    for member in members:
        parts = Path(member).parts
        if Path(member).is_absolute() or ".." in parts:
            raise AssociationError(path, f"names a member outside its folder: {member}", _MEND)
    names = [exposure_name(member) for member in members]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise AssociationError(path, f"has members twice: {', '.join(twice)}", _MEND)


def member_files(path: str | Path, association: dict) -> list[Path]:
    """Files of the science members of a user's association, in its folder."""
    return [
        Path(path).parent / str(member["expname"])
        for product in association["products"]
        for member in product["members"]
        if member["exptype"] == "science"
    ]


def resolve_association(
    path: str | Path, association: dict, records: dict[str, dict], skymap: SkyMap, regular: dict
) -> tuple[dict[str, dict], list[str]]:
    """
    Take a user's association as it is, and settle the output grid of each of its products.

    The grid is that of the skycell named in the header's ``skycell_wcs_info``, else of ``target``; the
    name wins over numbers that disagree. Without a skycell it is a regular grid around the members.

    Parameters
    ----------
    path : str or path
        Where the association came from, for messages.
    association : dict
        See `read_association`.
    records : dict
        Records of exposures by name.
    skymap : SkyMap
        The sky map.
    regular : dict
        pixel_scale (degrees) and rotation (degrees) of regular grids.

    Returns
    -------
    associations : dict
        One association per product, by product name.
    warnings : list of str
        One line each.

    Raises
    ------
    AssociationError
        A product mixes filters.
    """
    info, notes = association.get("skycell_wcs_info"), []
    name = info.get("name") if isinstance(info, dict) else association.get("target")
    grid = None
    if isinstance(name, str) and name in skymap:
        grid = skymap.cell(name).grid
        if isinstance(info, dict) and _differs(info, grid):
            notes.append(f"{path}: skycell {name} and its numbers disagree; the name is used")
    elif isinstance(info, dict):
        try:
            grid = Grid.from_wcs_info(info)
        except (KeyError, TypeError, ValueError) as error:
            raise AssociationError(
                path, f"has an incomplete skycell_wcs_info ({error!r})", _MEND
            ) from error
    resolved = {}
    for product in association["products"]:
        members = [m for m in product["members"] if m["exptype"] == "science"]
        own = [records[exposure_name(m["expname"])] for m in members]
        filters = sorted({record["optical_element"] for record in own})
        if len(filters) > 1:
            raise AssociationError(
                path, f"mixes filters in product {product['name']}: {' '.join(filters)}", _MEND
            )
        settled = {key: value for key, value in association.items() if key != "products"}
        settled["skycell_wcs_info"] = grid.to_wcs_info() if grid else "none"
        if not grid:
            footprints = [record["footprint"] for record in own]
            settled["output_grid"] = regular_grid(footprints, **regular).to_wcs_info()
        settled["products"] = [{**product, "members": members}]
        resolved[product["name"]] = settled
    return resolved, notes


def _differs(info: dict, grid: Grid) -> bool:
    """Whether the numbers of a header are those of another place than the skycell's (half a pixel)."""
    try:
        ra, dec = Grid.from_wcs_info(info).center
        x, y = grid.to_pixel(ra, dec)
    except (KeyError, TypeError, ValueError, SkymapError):
        return True
    return not np.hypot(x - (grid.nx - 1) / 2, y - (grid.ny - 1) / 2) < 0.5


def regular_grid(
    footprints: list[dict], pixel_scale: float, rotation: float = 0.0, margin: int = 10
) -> Grid:
    """
    Smallest grid around footprints, with its tangent point in their middle.

    Parameters
    ----------
    footprints : list of dict
        {ra, dec} of vertices, degrees.
    pixel_scale : float
        Degrees per pixel.
    rotation : float
        Position angle of the +y axis, degrees east of north.
    margin : int
        Pixels around the footprints.
    """
    ra = np.concatenate([footprint["ra"] for footprint in footprints])
    dec = np.concatenate([footprint["dec"] for footprint in footprints])
    center = sky_position(unit_vector(ra, dec).sum(axis=1))
    grid = Grid(float(center[0]), float(center[1]), 0, 0, pixel_scale, 1, 1, float(rotation))
    x, y = grid.to_pixel(ra, dec)
    x_min, y_min = np.floor(x.min()) - margin, np.floor(y.min()) - margin
    nx, ny = int(np.ceil(x.max()) + margin - x_min) + 1, int(np.ceil(y.max()) + margin - y_min) + 1
    return replace(grid, x0=float(-x_min), y0=float(-y_min), nx=nx, ny=ny)


def read_grid(path: str | Path) -> Grid:
    """Grid on which the product of an association that `associate` wrote is made."""
    association = json.loads(Path(path).read_text())
    info = association["skycell_wcs_info"]
    return Grid.from_wcs_info(info if isinstance(info, dict) else association["output_grid"])


def read_footprints(records: Iterable[str | Path]) -> list[tuple[list[float], list[float]]]:
    """Vertices (ra, dec), degrees, of the footprints in records that `associate` wrote."""
    footprints = [json.loads(Path(path).read_text())["footprint"] for path in records]
    return [(footprint["ra"], footprint["dec"]) for footprint in footprints]


def cells_around(grid: Grid, footprints: list, reference_file: str | None = None) -> list[Grid]:
    """Grids of the skycells that a product's members touch; for a regular grid of those under it."""
    skymap = read_skymap(reference_file)
    names = [name for ra, dec in footprints for name in skymap.cells_overlapping(ra, dec)]
    return [skymap.cell(name).grid for name in dict.fromkeys(names)]
