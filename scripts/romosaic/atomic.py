"""Files and folders that appear whole or not at all, whatever interrupts their writing."""

import os
import platform
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import ProductError

#: Seconds after which a temporary file that nobody has written to is no writer's any more.
_ABANDONED = 60.0


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
    temporary = path.with_name(f".{path.stem}.{platform.node()}.{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if sweep:
            remove_leftovers(path.parent, re.escape(path.stem), re.escape(path.suffix))
        yield temporary
        with open(temporary, "rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise ProductError(
            path, f"cannot be written ({error.strerror or error})", "check space and permissions"
        ) from error
    finally:
        with suppress(OSError):  # what went wrong before matters more
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: str | Path) -> Iterator[Path]:
    """
    Fill a folder under a temporary name and give it its own only when it is complete.

    Parameters
    ----------
    folder : str or path
        The folder to make; what it held before is replaced.

    Yields
    ------
    Path
        Temporary folder beside it, empty. On success it is renamed, on failure removed; those that killed
        writers on this node have left are removed first.

    Raises
    ------
    ProductError
        The disk is full or the place cannot be written.
    """
    folder = Path(folder)
    own = f".{folder.name}.{platform.node()}."
    temporary = folder.with_name(f"{own}{os.getpid()}")
    try:
        for left in folder.parent.glob(f"{own}*"):
            number = left.name.removeprefix(own)
            if number.isdecimal() and (left == temporary or not _alive(int(number))):
                shutil.rmtree(left, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(temporary, folder)
    except OSError as error:
        raise ProductError(
            folder, f"cannot be written ({error.strerror or error})", "check space and permissions"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_leftovers(folder: Path, stem: str = ".+", suffix: str = r"\.[^.]+") -> None:
    """
    Remove temporary files whose writers no longer live, as far as this node can tell.

    Parameters
    ----------
    folder : Path
        Where they are; need not exist.
    stem, suffix : str, optional
        Patterns of the names of the files that they were to become; by default of any.
    """
    name = re.compile(rf"\.{stem}\.(.*)\.(\d+){suffix}")
    for entry in os.scandir(folder) if folder.is_dir() else ():
        found = name.fullmatch(entry.name)
        if found:
            dead = found[1] == platform.node() and not _alive(int(found[2]))
            with suppress(OSError):  # another job was faster
                if dead or time.time() - entry.stat().st_mtime > _ABANDONED:
                    os.unlink(entry.path)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return True


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, but leave it alone when it holds this text already, its age unchanged."""
    path = Path(path)
    if path.is_file() and path.read_bytes() == text.encode():
        return
    with atomic(path, sweep=False) as temporary:
        temporary.write_bytes(text.encode())
