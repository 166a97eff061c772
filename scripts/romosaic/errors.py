"""Errors that users meet: one line each, saying which file, what is wrong and what to do."""

import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: Environment variable: "log" keeps messages of jobs off the terminal, where the run is drawn (`terminal`).
MESSAGES = "ROMOSAIC_MESSAGES"
#: What to do about a file that a step made and that is damaged.
REMAKE = "delete it and run again"
#: What a step says that was told to end, by a scheduler or by hand: why is not known to it.
TERMINATED = "ended by SIGTERM"


class RomosaicError(Exception):
    """
    A problem that the user can mend.

    Parameters
    ----------
    where : str or path
        The file, configuration key or product concerned.
    what : str
        What is wrong with it.
    todo : str, optional
        What the user can do about it.
    """

    def __init__(self, where: object, what: str, todo: str = "") -> None:
        self.where, self.what, self.todo = str(where), what, todo
        super().__init__(self.where, what, todo)

    def __str__(self) -> str:
        line = f"{self.where}: {self.what}"
        if self.todo:
            line += f" -> {self.todo}"
        return " ".join(line.split())


class ConfigError(RomosaicError):
    """The configuration is wrong; `problems` holds one line per problem."""

    def __init__(self, where: object, problems: list[str]) -> None:
        self.problems = list(problems)
        super().__init__(where, "; ".join(self.problems))

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return f"{self.where}: {self.problems[0]}"
        lines = [f"{self.where}: {len(self.problems)} problems"]
        return "\n".join(lines + [f"  - {problem}" for problem in self.problems])

    def __reduce__(self):
        """Rebuild from the list of problems, so that the error survives a process pool."""
        return type(self), (self.where, self.problems)


class ExposureError(RomosaicError):
    """An exposure cannot be used; `record` is the record of its header, where that is sound."""

    record: dict | None = None


class AssociationError(RomosaicError):
    """An association cannot be used."""


class SkymapError(RomosaicError):
    """A skycell or a sky map file cannot be used."""


class GridError(RomosaicError):
    """An output grid cannot be used."""


class ProductError(RomosaicError):
    """An intermediate file or a product cannot be read or written."""


def first_line(error: Exception) -> str:
    """Say in a line, and not a long one, what another library's error says; its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


@contextmanager
def reported(log: str | Path) -> Iterator[None]:
    """
    Run a step: its messages go to a log, its failure ends in one line.

    Standard output and error are written to `log` and to the terminal's standard error; to `log` alone where
    the environment variable `MESSAGES` says so. A failure ends the process with exit code 1; the reason is the
    last line of both, the traceback is in the log only. Ctrl-C and SIGTERM, which Slurm sends before it kills,
    end it with 130 and 143, and what it was writing is removed.

    Parameters
    ----------
    log : str or path
        Log file of the job; created with its folder.
    """
    try:
        Path(log).parent.mkdir(parents=True, exist_ok=True)
        stream = open(log, "w", buffering=1, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
    except OSError as error:
        print(_one_line(error), file=sys.stderr)
        sys.exit(1)
    terminal, output = sys.stderr, sys.stdout
    seen = [] if os.environ.get(MESSAGES) == "log" else [terminal]
    sys.stdout = sys.stderr = _Tee(*seen, stream)
    try:
        with _heard():
            yield
    except _Terminated:
        print(f"romosaic: {TERMINATED} -> the same command goes on from here", file=sys.stderr)
        sys.exit(128 + signal.SIGTERM)
    except KeyboardInterrupt:
        print("romosaic: stopped -> the same command goes on from here", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        with suppress(OSError):
            stream.write(traceback.format_exc())
        line = _one_line(error)
        print(line, file=sys.stderr)
        try:
            stream.flush()
        except OSError:  # a full disk: who sees the terminal is told all the same
            if not seen:
                print(line, file=terminal)
        sys.exit(1)
    finally:
        sys.stdout, sys.stderr = output, terminal
        with suppress(OSError):
            stream.close()


class _Terminated(KeyboardInterrupt):
    """SIGTERM."""


@contextmanager
def _heard() -> Iterator[None]:
    """Raise `_Terminated` at SIGTERM, unless somebody else takes care of it."""
    this, ending = os.getpid(), signal.SIGTERM

    def stop(*_) -> None:
        signal.signal(ending, signal.SIG_DFL)  # a second one ends what does not end
        if os.getpid() != this:  # a worker
            os.kill(os.getpid(), ending)
        raise _Terminated

    main = threading.current_thread() is threading.main_thread()
    ours = main and signal.getsignal(ending) is signal.SIG_DFL
    if ours:
        signal.signal(ending, stop)
    try:
        yield
    finally:
        if ours:
            signal.signal(ending, signal.SIG_DFL)


@contextmanager
def told() -> Iterator[None]:
    """
    Run a command-line tool: its failure ends in one line on standard error and exit code 1.

    Of what was not foreseen the traceback stands before that line.
    """
    try:
        yield
        sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        foreseen = isinstance(error, RomosaicError | MemoryError | ModuleNotFoundError) or (
            isinstance(error, OSError) and error.filename
        )
        if not foreseen:
            traceback.print_exc()
        print(_one_line(error, "report it with the traceback above"), file=sys.stderr)
        sys.exit(1)


def _one_line(error: Exception, todo: str = "the traceback is in the job's log") -> str:
    if isinstance(error, RomosaicError):
        return f"romosaic: {error}"
    if isinstance(error, OSError) and error.filename:
        return f"romosaic: {error.filename}: {error.strerror}"
    if isinstance(error, ModuleNotFoundError):
        todo = "source .venv/bin/activate (`make venv` makes it)"
        return f"romosaic: this Python has no package {error.name} -> {todo}"
    if isinstance(error, MemoryError):
        return (
            "romosaic: out of memory -> give the rule more mem_mb or lower the step's memory budget"
        )
    text = " ".join(str(error).split()) or "no message"
    return f"romosaic: unexpected {type(error).__name__}: {text} -> {todo}"


class _Tee(io.TextIOBase):
    """A text stream that writes to the terminal and to the log, as far as they take it: disks may be full."""

    encoding = "utf-8"

    def __init__(self, *streams) -> None:
        self.streams = streams

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        for stream in self.streams:
            with suppress(OSError):
                stream.write(text)
        return len(text)

    def flush(self) -> None:
        for stream in self.streams:
            with suppress(OSError):
                if not stream.closed:  # as the log may be when Python, at its end, closes this
                    stream.flush()

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return self.streams[0].fileno()
