"""Explanations: the members' values make the coadd's, flags are named, changed files are noticed; the tool."""

import runpy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rerun_survey import product
from romosaic import explain, explain_text
from romosaic.catalog_table import read_columns
from romosaic.coadd_file import open_coadd
from romosaic.dq import FLAGS
from romosaic.errors import ProductError
from romosaic.grid import Grid

TOOL = Path(__file__).parent.parent / "scripts" / "explain.py"


@pytest.fixture(scope="module")
def opened(finished):
    """A coadd of four exposures, its members and outliers."""
    coadd = open_coadd(finished.folder / f"results/resample/{product('A')}_coadd.asdf")
    return coadd, *explain.read_members(coadd)


def flagged_places(opened):
    """Pixels of the coadd on which flagged detector pixels lie: number of the member, flat index, x, y."""
    coadd, members, outliers = opened
    for number, (member, row) in enumerate(zip(members, outliers["members"], strict=True)):
        gridmap = member.pixmap.on_grid(coadd.grid)
        for flat in np.asarray(row["flagged"], int):
            y, x = divmod(int(flat), member.shape[1])
            gx, gy = (round(float(p[0, 0])) for p in gridmap.forward(np.array([x]), np.array([y])))
            if 0 <= gx < coadd.grid.nx and 0 <= gy < coadd.grid.ny:
                yield number, int(flat), gx, gy


def test_members_make_the_pixel(opened):
    coadd = opened[0]
    data, weight, depth = coadd.image("data"), coadd.image("weight"), coadd.depth()
    rng = np.random.default_rng(2)
    covered = np.argwhere(depth > 0)
    deepest = np.argwhere(depth == depth.max())
    edge = np.argwhere((weight > 0) & (weight < 0.5 * np.median(weight[weight > 0])))
    places = [part[rng.integers(len(part))] for part in (covered, covered, deepest, deepest, edge)]
    for y, x in places:
        found = explain.explain(*opened, int(x), int(y))
        assert found.values["data"] == data[y, x]
        assert found.mean == pytest.approx(data[y, x], rel=1e-5)
        assert sum(m.weight for m in found.members) == pytest.approx(weight[y, x], rel=1e-5)
        assert sum(m.in_context for m in found.members) == depth[y, x]
        assert found.agrees and not any(m.changed for m in found.members)
        for m in found.members:
            if m.weight:
                # the value of a member lies among those of the detector pixels under it
                values = [p.value for p in m.pixels]
                assert min(values) - 1e-4 < m.value < max(values) + 1e-4
                assert sum(p.part for p in m.pixels) <= 1


def test_a_pixel_that_nothing_covers(opened):
    coadd = opened[0]
    y, x = np.argwhere(coadd.depth() == 0)[0]
    found = explain.explain(*opened, int(x), int(y))
    assert found.agrees and np.isnan(found.mean) and not any(m.weight for m in found.members)
    text = "\n".join(explain_text.pixel_lines(coadd, found))
    assert "0 of 4 exposures contribute" in text and "weighted mean" not in text


def test_outliers_are_named_with_their_reason(opened):
    coadd, members, outliers = opened
    number, flat, x, y = next(flagged_places(opened))
    found = explain.explain(*opened, x, y)
    row = outliers["members"][number]
    why = int(row["why"][list(row["flagged"]).index(flat)])
    place = divmod(flat, members[number].shape[1])
    (pixel,) = [p for p in found.members[number].pixels if (p.y, p.x) == place]
    assert pixel.why == why
    lines = explain_text.pixel_lines(coadd, found)
    (line,) = [line for line in lines if line.startswith(f"{number:3} {place[1]:5} {place[0]:5} ")]
    assert "no    " in line
    for bit, reason in outliers["reasons"].items():
        yes, _, no = reason.partition("; otherwise ")
        assert (yes in line) == bool(int(bit) & why)
        assert not no or (no in line) != (yes in line)


def test_flags_are_words(opened):
    pixel = explain.DetectorPixel(
        1, 2, 1.0, 0.0, 0.1, FLAGS["HOT"] | FLAGS["DO_NOT_USE"] | 1 << 14, None
    )
    assert explain_text.flag_words(pixel, {}) == "DO_NOT_USE, HOT, bit 14"
    assert explain_text.flag_words(replace(pixel, dq=0), {}) == "-"


def test_changed_files_are_noticed(opened):
    coadd, members, outliers = opened
    y, x = np.argwhere(coadd.depth() == coadd.depth().max())[50]
    own = {
        **coadd.own,
        "members": [{**m, "level": m["level"] + 0.01} for m in coadd.own["members"]],
    }
    other = replace(coadd, tree={**coadd.tree, "romosaic": own})
    found = explain.explain(other, members, outliers, int(x), int(y))
    assert not found.agrees
    assert "NOT as in the coadd" in "\n".join(explain_text.pixel_lines(other, found))
    marks = [{**entry, "fingerprint": "0"} for entry in coadd.own["provenance"]["inputs"]]
    own = {**coadd.own, "provenance": {**coadd.own["provenance"], "inputs": marks}}
    other = replace(coadd, tree={**coadd.tree, "romosaic": own})
    assert all(m.changed for m in explain.explain(other, members, outliers, int(x), int(y)).members)


