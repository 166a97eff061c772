"""
Step `verify`: what of a run's files is missing, damaged, or not what the run would make now.

A file is read as a whole: bytes are held against their checksums, the tree against its schema, and what it says
of its members and parameters against the associations, the records and the configuration.
"""

import gc
import multiprocessing
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from . import association_file, product_index, result_files
from .asdf_blocks import AsdfBlocks
from .asdf_tree import without_seal
from .atomic import write_text
from .errors import ProductError, RomosaicError, first_line
from .file_checks import problem_of
from .flux_file import open_flux
from .result_files import path_of

#: Lists of an intermediate file of a product that have an entry per member.
_LISTS = ("skymatch", "outlier_detection")
#: Fewer files than this are not worth a process.
_FEW = 8


@dataclass(frozen=True)
class Wanted:
    """
    A file that a run makes, or a folder whose own files are looked at.

    Attributes
    ----------
    path : str
        The file or folder.
    step : str
        The step that makes it.
    inputs : list of dict or None
        Its members, ``name`` and ``fingerprint``, in order; None where its files do not hold them.
    steps : dict or None
        Parameters of all steps, by step; None where its files do not hold those that made them.
    whole : str
        The folder that is made as a whole, of which it is a part; empty for others.
    """

    path: str
    step: str
    inputs: list[dict] | None = None
    steps: dict[str, dict] | None = None
    whole: str = ""

    @property
    def todo(self) -> str:
        """What the user can do when it is not in order."""
        final = {*result_files.FINAL, *result_files.FINAL_OF_ALL}
        when = "the next run makes it" if self.step in final else "it is made when it is needed"
        return f"delete {self.whole or 'it'}, {when} again"


def wanted_files(
    folder: str | Path,
    associations: Iterable[str],
    records: Iterable[str],
    steps: dict[str, dict],
    colors: Iterable[str] = (),
) -> list[Wanted]:
    """
    List the files of a run; those that are made on request only where they are.

    Parameters
    ----------
    folder : str or path
        The run's `output_dir`.
    associations, records : iterable of str
        All files ``<product>_asn.json`` and ``<exposure>.json`` of `associate`.
    steps : dict
        Parameters by step.
    colors : iterable of str, optional
        Filters of the colour pictures.
    """
    marks, files = {}, []
    for path in records:
        record = association_file.read(path)
        marks[record["exposure"]] = record["fingerprint"]

    def add(made: dict, name: str, members: list[str]) -> None:
        inputs = [{"name": member, "fingerprint": marks.get(member)} for member in members]
        files.extend(
            Wanted(f"{folder}/{path_of(pattern, name)}", step, inputs, steps)
            for step, patterns in made.items()
            for pattern in patterns
        )

    used = {}
    for path in associations:
        association = association_file.read(path)
        used[association["products"][0]["name"]] = association_file.member_names(association)
    for name in sorted({member for members in used.values() for member in members}):
        add(result_files.EXPOSURE, name, [name])
    for name, members in used.items():
        add(result_files.PRODUCT, name, members)
    products = product_index.read(Path(folder) / "associate") if used else {}
    named = {**result_files.names(products, marks, colors), "run": {""}}
    return [*files, *_shared(Path(folder), named)]


def _shared(folder: Path, named: dict[str, set[str]]) -> Iterator[Wanted]:
    """Yield what is of filters, projection regions, skycells and the run, and the exports of products."""
    kinds = {**result_files.KINDS, "product": result_files.EXPORT, "run": result_files.RUN}
    del kinds["exposure"]
    for kind, made in kinds.items():
        for step, patterns in made.items():
            places = (
                path_of(pattern, name) for pattern in patterns for name in sorted(named[kind])
            )
            for path in map(folder.joinpath, places):
                if path.is_dir():
                    below = sorted(inner for inner in path.rglob("*") if inner.is_dir())
                    for part in (path, *below):
                        yield Wanted(str(part), step, whole=str(path))
                elif step in result_files.FINAL_OF_ALL or path.exists():
                    yield Wanted(str(path), step)


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


def _checked(wanted: Wanted, schemas: bool) -> tuple[Wanted, int, str]:
    path = Path(wanted.path)
    if not path.is_dir():
        return wanted, *_of_file(path, wanted, schemas)
    inside = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    if not inside:
        return wanted, 0, "is empty"
    total = 0
    for file in (entry for entry in inside if not entry.is_dir()):
        size, problem = _of_file(file, wanted, schemas)
        total += size
        if problem:
            return wanted, total, f"{file.name} {problem}"
    return wanted, total, ""


def _of_file(path: Path, wanted: Wanted, schemas: bool) -> tuple[int, str]:
    """Bytes of a file, and what is wrong with it."""
    try:
        size = path.stat().st_size
    except OSError:
        return 0, "is missing"
    try:
        asdf = path.suffix == ".asdf"
        problem = _check_asdf(str(path), wanted, schemas) if asdf else problem_of(path)
    except RomosaicError as error:
        problem = error.what
    except Exception as error:  # each reader has its own kinds
        problem = f"cannot be read: {first_line(error)}"
    return size, problem


def _check_asdf(path: str, wanted: Wanted, schemas: bool) -> str:
    blocks = AsdfBlocks.read(path)
    tree = blocks.tree
    if blocks.text == without_seal(blocks.text):
        return "is corrupt: its header has lost its checksum"
    if wanted.step == "flux":
        open_flux(path).verify()
    else:
        blocks.verify()
    own = tree.get("romosaic") if isinstance(tree, dict) else None
    found = own.get("provenance") if isinstance(own, dict) else None
    if not isinstance(found, dict):
        return "is not a file of this workflow"
    if wanted.inputs is None:
        return ""
    if found.get("inputs") != wanted.inputs:
        return "was made of other members, or of other content of theirs"
    changed = _changed(found.get("parameters"), wanted.steps.get(wanted.step))
    if changed:
        return f"was made with another value of {', '.join(changed)}"
    for step, parameters in found.get("steps", {}).items():
        if changed := _changed(parameters, wanted.steps.get(step)):
            return f"was made of files of {step} with another value of {', '.join(changed)}"
    if wanted.step in _LISTS:
        named = [row.get("exposure") for row in own.get("members", [])]
        in_order = named == [entry["name"] for entry in wanted.inputs]
        return "" if in_order else "does not list its members"
    return _check_schema(path) if schemas and "roman" in tree else ""


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
