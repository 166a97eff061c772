"""Files that appear whole or not at all, whatever interrupts their writing."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import ProductError


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """
    Write a file under a temporary name and give it its own only when it is complete.

    Parameters
    ----------
    path : str or path
        The file to make; its folder is created.

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


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, but leave it alone when it holds this text already, its age unchanged."""
    path = Path(path)
    if path.is_file() and path.read_bytes() == text.encode():
        return
    with atomic(path) as temporary:
        temporary.write_bytes(text.encode())
