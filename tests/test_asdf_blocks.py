"""The plugin-free ASDF reader and writer against asdf itself, and against damage of every kind."""

import hashlib
import struct
import time

import numpy as np
import pytest
from romosaic import exposure
from romosaic.asdf_blocks import MAX_TREE_BYTES, AsdfBlocks, write_asdf
from romosaic.errors import ExposureError, ProductError

HEADER = b"#ASDF 1.0.0\n#ASDF_STANDARD 1.6.0\n%YAML 1.1\n%TAG ! tag:stsci.edu:asdf/\n--- !core/asdf-1.1.0\n"
ARRAYS = {
    "float32": np.linspace(-3, 9, 35, dtype=np.float32).reshape(5, 7),
    "float16": np.linspace(-3, 9, 12, dtype=np.float16).reshape(3, 4),
    "uint32": np.arange(50, dtype=np.uint32) + np.uint32(4_000_000_000),
    "uint8": np.arange(251, dtype=np.uint8),
    "bool": np.array([[True, False, True]]),
    "int64": np.array([-(2**60), 0, 2**60]),
    "complex": np.array([1 + 2j, -3j], dtype=np.complex64),
    "big": np.arange(6, dtype=">f8").reshape(2, 3),
    "empty": np.empty((0, 7), np.float32),
    "number": np.array(3.5),
    "strided": np.arange(60, dtype=np.float32).reshape(6, 10)[::2, ::-3],
    "fortran": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
}


def asdf_file(path, tree, **options):
    import asdf

    with asdf.config_context() as settings:
        settings.array_inline_threshold = options.pop("inline", None)
        asdf.AsdfFile(tree).write_to(path, **options)
    return path


@pytest.fixture(scope="module")
def lz4_file(survey):
    """One simulated exposure: 22 blocks, lz4."""
    return survey.paths[survey.names[0]]


# --- reading what asdf wrote ---


@pytest.mark.parametrize("compression", [None, "zlib", "bzp2", "lz4"])
@pytest.mark.parametrize("padding", [False, True])
def test_structure_of_files_by_asdf(tmp_path, compression, padding):
    arrays = {key: ARRAYS[key] for key in ("float32", "uint32", "bool", "float16")}
    options = {"all_array_compression": compression, "pad_blocks": padding, "inline": 0}
    path = asdf_file(tmp_path / "a.asdf", {"arrays": arrays, "n": 3}, **options)
    blocks = AsdfBlocks.read(path)
    assert [block.compression for block in blocks.blocks] == [compression or ""] * 4
    assert [block.size for block in blocks.blocks] == [array.nbytes for array in arrays.values()]
    blocks.verify()
    tree = blocks.tree()
    assert tree["n"] == 3
    for name, array in arrays.items():
        if compression:
            with pytest.raises(ProductError, match="cannot be mapped"):
                blocks.array(tree["arrays"][name])
            continue
        found = blocks.array(tree["arrays"][name])
        assert isinstance(found, np.memmap) and not found.flags.writeable
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("name", ["big", "empty", "number", "int64", "complex", "uint8"])
def test_arrays_by_asdf(tmp_path, name):
    path = asdf_file(tmp_path / "a.asdf", {"x": ARRAYS[name]}, inline=0)
    blocks = AsdfBlocks.read(path)
    found = blocks.array(blocks.tree()["x"])
    assert found.shape == ARRAYS[name].shape and found.dtype == ARRAYS[name].dtype
    np.testing.assert_array_equal(found, ARRAYS[name])


@pytest.mark.parametrize("name", ["float32", "bool", "int64", "empty"])
def test_inlined_arrays(tmp_path, name):
    path = asdf_file(tmp_path / "a.asdf", {"x": ARRAYS[name]}, all_array_storage="inline")
    blocks = AsdfBlocks.read(path)
    assert blocks.blocks == []
    found = blocks.array(blocks.tree()["x"])
    assert found.shape == ARRAYS[name].shape
    np.testing.assert_allclose(found, ARRAYS[name], rtol=1e-7)
    np.testing.assert_array_equal(blocks.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]])


