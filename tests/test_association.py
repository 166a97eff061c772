"""Associations by skycell: names, grouping, contents as romancal writes them, selection."""

import json
from dataclasses import replace

import numpy as np
import pytest
from asn_records import CELLS, REGULAR, VISIT, check_schema, record
from header_files import CORNER
from romosaic import association, association_file, circles
from romosaic.config import load
from romosaic.errors import AssociationError, SkymapError
from romosaic.grid import Grid, unit_vector
from romosaic.skymap import SkyMap

SKY = SkyMap()


def made(records, skymap=SKY, regular=REGULAR, **parameters):
    section = load({"associate": parameters})["associate"]
    return association.make_associations(records, skymap, section, regular)


def members(content):
    return [member["expname"] for member in content["products"][0]["members"]]


def targets(associations):
    return [content["target"] for content in associations.values()]


# ---- contents ----


def test_content_is_what_romancal_writes():
    result = made([record(number=2), record(number=1)])
    name = f"r00001_p_v01002003004005_{CELLS[0]}_f158"
    files = [f"r{VISIT}_000{number}_wfi01_f158_cal.asdf" for number in (1, 2)]
    expected = {
        "asn_type": "image",
        "asn_rule": "DMS_ELPP_Base",
        "degraded_status": "No known degraded exposures in association.",
        "program": "00001",
        "data_release_id": "p",
        "version_id": None,
        "target": CELLS[0],
        "constraints": "No constraints",
        "asn_id": "a3001",
        "asn_pool": "none",
        "skycell_wcs_info": SKY.cell(CELLS[0]).grid.to_wcs_info(),
        "products": [
            {
                "name": name,
                "members": [{"expname": file, "exptype": "science"} for file in files],
            }
        ],
    }
    assert list(result[name].items()) == list(expected.items())
    assert list(result) == [f"r00001_p_v01002003004005_{cell}_f158" for cell in CELLS]
    assert targets(result) == CELLS


def test_wcs_info_of_a_known_cell():
    """A row of the reference file, in degrees and 0-based pixels."""
    result = made([record(132.70938995736145, 88.16582739076597)], skycells=["135p90x25y49"])
    info = next(iter(result.values()))["skycell_wcs_info"]
    assert (info.pop("name"), info.pop("nx"), info.pop("ny")) == ("135p90x25y49", 5000, 5000)
    numbers = {
        "pixel_scale": 1.5277777777777777e-05,
        "ra_projection_center": 135.0,
        "dec_projection_center": 90.0,
        "x0_projection": 7299.5,
        "y0_projection": 122499.5,
        "ra_center": 132.70938995736145,
        "dec_center": 88.16582739076597,
        "orientat": 2.2906100749969482,
        "orientat_projection_center": 0.0,
    }
    assert info == pytest.approx(numbers, rel=0, abs=1e-9)


def test_contents_follow_romancals_schema():
    result = made([record(number=1), record(20.0, 89.99, number=2), record(0.0, -30.0, number=3)])
    assert len(result) > 6
    for content in result.values():
        check_schema(json.loads(json.dumps(content)))


def test_order_of_exposures_does_not_matter():
    records = [record(number=number) for number in (3, 1, 2)]
    assert json.dumps(made(records)) == json.dumps(made(sorted(records, key=str)))


# ---- grouping ----

VISITS = ["0000101002003004005", "0000101002003004006", "0000101003003004005"]
VISITS += ["0000102002003004005", "0000201002003004005"]


@pytest.mark.parametrize(
    "product_type, groups",
    [
        (
            "visit",
            {
                "r00001_p_v01002003004005": [0],
                "r00001_p_v01002003004006": [1],
                "r00001_p_v01003003004005": [2],
                "r00001_p_v02002003004005": [3],
                "r00002_p_v01002003004005": [4],
            },
        ),
        (
            "pass",
            {
                "r00001_p_p01002": [0, 1],
                "r00001_p_p01003": [2],
                "r00001_p_p02002": [3],
                "r00002_p_p01002": [4],
            },
        ),
        # romancal groups these by program, and names daily products after their first member.
        ("daily", {"r00001_p_d01002003": [0, 1, 2, 3], "r00002_p_d01002003": [4]}),
        ("full", {"r00001_p_full": [0, 1, 2, 3], "r00002_p_full": [4]}),
        ("user", {"r00001_p_user": [0, 1, 2, 3], "r00002_p_user": [4]}),
    ],
)
def test_groups(product_type, groups):
    records = [record(visit=visit) for visit in VISITS]
    result = made(records, product_type=product_type, skycells=[CELLS[2]])
    files = [f"{entry['exposure']}_cal.asdf" for entry in records]
    assert {name: members(content) for name, content in result.items()} == {
        f"{name}_{CELLS[2]}_f158": [files[k] for k in numbers] for name, numbers in groups.items()
    }


