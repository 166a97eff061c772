"""Damaged and hostile ASDF files: one line, whichever reader meets them, and never a changed pixel."""

import hashlib
import struct
import time

import numpy as np
import pytest
from romosaic import asdf_compression, exposure
from romosaic.asdf_blocks import MAX_TREE_BYTES, AsdfBlocks
from romosaic.asdf_writer import write_asdf
from romosaic.errors import ExposureError, ProductError

HEADER = b"#ASDF 1.0.0\n#ASDF_STANDARD 1.6.0\n%YAML 1.1\n%TAG ! tag:stsci.edu:asdf/\n--- !core/asdf-1.1.0\n"


@pytest.fixture(scope="module")
def lz4_file(survey):
    """One simulated exposure: 22 blocks, lz4."""
    return survey.paths[survey.names[0]]


def damaged(tmp_path, content: bytes):
    path = tmp_path / "bad_cal.asdf"
    path.write_bytes(content)
    return path


def refusal(path) -> str:
    """Message of the error that a file gives, whatever reads it; checks its form."""
    with pytest.raises(ProductError) as error:
        blocks = AsdfBlocks.read(path)
        _ = blocks.tree
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
    tree = AsdfBlocks.read(damaged(tmp_path, HEADER + text)).tree
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
    found = exposure.read_exposure(path)
    arrays = {
        name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in found.arrays.items()
    }
    return {"arrays": arrays, "conversion": found.conversion, "text": found.blocks.text}


def outcome(path) -> dict | None:
    """Contents of a file, or None where each of its readers refuses it with one line."""
    try:
        found = contents(path)
    except ExposureError as error:
        assert "\n" not in str(error) and str(path) in str(error) and len(str(error)) < 700
        found = None
    try:
        blocks = AsdfBlocks.read(path)
        _ = blocks.tree
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


# --- pieces of lz4 ---


def piece(packed: bytes, full: int, size: int | None = None) -> bytes:
    return (
        struct.pack(">I", len(packed) + 4 if size is None else size)
        + struct.pack("<I", full)
        + packed
    )


@pytest.mark.parametrize("hidden", [False, True])
def test_pieces_of_lz4_never_leave_their_place(monkeypatch, hidden):
    from lz4.block import LZ4BlockError, compress

    if hidden:  # as of a package that does not show its library
        monkeypatch.setattr(
            asdf_compression, "_decompress_lz4", lambda: asdf_compression._copied_lz4
        )
    first, second = bytes(range(256)) * 40, b"abc" * 1000
    packed = [compress(part, store_size=False) for part in (first, second)]
    content = np.full(len(first) + len(second) + 64, 7, np.uint8)
    room = content[:-64]
    good = piece(packed[0], len(first)) + piece(packed[1], len(second)) + piece(b"\0", 0)
    assert asdf_compression.unpack("lz4", memoryview(good), room) == room.size
    assert room.tobytes() == first + second
    damaged = [
        piece(packed[0], len(first) - 1),
        piece(packed[0], len(first) + 1),
        piece(packed[0][:-9], len(first)),
        piece(packed[0][:-9] + bytes(9), len(first)),
        piece(b"", 5),
        piece(packed[0], len(first), size=0),
        piece(packed[0], len(first), size=1 << 31),
        piece(packed[0], 1 << 31),
        piece(b"\xff" * 1000, len(first)),
        piece(packed[0], len(first)) * 2,
        good[:-3],
    ]
    for pieces in damaged:
        with pytest.raises((ValueError, RuntimeError, struct.error, LZ4BlockError)):
            asdf_compression.unpack("lz4", memoryview(pieces), room)
        assert np.all(content[-64:] == 7)
