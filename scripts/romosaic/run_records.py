"""What Snakemake knows of earlier runs and of others: without it, changed parameters are not noticed."""

import os
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from .errors import AssociationError
from .product_index import read
from .result_files import EXPOSURE, PRODUCT

#: Where Snakemake keeps its records, below the folder that it runs in: of finished jobs, of unfinished ones.
_RECORDS = (Path(".snakemake/metadata"), Path(".snakemake/incomplete"))
_LOCKS = Path(".snakemake/locks")


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
            # the age of a folder is in a file of its own
            for path in (file, f"{file}/.snakemake_timestamp"):
                with suppress(OSError):
                    os.utime(path, (0, 0))
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
