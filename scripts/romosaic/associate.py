"""
Step `associate`: from headers to products, the only step that sees all exposures.

Writes one record per exposure and one association per product, each only when its content changes: a run
after a change of input then finds exactly the products that the change concerns. No pixel is touched.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from .association import excluded_row, make_associations, resolve_association
from .atomic import remove_leftovers, write_text
from .custom_products import check_custom, make_custom
from .errors import AssociationError, ExposureError, RomosaicError
from .names import ASSOCIATION, exposure_name
from .records import Records, read_records
from .regular_grids import RegularGrids
from .skymap import SkyMap, read_skymap
from .user_association import member_files, read_association, refuse_missing, science_members

_SELECTION = "check section `associate`: skycells, filters, visits, region, min_overlap_pixels"


class Done(NamedTuple):
    """
    What `associate` did.

    Attributes
    ----------
    exposures, products : int
        How many are in the folder now.
    read : int
        How many headers were read; those of the other exposures were known.
    notes : list of str
        Warnings, one line each.
    """

    exposures: int
    products: int
    read: int
    notes: list[str]


def associate(
    folder: str | Path,
    exposures: Iterable[str],
    associations: Iterable[str],
    parameters: dict,
    *,
    reference_file: str | None = None,
    grids: dict | None = None,
    max_unusable_fraction: float = 0.5,
    workers: int = 1,
) -> Done:
    """
    Bring a folder of records and associations up to date with the exposures.

    Parameters
    ----------
    folder : str or path
        Receives ``associations/<product>_asn.json``, ``quarantine.tsv``, and what `records` writes.
    exposures : iterable of str
        Level-2 files to make products of, by skycell; one file per exposure name.
    associations : iterable of str
        Users' associations; their members need not be among `exposures`.
    parameters : dict
        Section `associate` of the configuration: by skycell, and `products` besides.
    reference_file : str, optional
        Sky map reference file; without it the map is computed.
    grids : dict, optional
        What section `resample` says of grids (`config_grids.GRID_KEYS`); by default a product without a skycell
        gets the smallest grid of the sky map's pixels around its members.
    max_unusable_fraction : float, optional
        Of section `flux`. When bad exposures are to be excluded, pixels are read, too: one with a larger share
        of unusable pixels, or with bytes that do not match their checksums, is bad.
    workers : int
        Processes that read headers.

    Raises
    ------
    RomosaicError
        Bad exposures, all in one message, unless they are to be excluded; a bad association; no product.
    """
    folder, skymap = Path(folder), read_skymap(reference_file)
    regular = RegularGrids(skymap.pixel_scale)
    regular = regular.described(grids) if grids else regular
    outside = parameters["allow_outside"]
    wanted = {path: read_association(path, outside) for path in associations}
    own = {exposure_name(path): Path(path) for path in exposures}
    check_custom(parameters["products"], own, skymap, regular)
    limit = None if parameters["on_bad_exposure"] == "stop" else max_unusable_fraction
    records = read_records(_with_members(own, wanted), folder, workers, limit)
    good, bad = records.good, records.bad
    if bad and (limit is None or not good):
        raise _Refused([str(error) for error in bad])
    products, notes = _make_products(own, wanted, records, skymap, parameters, regular)
    notes += _unused_wcs(products, regular) + _copies(good)
    records.write(folder)
    _write_associations(folder / "associations", products)
    notes += _write_quarantine(folder / "quarantine.tsv", bad)
    return Done(len(good), len(products), len(records.new), notes)


class _Refused(RomosaicError):
    """Several exposures that cannot be used, a line each."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        super().__init__("exposures", "; ".join(lines))

    def __str__(self) -> str:
        if len(self.lines) == 1:
            return self.lines[0]
        head = f"{len(self.lines)} exposures cannot be used"
        return "\n".join([head] + [f"  - {line}" for line in self.lines])


def _with_members(own: dict[str, Path], wanted: dict[str, dict]) -> dict[str, Path]:
    """Files by exposure name, with those of the members of users' associations."""
    files = dict(own)
    for path, association in wanted.items():
        members = member_files(path, association)
        refuse_missing(path, members, own)
        for member in members:
            files.setdefault(exposure_name(member), member)
    return files


