"""Step `associate` with associations that users bring."""

import json

import header_files
import pytest
from asn_records import CELLS, check_schema
from coadd_file import grid_wcs
from header_files import CORNER
from romosaic import association_file
from romosaic.config import load
from romosaic.config_grids import GRID_KEYS
from romosaic.errors import AssociationError, RomosaicError
from romosaic.grid import Grid
from romosaic.skymap import SkyMap
from test_associate import changed, garbage, record_file, run, state, write_asn

NAMES = [header_files.name(number) for number in (1, 2)]


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw")
    return [header_files.exposure(folder, name, *CORNER, roll=10.0) for name in NAMES]


@pytest.fixture
def raw(originals, tmp_path):
    """Two exposures beside which a test may write associations."""
    (tmp_path / "raw").mkdir()
    copies = [tmp_path / "raw" / path.name for path in originals]
    for copy, path in zip(copies, originals, strict=True):
        copy.write_bytes(path.read_bytes())
    return copies


@pytest.fixture
def out(tmp_path):
    return tmp_path / "associate"


def grids(**options):
    """What section `resample` hands to the step."""
    section = load({"resample": options})["resample"]
    return {"grids": {key: section[key] for key in GRID_KEYS}}


def settled(out, name="mosaic"):
    path = out / f"associations/{name}_asn.json"
    content = json.loads(path.read_text())
    check_schema(content)
    return content, association_file.read_grid(path)


def test_members_are_found_beside_the_association(raw, out):
    path = write_asn(raw[0].parent, [p.name for p in raw], target=CELLS[0], program="00042")
    assert run(out, associations=[path]) == (2, 1, [])
    content, grid = settled(out)
    assert grid == SkyMap().cell(CELLS[0]).grid
    assert content["program"] == "00042"
    assert set(state(out)) == {
        *map(record_file, raw),
        "associations/mosaic_asn.json",
        "quarantine.tsv",
        "reader.txt",
        "status.json",
    }


def test_one_member_on_a_regular_grid(raw, out):
    path = write_asn(raw[0].parent, [raw[0].name], target="none")
    options = grids(pixel_scale=0.1, rotation=10)
    assert run(out, associations=[path], options=options) == (1, 1, [])
    content, grid = settled(out)
    assert content["skycell_wcs_info"] == "none"
    assert (grid.skycell, grid.orientation) == (None, -10.0)
    assert grid.pixel_scale == pytest.approx(0.1 / 3600)
    # The frame is 32 arcseconds wide and turned as the grid is.
    assert grid.nx == pytest.approx(320 + 4, abs=1)


def test_regular_grids_have_the_pixels_of_the_sky_map(raw, out):
    run(out, associations=[write_asn(raw[0].parent, [raw[0].name])])
    grid = settled(out)[1]
    assert (grid.pixel_scale, grid.orientation) == (SkyMap().pixel_scale, 0.0)


def test_a_changed_grid_touches_the_products_that_it_concerns(raw, out):
    paths = [write_asn(raw[0].parent, [raw[0].name])]
    run(out, raw[1:], paths, options=grids(pixel_scale=0.1))
    before = state(out)
    run(out, raw[1:], paths, options=grids(pixel_scale=0.1, rotation=5))
    assert changed(before, state(out)) == ({"associations/mosaic_asn.json"}, set())
    before = state(out)
    run(out, raw[1:], paths, options=grids(pixel_scale=0.1, resample_on_skycell=False))
    written = {name for name in before if name.startswith("associations/")}
    assert len(written) == 5
    assert changed(before, state(out)) == (written, set())


