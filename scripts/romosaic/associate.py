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

from .association import make_associations, resolve_association
from .code_digest import code_digest
from .custom_products import check_custom, make_custom
from .errors import AssociationError, ExposureError, RomosaicError, SkymapError
from .exposure import fingerprint, read_record
from .footprint import closed_polygon
from .names import exposure_name
from .product import write_text
from .skymap import SkyMap, read_skymap
from .user_association import member_files, read_association, refuse_missing, science_members

#: What a record holds (see `exposure.read_record`); one that lacks any is made again.
_KEYS = {
    "exposure",
    "fingerprint",
    "detector",
    "optical_element",
    "visit_id",
    "exposure_time",
    "start_time",
    "end_time",
    "shape",
    "footprint",
}
_SELECTION = "check section `associate`: skycells, filters, visits, region, min_overlap_pixels"
_LEAVE_OUT = "leave it out of `exposures`, or set associate.on_bad_exposure: exclude"


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
        Receives ``exposures/<exposure>.json``, ``associations/<product>_asn.json``, ``quarantine.tsv`` and
        ``reader.txt``, the code that read the records: other code reads them again.
    exposures : iterable of str
        Level-2 files to make products of, by skycell; one file per exposure name.
    associations : iterable of str
        Users' associations; their members need not be among `exposures`.
    parameters : dict
        Section `associate` of the configuration: by skycell, and `products` besides.
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
    n_exposures, n_products, notes
        How many are in the folder now; warnings, one line each.

    Raises
    ------
    RomosaicError
        Bad exposures, all in one message, unless they are to be excluded; a bad association; no product.
    """
    folder, skymap = Path(folder), read_skymap(reference_file)
    outside = parameters["allow_outside"]
    wanted = {path: read_association(path, outside) for path in associations}
    own = {exposure_name(path): Path(path) for path in exposures}
    check_custom(parameters["products"], own, skymap)
    records, bad = _read_records(_with_members(own, wanted), folder, workers)
    if bad and (parameters["on_bad_exposure"] == "stop" or not records):
        raise _Refused([str(error) for error in bad])
    scale = skymap.pixel_scale if pixel_scale is None else pixel_scale / 3600
    regular = {"pixel_scale": scale, "rotation": rotation or 0.0}
    products, notes = _make_products(own, wanted, records, skymap, parameters, regular)
    _write_folder(folder / "exposures", ".json", records)
    write_text(folder / "reader.txt", code_digest("exposure"))
    _write_folder(folder / "associations", "_asn.json", products)
    return len(records), len(products), notes + _write_quarantine(folder / "quarantine.tsv", bad)


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


def _read_records(
    files: dict[str, Path], folder: Path, workers: int
) -> tuple[dict[str, dict], list[ExposureError]]:
    """Read the records of all files, taking those that are known already from the folder."""
    # The readers' imports are shared with the forked workers. Forked, because a started interpreter would run
    # the job's script again.
    import asdf
    import gwcs  # noqa: F401

    asdf.get_config().extensions  # noqa: B018
    mark = folder / "reader.txt"
    current = mark.exists() and mark.read_bytes() == code_digest("exposure").encode()
    jobs = [
        (path, folder / "exposures" / f"{name}.json" if current else None)
        for name, path in sorted(files.items())
    ]
    if workers > 1 and len(jobs) > 1:
        context = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            results = list(pool.map(_read_one, jobs, chunksize=max(1, len(jobs) // (8 * workers))))
    else:
        results = [_read_one(job) for job in jobs]
    bad = [result for result in results if isinstance(result, ExposureError)]
    good = {result["exposure"]: result for result in results if isinstance(result, dict)}
    return good, bad


def _read_one(job: tuple[Path, Path | None]) -> dict | ExposureError:
    path, known = job
    try:
        record = _known_record(known, exposure_name(path))
        if record and record["fingerprint"] == fingerprint(path):
            return record
        record = read_record(path)
        closed_polygon(record["footprint"]["ra"], record["footprint"]["dec"])
        return record
    except ExposureError as error:
        return error
    except SkymapError as error:
        return ExposureError(
            path, f"has a WCS without a usable footprint: it {error.what}", _LEAVE_OUT
        )
    except MemoryError:
        raise
    except Exception as error:  # one odd header among thousands must not end the run untold
        return ExposureError(
            path, f"has no usable header ({type(error).__name__}: {error})", _LEAVE_OUT
        )


def _known_record(path: Path | None, name: str) -> dict | None:
    """Record of an earlier run; None when there is none or it is damaged."""
    try:
        record = json.loads(path.read_bytes()) if path else None
    except (OSError, ValueError):
        return None
    whole = isinstance(record, dict) and record.keys() >= _KEYS and record["exposure"] == name
    return record if whole else None


def _make_products(
    own: dict[str, Path],
    wanted: dict[str, dict],
    records: dict[str, dict],
    skymap: SkyMap,
    parameters: dict,
    regular: dict,
) -> tuple[dict[str, dict], list[str]]:
    """Associations by product name: by skycell, of the configuration, of users' files; and warnings."""
    mine = [records[name] for name in own if name in records]
    products = make_associations(mine, skymap, parameters)
    custom, notes = make_custom(own, records, skymap, parameters, regular)
    _add(products, custom, "associate.products")
    notes += _add_associations(products, wanted, records, skymap, regular)
    if not products:
        raise ExposureError("exposures", f"{len(records)} usable exposures: no product", _SELECTION)
    return products, notes


