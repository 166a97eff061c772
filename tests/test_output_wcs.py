"""Grids of output_wcs files: told or fitted to a millionth of a pixel, refused when they are no grid."""

from dataclasses import replace

import asdf
import numpy as np
import pytest
from astropy import coordinates, units
from astropy.modeling import models
from coadd_file import grid_wcs
from gwcs import WCS, coordinate_frames
from romosaic.errors import GridError
from romosaic.grid import Grid
from romosaic.mosaic_wcs import wcsinfo
from romosaic.output_wcs import TOLERANCE, grid_of_wcs, read_output_wcs

SCALE = 0.055 / 3600
CASES = {
    "cell beside a pole": Grid(0.0, 88.0, -3000.0, 8000.5, SCALE, 600, 500, 12.5),
    "north pole": Grid(123.0, 90.0, 299.5, 200.0, SCALE, 600, 400, 33.0),
    "south pole, x west": Grid(10.0, -90.0, 299.5, 200.0, SCALE, 600, 400, -70.0, x_east=False),
    "almost the pole": Grid(10.0, 89.99999, 299.5, 200.0, SCALE, 600, 400, x_east=False),
    "RA 0": Grid(0.0, 40.0, 100.25, 0.0, SCALE, 500, 400, 180.0),
    "RA 360, x west": Grid(
        359.9999999, -45.0, 100.0, 50.0, 2 * SCALE, 501, 400, 37.0, x_east=False
    ),
    "x west": Grid(80.0, 5.0, 2500.0, -700.0, SCALE, 400, 300, x_east=False),
}
TURNED = CASES["RA 360, x west"]


def models_of(grid):
    """The transform of a grid from general models, as other software writes it."""
    matrix = np.array(wcsinfo(grid)["rotation_matrix"])
    return (
        models.Shift(-grid.x0) & models.Shift(-grid.y0)
        | models.AffineTransformation2D(matrix=matrix)
        | models.Scale(grid.pixel_scale) & models.Scale(grid.pixel_scale)
        | models.Pix2Sky_TAN()
        | models.RotateNative2Celestial(grid.ra0, grid.dec0, 180.0)
    )


def gwcs_of(transform, grid, frame=None):
    detector = coordinate_frames.Frame2D(name="detector", unit=(units.pix, units.pix))
    frame = coordinates.ICRS() if frame is None else frame
    sky = coordinate_frames.CelestialFrame(reference_frame=frame, unit=(units.deg, units.deg))
    wcs = WCS([(detector, transform), (sky, None)])
    wcs.pixel_shape = (grid.nx, grid.ny)
    return wcs


def written(path, wcs):
    asdf.AsdfFile({"wcs": wcs}).write_to(path)
    return path


def apart(grid, wcs):
    """Largest distance (pixels) of a gwcs and the one that a coadd on a grid has."""
    x, y = (
        v.ravel()
        for v in np.meshgrid(*(np.linspace(-0.5, n - 0.5, 23) for n in (grid.nx, grid.ny)))
    )
    there = grid_wcs(grid).invert(*wcs(x, y, with_bounding_box=False), with_bounding_box=False)
    return np.hypot(there[0] - x, there[1] - y).max()


@pytest.mark.parametrize("case", CASES)
def test_a_wcs_of_romancals_kind_is_its_grid_exactly(case, tmp_path):
    grid = CASES[case]
    found = read_output_wcs(written(tmp_path / "w.asdf", grid_wcs(grid)))
    assert found == grid
    assert apart(found, grid_wcs(grid)) < TOLERANCE


@pytest.mark.parametrize("case", CASES)
def test_a_wcs_of_general_models_is_fitted(case, tmp_path):
    grid = CASES[case]
    wcs = gwcs_of(models_of(grid), grid)
    found = read_output_wcs(written(tmp_path / "w.asdf", wcs))
    assert (found.nx, found.ny, found.x_east) == (grid.nx, grid.ny, grid.x_east)
    assert found.pixel_scale == pytest.approx(grid.pixel_scale, rel=1e-11)
    assert (found.x0, found.y0) == pytest.approx((grid.x0, grid.y0), abs=1e-6)
    assert apart(found, wcs) < TOLERANCE / 10