def test_an_output_wcs_is_the_grid_of_what_is_not_on_a_skycell(raw, out, tmp_path):
    import asdf

    wanted = Grid(*CORNER, 10.0, 20.0, 1e-5, 300, 200, 25.0, x_east=False)
    asdf.AsdfFile({"wcs": grid_wcs(wanted)}).write_to(tmp_path / "w.asdf")
    options = grids(output_wcs=str(tmp_path / "w.asdf"))
    paths = [write_asn(raw[0].parent, [raw[0].name])]
    notes = run(out, raw[1:], paths, options=options)[2]
    assert settled(out)[1] == wanted
    # romancal would make these on it, too.
    todo = "set resample.resample_on_skycell: false to make them on resample.output_wcs"
    assert notes == [f"4 products are made on their skycells -> {todo}"]
    options["grids"]["resample_on_skycell"] = False
    assert run(out, raw[1:], paths, options=options) == (2, 5, [])
    for path in (out / "associations").iterdir():
        assert association_file.read_grid(path) == wanted


def test_they_go_beside_the_products_of_exposures(raw, out):
    elsewhere = header_files.exposure(raw[0].parent, header_files.name(7), 200.0, -30.0)
    path = write_asn(raw[0].parent, [raw[1].name, raw[0].name])
    assert run(out, [raw[0], elsewhere], [path])[:2] == (3, 4 + 1 + 1)
    members = [m["expname"] for m in settled(out)[0]["products"][0]["members"]]
    assert members == [raw[1].name, raw[0].name]
    run(out, [raw[0], elsewhere])
    assert not (out / "associations/mosaic_asn.json").exists()
    assert not (out / record_file(raw[1])).exists()


def test_warnings_are_handed_on(raw, out):
    path = write_asn(raw[0].parent, [raw[0].name], target="M 31")
    notes = run(out, associations=[path])[2]
    assert notes == [f"{path}: target M 31 is no skycell; its products get regular grids"]


def test_missing_members_are_refused_before_headers_are_read(raw, out):
    path = write_asn(raw[0].parent, ["a_cal.asdf", raw[0].name, "b_cal.asdf"])
    raw[0].write_bytes(b"bad, but that is not the point")
    with pytest.raises(AssociationError) as caught:
        run(out, associations=[path], on_bad_exposure="exclude")
    folder = raw[0].parent
    expected = f"{path}: has members that do not exist: {folder}/a_cal.asdf, {folder}/b_cal.asdf"
    assert str(caught.value).startswith(expected)
    assert not out.exists()


def test_mixed_filters_are_refused(raw, out):
    blue = header_files.exposure(raw[0].parent, header_files.name(3, element="f062"), *CORNER)
    path = write_asn(raw[0].parent, [raw[0].name, blue.name])
    with pytest.raises(AssociationError, match="mixes filters in product mosaic: F062 F158"):
        run(out, associations=[path])
    assert not out.exists()


def test_one_product_of_two_associations_is_refused(raw, out, tmp_path):
    first = write_asn(raw[0].parent, [raw[0].name])
    (raw[0].parent / "more").mkdir()
    copy = raw[0].parent / "more" / raw[1].name
    copy.write_bytes(raw[1].read_bytes())
    second = write_asn(copy.parent, [copy.name])
    with pytest.raises(AssociationError, match="products that are made already: mosaic ->"):
        run(out, associations=[first, second])
    run(out, associations=[first])
    again = f"r00001_p_v01001001001001_{CELLS[0]}_f158"
    third = write_asn(raw[0].parent, [raw[0].name], name=again)
    with pytest.raises(AssociationError, match=f"made already: {again} -> rename"):
        run(out, raw, [third])


def test_bad_members_stop_the_run(raw, out):
    bad = garbage(raw[0].parent, "x")
    path = write_asn(raw[0].parent, [raw[0].name, bad.name])
    with pytest.raises(RomosaicError, match=f"{bad}: is not an ASDF file"):
        run(out, associations=[path])