def test_filters_make_products_of_their_own():
    records = [record(number=1), record(number=2, element="F062"), record(number=3)]
    result = made(records, skycells=[CELLS[0]], product_type="full", data_release_id="r2")
    stem = f"r00001_r2_full_{CELLS[0]}"
    assert {name: len(members(content)) for name, content in result.items()} == {
        f"{stem}_f062": 1,
        f"{stem}_f158": 2,
    }
    assert {content["data_release_id"] for content in result.values()} == {"r2"}


def test_names_of_southern_cells_keep_their_sign():
    result = made([record(123.4, -45.6)])
    assert targets(result)
    for name, content in result.items():
        assert "m46x" in content["target"]
        assert name == f"r00001_p_v01002003004005_{content['target']}_f158"


# ---- overlap ----


def test_min_overlap_pixels_is_exact():
    entry = record(CORNER[0] + 0.0005, CORNER[1] + 0.0002)
    ra, dec = entry["footprint"]["ra"], entry["footprint"]["dec"]
    names, areas = SKY.overlaps(ra, dec)
    assert names == CELLS
    for limit in areas:
        kept = made([entry], min_overlap_pixels=float(limit) - 0.01)
        assert targets(kept) == [n for n, a in zip(names, areas, strict=True) if a >= limit]
        fewer = made([entry], min_overlap_pixels=float(limit) + 0.01)
        assert targets(fewer) == [n for n, a in zip(names, areas, strict=True) if a > limit]


def test_own_regions_only_leaves_out_cells_that_reach_over():
    entry = record(182.88, 88.29, width=300)  # in the northern cap, near its edge
    everything, own = made([entry]), made([entry], own_regions_only=True)
    assert set(own) < set(everything)
    footprint = entry["footprint"]["ra"], entry["footprint"]["dec"]
    assert targets(own) == SKY.cells_overlapping(*footprint, own_regions_only=True)


@pytest.mark.parametrize("ra, dec", [(0, 84.85), (45, 84.85), (225, -84.83), (0, 90), (7, -90)])
@pytest.mark.parametrize("shift", [-0.01, 0.01])
def test_no_place_is_without_product(ra, dec, shift):
    result = made([record(ra + shift, dec, width=450)])
    assert len(result) >= 4
    assert SKY.primary_cell(ra + shift, dec) in targets(result)


# ---- selection ----


def test_skycells_filters_visits():
    records = [record(number=1), record(number=2, element="F213"), record(visit=VISITS[1])]
    assert targets(made(records, skycells=[CELLS[3], CELLS[1]], visits=[VISIT])) == [
        CELLS[1], CELLS[1], CELLS[3], CELLS[3]
    ]  # fmt: skip
    for content in made(records, filters=["F213"]).values():
        assert members(content) == [f"r{VISIT}_0002_wfi01_f213_cal.asdf"]
    for content in made(records, visits=[VISITS[1]]).values():
        assert members(content) == [f"r{VISITS[1]}_0001_wfi01_f158_cal.asdf"]
    assert made(records, visits=["0000909009009009009"]) == {}
    assert made([]) == {}


def test_a_selection_does_not_touch_the_rest():
    records = [record(number=1), record(number=2, element="F213")]
    everything = made(records)
    for part in ({"skycells": [CELLS[0]]}, {"filters": ["F213"]}, {"region": circle(100)}):
        chosen = made(records, **part)
        assert chosen
        assert chosen == {name: everything[name] for name in chosen}


def test_an_unknown_skycell_is_refused():
    with pytest.raises(SkymapError, match="000p86x99y60"):
        made([record()], skycells=["000p86x99y60"])


def circle(pixels):
    """A circle whose centre lies 700 pixels north of the middle of the rim that the four cells share."""
    ra, dec = SKY.cell(CELLS[3]).grid.to_sky(99.5, 799.5)
    return {"ra": float(ra), "dec": float(dec), "radius": pixels * 0.055 / 3600}


@pytest.mark.parametrize(
    "region, expected",
    [
        (circle(1e-6), CELLS[2:]),
        # the southern cells reach 100 pixels over the middle of the rim
        (circle(599), CELLS[2:]),
        (circle(601), CELLS),
        (circle(60 * 3600 / 0.055), CELLS),
        (circle(180 * 3600 / 0.055), CELLS),
        ({"ra": 200.0, "dec": 86.4, "radius": 1.0}, []),
    ],
)
def test_region(region, expected):
    assert targets(made([record()], region=region)) == expected


@pytest.mark.parametrize("ra, dec", [(0, 90), (0, -90), (359.999, 10), (0, 0)])
def test_region_at_poles_and_ra_zero(ra, dec):
    records = [record(ra, dec, width=450)]
    near = made(records, region={"ra": 0.0, "dec": dec, "radius": 1e-6})
    assert 0 < len(near) <= 4
    assert SKY.primary_cell(0.0, dec) in targets(near)
    assert len(made(records, region={"ra": 180.0, "dec": dec, "radius": 0.01})) == (
        0 if abs(dec) < 90 else len(made(records, region={"ra": 0.0, "dec": dec, "radius": 0.01}))
    )


