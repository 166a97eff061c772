"""A run in plain lines, as logs, pipes and Slurm get it."""

import io
import logging
import os

import pytest
from romosaic import errors
from romosaic.run_lines import Lines
from test_progress import Run, finished, message, started


@pytest.fixture
def told():
    """A run whose jobs are tried twice, and what is said of it."""
    run, stream = Run(retries=1), io.StringIO()
    lines = Lines(run.progress, stream, clock_time=lambda: "10:00:00")
    log = run.log
    run.log = lambda *records: [(log(r), lines.handle(r)) for r in records]
    yield run, stream, lines
    lines.close()
    assert errors.MESSAGES not in os.environ


def said(stream) -> list[str]:
    """What was written since last asked."""
    text = stream.getvalue()
    stream.seek(0)
    stream.truncate()
    return text.splitlines()


def test_the_state_is_told_when_it_has_changed_and_not_too_often(told):
    run, stream, lines = told
    assert os.environ[errors.MESSAGES] == "log"  # jobs write to their logs only
    run.associate()
    run.log(message(msg="Select jobs to execute..."), started(1, "flux", exposure="x"))
    lines.tick()
    assert said(stream) == ["[10:00:00] 0 of 2 products | 1 of 6 jobs | 2 s | flux x"]
    run.job(1, "flux", 3, exposure="x")
    run.log(started(3, "resample", product="a"), started(4, "resample", product="b"))
    run.log(started(5, "preview", product="a"))
    lines.tick()
    assert said(stream) == []  # within ten seconds
    run.clock.now += 9
    lines.tick()
    (line,) = said(stream)
    assert line.startswith("[10:00:00] 0 of 2 products | 2 of 6 jobs | 14 s")
    assert line.endswith(" | 2 resample, 1 preview")
    run.clock.now += 500
    lines.tick()
    assert said(stream) == []  # nothing has happened
    run.clock.now += 100
    lines.tick()
    assert len(said(stream)) == 1  # it is still alive


def test_lines_of_long_runs_are_few(told):
    run, stream, lines = told
    run.associate()
    for number in range(10, 40_000):  # a job each second, for eleven hours
        run.log(started(number, "flux", exposure=f"x{number}"))
        run.clock.now += 1
        lines.tick()
        run.log(finished(number))
    assert 200 < len(said(stream)) < 300


def test_failures_and_warnings_are_told_at_once(told, tmp_path):
    run, stream, _ = told
    log, slurm = tmp_path / "job.log", tmp_path / "7.log"
    slurm.write_text("slurmstepd: error: Detected 1 oom_kill event in StepId=7.batch.\n")
    run.log(message("resources_info", nodes=100), message(msg="SLURM run ID: romosaic_1-2"))
    for _ in range(2):
        run.log(started(1, "flux", exposure="x"))
        run.log(message("job_error", jobid=1, rule_name="flux", log=[str(log), str(slurm)]))
        run.log(message(msg="Trying to restart job 1."))
    log.write_text("flux: warning: half of it is flagged\n")
    run.log(started(2, "flux", str(log), exposure="y"), finished(2))
    assert [line.removeprefix("[10:00:00] ") for line in said(stream)] == [
        'jobs in Slurm: squeue --name romosaic_1-2 -o "%.9i %.10T %.10M %k"',
        "failed: flux x: out of memory, ended by Slurm; it is tried again",
        "failed: flux x: out of memory, ended by Slurm",
        "warning: flux y: half of it is flagged",
    ]


def test_messages_for_users_are_told_once(told):
    run, stream, _ = told
    guess = message(None, logging.WARNING, "No SLURM account given, trying to guess.")
    run.log(guess, guess, message(msg="Nothing to be done (all files are there)."))
    assert [line[11:] for line in said(stream)] == [
        "No SLURM account given, trying to guess.",
        "Nothing to be done (all files are there).",
    ]


@pytest.mark.parametrize("step", ["plan", "fits", "moc", "hips", "verify", "clean_stale"])
def test_answers_are_tables_as_they_are(told, tmp_path, step):
    run, stream, _ = told
    log = tmp_path / f"{step}.log"
    log.write_text("product  members\na              6\n")
    run.log(started(7, step, str(log)), finished(7))
    assert said(stream) == ["product  members", "a              6"]
