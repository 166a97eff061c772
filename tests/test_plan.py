"""Plan: coverage against known geometry, costs that add up, a table that fits, pictures of any sky."""

import json

import numpy as np
import pandas as pd
import pytest
from asn_records import CELLS, REGULAR, VISIT, record
from matplotlib.image import imread
from romosaic import plan, plan_costs, plan_picture, plan_text
from romosaic.association import make_associations
from romosaic.association_file import output_grid
from romosaic.config import load
from romosaic.footprint import square_overlaps
from romosaic.grid import Grid, sky_position, unit_vector
from romosaic.job_memory import settings
from romosaic.names import exposure_name
from romosaic.sky_plane import Plane
from romosaic.skymap import SkyMap

SKY = SkyMap()
RNG = np.random.default_rng(5)
OWN, EXPOSURE = (240, 180, 41), (93, 176, 245)


def exposure(ra, dec, number=1, element="F158", width=450.0, roll=0.0, visit=VISIT):
    """Record of a full-size exposure."""
    return record(ra, dec, number, visit, element, width, roll) | {"shape": [4088, 4088]}


MEMORY = settings(load({}))


def planned(*records):
    """Products and records by name, as `associate` would make them."""
    exposures = {entry["exposure"]: entry for entry in records}
    products = []
    for name, content in make_associations(
        list(records), SKY, load({})["associate"], REGULAR
    ).items():
        members = [exposure_name(m["expname"]) for m in content["products"][0]["members"]]
        grid = output_grid(content)
        element = exposures[members[0]]["optical_element"]
        products.append(plan.Planned(name, grid, element, members))
    return products, exposures


def table_of(*records, nearly_empty_fraction=0.01):
    products, exposures = planned(*records)
    return plan.make_table(products, exposures, nearly_empty_fraction, MEMORY)


# ---- areas by depth ----


def box(x0, x1, y0, y1):
    return np.array([x0, x1, x1, x0], float), np.array([y0, y0, y1, y1], float)


def areas_of(polygons, nx=1000, ny=800):
    return plan.depth_areas([p[0] for p in polygons], [p[1] for p in polygons], nx, ny)


def test_boxes_that_overlap():
    boxes = [box(-50, 500, -50, 400), box(300, 2000, 200, 900), box(400, 450, 250, 350)]
    areas = areas_of(boxes)
    # Grid from -0.5 to 999.5 and to 799.5.
    first, second, both = 500.5 * 400.5, 699.5 * 599.5, 200 * 200
    expected = [800_000 - first - second + both, first + second - 2 * both, both - 5000, 5000]
    assert areas.sum() == pytest.approx(800_000)
    # Edges along the lines are the worst case: off by half a distance of lines each.
    np.testing.assert_allclose(areas, expected, atol=0.004 * 800_000)


