"""
A run in plain lines, for logs, pipes and Slurm: how it stands, now and then, and at once what matters.

However long a run is, it gets a few hundred lines at most. Every job and its files are in Snakemake's own logs.
"""

import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from .errors import MESSAGES
from .progress import STOPPING, Job, Progress, why_failed

#: Steps whose messages are what they are run for.
ANSWERS = ("plan", "fits", "moc", "hips", "hats", "verify", "clean_stale")
#: Events after which the run stands otherwise than before.
EVENTS = ("job_info", "job_finished", "job_error", "group_error")
#: Seconds between two lines of state, at least: these, and this part of the time since the start.
PAUSE, PART = 10.0, 0.02
#: Seconds after which a line of state comes though nothing has happened.
SILENCE = 600.0
#: Messages of Snakemake that users need.
_KEPT = ("Nothing to be done", "Unlocked", STOPPING, "Will exit after")
_SLURM_RUN = "SLURM run ID: "


def clock(seconds: float) -> str:
    """Write a time as 5 s, 1:05 or 2:01:05."""
    whole = int(seconds + 0.5)
    if whole < 60:
        return f"{whole} s"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def count(number: int, thing: str) -> str:
    """Write a number of things: 1 job, 2 jobs."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def state(progress: Progress) -> str:
    """Say in a line how far a run has come."""
    done, all_ = progress.products()
    parts = [f"{done} of {count(all_, 'product')}"] if all_ else []
    jobs = f"{len(progress.done)} of {count(progress.total, 'job')}"
    parts.append(jobs if progress.known else f"{jobs} before the products")
    parts.append(clock(progress.elapsed))
    left = progress.seconds_left()
    if left is not None:
        parts.append(f"about {clock(left)} left")
    if progress.failed:
        parts.append(f"{len(progress.failed)} failed")
    return " | ".join(parts)


def failure(job: Job) -> str:
    """Say that a job has failed, why, and whether it is tried again."""
    end = "; it is tried again" if job.again else ""
    return f"failed: {job.rule} {job.name}".rstrip() + f": {why_failed(job)}{end}"


def matters(record: logging.LogRecord) -> bool:
    """Whether a message of Snakemake of no special kind is for users."""
    return record.levelno >= logging.WARNING or str(record.msg).startswith(_KEPT)


class News(logging.Handler):
    """
    What of a run is told in lines that stay, wherever it is shown: warnings, failures, answers.

    Parameters
    ----------
    progress : Progress
        The run; it must see a message before this handler does.
    stream : text stream
        Where it is shown.
    """

    def __init__(self, progress: Progress, stream: TextIO) -> None:
        super().__init__(logging.INFO)
        self._progress, self._stream = progress, stream
        self._warned, self._failed, self._said = 0, 0, set()
        self._over = threading.Event()
        os.environ[MESSAGES] = "log"
        threading.Thread(target=self._tick, daemon=True).start()

    def close(self) -> None:
        """Say no more."""
        if not self._over.is_set():
            self._over.set()
            os.environ.pop(MESSAGES, None)
        super().close()

    def news(self, record: logging.LogRecord) -> list[str]:
        """Lines that a message gives reason for; most give none."""
        event = getattr(record, "event", None)
        answer = self._answer(record) if event == "job_finished" else []
        lines = [f"warning: {text}" for text in self._progress.warnings[self._warned :]]
        self._warned = len(self._progress.warnings)
        lines += [failure(job) for job in self._progress.failures[self._failed :]]
        self._failed = len(self._progress.failures)
        text = str(record.msg).strip()
        if event is None and text.startswith(_SLURM_RUN):
            name = text.removeprefix(_SLURM_RUN)
            lines.append(f'jobs in Slurm: squeue --name {name} -o "%.9i %.10T %.10M %k"')
        elif self._is_for_users(record, event) and text not in self._said:
            self._said.add(text)
            lines += text.splitlines()
        return answer + [self.stamp(line) for line in lines]

    def stamp(self, line: str) -> str:
        """Put before a line what the lines of this handler have in common."""
        return line

    def _is_for_users(self, record: logging.LogRecord, event: str | None) -> bool:
        """Whether a message of Snakemake is told as it is; a failure of a job has been told with its reason."""
        failed = bool(self._progress.failed)
        if event == "error":
            return not failed and getattr(record, "exception", "") != "RuleException"
        return event is None and matters(record) and not (failed and record.levelno > logging.INFO)

    def _answer(self, record: logging.LogRecord) -> list[str]:
        """Return the messages of a job that was run for them."""
        job = self._progress.done.get(record.job_id)
        if not job or job.rule not in ANSWERS:
            return []
        return Path(job.log).read_text(encoding="utf-8", errors="replace").splitlines()

    def _tick(self) -> None:
        while not self._over.wait(1.0):
            with self.lock:
                if self._progress.running and not self._over.is_set():
                    self.tick()

    def tick(self) -> None:
        """Do what is to be done every second while jobs are at work."""


class Lines(News):
    """
    Write the lines of a run.

    Parameters
    ----------
    progress, stream
        See `News`.
    elsewhere : bool, optional
        Whether the jobs are sent to other machines.
    clock_time : callable, optional
        Time of day, as it stands before each line.
    """

    def __init__(
        self,
        progress: Progress,
        stream: TextIO,
        elsewhere: bool = False,
        clock_time: Callable[[], str] = lambda: time.strftime("%H:%M:%S"),
    ) -> None:
        super().__init__(progress, stream)
        self._time, self._changed, self._at = clock_time, False, -SILENCE
        self._elsewhere = elsewhere

    def emit(self, record: logging.LogRecord) -> None:
        """Say what a message gives reason for."""
        if self._over.is_set():
            return
        event = getattr(record, "event", None)
        self._elsewhere |= getattr(record, "nodes", None) is not None
        self._changed |= event in EVENTS
        self._write(self.news(record))

    def stamp(self, line: str) -> str:
        """Put the time before a line."""
        return f"[{self._time()}] {line}"

    def tick(self) -> None:
        """Say how the run stands when that has changed, not too often."""
        elapsed = self._progress.elapsed
        pause = max(PAUSE, PART * elapsed) if self._changed else SILENCE
        if elapsed >= self._at + pause:
            self._at, self._changed = elapsed, False
            self._write([self.stamp(f"{state(self._progress)} | {self._work()}")])

    def _write(self, lines: list[str]) -> None:
        self._stream.write("".join(f"{line}\n" for line in lines))
        self._stream.flush()

    def _work(self) -> str:
        """Name what is at work: jobs if they are few, else how many of each step."""
        jobs = sorted(self._progress.running.values(), key=lambda job: job.started)
        if len(jobs) <= 2 and not self._elsewhere:
            return ", ".join(f"{job.rule} {job.name}".rstrip() for job in jobs)
        counts = Counter(job.rule for job in jobs)
        text = ", ".join(f"{number} {rule}" for rule, number in counts.items())
        return f"in Slurm: {text}" if self._elsewhere else text
