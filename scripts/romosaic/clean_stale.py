"""
Step `clean_stale`: files and folders of earlier runs that no association wants any more.

Only what lies in the run's folder, and is named as the steps name theirs, is looked at: files of exposures,
products, filters, projection regions and skycells. A link is removed, never what it leads to; a folder that
leads out of the run's is left alone; inputs are never removed.
"""

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .atomic import write_text
from .errors import ProductError
from .result_files import OF_ALL, patterns

_SHOWN = 20
#: Names of kinds that a user's own files could have by chance; those of the others stand with an ending.
_FORMS = {"filter": re.compile(r"f\d{3}")}


@dataclass(frozen=True)
class Stale:
    """
    Files and folders that nothing wants any more.

    Attributes
    ----------
    files : list of (str, int)
        Path and size (bytes, of a folder of all that is in it), sorted.
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
    folder: str | Path, wanted: Mapping[str, set[str]], inputs: Iterable[str | Path]
) -> Stale:
    """
    Find the files and folders of exposures, products, filters and skycells that are not of this run.

    Parameters
    ----------
    folder : str or path
        The run's `output_dir`.
    wanted : mapping
        Names of what is of this run, see `result_files.names`.
    inputs : iterable of str
        Files that must stay, wherever they lie.
    """
    root = Path(folder).resolve()
    kept = {_identity(path) for path in inputs}
    files, notes = [], []
    for place, step, pattern, kind in _places(Path(folder)):
        if not place.resolve().is_relative_to(root):
            notes.append(f"{place} leads out of {folder}: not looked at")
            continue
        prefix, suffix = Path(pattern).name.split("{}")
        for entry in os.scandir(place):
            name = entry.name.removeprefix(prefix).removesuffix(suffix)
            ours = entry.name == f"{prefix}{name}{suffix}" and not name.startswith(".")
            if kind in _FORMS and not _FORMS[kind].fullmatch(name):
                continue
            if name == OF_ALL.get(step) and suffix in (".log", ".tsv"):
                continue
            # a pattern without an ending is that of a folder
            if not ours or not name or name in wanted[kind] or (suffix and _is_folder(entry)):
                continue
            inside = _inside(entry.path) if _is_folder(entry) else [entry.path]
            if kept.isdisjoint(map(_identity, inside)):
                size = sum(os.lstat(path).st_size for path in inside)
                files.append((entry.path, size))
    return Stale(sorted(files), list(dict.fromkeys(notes)))


def _places(folder: Path) -> Iterator[tuple[Path, str, str, str]]:
    """Yield the folders that are there, each with what `patterns` says of the files in it."""
    for step, pattern, kind in patterns():
        parent = str(Path(pattern).parent)
        for place in sorted(folder.glob(parent)) if "*" in parent else [folder / parent]:
            if place.is_dir():
                yield place, step, pattern, kind


def _is_folder(entry: os.DirEntry) -> bool:
    return entry.is_dir(follow_symlinks=False)


def _inside(folder: str) -> list[str]:
    """All files of a folder."""
    return [os.path.join(place, name) for place, _, names in os.walk(folder) for name in names]


def _identity(path: str | Path) -> tuple[int, int] | str:
    """What is the same for all names of a file; the name itself where it leads nowhere."""
    try:
        found = os.stat(path)
    except OSError:
        return str(path)
    return found.st_dev, found.st_ino


def remove_files(files: Iterable[tuple[str, int]]) -> None:
    """
    Remove the files and folders of `Stale`, of links only the link, and folders that are empty then.

    Raises
    ------
    ProductError
        One cannot be removed; those before it are.
    """
    for path, _ in files:
        try:
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            what = f"cannot be removed ({error.strerror})"
            raise ProductError(path, what, "check the permissions of its folder") from error
        with suppress(OSError):  # not empty
            os.removedirs(os.path.dirname(path))


def write_table(path: str | Path, files: Iterable[tuple[str, int]], removed: bool) -> None:
    """Write a line per file: path, bytes, whether it was removed."""
    rows = [f"{name}\t{size}\t{'yes' if removed else 'no'}" for name, size in files]
    write_text(path, "\n".join(["file\tbytes\tremoved", *rows]) + "\n")
