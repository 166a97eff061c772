"""
What a run is doing, from the messages that Snakemake logs: jobs and products done, time left, failures.

A handler of Snakemake's logger, which `terminal` draws and `summary` puts in words. A logger plugin could do
the same only as an installed package, asked for with ``--logger`` in each command.
"""

import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path

from .errors import TERMINATED

#: Wall seconds of a job on full-size data, two cores. Only their ratios count: a run finds its own pace.
TYPICAL = {
    "simulate": 12.0,
    "flux": 5.0,
    "skymatch": 1.5,
    "outlier_detection": 4.0,
    "resample": 9.0,
    "source_catalog": 12.0,
    "preview": 5.0,
}
OTHER = 3.0
#: What is told of a job that failed without a word.
NO_REASON = "ended without a reason: killed, out of memory, or the disk is full"
#: What Snakemake says when the user stops the run.
STOPPING = "Terminating processes"
#: What Slurm writes of a job that it ends, and what that is called here.
SLURM = {
    r"(?i)oom.?kill|exceeded (job |step )?memory limit": "out of memory, ended by Slurm",
    r"DUE TO TIME LIMIT": "out of time, ended by Slurm",
    r"DUE TO NODE FAILURE": "its node failed",
    r"DUE TO PREEMPTION": "made way for another job",
    r"CANCELLED AT": "cancelled in Slurm",
}
#: Finished jobs and seconds before a time left is told.
ENOUGH = 3, 5.0


@dataclass(frozen=True)
class Job:
    """
    A job of the run.

    Attributes
    ----------
    rule : str
        Its rule; jobs of steps have the step's name.
    name : str
        Exposure, product or filter that it works on; empty for those of the whole run.
    product : str
        Product that it belongs to, or empty.
    log, benchmark : str
        Its files, or empty.
    reason : str
        Why Snakemake runs it.
    started : float
        When it started, in seconds of a clock of the run.
    cluster_log : str
        What a cluster wrote of it, if it failed there.
    again : bool
        Whether it failed and is tried again.
    """

    rule: str
    name: str = ""
    product: str = ""
    log: str = ""
    benchmark: str = ""
    reason: str = ""
    started: float = 0.0
    cluster_log: str = ""
    again: bool = False


