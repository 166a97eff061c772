"""Records of exposures: what is read, what is opened, what is known from the status of a file alone."""

import json
import os
from pathlib import Path

import header_files
import pytest
from header_files import CORNER
from romosaic import records


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw")
    names = [header_files.name(number) for number in range(1, 4)]
    return [header_files.exposure(folder, name, *CORNER, roll=9.0) for name in names]


@pytest.fixture
def files(originals, tmp_path):
    """Copies that a test may change, by exposure name."""
    (tmp_path / "raw").mkdir()
    copies = {
        path.name.removesuffix("_cal.asdf"): tmp_path / "raw" / path.name for path in originals
    }
    for copy, path in zip(copies.values(), originals, strict=True):
        copy.write_bytes(path.read_bytes())
    return copies


@pytest.fixture
def settled(monkeypatch):
    """Files count as settled as soon as they are written."""
    monkeypatch.setattr(records, "_SETTLED", 0)


@pytest.fixture
def opened(monkeypatch):
    """Names of the files whose fingerprint is taken."""
    found = []
    original = records.fingerprint

    def counted(path):
        found.append(path.name)
        return original(path)

    monkeypatch.setattr(records, "fingerprint", counted)
    return found


def updated(files, folder, workers=1):
    """Bring the folder up to date; the names that were read."""
    result = records.read_records(files, folder, workers)
    assert list(result.good) == sorted(files) and not result.bad
    assert [json.dumps(r) for r in result.good.values()] == [
        json.dumps(records.read_record(path)) for _, path in sorted(files.items())
    ]
    result.write(folder)
    return result.new


def names(*paths):
    return [Path(path).name for path in paths]


def test_files_that_stay_are_not_opened(files, tmp_path, settled, opened):
    assert updated(files, tmp_path / "out") == sorted(files)
    assert updated(files, tmp_path / "out") == []
    assert opened == []


def test_an_added_file_is_the_only_one_that_is_read(files, tmp_path, settled, opened):
    *old, new = sorted(files)
    updated({name: files[name] for name in old}, tmp_path / "out")
    assert updated(files, tmp_path / "out") == [new]
    assert opened == []


def test_a_touched_file_is_opened_but_not_read(files, tmp_path, settled, opened):
    first = files[min(files)]
    updated(files, tmp_path / "out")
    os.utime(first)
    assert updated(files, tmp_path / "out") == []
    assert opened == names(first)
    assert updated(files, tmp_path / "out") == []
    assert opened == names(first)


def test_a_copy_in_another_folder_is_known(files, tmp_path, settled, opened):
    updated(files, tmp_path / "out")
    (tmp_path / "moved").mkdir()
    moved = {name: path.rename(tmp_path / "moved" / path.name) for name, path in files.items()}
    assert updated(moved, tmp_path / "out") == []
    assert opened == names(*moved.values())


@pytest.mark.parametrize("replace", [False, True])
def test_content_that_changes_under_the_old_date_and_size_is_read(
    files, tmp_path, settled, opened, replace
):
    first = files[min(files)]
    updated(files, tmp_path / "out")
    before = first.stat()
    content = first.read_bytes()
    changed = content.replace(b" exposure_time: 139.15", b" exposure_time: 139.25")
    assert changed != content
    if replace:
        first.unlink()
    first.write_bytes(changed)
    os.utime(first, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = first.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert updated(files, tmp_path / "out") == [min(files)]
    stored = json.loads((tmp_path / "out/exposures" / f"{min(files)}.json").read_text())
    assert stored["exposure_time"] == 139.25


def test_files_just_written_are_opened(files, tmp_path, opened):
    """Within a tick of the file system's clock a change may leave every date as it is."""
    updated(files, tmp_path / "out")
    assert updated(files, tmp_path / "out") == []
    assert opened == names(*sorted(files.values()))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"x": 1}', "\udcff"])
def test_a_damaged_list_of_statuses_costs_no_header(files, tmp_path, settled, opened, text):
    updated(files, tmp_path / "out")
    (tmp_path / "out/status.json").write_text(text, errors="surrogateescape")
    assert updated(files, tmp_path / "out") == []
    assert len(opened) == len(files)


def test_a_record_that_was_exchanged_is_not_believed(files, tmp_path, settled):
    updated(files, tmp_path / "out")
    path = tmp_path / "out/exposures" / f"{min(files)}.json"
    path.write_text(path.read_text().replace('"fingerprint": "', '"fingerprint": "0'))
    assert updated(files, tmp_path / "out") == [min(files)]


def test_workers_give_what_one_process_gives(files, tmp_path, settled, monkeypatch):
    monkeypatch.setattr(records, "_FEW", 2)
    assert updated(files, tmp_path / "one") == updated(files, tmp_path / "two", workers=2)
    one, two = (
        {p.name: p.read_bytes() for p in (tmp_path / f).rglob("*.json")} for f in ("one", "two")
    )
    assert one == two
