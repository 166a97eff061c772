"""Bugs of other mosaic software in its outlier detection: what must not happen here."""

import numpy as np
import pytest
from outlier_scene import (
    CENTER,
    SCALE,
    SHAPE,
    SIGMA,
    add_cosmic_rays,
    add_star,
    assert_same,
    dithers,
    exposure,
    flag,
    grid_of,
    pixel_map,
    star_field,
)
from romosaic.dq import FLAGS
from romosaic.grid import Grid


@pytest.mark.parametrize("noise", ["model", "err"])
@pytest.mark.parametrize("n", range(2, 13))
def test_identical_copies_are_never_flagged(n, noise):
    """With stars, cosmic rays of all sizes, also at the edges, and bad pixels; rolls from 0 to 90 degrees."""
    member = exposure(pixel_map(0.3, -0.2, 9.0 * (n - 2)), seed=n, stars=star_field())
    add_cosmic_rays(member, np.geomspace(3, 3000, 300), seed=1)
    rng = np.random.default_rng(2)
    for edge in (member.data[0], member.data[-1], member.data[:, 0], member.data[:, -1]):
        edge[::7] += rng.exponential(200 * SIGMA, edge[::7].size)
    bad = rng.integers(0, member.dq.size, 400)
    member.dq.ravel()[bad] = FLAGS["DO_NOT_USE"]
    flags = flag([member] * n, noise=noise)
    assert [flagged.size for flagged, _ in flags] == [0] * n


def test_surface_brightness_is_not_scaled_by_the_area_of_a_pixel():
    """Pixel areas differ by some per cent, which of a level of 300 sigma is more than any limit."""
    members = []
    for k in range(4):
        pixmap = pixel_map(25.0 * (k % 2), 25.0 * (k // 2), roll=30.0 * k, distortion=2e-4)
        members.append(exposure(pixmap, seed=k))
        members[-1].data += np.float32(300 * SIGMA)
    assert sum(flagged.size for flagged, _ in flag(members, grid_of(700, 700))) <= 2
    x, y = np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0])
    areas = []
    for corner in (0, 230):
        gx, gy = grid_of().to_pixel(*members[0].pixmap.sky(x + corner, y + corner))
        areas.append((gx[1] - gx[0]) * (gy[2] - gy[0]) - (gx[2] - gx[0]) * (gy[1] - gy[0]))
    assert abs(areas[1] / areas[0] - 1) > 0.03


@pytest.mark.parametrize("n", [2, 3, 5])
def test_cores_of_undersampled_stars_stay(n):
    """Stars of 3 to 200 sigma in their brightest pixel, half of which dithers move from middle to corner."""
    u, v, _ = star_field(n=400)
    stars = u, v, np.geomspace(0.3, 12, u.size)
    members = [exposure(pixmap, seed=k, stars=stars) for k, pixmap in enumerate(dithers(n))]
    false = sum(flagged.size for flagged, _ in flag(members))
    assert false <= 0.002 * n * u.size


def test_members_that_do_not_overlap_each_other():
    members = [exposure(pixel_map(-150.0)), exposure(pixel_map(150.0))]
    for member in members:
        member.data[100, 130] += 9
    assert [flagged.size for flagged, _ in flag(members, grid_of(1200, 500))] == [0, 0]


def test_two_groups_are_judged_each_by_itself():
    maps = [pixel_map(x + d) for x in (-150.0, 150.0) for d in (0.0, 3.3, 5.2)]
    members = [exposure(pixmap, seed=k) for k, pixmap in enumerate(maps)]
    for member in members[3:]:
        member.data += np.float32(1.0)
    hits = [add_cosmic_rays(m, np.full(20, 30.0), seed=k) for k, m in enumerate(members)]
    for hit, (flagged, _) in zip(hits, flag(members, grid_of(1200, 500)), strict=True):
        assert np.isin(hit, flagged).all() and flagged.size <= hit.size + 1


def test_an_overlap_of_138_pixels():
    """6 x 23 pixels of two members at their corners: a hit among them is found, and nothing elsewhere."""
    ny, nx = SHAPE
    members = [
        exposure(pixel_map(side * (nx - 6) / 2, side * (ny - 23) / 2), seed=2 + side)
        for side in (-1, 1)
    ]
    for member in members:
        member.data[50, 130] += 9
    members[0].data[ny - 12, nx - 3] += 50 * SIGMA
    flags = flag(members, grid_of(1100, 1000))
    assert flags[0][0].tolist() == [(ny - 12) * nx + nx - 3]
    assert flags[1][0].size == 0


def test_stars_that_blue_filters_sample_worse_are_protected():
    """Stars of half a pixel in width lose no pixel where the filter is known for them; hits are found."""
    stars, flags = star_field(n=60), {}
    members = [exposure(pixmap, seed=k) for k, pixmap in enumerate(dithers(3))]
    plane = Grid(*CENTER, 0.0, 0.0, SCALE, 1, 1)
    for member in members:
        x, y = member.pixmap.detector(*plane.to_sky(stars[0], stars[1]))
        for sx, sy in zip(x, y, strict=True):
            add_star(member.data, sx, sy, 30.0, sigma=0.25)
    hit = add_cosmic_rays(members[0], np.full(40, 30.0), seed=1)
    for name in ("F158", "F062"):
        for member in members:
            member.optical_element = name
        flags[name] = [flagged for flagged, _ in flag(members)]
    extra = {name: sum(map(len, found)) for name, found in flags.items()}
    assert extra["F158"] - len(hit) > 3 * max(extra["F062"] - len(hit), 1)
    assert np.isin(hit, flags["F062"][0]).mean() > 0.9
    # romancal's own test stays what it is
    blue = flag(members, noise="err")
    for member in members:
        member.optical_element = "F158"
    assert_same(blue, flag(members, noise="err"))


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_pixels_without_a_usable_error_are_not_judged_by_it(value):
    members = [exposure(pixmap, seed=k) for k, pixmap in enumerate(dithers(3))]
    hit = add_cosmic_rays(members[1], np.full(40, 30.0), seed=1)
    for member in members:
        member.var_rnoise = member.var_rnoise.astype(np.float32)
    members[1].var_rnoise.ravel()[hit[:20]] = value
    members[1].var_rnoise[5::40, 3::40] = value
    with np.errstate(all="raise"):
        flagged = flag(members, noise="err")[1][0]
    assert np.isin(hit[20:], flagged).all() and not np.isin(hit[:20], flagged).any()
    assert flagged.size <= 22
    # The model needs none of it.
    assert np.isin(hit, flag(members)[1][0]).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_bad_pixels(value):
    members = [exposure(pixmap, seed=k) for k, pixmap in enumerate(dithers(4))]
    hit = add_cosmic_rays(members[0], np.full(40, 30.0), seed=1)
    members[1].data[::9, ::9] = value
    flags = flag(members)
    assert np.isin(hit, flags[0][0]).mean() > 0.9
    assert not np.isin(flags[1][0], np.flatnonzero(~np.isfinite(members[1].data))).any()
    assert sum(flagged.size for flagged, _ in flags) <= hit.size + 2
