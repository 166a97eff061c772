"""Which files a run makes; what is removed that killed jobs have left of them."""

import os
import platform
from pathlib import Path

import pytest
from romosaic.result_files import KINDS, RUN, path_of, remove_unfinished

#: Files without a pattern.
EARLY = (
    *("simulate/a_cal.asdf", "simulate/a_truth.npz", "simulate/scene.ecsv"),
    *("associate/status.json", "associate/reader.txt"),
    *("associate/exposures/a.json", "associate/associations/a_asn.json"),
)
OF_FILTER = ["hips/f158", "hats/f158", "catalog/f158/projection_region=000p86/f158_000p86.parquet"]


def written() -> list[str]:
    """Path of a file of each kind."""
    tables = [*KINDS.values(), RUN]
    patterns = [p for table in tables for files in table.values() for p in files]
    paths = {path_of(p, "f158_000p86" if "*" in p else "f158") for p in patterns}
    return sorted({*paths, *EARLY})


def temporary(path: Path, pid: int, node: str | None = None) -> Path:
    """Name under which a writer makes a file."""
    return path.with_name(f".{path.stem}.{node or platform.node()}.{pid}{path.suffix}")


def test_there_is_a_file_of_each_kind():
    assert set(OF_FILTER) < set(written()) and len(written()) > 30


@pytest.mark.parametrize("name", written())
def test_what_killed_jobs_have_left_is_removed(tmp_path, name):
    """Files and folders; not those of jobs that may be at work, nor anything else that is hidden."""
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    mine, elsewhere = temporary(path, os.getpid()), temporary(path, 7, "other")
    notes, whole = path.with_name(".notes.txt"), path.with_name(f".{path.name}")
    for kept in (path, mine, elsewhere, notes, whole):
        kept.write_bytes(b"kept")
    gone, old = temporary(path, 2**40), temporary(path, 8, "other")
    gone.mkdir()
    (gone / "tile").write_bytes(b"half")
    old.write_bytes(b"half")
    os.utime(old, (1, 1))
    remove_unfinished(tmp_path)
    assert {*path.parent.iterdir()} == {path, mine, elsewhere, notes, whole}


def test_a_folder_that_is_not_there_yet(tmp_path):
    remove_unfinished(tmp_path / "results")
    assert not (tmp_path / "results").exists()
