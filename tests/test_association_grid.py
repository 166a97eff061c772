"""Output grids of users' associations: skycells by name, given numbers, regular grids around the members."""

import json
from dataclasses import replace

import numpy as np
import pytest
from asn_records import CELLS, REGULAR, VISIT, by_name, check_schema, record
from header_files import CORNER
from romosaic import association, association_file
from romosaic.errors import AssociationError
from romosaic.grid import Grid, unit_vector
from romosaic.skymap import PIXEL_SCALE, SkyMap

SKY = SkyMap()
PATH = "folder/mine_asn.json"
INFO = SKY.cell(CELLS[1]).grid.to_wcs_info()


def asn(*products, **header):
    """Association of products given as (name, records)."""
    rows = [
        {
            "name": name,
            "members": [
                {"expname": f"{r['exposure']}_cal.asdf", "exptype": "science"} for r in records
            ],
        }
        for name, records in products
    ]
    return {"asn_type": "image", "asn_rule": "by hand", **header, "products": rows}


def settled(content, *records, regular=REGULAR, skymap=SKY):
    return association.resolve_association(PATH, content, by_name(*records), skymap, regular)


def grid_of(content, tmp_path):
    path = tmp_path / "settled_asn.json"
    path.write_text(json.dumps(content))
    return association_file.read_grid(path)


def one(tmp_path, **header):
    """Grid and warnings of an association of one exposure at the corner of four cells."""
    entry = record()
    result, notes = settled(asn(("mosaic", [entry]), **header), entry)
    check_schema(result["mosaic"])
    return grid_of(result["mosaic"], tmp_path), notes


# ---- skycells ----


@pytest.mark.parametrize(
    "header",
    [
        {"skycell_wcs_info": INFO},
        {"skycell_wcs_info": INFO, "target": "M 31"},
        {"skycell_wcs_info": INFO, "target": CELLS[0]},
        {"skycell_wcs_info": "none", "target": CELLS[1]},
        {"target": CELLS[1]},
    ],
)
def test_header_names_a_skycell(tmp_path, header):
    assert one(tmp_path, **header) == (SKY.cell(CELLS[1]).grid, [])


def test_header_stays_as_it_is():
    entry = record()
    content = asn(("mosaic", [entry]), target=CELLS[1], program=7, extra={"kept": True})
    (name, result), _ = next(iter(settled(content, entry)[0].items())), None
    assert name == "mosaic"
    assert result == content | {"skycell_wcs_info": INFO}
    assert list(result)[:5] == ["asn_type", "asn_rule", "target", "program", "extra"]


@pytest.mark.parametrize(
    "changes",
    [
        {"name": CELLS[2]},
        {"x0_projection": INFO["x0_projection"] + 1},
        {"pixel_scale": INFO["pixel_scale"] * 2},
        {"nx": 4000},
        {"orientat_projection_center": 30.0},
        {"dec_projection_center": "north"},
        {"ra_projection_center": INFO["ra_projection_center"] + 180},
        {"x0_projection": float("nan")},
    ],
)
def test_name_wins_over_numbers_with_a_warning(tmp_path, changes):
    info = INFO | changes
    grid, notes = one(tmp_path, skycell_wcs_info=info)
    assert grid == SKY.cell(info["name"]).grid
    assert len(notes) == 1
    assert notes[0].startswith(f"{PATH}: skycell {info['name']} and its numbers disagree")


def test_name_alone_will_do_with_a_warning(tmp_path):
    grid, notes = one(tmp_path, skycell_wcs_info={"name": CELLS[0]})
    assert grid == SKY.cell(CELLS[0]).grid
    assert "disagree" in notes[0]


def test_rounded_numbers_agree(tmp_path):
    info = {key: round(v, 7) if isinstance(v, float) else v for key, v in INFO.items()}
    info |= {"pixel_scale": INFO["pixel_scale"]}
    assert one(tmp_path, skycell_wcs_info=info) == (SKY.cell(CELLS[1]).grid, [])


def test_a_mirrored_map_gives_mirrored_cells(tmp_path):
    mirrored, entry = SkyMap(x_east=False), record()
    info = mirrored.cell(CELLS[1]).grid.to_wcs_info()
    content = asn(("mosaic", [entry]), skycell_wcs_info=info)
    result, notes = settled(content, entry, skymap=mirrored)
    assert grid_of(result["mosaic"], tmp_path) == mirrored.cell(CELLS[1]).grid
    assert notes == []


def test_members_beside_their_skycell_are_reported(tmp_path):
    inside, outside = record(number=1), record(number=2, dec=80.0)
    content = asn(("mosaic", [inside, outside]), target=CELLS[1])
    result, notes = settled(content, inside, outside)
    assert len(result["mosaic"]["products"][0]["members"]) == 2
    assert notes == [f"{PATH}: product mosaic: not on skycell {CELLS[1]}: {outside['exposure']}"]


# ---- numbers that are no skycell ----


