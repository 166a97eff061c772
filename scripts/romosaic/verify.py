"""
Step `verify`: what of a run's files is missing, damaged, or not what the run would make now.

A file is read as a whole: bytes are held against their checksums, the tree against its schema, and what it says
of its members and parameters against the associations, the records and the configuration.
"""

import gc
import json
import multiprocessing
import struct
import zlib
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from .asdf_blocks import AsdfBlocks
from .atomic import write_text
from .errors import ProductError, RomosaicError, first_line
from .flux_file import open_flux
from .names import exposure_name
from .result_files import EXPOSURE, FINAL, PRODUCT

#: Lists of an intermediate file of a product that have an entry per member.
_LISTS = ("skymatch", "outlier_detection")
_PNG = b"\x89PNG\r\n\x1a\n"
#: Fewer files than this are not worth a process.
_FEW = 8


@dataclass(frozen=True)
class Wanted:
    """
    A file that a run makes.

    Attributes
    ----------
    path : str
        The file.
    step : str
        The step that makes it.
    inputs : list of dict
        Its members, ``name`` and ``fingerprint``, in order.
    parameters : dict or None
        Those of the step; None where its files do not hold them.
    """

    path: str
    step: str
    inputs: list[dict]
    parameters: dict | None

    @property
    def todo(self) -> str:
        """What the user can do when it is not in order."""
        when = "the next run makes it" if self.step in FINAL else "it is made when it is needed"
        return f"delete it, {when} again"


def wanted_files(
    folder: str | Path,
    associations: Iterable[str],
    records: Iterable[str],
    steps: dict[str, dict],
) -> list[Wanted]:
    """
    List the files of a run.

    Parameters
    ----------
    folder : str or path
        The run's `output_dir`.
    associations, records : iterable of str
        All files ``<product>_asn.json`` and ``<exposure>.json`` of `associate`.
    steps : dict
        Parameters by step.
    """
    marks, files = {}, []
    for path in records:
        record = json.loads(Path(path).read_text())
        marks[record["exposure"]] = record["fingerprint"]

    def add(made: dict, name: str, members: list[str]) -> None:
        inputs = [{"name": member, "fingerprint": marks.get(member)} for member in members]
        files.extend(
            Wanted(f"{folder}/{pattern.format(name)}", step, inputs, steps.get(step))
            for step, patterns in made.items()
            for pattern in patterns
        )

    used = {}
    for path in associations:
        product = json.loads(Path(path).read_text())["products"][0]
        used[product["name"]] = [exposure_name(m["expname"]) for m in product["members"]]
    for name in sorted({member for members in used.values() for member in members}):
        add(EXPOSURE, name, [name])
    for name, members in used.items():
        add(PRODUCT, name, members)
    return files


def check_files(
    files: list[Wanted], workers: int = 1, schemas: bool = True
) -> list[tuple[Wanted, int, str]]:
    """
    Check files.

    Parameters
    ----------
    files : list of Wanted
        What to check.
    workers : int, optional
        Processes.
    schemas : bool, optional
        Hold data models against their schemas, too.

    Returns
    -------
    list of (file, bytes, problem)
        The problem is empty for a file that is in order.
    """
    check = partial(_checked, schemas=schemas)
    if workers < 2 or len(files) < _FEW:
        return [check(file) for file in files]
    # The first one here: what its reading imports is shared with the workers (as in `records`).
    first = check(files[0])
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=gc.freeze) as pool:
        return [first, *pool.map(check, files[1:])]


def _checked(file: Wanted, schemas: bool) -> tuple[Wanted, int, str]:
    path = Path(file.path)
    try:
        size = path.stat().st_size
    except OSError:
        return file, 0, "is missing"
    try:
        reader = _READERS.get(path.suffix)
        problem = reader(path) if reader else _check_asdf(file, schemas)
    except RomosaicError as error:
        problem = error.what
    except Exception as error:  # each reader has its own kinds
        problem = f"cannot be read: {first_line(error)}"
    return file, size, problem


def _check_asdf(file: Wanted, schemas: bool) -> str:
    blocks = AsdfBlocks.read(file.path)
    tree = blocks.tree()
    blocks.verify()
    if file.step == "flux":
        open_flux(file.path).verify()
    own = tree.get("romosaic") if isinstance(tree, dict) else None
    found = own.get("provenance") if isinstance(own, dict) else None
    if not isinstance(found, dict):
        return "is not a file of this workflow"
    if found.get("inputs") != file.inputs:
        return "was made of other members, or of other content of theirs"
    changed = _changed(found.get("parameters"), file.parameters)
    if changed:
        return f"was made with another value of {', '.join(changed)}"
    if file.step in _LISTS:
        named = [row.get("exposure") for row in own.get("members", [])]
        return (
            "" if named == [entry["name"] for entry in file.inputs] else "does not list its members"
        )
    return _check_schema(file.path) if schemas and "roman" in tree else ""