def test_bad_members_are_left_out(raw, out):
    bad = garbage(raw[0].parent, "x")
    path = write_asn(raw[0].parent, [raw[0].name, bad.name])
    count, _, notes = run(out, associations=[path], on_bad_exposure="exclude")
    assert count == 1
    assert notes[0] == f"{path}: product mosaic: 1 of 2 members left out"
    assert [m["expname"] for m in settled(out)[0]["products"][0]["members"]] == [raw[0].name]
    assert str(bad) in (out / "quarantine.tsv").read_text()
    excluded = settled(out)[0]["products"][0]["excluded"]
    assert excluded == [{"expname": bad.name, "reason": "is not an ASDF file"}]


def test_a_product_of_bad_members_alone_is_not_made(raw, out):
    bad = garbage(raw[0].parent, "x")
    path = write_asn(raw[0].parent, [bad.name])
    notes = run(out, raw, [path], on_bad_exposure="exclude")[2]
    assert notes[0] == f"{path}: product mosaic: 1 of 1 members left out, it is not made"
    assert [p.name for p in (out / "associations").glob("mosaic*")] == []
    assert len(list((out / "associations").iterdir())) == 4
    with pytest.raises(RomosaicError, match="is not an ASDF file"):
        run(out, [], [path], on_bad_exposure="exclude")


@pytest.mark.parametrize("members", [["../a_cal.asdf"], ["/a_cal.asdf"], []])
def test_associations_are_checked(raw, out, members):
    path = write_asn(raw[0].parent, members)
    with pytest.raises(AssociationError, match=f"{path}: "):
        run(out, associations=[path])
    assert not out.exists()


def test_members_outside_the_folder_are_taken_when_allowed(raw, out):
    (raw[0].parent / "asn").mkdir()
    for members in ([f"../{raw[0].name}"], [str(raw[0])]):
        path = write_asn(raw[0].parent / "asn", members, target=CELLS[0])
        with pytest.raises(AssociationError, match=f"{path}: .* set associate.allow_outside: true"):
            run(out, associations=[path])
        assert run(out, associations=[path], allow_outside=True)[:2] == (1, 1)
        assert settled(out)[0]["products"][0]["members"][0]["expname"] == members[0]


# ---- custom products of the configuration ----

CUSTOM = {"name": "mine", "members": ["*"], "target": CELLS[2]}


def test_custom_products_go_beside_the_others(raw, out):
    assert run(out, raw, products=[CUSTOM])[:2] == (2, 4 + 1)
    content, grid = settled(out, "mine")
    assert grid == SkyMap().cell(CELLS[2]).grid
    members = [member["expname"] for member in content["products"][0]["members"]]
    assert members == [path.name for path in raw]
    assert run(out, raw, products=[CUSTOM], product_type="custom")[:2] == (2, 1)
    assert [path.name for path in (out / "associations").iterdir()] == ["mine_asn.json"]


def test_custom_products_need_names_of_their_own(raw, out):
    path = write_asn(raw[0].parent, [raw[0].name], name="mine")
    with pytest.raises(AssociationError, match="products that are made already: mine ->"):
        run(out, raw, [path], products=[CUSTOM])
    again = f"r00001_p_v01001001001001_{CELLS[0]}_f158"
    with pytest.raises(AssociationError, match=f"associate.products: makes .* already: {again} ->"):
        run(out, raw, products=[{**CUSTOM, "name": again}])


def test_custom_products_are_checked_before_headers_are_read(raw, out):
    raw[0].write_bytes(b"bad, but that is not the point")
    with pytest.raises(AssociationError, match="mine: has members that match no exposure: x"):
        run(out, raw, products=[{**CUSTOM, "members": ["x"]}])


def test_copies_under_other_names_are_told(raw, out):
    copies = [raw[0].with_name(f"{header_files.name(number)}_cal.asdf") for number in (7, 8)]
    for copy in copies:
        copy.write_bytes(raw[0].read_bytes())
    *_, (note,) = run(out, [*raw, copies[0]])
    pair = f"{header_files.name(7)} is a copy of {NAMES[0]}"
    assert note == f"{pair}, and both count -> keep one of them"
    assert run(out, [*raw, *copies])[2] == [note.replace(pair, f"{pair} (and 1 more)")]