def test_circles_meet_cells_as_dense_points_say():
    """The distance of a circle's centre from a cell, against the cell's points one by one."""
    rng = np.random.default_rng(5)
    places = [(0.0, 90.0), (0.0, -89.97), (359.99, 30.0), (80.0, 86.3)]
    side = np.linspace(-0.5, 4999.5, 500)
    for ra, dec in places:
        grid = SKY.cell(str(SKY.primary_cell(ra, dec))).grid
        outline = np.concatenate([[side, side * 0 - 0.5], [side, side * 0 + 4999.5]], axis=1)
        outline = np.concatenate([outline, outline[::-1]], axis=1)
        points = unit_vector(*grid.to_sky(*outline))
        for x, y in rng.uniform(-6000, 11000, (40, 2)):
            center = grid.to_sky(x, y)
            inside = (abs(x - 2499.5) <= 2500) & (abs(y - 2499.5) <= 2500)
            chord = np.linalg.norm(points - unit_vector(*center)[:, None], axis=0).min()
            distance = 0 if inside else np.degrees(2 * np.arcsin(chord / 2))
            circle = float(center[0]), float(center[1])
            assert circles.meets_circle(grid, *circle, distance + 2e-5)
            assert inside or not circles.meets_circle(grid, *circle, distance * 0.999 - 2e-5)


# ---- what later steps read ----


def test_grids_survive_the_file(tmp_path):
    for skymap in (SKY, SkyMap(x_east=False)):
        entry = record(40.0, 89.98, width=450)
        for name, content in made([entry], skymap).items():
            path = tmp_path / f"{name}_asn.json"
            path.write_text(json.dumps(content))
            assert association_file.read_grid(path) == skymap.cell(content["target"]).grid


def test_cells_around_start_with_the_products_own():
    entry = record()
    path_footprint = [(entry["footprint"]["ra"], entry["footprint"]["dec"])]
    own = SKY.cell(CELLS[2]).grid
    names = [grid.skycell for grid in association.cells_around(own, path_footprint)]
    assert names == [CELLS[2], CELLS[0], CELLS[1], CELLS[3]]
    regular = Grid(*CORNER, 10, 10, own.pixel_scale, 20, 20)
    found = association.cells_around(regular, path_footprint * 2)
    assert [grid.skycell for grid in found] == CELLS
    elsewhere = SKY.cell("135p90x50y50").grid
    assert association.cells_around(elsewhere, path_footprint)[0] == elsewhere


def test_footprints_are_read_from_records(tmp_path):
    entries = [record(number=1), record(0.0, 90.0, number=2)]
    paths = [tmp_path / f"{entry['exposure']}.json" for entry in entries]
    for path, entry in zip(paths, entries, strict=True):
        path.write_text(json.dumps(entry))
    expected = [(entry["footprint"]["ra"], entry["footprint"]["dec"]) for entry in entries]
    assert association_file.read_footprints(paths) == expected


# ---- not on the skycells ----


def test_products_may_have_regular_grids_instead_of_skycells():
    records = [record(), record(CORNER[0], CORNER[1] - 0.02, number=2)]  # the second on two cells
    regular = replace(REGULAR, on_skycell=False)
    on_cells, result = made(records), made(records, regular=regular)
    assert list(result) == list(on_cells) and len(result) == 4
    for name, content in result.items():
        check_schema(content)
        assert members(content) == members(on_cells[name])
        assert (content["target"], content["skycell_wcs_info"]) == ("none", "none")
        around = records[: len(members(content))]
        assert content["output_grid"] == regular.around(around, name).to_wcs_info()


def test_on_one_grid_only_what_meets_it_is_made():
    records = [
        record(),
        record(CORNER[0], CORNER[1] - 0.02, number=2),
        record(90.0, 10.0, number=3),
    ]
    fixed = replace(REGULAR, on_skycell=False, crval=CORNER, output_shape=(200, 100))
    result = made(records, regular=fixed)
    assert len(result) == 4
    assert {tuple(members(content)) for content in result.values()} == {
        (f"r{VISIT}_0001_wfi01_f158_cal.asdf",)
    }


@pytest.mark.parametrize(("content", "said"), [(None, "is missing"), ("{", "is damaged")])
def test_a_damaged_file_is_told_with_what_to_do(tmp_path, content, said):
    path = tmp_path / "m_asn.json"
    if content:
        path.write_text(content)
    with pytest.raises(AssociationError, match=rf"m_asn\.json: {said}.* -> run again"):
        association_file.read_grid(path)
