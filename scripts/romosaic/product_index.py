"""Which products there are, of which filter and on which grid: what rules ask of the results of `associate`."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .errors import AssociationError
from .names import exposure_name

#: What the name of a product's association has behind that of the product.
ENDING = "_asn.json"
_DAMAGED = ValueError, TypeError, KeyError, IndexError, AttributeError


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
    for path in sorted((folder / "associations").glob(f"*{ENDING}")):
        names, info, skycell = _read_association(path)
        if names[0] not in elements:
            elements[names[0]] = _read_filter(folder / f"exposures/{names[0]}.json")
        place = elements[names[0]], skycell, json.dumps(info)
        found[path.name.removesuffix(ENDING)] = Product(*place, len(names))
    return found


def read_association(path: str | Path) -> tuple[list[str], int]:
    """
    Read the names of the exposures of a product, and the number of pixels of its grid.

    Raises
    ------
    AssociationError
        The file is damaged.
    """
    names, info, _ = _read_association(Path(path))
    return names, info["nx"] * info["ny"]


def _read_association(path: Path) -> tuple[list[str], dict, str]:
    """Names of the exposures, grid, and skycell or nothing."""
    with _told(path):
        content = json.loads(path.read_bytes())
        names = [exposure_name(m["expname"]) for m in content["products"][0]["members"]]
        info = content["skycell_wcs_info"]
        info = info if isinstance(info, dict) else content["output_grid"]
        # A user's association may give the numbers of a grid that is no skycell.
        skycell = "" if info["name"] == "none" else info["name"]
        if not (names and info["nx"] > 0 and info["ny"] > 0):
            raise ValueError("no members or no pixels")
        return names, info, skycell


def _read_filter(path: Path) -> str:
    with _told(path):
        return json.loads(path.read_bytes())["optical_element"]


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Say which file is damaged, and what to do."""
    todo = "run again: it is then written anew"
    try:
        yield
    except FileNotFoundError as error:
        raise AssociationError(path, "is missing", todo) from error
    except _DAMAGED as error:
        what = f"is damaged ({type(error).__name__}: {error})"
        raise AssociationError(path, what, todo) from error


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