def test_areas_of_boxes_between_the_lines_are_exact():
    """A line stands for four rows of 1024: edges of boxes lie on theirs."""
    boxes = [box(-50, 500, -50, 399.5), box(300, 2000, 199.5, 899.5), box(400, 450, 259.5, 359.5)]
    first, second, both = 500.5 * 400, 699.5 * 700, 200 * 200
    expected = [1_024_000 - first - second + both, first + second - 2 * both, both - 5000, 5000]
    np.testing.assert_allclose(areas_of(boxes, 1000, 1024), expected, rtol=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_areas_agree_with_exact_overlaps(seed):
    """The mean depth is the sum of the exact overlaps, for polygons of any turn and sense, convex or not."""
    rng = np.random.default_rng(seed)
    polygons = []
    for number in range(12):
        angle = np.sort(rng.uniform(0, 2 * np.pi, 9))[:: -1 if number % 2 else 1]
        radius = rng.uniform(200, 700, 9)
        x, y = rng.uniform(-300, 1300, 2)
        polygons.append((x + radius * np.cos(angle), y + radius * np.sin(angle)))
    areas = areas_of(polygons, 1000, 1000)
    closed = [np.stack([np.append(axis, axis[0]) for axis in polygon]) for polygon in polygons]
    stacked = np.stack(closed)
    middle = np.full(len(polygons), 499.5)
    exact = square_overlaps(
        stacked[:, 0], stacked[:, 1], np.arange(len(polygons)), middle, middle, 1000
    )
    assert np.dot(np.arange(areas.size), areas) == pytest.approx(exact.sum(), abs=1e-3 * 1e6)
    assert areas.sum() == pytest.approx(1e6)


def test_areas_without_polygons_and_with_useless_ones():
    np.testing.assert_allclose(areas_of([]), [800_000])
    behind = (np.array([0, np.nan, 5]), np.array([0, 5, 5.0]))
    np.testing.assert_allclose(areas_of([behind, box(2000, 3000, 0, 10)]), [800_000])
    np.testing.assert_allclose(areas_of([box(-9, 2000, -9, 2000)] * 3), [0, 0, 0, 800_000])


def test_many_polygons_are_taken_in_parts(monkeypatch):
    polygons = [box(*np.sort(RNG.uniform(0, 900, 2)), 100, 500) for _ in range(50)]
    whole = areas_of(polygons)
    monkeypatch.setattr(plan, "_CHUNK", 256 * 7)
    np.testing.assert_allclose(areas_of(polygons), whole, atol=1e-6)


# ---- the table ----

MIDDLES = {
    "cell": SKY.cell("000p86x52y60").grid.center,
    "north pole": SKY.cell("135p90x50y50").grid.center,
    "south pole": SKY.cell("225m90x50y50").grid.center,
    "RA 0": SKY.cell(str(SKY.primary_cell(0.0, -12.3))).grid.center,
    "rim of a region": SKY.cell("270p65x70y68").grid.center,
}


@pytest.mark.parametrize("middle", MIDDLES.values(), ids=MIDDLES.keys())
@pytest.mark.parametrize("roll", [0.0, 33.0])
def test_coverage_is_known_geometry_everywhere(middle, roll):
    """A square of 100 arcsec, and one of 50 arcsec in it."""
    table = table_of(*(exposure(*middle, n + 1, width=100 / (n + 1), roll=roll) for n in range(2)))
    row = table.loc[table["covered_arcmin2"].idxmax()]
    # The cell has 21 arcmin2, and the promise is 0.4 % of them.
    assert row["covered_arcmin2"] == pytest.approx(1e4 / 3600, abs=0.08)
    cell = SKY.cell(row["skycell"]).grid.middle_pixel_area * (180 * 60 / np.pi) ** 2 * 5000**2
    assert row["covered_fraction"] * cell == pytest.approx(row["covered_arcmin2"], rel=1e-4)
    areas = plan_text.depth_totals(table[table["product"] == row["product"]])["F158"]
    assert areas[1] == pytest.approx(0.75e4 / 3600, abs=0.08)
    assert areas[2] == pytest.approx(0.25e4 / 3600, abs=0.04)
    assert (row["members"], row["max_depth"]) == (2, 2)
    assert row["mean_depth"] == pytest.approx(1.25, rel=0.01)


def test_cells_share_an_exposure_out():
    """Four cells at a corner: what each covers, rims of 100 pixels counted twice."""
    table = table_of(exposure(*SKY.cell(CELLS[0]).grid.to_sky(4899.5, 4899.5), width=200.0))
    assert sorted(table["skycell"]) == CELLS
    side, rim = 200 / 0.055, 100
    expected = (side / 2 + rim) ** 2 * 0.055**2 / 3600
    np.testing.assert_allclose(table["covered_arcmin2"], expected, rtol=0.015)


def test_filters_make_products_of_their_own_and_totals_add_up():
    ra, dec = MIDDLES["RA 0"]
    records = [exposure(ra, dec + 0.02 * n, n, "F158" if n % 2 else "F129") for n in range(1, 7)]
    table = table_of(*records)
    assert set(table["optical_element"]) == {"F158", "F129"}
    assert not table["product"].duplicated().any()
    costs = plan_costs.exposure_costs(4088**2)
    for key in ("disk_mb", "cpu_s"):
        assert table[f"flux_{key}"].sum() == pytest.approx(6 * costs[key], rel=1e-3)
    totals = plan_text.depth_totals(table)
    for element, areas in totals.items():
        own = table[table["optical_element"] == element]
        assert sum(areas.values()) == pytest.approx(own["covered_arcmin2"].sum(), rel=1e-3)
        exposed = (own["mean_depth"] * own["covered_arcmin2"]).sum()
        assert sum(n * area for n, area in areas.items()) == pytest.approx(exposed, rel=2e-3)


def test_nearly_empty_products():
    # A square of 4640 pixels in a cell of 5000, of which the neighbours share 200: it reaches 20 into these.
    ra, dec = MIDDLES["RA 0"]
    table = table_of(exposure(ra, dec, width=4640 * 0.055))
    small = table[table["covered_fraction"] < 0.01]
    assert len(table) > len(small) > 0
    assert table["nearly_empty"].tolist() == (table["covered_fraction"] < 0.01).tolist()
    assert "nearly empty" in plan_text.report(table, {}, [], ".")
    assert not table_of(exposure(ra, dec), nearly_empty_fraction=0)["nearly_empty"].any()


def test_regular_grid(tmp_path):
    entry = exposure(0.001, 89.999, width=300.0)
    grid = REGULAR.around([entry], "field")
    product = plan.Planned("field", grid, "F158", [entry["exposure"]])
    table = plan.make_table([product], {entry["exposure"]: entry}, 0.01, MEMORY)
    assert table["skycell"].tolist() == ["none"]
    assert table["covered_arcmin2"][0] == pytest.approx(25, rel=0.005)
    assert "1 regular grid from" in plan_text.report(table, {}, [], tmp_path)


def test_read_follows_the_files_of_associate(tmp_path):
    records = [exposure(*MIDDLES["cell"], n) for n in (1, 2)]
    products, exposures = planned(*records)
    for entry in records:
        (tmp_path / f"{entry['exposure']}.json").write_text(json.dumps(entry))
    paths = []
    for name, content in make_associations(records, SKY, load({})["associate"], REGULAR).items():
        paths.append(tmp_path / f"{name}_asn.json")
        paths[-1].write_text(json.dumps(content))
    found = plan.read(paths, sorted(tmp_path.glob("*_f158.json")))
    assert found[1] == exposures
    assert [(p.name, p.members, p.grid) for p in found[0]] == [
        (p.name, p.members, p.grid) for p in products
    ]
    bad = tmp_path / "quarantine.tsv"
    bad.write_text("exposure\treason\nraw/a_cal.asdf\tis cut short\n")
    assert plan.read_quarantine(bad) == [("raw/a_cal.asdf", "is cut short")]


# ---- costs ----


def test_costs_are_those_that_were_measured():
    """The demo's products, six members deep: 27 CPU seconds, 369 MB on disk."""
    costs = plan_costs.product_costs(plan_costs.product_work(6, 26.4e6, 18.3e6, 25e6), MEMORY)
    assert costs["cpu_s"] == pytest.approx(27, rel=0.1)
    assert costs["disk_mb"] == pytest.approx(369, rel=0.03)
    assert costs["memory_mb"] == 3000
    assert plan_costs.exposure_costs(4088**2)["disk_mb"] == pytest.approx(202.1, rel=0.01)


def test_costs_grow_with_the_work():
    few = plan_costs.step_costs(plan_costs.product_work(2, 8e6, 18e6, 25e6))
    many = plan_costs.step_costs(plan_costs.product_work(200, 800e6, 18e6, 25e6))
    assert many["resample"]["cpu_s"] > 10 * few["resample"]["cpu_s"]


# ---- the text ----


def many_products(number):
    ra, dec = np.linspace(10, 10 + number / 8, number), RNG.uniform(-5, -4.9, number)
    return [exposure(a, d, n + 1) for n, (a, d) in enumerate(zip(ra, dec, strict=True))]


@pytest.mark.parametrize("number", [1, 40])
def test_report_fits_and_names_what_matters(number, tmp_path):
    records = many_products(number)
    table = table_of(*records)
    bad = [(f"raw/bad{n}_cal.asdf", "is cut short") for n in range(12)]
    exposures = {entry["exposure"]: entry for entry in records}
    lines = plan_text.report(table, exposures, bad, tmp_path).splitlines()
    where = lines[-1]  # a path as long as it is
    assert max(len(line) for line in lines if line != where) <= 100
    assert len(lines) < 90
    text = "\n".join(lines)
    assert f"{len(table)} products on {table['skycell'].nunique()} skycells" in text
    assert "quarantined: 12 exposures" in text and "raw/bad0_cal.asdf: is cut short" in text
    for column in ("cpu_s", "max_depth"):
        assert table.loc[table[column].idxmax(), "product"] in text
    assert table.loc[table["covered_fraction"].idxmin(), "product"] in text
    if number == 1:
        assert all(name in text for name in table["product"])
    disk = table["disk_mb"].sum() + table["flux_disk_mb"].sum()
    assert f"run{plan_text.size(disk):>31}" in text


def test_report_shows_long_names_and_warns_of_a_full_disk(tmp_path, monkeypatch):
    table = table_of(exposure(*MIDDLES["cell"]))
    table.loc[0, "product"] = "x" * 90 + "_the_end"
    monkeypatch.setattr(plan_text.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 5e6}))
    text = plan_text.report(table, {}, [], tmp_path)
    assert "..." in text and "_the_end" in text
    assert "warning: the disk has less room" in text


