"""Atomic writing: a file appears whole or not at all, and keeps its age when nothing changes."""

import os
import platform
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from romosaic import atomic as module
from romosaic.atomic import atomic, atomic_folder, remove_leftovers, write_text
from romosaic.errors import ProductError

SCRIPTS = Path(__file__).parent.parent / "scripts"

#: What `test_the_disk_begins_with_large_parts` was asked for.
asked: list[tuple] = []


def leftovers(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "folder" / "a.asdf"
    with atomic(path) as temporary:
        assert temporary.parent == path.parent and temporary.suffix == ".asdf"
        assert temporary != path and temporary.name.startswith(".")
        temporary.write_bytes(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole" and leftovers(path.parent) == ["a.asdf"]


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit(1)])
def test_a_failure_leaves_nothing(tmp_path, error):
    path = tmp_path / "a.asdf"
    with pytest.raises(type(error)), atomic(path) as temporary:
        temporary.write_bytes(b"half")
        raise error
    assert leftovers(tmp_path) == []
    path.write_bytes(b"old")
    with pytest.raises(type(error)), atomic(path) as temporary:
        temporary.write_bytes(b"half")
        raise error
    assert path.read_bytes() == b"old" and leftovers(tmp_path) == ["a.asdf"]


def test_what_cannot_be_read_meanwhile_is_called_by_its_own_name(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing"), atomic(tmp_path / "a") as temporary:
        temporary.write_bytes((tmp_path / "missing").read_bytes())
    assert leftovers(tmp_path) == []


def test_a_block_that_writes_nothing_is_a_failure(tmp_path):
    with pytest.raises(ProductError, match="cannot be written"), atomic(tmp_path / "a"):
        pass
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("asked_for", [True, False])
def test_killed_in_mid_write(tmp_path, asked_for):
    """Whether its parent has asked for its end, or not yet."""
    path = tmp_path / "a.asdf"
    path.write_bytes(b"old")
    code = (
        "import time\n"
        "from romosaic.atomic import atomic\n"
        f"with atomic({str(path)!r}) as temporary:\n"
        "    with open(temporary, 'wb') as stream:\n"
        "        stream.write(b'half' * 100000)\n"
        "        stream.flush()\n"
        "        print('written', flush=True)\n"
        "        time.sleep(60)\n"
    )
    run = subprocess.Popen([sys.executable, "-c", code], cwd=SCRIPTS, stdout=subprocess.PIPE)
    assert run.stdout.readline() == b"written\n"
    run.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, run.pid, os.WEXITED | os.WNOWAIT)
    if asked_for:
        run.wait(10)
    run.stdout.close()
    assert path.read_bytes() == b"old"
    # What is left is hidden, and is no product by its name.
    rest = [name for name in leftovers(tmp_path) if name != "a.asdf"]
    assert len(rest) == 1 and rest[0].startswith(".")
    assert [p.name for p in tmp_path.glob("[!.]*.asdf")] == ["a.asdf"]
    # And the next run is not disturbed, and removes it.
    with atomic(path) as temporary:
        temporary.write_bytes(b"new")
    assert path.read_bytes() == b"new" and leftovers(tmp_path) == ["a.asdf"]
    run.wait(10)


def test_what_other_writers_are_writing_stays(tmp_path):
    path, me, node = tmp_path / "a.b_1.asdf", os.getpid(), platform.node()
    kept = [
        f".a.b_1.{node}.{os.getppid()}.asdf",
        ".a.b_1.other.7.asdf",
        ".a.other.7.asdf",
        "a.asdf",
    ]
    gone = [".a.b_1.other.8.asdf", f".a.b_1.{node}.{2**40}.asdf"]
    for name in (*kept, *gone):
        (tmp_path / name).write_bytes(b"half")
    os.utime(tmp_path / gone[0], (1, 1))
    with atomic(path) as temporary:
        temporary.write_bytes(b"whole")
    assert leftovers(tmp_path) == sorted([*kept, "a.b_1.asdf"])
    assert temporary.name == f".a.b_1.{node}.{me}.asdf"


