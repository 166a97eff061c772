"""
A run on a terminal: a few lines that are drawn anew, instead of a message for each thing that happens.

What stays on the screen: warnings, failures, and the answers of jobs that were asked for one. Everything else
is in the logs, where Snakemake writes as ever. Where standard error is no terminal (files, pipes), and on
Slurm, `run_lines` has the word.
"""

import ast
import logging
import os
import re
import shutil
import time
from collections.abc import Mapping
from typing import TextIO

from .progress import Progress
from .run_lines import EVENTS, Lines, News, clock, matters, state

#: Running jobs that are shown.
SHOWN = 12
#: Jobs of a dry run that are listed one by one.
LISTED = 100
#: Seconds between two drawings, at least.
PAUSE = 0.1
#: Last line of a dry run of which not all jobs are known.
DEPENDS = "the rest depends on associate: run it as a target, then -n again"


def clip(line: str, width: int) -> str:
    """Cut a line that is longer than the terminal is wide."""
    return line if len(line) < width else line[: max(width - 4, 0)] + "..."


def status(progress: Progress, width: int) -> list[str]:
    """
    Say in lines how a run stands.

    Parameters
    ----------
    progress : Progress
        The run.
    width : int
        Columns of the terminal.
    """
    jobs = sorted(progress.running.values(), key=lambda job: job.started)
    lines = [f"romosaic: {state(progress)}"]
    lines += [
        f"  {job.rule:<18}{job.name or 'run'}  {clock(progress.now(job))}" for job in jobs[:SHOWN]
    ]
    if len(jobs) > SHOWN:
        lines.append(f"  and {len(jobs) - SHOWN} more")
    return [clip(line, width) for line in lines]


class Terminal(News):
    """Draw a run; for parameters see `News`. Where jobs are sent to other machines, `Lines` takes over."""

    def __init__(self, progress: Progress, stream: TextIO) -> None:
        super().__init__(progress, stream)
        self._drawn, self._at, self.lines = False, -1.0, None

    def emit(self, record: logging.LogRecord) -> None:
        """Draw the run after a message, or say what it says."""
        if getattr(record, "nodes", None) is not None and not self.lines:
            super().close()
            self.lines = Lines(self._progress, self._stream, elsewhere=True)
        if self.lines:
            self.lines.handle(record)
            return
        lines = self.news(record)
        if lines or getattr(record, "event", None) in EVENTS:
            self._show(lines)

    def close(self) -> None:
        """Leave the terminal as it was found."""
        if self.lines:
            self.lines.close()
        if not self._over.is_set():
            with self.lock:
                self._erase()
                self._stream.flush()
        super().close()

    def tick(self) -> None:
        """Draw the run: jobs take longer, and less time is left."""
        self._show([])

    def _show(self, lines: list[str]) -> None:
        """
        Put lines above the drawing, and draw.

        The cursor waits on an empty line above the drawing: what others write in the meantime stays.
        """
        with self.lock:
            soon = self._drawn and not lines and time.monotonic() < self._at + PAUSE
            if self._over.is_set() or (soon and self._progress.running):
                return
            self._at = time.monotonic()
            self._erase()
            self._stream.write("".join(f"{line}\n" for line in lines))
            size = shutil.get_terminal_size()
            if self._progress.running:
                drawn = status(self._progress, size.columns)[: max(size.lines - 2, 1)]
                self._stream.write("\n" + "\n".join(drawn) + f"\x1b[{len(drawn)}A\r")
                self._drawn = True
            self._stream.flush()

    def _erase(self) -> None:
        if self._drawn:
            self._stream.write("\x1b[J")
            self._drawn = False


class DryRun(logging.Handler):
    """
    Write what a run would do: a line for each job, if they are few, then the number of jobs by step and reason.

    Parameters
    ----------
    stream : text stream
        The terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(logging.INFO)
        self._stream, self._jobs, self._lines = stream, [], []

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line for a job; the table when all are known."""
        event = getattr(record, "event", None)
        lines: list[str] = []
        if event == "job_info" and record.rule_name != "all":
            values = dict(record.wildcards or {})
            name = values.get("product") or next(iter(values.values()), "run")
            reason = str(record.reason)
            self._jobs.append((record.rule_name, reason))
            self._lines.append(f"{record.rule_name:<18}{name}  {short_reason(reason)}")
        elif event == "run_info" and self._jobs:
            few = len(self._jobs) <= LISTED
            lines = [*self._lines, ""] if few else []
            lines += plan_table(self._jobs)
            if not few:
                lines.append("each job with its files: the same command with | less")
        elif event in (None, "error") and matters(record):
            lines = str(record.msg).strip().splitlines()
        width = shutil.get_terminal_size().columns
        self._stream.write("".join(f"{clip(line, width)}\n" for line in lines))


