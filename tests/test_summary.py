"""What is said when a run has ended."""

from types import SimpleNamespace

import pytest
from romosaic.result_files import final_files
from romosaic.summary import failures, summary
from test_progress import Run, finished, message, started

REST = "the last part --config batch=rest"
NAMES = ["r00001_p_full_a", "r00001_p_full_b", "r00001_p_full_c"]


def touch(path, size=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)


@pytest.fixture
def results(tmp_path):
    for name in NAMES:
        touch(tmp_path / f"associate/associations/{name}_asn.json")
    return tmp_path


def test_nothing_made_says_nothing(results, tmp_path):
    assert summary(tmp_path / "nothing") == ""
    assert summary(results) == ""


def test_products_are_counted_and_shown(results):
    for name, size in zip(NAMES[:2], (10, 500), strict=True):
        touch(results / f"resample/{name}_coadd.asdf")
        touch(results / f"preview/{name}_coadd.png", size)
    # A product of an earlier run, and a picture of it that is larger.
    touch(results / "resample/r00001_p_full_old_coadd.asdf")
    touch(results / "preview/r00001_p_full_old_coadd.png", 9000)
    lines = summary(str(results)).splitlines()
    assert lines[0] == f"romosaic: 2 of 3 products in {results}/"
    assert f"{results}/resample/*_coadd.asdf" in lines[1]
    assert f"{results}/source_catalog/*_cat.parquet" in lines[2]
    assert f"{results}/preview/*_coadd.png" in lines[3]
    assert lines[4].split() == ["look", "at", f"{results}/preview/{NAMES[1]}_coadd.png"]
    assert len(lines) == 5


def test_one_product_without_picture(tmp_path):
    touch(tmp_path / f"associate/associations/{NAMES[0]}_asn.json")
    touch(tmp_path / f"resample/{NAMES[0]}_coadd.asdf")
    text = summary(tmp_path)
    assert text.startswith("romosaic: 1 of 1 product in ")
    assert "look at" not in text


@pytest.mark.parametrize("bad, said", [(0, None), (1, "1 exposure,"), (2, "2 exposures,")])
def test_quarantine_is_mentioned(results, bad, said):
    touch(results / f"resample/{NAMES[0]}_coadd.asdf")
    rows = ["exposure\treason", *[f"x{k}\tbad" for k in range(bad)]]
    path = results / "associate/quarantine.tsv"
    path.write_text("\n".join(rows) + "\n")
    last = summary(results).splitlines()[-1]
    assert ("left out" in last) == bool(said)
    if said:
        assert f"{said} see {path}" in last


def run_of(log, rule="flux", **values):
    """A run whose only job has ended."""
    run = Run()
    run.log(started(1, rule, str(log), **values))
    return run


def test_costs_and_warnings_of_the_run_are_told(results, tmp_path):
    touch(results / f"resample/{NAMES[0]}_coadd.asdf")
    log, benchmark = tmp_path / "x.log", tmp_path / "x.tsv"
    log.write_text("resample: warning: a hole\n")
    benchmark.write_text("s\tmax_rss\tcpu_time\n70\t1900.0\t65.2\n")
    run = Run(retries=1)
    run.log(started(1, "resample", product="a"))
    run.log(message("job_error", jobid=1, rule_name="resample", log=[]))
    run.log(started(1, "resample", str(log), benchmark, product="a"))
    run.clock.now = 80
    run.log(finished(1))
    assert summary(results, run.progress).splitlines()[-7:] == [
        "  time      1:20 for 1 job",
        "  CPU       1:05: resample 1:05",
        "  memory    at most 1.9 GB: resample a",
        f"  costs     {results}/benchmarks/*/*.tsv",
        "  repeated  after a failure: resample 1",
        f"  warnings  1, in {results}/logs/",
        "            resample a: a hole",
    ]


