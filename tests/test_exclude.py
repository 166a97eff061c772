"""Bad exposures that are excluded: found by their pixels, too, and listed in what they are missing from."""

import json

import header_files
import pytest
from header_files import CORNER
from romosaic import records
from romosaic.exposure import read_exposure
from test_associate import changed, record_file, run, state, stem

ELSEWHERE = (200.0, -30.0)


@pytest.fixture
def raw(tmp_path):
    """Two exposures on the corner of four skycells, one elsewhere."""
    name = header_files.name
    return [
        header_files.exposure(tmp_path / "raw", name(1), *CORNER),
        header_files.exposure(tmp_path / "raw", name(2), *CORNER, roll=30.0),
        header_files.exposure(tmp_path / "raw", name(3, visit="0000101001001001002"), *ELSEWHERE),
    ]


@pytest.fixture
def out(tmp_path):
    return tmp_path / "associate"


def flip_a_pixel(path):
    content = bytearray(path.read_bytes())
    content[content.index(b"\xd3BLK") + 200] ^= 1
    path.write_bytes(content)


def test_exclude_reads_pixels_once_and_products_list_what_they_lost(raw, out, monkeypatch):
    read = []

    def counted(path, known):
        read.append(path)
        return read_exposure(path, known)

    monkeypatch.setattr(records, "read_exposure", counted)
    monkeypatch.setattr(records, "_SETTLED", -1)
    flip_a_pixel(raw[1])
    assert run(out, raw)[:2] == (3, 5) and read == []
    before = state(out)
    assert run(out, raw, on_bad_exposure="exclude")[:2] == (2, 5) and read == raw
    rows = (out / "quarantine.tsv").read_text().splitlines()[1:]
    assert rows == [f"{raw[1]}\tis corrupt: block 2 does not match its checksum"]
    written, gone = changed(before, state(out))
    # The products of its place, and no others, are told; the rest of their association is what it was.
    products = {f"associations/{p.name}" for p in (out / "associations").glob("*x5[12]y*")}
    assert written == products | {"quarantine.tsv", "status.json"} and len(products) == 4
    assert gone == {record_file(raw[1])}
    for path in (out / "associations").iterdir():
        (product,) = json.loads(path.read_text())["products"]
        mine = f"associations/{path.name}" in products
        reason = "is corrupt: block 2 does not match its checksum"
        row = {"expname": raw[1].name, "reason": reason}
        assert product.get("excluded", []) == ([row] if mine else [])
        assert [m["expname"] for m in product["members"]] == [raw[0 if mine else 2].name]
    # What is known is not read again, what is bad is.
    before = state(out)
    run(out, raw, on_bad_exposure="exclude")
    assert read[3:] == [raw[1]] and changed(before, state(out)) == (set(), set())
    # Another limit of unusable pixels is another check.
    run(out, raw, on_bad_exposure="exclude", options={"max_unusable_fraction": 0.25})
    assert read[4:] == raw


def test_exposures_that_flux_would_refuse_are_excluded(raw, out):
    tree = header_files.tree(stem(raw[1]), *CORNER)
    tree["roman"]["err"] = tree["roman"]["err"] * float("nan")
    header_files.write(raw[1], tree)
    assert run(out, raw, on_bad_exposure="exclude")[0] == 2
    row = (out / "quarantine.tsv").read_text().splitlines()[1]
    assert row.startswith(f"{raw[1]}\thas 100.0 % unusable pixels (") and "err not positive" in row
    options = {"max_unusable_fraction": 1.0}
    assert run(out, raw, on_bad_exposure="exclude", options=options)[0] == 3
