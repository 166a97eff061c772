"""What is seen of a run on a terminal."""

import io
import logging
import os
import pty
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from romosaic import errors, run_lines, terminal
from test_progress import Run, finished, message, started

PLAIN = {"quiet": set(), "verbose": False, "printshellcmds": False, "debug_dag": False}


class Screen(io.StringIO):
    """Terminal of 60 columns: what stands on it in the end."""

    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        """Lines that are seen."""
        rows, row, column = [""], 0, 0
        for part in re.findall(r"\x1b\[\d*[AJ]|\n|\r|[^\x1b\n\r]+", self.getvalue()):
            if part.endswith("A") and part.startswith("\x1b"):
                row -= int(part[2:-1])
            elif part == "\x1b[J":
                rows, column = [*rows[:row], rows[row][:column]], column
            elif part == "\n":
                row, column = row + 1, 0
                rows += [""] * (row + 1 - len(rows))
            elif part == "\r":
                column = 0
            else:
                rows[row] = rows[row][:column] + part + rows[row][column + len(part) :]
                column += len(part)
        return [line for line in rows if line]


@pytest.fixture
def shown(monkeypatch):
    """A run and the screen that it is drawn on."""
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("LINES", "20")
    monkeypatch.setattr(terminal, "PAUSE", 0.0)
    run, screen = Run(), Screen()
    drawing = terminal.Terminal(run.progress, screen)
    log = run.log
    run.log = lambda *records: [(log(r), drawing.handle(r)) for r in records]
    yield run, screen, drawing
    drawing.close()


def test_the_screen_holds_the_state_of_the_run_and_no_more(shown):
    run, screen, drawing = shown
    run.associate()
    run.job(1, "flux", 1, exposure="x")
    run.log(message(msg="Select jobs to execute..."))
    run.log(started(3, "resample", product="a"), started(4, "resample", product="b"))
    state, *jobs = screen.lines()
    assert state == "romosaic: 0 of 2 products | 2 of 6 jobs | 3 s"
    assert [line.split() for line in jobs] == [
        ["resample", "a", "0", "s"],
        ["resample", "b", "0", "s"],
    ]
    drawing.close()
    assert screen.lines() == []
    assert errors.MESSAGES not in os.environ


def test_what_others_write_and_what_matters_stays(shown, tmp_path):
    run, screen, _ = shown
    log = tmp_path / "job.log"
    log.write_text("skymatch: warning: 2 groups\n")
    run.log(started(1, "flux", exposure="x"), started(2, "flux", exposure="y"))
    screen.write("from elsewhere\n")
    run.log(started(3, "skymatch", str(log), product="a"), finished(3))
    log.write_text("romosaic: x.asdf: cut off -> fetch it again\n")
    # a failure is told twice by Snakemake: the exception, with its rule, then the job
    run.log(message("error", logging.ERROR, "RuleException: ...", exception="RuleException"))
    run.log(message("job_error", jobid=2, rule_name="flux", log=[str(log)]))
    lines = screen.lines()
    assert lines[:2] == ["from elsewhere", "warning: skymatch a: 2 groups"]
    assert lines[2] == "failed: flux y: x.asdf: cut off -> fetch it again"
    assert lines[3].endswith("| 1 failed") and lines[4].split()[:2] == ["flux", "x"]


def test_answers_are_shown(shown, tmp_path):
    run, screen, _ = shown
    log = tmp_path / "plan.log"
    log.write_text("3 products\n")
    run.log(started(7, "plan", str(log)), finished(7))
    assert screen.lines() == ["3 products"]


def test_a_run_on_other_machines_is_told_in_plain_lines(shown):
    run, screen, drawing = shown
    assert os.environ[errors.MESSAGES] == "log"
    run.log(message("resources_info", nodes=100), started(1, "flux", exposure="x"))
    run.log(message(msg="Select jobs to execute..."))
    drawing.tick()
    drawing.lines.tick()
    assert [line[11:] for line in screen.lines()] == [
        "0 of 1 job before the products | 0 s | in Slurm: 1 flux",
    ]
    assert "\x1b" not in screen.getvalue()


