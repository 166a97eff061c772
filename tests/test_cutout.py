"""Cut-outs: seamless across skycells, faithful to the pixel, honest about what is not there; the tool."""

import runpy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from romosaic import cutout
from romosaic.coadd_file import open_coadd
from romosaic.errors import GridError, ProductError
from romosaic.grid import Grid
from romosaic.skymap import SkyMap
from small_coadds import add_product, write_coadd

TOOL = Path(__file__).parent.parent / "scripts" / "cutout.py"
SKY = SkyMap()
#: Four grids of 120 pixels every 100, as skycells of one projection region lie.
BASE = Grid(30.0, 10.0, 60.0, 40.0, 0.055 / 3600, 120, 120)
CELLS = {
    (i, j): replace(BASE, x0=BASE.x0 - 100 * i, y0=BASE.y0 - 100 * j, skycell=f"030p10x5{j}y5{i}")
    for i in (0, 1)
    for j in (0, 1)
}


def truth(grid: Grid) -> np.ndarray:
    """A value of its own for each pixel of the plane, on whatever grid it is."""
    x, y = np.meshgrid(np.arange(grid.nx) - grid.x0, np.arange(grid.ny) - grid.y0)
    return (x + 1000 * y).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of four cells; one of them with a hole, one in two filters, and one on another pixel grid."""
    folder = tmp_path_factory.mktemp("run")
    for (i, j), grid in CELLS.items():
        weight = np.full(grid.shape, 10 + 2 * j + i, np.float32)
        if (i, j) == (1, 1):
            weight[0:20, 0:20] = 0
        data = np.where(weight > 0, truth(grid), np.nan).astype(np.float32)
        add_product(folder, f"cell{i}{j}_f158", grid, data=data, weight=weight)
    grid = CELLS[0, 0]
    add_product(folder, "cell00_f129", grid, "F129", data=truth(grid))
    other = replace(grid, x0=grid.x0 + 0.5, skycell="031p10x50y50")
    add_product(folder, "other_f158", other, data=np.full(grid.shape, -1, np.float32))
    return folder


def cut_at(folder, x, y, size, element="F158", owner=""):
    """Cut-out around a pixel of the first cell, of so many pixels."""
    products = cutout.made_products(folder, element)[element]
    place = (float(p) for p in BASE.to_pixel(*BASE.to_sky(x, y)))
    assert tuple(place) == pytest.approx((x, y))
    ra, dec = (float(p) for p in BASE.to_sky(x, y))
    grid, names = cutout.choose(products, ra, dec, size * 0.055, owner)
    return cutout.paste(grid, [open_coadd(folder / f"resample/{n}_coadd.asdf") for n in names])


def test_it_is_pasted_without_a_seam(folder):
    cut = cut_at(folder, 105, 108, 60)
    assert cut.grid.shape == (60, 60) and cut.grid.to_pixel(
        *BASE.to_sky(105, 108)
    ) == pytest.approx((30, 30))
    np.testing.assert_array_equal(cut.planes["data"], truth(cut.grid))
    assert sorted(cut.products) == [f"cell{i}{j}_f158" for i in (0, 1) for j in (0, 1)]
    # the middle parts share the plane at pixel 109.5, but for the hole, which the others fill
    x, y = (np.arange(60) + start for start in (105 - 30, 108 - 30))
    for i, j in CELLS:
        expected = ((x > 109.5) == i) & ((y > 109.5) == j)[:, None]
        here = cut.source == cut.products.index(f"cell{i}{j}_f158") + 1
        if (i, j) == (1, 1):
            expected &= ~((x < 120) & (y < 120)[:, None])
            np.testing.assert_array_equal(here, expected)
        else:
            assert here[expected].all()
        assert (cut.planes["weight"][here] == 10 + 2 * j + i).all()


def test_what_nobody_covers_is_empty(folder):
    cut = cut_at(folder, 10, 60, 50)
    outside = np.arange(50) + 10 - 25 < 0
    assert (
        np.isnan(cut.planes["data"][:, outside]).all()
        and np.isfinite(cut.planes["data"][:, ~outside]).all()
    )
    assert (cut.planes["weight"][:, outside] == 0).all() and (cut.source[:, outside] == 0).all()
    assert sum(cut.counts) == 50 * (~outside).sum()
    assert f"{outside.mean():.1%}  without data" in "\n".join(cutout.report(cut, 0.0))


def test_only_windows_on_the_same_pixels_are_pasted(folder):
    assert "other_f158" not in cut_at(folder, 60, 60, 10).products
    assert cut_at(folder, 60, 60, 10, owner="031p10x50y50").products == ["other_f158"]
    turned = replace(BASE, orientation=10.0)
    assert cutout.shift(BASE, turned) is None
    assert cutout.shift(BASE, CELLS[1, 0]) == (100, 0)


def test_the_deeper_of_two_on_a_cell_is_seen_first(folder):
    products = cutout.made_products(folder, "F158")["F158"]
    twice = {"a": products["cell00_f158"], "b": replace(products["cell00_f158"], members=7)}
    ra, dec = BASE.center
    assert list(cutout.choose(twice, ra, dec, 1.0)[1]) == ["b", "a"]


def test_of_more_products_than_a_byte_counts(folder):
    """A skycell of many visits: the one that a pixel comes from has a number of its own."""
    one, other = (
        open_coadd(folder / f"resample/{n}_f158_coadd.asdf") for n in ("cell00", "cell10")
    )
    cut = cutout.paste(replace(CELLS[0, 0], nx=220), [one] * 299 + [other])
    assert sorted(set(cut.source.ravel().tolist())) == [1, 300]
    np.testing.assert_array_equal(cut.planes["data"], truth(cut.grid))


def test_of_two_on_a_cell_the_first_has_all_that_it_covers(folder):
    one = open_coadd(folder / "resample/cell00_f158_coadd.asdf")
    assert set(cutout.paste(CELLS[0, 0], [one, one]).source.ravel().tolist()) == {1}


@pytest.mark.parametrize("packed", [True, False])
def test_windows_of_packed_planes(tmp_path, packed):
    """Planes that lz4 shrinks are unpacked piece by piece, others are mapped."""
    grid = replace(BASE, nx=1500, ny=1600)
    data = (
        np.zeros(grid.shape, np.float32)
        if packed
        else np.random.default_rng(1).normal(0, 1, grid.shape)
    )
    data[777, 333] = 5
    context = np.arange(2 * data.size, dtype=np.uint32).reshape(2, *grid.shape) // 7
    coadd = write_coadd(
        tmp_path / "p_coadd.asdf", grid, data=data.astype(np.float32), context=context
    )
    block = coadd.blocks.blocks[coadd.tree["roman"]["data"]["source"]]
    assert block.compression == ("lz4" if packed else "")
    for y0, y1, x0, x1 in (
        (770, 780, 330, 340),
        (0, 1600, 0, 1500),
        (1599, 1600, 1499, 1500),
        (5, 5, 3, 9),
    ):
        np.testing.assert_array_equal(
            coadd.window("data", (y0, y1, x0, x1)), data[y0:y1, x0:x1].astype(np.float32)
        )
        np.testing.assert_array_equal(
            coadd.window("context", (y0, y1, x0, x1)), context[:, y0:y1, x0:x1]
        )


def test_a_damaged_block_is_told(tmp_path):
    grid = replace(BASE, nx=1500, ny=1600)
    path = tmp_path / "p_coadd.asdf"
    coadd = write_coadd(path, grid, data=np.zeros(grid.shape, np.float32))
    block = coadd.blocks.blocks[coadd.tree["roman"]["data"]["source"]]
    content = bytearray(path.read_bytes())
    content[block.start : block.start + 8] = b"\xff" * 8
    path.write_bytes(content)
    with pytest.raises(ProductError, match="cannot be unpacked"):
        open_coadd(path).window("data", (0, 2, 0, 2))


def test_other_projection_regions_are_named():
    """Half of a cut-out on the border of two regions belongs to the other one."""
    row = SKY.tables.regions
    ra, dec = float(row.ra_max[1000]), float(row.dec[1000])
    owner = str(SKY.primary_cell(ra + 1e-6, dec))
    grid = replace(BASE, ra0=ra + 1e-6, dec0=dec, x0=59.5, y0=59.5)
    foreign = cutout.foreign_part(grid, owner, SKY)
    assert 0.4 < foreign < 0.6
    middle = SKY.cell(f"{owner.partition('x')[0]}x50y50")
    assert cutout.foreign_part(middle.grid, middle.name, SKY) == 0


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


def test_the_tool_writes_a_file_for_each_filter(folder, tmp_path, monkeypatch, capsys):
    ra, dec = (float(p) for p in BASE.to_sky(100, 60))
    place = ["--ra", ra, "--dec", dec, "--size", 2.2, "--output-dir", folder, "--output", tmp_path]
    code, out, error = tool(monkeypatch, capsys, *place)
    assert (code, error) == (0, "")
    paths = sorted(tmp_path.iterdir())
    assert [path.name for path in paths] == [cutout.file_name(ra, dec, f) for f in ("F129", "F158")]
    assert all(str(path) in out for path in paths)
    with fits.open(paths[1]) as file:
        assert [hdu.name for hdu in file] == ["DATA", "ERR", "WEIGHT", "SOURCE", "PRODUCTS"]
        assert file[0].data.shape == (40, 40)
        x, y = WCS(file[0].header).all_world2pix(ra, dec, 0)
        assert (x, y) == pytest.approx((20, 20), abs=1e-6)
        np.testing.assert_array_equal(
            file[0].data[20], np.arange(100 - 20, 100 + 20) - 60 + 1000 * 20
        )
        assert sum(file["PRODUCTS"].data["PIXELS"]) == 1600


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"--ra": 200}, "lies on no mosaic (skycell"),
        ({"--filter": "F213"}, "holds no coadds of filter F213 -> it has F129, F158"),
        ({"--output-dir": "nowhere"}, "nowhere: holds no coadds -> give the folder of a run"),
        ({"--size": "x"}, "argument --size: invalid float value"),
        ({"--size": 1e6}, "pixels wide -> at most 550 arcsec"),
        ({"--size": -1}, "is not a size"),
    ],
)
def test_what_cannot_be_cut_is_told_in_a_line(folder, tmp_path, monkeypatch, capsys, changes, said):
    ra, dec = BASE.center
    options = {"--ra": ra, "--dec": dec, "--size": 1, "--output-dir": folder, "--output": tmp_path}
    pairs = [word for option in (options | changes).items() for word in option]
    code, out, error = tool(monkeypatch, capsys, *pairs)
    assert (code, out) == (1, "")
    assert said in error and error.startswith("romosaic: ") and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_middle_must_lie_on_a_mosaic(folder):
    with pytest.raises(GridError, match="lies on no mosaic"):
        cut_at(folder, -500, 60, 10)