@pytest.mark.parametrize(
    "name", ["none", "r274dp63x31y81", "a long name of thirty letters or more"]
)
def test_numbers_of_another_grid_are_used(tmp_path, name):
    info = Grid(11.3, 86.4, 100.25, 50.5, 2e-5, 900, 700, 12.5).to_wcs_info() | {"name": name}
    grid, notes = one(tmp_path, skycell_wcs_info=info, target="none")
    assert grid == Grid(11.3, 86.4, 100.25, 50.5, 2e-5, 900, 700, 12.5)
    assert len(notes) == (name != "none")
    assert all(f"{name} is no skycell" in note for note in notes)


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"nx": None}, "unusable skycell_wcs_info"),
        ({"pixel_scale": "small"}, "unusable skycell_wcs_info"),
        ({"nx": float("nan")}, "unusable skycell_wcs_info"),
        ({"ny": float("inf")}, "unusable skycell_wcs_info"),
        ({"pixel_scale": 0.055}, "impossible numbers"),
        ({"pixel_scale": -1e-5}, "impossible numbers"),
        ({"dec_projection_center": 91}, "impossible numbers"),
        ({"x0_projection": float("inf")}, "impossible numbers"),
        ({"nx": 0}, "impossible numbers"),
        ({"ny": 10**9}, "impossible numbers"),
    ],
)
def test_unusable_numbers_are_refused(tmp_path, changes, reason):
    with pytest.raises(AssociationError, match=reason):
        one(tmp_path, skycell_wcs_info=INFO | {"name": "mine"} | changes)


def test_lacking_numbers_are_refused(tmp_path):
    info = {key: value for key, value in INFO.items() if key != "x0_projection"}
    with pytest.raises(AssociationError, match="x0_projection"):
        one(tmp_path, skycell_wcs_info=info | {"name": "mine"})


# ---- regular grids ----


@pytest.mark.parametrize(
    "header, warned",
    [
        ({}, False),
        ({"target": None}, False),
        ({"target": "none"}, False),
        ({"target": "None", "skycell_wcs_info": "none"}, False),
        ({"target": "M 31"}, True),
        ({"target": "225p90x49y99"}, True),
    ],
)
def test_no_skycell_means_a_regular_grid(tmp_path, header, warned):
    grid, notes = one(tmp_path, **header)
    assert (grid.skycell, grid.pixel_scale, grid.x_east) == (None, PIXEL_SCALE, False)
    assert [f"target {header['target']} is no skycell" in note for note in notes] == [True] * warned


def test_products_of_one_association_have_their_own_grids(tmp_path):
    records = [record(number=1), record(40.0, -20.0, number=2), record(40.01, -20.0, number=3)]
    content = asn(("one", records[:1]), ("two", records[1:]), ("all", records[1:2]), target="none")
    result, _ = settled(content, *records)
    assert list(result) == ["one", "two", "all"]
    grids = {name: grid_of(part, tmp_path) for name, part in result.items()}
    assert grids["one"].dec0 == pytest.approx(CORNER[1], abs=1e-3)
    assert grids["two"].nx > grids["all"].nx
    assert [len(part["products"]) for part in result.values()] == [1, 1, 1]


# ---- members ----


def test_mixed_filters_are_refused():
    records = [record(number=1), record(number=2, element="F062")]
    with pytest.raises(AssociationError, match="mixes filters in product mixed: F062 F158"):
        settled(asn(("mixed", records)), *records)
    result, _ = settled(asn(("red", records[:1]), ("blue", records[1:])), *records)
    assert list(result) == ["red", "blue"]


def test_other_members_are_left_out_and_need_no_record():
    entry = record()
    content = asn(("mosaic", [entry]), target=CELLS[0])
    content["products"][0]["members"].insert(
        0, {"expname": "dark_cal.asdf", "exptype": "background"}
    )
    result, _ = settled(content, entry)
    expected = [{"expname": f"r{VISIT}_0001_wfi01_f158_cal.asdf", "exptype": "science"}]
    assert result["mosaic"]["products"][0]["members"] == expected


def test_grid_of_numbers_keeps_its_handedness(tmp_path):
    mirrored = replace(Grid(20.0, 5.0, 7.0, 8.0, 1e-5, 30, 40, 10.0), x_east=False)
    (tmp_path / "m_asn.json").write_text(json.dumps({"skycell_wcs_info": mirrored.to_wcs_info()}))
    grid = association_file.read_grid(tmp_path / "m_asn.json")
    assert grid == mirrored
    apart = unit_vector(*grid.corners()) - unit_vector(*mirrored.corners())
    assert np.abs(apart).max() == 0


def test_without_skycells_the_header_does_not_place_the_product(tmp_path):
    entry, regular = record(), replace(REGULAR, on_skycell=False)
    for header in ({"skycell_wcs_info": INFO}, {"target": CELLS[1]}):
        result, notes = settled(asn(("mosaic", [entry]), **header), entry, regular=regular)
        assert grid_of(result["mosaic"], tmp_path) == REGULAR.around([entry], "mosaic")
        assert notes == []


def test_members_beside_a_given_grid_are_reported(tmp_path):
    inside, outside = record(number=1), record(number=2, dec=80.0)
    regular = replace(REGULAR, crval=CORNER, output_shape=(100, 50))
    result, notes = settled(asn(("mosaic", [inside, outside])), inside, outside, regular=regular)
    assert grid_of(result["mosaic"], tmp_path) == regular.fixed()
    assert notes == [f"{PATH}: product mosaic: not on its grid: {outside['exposure']}"]


def test_members_far_apart_are_refused_by_the_name_of_their_product():
    records = [record(0, 0, number=1), record(180, 0, number=2)]
    with pytest.raises(AssociationError) as caught:
        settled(asn(("wide", records), target="none"), *records)
    assert str(caught.value).startswith(f"{PATH}: product wide: its members lie all over the sky")
