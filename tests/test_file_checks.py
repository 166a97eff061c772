"""Damage of files that are not ASDF: found by checksums where the form has some, by structure elsewhere."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits as astropy_fits
from romosaic import moc
from romosaic.catalog_parquet import write_parquet
from romosaic.file_checks import problem_of
from romosaic.fits_file import write_fits, write_image
from romosaic.grid import Grid

GRID = Grid(10.0, 20.0, 30.5, 20.0, 0.055 / 3600, 70, 50)


def problem(path) -> str:
    """What `verify` would tell."""
    try:
        return problem_of(path)
    except Exception as error:
        return str(error) or type(error).__name__


def noise(dtype=np.float32):
    return np.random.default_rng(3).integers(0, 1 << 32, GRID.shape, np.uint32).view(dtype)


def write_planes(path):
    rows = {"BIT": [0, 1], "EXPOSURE": ["a", "b"]}
    write_fits(path, GRID, {}, [({}, noise()), ({}, noise(np.uint32))], {"MEMBERS": rows})


def write_moc(path):
    moc.write(path, np.array([[5, 900]], np.int64), 9)


WRITERS = {
    "planes": write_planes,
    "tile": lambda path: write_image(path, {"EXTNAME": "A"}, noise()),
    "moc": write_moc,
}
each_writer = pytest.mark.parametrize("kind", WRITERS)


@each_writer
def test_flipped_bits_of_fits_files_are_found(tmp_path, kind):
    path = tmp_path / "a.fits"
    WRITERS[kind](path)
    assert problem(path) == ""
    with astropy_fits.open(path, checksum=True) as file:
        assert all("DATASUM" in hdu.header for hdu in file)
        spans = [hdu.fileinfo() for hdu in file if hdu.fileinfo()["datSpan"]]
    content, rng = path.read_bytes(), np.random.default_rng(5)
    for _ in range(10):
        span = spans[rng.integers(len(spans))]
        damaged = bytearray(content)
        damaged[span["datLoc"] + rng.integers(span["datSpan"])] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        assert "is corrupt: " in problem(path)
    for left in (0, 100, 2880, len(content) // 2, len(content) - 2880, len(content) - 1):
        path.write_bytes(content[:left])
        assert problem(path), left
    path.write_bytes(content + bytes(2880))
    assert problem(path)


def test_flipped_bits_of_parquet_files_are_found_or_harmless(tmp_path):
    from astropy.table import Table

    path = tmp_path / "a_cat.parquet"
    write_parquet(path, Table({"x": noise().ravel(), "y": np.arange(3500)}), {})
    assert problem(path) == ""
    content, before = path.read_bytes(), pq.read_table(path)
    start = pq.read_metadata(path).row_group(0).column(0).total_compressed_size
    rng, found = np.random.default_rng(6), 0
    for at in rng.integers(4, start, 30):
        damaged = bytearray(content)
        damaged[at] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        told = problem(path)
        found += bool(told)
        assert told or pq.read_table(path).equals(before)
    assert found >= 25
    path.write_bytes(content[:-40])
    assert problem(path)
    footer = tmp_path / "_metadata"
    pq.write_metadata(pa.schema([("x", pa.int64())]), footer)
    assert problem(footer) == ""
    footer.write_bytes(footer.read_bytes()[:-9])
    assert problem(footer)


def test_files_that_a_footer_names_and_that_are_gone_are_told(tmp_path):
    footers = []
    for name in ("a.parquet", "b.parquet"):
        pq.write_table(pa.table({"x": [1, 2]}), tmp_path / name, metadata_collector=footers)
        footers[-1].set_file_path(name)
    footer = tmp_path / "_metadata"
    pq.write_metadata(pa.schema([("x", pa.int64())]), footer, metadata_collector=footers)
    assert problem(footer) == ""
    (tmp_path / "b.parquet").unlink()
    assert problem(footer) == "names b.parquet, which is missing"


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a.tsv", b"a\tb\n1\t2\n", ""),
        ("a.tsv", b"a\tb\n1\n", "has lines of different lengths"),
        ("a.tsv", b"a\tb\n1\t2", "is cut short or no text"),
        ("a.tsv", b"", "is cut short or no text"),
        ("properties", b"a = 1\n", ""),
        ("properties", b"hips_nb_tiles = 0\n", ""),
        ("properties", b"hips_nb_tiles = 8\n", "speaks of 8 tiles, and 0 are there"),
        ("properties", b"a = 1\n\0\n", "is cut short or no text"),
        ("a.html", b"\xff\xfe\n", "codec"),
        ("a.html", b"<html>\n</ht", "is cut short or no text"),
        ("a_qa.json", b"[1]", "does not hold measures"),
        ("a_qa.json", b'{"product": "b"}', "does not hold measures of this product"),
        ("a_qa.json", b'{"product": "a"}', ""),
        ("a_qa.json", b'{"product": "a"', "delimiter"),
    ],
)
def test_texts(tmp_path, name, content, what):
    path = tmp_path / name
    path.write_bytes(content)
    assert what in problem(path) if what else problem(path) == ""