def test_what_is_a_plane_within_the_image_alone_is_fitted_there():
    """A bend that only shows far from the image."""
    wcs = gwcs_of(models_of(TURNED), TURNED)
    transform = models.Identity(1) & models.Polynomial1D(7, c1=1.0, c7=2e-26) | models_of(TURNED)
    bent = gwcs_of(transform, TURNED)
    assert 0 < np.abs(np.subtract(bent(300, 399), wcs(300, 399))).max() < 1e-11
    assert apart(grid_of_wcs(bent), wcs) < TOLERANCE


@pytest.mark.parametrize(
    "change",
    [
        models.Scale(1.0) & models.Scale(1.0001),
        models.Identity(1) & models.Polynomial1D(2, c1=1.0, c2=1e-9),
        models.AffineTransformation2D(matrix=[[1, 1e-7], [0, 1]]),
    ],
    ids=["oblong pixels", "distorted", "sheared"],
)
def test_what_is_no_grid_is_refused(change):
    wcs = gwcs_of(change | models_of(TURNED), TURNED)
    with pytest.raises(GridError, match=r"its `wcs` is no regular grid \(off by .* pixels\)"):
        grid_of_wcs(wcs)


def test_another_projection_is_refused():
    transform = (
        models.Shift(-250.0) & models.Shift(-200.0)
        | models.Scale(1e-4) & models.Scale(1e-4)
        | models.Pix2Sky_ARC()
        | models.RotateNative2Celestial(10.0, 20.0, 180.0)
    )
    with pytest.raises(GridError, match="no regular grid"):
        grid_of_wcs(gwcs_of(transform, TURNED))


def test_another_system_is_refused():
    wcs = gwcs_of(models_of(TURNED), TURNED, coordinates.Galactic())
    with pytest.raises(GridError, match="gives galactic in deg deg"):
        grid_of_wcs(wcs)


def test_the_size_is_asked_for_or_told_or_that_of_the_box():
    wcs = grid_wcs(TURNED)
    assert grid_of_wcs(wcs, (30, 20)) == replace(TURNED, nx=30, ny=20)
    wcs.pixel_shape = None
    wcs.bounding_box = ((-0.5, 99.5), (-0.5, 49.5))
    assert grid_of_wcs(wcs).shape == (50, 100)
    wcs.bounding_box = ((10.5, 99.5), (-0.5, 49.5))
    with pytest.raises(GridError, match="does not start at pixel 0 -> give output_shape"):
        grid_of_wcs(wcs)
    assert grid_of_wcs(wcs, (30, 20)).shape == (20, 30)
    wcs.bounding_box = None
    with pytest.raises(GridError, match="has no size -> give output_shape"):
        grid_of_wcs(wcs)
    wcs.pixel_shape = (200_000, 10)
    with pytest.raises(GridError, match="has 200000 x 10 pixels -> give 1 to 100000"):
        grid_of_wcs(wcs)


def bomb(path):
    """Aliases that stand for billions of values."""
    lines = ["#ASDF 1.0.0", "%YAML 1.1", "--- ", "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    path.write_text("\n".join([*lines, "wcs: *a11", "...", ""]))


def cut_short(path):
    content = written(path, grid_wcs(TURNED)).read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    "spoil, reason",
    [
        (lambda path: None, "No such file"),
        (lambda path: path.write_text("no ASDF"), "not an ASDF file|not ASDF"),
        (lambda path: asdf.AsdfFile({"roman": 1}).write_to(path), "has no `wcs`"),
        (lambda path: asdf.AsdfFile({"wcs": "TAN"}).write_to(path), "has an unreadable WCS"),
        (bomb, "stands for over"),
        (cut_short, "cut short|corrupt|end"),
    ],
    ids=["missing", "text", "no wcs", "no gwcs", "bomb", "cut"],
)
def test_bad_files_are_refused_in_one_line(spoil, reason, tmp_path):
    path = tmp_path / "w.asdf"
    spoil(path)
    with pytest.raises(GridError, match=reason) as caught:
        read_output_wcs(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    assert " -> " in str(caught.value)