def _make_products(
    own: dict[str, Path],
    wanted: dict[str, dict],
    records: Records,
    skymap: SkyMap,
    parameters: dict,
    regular: RegularGrids,
) -> tuple[dict[str, dict], list[str]]:
    """Associations by product name: by skycell, of the configuration, of users' files; and warnings."""
    placed, good = records.placed, records.good
    reasons = {exposure_name(error.where): error.what for error in records.bad}
    mine = [placed[name] for name in own if name in placed]
    products = make_associations(mine, skymap, parameters, regular)
    custom, notes = make_custom(own, placed, skymap, parameters, regular, reasons)
    _add(products, custom, "associate.products")
    for path, association in wanted.items():
        usable, left_out = _without_bad(path, association, reasons)
        settled, warnings = resolve_association(path, usable, good, skymap, regular)
        _add(products, settled, path)
        notes += left_out + warnings
    if not products:
        raise ExposureError("exposures", f"{len(good)} usable exposures: no product", _SELECTION)
    return products, notes


def _unused_wcs(products: dict[str, dict], regular: RegularGrids) -> list[str]:
    """Warn of products that an output_wcs does not place: in romancal it wins over their skycell."""
    number = sum(isinstance(p["skycell_wcs_info"], dict) for p in products.values())
    if not (regular.given and number):
        return []
    todo = "set resample.resample_on_skycell: false to make them on resample.output_wcs"
    return [f"{number} products are made on their skycells -> {todo}"]


def _copies(good: dict[str, dict]) -> list[str]:
    """Warn of files that are one exposure under several names."""
    first: dict[str, str] = {}
    pairs = [(first.setdefault(good[name]["fingerprint"], name), name) for name in sorted(good)]
    copies = [f"{name} is a copy of {other}" for other, name in pairs if other != name]
    more = f" (and {len(copies) - 1} more)" if len(copies) > 1 else ""
    return [f"{copies[0]}{more}, and both count -> keep one of them"] if copies else []


def _add(products: dict[str, dict], more: dict[str, dict], where: object) -> None:
    if twice := sorted(set(more) & set(products)):
        raise AssociationError(
            where,
            f"makes products that are made already: {' '.join(twice)}",
            "rename them, or leave their members out of `exposures`",
        )
    products.update(more)


def _without_bad(path: str, association: dict, reasons: dict[str, str]) -> tuple[dict, list[str]]:
    """Leave quarantined exposures out of a user's association, with a warning."""
    products, notes = [], []
    for product in association["products"]:
        members = science_members(product)
        usable = [m for m in members if exposure_name(m["expname"]) not in reasons]
        left_out = {exposure_name(m["expname"]) for m in members if m not in usable}
        if left_out:
            count = f"{len(left_out)} of {len(members)} members left out"
            fate = "" if usable else ", it is not made"
            notes.append(f"{path}: product {product['name']}: {count}{fate}")
        if usable:
            rows = [excluded_row(name, reasons[name]) for name in sorted(left_out)]
            told = {key: value for key, value in product.items() if key != "excluded"}
            told |= {"excluded": rows} if rows else {}
            products.append({**told, "members": usable})
    return {**association, "products": products}, notes


def _write_associations(folder: Path, products: dict[str, dict]) -> None:
    """Make a folder hold exactly these associations, touching only those that change."""
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder.parent, depth=1)
    for name, content in products.items():
        write_text(folder / f"{name}{ASSOCIATION}", json.dumps(content, indent=1) + "\n")
    for path in folder.glob(f"*{ASSOCIATION}"):
        if path.name.removesuffix(ASSOCIATION) not in products:
            path.unlink()


def _write_quarantine(path: Path, bad: list[ExposureError]) -> list[str]:
    """Write one line per exposure that cannot be used, and return a warning when there are any."""
    rows = ["exposure\treason"] + [f"{e.where}\t{' '.join(e.what.split())}" for e in bad]
    write_text(path, "\n".join(rows) + "\n")
    return [f"exposures that cannot be used: {len(bad)}, see {path}"] if bad else []
