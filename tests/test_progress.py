"""What is known of a run from the messages that Snakemake logs."""

import logging
import os

import pytest
from romosaic.errors import TERMINATED
from romosaic.progress import NO_REASON, Job, Progress, read_costs, read_warnings, why_failed


class Clock:
    """Seconds that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def message(event=None, level=logging.INFO, msg="", **values) -> logging.LogRecord:
    """Message as Snakemake logs it."""
    record = logging.LogRecord("snakemake", level, "", 0, msg, (), None)
    record.__dict__.update(event=event, **values)
    return record


def started(number, rule, log="", benchmark=None, **wildcards) -> logging.LogRecord:
    """Message that a job starts."""
    values = {"jobid": number, "rule_name": rule, "wildcards": wildcards, "reason": "Missing"}
    return message("job_info", log=[log] if log else [], benchmark=benchmark, **values)


def finished(number) -> logging.LogRecord:
    """Message that a job has finished."""
    return message("job_finished", job_id=number)


class Run:
    """A run of two products, whose jobs `associate` makes known."""

    def __init__(self, retries: int = 0) -> None:
        self.clock = Clock()
        self.left = [(0, "associate", "")]
        self.progress = Progress(lambda: list(self.left), lambda: retries, clock=self.clock)
        self.log(message("run_info"))

    def log(self, *records) -> None:
        for record in records:
            self.progress.handle(record)

    def associate(self) -> None:
        """Run the checkpoint."""
        self.log(started(0, "associate"))
        self.clock.now += 2
        self.left = []
        self.log(finished(0), message("progress", done=1, total=2))
        self.left = [(1, "flux", ""), (2, "flux", "")]
        self.left += [(3, "resample", "a"), (4, "resample", "b"), (5, "preview", "a")]
        self.log(message("job_started"))

    def job(self, number, rule, seconds, **wildcards) -> None:
        """Run a job to its end."""
        self.log(started(number, rule, **wildcards))
        self.clock.now += seconds
        self.left = [job for job in self.left if job[0] != number]
        self.log(finished(number))


@pytest.fixture
def run():
    return Run()


def test_the_checkpoint_makes_the_jobs_known(run):
    assert (run.progress.total, run.progress.products()) == (1, (0, 0))
    run.associate()
    assert (run.progress.total, len(run.progress.done)) == (6, 1)
    assert run.progress.products() == (0, 2)


def test_no_time_is_told_before_the_jobs_are_known(run):
    run.left = [(n, "simulate", "") for n in range(6, 12)] + run.left
    run.log(message("run_info"))
    for number in range(6, 10):
        run.job(number, "simulate", 10)
    assert not run.progress.known and run.progress.seconds_left() is None
    run.associate()
    assert run.progress.known and run.progress.seconds_left() > 0


def test_a_product_is_done_with_its_last_job(run):
    run.associate()
    for number, rule, product in ((3, "resample", "a"), (4, "resample", "b")):
        run.job(number, rule, 1, product=product)
    assert run.progress.products() == (1, 2)  # b has no preview to wait for
    run.job(5, "preview", 1, product="a")
    assert run.progress.products() == (2, 2)


def test_time_left_follows_the_pace_of_the_run(run):
    run.associate()
    assert run.progress.seconds_left() is None
    run.job(1, "flux", 10, exposure="x")
    run.job(2, "flux", 10, exposure="y")
    # one at a time; usual: flux 5 s, associate 3 s, resample 9 s, preview 5 s; 22 s in place of 13
    assert run.progress.seconds_left() == pytest.approx(22 / 13 * (9 + 9 + 5))
    run.job(3, "resample", 4, product="a")
    assert run.progress.seconds_left() == pytest.approx(4 + 26 / 22 * 5)
    run.log(started(4, "resample", product="b"))
    run.clock.now += 3
    assert run.progress.seconds_left() == pytest.approx(1 + 26 / 22 * 5)
    run.clock.now += 97
    # it has taken far longer than expected: the end is not told to be near
    assert run.progress.seconds_left() == pytest.approx(0.1 * 100 + 26 / 22 * 5)


def test_a_failure_is_kept_unless_it_is_tried_again(tmp_path):
    run = Run(retries=1)
    run.associate()
    log = tmp_path / "resample.log"
    log.write_text("Traceback\nromosaic: x.asdf: cut off -> fetch it again\n")
    for again in (True, False):
        run.log(started(3, "resample", str(log), product="a"))
        run.log(message("job_error", jobid=3, rule_name="resample", log=[str(log)]))
        assert run.progress.failures[-1].again == again and not run.progress.running
        assert (3 in run.progress.failed) != again
    assert why_failed(run.progress.failed[3]) == "x.asdf: cut off -> fetch it again"
    run.job(3, "resample", 1, product="a")
    assert run.progress.failed == {} and 3 in run.progress.done


def test_of_a_group_the_job_at_work_last_has_failed(run, tmp_path):
    run.associate()
    logs = {number: tmp_path / f"{number}.log" for number in (3, 4, 5)}
    for number, rule in ((3, "skymatch"), (4, "outlier_detection"), (5, "resample")):
        run.log(started(number, rule, str(logs[number]), product="a"))
    logs[5].write_text("romosaic: of another day\n")
    os.utime(logs[5], (1, 1))
    logs[3].write_text("")
    logs[4].write_text("")
    os.utime(logs[3], (2, 2))
    jobs = [{"jobid": number} for number in logs]
    run.log(message("group_error", job_error_info=jobs, aux_logs=["slurm.log"]))
    for number in logs:  # Snakemake tells each of them, too
        run.log(message("job_error", jobid=number, rule_name="", log=[], indent=True))
    (job,) = run.progress.failures
    assert (job.rule, job.cluster_log) == ("outlier_detection", "slurm.log")
    assert set(run.progress.failed) == {4} and not run.progress.running


def test_a_list_of_problems_is_a_reason(tmp_path):
    log = tmp_path / "verify.log"
    log.write_text("Traceback\n  - x\nromosaic: 2 of 9 files\n  - a: bad\n  - b: bad\nend\n")
    assert why_failed(Job("verify", log=str(log))) == "2 of 9 files\n  - a: bad\n  - b: bad"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("slurmstepd: error: Job 12 exceeded memory limit (90000 > 81920)", "out of memory"),
        ("slurmstepd: error: Detected 1 oom_kill event in StepId=12.batch.", "out of memory"),
        ("error: *** JOB 12 ON n1 CANCELLED AT 2026-11-25T11:00:00 DUE TO TIME LIMIT ***", "out of time"),
        ("error: *** JOB 12 ON n1 CANCELLED AT 2026-11-25T11:00:00 ***", "cancelled"),
        ("Building DAG of jobs...", NO_REASON),
    ],
)  # fmt: skip
def test_slurm_says_why_it_ended_a_job(tmp_path, text, why):
    """And knows more of it than a step that was told to end."""
    log, own = tmp_path / "12.log", tmp_path / "flux.log"
    log.write_text(f"Select jobs to execute...\n{text}\n")
    assert why_failed(Job("flux", cluster_log=str(log))).startswith(why)
    assert why_failed(Job("flux", cluster_log=str(tmp_path / "none"))) == NO_REASON
    told = f"{TERMINATED} -> the same command goes on from here"
    own.write_text(f"romosaic: {told}\n")
    for cluster, reason in ((str(log), why if why != NO_REASON else told), ("", told)):
        assert why_failed(Job("flux", log=str(own), cluster_log=cluster)).startswith(reason)
    own.write_text("romosaic: a.asdf: is bad\n")
    assert why_failed(Job("flux", log=str(own), cluster_log=str(log))) == "a.asdf: is bad"


def test_warnings_are_those_of_the_logs_once_each(run, tmp_path):
    run.associate()
    log = tmp_path / "skymatch.log"
    log.write_text(
        "skymatch: a 0.1 MJy/sr\nskymatch: warning: 2 groups\nskymatch: warning: 2 groups\n"
    )
    assert read_warnings(str(log)) == ["2 groups", "2 groups"]
    run.log(started(3, "resample", str(log), product="a"), finished(3))
    assert run.progress.warnings == ["resample a: 2 groups"]


def test_costs_are_read_from_benchmarks(run, tmp_path):
    run.associate()
    path = tmp_path / "flux.tsv"
    path.write_text("s\tmax_rss\tcpu_time\n3.0\t128.2\t2.99\n")
    short = tmp_path / "short.tsv"
    short.write_text("s\tmax_rss\tcpu_time\n0.1\tNA\tNA\n")
    run.log(started(1, "flux", benchmark=path, exposure="x"), finished(1))
    run.log(started(2, "flux", benchmark=short, exposure="y"), finished(2))
    ((job, seconds, memory),) = read_costs(run.progress.done.values())
    assert (job.name, seconds, memory) == ("x", 2.99, 128.2)