@pytest.mark.parametrize(
    "value, expected", [(0, "0 MB"), (999, "999 MB"), (1600, "1.6 GB"), (2.5e6, "2.5 TB")]
)
def test_sizes(value, expected):
    assert plan_text.size(value) == expected


@pytest.mark.parametrize(
    "value, expected",
    [(5, "5 s"), (119, "119 s"), (600, "10 min"), (7200, "2 h"), (2e5, "2.31 days")],
)
def test_durations(value, expected):
    assert plan_text.duration(value) == expected


@pytest.mark.parametrize("deepest", [1, 8, 9, 17, 300])
def test_depth_bins_leave_nothing_out(deepest):
    bins = plan_text.depth_bins(deepest)
    assert [n for a, b in bins for n in range(a, b + 1)] == list(range(1, deepest + 1))
    assert len(bins) < 16


# ---- the picture ----


@pytest.mark.parametrize("ra, dec", [(0.0, 90.0), (123.0, -90.0), (0.01, 0.0), (270.0, 66.0)])
@pytest.mark.parametrize("x_east", [True, False])
def test_plane_is_equal_in_area_and_turns_back(ra, dec, x_east):
    plane = Plane(ra, dec, x_east)
    x, y = RNG.uniform(-40, 40, (2, 50))
    np.testing.assert_allclose(plane.to_plane(*plane.to_sky(x, y)), [x, y], atol=1e-9)
    # Solid angle of a small triangle, against its area in the plane.
    a, b, c = (
        unit_vector(*plane.to_sky(x + dx, y + dy)) for dx, dy in ((0, 0), (0.1, 0), (0, 0.1))
    )
    solid = np.linalg.norm(np.cross((b - a).T, (c - a).T), axis=1) / 2
    np.testing.assert_allclose(np.degrees(np.degrees(solid)), 0.005, rtol=0.01)
    if abs(dec) < 90:
        east = plane.to_plane(ra + 0.01, dec)[0]
        assert np.sign(east) == (1 if x_east else -1)