def _changed(found: object, wanted: dict | None) -> list[str]:
    """Names of the parameters that differ; ASDF leaves out those that are None."""
    if wanted is None:
        return []
    found = found if isinstance(found, dict) else {}
    return [
        key
        for key in sorted({*found, *wanted})
        if _plain(found.get(key)) != _plain(wanted.get(key))
    ]


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items() if inner is not None}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _check_schema(path: str) -> str:
    import roman_datamodels.datamodels as rdm

    with rdm.open(path) as model:
        try:
            model.validate()
        except Exception as error:  # asdf and the data models raise many kinds
            return f"is not valid by its schema: {first_line(error)}"
    return ""


def _check_png(path: Path) -> str:
    """Hold the chunks of a picture against their checksums (PNG specification, section 5)."""
    content, place = path.read_bytes(), len(_PNG)
    if not content.startswith(_PNG):
        return "is no PNG picture"
    kind = b""
    while kind != b"IEND":
        if place + 12 > len(content):
            return "is cut short"
        (size,) = struct.unpack_from(">I", content, place)
        kind = content[place + 4 : place + 8]
        body = content[place + 4 : place + 8 + size]
        place += 12 + size
        if place > len(content):
            return "is cut short"
        if zlib.crc32(body) != struct.unpack_from(">I", content, place - 4)[0]:
            return "is corrupt: a part does not match its checksum"
    return "" if place == len(content) else "is corrupt: it goes on behind its end"


def _check_jpeg(path: Path) -> str:
    """Look at the ends of a picture: JPEG has no checksums."""
    content = path.read_bytes()
    if not content.startswith(b"\xff\xd8"):
        return "is no JPEG picture"
    return "" if content.endswith(b"\xff\xd9") else "is cut short"


def _check_json(path: Path) -> str:
    """Read measures, which have no checksums."""
    return "" if isinstance(json.loads(path.read_text()), dict) else "does not hold measures"


def _check_parquet(path: Path) -> str:
    """Hold a table, which has no checksums, against that of the ASDF file beside it."""
    import asdf
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    with asdf.open(path.with_suffix(".asdf"), validate_checksums=True, memmap=False) as file:
        source = file["roman"]["source_catalog"]
        if table.column_names != list(source.colnames) or table.num_rows != len(source):
            return "does not hold the table of the .asdf file beside it"
        for name in source.colnames:
            here, there = np.asarray(table[name].to_numpy()), np.asarray(source[name])
            if not np.array_equal(here, there, equal_nan=there.dtype.kind == "f"):
                return f"does not hold the table of the .asdf file beside it: {name}"
    return ""


_READERS = {
    ".png": _check_png,
    ".jpg": _check_jpeg,
    ".json": _check_json,
    ".parquet": _check_parquet,
}


def write_table(path: str | Path, table: Iterable[tuple[Wanted, int, str]]) -> None:
    """Write a line per file: path, bytes, problem."""
    rows = [f"{file.path}\t{size}\t{problem}" for file, size, problem in table]
    write_text(path, "\n".join(["file\tbytes\tproblem", *rows]) + "\n")


class _Problems(ProductError):
    """Several files that are not in order, a line each."""

    def __init__(self, number: int, lines: list[str]) -> None:
        self.number, self.lines = number, lines
        super().__init__("files", "; ".join(lines))

    def __str__(self) -> str:
        head = f"{len(self.lines)} of {self.number} files are not in order"
        return "\n".join([head, *(f"  - {line}" for line in self.lines)])


def refuse_problems(table: list[tuple[Wanted, int, str]]) -> None:
    """
    Raise when a file of a table is not in order.

    Raises
    ------
    ProductError
        Naming all such files, what is wrong and what to do, a line each.
    """
    lines = []
    for file, _, problem in table:
        missing = problem == "is missing"
        todo = file.todo.removeprefix("delete it, ") if missing else file.todo
        if problem:
            lines.append(f"{file.path}: {problem} -> {todo}")
    if lines:
        raise _Problems(len(table), lines)
