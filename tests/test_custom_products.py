"""Custom mosaics of the configuration: which exposures they take, on which grid, and what is refused."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from asn_records import CELLS, REGULAR, VISIT, by_name, check_schema, record
from header_files import CORNER
from romosaic import circles, custom_products
from romosaic.association_file import read_grid
from romosaic.config import load
from romosaic.errors import AssociationError, ConfigError, SkymapError
from romosaic.footprint import closed_polygon
from romosaic.grid import Grid, unit_vector
from romosaic.record_footprints import RecordFootprints
from romosaic.regular_grids import RegularGrids
from romosaic.skymap import PIXEL_SCALE, SkyMap

SKY = SkyMap()
NEAR = {"ra": CORNER[0], "dec": CORNER[1], "radius": 0.001}


def section(products, **parameters):
    return load({"associate": {"products": products, **parameters}})["associate"]


def made(records, *products, names=None, notes=(), regular=REGULAR, **parameters):
    """Custom associations of records, whose warnings are those expected."""
    wanted, records = section(list(products), **parameters), by_name(*records)
    names = dict.fromkeys(names or records)
    custom_products.check_custom(wanted["products"], names, SKY, regular)
    reasons = {name: "is cut\nshort" for name in names if name not in records}
    reasons |= {n: r["excluded"] for n, r in records.items() if "excluded" in r}
    found, said = custom_products.make_custom(names, records, SKY, wanted, regular, reasons)
    assert said == list(notes)
    for content in found.values():
        check_schema(json.loads(json.dumps(content)))
    return found


def members(content):
    return [member["expname"] for member in content["products"][0]["members"]]


def files(*numbers, element="f158"):
    return [f"r{VISIT}_{number:04d}_wfi01_{element}_cal.asdf" for number in numbers]


def grid_of(content, tmp_path):
    path = tmp_path / "x_asn.json"
    path.write_text(json.dumps(content))
    return read_grid(path)


HERE = [record(number=2), record(number=1), record(200.0, -30.0, number=3)]
NAMES = [f"r{VISIT}_{number:04d}_wfi01_f158" for number in (1, 2, 3)]


# ---- members ----


@pytest.mark.parametrize(
    "listed, numbers",
    [
        (NAMES[:1], [1]),
        ([NAMES[1], NAMES[0]], [1, 2]),
        (["*_000[12]_*"], [1, 2]),
        (["*_0001_*", NAMES[0], "*_0003_*_f158_cal.asdf"], [1, 3]),
        (f"raw/{NAMES[2]}_cal.asdf", [3]),
    ],
)
def test_members_are_names_or_globs(listed, numbers):
    target = SKY.primary_cell(200.0, -30.0) if numbers == [3] else CELLS[0]
    outside = [name for number, name in zip((1, 2, 3), NAMES, strict=True) if number in numbers]
    outside = [name for name in outside if (name == NAMES[2]) != (numbers == [3])]
    notes = [f"associate.products: m: not on its grid: {name}" for name in outside]
    result = made(HERE, {"name": "m", "members": listed, "target": str(target)}, notes=notes)
    assert {name: members(content) for name, content in result.items()} == {"m": files(*numbers)}


def test_a_region_takes_what_meets_it(tmp_path):
    result = made(HERE, {"name": "corner", "region": NEAR})
    assert {name: members(c) for name, c in result.items()} == {"corner_f158": files(1, 2)}
    grid = grid_of(result["corner_f158"], tmp_path)
    assert (grid.skycell, grid.pixel_scale) == (None, PIXEL_SCALE)
    width = 100 / 0.055  # both footprints are the same square of 100 arcseconds
    assert width + 4 <= grid.nx <= width + 6 and width + 4 <= grid.ny <= width + 6


def test_a_target_takes_what_overlaps_it():
    shifted = record(CORNER[0], CORNER[1] - 0.02, number=4)  # on the southern cells alone
    names = SKY.cells_overlapping(shifted["footprint"]["ra"], shifted["footprint"]["dec"])
    assert set(names) == set(CELLS[:2])
    result = made([*HERE, shifted], {"name": "south", "target": CELLS[0], "filter": "f158"})
    assert members(result["south"]) == files(1, 2, 4)
    info = SKY.cell(CELLS[0]).grid.to_wcs_info()
    assert (result["south"]["target"], result["south"]["skycell_wcs_info"]) == (CELLS[0], info)
    result = made([*HERE, shifted], {"name": "north", "target": CELLS[3]})
    assert members(result["north_f158"]) == files(1, 2)
    # Both must hold: the circle is met by number 4 too, the cell is not.
    wide = {**NEAR, "radius": 0.1}
    result = made([*HERE, shifted], {"name": "both", "target": CELLS[3], "region": wide})
    assert members(result["both_f158"]) == files(1, 2)


def test_a_grid_is_as_asked_for(tmp_path):
    asked = {"crval": list(CORNER), "pixel_scale": 0.11, "output_shape": [300, 200]}
    content = made(HERE, {"name": "g", "grid": {**asked, "rotation": 30}})["g_f158"]
    assert (content["target"], content["skycell_wcs_info"]) == ("none", "none")
    expected = Grid(*CORNER, 149.5, 99.5, 0.11 / 3600, 300, 200, -30.0, x_east=False)
    assert grid_of(content, tmp_path) == expected
    del asked["pixel_scale"]
    regular = RegularGrids(1e-4, rotation=7.0, crval=(1.0, 2.0), output_shape=(5, 5))
    content = made(HERE, {"name": "g", "grid": asked}, regular=regular)["g_f158"]
    expected = Grid(*CORNER, 149.5, 99.5, 1e-4, 300, 200, -7.0, x_east=False)
    assert grid_of(content, tmp_path) == expected


def test_filters_make_products_of_their_own():
    blue = record(number=5, element="F062")
    result = made([*HERE, blue], {"name": "m", "region": NEAR})
    assert {name: members(c) for name, c in result.items()} == {
        "m_f062": files(5, element="f062"),
        "m_f158": files(1, 2),
    }
    result = made([*HERE, blue], {"name": "m", "region": NEAR, "filter": "F062"})
    assert {name: members(c) for name, c in result.items()} == {"m": files(5, element="f062")}
    result = made([*HERE, blue], {"name": "m", "members": ["*"], "filter": "F062"})
    assert list(result) == ["m"]


def test_the_name_does_not_depend_on_what_else_there_is():
    blue = record(number=5, element="F062")
    alone = made(HERE, {"name": "m", "region": NEAR})
    assert alone.items() <= made([*HERE, blue], {"name": "m", "region": NEAR}).items()


def test_the_order_of_exposures_does_not_matter():
    product = {"name": "m", "region": NEAR}
    assert json.dumps(made(HERE, product)) == json.dumps(made(HERE[::-1], product))


def test_the_selection_leaves_them_alone():
    product = {"name": "m", "region": NEAR}
    chosen = {"skycells": ["135p90x50y50"], "filters": ["F062"], "visits": ["0" * 19]}
    assert made(HERE, product, **chosen) == made(HERE, product)


def test_exposures_that_cannot_be_used_are_left_out_with_a_warning():
    gone = NAMES[0].replace("_0001_", "_0009_")
    note = "associate.products: m: 1 of its members cannot be used"
    product = {"name": "m", "members": [NAMES[0], gone]}
    result = made(HERE, product, names=[*NAMES, gone], notes=[note])
    assert members(result["m"]) == files(1)
    rows = [{"expname": f"{gone}_cal.asdf", "reason": "is cut short"}]
    assert result["m"]["products"][0]["excluded"] == rows


@pytest.mark.parametrize("chosen", [{"region": NEAR}, {"target": CELLS[0]}, {"members": NAMES[:2]}])
def test_products_list_the_bad_exposures_that_they_would_have(chosen):
    plain = made(HERE, {"name": "m", **chosen, "filter": "F158"})["m"]["products"][0]
    bad = record(number=9, element="F158") | {"excluded": "is corrupt"}
    others = [
        record(number=8, element="F062") | {"excluded": "is corrupt"},
        record(-30.0, 40.0, number=7) | {"excluded": "is corrupt"},
    ]
    product, listed, notes = {"name": "m", **chosen, "filter": "F158"}, [bad], []
    if "members" in chosen:
        product["members"] = [*NAMES[:2], *(entry["exposure"] for entry in [bad, *others])]
        listed, notes = [bad, others[1]], ["associate.products: m: 3 of its members cannot be used"]
    (result,) = made([*HERE, bad, *others], product, notes=notes)["m"]["products"]
    rows = sorted(entry["exposure"] for entry in listed)
    assert result.pop("excluded") == [
        {"expname": f"{name}_cal.asdf", "reason": "is corrupt"} for name in rows
    ]
    assert result == plain


def test_a_product_without_a_usable_member_is_not_made():
    bad = record(number=9) | {"excluded": "is corrupt"}
    far = record(200.0, -30.0)
    product = {"name": "m", "region": NEAR}
    note = "associate.products: m: is not made: none of its members can be used"
    assert made([bad, far], product, notes=[note]) == {}


def test_a_grid_without_a_place_is_made_around_the_members(tmp_path):
    product = {"name": "m", "region": NEAR, "grid": {"pixel_scale_ratio": 0.5, "rotation": 20}}
    grid = grid_of(made(HERE, product)["m_f158"], tmp_path)
    # The records' pixels are of 1 arcsecond. What the product says wins over section `resample`.
    assert (grid.pixel_scale, grid.orientation) == (0.5 / 3600, -20.0)
    fixed = RegularGrids(1e-4, crval=(1.0, 2.0), output_shape=(5, 5), on_skycell=False)
    assert grid_of(made(HERE, product, regular=fixed)["m_f158"], tmp_path) == grid


def test_without_skycells_a_target_only_chooses_the_members(tmp_path):
    product = {"name": "m", "target": CELLS[0]}
    on_cell = made(HERE, product)["m_f158"]
    content = made(HERE, product, regular=replace(REGULAR, on_skycell=False))["m_f158"]
    assert members(content) == members(on_cell)
    assert (content["target"], content["skycell_wcs_info"]) == ("none", "none")
    assert grid_of(content, tmp_path) == REGULAR.around(HERE[:2], "m")


def test_members_beside_the_grid_of_section_resample_are_reported():
    fixed = replace(REGULAR, crval=(200.0, -30.0), output_shape=(100, 100))
    notes = [f"associate.products: m: not on its grid: {', '.join(NAMES[:2])}"]
    result = made(HERE, {"name": "m", "members": ["*"]}, regular=fixed, notes=notes)
    assert members(result["m"]) == files(1, 2, 3)


def test_pixels_relative_to_members_cannot_choose_them():
    product = {"name": "m", "grid": {"crval": list(CORNER), "output_shape": [300, 200]}}
    with pytest.raises(AssociationError, match="m: its grid chooses its members, and its pixels"):
        made(HERE, product, regular=RegularGrids(None, pixel_scale_ratio=0.5))


# ---- overlap ----


@pytest.mark.parametrize("x_east", [True, False])
def test_overlap_with_a_skycell_is_that_of_the_sky_map(x_east):
    skymap = SkyMap(x_east=x_east)
    entries = [
        record(CORNER[0] + 0.0005, CORNER[1] + 0.0002, roll=20.0),
        record(3.0, 89.99, number=2),
        record(200.0, -30.0, number=3),
    ]
    footprints = RecordFootprints(entries)
    for cell in (*CELLS, "135p90x50y50", "225m90x50y50"):
        areas = footprints.on_grid(skymap.cell(cell).grid)
        for number, entry in enumerate(entries):
            area = skymap.overlap_pixels(cell, entry["footprint"]["ra"], entry["footprint"]["dec"])
            assert areas.get(number, 0.0) == pytest.approx(area, rel=1e-9, abs=1e-4)


def test_overlap_with_an_oblong_grid():
    entry = record(10.0, 20.0, width=100.0)
    grid = Grid(10.0, 20.0, 249.5, 99.5, 1 / 3600, 500, 200)  # 500 by 200 arcseconds
    assert RecordFootprints([entry]).on_grid(grid)[0] == pytest.approx(1e4, rel=1e-6)
    narrow = Grid(10.0, 20.0, 249.5, 9.5, 1 / 3600, 500, 20)
    assert RecordFootprints([entry]).on_grid(narrow)[0] == pytest.approx(2e3, rel=1e-6)


def test_min_overlap_counts_skycell_pixels():
    product = {
        "name": "m",
        "grid": {"crval": list(CORNER), "pixel_scale": 1.0, "output_shape": [4, 4]},
    }
    area = (4 * 1.0 / 0.055) ** 2
    assert made(HERE, product, min_overlap_pixels=area * 0.999)
    with pytest.raises(AssociationError, match="no usable exposure"):
        made(HERE, product, min_overlap_pixels=area * 1.001)


@pytest.mark.parametrize("ra, dec", [(0.0, 90.0), (0.0, -90.0), (0.002, 40.0), (123.0, -66.0)])
def test_circles_meet_footprints_as_dense_points_say(ra, dec):
    entry = record(ra, dec, width=360.0, roll=33.0)
    footprint = entry["footprint"]["ra"], entry["footprint"]["dec"]
    polygon = closed_polygon(*footprint)[0]
    grid = Grid(ra, dec, 49.5, 49.5, 1 / 1000, 100, 100, 33.0)  # the same square
    part = np.linspace(0, 1, 800)
    outline = np.concatenate(
        [polygon[:, k, None] * (1 - part) + polygon[:, k + 1, None] * part for k in range(4)], 1
    )
    outline /= np.linalg.norm(outline, axis=0)
    rng = np.random.default_rng(3)
    for x, y in rng.uniform(-100, 200, (60, 2)):
        place = tuple(float(value) for value in grid.to_sky(x, y))
        inside = abs(x - 49.5) <= 50 and abs(y - 49.5) <= 50
        chord = np.linalg.norm(outline - unit_vector(*place)[:, None], axis=0).min()
        distance = 0 if inside else np.degrees(2 * np.arcsin(chord / 2))
        assert circles.footprint_meets_circle(polygon, *place, distance + 1e-6)
        assert inside or not circles.footprint_meets_circle(polygon, *place, distance * 0.99 - 1e-6)
    assert not circles.footprint_meets_circle(polygon, (ra + 180) % 360, -dec, 1.0)
    assert circles.footprint_meets_circle(polygon, (ra + 180) % 360, -dec, 180.0)


# ---- refusals ----


@pytest.mark.parametrize(
    "product, reason",
    [
        ({"members": ["r9*", NAMES[0]]}, "has members that match no exposure: r9* -> "),
        ({"members": [NAMES[0], f"{NAMES[0]}_cal.asdf"]}, f"has members twice: {NAMES[0]} -> "),
        ({"members": ["*"]}, "mixes filters: F062 F158 -> give `filter`"),
        ({"members": ["*"], "filter": "F213"}, "no usable exposure of filter F213 is chosen -> "),
        ({"region": {**NEAR, "dec": 0.0}}, "no usable exposure is chosen -> "),
        ({"members": ["*_f158"]}, "its members lie all over the sky -> "),
    ],
)
def test_what_is_refused(product, reason):
    with pytest.raises(AssociationError) as caught:
        made([*HERE, record(number=5, element="F062")], {"name": "m", **product})
    assert str(caught.value).startswith(f"associate.products: m: {reason}")
    assert "\n" not in str(caught.value)


def test_a_target_that_does_not_exist_is_refused():
    with pytest.raises(SkymapError, match="000p86x99y60"):
        made(HERE, {"name": "m", "target": "000p86x99y60"})


def test_names_that_filters_make_equal_are_refused():
    with pytest.raises(AssociationError, match="a_f158: makes a_f158 a second time -> rename"):
        made(
            HERE,
            {"name": "a", "region": NEAR},
            {"name": "a_f158", "region": NEAR, "filter": "F158"},
        )


@pytest.mark.parametrize(
    "products, line",
    [
        ([{"name": "m"}], "products: m: give members, region, target or grid"),
        (
            [{"name": "m", "members": ["a"], "region": NEAR}],
            "products: m: give members or region, not both",
        ),
        (
            [{"name": "m", "target": CELLS[0], "grid": {"crval": [1, 1], "output_shape": [5, 5]}}],
            "products: m: give target or grid, not both",
        ),
        ([{"name": "m", "target": CELLS[0]}] * 2, "products: two products are named m"),
        ([{"target": CELLS[0]}], r"products\[0].name: missing; allowed: up to 140 letters, .*"),
        (
            [{"name": "../m", "target": CELLS[0]}],
            r'products\[0].name: "../m" is not allowed; allowed: up to 140 letters.*',
        ),
        (
            [{"name": "m", "grid": {"crval": [1, 91], "output_shape": [5, 5]}}],
            r"products\[0].grid.crval: \[1, 91\] is not allowed; allowed: \[ra, dec\] with .*",
        ),
        (
            [{"name": "m", "grid": {"crval": [1, 1], "pixel_scale": 0.1}}],
            "products: m: give members or region, or a grid that needs none: .*",
        ),
        (
            [{"name": "m", "region": NEAR, "grid": {"output_wcs": "w.asdf", "rotation": 3}}],
            "products: m: grid.rotation: 3.0 is not allowed with output_wcs, which sets it",
        ),
        (
            [{"name": "m", "target": "x"}],
            r'products\[0].target: "x" is not allowed; allowed: sky.*',
        ),
        (
            [{"name": "m", "member": ["a"]}],
            r"products\[0].member: unknown key; did you mean .*products\[0].members.*",
        ),
    ],
)
def test_the_configuration_refuses_in_one_line(products, line):
    with pytest.raises(ConfigError) as caught:
        section(products)
    assert re.fullmatch(rf"config/config.yaml: associate.{line}", str(caught.value))


def test_custom_products_alone_need_products():
    with pytest.raises(ConfigError, match="product_type is custom: list the products to make"):
        section([], product_type="custom")
