"""Associations that users bring: read with distrust, taken as they are."""

import json
import re
from collections import Counter
from collections.abc import Container
from pathlib import Path

from .errors import AssociationError
from .names import NAME, exposure_name

#: Characters of a product's name: it becomes the name of files, with room for what the steps add.
_LONGEST = 150
MEND = "correct the association"


def read_association(path: str | Path, allow_outside: bool = False) -> dict:
    """
    Read a user's association and check its form.

    Parameters
    ----------
    path : str or path
        ``_asn.json`` file.
    allow_outside : bool, optional
        Members may lie outside the association's folder.

    Returns
    -------
    dict
        The association, as it is.

    Raises
    ------
    AssociationError
        The file is not JSON, has no products, has one product twice, or a product has an unusable name, no
        science members, the same member twice, or a member outside the association's folder.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise AssociationError(path, error.strerror or str(error), "check the path") from error
    except (ValueError, RecursionError) as error:
        raise AssociationError(path, f"is not JSON ({error})", MEND) from error
    products = content.get("products") if isinstance(content, dict) else None
    if not isinstance(products, list) or not products:
        raise AssociationError(path, "has no products", MEND)
    for product in products:
        _check_product(path, product, allow_outside)
    if twice := _repeated(product["name"] for product in products):
        raise AssociationError(path, f"has a product twice: {' '.join(twice)}", MEND)
    return content


def science_members(product: dict) -> list[dict]:
    """Members of a product that go into its mosaic."""
    return [member for member in product["members"] if str(member["exptype"]).lower() == "science"]


def member_files(path: str | Path, association: dict) -> list[Path]:
    """Files of the science members of a user's association, from its folder."""
    return [
        Path(path).parent / member["expname"]
        for product in association["products"]
        for member in science_members(product)
    ]


def refuse_missing(path: str | Path, files: list[Path], expected: Container[str] = ()) -> None:
    """
    Check that the members of a user's association are there.

    Parameters
    ----------
    path : str or path
        The association, for the message.
    files : list of Path
        See `member_files`.
    expected : container of str, optional
        Exposure names whose files are made in the course of the run.

    Raises
    ------
    AssociationError
        Names every missing file.
    """
    missing = [file for file in files if exposure_name(file) not in expected and not file.is_file()]
    if missing:
        names = ", ".join(str(file) for file in dict.fromkeys(missing))
        raise AssociationError(
            path, f"has members that do not exist: {names}", "put them there, or " + MEND
        )


def _repeated(names) -> list[str]:
    return sorted(name for name, count in Counter(names).items() if count > 1)


def _check_product(path: Path, product: dict, allow_outside: bool) -> None:
    name = product.get("name") if isinstance(product, dict) else None
    if not isinstance(name, str) or not re.fullmatch(NAME, name) or len(name) > _LONGEST:
        raise AssociationError(
            path,
            f"has a product with an unusable name ({name!r})",
            f"use up to {_LONGEST} letters, digits, . _ + -",
        )
    try:
        members = [member["expname"] for member in science_members(product)]
    except (KeyError, TypeError) as error:
        raise AssociationError(
            path, f"has a malformed member in product {name} ({error!r})", MEND
        ) from error
    if not members:
        raise AssociationError(path, f"has no science member in product {name}", MEND)
    for member in members:
        if not isinstance(member, str) or not Path(member).name or "\0" in member:
            raise AssociationError(path, f"has a member without a file name: {member!r}", MEND)
        outside = Path(member).is_absolute() or ".." in Path(member).parts
        if outside and not allow_outside:
            raise AssociationError(
                path,
                f"names a member outside its folder: {member}",
                f"{MEND}, or set associate.allow_outside: true",
            )
    if twice := _repeated(exposure_name(member) for member in members):
        raise AssociationError(path, f"has members twice: {', '.join(twice)}", MEND)
