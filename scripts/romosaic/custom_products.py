"""Custom mosaics, `associate.products` of the configuration: chosen exposures on a chosen grid."""

from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase

from .association import excluded_row, new_association, outsiders, split
from .errors import AssociationError
from .grid import Grid
from .names import exposure_name
from .record_footprints import RecordFootprints
from .regular_grids import RegularGrids
from .skymap import SkyMap

_MEND = "correct the product"


def check_custom(
    products: list[dict], names: Collection[str], skymap: SkyMap, regular: RegularGrids
) -> None:
    """
    Check what can be checked before a header is read: that members, skycells and grids exist.

    Parameters
    ----------
    products : list of dict
        `associate.products` of the configuration.
    names : collection of str
        Names of the exposures that there are.
    skymap : SkyMap
        The sky map.
    regular : RegularGrids
        How to make regular grids.

    Raises
    ------
    AssociationError
        A member matches no exposure, or is listed twice; a grid is to choose the members that it depends on.
    GridError
        The file of an `output_wcs` cannot be used.
    SkymapError
        A target is no skycell; names the nearest ones.
    """
    for product in products:
        if product["target"]:
            skymap.cell(product["target"])
        alone = not (product["members"] or product["region"] or product["target"])
        if _described(product, regular).fixed() is None and alone:
            raise AssociationError(
                _where(product),
                "its grid chooses its members, and its pixels are relative to theirs",
                "give grid.pixel_scale",
            )
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
    regular: RegularGrids,
    reasons: Mapping[str, str],
) -> tuple[dict[str, dict], list[str]]:
    """
    Choose the members of the custom products, and settle their grids.

    Parameters
    ----------
    names : collection of str
        Names of the exposures that products are made of.
    records : dict
        Records of those whose header is sound, by name (see `Records.placed`).
    skymap, parameters, regular
        As for `make_associations`.
    reasons : mapping
        Why exposures cannot be used, by name; products list those that they would have as members.

    Returns
    -------
    associations : dict
        One association per product and, where exposures are not listed, filter, by product name.
    warnings : list of str

    Raises
    ------
    AssociationError
        A product has no members, lists several filters, or needs too large a grid; two have one name.
    """
    made, notes = {}, []
    footprints = RecordFootprints([records[name] for name in sorted(names) if name in records])
    for product in parameters["products"] if split(footprints.records)[0] else ():
        where, described = _where(product), _described(product, regular)
        choosing = _choosing(product, skymap, described)
        found = _chosen(product, footprints, parameters["min_overlap_pixels"], choosing, skymap)
        members = [record for record in found if "excluded" not in record]
        if bad := _listed(product, names) & reasons.keys():
            notes.append(f"{where}: {len(bad)} of its members cannot be used")
        if (found or bad) and not members:
            notes.append(f"{where}: is not made: none of its members can be used")
            continue
        nowhere = [excluded_row(name, reasons[name]) for name in bad - records.keys()]
        for name, own in _by_filter(product, members).items():
            excluded = [*_excluded(found, own[0]["optical_element"]), *nowhere]
            if name in made:
                raise AssociationError(where, f"makes {name} a second time", "rename it")
            on_cell = choosing if product["target"] and regular.on_skycell else None
            grid, outside = _settled(own, on_cell, described, where)
            if outside:
                notes.append(f"{where}: not on its grid: {', '.join(outside)}")
            made[name] = new_association(name, own, grid, parameters["data_release_id"], excluded)
    return made, notes


def _settled(
    own: list[dict], on_cell: Grid | None, described: RegularGrids, where: str
) -> tuple[Grid, list[str]]:
    """Grid of a product, that of its skycell or a regular one, and the names of the members beside it."""
    if on_cell:
        return on_cell, RecordFootprints(own).outside(on_cell)
    grid = described.around(own, where)
    return grid, outsiders(own, grid, described)


def _excluded(records: list[dict], element: str) -> list[dict]:
    """Rows of the exposures of a filter that cannot be used."""
    return split([record for record in records if record["optical_element"] == element])[1]


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


def _described(product: dict, regular: RegularGrids) -> RegularGrids:
    """How to make the grid of a product that is not made on a skycell."""
    return regular.described(product["grid"]) if product["grid"] else regular


def _choosing(product: dict, skymap: SkyMap, regular: RegularGrids) -> Grid | None:
    """Grid whose exposures a product takes; None where the grid is made for the exposures."""
    if product["target"]:
        return skymap.cell(product["target"]).grid
    return regular.fixed() if product["grid"] else None


def _chosen(
    product: dict, footprints: RecordFootprints, least: float, grid: Grid | None, skymap: SkyMap
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
