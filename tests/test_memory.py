import mmap
import sys
from pathlib import Path

import numpy as np
import pytest
from romosaic import product
from romosaic.asdf_blocks import AsdfBlocks
from romosaic.asdf_writer import Tagged, write_asdf
from romosaic.memory import give_back


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep the memory")
def test_memory_of_a_large_array_is_given_back():
    array = np.ones(4_000_000)
    before = resident()
    give_back(array)
    assert before - resident() > 0.9 * array.nbytes
    array[:] = 2
    assert array.sum() == 2 * array.size


def test_what_is_beside_an_array_stays():
    """Planes of one array end within a page."""
    planes = np.ones((3, 1001, 999), np.float32)
    give_back(planes[1])
    assert (planes[[0, 2]] == 1).all()


def test_small_arrays_are_left_alone():
    array = np.ones(100_000)
    give_back(array)
    assert (array == 1).all()


@pytest.mark.parametrize("threads", [1, 2])
def test_files_of_consumed_arrays_are_the_same(tmp_path, threads):
    """Whatever is packed, or hashed ahead of its turn."""

    def tree() -> dict:
        random = np.random.default_rng(1).normal(size=(4, 300_000))
        return {"planes": list(random), "zero": np.zeros(500_000), "small": np.arange(9)}

    trees = [tree(), tree()]
    for given in trees:
        given["again"] = given["planes"][1]
    paths = [tmp_path / f"{name}.asdf" for name in ("kept", "consumed")]
    for path, given, consume in zip(paths, trees, (False, True), strict=True):
        write_asdf(path, given, packed=True, threads=threads, consume=consume)
    kept, consumed = (path.read_bytes() for path in paths)
    assert kept == consumed
    assert trees[0]["planes"][0].all()
    if sys.platform == "linux":
        assert not trees[1]["planes"][0][1000:-1000].any()


@pytest.mark.parametrize("consume", [False, True])
def test_models_lose_their_values_only_when_asked(tmp_path, consume):
    """The parquet file of a large catalog is written from the columns of its ASDF file."""
    column = np.ones(400_000)
    model = Tagged("tag:nowhere.org:model-1.0.0", {"meta": {}, "column": column})
    given = product.provenance({}, [])
    product.write_model(tmp_path / "a.asdf", model, given, consume=consume)
    if sys.platform == "linux":
        assert column[1000:-1000].any() != consume
    file = AsdfBlocks.read(tmp_path / "a.asdf")
    assert file.array(file.tree["roman"]["column"]).all()