def test_fields_are_what_lies_together():
    ra = np.array([359.6, 0.3, 1.0, 180.0, 0.0, 90.0, 180.0])
    dec = np.array([0.0, 0.1, 0.2, 0.0, 89.9, 89.9, 89.9])
    number = plan_picture.fields(unit_vector(ra, dec))
    assert len(set(number[:3])) == 1 and len(set(number[4:])) == 1
    assert sorted({number[0], number[3], number[4]}) == [0, 1, 2]
    assert number[3] == 2  # the smallest is the last


def drawn(path, *records):
    products, exposures = planned(*records)
    table = plan.make_table(products, exposures, 0.01, MEMORY)
    plan_picture.draw(path, *plan_picture.contents(products, table, exposures), "a plan")
    return imread(path)[..., :3]


def colored(picture, rgb, apart=0.06):
    return int((np.abs(picture - np.array(rgb) / 255).max(axis=2) < apart).sum())


@pytest.mark.parametrize("middle", MIDDLES.values(), ids=MIDDLES.keys())
def test_one_field_has_a_panel_per_filter(tmp_path, middle):
    one = drawn(tmp_path / "1.png", exposure(*middle))
    two = drawn(tmp_path / "2.png", exposure(*middle), exposure(*middle, 2, "F129"))
    assert two.shape[1] > 1.5 * one.shape[1]
    assert colored(two, EXPOSURE) > 1.8 * colored(one, EXPOSURE) > 500


