"""Outliers: what must be flagged, what must not, and that nothing but the pixels decides."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from outlier_scene import (
    CENTER,
    SCALE,
    SHAPE,
    SIGMA,
    add_cosmic_rays,
    assert_same,
    crowded,
    dithers,
    exposure,
    flag,
    grid_of,
    pixel_map,
    star_field,
)
from romosaic.dq import FLAGS
from romosaic.grid import Grid
from romosaic.outlier_detection import (
    FIRST,
    NEGATIVE,
    NEIGHBOUR,
    status,
)


@pytest.fixture(scope="module")
def crowd():
    """Five dithered, rolled members with stars, cosmic rays and bad pixels; hits per member."""
    return crowded()


@pytest.mark.parametrize("n", [2, 3, 6])
@pytest.mark.parametrize("roll", [0.0, 60.0])
def test_stars_are_protected_under_dithers_and_rolls(n, roll):
    stars = star_field(n=400)
    members = [
        exposure(pixmap, seed=k, stars=stars) for k, pixmap in enumerate(dithers(n, roll=roll))
    ]
    false = sum(flagged.size for flagged, _ in flag(members))
    # One bright star in a hundred falls on the middle of a pixel in one member and on corners in the others.
    assert false <= (0.02 if n == 2 else 0.01) * n * len(stars[0])
    faint = star_field(n=400)
    faint[2][:] = np.minimum(faint[2], 3)  # peaks of 50 sigma
    members = [
        exposure(pixmap, seed=k, stars=faint) for k, pixmap in enumerate(dithers(n, roll=roll))
    ]
    false = sum(flagged.size for flagged, _ in flag(members))
    assert false <= 0.002 * n * len(stars[0])


def test_noise_alone_is_not_flagged():
    for n in (2, 3, 5):
        members = [exposure(pixmap, seed=9 * n + k) for k, pixmap in enumerate(dithers(n))]
        false = sum(flagged.size for flagged, _ in flag(members))
        assert false <= 1e-5 * sum(member.data.size for member in members)


@pytest.mark.parametrize("n", [3, 4, 6])
def test_completeness_by_amplitude(n):
    shares = []
    for low, high in ((6, 8), (8, 12), (12, 1000)):
        members, hits = [], []
        for k, pixmap in enumerate(dithers(n)):
            members.append(exposure(pixmap, seed=k))
            hits.append(add_cosmic_rays(members[-1], np.geomspace(low, high, 200), seed=k + 10 * n))
        found = [
            np.isin(hit, flagged) for hit, (flagged, _) in zip(hits, flag(members), strict=True)
        ]
        shares.append(np.mean(found))
    assert shares[0] > 0.75
    assert shares[1] > 0.97
    # Two hits at one place in different members are rare, but not impossible.
    assert shares[2] > 0.99


def test_of_two_members_the_hit_one_is_flagged_alone():
    members = [exposure(pixmap, seed=k) for k, pixmap in enumerate(dithers(2))]
    hits = [add_cosmic_rays(m, np.full(80, 15.0), seed=k) for k, m in enumerate(members)]
    for (flagged, _), hit in zip(flag(members), hits, strict=True):
        assert np.isin(flagged, hit).all()
        assert np.isin(hit, flagged).mean() > 0.9


def test_pixels_that_one_member_sees_are_never_flagged():
    left, right = pixel_map(-60.0), pixel_map(60.0)
    members = [exposure(left, seed=1), exposure(right, seed=2)]
    members[0].data[::7, ::7] += 5
    flagged = flag(members)[0][0]
    x, _ = right.detector(*left.sky(flagged % SHAPE[1], flagged // SHAPE[1]))
    assert flagged.size > 300
    assert np.all(x > -0.5)
    assert np.unique(flagged % SHAPE[1]).min() > 100


@pytest.mark.parametrize("n", [2, 5, 16, 40])
def test_any_number_of_members(n):
    small = (60, 70)
    rng = np.random.default_rng(n)
    maps = [pixel_map(*rng.uniform(-3, 3, 2), rng.uniform(0, 90), small) for _ in range(n)]
    members = [exposure(pixmap, seed=k) for k, pixmap in enumerate(maps)]
    hits = []
    for member in members:
        y, x = rng.integers(20, 40), rng.integers(25, 45)
        member.data[y, x] += 30 * SIGMA
        hits.append(y * small[1] + x)
    flags = flag(members, grid_of(150, 150))
    found = [hit in flagged for hit, (flagged, _) in zip(hits, flags, strict=True)]
    assert np.mean(found) >= 0.95
    assert sum(flagged.size for flagged, _ in flags) <= n + 1


def test_bits_do_not_depend_on_threads_or_memory(crowd):
    members, _ = crowd
    whole = flag(members)
    assert sum(flagged.size for flagged, _ in whole) > 250
    for threads, memory_mb in ((2, 600), (1, 0.05), (3, 0.3), (1, 1e-9)):
        assert_same(whole, flag(members, threads=threads, memory_mb=memory_mb))


def test_memory_maps_give_the_same(crowd, tmp_path):
    members, _ = crowd
    mapped = []
    for k, member in enumerate(members):
        arrays = {}
        for name in ("data", "dq"):
            array = getattr(member, name)
            path = tmp_path / f"{name}{k}"
            path.write_bytes(b"odd" + array.tobytes())
            # As a block of an ASDF file: read-only, at an offset that is not aligned.
            arrays[name] = np.memmap(path, array.dtype, "r", 3, array.shape)
        mapped.append(SimpleNamespace(**{**vars(member), **arrays}))
    assert_same(flag(members, memory_mb=0.2), flag(mapped, memory_mb=0.2))


def test_neighbouring_grids_flag_the_same_pixels(crowd):
    members, _ = crowd
    whole = grid_of()
    left = Grid(*CENTER, whole.x0, whole.y0, SCALE / 2, 300, whole.ny)
    right = Grid(*CENTER, whole.x0 - 200, whole.y0, SCALE / 2, 300, whole.ny)
    total = flag(members, whole)
    common = 0
    for k, pair in enumerate(zip(flag(members, left), flag(members, right), strict=True)):
        all_flagged = total[k][0]
        x, _ = whole.to_pixel(
            *members[k].pixmap.sky(all_flagged % SHAPE[1], all_flagged // SHAPE[1])
        )
        # What touches either grid is flagged as in the grid that covers both.
        for (flagged, _), low, high in zip(pair, (-0.5, 199.5), (299.5, 499.5), strict=True):
            assert np.isin(flagged, all_flagged).all()
            inside = all_flagged[(x >= low - 1) & (x <= high + 1)]
            assert np.isin(inside, flagged).all()
            # A pixel that cannot touch the grid is none of its business.
            away = all_flagged[(x < low - 2) | (x > high + 2)]
            assert away.size
            assert not np.isin(away, flagged).any()
        common += np.intersect1d(pair[0][0], pair[1][0]).size
    assert common > 50


def test_bad_pixels_are_not_flagged_and_do_not_spread(crowd):
    members, hits = crowd
    for member, hit, (flagged, _) in zip(members, hits, flag(members), strict=True):
        bad = np.flatnonzero(member.dq)
        assert not np.isin(flagged, bad).any()
        near = np.unique((bad[:, None] + [-1, 1, -SHAPE[1], SHAPE[1]]).ravel())
        near_hits = np.unique(
            hit[:, None] + np.arange(-1, 2) + SHAPE[1] * np.arange(-1, 2)[:, None, None]
        )
        clean = np.setdiff1d(near, near_hits)
        assert np.isin(flagged, clean).sum() <= 1


def test_good_bits_decide_what_is_bad():
    members = [exposure(pixmap, seed=k) for k, pixmap in enumerate(dithers(3))]
    hit = add_cosmic_rays(members[0], np.full(30, 40.0), seed=1)
    members[0].dq.ravel()[hit] = FLAGS["JUMP_DET"]
    assert np.isin(hit, flag(members)[0][0]).all()
    assert not np.isin(hit, flag(members, good_bits="~DO_NOT_USE+JUMP_DET")[0][0]).any()
    assert not np.isin(hit, flag(members, good_bits="0")[0][0]).any()
    assert np.isin(hit, flag(members, good_bits=None)[0][0]).all()


def test_levels_are_taken_off_before_the_median():
    levels = [0.0, 0.4, -0.2, 0.1]
    members = [
        exposure(pixmap, seed=k, level=level, stars=star_field())
        for k, (pixmap, level) in enumerate(zip(dithers(4), levels, strict=True))
    ]
    level_free = [
        SimpleNamespace(
            **{**vars(m), "data": m.data - np.float32(level), "pedestal": m.pedestal - level}
        )
        for m, level in zip(members, levels, strict=True)
    ]
    assert_same(flag(members, levels=levels), flag(level_free))


def test_reasons():
    members = [exposure(pixmap, noise=False) for pixmap in dithers(3, size=3.0)]
    data = members[0].data
    data[100, 100] += 20 * SIGMA
    data[100, 101] += 4.5 * SIGMA
    data[60, 60] -= 20 * SIGMA
    data[61, 61] -= 4.5 * SIGMA
    data[40, 40] += 4.5 * SIGMA
    flagged, why = flag(members)[0]
    rows, columns = np.divmod(flagged, SHAPE[1])
    found = dict(zip(zip(rows.tolist(), columns.tolist(), strict=True), why.tolist(), strict=True))
    assert found == {
        (60, 60): FIRST | NEGATIVE,
        (61, 61): NEIGHBOUR | NEGATIVE,
        (100, 100): FIRST,
        (100, 101): NEIGHBOUR,
    }
    assert (flagged.dtype, why.dtype) == (np.uint32, np.uint8)


def test_err_of_the_pixel_hides_its_own_cosmic_ray():
    members = [exposure(pixmap, noise=False) for pixmap in dithers(4, size=3.0)]
    members[0].data[100, 100] += 10 * SIGMA
    hit = 100 * SHAPE[1] + 100
    assert hit in flag(members)[0][0]
    assert hit in flag(members, noise="err")[0][0]
    members[0].var_poisson[100, 100] += 4 * SIGMA**2
    assert hit in flag(members)[0][0]
    assert hit not in flag(members, noise="err")[0][0]
    members[0].var_poisson[100, 100] = 0
    members[0].var_flat = np.zeros(SHAPE, np.float16)
    members[0].var_flat[100, 100] = 5 * SIGMA**2
    assert hit not in flag(members, noise="err")[0][0]


def test_err_is_the_published_test_in_numbers():
    """|data - blot| > scale * derivative + snr * err, then the 3x3 around, worked out by hand on a ramp."""
    shape, plain = (60, 70), pixel_map(shape=(60, 70), distortion=0.0)
    y, x = np.mgrid[:60, :70]
    # The steepest step to a neighbour is 0.5, and err 0.25.
    ramp, half = (0.5 * x - 0.25 * y).astype(np.float32), np.full(shape, 1 / 32, np.float16)
    given = dict(dq=np.zeros(shape, np.uint32), shape=shape, pixmap=plain, var_flat=None)
    given |= dict(var_rnoise=half, var_poisson=half, optical_element="F158")
    given |= dict(sky_variance=1.0, poisson_slope=0.0, pedestal=0.0)
    members = [SimpleNamespace(data=ramp.copy(), **given) for _ in range(3)]
    # Limits: 1.2 * 0.5 + 5 * 0.25 = 1.85 alone, 0.7 * 0.5 + 4 * 0.25 = 1.35 beside one.
    hits = {(20, 20): 1.86, (20, 21): 1.36, (21, 19): -1.36, (19, 20): 1.34, (20, 22): 1.8}
    hits |= {(40, 20): 1.84, (40, 21): 1.84, (40, 40): -1.86, (40, 41): -1.34}
    hits |= {(42, 41): -1.36, (38, 39): 1.36, (39, 42): 1.36, (41, 38): 1.36}  # two away
    for place, value in hits.items():
        members[1].data[place] += value
    flags = flag(members, grid_of(150, 130), noise="err")
    found = np.divmod(flags[1][0], shape[1])
    wanted = [(20, 20), (20, 21), (21, 19), (40, 40)]
    assert list(zip(*(axis.tolist() for axis in found), strict=True)) == wanted
    assert flags[0][0].size == flags[2][0].size == 0


def oracle(members, grid, pad, snr, scale, backg):
    """Flags by plain numpy and scipy, for members without bad pixels and three or more everywhere."""
    from scipy import ndimage

    padded = grid.padded(pad)
    ys, xs = np.mgrid[: padded.ny, : padded.nx].astype(float)
    sky = padded.to_sky(xs, ys)
    stack = []
    for member in members:
        x, y = member.pixmap.detector(*sky)
        value = ndimage.map_coordinates(
            member.data.astype(float), [y, x], order=1, cval=np.nan, prefilter=False
        )
        stack.append(value)
    reference = np.median(stack, axis=0)
    masks = []
    for member in members:
        y, x = np.mgrid[: member.shape[0], : member.shape[1]].astype(float)
        gx, gy = padded.to_pixel(*member.pixmap.sky(x, y))
        blot = ndimage.map_coordinates(reference, [gy, gx], order=1, cval=np.nan, prefilter=False)
        steps = np.full(blot.shape, 0.0)
        for axis, shift in itertools.product((0, 1), (-1, 1)):
            steps = np.fmax(steps, np.abs(np.roll(blot, shift, axis) - blot))
        error = np.sqrt(member.var_rnoise.astype(float) + member.var_poisson)
        off = np.abs(member.data - blot - backg)
        first = off > scale[0] * steps + snr[0] * error
        second = off > scale[1] * steps + snr[1] * error
        inside = (gx > pad) & (gx < padded.nx - pad) & (gy > pad) & (gy < padded.ny - pad)
        masks.append(ndimage.binary_dilation(first, np.ones((3, 3))) & second & inside)
    return masks


def test_agrees_with_plain_numpy():
    pytest.importorskip("scipy")
    stars = star_field(n=300)
    members = [exposure(p, seed=k, stars=stars) for k, p in enumerate(dithers(5, roll=20))]
    for k, member in enumerate(members):
        add_cosmic_rays(member, np.geomspace(3, 300, 500), seed=k)
    # A grid that every member covers, so that the oracle needs no rule for missing members.
    grid, settings = grid_of(260, 240), {"snr": [4.0, 3.0], "scale": [0.9, 0.5], "backg": 0.01}
    masks = oracle(members, grid, 14, **settings)
    total = different = 0
    for member, mask, (flagged, _) in zip(
        members, masks, flag(members, grid, noise="err", **settings), strict=True
    ):
        ours = np.zeros(mask.shape, bool)
        ours.ravel()[flagged] = True
        x, y = np.meshgrid(np.arange(SHAPE[1]), np.arange(SHAPE[0]))
        gx, gy = grid.to_pixel(*member.pixmap.sky(x, y))
        inside = (gx > 0) & (gx < grid.nx - 1) & (gy > 0) & (gy < grid.ny - 1)
        total += int(mask.sum())
        different += int((inside & (ours != mask)).sum())
    assert total > 500
    # float32 against float64, at the limit itself.
    assert different <= 1


@pytest.mark.parametrize("center", [(0.0, 12.0), (123.0, 90.0), (10.0, -89.999)])
def test_poles_and_ra_zero(center):
    maps = [pixel_map(5 * k, -3 * k, 20 * k, center=center) for k in range(3)]
    members = [exposure(pixmap, seed=k) for k, pixmap in enumerate(maps)]
    hit = add_cosmic_rays(members[1], np.full(50, 25.0), seed=3)
    flagged = flag(members, grid_of(560, 560, center=center))[1][0]
    assert np.isin(hit, flagged).all()
    assert flagged.size <= 51


def test_too_few_members():
    assert [status(n) for n in (0, 1, 2)] == ["SKIPPED", "SKIPPED", "COMPLETE"]
    assert flag([]) == []
    member = exposure(pixel_map())
    member.data[50, 50] += 9
    ((flagged, why),) = flag([member])
    assert flagged.size == why.size == 0
    assert (flagged.dtype, why.dtype) == (np.uint32, np.uint8)


def test_members_beside_the_grid_and_on_the_far_side_of_the_sky():
    members = [exposure(pixmap, seed=k) for k, pixmap in enumerate(dithers(3))]
    hit = add_cosmic_rays(members[0], np.full(20, 30.0), seed=1)
    alone = flag(members)
    far = exposure(pixel_map(center=(CENTER[0] - 180, -CENTER[1])))
    beside = exposure(pixel_map(5000.0))
    flags = flag([far, *members, beside])
    assert_same(flags[1:4], alone)
    assert np.isin(hit, flags[1][0]).all()
    assert flags[0][0].size == flags[4][0].size == 0


def test_grid_smaller_than_a_pixel_and_far_away_pixels():
    members = [exposure(pixmap, seed=k) for k, pixmap in enumerate(dithers(3, size=2.0))]
    members[0].data[119:121, 129:131] += 50 * SIGMA
    flagged = flag(members, grid_of(3, 3))[0][0]
    assert 1 <= flagged.size <= 4


def test_unknown_choices_are_refused():
    with pytest.raises(ValueError, match="noise"):
        flag([], noise="guess")
    with pytest.raises(ValueError, match="DO_NOT_USE"):
        flag([], good_bits="~DO_NOT_USED")
