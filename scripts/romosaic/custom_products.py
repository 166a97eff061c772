"""Custom mosaics, `associate.products` of the configuration: chosen exposures on a chosen grid."""

from collections.abc import Collection
from fnmatch import fnmatchcase

import numpy as np

from .association import new_association, regular_grid
from .circles import footprint_meets_circle
from .errors import AssociationError
from .footprint import closed_polygon, square_overlaps
from .grid import Grid, unit_vector
from .names import exposure_name
from .skymap import SkyMap

_MEND = "correct the product"


def check_custom(products: list[dict], names: Collection[str], skymap: SkyMap) -> None:
    """
    Check what can be checked before a header is read: that members and skycells exist.

    Parameters
    ----------
    products : list of dict
        `associate.products` of the configuration.
    names : collection of str
        Names of the exposures that there are.
    skymap : SkyMap
        The sky map.

    Raises
    ------
    AssociationError
        A member matches no exposure, or is listed twice.
    SkymapError
        A target is no skycell; names the nearest ones.
    """
    for product in products:
        if product["target"]:
            skymap.cell(product["target"])
        members = [exposure_name(member) for member in product["members"]]
        if len(set(members)) < len(members):
            twice = sorted({member for member in members if members.count(member) > 1})
            raise AssociationError(_where(product), f"has members twice: {', '.join(twice)}", _MEND)
        if unknown := [member for member in members if not _matches(member, names)]:
            raise AssociationError(
                _where(product),
                f"has members that match no exposure: {', '.join(unknown)}",
                "name exposures of `exposures`, without folder",
            )


def make_custom(
    names: Collection[str],
    records: dict[str, dict],
    skymap: SkyMap,
    parameters: dict,
    regular: dict,
) -> tuple[dict[str, dict], list[str]]:
    """
    Choose the members of the custom products, and settle their grids.

    Parameters
    ----------
    names : collection of str
        Names of the exposures that products are made of.
    records : dict
        Records of those that can be used (see `exposure.read_record`), by name.
    skymap : SkyMap
        The sky map.
    parameters : dict
        Section `associate` of the configuration.
    regular : dict
        pixel_scale (degrees) and rotation (degrees) of regular grids.

    Returns
    -------
    associations : dict
        One association per product and, where exposures are not listed, filter, by product name.
    warnings : list of str
        One line each.

    Raises
    ------
    AssociationError
        A product has no members, lists members of several filters, or needs too large a grid; two have one
        name.
    """
    made, notes = {}, []
    footprints = _Footprints([records[name] for name in sorted(names) if name in records])
    for product in parameters["products"] if footprints.records else ():
        grid = _grid(product, skymap, regular)
        members = _chosen(product, footprints, parameters["min_overlap_pixels"], grid, skymap)
        if product["members"]:
            notes += _warnings(product, names, members, footprints, grid)
        for name, own in _by_filter(product, members).items():
            if name in made:
                raise AssociationError(_where(product), f"makes {name} a second time", "rename it")
            frame = grid or regular_grid(
                [record["footprint"] for record in own], **regular, where=_where(product)
            )
            made[name] = new_association(name, own, frame, parameters["data_release_id"])
    return made, notes


class _Footprints:
    """Records of exposures, with their outlines as unit vectors and the circles around them."""

    def __init__(self, records: list[dict]) -> None:
        self.records = records
        found = [closed_polygon(r["footprint"]["ra"], r["footprint"]["dec"]) for r in records]
        self.polygons = [polygon for polygon, _, _ in found]
        self.centers = np.array([center for _, center, _ in found]).reshape(-1, 3)
        self.radii = np.array([radius for _, _, radius in found])

    def near(self, center: np.ndarray, radius: float) -> list[int]:
        """Numbers of those whose circle meets a circle (unit vector; radians)."""
        chord = np.linalg.norm(self.centers - center, axis=1)
        distance = 2 * np.arcsin(np.clip(chord / 2, 0, 1))
        return np.flatnonzero(distance <= self.radii + radius + 1e-9).tolist()

    def in_circle(self, ra: float, dec: float, radius: float) -> set[int]:
        """Numbers of those that meet a circle on the sky, degrees."""
        return {
            number
            for number in self.near(unit_vector(ra, dec), np.radians(radius))
            if footprint_meets_circle(self.polygons[number], ra, dec, radius)
        }

    def on_grid(self, grid: Grid) -> dict[int, float]:
        """Areas (pixels of the grid) of those that overlap a grid, by number."""
        center = unit_vector(*grid.center)
        corners = unit_vector(*grid.corners()) - center[:, None]
        radius = 2 * np.arcsin(np.clip(np.linalg.norm(corners, axis=0).max() / 2, 0, 1))
        areas = {}
        for number in self.near(center, radius):
            u, v, w = grid.frame @ self.polygons[number]
            if w.min() <= 0:
                continue
            # Stretched along y, the grid is a square about the origin.
            stretch = grid.nx / grid.ny
            x = u / w / grid.scale + grid.x0 - (grid.nx - 1) / 2
            y = (v / w / grid.scale + grid.y0 - (grid.ny - 1) / 2) * stretch
            zero = np.zeros(1)
            area = square_overlaps(x[None], y[None], zero.astype(int), zero, zero, grid.nx)
            if area[0] / stretch > 1e-4:
                areas[number] = float(area[0] / stretch)
        return areas