# ---- the tool ----


def tool(monkeypatch, capsys, *arguments):
    """Run the script; its exit code, standard output and error."""
    monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, arguments)])
    try:
        runpy.run_path(str(TOOL), run_name="__main__")
        code = 0
    except SystemExit as exit_:
        code = exit_.code
    return code, *capsys.readouterr()


def test_a_position_a_pixel_and_a_source_are_one(opened, monkeypatch, capsys):
    coadd = opened[0]
    path = coadd.blocks.path
    catalog = explain.catalog_of(coadd)
    names = ["label", "x_centroid", "y_centroid", "image_flags"]
    label, x, y, flags = (column[3] for column in read_columns(catalog, names).values())
    ra, dec = (float(p) for p in coadd.grid.to_sky(round(float(x)), round(float(y))))
    asked = (
        ["--label", label],
        ["--x", round(float(x)), "--y", round(float(y))],
        ["--ra", ra, "--dec", dec],
    )
    source, pixel, place = (tool(monkeypatch, capsys, path, *words) for words in asked)
    assert pixel == place and pixel[0] == 0 and "as in the coadd" in pixel[1]
    assert source[0] == 0 and source[1].endswith(pixel[1])
    assert f"{x:.7g} pix" in source[1] and "Column coordinate of the source centroid" in source[1]
    assert "1 - (semiminor / semimajor)" in source[1] and "/ semiminor" not in source[1]
    assert source[1].count("the segment touches") >= bin(int(flags) & 3).count("1")


@pytest.mark.parametrize(
    "arguments, said",
    [
        ([], "one place is to be named -> give --ra and --dec"),
        (["--x", 1], "one place is to be named"),
        (["--x", 1, "--y", 2, "--label", 3], "one place is to be named"),
        (["--x", -1, "--y", 2], "no pixel -1, 2 -> its corners are"),
        (["--ra", 200, "--dec", 0], "200.0000000, +0.0000000 degrees lie off it"),
        (["--label", 10**6], "has no source 1000000"),
        (["--x", "one", "--y", 2], "argument --x: invalid int value"),
    ],
)
def test_questions_without_an_answer(opened, monkeypatch, capsys, arguments, said):
    code, out, error = tool(monkeypatch, capsys, opened[0].blocks.path, *arguments)
    assert (code, out) == (1, "")
    assert said in error and error.startswith("romosaic: ") and error.count("\n") == 1


def test_other_products_are_not_taken_for_coadds(opened, monkeypatch, capsys):
    path = opened[0].blocks.path.parents[1] / f"source_catalog/{opened[0].product}_cat.parquet"
    code, out, error = tool(monkeypatch, capsys, path, "--label", 1)
    assert (code, out) == (1, "") and error.count("\n") == 1
    assert f"{path} is not named as coadds are: resample/<product>_coadd.asdf" in error


def test_places_between_pixels_and_nowhere():
    grid = Grid(10.0, 20.0, 4.5, 4.5, 1e-5, 10, 10)
    assert explain.check_pixel(grid, 3.4, 8.6) == (3, 9)
    for x in (float("nan"), -0.6, 9.5):  # the first of a source whose centroid is not known
        with pytest.raises(ProductError, match="has 10 x 10 pixels, and no pixel"):
            explain.check_pixel(grid, x, 2.0)


def test_files_that_are_gone_are_named(run, monkeypatch, capsys):
    path = run.folder / f"results/resample/{product('A')}_coadd.asdf"
    (gone,) = (run.folder / "results/flux").glob("*0002*_flux.asdf")
    gone.unlink()
    monkeypatch.chdir(run.folder)
    (run.folder / "link").symlink_to("results")
    for folder in ("results", "link"):  # as a target, a file has the name that its rule gives it
        given = f"{folder}/resample/{path.name}"
        code, _, error = tool(monkeypatch, capsys, given, "--x", 50, "--y", 50)
        assert code == 1 and "_flux.asdf: is needed and is not there" in error
        command = (
            f"snakemake {folder}/flux/{gone.name} --cores 4 --configfile <its configuration>\n"
        )
        assert error.endswith(f"in the folder of the run: {command}")
    assert run.snakemake(f"results/flux/{gone.name}").returncode == 0 and gone.exists()
    path.unlink()
    code, _, error = tool(monkeypatch, capsys, path, "--x", 50, "--y", 50)
    assert code == 1 and f"{path}: No such file" in error
