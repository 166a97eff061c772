"""Trees of ASDF files: read as JSON where they are ours, sealed, and never more than they say."""

import tracemalloc
from datetime import datetime

import numpy as np
import pytest
from romosaic import asdf_tree
from romosaic.asdf_blocks import AsdfBlocks
from romosaic.asdf_writer import write_asdf, write_copy
from romosaic.errors import ProductError


@pytest.mark.parametrize(
    ("more", "as_json"),
    [
        ({}, True),
        ({"%YAML": "\n...\n", "é": "\n#ROMOSAIC-JSON {}\n"}, True),
        ({"big": 2**63, "tiny": 5e-324, "far": -np.inf}, True),
        ({"when": datetime(2026, 1, 2, 3)}, False),
        ({"n": {1: 2}}, False),
        ({"nan": np.nan}, False),
    ],
)
def test_trees_are_read_as_json_where_that_says_the_same(tmp_path, monkeypatch, more, as_json):
    path, problem, parsed = tmp_path / "a.asdf", asdf_tree._problem, []
    monkeypatch.setattr(asdf_tree, "_problem", lambda events: parsed.append(1) or problem(events))
    plain = {
        "numbers": [1, 1.0, -0.0, True, None, 1e300, 0.1],
        "words": ["1", "no", "", "~", " a\t"],
    }
    write_asdf(path, {**plain, **more, "x": np.arange(3)})
    file = AsdfBlocks.read(path)
    tree = file.tree
    assert bool(parsed) != as_json
    by_yaml = asdf_tree.load_tree(asdf_tree.without_seal(file.text))
    assert bool(parsed) and repr(tree) == repr(by_yaml)
    assert repr({key: tree[key] for key in plain | more}) == repr(plain | more)


def test_trees_of_aliases_stay_short():
    text = b"a: &a [1, 2, 3, 4, 5, 6, 7, 8, 9]\nb: &b [*a, *a, *a, *a]\nc: [*b, *b, *b]\n...\n"
    assert asdf_tree.with_json(text, asdf_tree.load_nodes(text)) == text


def test_trees_of_aliases_take_no_memory():
    letters = b"q" * 100_000
    text = b"a: &a " + letters + b"\nb: [" + b", ".join([b"*a"] * 1000) + b"]\n...\n"
    nodes = asdf_tree.load_nodes(text)
    tracemalloc.start()
    assert asdf_tree.with_json(text, nodes) == text
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * len(letters)


def test_what_can_be_read_stays_so(tmp_path):
    path = tmp_path / "a.asdf"
    tree = {"a": ["x" * 1000] * 9000}  # with as much JSON it would be too large
    write_asdf(path, tree)
    assert 8_000_000 < path.stat().st_size < asdf_tree.MAX_TREE_BYTES
    assert AsdfBlocks.read(path).tree == tree


@pytest.mark.parametrize("comment", [b'#ROMOSAIC-JSON {"a": 2}', b"# of %YAML"])
def test_comments_of_others(tmp_path, comment):
    source, path = tmp_path / "a.asdf", tmp_path / "b.asdf"
    write_asdf(source, {"a": np.nan, "x": np.arange(3)})
    text = asdf_tree.without_seal(source.read_bytes())
    source.write_bytes(text.replace(b"%YAML", comment + b"\n%YAML", 1))
    write_copy(path, AsdfBlocks.read(source), {}, {"b": 1})
    found = AsdfBlocks.read(path)
    assert comment in found.text and repr(found.tree["a"]) == "nan" and found.tree["b"] == 1
    path.write_bytes(path.read_bytes().replace(b"b: 1", b"b: 2"))
    with pytest.raises(ProductError, match="does not match its checksum"):
        AsdfBlocks.read(path)


def test_json_of_who_sealed_nothing_is_not_read(tmp_path):
    path = tmp_path / "a.asdf"
    write_asdf(path, {"a": "right"})
    content = asdf_tree.without_seal(path.read_bytes())
    path.write_bytes(content.replace(b'{"a":"right"}', b'{"a":"wrong"}'))
    assert AsdfBlocks.read(path).tree == {"a": "right"}


@pytest.mark.parametrize("json", [b'{"a":', b"[" * 100_000, b'{"a":"\xff"}'])
def test_json_that_cannot_be_read_is_told(tmp_path, json):
    path = tmp_path / "a.asdf"
    write_asdf(path, {"a": "right"})
    head = asdf_tree.without_seal(path.read_bytes()).replace(b'{"a":"right"}', json)
    path.write_bytes(head.replace(b"%YAML", asdf_tree.seal(head) + b"%YAML", 1))
    with pytest.raises(ProductError, match="is corrupt: unreadable header"):
        _ = AsdfBlocks.read(path).tree
