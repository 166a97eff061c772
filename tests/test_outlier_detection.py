"""Outliers: what must be flagged, what must not, and that nothing but the pixels decides."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from romosaic import outlier_kernels as kernels
from romosaic.dq import FLAGS
from romosaic.grid import Grid
from romosaic.outlier_detection import (
    FIRST,
    NEGATIVE,
    NEIGHBOUR,
    Patches,
    detect_outliers,
    status,
)
from romosaic.pixmap import PixelMap

SCALE = 0.11 / 3600
SHAPE = (240, 260)
SIGMA, SLOPE, PEDESTAL = 0.03, 0.003, 0.25
CENTER = (66.0, -35.0)


def parameters(**changed):
    values = {
        "noise": "model",
        "snr": [5.0, 4.0],
        "scale": [1.2, 0.7],
        "backg": 0.0,
        "maskpt": 0.7,
        "good_bits": "~DO_NOT_USE",
        "memory_mb": 600,
    }
    return {**values, **changed}


def pixel_map(dx=0.0, dy=0.0, roll=0.0, shape=SHAPE, center=CENTER, distortion=2e-5):
    """Detector with a quadratic distortion at an offset (detector pixels) and a roll (degrees)."""
    c, s = np.cos(np.radians(roll)), np.sin(np.radians(roll))
    plane = Grid(*center, 0.0, 0.0, SCALE, 1, 1)

    def wcs(x, y):
        u, v = x - (shape[1] - 1) / 2, y - (shape[0] - 1) / 2
        u, v = u + distortion * u * v, v + distortion * u**2 / 2
        return plane.to_sky(c * u - s * v + dx, s * u + c * v + dy)

    return PixelMap.fit(wcs, shape)


def grid_of(nx=500, ny=480, center=CENTER, x0=None, y0=None):
    """Grid of half-size pixels about the same centre."""
    x0, y0 = (nx - 1) / 2 if x0 is None else x0, (ny - 1) / 2 if y0 is None else y0
    return Grid(*center, x0, y0, SCALE / 2, nx, ny)


def exposure(pixmap, seed=0, stars=None, level=0.0, noise=True):
    """An exposure of stars (u, v in detector pixels on the sky plane, flux) with model noise."""
    shape = pixmap.shape
    signal = np.zeros(shape)
    if stars is not None:
        plane = Grid(*CENTER, 0.0, 0.0, SCALE, 1, 1)
        x, y = pixmap.detector(*plane.to_sky(stars[0], stars[1]))
        for sx, sy, flux in zip(x, y, stars[2], strict=True):
            add_star(signal, sx, sy, flux)
    rng = np.random.default_rng(seed)
    sigma = np.sqrt(SIGMA**2 + SLOPE * signal)
    data = PEDESTAL + level + signal + (sigma * rng.normal(size=shape) if noise else 0)
    return SimpleNamespace(
        shape=shape,
        data=data.astype(np.float32),
        dq=np.zeros(shape, np.uint32),
        var_rnoise=np.full(shape, SIGMA**2 / 2, np.float16),
        var_poisson=(SIGMA**2 / 2 + SLOPE * signal).astype(np.float16),
        var_flat=None,
        pixmap=pixmap,
        sky_variance=SIGMA**2,
        poisson_slope=SLOPE,
        pedestal=PEDESTAL + level,
    )


def add_star(image, x, y, flux, sigma=0.5):
    """A star that the pixels undersample: Gaussian core of 1.2 pixels FWHM, integrated, and faint wings."""
    if not (np.isfinite(x) and -9 < x < image.shape[1] + 9 and -9 < y < image.shape[0] + 9):
        return
    iy, ix = np.ogrid[: image.shape[0], : image.shape[1]]
    near = np.s_[
        max(int(y) - 12, 0) : max(int(y) + 13, 0), max(int(x) - 12, 0) : max(int(x) + 13, 0)
    ]
    dy, dx = iy[near[0]] - y, ix[:, near[1]] - x
    fine = (np.arange(5) - 2) / 5
    core = np.zeros(np.broadcast_shapes(dy.shape, dx.shape))
    for a, b in itertools.product(fine, fine):
        core += np.exp(-((dx + a) ** 2 + (dy + b) ** 2) / (2 * sigma**2)) / 25
    wings = 0.01 / (1 + (dx**2 + dy**2) / 4) ** 1.5
    image[near] += flux * (core / (2 * np.pi * sigma**2) + wings)


def star_field(seed=1, n=150, half=150):
    rng = np.random.default_rng(seed)
    u, v = rng.uniform(-half, half, (2, n))
    return u, v, 10 ** rng.uniform(-0.5, 3, n)


def dithers(n, seed=3, roll=0.0, size=15.0):
    rng = np.random.default_rng(seed)
    return [
        pixel_map(*rng.uniform(-size, size, 2), roll=k * roll + rng.uniform(-1, 1))
        for k in range(n)
    ]


def add_cosmic_rays(member, amplitudes, seed):
    """Single-pixel hits of these amplitudes (sigma), at least 5 pixels apart and from the edges."""
    rng = np.random.default_rng(seed)
    ny, nx = member.shape
    cells = rng.permutation(((ny - 60) // 6) * ((nx - 60) // 6))[: len(amplitudes)]
    row, column = np.divmod(cells, (nx - 60) // 6)
    y, x = 30 + 6 * row, 30 + 6 * column
    member.data[y, x] += np.asarray(amplitudes, np.float32) * np.float32(SIGMA)
    return y * nx + x


def flag(members, grid=None, threads=1, levels=None, **changed):
    levels = np.zeros(len(members)) if levels is None else levels
    return detect_outliers(members, levels, grid or grid_of(), parameters(**changed), threads)


def assert_same(one, other):
    for (flagged, why), (flagged2, why2) in zip(one, other, strict=True):
        np.testing.assert_array_equal(flagged, flagged2)
        np.testing.assert_array_equal(why, why2)


@pytest.fixture(scope="module")
def crowd():
    """Five dithered, rolled members with stars, cosmic rays and bad pixels; hits per member."""
    stars = star_field()
    rng = np.random.default_rng(7)
    members, hits = [], []
    for k, pixmap in enumerate(dithers(5, roll=31.0)):
        member = exposure(pixmap, seed=k, stars=stars)
        hits.append(add_cosmic_rays(member, np.full(60, 200.0), seed=50 + k))
        bad = rng.integers(0, member.dq.size, 300)
        member.dq.ravel()[bad] = FLAGS["DO_NOT_USE"]
        member.data.ravel()[bad[:150]] = np.nan
        member.data.ravel()[bad[150:]] = 400.0
        members.append(member)
    return members, hits


@pytest.mark.parametrize("n", [2, 3, 4, 7])
@pytest.mark.parametrize("roll", [0.0, 27.0, 45.0])
def test_identical_copies_are_never_flagged(n, roll):
    member = exposure(pixel_map(0.3, -0.2, roll), seed=4, stars=star_field())
    add_cosmic_rays(member, np.geomspace(3, 3000, 300), seed=1)
    rng = np.random.default_rng(2)
    for edge in (member.data[0], member.data[-1], member.data[:, 0], member.data[:, -1]):
        edge[::7] += rng.exponential(200 * SIGMA, edge[::7].size)
    bad = rng.integers(0, member.dq.size, 400)
    member.dq.ravel()[bad] = FLAGS["DO_NOT_USE"]
    assert [flagged.size for flagged, _ in flag([member] * n)] == [0] * n


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


def test_members_that_do_not_overlap_each_other():
    members = [exposure(pixel_map(-150.0)), exposure(pixel_map(150.0))]
    for member in members:
        member.data[100, 130] += 9
    assert [flagged.size for flagged, _ in flag(members, grid_of(1200, 500))] == [0, 0]


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


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 11, 12])
def test_sorting_network_sorts_all_zeros_and_ones(n):
    # The 0-1 principle: a network that sorts these sorts everything.
    lines = np.array(list(itertools.product((0, 1), repeat=n))).T
    for low, high in kernels.sorting_network(n):
        lines[[low, high]] = np.sort(lines[[low, high]], axis=0)
    assert np.all(np.diff(lines, axis=0) >= 0)


@pytest.mark.parametrize("n", [2, 3, 6, 31, 40, 64, 130])
def test_median_of_valid_members(n):
    rng = np.random.default_rng(n)
    stack = rng.normal(size=(n, 3, 700)).astype(np.float32)
    stack[rng.random(stack.shape) < rng.random(700)] = np.nan
    wanted = np.full((3, 700), np.nan)
    depth = np.isfinite(stack).sum(axis=0)
    for at in np.argwhere(depth >= 2):
        values = stack[:, at[0], at[1]]
        values = values[np.isfinite(values)].astype(float)
        wanted[tuple(at)] = np.median(values) if values.size > 2 else values.min()
    reference, count = np.zeros((5, 710), np.float32), np.zeros((5, 710), np.uint8)
    larger = kernels.sorting_network(n + 9)
    kernels.combine(stack, larger[larger[:, 1] < n], reference, count, (1, 6))
    np.testing.assert_array_equal(count[1:4, 6:706], depth)
    np.testing.assert_allclose(reference[1:4, 6:706], wanted, rtol=1e-6, atol=1e-7)
    assert not reference[0].any()


def sample_at(window, x, y, min_weight=0.7):
    """One bilinear sample of a window at a detector position."""
    coefficients = np.zeros((2, 4, 4))
    coefficients[:, 0, 0] = x, y
    out = np.zeros((1, 1), np.float32)
    box = np.array([0, 1, 0, 1])
    count = kernels.sample(
        window, (0, 0), coefficients, np.ones(4), box, np.float32(min_weight), out, (0, 0)
    )
    assert count == np.isfinite(out).sum()
    return out[0, 0]


def test_bilinear_sample_and_bad_pixels():
    window = np.array([[1, 2], [3, np.nan]], np.float32)
    assert sample_at(window, 0.0, 0.0) == 1
    assert sample_at(window, 0.25, 0.0) == pytest.approx(1.25)
    # 1/16 of the weight is bad: the rest is renormalised.
    assert sample_at(window, 0.25, 0.25) == pytest.approx((9 + 3 * 2 + 3 * 3) / 15)
    assert np.isnan(sample_at(window, 0.75, 0.75))
    assert sample_at(window, 0.75, 0.75, 0.4) == pytest.approx((1 + 3 * 2 + 3 * 3) / 7)
    # Beyond the outermost pixel centre, by what is left of the weight.
    assert sample_at(window, -0.25, 0.0) == 1
    assert np.isnan(sample_at(window, -0.35, 0.0))
    assert np.isnan(sample_at(window, 5.0, -70.0))


def test_patches_follow_the_map_of_a_full_detector():
    pixmap = pixel_map(0, 0, 37, shape=(4088, 4088), distortion=4e-6)
    gridmap = pixmap.on_grid(grid_of(5000, 5000))
    y0, _, _, x1 = gridmap.grid_window()
    rng = np.random.default_rng(0)
    rows, columns = np.array([[2048, 2304], [y0, y0 + 9]]), np.array([[1024, 1280], [x1 - 1, x1]])
    patches = Patches.fit(gridmap.inverse, rows, columns)
    for row, column in itertools.product(range(2), range(2)):
        ys = rng.uniform(rows[row, 0], rows[row, 1] - 1, 9)
        xs = rng.uniform(columns[column, 0], columns[column, 1] - 1, 9)
        px, sx, py, sy = patches.place[row, column]
        u, v = (np.vander(t, 4, increasing=True) for t in ((xs - px) * sx, (ys - py) * sy))
        got = [v @ c @ u.T for c in patches.coefficients[row, column]]
        np.testing.assert_allclose(got, gridmap.inverse(xs, ys), atol=1e-6)
