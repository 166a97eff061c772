"""Products and intermediate files: valid by their schema, they say what they were made of."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from romosaic import product
from romosaic.asdf_blocks import AsdfBlocks
from romosaic.asdf_tree import without_seal
from romosaic.asdf_writer import Tagged
from romosaic.errors import ProductError

SCRIPTS = Path(__file__).parent.parent / "scripts"


def leftovers(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_full_disk(tmp_path):
    # A limit on the size of files fails in the same place of a write, and needs no disk to fill.
    path = tmp_path / "a.asdf"
    code = (
        "import resource, numpy as np\n"
        "from romosaic.product import write_step\n"
        "from romosaic.errors import ProductError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try:\n"
        f"    write_step({str(path)!r}, {{'x': np.ones(50_000)}})\n"
        "except ProductError as error:\n"
        "    print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=SCRIPTS, capture_output=True, text=True)
    assert run.stdout == (
        f"{path}: cannot be written (File too large) -> check space and permissions\n"
    )
    assert leftovers(tmp_path) == []


# --- provenance and intermediate files ---


def test_provenance():
    made = product.provenance({"snr": [5.0, 4.0], "mode": None}, [("a", "1f"), ("b", "2f")])
    assert set(made) == {"versions", "parameters", "inputs"}
    assert made["inputs"] == [
        {"name": "a", "fingerprint": "1f"},
        {"name": "b", "fingerprint": "2f"},
    ]
    assert made["parameters"] == {"snr": [5.0, 4.0], "mode": None}
    assert made["versions"]["numpy"] == np.__version__
    assert {"romosaic", "python", "asdf", "roman_datamodels"} <= set(made["versions"])
    json.dumps(made)
    # Two runs on the same input say the same.
    assert made == product.provenance({"snr": [5.0, 4.0], "mode": None}, [("a", "1f"), ("b", "2f")])


def test_provenance_of_the_steps_before():
    first = product.provenance({"a": 1}, [("x", "1f")])
    second = product.provenance({"b": 2}, [("x", "1f")], steps=product.steps_of("first", first))
    third = product.provenance({}, [("x", "1f")], steps=product.steps_of("second", second))
    assert second["steps"] == {"first": {"a": 1}}
    assert third["steps"] == {"first": {"a": 1}, "second": {"b": 2}}


def test_step_files_round_trip(tmp_path):
    path = tmp_path / "a_outliers.asdf"
    tree = {
        "status": "COMPLETE",
        "members": [
            {"exposure": "a", "flagged": np.arange(7, dtype=np.uint32), "level": 0.25},
            {"exposure": "b", "flagged": np.empty(0, np.uint32), "level": float("nan")},
        ],
        "provenance": product.provenance({}, []),
    }
    product.write_step(path, tree)
    found = product.read_step(path)
    assert found["status"] == "COMPLETE" and found["provenance"] == tree["provenance"]
    for own, other in zip(found["members"], tree["members"], strict=True):
        assert own["exposure"] == other["exposure"]
        assert own["flagged"].dtype == np.uint32 and own["flagged"].flags.writeable
        np.testing.assert_array_equal(own["flagged"], other["flagged"])
        np.testing.assert_equal(own["level"], other["level"])
    # Arrays are in memory: the file may be replaced.
    path.unlink()
    assert found["members"][0]["flagged"].sum() == 21


def test_step_files_that_are_damaged(tmp_path):
    path = tmp_path / "a_outliers.asdf"
    product.write_step(path, {"flagged": np.arange(1000, dtype=np.uint32)})
    content = path.read_bytes()
    unsealed = without_seal(content)
    for bad, what in (
        (content[:-5], "cut short"),
        (content[:-5] + b"x" + content[-4:], "checksum"),
        (content.replace(b"romosaic:", b"xomosaic:"), "header does not match its checksum"),
        (unsealed.replace(b"romosaic:", b"xomosaic:"), "not a file of this workflow"),
        (unsealed.replace(b"source: 0", b"source: 1"), "has no block 1"),
        (b"", "is empty"),
    ):
        path.write_bytes(bad)
        with pytest.raises(ProductError, match=what) as error:
            product.read_step(path)
        assert "\n" not in str(error.value) and error.value.todo == "delete it and run again"
    with pytest.raises(ProductError, match="No such file"):
        product.read_step(tmp_path / "b.asdf")


def test_any_flipped_bit_of_a_step_file_is_found_or_changes_nothing(tmp_path):
    path = tmp_path / "a_skymatch.asdf"
    tree = {"level": 0.25, "names": ["a", "b"], "error": np.linspace(0, 1, 9)}
    product.write_step(path, tree)
    content, harmless = path.read_bytes(), 0
    for bit in range(8 * len(content)):
        bad = bytearray(content)
        bad[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bad)
        try:
            found = product.read_step(path)
        except ProductError as error:
            assert "\n" not in str(error) and error.todo == "delete it and run again"
        else:
            np.testing.assert_equal(found, tree)
            harmless += 1
    # Of the mark of the header's checksum, of flags that nobody reads, and of what makes a header longer.
    assert harmless < 100 + 8 * 63 < 3000 < bit


# --- products ---


def test_products_keep_what_the_workflow_says_of_them(tmp_path):
    path, made_of = tmp_path / "a_coadd.asdf", product.provenance({}, [("a", "b")])
    members = [{"exposure": "a", "n_used": 3, "window": [0, 4, 1, 5]}, {"window": None}]
    model = Tagged("asdf://stsci.edu/datamodels/roman/tags/wfi_mosaic-2.1.0", {"meta": {}})
    before = datetime.now(UTC).replace(tzinfo=None)
    product.write_model(path, model, made_of, {"members": members, "provenance": "no"})
    tree = AsdfBlocks.read(path).tree
    assert tree["romosaic"] == {"members": members, "provenance": made_of}
    assert tree["roman"]["meta"]["filename"] == path.name
    assert abs(datetime.fromisoformat(tree["roman"]["meta"]["file_date"]) - before).seconds < 60
