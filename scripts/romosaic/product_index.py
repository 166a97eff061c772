"""Which products there are, of which filter and on which grid: what rules ask of the results of `associate`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from . import association_file
from .names import ASSOCIATION


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

    @property
    def region(self) -> str:
        """Projection region, with which the name of the skycell begins; none on another grid."""
        return self.skycell.partition("x")[0] or "none"


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

    Raises
    ------
    AssociationError
        A file is damaged or missing.
    """
    folder, elements, found = Path(folder), {}, {}
    for path in sorted((folder / "associations").glob(f"*{ASSOCIATION}")):
        names, info, skycell = _read(path)
        if names[0] not in elements:
            record = folder / f"exposures/{names[0]}.json"
            with association_file.damage_told(record):
                elements[names[0]] = association_file.read(record)["optical_element"]
        place = elements[names[0]], skycell, json.dumps(info)
        found[path.name.removesuffix(ASSOCIATION)] = Product(*place, len(names))
    return found


def exposures_and_pixels(path: str | Path) -> tuple[list[str], int]:
    """
    Read the names of the exposures of a product, and the number of pixels of its grid.

    Raises
    ------
    AssociationError
        The file is damaged.
    """
    names, info, _ = _read(path)
    return names, info["nx"] * info["ny"]


def _read(path: str | Path) -> tuple[list[str], dict, str]:
    """Names of the exposures, grid, and skycell or nothing."""
    with association_file.damage_told(path):
        content = association_file.read(path)
        names, info = association_file.member_names(content), association_file.grid_info(content)
        # A user's association may give the numbers of a grid that is no skycell.
        skycell = "" if info["name"] == "none" else info["name"]
        if not (names and info["nx"] > 0 and info["ny"] > 0):
            raise ValueError("no members or no pixels")
        return names, info, skycell


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


def batch(products: Mapping[str, Product], text: str) -> list[str]:
    """
    Choose the products of a part of a survey.

    Parameters
    ----------
    products : mapping
        `Product` by name.
    text : str
        "k/n": which of how many parts.

    Returns
    -------
    list of str
        Names, by skycell: neighbours, which share exposures, are in one part if they can. Products of one
        skycell, or of one other grid, are in the same part; each product is in just one of the n parts.
    """
    part, parts = (int(number) for number in text.split("/"))
    places = {name: product.skycell or product.grid for name, product in products.items()}
    ordered = sorted(products, key=lambda name: (places[name], name))
    first: dict[str, int] = {}
    for number, name in enumerate(ordered):
        first.setdefault(places[name], number)
    return [name for name in ordered if first[places[name]] * parts // len(ordered) == part - 1]
