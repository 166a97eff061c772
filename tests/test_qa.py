"""Measures of products on data whose answer is known; grades; seams between skycells; tables and page."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
from romosaic import qa, qa_grades, qa_page, qa_report, qa_seams, star_offsets
from romosaic.grid import Grid, unit_vector
from romosaic.noise_correlation import roll_averaged
from romosaic.pixel_noise import APERTURE_SLOPE
from romosaic.skymap import SkyMap
from romosaic.small_image import SmallImage, block_grid

RNG = np.random.default_rng(5)
SKY = SkyMap()


# ---- one product ----


@pytest.mark.parametrize("true", [0.7, 1.0, 1.6])
def test_noise_is_measured_between_sources_on_a_slope(true):
    shape = (400, 500)
    data = RNG.normal(0, 0.01 * true, shape) + np.linspace(0, 0.05, shape[1])
    empty = np.ones(shape, bool)
    data[50:80, 50:80] += 3
    empty[45:85, 45:85] = False
    ratio, scatter = qa.noise_ratio(data, np.full(shape, 0.01), empty)
    # 190000 values: their median deviation is good to 0.3 %; the slope within a box adds 1e-3 to 1.
    assert ratio == pytest.approx(true, rel=0.02)
    assert scatter == pytest.approx(0.01 * true, rel=0.02)
    assert qa.noise_ratio(data, data, np.zeros(shape, bool)) == (None, None)


def test_pairs_of_skies():
    pairs = {"difference": np.array([0.02, -0.05, 0.01]), "residual": np.array([1e-4, 0, -3e-4])}
    found = qa.sky_pairs(pairs)
    assert (found["pairs"], found["largest_before"], found["largest_after"]) == (3, 0.05, 3e-4)
    assert found["rms_after"] == pytest.approx(np.sqrt(10e-8 / 3))
    nothing = qa.sky_pairs({"difference": np.array([]), "residual": np.array([])})
    assert nothing["pairs"] == 0 and nothing["largest_before"] is None


def test_missing_metadata_are_named():
    meta: dict = {}
    for path in qa._WANTED:
        node = meta
        *folders, last = path.split(".")
        for key in folders:
            node = node.setdefault(key, {})
        node[last] = {"table": 1} if last in ("basic", "wcs") else "known"
    meta["resample"]["members"] = ["a", "b"]
    made = {"versions": {"a": "1"}, "parameters": {"a": 1}, "inputs": [1, 2]}
    own = {"provenance": made, "noise": {"pixel_factor": 0.2}}
    assert qa.metadata(meta, own, 2) == (1.0, [])
    meta["origin"], meta["coadd_info"]["time_mean"] = "?", None
    del meta["telescope"]
    known, missing = qa.metadata(meta, own, 3)
    assert missing[:3] == ["coadd_info.time_mean", "origin", "telescope"] and len(missing) == 5
    assert 0.8 < known < 0.9


def test_the_noise_of_a_circle_counts_the_correlation():
    """Independent pixels: their number, less at the edge; drizzled ones: the measured 1 - 0.40 p / r."""
    assert qa.circle_variance([[1.0]], 20.0) == pytest.approx(np.pi * 20**2, rel=0.02)
    rho = roll_averaged(2.0)  # detector pixels of 0.11 arcsec on pixels of 0.055
    for radius in (0.2, 0.4, 0.8):
        r = radius / 0.055
        expected = (1 - APERTURE_SLOPE * 0.11 / radius) * np.pi * r**2
        assert qa.circle_variance(rho.tolist(), r) == pytest.approx(expected, rel=0.02)


class Shifted:
    """A member whose detector lies on the grid, shifted; stars are Gaussians."""

    def __init__(self, grid: Grid, x, y, shift=(0.0, 0.0), bad=()):
        self.grid, self.shift, self.shape = grid, np.array(shift), grid.shape
        rows, columns = np.mgrid[: grid.ny, : grid.nx]
        self.data = RNG.normal(0.2, 0.01, grid.shape)
        for px, py in zip(x + shift[0], y + shift[1], strict=True):
            self.data += 20 * np.exp(-((columns - px) ** 2 + (rows - py) ** 2) / (2 * 0.8**2))
        self.dq = np.zeros(grid.shape, np.uint32)
        for k in bad:
            self.dq[round(y[k]), round(x[k])] = 1
        self.pixmap = SimpleNamespace(sky=grid.to_sky, detector=grid.to_pixel)


def test_a_member_that_is_off_is_found():
    grid = Grid(30.0, -20.0, 100.0, 100.0, 0.11 / 3600, 200, 200)
    x, y = RNG.uniform(20, 180, (2, 25))
    members = [Shifted(grid, x, y), Shifted(grid, x, y, (0.3, -0.1)), Shifted(grid, x, y)]
    ra, dec = grid.to_sky(x, y)
    nothing = [np.empty(0, np.uint32)] * 3
    found = star_offsets.member_offsets(members, nothing, ra, dec, grid)
    assert found["n_stars"] == 25
    # 0.3 and -0.1 pixels of 110 mas; the two that are right are off by half of it, the other way.
    expected = [[-16.5, 5.5], [33, -11], [-16.5, 5.5]]
    np.testing.assert_allclose(found["offsets"], expected, atol=0.5)
    assert found["largest"] == pytest.approx(np.hypot(33, 11), abs=0.7)
    same = star_offsets.member_offsets(members[::2], nothing[:2], ra, dec, grid)
    # Photon noise apart, a centroid in these data is good to 0.01 / (20 * 2 pi * 0.8) of a pixel.
    assert same["largest"] < 0.1 and same["scatter"] < 0.3


def test_bad_pixels_and_outliers_keep_a_star_out():
    grid = Grid(30.0, -20.0, 50.0, 50.0, 0.11 / 3600, 100, 100)
    x, y = np.array([20.2, 50.4, 80.1, 30.0]), np.array([30.3, 60.2, 20.4, 80.0])
    members = [Shifted(grid, x, y, bad=[0]), Shifted(grid, x, y)]
    outlier = np.array([60 * 100 + 51], np.uint32)
    flagged = [np.empty(0, np.uint32), outlier]
    found = star_offsets.member_offsets(members, flagged, *grid.to_sky(x, y), grid)
    assert found["n_stars"] == 2 and found["offsets"] == [None, None] and found["largest"] is None
    alone = star_offsets.member_offsets(members[:1], flagged[:1], *grid.to_sky(x, y), grid)
    assert alone["n_stars"] == 0 and alone["scatter"] is None


def test_stars_are_bright_clean_points():
    columns = {
        "is_extended": np.array([False, True, False, False, False, False]),
        "image_flags": np.array([0, 0, 4, 1, 0, 0]),
        "warning_flags": np.array([0, 0, 0, 0, 1, 0]),
        "aper04_flux": np.array([50.0, 90, 70, 90, 90, 10]),
        "aper04_flux_err": np.ones(6),
    }
    assert star_offsets.choose_stars(columns).tolist() == [2, 0]


# ---- grades ----


@pytest.mark.parametrize(
    "value, limits, expected",
    [
        *[(0.1, [0.2, 0.5], "green"), (0.2, [0.2, 0.5], "green"), (0.3, [0.2, 0.5], "amber")],
        *[(0.6, [0.2, 0.5], "red"), (4, [3, 2], "green"), (3, [3, 2], "green")],
        *[(2.5, [3, 2], "amber"), (1, [3, 2], "red"), (None, [3, 2], None), (1, None, None)],
    ],
)
def test_grades(value, limits, expected):
    assert qa_grades.grade(value, limits) == expected


def product(name, cell, **changes):
    """What `qa.measure` would give."""
    common = {"status": "USED", "sky_level": 0.1, "sky_status": "COMPLETE", "offset": [0.5, 1.0]}
    parts = {"a": 0.001, "b": 0.03}
    members = [{"exposure": e, "flagged_fraction": f, **common} for e, f in parts.items()]
    return {
        "product": name,
        "optical_element": "F158",
        "grid": SKY.cell(cell).grid.to_wcs_info(),
        "members": members,
        "exposures": 4.0,
        "covered_fraction": 0.5,
        "exposure_time": 100.0,
        "sky": {"pairs": 1, "largest_before": 0.02, "largest_after": 0.001},
        "noise": 0.01,
        "noise_ratio": 0.7,
        "depth": 27.0,
        "sources": 10,
        "stars": 4,
        "fwhm": 0.2,
        "astrometry": {"n_stars": 4, "scatter": 2.0, "largest": 3.0},
        "metadata": {"known": 1.0, "missing": []},
        "provenance": {"versions": {"numpy": "1"}, "inputs": []},
    } | changes


LIMITS = {
    "sky_residual": [0.2, 0.5],
    "flagged_fraction": [0.02, 0.05],
    "exposures": [3, 2],
    "noise_ratio": [1.1, 1.3],
    "fwhm_ratio": [1.15, 1.4],
    "member_offset": None,
    "seam_level": [0.3, 1.0],
    "seam_flux": [0.01, 0.03],
    "seam_offset": [5, 20],
    "metadata": [1.0, 0.9],
}


def test_table_grades_products_and_both_sides_of_a_seam():
    products = [
        product("p_000p86x51y59_f158", "000p86x51y59"),
        product("p_000p86x51y60_f158", "000p86x51y60", fwhm=0.3, noise_ratio=None),
        product("p_000p86x51y61_f158", "000p86x51y61"),
    ]
    seam = {"product": products[0]["product"], "neighbour": products[1]["product"]}
    seam |= {"level": -0.008, "blocks": 99, "sources": 9, "flux": 0.02, "offset": 1.0}
    rows = qa_grades.make_table(products, [seam], LIMITS)
    first, second, third = rows
    assert first["grade"] == "red" and first["noise_ratio_grade"] == "red"  # 1 / 0.7
    assert first["flagged_fraction"] == 0.03 and first["flagged_fraction_grade"] == "amber"
    assert first["sky_residual"] == pytest.approx(0.1) and first["sky_residual_grade"] == "green"
    assert first["seam_level"] == second["seam_level"] == pytest.approx(0.8)
    assert (second["seam_level_grade"], second["fwhm_ratio_grade"]) == ("amber", "red")
    assert (third["neighbours"], third["seam_level"], third["seam_level_grade"]) == (0, None, None)
    assert first["member_offset"] == 3 and first["member_offset_grade"] is None
    lines = qa_grades.summary(rows)
    assert lines[0] == "qa: 3 products: 0 green, 0 amber, 3 red"
    assert any("red: fwhm_ratio of 1 products" in line for line in lines)
    text = qa_report.to_tsv(rows).splitlines()
    assert len(text) == 4 and text[0].startswith("product\tgrade\toptical_element")
    assert text[2].split("\t")[text[0].split("\t").index("noise_ratio")] == ""


def test_page_holds_its_data_and_needs_nothing_else():
    products = [product("p_000p86x51y59_f158", "000p86x51y59")]
    rows = qa_grades.make_table(products, [], LIMITS)
    costs = [{"step": "</script><b>", "jobs": 1} | dict.fromkeys(("wall", "cpu"), 1.0)]
    page = qa_page.page(rows, products, [], LIMITS, costs)
    content = re.search(r'type="application/json">(.*?)</script>', page, re.DOTALL)[1]
    data = json.loads(content)
    assert data["rows"][0]["product"] == "p_000p86x51y59_f158"
    assert data["costs"][0]["step"] == "</script><b>"
    assert {c["name"] for c in data["columns"] if c["limits"]} == {
        k for k, v in LIMITS.items() if v
    }
    assert not re.search(r"(src|href)=|https?://|@import", page)


def test_run_times(tmp_path):
    for step, name, line in (
        ("flux", "a", "2.5\t0:00:02\t100.5\t2.0"),
        ("flux", "b", "1.5\t0:00:01\t200\t-"),
        ("qa", "c", ""),
    ):
        path = tmp_path / step / f"{name}.tsv"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"s\th:m:s\tmax_rss\tcpu_time\n{line}\n" if line else "")
    row = {"step": "flux", "jobs": 2, "wall": 4.0, "cpu": 2.0, "longest": 2.5, "memory": 200.0}
    assert qa_report.run_times(tmp_path) == [row]


# ---- seams ----


def wave(grid: Grid, level: float) -> SmallImage:
    """A smooth pattern of the sky plus a level, on the blocks of a skycell."""
    blocks = block_grid(grid, 25)
    x, y = np.meshgrid(np.arange(blocks.nx), np.arange(blocks.ny))
    vectors = unit_vector(*blocks.to_sky(x, y))
    data = (level + 0.05 * np.sin(vectors[0] * 3e4) * np.sin(vectors[1] * 3e4)).astype(np.float32)
    return SmallImage(data, np.ones_like(data), np.ones_like(data), blocks, "F158")


@pytest.mark.parametrize(
    "first, second, accuracy",
    [
        # one region: the same blocks; two regions: bilinear, unbiased on a pattern of both signs
        ("000p86x51y59", "000p86x51y60", 1e-6),
        ("000p86x54y68", "045p86x54y31", 1e-3),
    ],
)
def test_level_differences(first, second, accuracy):
    a, b = wave(SKY.cell(first).grid, 0.30), wave(SKY.cell(second).grid, 0.28)
    found, n = qa_seams.level_difference(a, b)
    assert n > 100 and found == pytest.approx(0.02, abs=accuracy)
    back, _ = qa_seams.level_difference(b, a)
    assert back == pytest.approx(-0.02, abs=accuracy)
    empty = SmallImage(a.data, a.weight, np.zeros_like(a.covered), a.grid, "F158")
    assert qa_seams.level_difference(empty, b) == (None, 0)


def test_cells_that_do_not_touch_have_no_level_difference():
    a, b = (wave(SKY.cell(name).grid, 0.3) for name in ("000p86x51y59", "000p86x51y62"))
    assert qa_seams.level_difference(a, b) == (None, 0)


def test_neighbours_are_of_one_series_and_overlap():
    names = ["000p86x51y59", "000p86x51y60", "000p86x52y60", "000p86x51y62", "000p86x51y59"]
    series = ["s", "s", "s", "s", "other"]
    cells = [qa_seams.Cell(n, s, SKY.cell(n).grid) for n, s in zip(names, series, strict=True)]
    assert sorted(qa_seams.neighbours(cells)) == [(0, 1), (0, 2), (1, 2)]
    across = [qa_seams.Cell(n, "s", SKY.cell(n).grid) for n in ("000p86x54y68", "045p86x54y31")]
    assert list(qa_seams.neighbours(across)) == [(0, 1)]
    assert list(qa_seams.neighbours([])) == []


def catalog(ra, dec, flux, flags=None):
    n = len(ra)
    flags = np.zeros(n, int) if flags is None else np.array(flags)
    columns = {"ra": ra, "dec": dec, "aper04_flux": flux, "aper04_flux_err": np.full(n, 1.0)}
    return columns | {"image_flags": flags, "warning_flags": np.zeros(n, int)}


def test_same_sources():
    ra, dec = RNG.uniform(359.99, 360.01, 30) % 360, RNG.uniform(60, 60.01, 30)
    flux = RNG.uniform(100, 1000, 30)
    other = np.r_[flux[::-1] / 1.03, 500]
    moved = dec[::-1] + 0.02 / 3600
    b = catalog(np.r_[ra[::-1], 10.0], np.r_[moved, 60.0], other)
    found = qa_seams.same_sources(catalog(ra, dec, flux), b)
    assert found["sources"] == 30
    assert found["flux"] == pytest.approx(0.03) and found["flux_scatter"] < 1e-9
    assert found["offset"] == pytest.approx(20, abs=0.01)
    faint = qa_seams.same_sources(catalog(ra, dec, flux / 100), b)
    assert faint["sources"] == 0 and faint["flux"] is None
    cut = qa_seams.same_sources(catalog(ra, dec, flux, [2] * 28 + [0, 0]), b)
    assert cut["sources"] == 2 and cut["flux"] is None
