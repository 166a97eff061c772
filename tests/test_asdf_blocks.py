"""The plugin-free ASDF reader and writer against asdf itself."""

import numpy as np
import pytest
from romosaic.asdf_blocks import AsdfBlocks
from romosaic.asdf_writer import write_asdf
from romosaic.errors import ProductError

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
    tree = blocks.tree
    assert tree["n"] == 3
    for name, array in arrays.items():
        found = blocks.array(tree["arrays"][name])
        if not compression:
            assert isinstance(found, np.memmap) and not found.flags.writeable
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("compression", [None, "zlib", "lz4"])
def test_planes_one_at_a_time(tmp_path, compression):
    # 1.5 planes to a piece of asdf's 4 MB: planes end within pieces, and pieces within planes.
    cube = np.arange(4 * 700 * 1000, dtype=np.uint32).reshape(4, 700, 1000) * np.uint32(977)
    path = asdf_file(tmp_path / "a.asdf", {"x": cube}, all_array_compression=compression)
    blocks = AsdfBlocks.read(path)
    found = [plane.copy() for plane in blocks.planes(blocks.tree["x"])]
    np.testing.assert_array_equal(found, cube)
    if compression == "lz4":
        content = bytearray(path.read_bytes())
        content[blocks.blocks[0].start + 5] ^= 0xFF
        path.write_bytes(content)
        with pytest.raises(ProductError, match="has a block"):
            list(blocks.planes(blocks.tree["x"]))


@pytest.mark.parametrize("name", ["big", "empty", "number", "int64", "complex", "uint8"])
def test_arrays_by_asdf(tmp_path, name):
    path = asdf_file(tmp_path / "a.asdf", {"x": ARRAYS[name]}, inline=0)
    blocks = AsdfBlocks.read(path)
    found = blocks.array(blocks.tree["x"])
    assert found.shape == ARRAYS[name].shape and found.dtype == ARRAYS[name].dtype
    np.testing.assert_array_equal(found, ARRAYS[name])


@pytest.mark.parametrize("name", ["float32", "bool", "int64", "empty"])
def test_inlined_arrays(tmp_path, name):
    path = asdf_file(tmp_path / "a.asdf", {"x": ARRAYS[name]}, all_array_storage="inline")
    blocks = AsdfBlocks.read(path)
    assert blocks.blocks == []
    found = blocks.array(blocks.tree["x"])
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
    tree = blocks.tree
    np.testing.assert_array_equal(blocks.array(tree["x"]), base)
    with pytest.raises(ProductError, match="with gaps between its values"):
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
    node = blocks.tree["x"]
    with pytest.raises(ProductError, match="damaged array"):
        blocks.array(node)
    node["shape"] = [3, 4]
    np.testing.assert_array_equal(blocks.array(node)[2], [8, 9, 10, 11])


def test_no_blocks_and_no_checksums(tmp_path):
    path = asdf_file(tmp_path / "a.asdf", {"n": 1})
    blocks = AsdfBlocks.read(path)
    blocks.verify()
    assert blocks.blocks == [] and blocks.tree["n"] == 1
    first = asdf_file(tmp_path / "b.asdf", {"x": np.arange(9.0)}, inline=0)
    plain = bytearray(first.read_bytes())
    at = plain.index(b"\xd3BLK") + 6 + 32
    plain[at : at + 16] = bytes(16)
    first.write_bytes(plain)
    blocks = AsdfBlocks.read(first)
    blocks.verify()
    np.testing.assert_array_equal(blocks.array(blocks.tree["x"]), np.arange(9.0))
    identity = blocks.fingerprint()
    # Nothing tells damage of what has no checksum, but the identity still follows the content.
    plain[at + 16 + 3] ^= 1
    first.write_bytes(plain)
    damaged = AsdfBlocks.read(first)
    damaged.verify()
    assert damaged.fingerprint() != identity


