"""Errors: one line that names the file, what is wrong and what to do; the traceback in the log alone."""

import io
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from romosaic import errors
from romosaic.errors import (
    MESSAGES,
    TERMINATED,
    ConfigError,
    ExposureError,
    ProductError,
    RomosaicError,
    reported,
    told,
)

ROOT = Path(__file__).parent.parent
SCRIPTS = ROOT / "scripts"
KINDS = ["ExposureError", "AssociationError", "SkymapError", "ProductError"]


@pytest.mark.parametrize("kind", KINDS)
def test_message_is_one_line(kind):
    error = getattr(errors, kind)(Path("a b_cal.asdf"), "is\n  bad ", "mend\tit")
    assert isinstance(error, RomosaicError)
    assert str(error) == "a b_cal.asdf: is bad -> mend it"
    assert str(getattr(errors, kind)("x", "is bad")) == "x: is bad"
    assert (error.where, error.what, error.todo) == ("a b_cal.asdf", "is\n  bad ", "mend\tit")


def test_config_error_lists_all_problems():
    assert str(ConfigError("c.yaml", ["one"])) == "c.yaml: one"
    assert str(ConfigError("c.yaml", ["one", "two"])) == "c.yaml: 2 problems\n  - one\n  - two"


@pytest.mark.parametrize(
    "error", [ExposureError("f", "is bad", "mend it"), ConfigError("c.yaml", ["one", "two"])]
)
def test_errors_are_pickled_whole(error):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error) and str(again) == str(error)
    assert vars(again) == vars(error)


def raise_config_error(n):
    raise ConfigError("c.yaml", ["one", "two"])


def test_errors_cross_a_process_pool():
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool, pytest.raises(ConfigError) as error:
        list(pool.map(raise_config_error, [1]))
    assert error.value.problems == ["one", "two"]


def failing(tmp_path, capfd, error):
    log = tmp_path / "logs" / "step" / "a.log"
    with pytest.raises(SystemExit) as stop, reported(log):
        print("progress")
        print("warning", file=sys.stderr)
        raise error
    assert stop.value.code == 1
    out, err = capfd.readouterr()
    assert out == ""  # standard output may be data of the caller
    return log.read_text(), err


def test_failure_ends_in_one_line_and_exit_code_1(tmp_path, capfd):
    log, err = failing(tmp_path, capfd, ProductError("a.asdf", "is bad", "mend it"))
    last = "romosaic: a.asdf: is bad -> mend it"
    assert err == f"progress\nwarning\n{last}\n"
    assert log.startswith("progress\nwarning\nTraceback") and log.endswith(f"\n{last}\n")
    assert "raise error" in log


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            FileNotFoundError(2, "No such file or directory", "a.asdf"),
            "a.asdf: No such file or directory",
        ),
        (OSError("disk went away"), "unexpected OSError: disk went away"),
        (MemoryError(), "out of memory"),
        (ValueError("two\nlines"), "unexpected ValueError: two lines"),
        (KeyError("wcs"), "unexpected KeyError: 'wcs'"),
        (AssertionError(), "unexpected AssertionError: no message"),
    ],
)
def test_other_errors_are_one_line_too(tmp_path, capfd, error, line):
    log, err = failing(tmp_path, capfd, error)
    last = err.splitlines()[-1]
    assert last.startswith("romosaic: ") and line in last
    assert log.splitlines()[-1] == last and "Traceback" in log and "Traceback" not in err


def test_streams_come_back(tmp_path):
    before = sys.stdout, sys.stderr
    with reported(tmp_path / "a.log"):
        assert sys.stdout is not before[0]
        # What libraries ask of a stream.
        assert not sys.stdout.isatty() and isinstance(sys.stderr.fileno(), int)
        assert sys.stdout.encoding and sys.stdout.writable() and not sys.stdout.closed
        sys.stdout.writelines(["a", "b\n"])
        sys.stderr.flush()
    assert (sys.stdout, sys.stderr) == before
    assert (tmp_path / "a.log").read_text() == "ab\n"


def test_a_success_leaves_its_log(tmp_path, capfd):
    with reported(tmp_path / "new" / "a.log"):
        print("3 members")
    assert (tmp_path / "new" / "a.log").read_text() == "3 members\n"
    assert capfd.readouterr().err == "3 members\n"