def _where(product: dict) -> str:
    return f"associate.products: {product['name']}"


def _matches(member: str, names: Collection[str]) -> list[str]:
    """Exposures that a member of a custom product, a name or a glob of names, stands for."""
    if member in names:
        return [member]
    return [name for name in names if fnmatchcase(name, member)]


def _listed(product: dict, names: Collection[str]) -> set[str]:
    members = (exposure_name(member) for member in product["members"])
    return {name for member in members for name in _matches(member, names)}


def _grid(product: dict, skymap: SkyMap, regular: dict) -> Grid | None:
    """Grid that a product asks for; None for one around its members."""
    if product["target"]:
        return skymap.cell(product["target"]).grid
    given = product["grid"]
    if not given:
        return None
    scale, rotation = given["pixel_scale"], given["rotation"]
    return Grid(
        ra0=given["ra"],
        dec0=given["dec"],
        x0=(given["nx"] - 1) / 2,
        y0=(given["ny"] - 1) / 2,
        pixel_scale=regular["pixel_scale"] if scale is None else scale / 3600,
        nx=given["nx"],
        ny=given["ny"],
        orientation=regular["rotation"] if rotation is None else rotation,
    )


def _chosen(
    product: dict, footprints: _Footprints, least: float, grid: Grid | None, skymap: SkyMap
) -> list[dict]:
    """Records of the members of a product, in the order of their names."""
    records = footprints.records
    if product["members"]:
        wanted = _listed(product, {record["exposure"] for record in records})
        numbers = {k for k, record in enumerate(records) if record["exposure"] in wanted}
    else:
        numbers = set(range(len(records)))
        if product["region"]:
            numbers = footprints.in_circle(**product["region"])
        if grid:
            # The limit is in pixels of skycells.
            least *= (skymap.pixel_scale / grid.pixel_scale) ** 2
            numbers &= {k for k, area in footprints.on_grid(grid).items() if area >= least}
    element = product["filter"]
    return [records[k] for k in sorted(numbers) if element in (None, records[k]["optical_element"])]


def _by_filter(product: dict, members: list[dict]) -> dict[str, list[dict]]:
    """Members of each product that an entry makes, by product name."""
    elements = sorted({record["optical_element"] for record in members})
    if not elements:
        of = f" of filter {product['filter']}" if product["filter"] else ""
        raise AssociationError(_where(product), f"no usable exposure{of} is chosen", _MEND)
    if product["members"] and len(elements) > 1:
        raise AssociationError(
            _where(product), f"mixes filters: {' '.join(elements)}", "give `filter`"
        )
    if product["members"] or product["filter"]:
        return {product["name"]: members}
    return {
        f"{product['name']}_{element.lower()}": [
            record for record in members if record["optical_element"] == element
        ]
        for element in elements
    }


def _warnings(
    product: dict,
    names: Collection[str],
    members: list[dict],
    footprints: _Footprints,
    grid: Grid | None,
) -> list[str]:
    """Warn of listed members that cannot be used, and of those that do not touch the grid."""
    usable = {record["exposure"] for record in footprints.records}
    bad = _listed(product, names) - usable
    notes = [f"{_where(product)}: {len(bad)} of its members cannot be used"] if bad else []
    if grid:
        touching = footprints.on_grid(grid)
        there = {footprints.records[number]["exposure"] for number in touching}
        if outside := [r["exposure"] for r in members if r["exposure"] not in there]:
            notes.append(f"{_where(product)}: not on its grid: {', '.join(outside)}")
    return notes