def test_strided_views_are_not_mapped_wrongly(tmp_path):
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    import asdf

    with asdf.config_context() as settings:
        settings.default_array_save_base = True
        path = asdf_file(tmp_path / "a.asdf", {"x": base, "y": base[1:, ::2]})
    blocks = AsdfBlocks.read(path)
    tree = blocks.tree()
    np.testing.assert_array_equal(blocks.array(tree["x"]), base)
    with pytest.raises(ProductError, match="cannot be mapped"):
        blocks.array(tree["y"])


def test_streamed_block(tmp_path):
    import asdf
    from asdf.tags.core import Stream

    path = tmp_path / "stream.asdf"
    tree = {"first": np.arange(9, dtype=np.int16), "x": Stream([4], np.float32)}
    with asdf.config_context() as settings, open(path, "wb") as stream:
        settings.array_inline_threshold = 0
        asdf.AsdfFile(tree).write_to(stream)
        stream.write(np.arange(12, dtype=np.float32).tobytes())
    blocks = AsdfBlocks.read(path)
    blocks.verify()
    assert [block.used for block in blocks.blocks] == [18, 48]
    node = blocks.tree()["x"]
    with pytest.raises(ProductError, match="damaged array"):
        blocks.array(node)
    node["shape"] = [3, 4]
    np.testing.assert_array_equal(blocks.array(node)[2], [8, 9, 10, 11])


def test_no_blocks_and_no_checksums(tmp_path):
    path = asdf_file(tmp_path / "a.asdf", {"n": 1})
    blocks = AsdfBlocks.read(path)
    blocks.verify()
    assert blocks.blocks == [] and blocks.tree()["n"] == 1
    first = asdf_file(tmp_path / "b.asdf", {"x": np.arange(9.0)}, inline=0)
    plain = bytearray(first.read_bytes())
    at = plain.index(b"\xd3BLK") + 6 + 32
    plain[at : at + 16] = bytes(16)
    first.write_bytes(plain)
    AsdfBlocks.read(first).verify()
    identity = AsdfBlocks.read(first).fingerprint()
    # The identity still follows the content.
    plain[at + 16 + 3] ^= 1
    first.write_bytes(plain)
    assert AsdfBlocks.read(first).fingerprint() != identity


@pytest.mark.parametrize("n", [1, 2, 3, 5, 4096, 300_001])
def test_zeros_between_tree_and_blocks(tmp_path, n):
    path = asdf_file(tmp_path / "a.asdf", {"x": np.arange(9.0)}, inline=0)
    content = path.read_bytes()
    at = content.index(b"\xd3BLK")
    end = content.index(b"#ASDF BLOCK INDEX")
    path.write_bytes(content[:at] + bytes(n) + content[at:end])
    blocks = AsdfBlocks.read(path)
    blocks.verify()
    np.testing.assert_array_equal(blocks.array(blocks.tree()["x"]), np.arange(9.0))


def test_a_tree_longer_than_the_pieces_it_is_read_in(tmp_path):
    # The end marker straddles the border of two pieces of 256 kB for some of these.
    for length in range(262_144 - len(HEADER) - 12, 262_144 - len(HEADER) + 2):
        text = HEADER + b"a: " + b"x" * (length - 4) + b"\n"
        path = tmp_path / "a.asdf"
        path.write_bytes(text + b"...\n")
        assert AsdfBlocks.read(path).text == text + b"...\n"


def test_trees_are_those_of_asdf(lz4_file):
    import asdf.util

    assert AsdfBlocks.read(lz4_file).tree() == asdf.util.load_yaml(str(lz4_file))