@pytest.mark.parametrize("n", [1, 2, 3, 5, 4096, 300_001])
def test_zeros_between_tree_and_blocks(tmp_path, n):
    path = asdf_file(tmp_path / "a.asdf", {"x": np.arange(9.0)}, inline=0)
    content = path.read_bytes()
    at = content.index(b"\xd3BLK")
    end = content.index(b"#ASDF BLOCK INDEX")
    path.write_bytes(content[:at] + bytes(n) + content[at:end])
    blocks = AsdfBlocks.read(path)
    blocks.verify()
    np.testing.assert_array_equal(blocks.array(blocks.tree["x"]), np.arange(9.0))


def test_a_tree_longer_than_the_pieces_it_is_read_in(tmp_path):
    # The end marker straddles the border of two pieces of 256 kB for some of these.
    for length in range(262_144 - len(HEADER) - 12, 262_144 - len(HEADER) + 2):
        text = HEADER + b"a: " + b"x" * (length - 4) + b"\n"
        path = tmp_path / "a.asdf"
        path.write_bytes(text + b"...\n")
        assert AsdfBlocks.read(path).text == text + b"...\n"


def test_trees_are_those_of_asdf(lz4_file):
    import asdf.util

    assert AsdfBlocks.read(lz4_file).tree == asdf.util.load_yaml(str(lz4_file))


def test_reading_needs_no_plugin(lz4_file):
    import subprocess
    import sys
    from pathlib import Path

    code = (
        "import sys; from romosaic.asdf_blocks import AsdfBlocks;"
        f"AsdfBlocks.read({str(lz4_file)!r}).tree;"
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
    for name, node in blocks.tree["romosaic"]["arrays"].items():
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


@pytest.mark.parametrize("threads", [1, 2])
def test_arrays_are_packed_where_it_pays(tmp_path, threads):
    import asdf

    noise = np.random.default_rng(1).normal(size=(1300, 1000)).astype(np.float32)
    tree = {"noise": noise, "half": np.where(np.arange(1300)[:, None] < 500, np.nan, noise)}
    tree |= {"words": np.array(["", "µ", "a word"]), "none": np.empty((0, 3)), "more": noise[:9]}
    path = tmp_path / f"{threads}.asdf"
    write_asdf(path, tree, packed=True, threads=threads)
    blocks = AsdfBlocks.read(path).blocks
    assert [block.compression for block in blocks] == ["", "lz4", "lz4", "", ""]
    assert blocks[1].used < 0.7 * noise.nbytes
    with asdf.open(path, validate_checksums=True) as file:
        for name, array in tree.items():
            np.testing.assert_array_equal(file[name], array)


def test_plain_values_round_trip(tmp_path):
    import asdf

    path = tmp_path / "a.asdf"
    tree = {**PLAIN, "same again": PLAIN["same"]}
    write_asdf(path, tree)
    found = AsdfBlocks.read(path).tree
    assert found == tree
    assert [type(v) for v in found["numbers"]] == [type(v) for v in tree["numbers"]]
    with asdf.open(path) as file:
        assert file["words"] == PLAIN["words"] and file["lines"] == PLAIN["lines"]


def test_numpy_scalars_become_plain(tmp_path):
    path = tmp_path / "a.asdf"
    values = [np.float32(0.5), np.float64(0.1), np.int32(-3), np.uint64(2**63), np.bool_(True)]
    write_asdf(path, {"v": [*values, np.str_("no"), (1, 2)], "nan": np.float32("nan")})
    found = AsdfBlocks.read(path).tree
    assert found["v"] == [0.5, 0.1, -3, 2**63, True, "no", [1, 2]]
    assert [type(v) for v in found["v"][:5]] == [float, float, int, int, bool]
    assert np.isnan(found["nan"])


@pytest.mark.parametrize(
    "value", [np.array([b"a", b"b"]), np.array([object()]), object(), np.zeros(2, "f4,i4"), 1j]
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