class Progress(logging.Handler):
    """
    Follow a run.

    Parameters
    ----------
    left : callable
        Gives (job id, rule, product or empty) of all jobs that have not finished. It is asked again when
        their number is not what has been counted: after `associate`, the graph of jobs is another one.
        Rule `all`, which makes nothing, is not among them.
    retries : callable, optional
        Gives how often Snakemake tries a failed job again.
    known : callable, optional
        Called when `associate` has made the jobs after it known.
    clock : callable, optional
        Seconds.

    Attributes
    ----------
    running, done, failed : dict of Job
        By job id; those that failed and are tried again are in none of them until they start anew.
    failures : list of Job
        Every failure in its turn; jobs that end because the user stops the run are none.
    stopped : bool
        Whether the user has stopped the run.
    total : int
        Jobs of the run as far as known.
    warnings : list of str
        Lines of the logs of finished jobs, each once, behind the job's name.
    """

    def __init__(
        self,
        left: Callable[[], Iterable[tuple[int, str, str]]],
        retries: Callable[[], int] = lambda: 0,
        known: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(logging.INFO)
        self._left, self._retries, self._known, self._clock = left, retries, known, clock
        self.begun = clock()
        self.running: dict[int, Job] = {}
        self.done: dict[int, Job] = {}
        self.failed: dict[int, Job] = {}
        self.failures: list[Job] = []
        self.stopped = False
        self.warnings: list[str] = []
        self.total = 0
        # Counted as they change: a survey has tens of thousands of jobs.
        self._spent: dict[str, tuple[int, float]] = {}
        self._waiting: dict[int, tuple[str, str]] = {}
        self._rules: Counter[str] = Counter()
        self._open: Counter[str] = Counter()
        self._products: set[str] = set()
        self._attempts: Counter[int] = Counter()
        self._stale, self._counted = True, 0

    def emit(self, record: logging.LogRecord) -> None:
        """Take notice of a message; those of other kinds change nothing."""
        self.stopped |= str(record.msg).startswith(STOPPING)
        step = getattr(self, f"_on_{getattr(record, 'event', None)}", None)
        if step:
            try:
                step(record)
            except Exception:  # the run goes on whatever becomes of its display
                self.handleError(record)

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return self._clock() - self.begun

    def now(self, job: Job) -> float:
        """Seconds that a job has been at work."""
        return self._clock() - job.started

    @property
    def known(self) -> bool:
        """Whether all jobs are known: most follow from what `associate` finds."""
        return not self._rules["associate"]

    def products(self) -> tuple[int, int]:
        """Products done, and products that the run works on."""
        return len(self._products) - len(self._open), len(self._products)

    def unfinished(self) -> set[str]:
        """Products that this run had jobs for, of which some are still to be done."""
        return set(self._open)

    def seconds_left(self) -> float | None:
        """
        Expected time to the end, None when too little is known: before `associate`, which finds the products.

        Jobs of a rule take what those that have finished took, on average; of other rules, their usual time
        (`TYPICAL`) times the run's pace. As many work side by side as did so far.
        """
        finished = sum(count for count, _ in self._spent.values())
        if self._stale or not self.known or finished < ENOUGH[0] or self.elapsed < ENOUGH[1]:
            return None
        spent = sum(seconds for _, seconds in self._spent.values())
        usual = sum(n * TYPICAL.get(rule, OTHER) for rule, (n, _) in self._spent.items())
        means = {rule: spent / usual * TYPICAL.get(rule, OTHER) for rule in self._rules}
        means |= {rule: seconds / count for rule, (count, seconds) in self._spent.items()}
        at_work = {number: self.now(job) for number, job in self.running.items()}
        work = sum(count * means[rule] for rule, count in self._rules.items())
        for number, seconds in at_work.items():
            mean = means.get(self.running[number].rule, 0.0)
            # one that takes longer than expected is a tenth off its end
            work += max(-seconds, 0.1 * seconds - mean)
        side_by_side = max((spent + sum(at_work.values())) / self.elapsed, 0.1)
        return max(work, 0.0) / side_by_side

    def _count(self) -> None:
        """Ask what is left to do."""
        jobs = {number: (rule, product) for number, rule, product in self._left()}
        self._waiting = {number: job for number, job in jobs.items() if number not in self.done}
        self._rules = Counter(rule for rule, _ in self._waiting.values())
        self._open = Counter(product for _, product in self._waiting.values() if product)
        self._products |= set(self._open)
        self.total = len(self.done) + len(self._waiting)
        self._stale = False

    def _on_run_info(self, record) -> None:
        self._count()

    def _on_job_info(self, record) -> None:
        if record.rule_name == "all":  # makes nothing
            return
        values = dict(record.wildcards or {})
        log = record.log[0] if record.log else ""
        product = values.get("product", "")
        name = product or next(iter(values.values()), "")
        reason = str(record.reason or "")
        files = log, str(record.benchmark or "")
        self.running[record.jobid] = Job(
            record.rule_name, name, product, *files, reason, self._clock()
        )

    def _on_job_started(self, record) -> None:
        if self._stale:
            self._count()
            if self.done:
                self._known()

    def _on_job_finished(self, record) -> None:
        job = self.running.pop(record.job_id, None)
        if job is None:
            return
        self.done[record.job_id] = job
        self.failed.pop(record.job_id, None)
        rule, product = self._waiting.pop(record.job_id, (job.rule, job.product))
        for counts, key in ((self._rules, rule), (self._open, product)):
            counts[key] -= 1
            if counts[key] <= 0:
                del counts[key]
        count, seconds = self._spent.get(job.rule, (0, 0.0))
        self._spent[job.rule] = count + 1, seconds + self.now(job)
        self._stale |= job.rule == "associate"
        for line in read_warnings(job.log):
            text = f"{job.rule} {job.name}: {line}" if job.name else f"{job.rule}: {line}"
            if text not in self.warnings:
                self.warnings.append(text)

    def _on_job_error(self, record) -> None:
        if getattr(record, "indent", False):  # of a group, which has been told
            return
        log, cluster_log = [*record.log, "", ""][:2]
        job = self.running.pop(record.jobid, None) or Job(record.rule_name)
        self._fail(record.jobid, replace(job, log=log or job.log, cluster_log=cluster_log))

    def _on_group_error(self, record) -> None:
        """Of the jobs of a group the one at work last has failed; those after it were not begun."""
        numbers = [info["jobid"] for info in record.job_error_info]
        jobs = {number: self.running.pop(number) for number in numbers if number in self.running}
        if jobs:
            last = max(jobs, key=lambda number: _age(jobs[number].log))
            self._fail(last, replace(jobs[last], cluster_log=[*record.aux_logs, ""][0]))

    def _fail(self, number: int, job: Job) -> None:
        # the job may hear of Ctrl-C before Snakemake does
        if self.stopped or why_failed(job).startswith("stopped"):
            return
        self._attempts[number] += 1
        job = replace(job, again=self._attempts[number] <= self._retries())
        self.failures.append(job)
        if not job.again:
            self.failed[number] = job

    def _on_progress(self, record) -> None:
        if record.total != self._counted:
            self._counted = record.total
            if not self._stale:  # after `associate` the new jobs are not known yet
                self._count()


def read_warnings(log: str) -> list[str]:
    """Warnings in a job's log, without what stands before the word."""
    try:
        text = _text(log) if log else ""
    except OSError:
        return []
    parts = (line.partition("warning: ") for line in text.splitlines())
    return [what.strip() for _, found, what in parts if found]


def why_failed(job: Job) -> str:
    """
    Say why a job failed: what its log says last, else what the cluster says, who knows why it has ended one.

    A list of problems takes a line each, after the first.
    """
    try:
        lines = _text(job.log).splitlines()
    except OSError:
        lines = []
    found = [number for number, line in enumerate(lines) if line.startswith("romosaic: ")]
    said = NO_REASON
    if found:
        last = found[-1]
        problems = takewhile(lambda line: line.startswith("  - "), lines[last + 1 :])
        said = "\n".join([lines[last].removeprefix("romosaic: "), *problems])
        if not said.startswith(TERMINATED):
            return said
    try:
        text = _text(job.cluster_log)
    except OSError:
        return said
    return next((why for pattern, why in SLURM.items() if re.search(pattern, text)), said)


def _text(path: str) -> str:
    return Path(path).read_text(encoding="utf-8", errors="replace")


def _age(path: str) -> float:
    """When a file was written last, in seconds; the beginning of time if there is none."""
    try:
        return Path(path).stat().st_mtime
    except OSError:
        return 0.0


def read_costs(jobs: Iterable[Job]) -> list[tuple[Job, float, float]]:
    """
    Costs of jobs by their benchmarks.

    Parameters
    ----------
    jobs : iterable of Job
        Those without a benchmark that can be read are left out.

    Returns
    -------
    list of (Job, float, float)
        The job, its CPU seconds, its peak memory in MB.
    """
    found = []
    for job in jobs:
        try:
            head, row = (line.split("\t") for line in Path(job.benchmark).read_text().splitlines())
            values = dict(zip(head, row, strict=True))
            found.append((job, float(values["cpu_time"]), float(values["max_rss"])))
        except (OSError, ValueError, KeyError):
            continue  # jobs shorter than Snakemake's clock have no figures
    return found