@pytest.mark.parametrize("place", ["file/a.asdf", "file/below/a.asdf"])
def test_a_folder_that_cannot_be_made(tmp_path, place):
    (tmp_path / "file").write_text("")
    with pytest.raises(ProductError) as error, atomic(tmp_path / place):
        pytest.fail("nothing can be written")
    line = str(error.value)
    assert line.startswith(f"{tmp_path / place}: cannot be written (") and "\n" not in line


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ProductError, match="Permission denied"):
            write_text(tmp_path / "a.txt", "x")
    finally:
        tmp_path.chmod(0o700)


def test_a_folder_in_the_place_of_the_file(tmp_path):
    (tmp_path / "a.asdf").mkdir()
    with pytest.raises(ProductError, match="cannot be written"):
        write_text(tmp_path / "a.asdf", "x")
    assert leftovers(tmp_path) == ["a.asdf"]


def test_the_same_text_keeps_its_age(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "α\n")
    os.utime(path, (1, 1))
    write_text(path, "α\n")
    assert path.stat().st_mtime == 1
    write_text(path, "β\n")
    assert path.stat().st_mtime > 1e9 and path.read_text("utf-8") == "β\n"
    assert leftovers(tmp_path) == ["a.txt"]


def test_leftovers_of_any_file_of_a_folder(tmp_path):
    node = platform.node()
    kept = ["a_asn.json", ".hidden", f".a_asn.{node}.{os.getpid()}.json", ".a.b.json"]
    for name in (*kept, f".a_asn.{node}.{2**40}.json", f".status.{node}.{2**40}.json"):
        (tmp_path / name).write_bytes(b"half")
    remove_leftovers(tmp_path)
    assert leftovers(tmp_path) == sorted(kept)
    remove_leftovers(tmp_path / "missing")


@pytest.mark.parametrize("system", [{}, {"sync_file_range": lambda *given: asked.append(given)}])
def test_the_disk_begins_with_large_parts(tmp_path, monkeypatch, system):
    """And the file has all that was written, on systems that know of no such thing, too."""
    asked.clear()
    monkeypatch.setattr(module.ctypes, "CDLL", lambda name: SimpleNamespace(**system))
    parts = [bytes(9), bytes([1]) * module._MUCH, bytes([2]) * (module._MUCH + 5)]
    with open(tmp_path / "a", "wb") as stream:
        for part in parts:
            start = stream.tell()
            stream.write(part)
            module.begin_flush(stream, start)
    assert (tmp_path / "a").read_bytes() == b"".join(parts)
    ranges = [(start.value, size.value) for _, start, size, _ in asked]
    sizes = [len(part) for part in parts]
    assert ranges == ([(sizes[0], sizes[1]), (sizes[0] + sizes[1], sizes[2])] if system else [])


def test_a_folder_appears_when_it_is_complete(tmp_path):
    path, node = tmp_path / "f158", platform.node()
    for left in (f".f158.{node}.{2**40}", f".f129.{node}.{2**40}"):  # of killed writers
        (tmp_path / left / "region=1").mkdir(parents=True)
        (tmp_path / left / "region=1" / "part.parquet").write_bytes(b"half")
    for content in (b"old", b"new"):
        with atomic_folder(path) as temporary:
            (temporary / content.decode()).write_bytes(content)
            assert path.exists() == (content == b"new")
    assert [p.name for p in path.iterdir()] == ["new"]
    with pytest.raises(ZeroDivisionError), atomic_folder(path) as temporary:
        (temporary / "newer").write_bytes(b"half")
        raise ZeroDivisionError
    assert [p.name for p in path.iterdir()] == ["new"]
    assert leftovers(tmp_path) == [f".f129.{node}.{2**40}", "f158"]