def test_reading_needs_no_plugin(lz4_file):
    import subprocess
    import sys
    from pathlib import Path

    code = (
        "import sys; from romosaic.asdf_blocks import AsdfBlocks;"
        f"AsdfBlocks.read({str(lz4_file)!r}).tree();"
        "assert not {'asdf', 'astropy', 'roman_datamodels'} & set(sys.modules)"
    )
    folder = Path(__file__).parent.parent / "scripts"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=folder)


# --- writing ---


def test_files_written_open_with_asdf(tmp_path):
    import asdf

    path = tmp_path / "a.asdf"
    write_asdf(path, {"romosaic": {"arrays": ARRAYS, "again": ARRAYS["float32"]}})
    with asdf.open(path, validate_checksums=True, lazy_load=False) as file:
        file.validate()
        for name, array in ARRAYS.items():
            found = np.asarray(file["romosaic"]["arrays"][name])
            assert found.shape == array.shape, name
            assert found.dtype == array.dtype.newbyteorder("="), name
            np.testing.assert_array_equal(found, array)
    blocks = AsdfBlocks.read(path)
    blocks.verify()
    for name, node in blocks.tree()["romosaic"]["arrays"].items():
        found = blocks.array(node)
        assert found.shape == ARRAYS[name].shape
        np.testing.assert_array_equal(found, ARRAYS[name])


PLAIN = {
    "words": [
        "",
        "null",
        "~",
        "true",
        "No",
        "on",
        "1",
        "-0",
        "1_000",
        "0x1f",
        "1e5",
        ".nan",
        "-.inf",
    ],
    "dates": ["2027-06-01", "2027-06-01T00:00:00.000", "12:30:00", "1:30"],
    "signs": [
        "=",
        "<<",
        "*a",
        "&a",
        "!a",
        "- b",
        "a: b",
        "#c",
        " d ",
        "%e",
        "@",
        "`",
        "'",
        '"',
        "\\",
    ],
    "lines": "one\n...\ntwo\n--- three\n\n  four",
    "wide": "word " * 100,
    "letters": "Übergröße µ α \u2028 \x85 \U0001f30c",
    "numbers": [0, -7, 2**70, 0.1, 1e-300, -1.5e300, 1 / 3, float("inf")],
    "none": None,
    "flags": [True, False],
    "nested": {"a": [{"b": [[1, [2, []]], {}]}], 5: "integer key"},
    "same": ["shared"],
}


def test_plain_values_round_trip(tmp_path):
    import asdf

    path = tmp_path / "a.asdf"
    tree = {**PLAIN, "same again": PLAIN["same"]}
    write_asdf(path, tree)
    found = AsdfBlocks.read(path).tree()
    assert found == tree
    assert [type(v) for v in found["numbers"]] == [type(v) for v in tree["numbers"]]
    with asdf.open(path) as file:
        assert file["words"] == PLAIN["words"] and file["lines"] == PLAIN["lines"]


def test_numpy_scalars_become_plain(tmp_path):
    path = tmp_path / "a.asdf"
    values = [np.float32(0.5), np.float64(0.1), np.int32(-3), np.uint64(2**63), np.bool_(True)]
    write_asdf(path, {"v": [*values, np.str_("no"), (1, 2)], "nan": np.float32("nan")})
    found = AsdfBlocks.read(path).tree()
    assert found["v"] == [0.5, 0.1, -3, 2**63, True, "no", [1, 2]]
    assert [type(v) for v in found["v"][:5]] == [float, float, int, int, bool]
    assert np.isnan(found["nan"])


@pytest.mark.parametrize(
    "value", [np.array(["a", "b"]), np.array([object()]), object(), np.zeros(2, "f4,i4"), 1j]
)
def test_other_values_are_refused_before_a_byte_is_written(tmp_path, value):
    path = tmp_path / "a.asdf"
    with pytest.raises(TypeError, match="cannot be written"):
        write_asdf(path, {"a": 1, "b": {"c": value}})
    assert not path.exists()