def test_failures_say_which_why_and_what_to_do(results, tmp_path):
    log = tmp_path / "x.log"
    log.write_text("Traceback ...\nromosaic: x_cal.asdf: cut off -> fetch it again\n")
    run = run_of(log, exposure="x")
    run.log(message("job_error", jobid=1, rule_name="flux", log=[str(log)]))
    text = failures(results, run.progress)
    head = f"romosaic: 1 job failed; 0 of 3 products finished, in {results}/"
    assert text.splitlines()[0] == head
    for part in ("flux x", "x_cal.asdf: cut off -> fetch it again", str(log), "on_bad_exposure"):
        assert part in text
    stopped = failures(tmp_path / "nothing", Run().progress)
    assert stopped.startswith("romosaic: stopped\n") and "goes on from here" in stopped


@pytest.mark.parametrize("others", [[], [(2, "resample", NAMES[1])]])
def test_keep_going_is_for_runs_with_more_to_do(results, tmp_path, others):
    run = Run()
    run.left = [(1, "verify", ""), *others]
    run.log(message("run_info"))
    run.log(started(1, "verify", str(tmp_path / "x.log")))
    run.log(message("job_error", jobid=1, rule_name="verify", log=[]))
    assert ("--keep-going" in failures(results, run.progress)) == bool(others)


@pytest.mark.parametrize("heard", [True, False])
def test_a_run_that_is_stopped_has_not_failed(results, tmp_path, heard):
    log = tmp_path / "x.log"
    log.write_text("" if heard else "romosaic: stopped -> the same command goes on from here\n")
    run = run_of(log, exposure="x")
    if heard:
        run.log(message(msg="Terminating processes on user request, this might take some time."))
    run.log(message("job_error", jobid=1, rule_name="flux", log=[str(log)]))
    text = failures(results, run.progress)
    assert text.splitlines() == [
        f"romosaic: stopped; 0 of 3 products finished, in {results}/",
        "  next      the same command goes on from here",
    ]


def test_products_of_an_earlier_run_have_not_finished_in_this_one(results, tmp_path):
    for name in NAMES:
        for path in final_files(name):
            touch(results / path)
    run = Run()
    run.left = [(1, "resample", NAMES[1]), (2, "preview", NAMES[1]), (3, "preview", NAMES[2])]
    run.log(message("run_info"))
    run.job(3, "preview", 1, product=NAMES[2])
    assert f"stopped; 2 of 3 products finished, in {results}/" in failures(results, run.progress)


@pytest.mark.parametrize("batch, said", [(None, False), ("2/3", True), ("rest", False)])
def test_a_part_says_what_comes_next(results, batch, said):
    touch(results / f"resample/{NAMES[0]}_coadd.asdf")
    lines = summary(results, batch=batch).splitlines()
    assert lines[0] == f"romosaic: 1 of 3 products in {results}/"
    assert (lines[-1].split()[:5] == ["next", "this", "was", "part", "2/3;"]) == said
    assert ("--config batch=rest" in lines[-1]) == said
    if said:
        nothing = summary(results / "none", batch=batch, part=list).splitlines()
        assert nothing == [f"  next      this was part 2/3 with 0 products; after {REST}"]
        for part, has in (((), "0 products"), (NAMES[:1], "1 product")):
            last = summary(results, batch=batch, part=lambda part=part: part).splitlines()[-1]
            assert f"this was part 2/3 with {has}; after" in last


def target(rule, *output):
    return SimpleNamespace(rule=SimpleNamespace(name=rule), output=output)


def test_targets_say_what_was_asked_for(results):
    touch(results / f"resample/{NAMES[0]}_coadd.asdf")
    asked = [target("moc", "r/moc/moc.fits"), target("fits", "r/fits/fits.tsv")]
    assert summary(results, batch="2/3", targets=asked).splitlines() == [
        f"romosaic: fits, moc done, in {results}/",
        "  file      r/fits/fits.tsv",
        "  file      r/moc/moc.fits",
    ]
    many = target("qa", *"abcdefgh")
    assert summary("r", targets=[many]).splitlines()[-2:] == ["  file      e", "  and 3 more"]
    assert summary(results, targets=[*asked, target("all")]) == summary(results)