def test_dry_run_counts_jobs_by_step_and_reason(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    screen = Screen()
    drawing = terminal.DryRun(screen)
    updated = "Missing output files: a.asdf; Input files updated by another job: b.asdf, c.asdf"
    for number in range(3):
        record = started(number, "resample", product=f"p{number}")
        record.reason = updated
        drawing.handle(record)
    drawing.handle(started(9, "all"))
    drawing.handle(message("run_info", stats={}))
    lines = screen.lines()
    assert lines[0].split() == ["resample", "p0", "missing", "output", "files"]
    assert lines[-2].split()[:3] == ["resample", "3", "missing"]
    assert lines[-1].split() == ["all", "3"] and len(lines) == 6


def test_dry_run_of_many_jobs_is_a_table():
    screen = Screen()
    drawing = terminal.DryRun(screen)
    for number in range(500):
        drawing.handle(started(number, "flux", exposure=f"x{number}"))
    drawing.handle(message("run_info", stats={}))
    lines = screen.lines()
    assert [line.split()[0] for line in lines] == ["step", "flux", "all", "each"]


@pytest.mark.parametrize(
    "before, now, told",
    [
        (
            "{'snr': [5, 4], 'noise': 'err'}",
            "{'snr': [5, 4], 'noise': 'model'}",
            "noise err -> model",
        ),
        (
            "'0123456789abcdef'",
            "'fedcba9876543210'",
            "its code, or that of a module that it imports",
        ),
        ("{'snr': nan}", "{'snr': 1}", "{'snr': nan} -> {'snr': 1}"),
    ],
)
def test_dry_run_tells_changed_parameters(before, now, told):
    reason = f"Params have changed since last execution: Union ...: before: {before} now: {now} "
    assert terminal.changes(reason) == [told]
    assert terminal.changes("Missing output files: a.asdf") == []
    lines = terminal.plan_table([("resample", reason)] * 2)
    assert lines[-1] == f"resample: {told}" and len(lines) == 4


def test_dry_run_in_a_pipe_ends_with_our_words(run):
    run.touch("a1")
    text = run.snakemake("-n").output
    assert "now: {'sizes and dates of the input files': '" in text
    assert "--rerun-triggers" not in text and "provenance" not in text
    assert text.splitlines()[-1] == terminal.DEPENDS


@pytest.mark.parametrize(
    "changes, tty, drawn",
    [
        ({}, True, terminal.Terminal),
        ({"dryrun": True}, True, terminal.DryRun),
        ({}, False, run_lines.Lines),
        ({"dryrun": True}, False, None),
        ({"verbose": True}, True, None),
        ({"quiet": {"rules"}}, True, None),
    ],
)
def test_only_who_watches_gets_a_drawing(changes, tty, drawn):
    logger, own = logging.Logger("test"), logging.StreamHandler(Screen())
    own.name, own.is_tty = "DefaultStreamHandler", tty
    logger.addHandler(own)
    settings = SimpleNamespace(**({"dryrun": False} | PLAIN | changes))
    made = terminal.attach(logger, Run().progress, settings, {"TERM": "xterm"})
    assert type(made) is (drawn or type(None))
    assert (own in logger.handlers) == (drawn is None)
    if made:
        made.close()


@pytest.mark.parametrize(
    "seconds, text", [(0.6, "1 s"), (65, "1:05"), (59.6, "1:00"), (7265, "2:01:05")]
)
def test_times_are_short(seconds, text):
    assert run_lines.clock(seconds) == text


def on_terminal(folder: Path, *arguments: object) -> tuple[int, Screen]:
    """Run Snakemake on a terminal of its own; its exit code and what is on the screen."""
    child, terminal_end = pty.fork()
    if not child:
        root = Path(__file__).parent.parent
        command = [sys.executable, "-m", "snakemake", "-s", root / "Snakefile", "-d", folder]
        os.environ.pop("PYTHONPATH", None)
        os.environ["TERM"] = "xterm"
        os.execv(sys.executable, [str(part) for part in (*command, *arguments)])
    seen = b""
    try:
        while part := os.read(terminal_end, 65536):
            seen += part
    except OSError:  # its end
        os.close(terminal_end)
    screen = Screen(seen.decode(), newline="")
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), screen


def test_a_run_on_a_terminal(survey, tmp_path):
    given = ["associate", "--cores", "1", "--config", f"exposures={survey.folder}"]
    code, screen = on_terminal(tmp_path, *given)
    assert code == 0
    assert "romosaic: 0 of 1 job " in screen.getvalue()
    assert "Select jobs" not in screen.getvalue() and "Job 0" not in screen.getvalue()
    left = [line for line in screen.lines() if line.startswith("romosaic:")]  # it is over
    assert left == ["romosaic: associate done, in results/"]
    code, screen = on_terminal(tmp_path, *given)
    assert code == 0 and screen.lines()[-1].startswith("Nothing to be done")
    (log, _) = sorted((tmp_path / ".snakemake/log").iterdir())
    assert "Select jobs to execute" in log.read_text()
