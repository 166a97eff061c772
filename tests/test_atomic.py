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
    mine = f".a.b_1.romosaic-{node}-{os.getppid()}.asdf"
    kept = [
        mine,
        ".a.b_1.romosaic-other-7.asdf",
        ".a.romosaic-other-7.asdf",
        "a.asdf",
    ]
    gone = [".a.b_1.romosaic-other-8.asdf", f".a.b_1.romosaic-{node}-{2**40}.asdf"]
    for name in (*kept, *gone):
        (tmp_path / name).write_bytes(b"half")
    for name in (gone[0], mine):  # a writer that is alive here may have waited for long
        os.utime(tmp_path / name, (1, 1))
    with atomic(path) as temporary:
        temporary.write_bytes(b"whole")
    assert leftovers(tmp_path) == sorted([*kept, "a.b_1.asdf"])
    assert temporary.name == f".a.b_1.romosaic-{node}-{me}.asdf"


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


@pytest.mark.parametrize("node", ["n1", "n1.cluster.org", "node-1-2"])
def test_leftovers_of_any_file_of_a_folder(tmp_path, monkeypatch, node):
    """Whatever the node is called; not what users hide there."""
    monkeypatch.setattr(platform, "node", lambda: node)
    me, dead = f"romosaic-{node}-{os.getpid()}", f"romosaic-{node}-{2**40}"
    kept = [
        "a_asn.json",
        ".hidden",
        f".a_asn.{me}.json",
        ".a.b.json",
        ".scene.v1.2.ecsv",
        ".a.2024",
    ]
    for name in (*kept, f".a_asn.{dead}.json", f".status.{dead}.json", f".f158.{dead}"):
        (tmp_path / name).write_bytes(b"half")
        os.utime(tmp_path / name, (1, 1))
    remove_leftovers(tmp_path)
    assert leftovers(tmp_path) == sorted(kept)
    remove_leftovers(tmp_path / "missing")
    assert not (tmp_path / "missing").exists()


def test_leftovers_of_folders_within(tmp_path):
    """As far down as asked for, through links; a folder of another node is as old as the newest file in it."""
    (tmp_path / "real" / "b").mkdir(parents=True)
    results = tmp_path / "results"
    results.mkdir()
    (results / "a").symlink_to(tmp_path / "real")
    for place in (results, results / "a", results / "a" / "b"):
        (place / f".x.romosaic-{platform.node()}-{2**40}.asdf").write_bytes(b"half")
    for name, age in (("new", None), ("old", (1, 1))):
        tile = results / f".{name}.romosaic-other-7" / "tiles" / "tile"
        tile.parent.mkdir(parents=True)
        tile.write_bytes(b"half")
        for path in (tile, *tile.parents[:2]):
            os.utime(path, age if path is tile else (1, 1))
    remove_leftovers(results, depth=1)
    assert leftovers(results) == [".new.romosaic-other-7", "a"]
    assert leftovers(results / "a") == ["b"] and len(leftovers(results / "a" / "b")) == 1


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
    lefts = [f".{name}.romosaic-{node}-{2**40}" for name in ("f158", "f129")]
    for left in lefts:  # of killed writers
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
    assert leftovers(tmp_path) == [lefts[1], "f158"]