def test_writing_copies_no_array(tmp_path):
    import tracemalloc

    array = np.ones((500, 4000), np.float32)
    tracemalloc.start()
    write_asdf(tmp_path / "a.asdf", {"x": array})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < array.nbytes / 4


# --- damage ---


def damaged(tmp_path, content: bytes):
    path = tmp_path / "bad_cal.asdf"
    path.write_bytes(content)
    return path


def refusal(path) -> str:
    """Message of the error that a file gives, whatever reads it; checks its form."""
    with pytest.raises(ProductError) as error:
        blocks = AsdfBlocks.read(path)
        blocks.tree()
        blocks.verify()
    line = str(error.value)
    assert "\n" not in line and str(path) in line
    with pytest.raises(ExposureError) as error:
        exposure.read_record(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    with pytest.raises(ExposureError):
        exposure.read_exposure(path)
    return line


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is empty"),
        (b"#ASDF", "is not an ASDF file"),
        (b"#ASDF \n", "is cut short in its header"),
        (b"#ASDF 1.0.0\n", "is cut short in its header"),
        (b"SIMPLE  =                    T" * 200, "is not an ASDF file"),
        (bytes(5000), "is not an ASDF file"),
        (HEADER + b"a: 1\n", "is cut short in its header"),
        (HEADER + b"a: [1\n...\n", "unreadable header"),
        (HEADER + b"a: b: c\n...\n", "unreadable header"),
        (HEADER + b"a: \xff\xfe\n...\n", "unreadable header"),
        (HEADER + b"? {a: 1}\n: 2\n...\n", "unreadable header"),
        (HEADER + b"a: !!timestamp soon\n...\n", "unreadable header"),
        (HEADER + b"a: !!int many\n...\n", "unreadable header"),
        (HEADER + b"a: 2027-99-99\n...\n", "unreadable header"),
        (HEADER + b"a: 1\n...\nrubbish behind the tree", "corrupt between its blocks"),
        (HEADER + b"a: 1\n...\n\xd3BLK", "is cut short"),
        (HEADER + b"a: 1\n...\n\xd3BLK\x00\x03abc", "is cut short"),
        (HEADER + b"x: &a [*a]\n...\n", "refers to itself"),
        (HEADER + b"x: &a 1\ny: &a [*a]\n...\n", "refers to itself"),
        (HEADER + b"x: *nobody\n...\n", "corrupt"),
        (HEADER + b"x: {source: 0, datatype: int8, shape: [1]}\n...\n", "has no block 0"),
    ],
)
def test_files_that_are_not_asdf(tmp_path, content, what):
    assert what in refusal(damaged(tmp_path, content))


def test_files_that_are_not_files(tmp_path):
    assert "Is a directory" in refusal(tmp_path)
    assert "No such file" in refusal(tmp_path / "missing_cal.asdf")
    assert "Not a directory" in refusal(damaged(tmp_path, b"x") / "below_cal.asdf")


@pytest.mark.parametrize("kind", ["sequences", "mappings", "merges", "flow", "block", "keys"])
def test_yaml_bombs(tmp_path, kind):
    levels = range(1, 40)
    text = {
        "sequences": "a0: &a0 [x]\n"
        + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in levels),
        "mappings": "a0: &a0 {x: 1}\n"
        + "".join(f"a{i}: &a{i} {{p: *a{i - 1}, q: *a{i - 1}}}\n" for i in levels),
        "merges": "a0: &a0 {x: 1}\n"
        + "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in levels),
        "flow": "a: " + "[" * 100_000 + "]" * 100_000 + "\n",
        "block": "a:\n" + "- " * 100_000 + "1\n",
        "keys": "? " * 100_000 + "a\n",
    }[kind]
    begin = time.process_time()
    line = refusal(damaged(tmp_path, HEADER + text.encode() + b"...\n"))
    assert "is corrupt" in line
    assert time.process_time() - begin < 2


