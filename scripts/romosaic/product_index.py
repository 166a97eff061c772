"""Which products there are, of which filter and on which grid: what rules ask of the results of `associate`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .names import exposure_name

_ENDING = "_asn.json"


@dataclass(frozen=True)
class Product:
    """
    A product as its association describes it.

    Attributes
    ----------
    optical_element : str
        Filter.
    skycell : str
        Empty on another grid.
    grid : str
        Its grid: products of equal text have the same pixels.
    members : int
        Number of its exposures.
    """

    optical_element: str
    skycell: str
    grid: str
    members: int


def read(folder: str | Path) -> dict[str, Product]:
    """
    Read the products of a run.

    Parameters
    ----------
    folder : str or path
        Results of `associate`: ``associations`` and ``exposures``.

    Returns
    -------
    dict
        `Product` by name, sorted.
    """
    folder, elements, found = Path(folder), {}, {}
    for path in sorted((folder / "associations").glob(f"*{_ENDING}")):
        content = json.loads(path.read_text())
        members = content["products"][0]["members"]
        first = exposure_name(members[0]["expname"])
        if first not in elements:
            record = json.loads((folder / f"exposures/{first}.json").read_text())
            elements[first] = record["optical_element"]
        info = content["skycell_wcs_info"]
        grid = info if isinstance(info, dict) else content["output_grid"]
        # A user's association may give the numbers of a grid that is no skycell.
        skycell = "" if grid["name"] == "none" else grid["name"]
        place = elements[first], skycell, json.dumps(grid)
        found[path.name.removesuffix(_ENDING)] = Product(*place, len(members))
    return found


def partner(products: Mapping[str, Product], name: str, optical_element: str) -> str | None:
    """
    Find the product of another filter on the grid of a product.

    Parameters
    ----------
    products : mapping
        `Product` by name.
    name : str
        The product.
    optical_element : str
        The other filter.

    Returns
    -------
    str or None
        Of several the one of the same name but for the filter, else the one of most exposures.
    """
    own = products[name]
    same = f"{name.removesuffix(own.optical_element.lower())}{optical_element.lower()}"
    others = [
        other
        for other, product in products.items()
        if product.optical_element == optical_element and product.grid == own.grid
    ]
    if same in others:
        return same
    return max(sorted(others), key=lambda other: products[other].members, default=None)
