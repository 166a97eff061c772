"""
Step `associate`: from headers to products, the only step that sees all exposures.

Writes one record per exposure and one association per product, each only when its content changes: a run
after a change of input then finds exactly the products that the change concerns. No pixel is touched.
"""

import json
import multiprocessing
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from .association import (
    make_associations,
    member_files,
    read_association,
    resolve_association,
)
from .errors import AssociationError, ExposureError, RomosaicError
from .exposure import fingerprint, read_record
from .names import exposure_name
from .product import write_text
from .skymap import read_skymap


def associate(
    folder: str | Path,
    exposures: Iterable[str],
    associations: Iterable[str],
    parameters: dict,
    *,
    reference_file: str | None = None,
    pixel_scale: float | None = None,
    rotation: float | None = None,
    workers: int = 1,
) -> tuple[int, int, list[str]]:
    """
    Bring a folder of records and associations up to date with the exposures.

    Parameters
    ----------
    folder : str or path
        Receives ``exposures/<exposure>.json``, ``associations/<product>_asn.json`` and ``quarantine.tsv``.
    exposures : iterable of str
        Level-2 files to make products of, by skycell.
    associations : iterable of str
        Users' associations; their members need not be among `exposures`.
    parameters : dict
        Section `associate` of the configuration.
    reference_file : str, optional
        Sky map reference file; without it the map is computed.
    pixel_scale : float, optional
        Pixel scale of regular grids, arcseconds; by default that of the sky map.
    rotation : float, optional
        Position angle of the +y axis of regular grids, degrees; by default 0.
    workers : int
        Processes that read headers.

    Returns
    -------
    n_exposures, n_products : int
        How many are in the folder now.
    notes : list of str
        Warnings, one line each.

    Raises
    ------
    RomosaicError
        Bad exposures (all of them in one message), unless `on_bad_exposure` is ``exclude``; an association
        that cannot be used; nothing left to do.
    """
    folder = Path(folder)
    skymap = read_skymap(reference_file)
    wanted = {path: read_association(path) for path in associations}
    files = {Path(path) for path in exposures}
    own = {exposure_name(path) for path in files}
    for path, association in wanted.items():
        files.update(member_files(path, association))
    records, bad = _read_records(sorted(files), folder / "exposures", workers)
    if bad and parameters["on_bad_exposure"] == "stop":
        raise _Refused([str(error) for error in bad])
    products = make_associations(
        [record for name, record in records.items() if name in own], skymap, parameters
    )
    notes = []
    scale = skymap.pixel_scale if pixel_scale is None else pixel_scale / 3600
    regular = {"pixel_scale": scale, "rotation": rotation or 0.0}
    for path, association in wanted.items():
        _drop_bad_members(path, association, records)
        settled, warnings = resolve_association(path, association, records, skymap, regular)
        if twice := sorted(set(settled) & set(products)):
            raise AssociationError(path, f"makes a product again: {twice[0]}", "rename it")
        products.update(settled)
        notes += warnings
    if not products:
        raise ExposureError(
            "exposures",
            f"the {len(records)} usable exposures make no product",
            "check the selection in section `associate`",
        )
    _write_folder(folder / "exposures", ".json", records)
    _write_folder(folder / "associations", "_asn.json", products)
    rows = ["exposure\treason"] + [f"{error.where}\t{error.what}" for error in bad]
    write_text(folder / "quarantine.tsv", "\n".join(rows) + "\n")
    return len(records), len(products), notes


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


def _read_records(
    files: list[Path], folder: Path, workers: int
) -> tuple[dict[str, dict], list[ExposureError]]:
    """Read the records of all files, taking those that are known already from the folder."""
    # The readers' imports are shared with the forked workers. Forked, because a started interpreter would run
    # the job's script again.
    import asdf
    import gwcs  # noqa: F401

    asdf.get_config().extensions  # noqa: B018
    jobs = [(path, folder / f"{exposure_name(path)}.json") for path in files]
    if workers > 1 and len(jobs) > 1:
        context = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            results = list(pool.map(_read_one, jobs, chunksize=max(1, len(jobs) // (8 * workers))))
    else:
        results = [_read_one(job) for job in jobs]
    bad = [result for result in results if isinstance(result, ExposureError)]
    good = {result["exposure"]: result for result in results if isinstance(result, dict)}
    return good, bad


def _read_one(job: tuple[Path, Path]) -> dict | ExposureError:
    path, known = job
    try:
        if known.exists():
            record = json.loads(known.read_text())
            if record.get("fingerprint") == fingerprint(path):
                return record
        return read_record(path)
    except ExposureError as error:
        return error
    except ValueError:  # a damaged record of an earlier run
        return read_record(path)


def _drop_bad_members(path: str, association: dict, records: dict[str, dict]) -> None:
    """Leave quarantined exposures out of a user's association."""
    for product in association["products"]:
        product["members"] = [
            member
            for member in product["members"]
            if member["exptype"] != "science" or exposure_name(member["expname"]) in records
        ]
        if not any(member["exptype"] == "science" for member in product["members"]):
            raise AssociationError(
                path,
                f"has no usable member left in product {product['name']}",
                "see quarantine.tsv",
            )


def _write_folder(folder: Path, suffix: str, contents: dict[str, dict]) -> None:
    """Make a folder hold exactly these JSON files, touching only those that change."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        write_text(folder / f"{name}{suffix}", json.dumps(content, indent=1) + "\n")
    for path in folder.glob(f"*{suffix}"):
        if path.name.removesuffix(suffix) not in contents:
            path.unlink()
