"""What Snakemake knows of earlier runs and of others: without it, changed parameters are not noticed."""

import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from .atomic import remove_leftovers
from .errors import AssociationError
from .product_index import read
from .result_files import DEPTH, EXPOSURE, PRODUCT

#: Where Snakemake keeps its records, below the folder that it runs in: of finished jobs, of unfinished ones.
_RECORDS = (Path(".snakemake/metadata"), Path(".snakemake/incomplete"))
_LOCKS = Path(".snakemake/locks")
#: Files that a line names.
_NAMED = 3


def run_at_work() -> str:
    """Warn, in one line, of another run in this folder: Snakemake's refusal takes many."""
    if not _locked():
        return ""
    return (
        "another run is at work in this folder, or one was killed -> wait for it to end; after a kill, "
        "run once with --unlock, then with --rerun-incomplete"
    )


def lock(files: Iterable[str]) -> None:
    """
    Lock files that a run has come to know it will make, in Snakemake's way, if it has locks at all.

    Snakemake locks what it knows at the start, which is no product while `associate` is to run; it removes
    all locks at the end.

    Parameters
    ----------
    files : iterable of str
        Paths as the rules have them.
    """
    if _locked():
        numbers = (path.name.split(".")[0] for path in _LOCKS.glob("*.output.lock"))
        free = max((int(number) for number in numbers), default=-1) + 1
        (_LOCKS / f"{free}.output.lock").write_text("".join(f"{file}\n" for file in files))


def _locked() -> bool:
    return _LOCKS.is_dir() and any(_LOCKS.iterdir())


def unrecorded(files: Iterable[str]) -> list[str]:
    """
    List the files that exist and of which Snakemake has no record.

    Parameters
    ----------
    files : iterable of str
        Paths as the rules have them.
    """
    return [file for file in files if Path(file).exists() and not _recorded(file)]


def damaged_associations(folder: str, reader: Callable[[str], object] = read) -> str:
    """
    Warn, in one line, of a damaged file of `associate`, and see to it that the step runs again, which mends it.

    Of several the first is named; all are written anew.

    Parameters
    ----------
    folder : str
        The run's `output_dir`, as the rules have it.
    reader : callable, optional
        Reads the products from the folder of `associate`, as `product_index.read` does.
    """
    try:
        reader(f"{folder}/associate")
    except AssociationError as error:
        for place in _places(f"{folder}/associate"):
            place.unlink(missing_ok=True)  # what has no record runs: see `lost_records`
        return f"{error.where}: {error.what} -> it is written anew"
    return ""


def _recorded(file: str) -> bool:
    return any(place.exists() for place in _places(file))


def _places(file: str) -> list[Path]:
    """Where Snakemake keeps what it knows of a file."""
    code = urlsafe_b64encode(file.encode()).decode()
    longest = os.pathconf(".", "PC_NAME_MAX") - 1  # what is longer is broken into folders
    parts = [code[start : start + longest] for start in range(0, len(code), longest)]
    place = Path(*(f"@{part}" for part in parts[:-1]), parts[-1])
    return [folder / place for folder in _RECORDS]


def lost_records(folder: str) -> str:
    """
    Warn, in one line, when Snakemake does not know what made the results of an earlier run.

    What `associate`, `verify` and `clean_stale` left is then made to look as old as can be: they cost seconds,
    and without their record they would not be run again when exposures come and go.

    Parameters
    ----------
    folder : str
        The run's `output_dir`, as the rules have it.

    Returns
    -------
    str
        Empty when there is a record of every file of `flux` and `resample`.
    """
    for name in ("associate", "verify/verify.tsv", "clean_stale/clean_stale.tsv"):
        for file in unrecorded([f"{folder}/{name}"]):
            _look_old(file)
    made = []
    for pattern in (*EXPOSURE["flux"], *PRODUCT["resample"]):
        found = Path(folder).glob(pattern.format("*"))
        made += [f"{folder}/{path.parent.name}/{path.name}" for path in found]
    lost = unrecorded(made)
    if not lost:
        return ""
    return (
        f"{folder}: no record of what made {len(lost)} of {len(made)} files (.snakemake is lost or of "
        "another folder, or Snakemake was killed): changed parameters and code are not noticed -> run with "
        "the target verify, which names files that do not fit the configuration; then with --touch "
        "--forceall, once, which makes new records"
    )


def half_done(folder: str) -> str:
    """
    Warn, in one line, of files whose jobs Snakemake did not see end, and see to it that they are made again.

    A job may outlive the Snakemake that was killed, and end as it was told then: with other parameters, maybe.
    Snakemake has a mark of each, but looks at those alone that it knows of at the start, before `associate`.

    Parameters
    ----------
    folder : str
        The run's `output_dir`, as the rules have it.

    Returns
    -------
    str
        Empty when there are none.
    """
    root, marks = Path(folder), _RECORDS[1]
    found = []
    for path in marks.rglob("*") if marks.is_dir() else ():
        if path.is_file():
            code = "".join(part.removeprefix("@") for part in path.relative_to(marks).parts)
            with suppress(ValueError):  # no mark
                file = urlsafe_b64decode(code).decode()
                if Path(file).is_relative_to(root) and Path(file).exists():
                    _look_old(file)
                    found.append(file)
    if not found:
        return ""
    return f"a run was killed while it made {_some(sorted(found))} -> made again"


def clear_up(folder: str | Path) -> list[str]:
    """
    Remove what killed jobs have left, and say so, and which jobs are still at work.

    Parameters
    ----------
    folder : str or path
        The run's `output_dir`.

    Returns
    -------
    list of str
        Lines, none where there was nothing.
    """
    removed, at_work = remove_leftovers(folder, DEPTH)
    lines = [f"removed what killed jobs have left: {_some(removed)}"] if removed else []
    if at_work:
        lines.append(f"jobs are still at work: {_some(at_work)} -> wait for them, or end them")
    return lines


def _look_old(file: str) -> None:
    """Make a file, or a folder, whose age is in a file of its own, as old as can be."""
    for path in (file, f"{file}/.snakemake_timestamp"):
        with suppress(OSError):
            os.utime(path, (0, 0))


def _some(files: list) -> str:
    """Name a few files."""
    more = len(files) - _NAMED
    return ", ".join(map(str, files[:_NAMED])) + (f" and {more} more" if more > 0 else "")
