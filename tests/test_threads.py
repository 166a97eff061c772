"""Work in threads: in order, ahead of its use, in memory that is used again."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from romosaic.threads import Scratch, in_order, in_threads


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_order(threads):
    items = list(range(20))
    assert in_threads(lambda n: n * n, items, threads) == [n * n for n in items]
    assert list(in_order(lambda n: n * n, items, threads)) == [n * n for n in items]


def test_in_order_takes_no_more_than_it_may_be_ahead():
    taken = []
    results = in_order(lambda n: n, (taken.append(n) or n for n in range(100)), 2)
    assert next(results) == 0
    assert len(taken) <= 4


def test_an_error_of_one_item_is_raised():
    def work(n):
        if n == 3:
            raise ValueError("three")
        return n

    for threads in (1, 2):
        with pytest.raises(ValueError, match="three"):
            in_threads(work, range(9), threads)
        with pytest.raises(ValueError, match="three"):
            list(in_order(work, range(9), threads))


def test_memory_is_used_again_and_zero_at_first():
    scratch = Scratch(np.float32)
    with scratch.array((3, 4)) as first:
        assert first.dtype == np.float32 and not first.any()
        first[:] = 7
    with scratch.array((2, 5)) as second:
        assert np.shares_memory(first, second) and second.shape == (2, 5)
        assert (second == 7).all()  # as it was left
    with scratch.array((5, 5)) as larger:
        assert not np.shares_memory(first, larger) and not larger.any()
    with scratch.array((5, 5)) as again:
        assert np.shares_memory(larger, again)


def test_no_two_have_the_same_memory():
    scratch, barrier, seen = Scratch(float), threading.Barrier(4), []

    def work(number):
        with scratch.array((100,)) as own:
            own[:] = number
            barrier.wait(10)
            seen.append((own == number).all())

    in_threads(work, range(4), 4)
    assert seen == [True] * 4


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="Linux tells of threads there")
def test_linear_algebra_has_no_threads_of_its_own():
    """Whatever Snakemake says in the environment of a job: they would spin beside those that work."""
    code = (
        "import os, romosaic.grid, numpy as np; a = np.ones((900, 900)); a @ a; "
        "print(len(os.listdir('/proc/self/task')))"
    )
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment = os.environ | dict.fromkeys(names, "4") | {"PYTHONPATH": ":".join(sys.path)}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert run.stdout.strip() == "1", run.stderr
