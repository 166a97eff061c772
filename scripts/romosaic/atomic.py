"""Files and folders that appear whole or not at all, whatever interrupts their writing."""

import ctypes
import os
import platform
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from .errors import ProductError

#: Seconds after which what nobody on another node has written to is no writer's any more.
_ABANDONED = 600.0
#: Temporary names: hidden, with the file's own name around ours, the writer's node and process.
_TEMPORARY = re.compile(r"\.(?P<stem>.+)\.romosaic-(?P<node>.+)-(?P<pid>\d+)(?P<suffix>(\.[^.]+)?)")
#: Bytes below which the disk is not asked to begin.
_MUCH = 1 << 22
#: Of `sync_file_range`: begin, and wait for nothing.
_WRITE_ONLY = 2


@contextmanager
def atomic(path: str | Path, sweep: bool = True) -> Iterator[Path]:
    """
    Write a file under a temporary name and give it its own only when it is complete.

    Parameters
    ----------
    path : str or path
        The file to make; its folder is created.
    sweep : bool, optional
        First remove what killed writers of this file have left. Reads the folder: not for many small files.

    Yields
    ------
    Path
        Temporary name in the same folder with the same suffix. On success it is flushed to disk and renamed,
        on failure removed.

    Raises
    ------
    ProductError
        The disk is full or the folder cannot be written.
    """
    path = Path(path)
    temporary = _temporary(path)
    with _blamed(path, temporary):
        path.parent.mkdir(parents=True, exist_ok=True)
        if sweep:
            _sweep(path)
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """
    Fill a folder under a temporary name, and give it its own, in place of what is there, when it is complete.

    Parameters
    ----------
    path : str or path
        The folder to make. What killed writers of it have left is removed first.

    Yields
    ------
    Path
        Empty folder beside it. On success its files are flushed to disk and it is renamed, on failure removed.

    Raises
    ------
    ProductError
        The disk is full or the folder cannot be written.
    """
    path = Path(path)
    temporary = _temporary(path)
    with _blamed(path, temporary):
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        shutil.rmtree(temporary, ignore_errors=True)  # of an earlier block of this process
        temporary.mkdir()
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _flush(file)
        shutil.rmtree(path, ignore_errors=True)
        os.replace(temporary, path)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.stem}.romosaic-{platform.node()}-{os.getpid()}{path.suffix}")


def _flush(path: Path) -> None:
    with open(path, "rb+") as stream:
        os.fsync(stream.fileno())


def begin_flush(stream: BinaryIO, start: int) -> None:
    """
    Let the system begin to put on disk what a file got, so that the wait at its end is shorter.

    Parameters
    ----------
    stream : binary file
        A file that is open for writing.
    start : int
        First byte that it got since the last call.
    """
    size = stream.tell() - start
    if size < _MUCH:
        return
    stream.flush()
    begin = getattr(ctypes.CDLL(None), "sync_file_range", None)  # Linux has it
    if begin:
        begin(stream.fileno(), ctypes.c_int64(start), ctypes.c_int64(size), _WRITE_ONLY)


def _sweep(path: Path) -> None:
    """Remove what killed writers of a file have left of it."""
    for entry in os.scandir(path.parent):
        name = _TEMPORARY.fullmatch(entry.name)
        if name and (name["stem"], name["suffix"]) == (path.stem, path.suffix):
            _remove_leftover(Path(entry.path), name)


@contextmanager
def _blamed(path: Path, temporary: Path) -> Iterator[None]:
    """Tell what fails in writing by the file's own name, and leave nothing under the temporary one."""
    try:
        yield
    except OSError as error:
        if not _concerns(error, path, temporary):
            raise  # what was read to write it
        raise ProductError(
            path, f"cannot be written ({error.strerror or error})", "check space and permissions"
        ) from error
    finally:
        with suppress(OSError):  # what went wrong before matters more
            _remove(temporary)


def _concerns(error: OSError, path: Path, temporary: Path) -> bool:
    """Whether an error is about a file, what is written of it, or a folder that it is to lie in."""
    if not isinstance(error.filename, str | os.PathLike):
        return True
    place = Path(error.filename)
    return place in (path, *path.parents) or temporary in (place, *place.parents)


def _remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_leftovers(folder: str | Path, depth: int = 0) -> tuple[list[Path], list[Path]]:
    """
    Remove temporary files and folders whose writers no longer live, as far as this node can tell.

    Parameters
    ----------
    folder : str or path
        Where they are; need not exist.
    depth : int, optional
        How far down its folders are looked at, too.

    Returns
    -------
    removed, at_work : list of Path
        What is gone, and what may have a writer.
    """
    removed, at_work = [], []
    # What cannot be read is left out.
    for place, folders, files in os.walk(folder, followlinks=True):
        for entry in (*folders, *files):
            if name := _TEMPORARY.fullmatch(entry):
                path = Path(place, entry)
                (removed if _remove_leftover(path, name) else at_work).append(path)
        deep = len(Path(place).relative_to(folder).parts) >= depth
        folders[:] = [] if deep else [name for name in folders if not name.startswith(".")]
    return sorted(removed), sorted(at_work)


def _remove_leftover(path: Path, name: re.Match) -> bool:
    """Remove a temporary file or folder, unless its writer may be at work; whether it is gone."""
    with suppress(OSError):  # another job was faster
        if name["node"] == platform.node():
            left = not _alive(int(name["pid"]))
        else:
            left = time.time() - _last_written(path) > _ABANDONED
        if left:
            _remove(path)
    return not os.path.lexists(path)


def _last_written(path: Path) -> float:
    """When a file was written to, or anything in a folder."""
    return max(p.lstat().st_mtime for p in (path, *path.rglob("*")))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    try:  # one that has ended stands there until its parent has asked for it
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:  # ended by now, or a system without /proc
        return not Path("/proc/self/stat").exists()
    return state != "Z"


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, but leave it alone when it holds this text already, its age unchanged."""
    path = Path(path)
    if path.is_file() and path.read_bytes() == text.encode():
        return
    with atomic(path, sweep=False) as temporary:
        temporary.write_bytes(text.encode())