def test_a_drawn_terminal_is_left_alone(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv(MESSAGES, "log")
    with pytest.raises(SystemExit), reported(tmp_path / "a.log"):
        print("3 members")
        raise RomosaicError("a.asdf", "is bad")
    assert capfd.readouterr() == ("", "")
    lines = (tmp_path / "a.log").read_text().splitlines()
    assert (lines[0], lines[-1]) == ("3 members", "romosaic: a.asdf: is bad")


def test_an_interrupt_is_one_line(tmp_path, capfd):
    with pytest.raises(SystemExit) as stop, reported(tmp_path / "a.log"):
        raise KeyboardInterrupt
    assert stop.value.code == 130
    assert capfd.readouterr().err.count("\n") == 1
    with pytest.raises(SystemExit) as stop, reported(tmp_path / "a.log"):
        sys.exit(3)
    assert stop.value.code == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_step_that_is_asked_to_end_leaves_nothing(tmp_path, number):
    code = (
        f"import signal, sys, time; sys.path.insert(0, {str(SCRIPTS)!r})\n"
        # whoever runs the tests in the background has it ignored
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from romosaic.atomic import atomic\n"
        "from romosaic.errors import reported\n"
        "with reported('a.log'), atomic('a.asdf') as temporary:\n"
        "    temporary.write_bytes(b'half')\n"
        "    print('written', flush=True)\n"
        "    time.sleep(60)\n"
    )
    given = {"cwd": tmp_path, "stderr": subprocess.PIPE, "text": True}
    run = subprocess.Popen([sys.executable, "-c", code], **given)
    assert run.stderr.readline() == "written\n"
    assert len(list(tmp_path.glob(".a.*.asdf"))) == 1
    run.send_signal(number)
    said = run.communicate(timeout=30)[1]
    assert (run.returncode, said.count("\n")) == (128 + number, 1) and "goes on from here" in said
    assert (TERMINATED in said) == (number == signal.SIGTERM)
    assert [path.name for path in tmp_path.iterdir()] == ["a.log"]


@pytest.mark.parametrize("before", [signal.SIG_DFL, signal.SIG_IGN])
def test_sigterm_is_left_to_who_has_asked_for_it(tmp_path, before):
    given = signal.signal(signal.SIGTERM, before)
    try:
        with reported(tmp_path / "b.log"):
            assert (signal.getsignal(signal.SIGTERM) is before) == (before is signal.SIG_IGN)
        assert signal.getsignal(signal.SIGTERM) is before
    finally:
        signal.signal(signal.SIGTERM, given)


def test_what_is_said_may_be_closed_after_the_log(tmp_path):
    with open(tmp_path / "a.log", "w") as log:
        tee = errors._Tee(io.StringIO(), log)
    tee.close()  # as Python does at its end; it would show what this raises


def test_a_second_sigterm_ends_what_does_not_end(tmp_path):
    with pytest.raises(SystemExit), reported(tmp_path / "a.log"):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        finally:
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_worker_of_a_step_ends_by_sigterm_without_a_word(tmp_path, capfd):
    reading, writing = os.pipe()
    with reported(tmp_path / "a.log"):
        pid = os.fork()
        if not pid:
            os.write(writing, b"!")  # a signal that comes while Python forks is lost
            time.sleep(60)
            os._exit(0)
        os.read(reading, 1)
        os.kill(pid, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM
    assert capfd.readouterr() == ("", "")
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_a_message_that_the_terminal_cannot_show(tmp_path, encoding):
    code = (
        "from romosaic.errors import reported, ProductError\n"
        f"with reported({str(tmp_path / 'a.log')!r}):\n"
        "    print('\\u03b1')\n"
        "    raise ProductError('\\u03b2.asdf', 'is bad')\n"
    )
    folder = Path(__file__).parent.parent / "scripts"
    environment = {
        "PYTHONIOENCODING": f"{encoding}:strict",
        "PYTHONPATH": str(folder),
        "LC_ALL": "C",
    }
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment)
    assert run.returncode == 1
    assert run.stderr.decode().strip().splitlines()[-1].endswith(".asdf: is bad")
    assert "β.asdf: is bad" in (tmp_path / "a.log").read_text("utf-8")


def test_a_log_that_cannot_be_written_is_one_line(tmp_path, capfd):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stop, reported(tmp_path / "file" / "a.log"):
        pytest.fail("the step must not run")
    assert stop.value.code == 1
    err = capfd.readouterr().err
    assert err == f"romosaic: {tmp_path / 'file'}: File exists\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device here")
@pytest.mark.parametrize("fails", [True, False])
@pytest.mark.parametrize("messages", ["", "log"])
def test_a_log_on_a_full_disk_is_no_failure_of_the_step(capfd, monkeypatch, fails, messages):
    """The reason is on the terminal still, and a step that works is not undone."""
    monkeypatch.setenv(MESSAGES, messages)
    code = 0
    try:
        with reported("/dev/full"):
            print("progress")
            if fails:
                raise ProductError("a.asdf", "is bad", "mend it")
    except SystemExit as stop:
        code = stop.code
    assert code == fails
    last = "romosaic: a.asdf: is bad -> mend it\n" if fails else ""
    assert capfd.readouterr().err == ("" if messages else "progress\n") + last


# ---- command-line tools ----


def test_a_tool_that_fails_says_so_in_a_line(capsys):
    with pytest.raises(SystemExit, match="1"), told():
        raise ProductError("a.asdf", "is corrupt", "make it again")
    out, error = capsys.readouterr()
    assert (out, error) == ("", "romosaic: a.asdf: is corrupt -> make it again\n")


def test_a_tool_shows_the_traceback_of_what_was_not_foreseen(capsys):
    with pytest.raises(SystemExit, match="1"), told():
        _ = {}["key"]
    error = capsys.readouterr().err.splitlines()
    assert error[0].startswith("Traceback")
    assert error[-1] == "romosaic: unexpected KeyError: 'key' -> report it with the traceback above"


def test_a_tool_says_that_the_environment_is_not_active(capsys):
    with pytest.raises(SystemExit, match="1"), told():
        import no_such_package  # noqa: F401
    error = capsys.readouterr().err
    assert error.startswith("romosaic: this Python has no package no_such_package -> source .venv")
    assert error.count("\n") == 1


def test_a_tool_ends_quietly_when_it_is_stopped_or_nobody_reads(capsys):
    with pytest.raises(SystemExit, match="130"), told():
        raise KeyboardInterrupt
    code = "from romosaic.errors import told\nwith told():\n print('x\\n' * 10**6)"
    command = f'{sys.executable} -c "$CODE" | head -1'
    environment = {**os.environ, "CODE": code, "PYTHONPATH": str(ROOT / "scripts")}
    done = subprocess.run(command, shell=True, capture_output=True, text=True, env=environment)
    assert (done.stdout, done.stderr) == ("x\n", "")
    assert capsys.readouterr().err == ""
