"""What the workflow knows of Snakemake's records: that they are lost, and that another run is at work."""

import json
import os
import platform
from pathlib import Path
from types import SimpleNamespace

import pytest
from romosaic.run_records import (
    clear_up,
    damaged_associations,
    half_done,
    lock,
    lost_records,
    run_at_work,
    unrecorded,
)
from snakemake.persistence.file import FilePersistence

LONG = "results/resample/" + "a_long_name_" * 18 + "_coadd.asdf"
FILES = ["results/flux/a_flux.asdf", "results/resample/p_coadd.asdf"]


def record_path(folder: str, file: str):
    """Where Snakemake itself keeps a record of a file."""
    limits = SimpleNamespace(_fetch_max_len=lambda folder: os.pathconf(".", "PC_NAME_MAX"))
    return FilePersistence._record_path(limits, folder, file)


def write(path: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as stream:
        stream.write("{}")


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for file in FILES:
        write(file)
    write("results/associate/.snakemake_timestamp")


@pytest.mark.parametrize("kind", ["metadata", "incomplete"])
def test_files_with_a_record_are_known(kind):
    assert unrecorded([*FILES, "results/flux/not_there_flux.asdf"]) == FILES
    write(record_path(f".snakemake/{kind}", FILES[0]))
    assert unrecorded(FILES) == FILES[1:]


def test_long_names_are_found_where_snakemake_keeps_them():
    write(LONG)
    assert unrecorded([LONG]) == [LONG]
    write(record_path(".snakemake/metadata", LONG))
    assert unrecorded([LONG]) == []


def test_lost_records_are_told_and_associate_looks_again():
    line = lost_records("results")
    assert "\n" not in line and "made 2 of 2 files" in line and "verify" in line
    assert os.stat("results/associate/.snakemake_timestamp").st_mtime == 0
    for file in ("results/associate", *FILES):
        write(record_path(".snakemake/metadata", file))
    os.utime("results/associate/.snakemake_timestamp", (9, 9))
    assert lost_records("results") == ""
    assert os.stat("results/associate/.snakemake_timestamp").st_mtime == 9
    assert lost_records("elsewhere") == ""


SOUND = json.dumps(
    {
        "products": [{"members": [{"expname": "a_cal.asdf"}]}],
        "skycell_wcs_info": {"name": "cell", "nx": 5, "ny": 5},
    }
)


@pytest.mark.parametrize(
    "text",
    [
        *("", SOUND[:-20], "[]", "null", "{}", "\0" * 500),
        *(
            SOUND.replace(a, b)
            for a, b in (('"nx": 5', '"nx": "x"'), ("a_cal", "b"), ("name", "n"))
        ),
    ],
)
def test_damaged_associations_are_told_and_written_anew(text):
    path, known = "results/associate/associations/p_asn.json", "results/associate"
    write(path)
    write("results/associate/exposures/a.json")
    write(record := record_path(".snakemake/metadata", known))
    Path("results/associate/exposures/a.json").write_text('{"optical_element": "F158"}')
    Path(path).write_text(SOUND)
    assert damaged_associations("results") == "" and os.path.exists(record)
    Path(path).write_text(text)
    line = damaged_associations("results")
    assert line.startswith("results/associate/") and "written anew" in line and "\n" not in line
    assert unrecorded([known]) == [known]


def test_another_run_is_told():
    assert run_at_work() == ""
    os.makedirs(".snakemake/locks")
    assert run_at_work() == ""
    write(".snakemake/locks/0.input.lock")
    assert "--unlock" in run_at_work() and "\n" not in run_at_work()


def test_files_are_locked_as_snakemake_does_it():
    lock(FILES)  # --nolock: no locks, none more
    assert run_at_work() == ""
    write(".snakemake/locks/0.output.lock")
    lock(FILES)
    own = SimpleNamespace(_lockdir=".snakemake/locks")
    assert ("output", FILES[1]) in set(FilePersistence._read_locks(own))


def test_files_of_jobs_that_nobody_saw_end_are_made_again():
    """Files and folders, with names of any length; not those of other folders, nor what is not there."""
    write(LONG)
    write("results/hips/f158/.snakemake_timestamp")
    write("other/a.asdf")
    assert half_done("results") == "" and half_done("nowhere") == ""
    marked = [LONG, *FILES, "results/hips/f158", "other/a.asdf", "results/flux/b_flux.asdf"]
    for file in marked:
        write(record_path(".snakemake/incomplete", file))
    write(".snakemake/incomplete/no mark")
    line = half_done("results")
    assert f"{FILES[0]}, results/hips/f158, {LONG} and 1 more -> made again" in line
    assert "\n" not in line
    for file in (LONG, *FILES, "results/hips/f158", "results/hips/f158/.snakemake_timestamp"):
        assert os.stat(file).st_mtime == 0
    assert os.stat("other/a.asdf").st_mtime > 0 and not os.path.exists(marked[-1])


def test_what_killed_jobs_have_left_is_told():
    assert clear_up("results") == clear_up("nowhere") == []
    left = [f"results/flux/.a_flux.romosaic-{platform.node()}-{2**40 + k}.asdf" for k in range(4)]
    mine = f"results/flux/.a_flux.romosaic-{platform.node()}-{os.getpid()}.asdf"
    for path in (*left, mine):
        write(path)
    removed, at_work = clear_up("results")
    assert removed.endswith(f"{', '.join(left[:3])} and 1 more")
    assert f"at work: {mine} ->" in at_work
    assert os.path.exists(mine) and not any(map(os.path.exists, left))
    assert clear_up("results") == [at_work]