def test_nearly_empty_cells_are_outlined(tmp_path):
    ra, dec = MIDDLES["RA 0"]
    assert colored(drawn(tmp_path / "a.png", exposure(ra, dec, width=100.0)), OWN) == 0
    assert colored(drawn(tmp_path / "b.png", exposure(ra, dec, width=4640 * 0.055)), OWN) > 200


def test_far_fields_get_an_all_sky_map_and_the_picture_stays_of_a_size(tmp_path):
    vectors = RNG.normal(size=(3, 14))
    ra, dec = sky_position(vectors)
    records = [exposure(a, d, n + 1) for n, (a, d) in enumerate(zip(ra, dec, strict=True))]
    picture = drawn(tmp_path / "far.png", *records)
    assert colored(picture, OWN) > 300
    assert max(picture.shape) < 4000


def test_numbers_of_fields_next_to_each_other_on_the_sky_map_stand_in_a_row():
    axes = plan_picture.new_figure(7, 7, 1050).add_subplot(projection="mollweide")
    plan_picture._draw_sky(axes, [(0, 89.5), (200, 20), (10, 89.6), (150, 20)], True)
    assert [text.get_text() for text in axes.texts] == ["1, 3", "2", "4"]


def test_a_grid_that_is_mirrored_mirrors_the_picture():
    tile = plan_picture.Tile(
        Grid(10, 20, 50, 50, 0.001, 101, 101, x_east=False), "F158", 1.0, False
    )
    panels, _ = plan_picture._panels([tile], [])
    assert not plan_picture._frames(panels)[0][0].x_east


# ---- the workflow ----


def test_plan_runs_on_headers_and_leaves_the_run_as_it_was(snakemake, survey, tmp_path):
    config = {"exposures": [str(survey.folder)], "associate": {"skycells": CELLS[:2]}}
    done = snakemake(tmp_path, "plan", config=config)
    assert done.returncode == 0, done.output[-3000:]
    results = tmp_path / "results"
    assert {path.name for path in results.iterdir()} == {"associate", "benchmarks", "logs", "plan"}
    text = done.output
    assert "plan: 2 products on 2 skycells from 4 exposures, F158" in text
    assert text.count(f"{CELLS[0]}_f158") >= 1
    table = pd.read_csv(results / "plan/plan.tsv", sep="\t")
    assert table["skycell"].tolist() == CELLS[:2]
    assert table["nearly_empty"].tolist() == [True, True]  # 28 arcsec in 275
    assert (results / "plan/plan.png").stat().st_size > 10_000
    again = snakemake(tmp_path, "-n", "plan", config=config)
    assert "Nothing to be done" in again.output
    whole = snakemake(tmp_path, "-n", "--quiet", "rules", config=config)
    assert whole.returncode == 0, whole.output
    jobs = dict(line.split() for line in whole.output.splitlines() if len(line.split()) == 2)
    assert jobs["flux"] == "4" and jobs["resample"] == "2"
    assert "associate" not in jobs and "plan" not in jobs