def short_reason(reason: str) -> str:
    """Shorten a reason of Snakemake to its kind: files, of which there may be hundreds, are left out."""
    parts = [part.strip() for part in reason.split("; ")]
    kinds = [part.split(":")[0] for part in parts if part[:1].isupper()]
    if kinds[:1] == ["Missing output files"]:  # whatever else there is
        kinds = kinds[:1]
    return ", ".join(dict.fromkeys(kind.lower() for kind in kinds)) or reason


def changes(reason: str) -> list[str]:
    """List the parameters that have changed, by a reason of Snakemake, with their old and new values."""
    found = re.search(r"before: (.*?) now: (.*?)\s*(?:;|$)", reason)
    if not found:
        return []
    try:
        before, now = (ast.literal_eval(text) for text in found.groups())
    except (ValueError, SyntaxError):
        before, now = found.groups()
    if all(re.fullmatch("[0-9a-f]{16}", str(value)) for value in (before, now)):  # `code_digest`
        return ["its code, or that of a module that it imports"]
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return [f"{before} -> {now}"]
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    return [f"{key} {before.get(key)} -> {now.get(key)}" for key in keys]


def plan_table(jobs: list[tuple[str, str]]) -> list[str]:
    """
    Count jobs by step and reason.

    Parameters
    ----------
    jobs : list of (str, str)
        Rule and reason, in the order of the plan.
    """
    counts: dict[tuple[str, str], int] = {}
    for rule, reason in jobs:
        key = rule, short_reason(reason)
        counts[key] = counts.get(key, 0) + 1
    lines = [f"{'step':<18}{'jobs':>5}  reason"]
    lines += [f"{rule:<18}{number:>5}  {reason}" for (rule, reason), number in counts.items()]
    lines.append(f"{'all':<18}{len(jobs):>5}")
    lines += dict.fromkeys(f"{rule}: {text}" for rule, why in jobs for text in changes(why))
    if any(rule == "associate" for rule, _ in jobs):
        lines.append(DEPENDS)
    return lines


def in_our_words(record: logging.LogRecord) -> bool:
    """Filter Snakemake's own text of a dry run: its advice is to keep changes from being seen."""
    if str(record.msg).startswith("The run involves checkpoint jobs"):
        record.msg = DEPENDS
    return not str(record.msg).startswith(("Some jobs were triggered", "Rules with provenance"))


def attach(
    logger: logging.Logger,
    progress: Progress,
    settings,
    environment: Mapping[str, str] = os.environ,
) -> logging.Handler | None:
    """
    Follow a run, and show it: drawn where it is watched on a terminal, elsewhere in lines.

    Parameters
    ----------
    logger : logging.Logger
        Snakemake's.
    progress : Progress
        Is made to see all messages.
    settings : object
        Snakemake's `output_settings`: `quiet`, `verbose`, `printshellcmds`, `debug_dag`, `dryrun`. Who asks for
        more or less than usual gets Snakemake's own messages, as does who asks for a logger plugin.
    environment : mapping, optional
        Environment variables.

    Returns
    -------
    logging.Handler or None
        What shows it, if not Snakemake; dry runs that are not watched are left to it, too.
    """
    own = [h for h in logger.handlers if getattr(h, "name", "") == "DefaultStreamHandler"]
    if not settings.dryrun:
        logger.addHandler(progress)
    wished = settings.verbose or settings.printshellcmds or settings.debug_dag or settings.quiet
    if not own or wished:
        return None
    stream = own[0].stream
    watched = own[0].is_tty and environment.get("TERM", "dumb") != "dumb"
    if settings.dryrun and not watched:
        own[0].addFilter(in_our_words)
        return None
    if settings.dryrun:
        shown = DryRun(stream)
    else:
        shown = Terminal(progress, stream) if watched else Lines(progress, stream)
    logger.removeHandler(own[0])
    logger.addHandler(shown)
    return shown