def test_aliases_in_reason_are_read(tmp_path):
    text = b"a: &a [1, 2]\nb: [*a, *a]\nc: {<<: &m {x: 1}, y: 2}\n...\n"
    tree = AsdfBlocks.read(damaged(tmp_path, HEADER + text)).tree()
    assert tree == {"a": [1, 2], "b": [[1, 2], [1, 2]], "c": {"x": 1, "y": 2}}


@pytest.mark.parametrize("filler", [b"# a long comment\n", b"\0", b"[", b"a: 1\n"])
def test_huge_headers_are_given_up(tmp_path, filler):
    path = tmp_path / "huge_cal.asdf"
    with open(path, "wb") as stream:
        stream.write(HEADER + filler * (MAX_TREE_BYTES // len(filler) + 1000))
        stream.truncate(3 * MAX_TREE_BYTES)
    begin = time.process_time()
    assert "no end of its header" in refusal(path)
    assert time.process_time() - begin < 2


def test_endless_zeros_behind_the_tree(tmp_path):
    path = damaged(tmp_path, HEADER + b"a: 1\n...\n")
    with open(path, "rb+") as stream:
        stream.truncate(50_000_000_000)  # sparse
    begin = time.process_time()
    assert "zeros where blocks should be" in refusal(path)
    assert time.process_time() - begin < 2


@pytest.mark.parametrize(
    "node",
    [
        {"source": 0, "datatype": "float32", "shape": [-1]},
        {"source": 0, "datatype": "float32", "shape": ["*", 2]},
        {"source": 0, "datatype": "float32", "shape": [3], "offset": -4},
        {"source": 0, "datatype": "float32", "shape": [10]},
        {"source": 0, "datatype": "float32", "shape": [2**40, 2**40]},
        {"source": 0, "datatype": "float32", "shape": None},
        {"source": 0, "datatype": "float33", "shape": [3]},
        {"source": 0, "datatype": ["ascii", 4], "shape": [3]},
        {"source": 0, "datatype": "object", "shape": [1]},
        {"source": 0, "shape": [3]},
        {"source": "other.asdf", "datatype": "float32", "shape": [3]},
        {"source": 1, "datatype": "float32", "shape": [3]},
        {"source": -2, "datatype": "float32", "shape": [3]},
        {"source": None, "datatype": "float32", "shape": [3]},
        {"datatype": "float32", "shape": [3]},
        {"data": [[1, 2], [3]], "datatype": "float32"},
        {"data": [1, 2], "datatype": "float32", "shape": [3]},
        {"data": ["x"], "datatype": "float32"},
        [[1, 2], [3]],
        {},
    ],
    ids=str,
)
def test_damaged_nodes(tmp_path, node):
    path = tmp_path / "a.asdf"
    write_asdf(path, {"x": np.arange(9, dtype=np.float32)})
    with pytest.raises(ProductError) as error:
        AsdfBlocks.read(path).array(node)
    assert "\n" not in str(error.value)


def contents(path) -> dict:
    """Everything that the workflow takes from a Level-2 file: arrays' bytes and the header's text."""
    model, conversion = exposure.read_exposure(path)
    arrays = {
        name: hashlib.sha256(array.tobytes()).hexdigest()
        for name, array in exposure.arrays(model).items()
    }
    model.close()
    return {"arrays": arrays, "conversion": conversion, "text": AsdfBlocks.read(path).text}


def outcome(path) -> dict | None:
    """Contents of a file, or None where each of its readers refuses it with one line."""
    try:
        found = contents(path)
    except ExposureError as error:
        assert "\n" not in str(error) and str(path) in str(error) and len(str(error)) < 700
        found = None
    try:
        blocks = AsdfBlocks.read(path)
        blocks.tree()
        blocks.verify()
    except ProductError as error:
        assert "\n" not in str(error)
        assert found is None
    try:
        exposure.read_record(path)
    except ExposureError as error:
        assert "\n" not in str(error) and str(path) in str(error)
    return found


@pytest.fixture(scope="module")
def original(lz4_file):
    return lz4_file.read_bytes(), contents(lz4_file)


def test_truncated_files_are_refused(tmp_path, original):
    content, truth = original
    rng = np.random.default_rng(4)
    blocks = [i for i in range(len(content) - 4) if content[i : i + 4] == b"\xd3BLK"]
    index = content.index(b"#ASDF BLOCK INDEX")
    ends = [
        *rng.integers(0, len(content), 22),
        *rng.choice(blocks, 3),
        blocks[5] + 3,
        blocks[7] + 20,
    ]
    for end in [*ends, index - 1, index + 3, len(content) - 30]:
        assert outcome(damaged(tmp_path, content[:end])) is None, end
    # Only the index is missing, which only saves time.
    assert outcome(damaged(tmp_path, content[:index])) == truth


def test_flipped_bytes_are_found_or_harmless(tmp_path, original):
    content, truth = original
    start = content.index(b"\xd3BLK")
    rng = np.random.default_rng(5)
    for at in rng.integers(start, len(content), 50):
        bad = bytearray(content)
        bad[at] ^= 1 << rng.integers(8)
        assert outcome(damaged(tmp_path, bad)) in (None, truth), at


def test_flipped_bytes_of_block_headers_are_found_or_harmless(tmp_path, original):
    content, truth = original
    places = [i for i in range(len(content) - 4) if content[i : i + 4] == b"\xd3BLK"]
    rng = np.random.default_rng(6)
    for at in range(54):
        bad = bytearray(content)
        bad[places[rng.integers(len(places))] + at] ^= 1 << rng.integers(8)
        assert outcome(damaged(tmp_path, bad)) in (None, truth), at


def test_flipped_bytes_of_the_tree_never_change_pixels(tmp_path, original):
    # ASDF keeps no checksum of its tree: a changed number there may be valid, and is another identity.
    content, truth = original
    rng = np.random.default_rng(7)
    for at in rng.integers(0, content.index(b"\xd3BLK"), 30):
        bad = bytearray(content)
        bad[at] ^= 1 << rng.integers(8)
        path = damaged(tmp_path, bad)
        found = outcome(path)
        if found is not None:
            assert found["text"] != truth["text"]
            assert sorted(found["arrays"].values()) == sorted(truth["arrays"].values())


def test_a_wrong_index_is_refused(tmp_path, original):
    # asdf goes to where the index says, and reads what is there.
    content, _ = original
    at = content.index(b"- ", content.index(b"#ASDF BLOCK INDEX") + 40) + 2
    at = content.index(b"- ", at) + 3
    bad = bytearray(content)
    bad[at] = ord("1") if bad[at] != ord("1") else ord("2")
    assert "block index" in refusal(damaged(tmp_path, bad))


def test_sizes_that_ask_for_more_memory_than_there_is(tmp_path, original):
    content, _ = original
    at = content.index(b"\xd3BLK", content.index(b"\xd3BLK") + 5000) + 6 + 24
    for size in (1 << 62, 1 << 45, 5):
        bad = content[:at] + struct.pack(">Q", size) + content[at + 8 :]
        assert outcome(damaged(tmp_path, bad)) is None


def test_fingerprint_is_of_the_content_and_not_of_the_name(tmp_path, original, lz4_file):
    content, _ = original
    copy = tmp_path / "renamed_cal.asdf"
    copy.write_bytes(content)
    first = AsdfBlocks.read(lz4_file).fingerprint()
    assert AsdfBlocks.read(copy).fingerprint() == first
    assert exposure.fingerprint(copy) == first
    bad = content.replace(b"SCIENCE" if b"SCIENCE" in content else b"ROMAN", b"ROMAM", 1)
    copy.write_bytes(bad)
    assert AsdfBlocks.read(copy).fingerprint() != first
    # Another pixel changes the checksum in its block's header, and so the identity.
    at = content.index(b"\xd3BLK") + 6 + 32
    copy.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    assert AsdfBlocks.read(copy).fingerprint() != first
