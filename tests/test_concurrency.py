"""Two runs in one folder: the second is told, and nothing is harmed, not even when both insist."""

import time
from concurrent.futures import ThreadPoolExecutor

from rerun_survey import exposure, product

A, C = product("A"), product("C")


def told(done) -> list[str]:
    return [line for line in done.output.splitlines() if "another run is at work" in line]


def test_the_second_run_is_told(run):
    run.delete("preview/*")
    with ThreadPoolExecutor() as pool:
        first = pool.submit(run.snakemake)
        locks = run.folder / ".snakemake" / "locks"
        deadline = time.time() + 120
        while not any(locks.glob("*")) and time.time() < deadline:
            time.sleep(0.05)
        second = run.snakemake()
        assert first.result().returncode == 0, first.result().output[-2000:]
    assert not told(first.result())
    assert second.returncode == 1 and len(told(second)) == 1
    assert "--unlock" in told(second)[0]
    assert run.plan() == set()
    assert run.problems() == []


def test_the_second_run_is_told_when_the_first_did_not_know_its_products(run):
    """Snakemake locks what it knows at the start: nothing after `associate`."""
    run.add("d1")
    run.delete("preview/*")
    with ThreadPoolExecutor() as pool:
        first = pool.submit(run.snakemake)
        log = run.folder / f"results/logs/flux/{exposure('d1')}.log"
        deadline = time.time() + 120
        while not log.exists() and time.time() < deadline:
            time.sleep(0.05)
        second = run.snakemake()
        assert first.result().returncode == 0, first.result().output[-2000:]
    assert second.returncode == 1 and "Directory cannot be locked" in second.output
    assert len(told(second)) == 1 and not told(first.result())
    assert run.problems() == []


def test_runs_that_make_the_same_do_no_harm(run):
    """Without the lock both may make one file: each writes its own and renames it when it is complete."""
    run.delete(f"skymatch/{C}*")
    run.delete(f"resample/{C}*")
    with ThreadPoolExecutor() as pool:
        same = [pool.submit(run.snakemake, "--nolock", "--rerun-incomplete") for _ in range(2)]
        codes = sorted(done.result().returncode for done in same)
    assert codes[0] == 0, same[0].result().output[-2000:]
    assert run.snakemake("--rerun-incomplete").returncode == 0
    assert run.problems() == []
    assert not [path.name for path in (run.folder / "results").rglob(".r*")]


def test_runs_that_make_different_products_go_side_by_side(run):
    run.delete(f"preview/{A}*")
    run.delete(f"preview/{C}*")
    with ThreadPoolExecutor() as pool:
        targets = [f"results/preview/{name}_coadd.png" for name in (A, C)]
        done = [work.result() for work in [pool.submit(run.snakemake, t) for t in targets]]
    assert [one.returncode for one in done] == [0, 0]
    assert run.plan() == set()
