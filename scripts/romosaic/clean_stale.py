"""
Step `clean_stale`: files of earlier runs that no association wants any more.

Only files that lie in the run's folder, and are named as the steps name theirs, are looked at. A link is
removed, never what it leads to; a folder that leads out of the run's is left alone; inputs are never removed.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .atomic import write_text
from .errors import ProductError
from .result_files import OF_ALL, patterns

_SHOWN = 20


@dataclass(frozen=True)
class Stale:
    """
    Files that nothing wants any more.

    Attributes
    ----------
    files : list of (str, int)
        Path and size (bytes), sorted.
    notes : list of str
        What was not looked at, a line each.
    """

    files: list[tuple[str, int]]
    notes: list[str]

    def report(self, removed: bool) -> list[str]:
        """Say, in lines, what was found and what to do about it."""
        lines = [f"{path}" for path, _ in self.files[:_SHOWN]]
        if len(self.files) > _SHOWN:
            lines.append(f"and {len(self.files) - _SHOWN} more, see clean_stale.tsv")
        size = sum(size for _, size in self.files) / 1e6
        what = f"{len(self.files)} files ({size:.1f} MB) that no association wants"
        todo = "" if removed or not self.files else " -> to remove them: clean_stale.remove: true"
        return [*lines, *self.notes, f"{what}{' removed' if removed else ''}{todo}"]


def stale_files(
    folder: str | Path,
    associations: Iterable[str],
    records: Iterable[str],
    inputs: Iterable[str],
) -> Stale:
    """
    Find the files of exposures and products that are not of this run.

    Parameters
    ----------
    folder : str or path
        The run's `output_dir`.
    associations, records : iterable of str
        All files ``<product>_asn.json`` and ``<exposure>.json`` of `associate`.
    inputs : iterable of str
        Files that must stay, wherever they lie.
    """
    root = Path(folder).resolve()
    products = {Path(path).name.removesuffix("_asn.json") for path in associations}
    exposures = {Path(path).name.removesuffix(".json") for path in records}
    kept = {_identity(path) for path in inputs}
    files, notes = [], []
    for step, pattern, of_exposure in patterns():
        place = Path(folder, pattern).parent
        if not place.is_dir():
            continue
        if not place.resolve().is_relative_to(root):
            notes.append(f"{place} leads out of {folder}: not looked at")
            continue
        prefix, suffix = Path(pattern).name.split("{}")
        wanted = exposures if of_exposure else products
        for entry in os.scandir(place):
            name = entry.name.removeprefix(prefix).removesuffix(suffix)
            ours = entry.name == f"{prefix}{name}{suffix}" and not name.startswith(".")
            if name == OF_ALL.get(step) and suffix in (".log", ".tsv"):
                continue
            if not ours or not name or name in wanted or entry.is_dir(follow_symlinks=False):
                continue
            if _identity(entry.path) not in kept:
                files.append((entry.path, entry.stat(follow_symlinks=False).st_size))
    return Stale(sorted(files), list(dict.fromkeys(notes)))


def _identity(path: str | Path) -> tuple[int, int] | str:
    """What is the same for all names of a file; the name itself where it leads nowhere."""
    try:
        found = os.stat(path)
    except OSError:
        return str(path)
    return found.st_dev, found.st_ino


def remove_files(files: Iterable[tuple[str, int]]) -> None:
    """
    Remove the files of `Stale`, of links only the link.

    Raises
    ------
    ProductError
        One cannot be removed; those before it are.
    """
    for path, _ in files:
        try:
            os.unlink(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            what = f"cannot be removed ({error.strerror})"
            raise ProductError(path, what, "check the permissions of its folder") from error


def write_table(path: str | Path, files: Iterable[tuple[str, int]], removed: bool) -> None:
    """Write a line per file: path, bytes, whether it was removed."""
    rows = [f"{name}\t{size}\t{'yes' if removed else 'no'}" for name, size in files]
    write_text(path, "\n".join(["file\tbytes\tremoved", *rows]) + "\n")