def _add_associations(
    products: dict[str, dict],
    wanted: dict[str, dict],
    records: dict[str, dict],
    skymap: SkyMap,
    regular: dict,
) -> list[str]:
    """Add the products of users' associations; returns warnings."""
    notes = []
    for path, association in wanted.items():
        usable, left_out = _without_bad(path, association, records)
        settled, warnings = resolve_association(path, usable, records, skymap, regular)
        _add(products, settled, path)
        notes += left_out + warnings
    return notes


def _add(products: dict[str, dict], more: dict[str, dict], where: object) -> None:
    if twice := sorted(set(more) & set(products)):
        raise AssociationError(
            where,
            f"makes products that are made already: {' '.join(twice)}",
            "rename them, or leave their members out of `exposures`",
        )
    products.update(more)


def _without_bad(path: str, association: dict, records: dict[str, dict]) -> tuple[dict, list[str]]:
    """Leave quarantined exposures out of a user's association, with a warning."""
    products, notes = [], []
    for product in association["products"]:
        members = science_members(product)
        usable = [m for m in members if exposure_name(m["expname"]) in records]
        if not usable:
            raise AssociationError(
                path,
                f"has no usable member in product {product['name']}",
                "run with associate.on_bad_exposure: stop to see why",
            )
        if len(usable) < len(members):
            count = f"{len(members) - len(usable)} of {len(members)} members"
            notes.append(f"{path}: product {product['name']}: {count} left out")
        products.append({**product, "members": usable})
    return {**association, "products": products}, notes


def _write_folder(folder: Path, suffix: str, contents: dict[str, dict]) -> None:
    """Make a folder hold exactly these JSON files, touching only those that change."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        write_text(folder / f"{name}{suffix}", json.dumps(content, indent=1) + "\n")
    for path in folder.glob(f"*{suffix}"):
        if path.name.removesuffix(suffix) not in contents:
            path.unlink()


def _write_quarantine(path: Path, bad: list[ExposureError]) -> list[str]:
    """Write one line per exposure that cannot be used, and return a warning when there are any."""
    rows = ["exposure\treason"] + [f"{e.where}\t{' '.join(e.what.split())}" for e in bad]
    write_text(path, "\n".join(rows) + "\n")
    return [f"exposures that cannot be used: {len(bad)}, see {path}"] if bad else []
