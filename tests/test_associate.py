"""Step `associate`: what it writes, when it writes, what it refuses."""

import json
import os
from pathlib import Path

import asdf
import header_files
import pytest
from asn_records import CELLS, check_schema, loaded_by_romancal
from header_files import CORNER
from romosaic import associate as step
from romosaic import records
from romosaic.config import load
from romosaic.errors import RomosaicError, SkymapError
from romosaic.exposure import read_record

ELSEWHERE = (200.0, -30.0)


def run(folder, exposures=(), associations=(), workers=1, options=None, **parameters):
    section = load({"associate": parameters})["associate"]
    paths = [str(path) for path in exposures]
    done = step.associate(
        folder, paths, [str(a) for a in associations], section, workers=workers, **options or {}
    )
    return done.exposures, done.products, done.notes


def state(folder):
    """Bytes and age of every file."""
    files = (path for path in sorted(Path(folder).rglob("*")) if path.is_file())
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in files
    }


def changed(before, after):
    """Names of the files that were written, and of those that are gone."""
    written = {name for name, content in after.items() if before.get(name) != content}
    return written, set(before) - set(after)


def stem(path):
    return path.name.removesuffix("_cal.asdf")


def record_file(path):
    return f"exposures/{stem(path)}.json"


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Two exposures on the corner of four skycells, one elsewhere."""
    folder, name = tmp_path_factory.mktemp("raw"), header_files.name
    return [
        header_files.exposure(folder, name(1), *CORNER),
        header_files.exposure(folder, name(2), *CORNER, roll=30.0),
        header_files.exposure(folder, name(3, visit="0000101001001001002"), *ELSEWHERE),
    ]


@pytest.fixture
def raw(originals, tmp_path, monkeypatch):
    """Copies that a test may change; however long it takes, they count as just written."""
    monkeypatch.setattr(records, "_SETTLED", 1 << 62)  # nanoseconds
    (tmp_path / "raw").mkdir()
    copies = [tmp_path / "raw" / path.name for path in originals]
    for copy, path in zip(copies, originals, strict=True):
        copy.write_bytes(path.read_bytes())
    return copies


@pytest.fixture
def out(tmp_path):
    return tmp_path / "associate"


def write_asn(folder, members, name="mosaic", exptype="science", **header):
    rows = [{"expname": str(member), "exptype": exptype} for member in members]
    path = folder / f"{name}_asn.json"
    path.write_text(json.dumps(header | {"products": [{"name": name, "members": rows}]}))
    return path


def garbage(folder, name):
    path = folder / f"{name}_cal.asdf"
    path.write_bytes(b"no ASDF at all")
    return path


# ---- what it writes ----


def test_records_and_associations(raw, out):
    assert run(out, raw) == (3, 4 + 1, [])
    found = state(out)
    targets = [*CELLS, "201m31x62y41"]
    visits = ["v01001001001001"] * 4 + ["v01001001001002"]
    products = [f"r00001_p_{v}_{t}_f158" for v, t in zip(visits, targets, strict=True)]
    assert set(found) == {
        *(record_file(path) for path in raw),
        *(f"associations/{name}_asn.json" for name in products),
        "quarantine.tsv",
        "reader.txt",
        "status.json",
    }
    assert found["quarantine.tsv"][0] == b"exposure\treason\n"
    for path in raw:
        assert json.loads(found[record_file(path)][0]) == read_record(path)
    for name in products:
        content = json.loads(found[f"associations/{name}_asn.json"][0])
        check_schema(content)
        assert content["products"][0]["name"] == name


def test_romancal_loads_what_is_written(raw, out):
    products = [{"name": "one", "members": [raw[0].name]}, {"name": "two", "target": CELLS[0]}]
    run(out, raw, products=products)
    paths = sorted((out / "associations").iterdir())
    assert len(paths) == 4 + 1 + 2
    for path, found in zip(paths, loaded_by_romancal(paths), strict=True):
        assert found == json.loads(path.read_text())


def test_bytes_do_not_depend_on_order_workers_or_time(raw, out, tmp_path, monkeypatch):
    monkeypatch.setattr(records, "_FEW", 2)
    run(out, raw)
    run(tmp_path / "again", raw[::-1], workers=2)
    one, other = state(out), state(tmp_path / "again")
    assert {name: content for name, (content, _) in one.items()} == {
        name: content for name, (content, _) in other.items()
    }


def test_bad_files_are_found_by_workers_too(raw, out, monkeypatch):
    monkeypatch.setattr(records, "_FEW", 2)
    bad = [garbage(raw[0].parent, name) for name in ("x", "y")]
    for workers in (1, 2):
        with pytest.raises(RomosaicError) as caught:
            run(out, [*raw, *bad], workers=workers)
        assert len(str(caught.value).splitlines()) == 3


# ---- when it writes ----


def test_nothing_new_touches_nothing(raw, out):
    run(out, raw)
    before = state(out)
    os.utime(raw[0])
    assert run(out, raw) == (3, 5, [])
    assert state(out) == before


def test_an_added_exposure_touches_its_own_products(raw, out):
    run(out, raw)
    before = state(out)
    name = header_files.name(4, visit="0000101001001001002")
    added = header_files.exposure(raw[0].parent, name, *ELSEWHERE)
    run(out, [*raw, added])
    product = "associations/r00001_p_v01001001001002_201m31x62y41_f158_asn.json"
    assert changed(before, state(out)) == ({record_file(added), product}, set())


def test_a_removed_exposure_takes_its_record_and_products_along(raw, out):
    run(out, raw)
    before = state(out)
    run(out, raw[:2])
    product = "associations/r00001_p_v01001001001002_201m31x62y41_f158_asn.json"
    assert changed(before, state(out)) == (set(), {record_file(raw[2]), product})


def test_a_changed_exposure_changes_its_record_alone(raw, out):
    run(out, raw)
    before = state(out)
    content = header_files.tree(stem(raw[1]), *CORNER, roll=30.0)
    content["roman"]["data"][5, 5] = 1
    header_files.write(raw[1], content)
    run(out, raw)
    assert changed(before, state(out)) == ({record_file(raw[1])}, set())


def test_an_exposure_that_moved_changes_cells(raw, out):
    run(out, raw[:2])
    before = state(out)
    header_files.exposure(raw[1].parent, stem(raw[1]), CORNER[0], CORNER[1] + 0.02)
    run(out, raw[:2])
    products = {
        name for name in before if name.startswith("associations/") and CELLS[3] not in name
    }
    written, gone = changed(before, state(out))
    assert gone == set()
    assert record_file(raw[1]) in written
    assert {name for name in written if "x51" in name} == {
        name for name in products if "x51" in name
    }


def test_a_selection_keeps_records(raw, out):
    run(out, raw)
    before = state(out)
    assert run(out, raw, skycells=[CELLS[0]])[:2] == (3, 1)
    written, gone = changed(before, state(out))
    assert written == set()
    assert len(gone) == 4 and all(name.startswith("associations/") for name in gone)


# ---- known records ----


@pytest.fixture
def headers_read(monkeypatch):
    """Names of the exposures whose headers are read."""
    read = []

    def counted(path):
        read.append(stem(Path(path)))
        return read_record(path)

    monkeypatch.setattr(records, "read_record", counted)
    return read


def test_known_exposures_are_not_read_again(raw, out, headers_read):
    run(out, raw[:2])
    assert headers_read == [stem(path) for path in raw[:2]]
    run(out, raw)
    assert headers_read == [stem(path) for path in raw]


def test_a_changed_file_is_read_again(raw, out, headers_read):
    run(out, raw)
    header_files.exposure(raw[0].parent, stem(raw[0]), *ELSEWHERE)
    run(out, raw)
    assert headers_read[3:] == [stem(raw[0])]


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[1, 2]",
        lambda text: "null",
        lambda text: text.replace('"footprint"', '"Footprint"'),
        lambda text: text.replace('"exposure": "r', '"exposure": "s'),
        lambda text: "\udcff\udcfe",
    ],
)
def test_a_damaged_record_is_made_again(raw, out, headers_read, damage):
    run(out, raw)
    before = state(out)
    path = out / record_file(raw[1])
    path.write_text(damage(path.read_text()), errors="surrogateescape")
    run(out, raw)
    assert headers_read[3:] == [stem(raw[1])]
    assert {name: part[0] for name, part in state(out).items()} == {
        name: part[0] for name, part in before.items()
    }


def test_other_code_reads_every_header_again_but_rewrites_no_equal_record(
    raw, out, headers_read, monkeypatch
):
    run(out, raw)
    before = state(out)
    monkeypatch.setattr(records, "code_digest", lambda name: f"another {name}")
    run(out, raw)
    assert headers_read[3:] == headers_read[:3]
    assert changed(before, state(out)) == ({"reader.txt"}, set())
    run(out, raw)
    assert len(headers_read) == 6


def test_a_bad_file_with_a_damaged_record_is_still_one_of_the_bad(raw, out):
    run(out, raw)
    (out / record_file(raw[0])).write_text("{")
    raw[0].write_bytes(b"")
    with pytest.raises(RomosaicError, match=f"{raw[0]}: is empty"):
        run(out, raw)


# ---- bad exposures ----


def bad_set(folder):
    """One file of every kind of trouble, and its reason."""
    name = header_files.name
    cut = header_files.exposure(folder, name(21), *CORNER)
    cut.write_bytes(cut.read_bytes()[:-500])
    wide = header_files.tree(name(26), *CORNER)
    wide["roman"]["meta"]["wcs"] = header_files.grid_wcs(
        header_files.Grid(0.0, 0.0, 15.5, 15.5, 8.0, 32, 32)
    )
    blind = header_files.tree(name(23), *CORNER)
    blind["roman"]["meta"]["wcs"] = None
    plain = folder / "plain_cal.asdf"
    asdf.AsdfFile({"something": 1}).write_to(plain)
    return {
        cut: "cut short",
        garbage(folder, name(22)): "not an ASDF file",
        header_files.write(folder / f"{name(23)}_cal.asdf", blind): "no WCS",
        header_files.altered(
            folder / f"{name(24)}_cal.asdf", b"element: F158", b"element: GRISM"
        ): "GRISM",
        header_files.altered(
            folder / f"{name(25)}_cal.asdf", b"megajanskys: 0.7708", b"megajanskys: null"
        ): "no photometry",
        header_files.write(folder / f"{name(26)}_cal.asdf", wide): "footprint",
        header_files.altered(
            folder / f"{name(27)}_cal.asdf", b" exposure_time: 139.15", b" exposure_time: long"
        ): "no usable header",
        header_files.altered(
            folder / f"{name(29)}_cal.asdf", b"data_problem: null", b"data_problem: [1]"
        ): "not a valid Level-2 file",
        plain: "not a Roman file",
        folder / f"{name(28)}_cal.asdf": "No such file",
    }


def test_stop_lists_all_bad_exposures_a_line_each(raw, out):
    reasons = bad_set(raw[0].parent)
    with pytest.raises(RomosaicError) as caught:
        run(out, [*raw, *reasons])
    head, *lines = str(caught.value).splitlines()
    assert head == f"{len(reasons)} exposures cannot be used"
    assert len(lines) == len(reasons)
    for path, reason in reasons.items():
        (line,) = [line for line in lines if f"{path}: " in line]
        assert reason in line and " -> " in line
    assert not out.exists()


def test_any_failure_of_a_header_is_that_exposures_own(raw, out, monkeypatch):
    def odd(path):
        if path == raw[1]:
            raise AttributeError("a tree like\nno other")
        return read_record(path)

    monkeypatch.setattr(records, "read_record", odd)
    with pytest.raises(RomosaicError) as caught:
        run(out, raw)
    assert str(caught.value).startswith(
        f"{raw[1]}: has no usable header (AttributeError: a tree like no other) -> "
    )


def test_one_bad_exposure_takes_one_line(raw, out):
    bad = garbage(raw[0].parent, "x")
    with pytest.raises(RomosaicError) as caught:
        run(out, [*raw, bad])
    assert str(caught.value).startswith(f"{bad}: is not an ASDF file -> ")


def test_exclude_goes_on_without_them(raw, out):
    reasons = bad_set(raw[0].parent)
    before = run(out, raw), state(out)
    n_exposures, n_products, notes = run(out, [*raw, *reasons], on_bad_exposure="exclude")
    assert (n_exposures, n_products) == before[0][:2]
    assert len(notes) == 1 and notes[0].startswith(f"exposures that cannot be used: {len(reasons)}")
    assert changed(before[1], state(out)) == ({"quarantine.tsv"}, set())
    header, *rows = (out / "quarantine.tsv").read_text().splitlines()
    assert header == "exposure\treason"
    found = dict(row.split("\t") for row in rows)
    assert set(found) == {str(path) for path in reasons}
    assert all(reason in found[str(path)] for path, reason in reasons.items())


def test_an_exposure_that_turns_bad_leaves_the_folder(raw, out):
    run(out, raw)
    raw[2].write_bytes(b"broken")
    run(out, raw, on_bad_exposure="exclude")
    assert not (out / record_file(raw[2])).exists()
    assert len(list((out / "associations").iterdir())) == 4


def test_nothing_usable_says_why(raw, out):
    bad = [garbage(raw[0].parent, name) for name in ("x", "y")]
    with pytest.raises(RomosaicError) as caught:
        run(out, bad, on_bad_exposure="exclude")
    assert str(caught.value).count("is not an ASDF file") == 2


@pytest.mark.parametrize(
    "selection", [{"filters": ["F062"]}, {"skycells": ["135p90x50y50"]}, {"visits": ["9" * 19]}]
)
def test_nothing_left_says_where_to_look(raw, out, selection):
    with pytest.raises(RomosaicError, match="3 usable exposures: no product -> check section"):
        run(out, raw, **selection)
    assert not out.exists()


def test_a_sky_map_that_is_not_there_is_refused(raw, out):
    with pytest.raises(SkymapError, match=r"missing\.asdf: No such file"):
        run(out, raw, options={"reference_file": "missing.asdf"})
