"""Sky levels on block statistics: values, errors, groups, methods and edge cases."""

from types import SimpleNamespace

import numpy as np
import pytest
from romosaic.grid import Grid
from romosaic.pixmap import PixelMap
from romosaic.skymatch import COMPLETE, SKIPPED, match_sky, robust_mean

SHAPE, SIZE, SCALE = (512, 448), 64, 0.11 / 3600


def parameters(**changed):
    values = {
        "skymethod": "match",
        "match_down": True,
        "skystat": "mode",
        "nclip": 5,
        "lsigma": 4.0,
        "usigma": 4.0,
    }
    return {**values, **changed}


def member(dx=0.0, dy=0.0, roll=0.0, level=0.0, sky=None, noise=0.0, seed=0, center=(150.0, 2.0)):
    """An exposure at an offset (pixels) and roll (degrees); `sky`(ra, dec) is the true sky, MJy/sr."""
    c, s = np.cos(np.radians(roll)), np.sin(np.radians(roll))
    plane = Grid(*center, 0.0, 0.0, SCALE, 1, 1)
    ny, nx = SHAPE

    def wcs(x, y):
        # A Roman-like distortion: a quadratic term of a few pixels.
        u, v = x - nx / 2, y - ny / 2
        u, v = u + 2e-5 * u * v, v + 1e-5 * u**2
        return plane.to_sky(c * u - s * v + dx, s * u + c * v + dy)

    pixmap = PixelMap.fit(wcs, SHAPE)
    x, y = (
        (np.arange(0, n, SIZE) + np.minimum(np.arange(SIZE, n + SIZE, SIZE), n) - 1) / 2
        for n in (nx, ny)
    )
    ra, dec = pixmap.sky(*np.meshgrid(x, y))
    value = level + (sky(ra, dec) if sky else np.zeros(ra.shape))
    value = value + noise * np.random.default_rng(seed).normal(size=ra.shape)
    blocks = {
        "size": SIZE,
        "x": x,
        "y": y,
        "value": value.astype(np.float32),
        "error": np.full(ra.shape, max(noise, 1e-4), np.float32),
        "n_good": np.full(ra.shape, SIZE**2, np.int32),
    }
    return SimpleNamespace(shape=SHAPE, sky_blocks=blocks, pixmap=pixmap)


def gradient(ra, dec):
    return 0.3 + 20 * (ra - 150) + 35 * (dec - 2)


def test_levels_under_dithers_rolls_and_a_gradient():
    true = np.array([0.02, 0.11, 0.0, 0.05])
    places = [(0, 0, 0), (31, -17, 0), (-120, 200, 33), (210, 90, -90)]
    members = [
        member(dx, dy, roll, level, gradient)
        for (dx, dy, roll), level in zip(places, true, strict=True)
    ]
    result = match_sky(members, parameters())
    np.testing.assert_allclose(result.level, true, atol=2e-4)
    assert result.status == [COMPLETE] * 4
    assert result.group.tolist() == [0, 0, 0, 0]
    assert len(result.pairs["i"]) == 6
    np.testing.assert_allclose(result.pairs["residual"], 0, atol=3e-4)


def test_order_of_members_does_not_matter():
    places = [(0, 0, 0), (31, -17, 10), (-120, 200, 33), (210, 90, -90)]
    members = [member(*place, 0.1 * k, gradient, 0.002, seed=k) for k, place in enumerate(places)]
    level = match_sky(members, parameters()).level
    turned = match_sky(members[::-1], parameters()).level[::-1]
    np.testing.assert_allclose(turned, level, atol=1e-9)


def test_errors_are_those_of_the_scatter():
    pulls, n = [], 60
    for seed in range(n):
        pair = [member(0, 0, 0, 0.1, noise=0.003, seed=2 * seed), None]
        pair[1] = member(40, 27, 0, 0.2, noise=0.003, seed=2 * seed + 1)
        pairs = match_sky(pair, parameters()).pairs
        pulls.append((pairs["difference"][0] + 0.1) / pairs["error"][0])
    assert abs(np.mean(pulls)) < 4 / np.sqrt(n)
    assert 0.75 < np.std(pulls) < 1.25


def test_sources_in_some_blocks_do_not_count():
    members = [member(20 * k, 13 * k, 0, 0.05 * k, gradient, 5e-4, seed=k) for k in range(3)]
    rng = np.random.default_rng(5)
    for one in members:
        value = one.sky_blocks["value"]
        value[rng.random(value.shape) < 0.15] += rng.exponential(0.3)
    result = match_sky(members, parameters())
    np.testing.assert_allclose(result.level, [0, 0.05, 0.1], atol=6e-4)


def test_identical_copies_have_equal_levels():
    members = [member(0, 0, 20, 0.4, gradient, 0.01, seed=3) for _ in range(5)]
    result = match_sky(members, parameters())
    np.testing.assert_allclose(result.level, 0, atol=1e-7)
    assert result.status == [COMPLETE] * 5
    for method in ("local", "global", "global+match"):
        level = match_sky(members, parameters(skymethod=method)).level
        np.testing.assert_allclose(level, level[0], atol=1e-7)


def test_match_up_puts_the_highest_at_zero():
    members = [member(10 * k, 0, 0, level) for k, level in enumerate((0.3, 0.5, 0.4))]
    up = match_sky(members, parameters(match_down=False)).level
    np.testing.assert_allclose(up, [-0.2, 0, -0.1], atol=1e-6)


@pytest.mark.parametrize("skystat", ["mean", "median", "midpt", "mode"])
def test_local_and_global(skystat):
    members = [member(10 * k, 0, 0, level, noise=1e-3) for k, level in enumerate((0.3, 0.5, 0.4))]
    members[1].sky_blocks["value"][2, 3] = 50.0  # clipped
    local = match_sky(members, parameters(skymethod="local", skystat=skystat))
    np.testing.assert_allclose(local.level, [0.3, 0.5, 0.4], atol=1e-3)
    common = match_sky(members, parameters(skymethod="global", skystat=skystat))
    np.testing.assert_array_equal(common.level, local.level.min())


def test_global_match_adds_one_sky_to_matched_levels():
    members = [member(10 * k, 0, 0, level) for k, level in enumerate((0.3, 0.5, 0.4))]
    result = match_sky(members, parameters(skymethod="global+match"))
    np.testing.assert_allclose(result.level, [0.3, 0.5, 0.4], atol=1e-5)


def test_nclip_zero_keeps_every_block():
    one = member(level=0.3)
    one.sky_blocks["value"][0, 0] = 5.9
    values = one.sky_blocks["value"].size
    wanted = 0.3 + 5.6 / values
    settings = {"skymethod": "local", "skystat": "mean"}
    assert match_sky([one], parameters(nclip=0, **settings)).level[0] == pytest.approx(wanted)
    assert match_sky([one], parameters(**settings)).level[0] == pytest.approx(0.3)


def test_one_member_has_nothing_to_match():
    result = match_sky([member(level=0.3)], parameters())
    assert result.level.tolist() == [0.0]
    assert result.status == [SKIPPED]
    assert result.group.tolist() == [0]
    assert all(column.size == 0 for column in result.pairs.values())
    for method in ("local", "global", "global+match"):
        result = match_sky([member(level=0.3)], parameters(skymethod=method))
        assert result.level[0] == pytest.approx(0.3)
        assert result.status == [COMPLETE]


def test_members_that_do_not_overlap_are_skipped():
    members = [member(level=0.3), member(dx=1000, level=0.5), member(level=0.1, center=(-30, -80))]
    result = match_sky(members, parameters())
    assert result.level.tolist() == [0.0, 0.0, 0.0]
    assert result.status == [SKIPPED] * 3
    assert result.group.tolist() == [0, 1, 2]


def test_two_disjoint_groups_each_have_their_own_zero():
    members = [
        member(0, 0, 0, 0.30),
        member(5000, 0, 0, 0.90),
        member(50, 30, 10, 0.35),
        member(5060, 0, 0, 0.80),
        member(0, 9000, 0, 0.70),
    ]
    result = match_sky(members, parameters())
    np.testing.assert_allclose(result.level, [0, 0.1, 0.05, 0, 0], atol=1e-5)
    assert result.group.tolist() == [0, 1, 0, 1, 2]
    assert result.status == [COMPLETE] * 4 + [SKIPPED]
    assert sorted(zip(result.pairs["i"], result.pairs["j"], strict=True)) == [(0, 2), (1, 3)]


def test_chain_of_overlaps_is_one_group():
    # First and last see no common sky: the solution goes through the middle.
    members = [member(300 * k, 0, 0, 0.1 * k) for k in range(4)]
    result = match_sky(members, parameters())
    assert len(result.pairs["i"]) == 3
    np.testing.assert_allclose(result.level, [0, 0.1, 0.2, 0.3], atol=1e-5)


def test_member_without_a_valid_block_is_skipped():
    members = [member(10 * k, 0, 0, 0.1 * k) for k in range(3)]
    members[0].sky_blocks["value"][:] = np.nan
    members[0].sky_blocks["n_good"][:] = 0
    for method, level in (
        ("match", [0, 0, 0.1]),
        ("local", [0, 0.1, 0.2]),
        ("global", [0, 0.1, 0.1]),
        ("global+match", [0, 0.1, 0.2]),
    ):
        result = match_sky(members, parameters(skymethod=method))
        np.testing.assert_allclose(result.level, level, atol=1e-5)
        assert result.status == [SKIPPED, COMPLETE, COMPLETE]


def test_no_valid_block_anywhere():
    members = [member(10 * k, 0, 0, 0.1 * k) for k in range(2)]
    for one in members:
        one.sky_blocks["value"][:] = np.nan
    for method in ("match", "local", "global", "global+match"):
        result = match_sky(members, parameters(skymethod=method))
        assert result.level.tolist() == [0.0, 0.0]
        assert result.status == [SKIPPED, SKIPPED]


def test_blocks_without_value_or_error_are_left_out():
    members = [member(33 * k, 5, 3 * k, 0.1 * k, gradient) for k in range(2)]
    rng = np.random.default_rng(1)
    spoiled = rng.random(members[0].sky_blocks["value"].shape)
    members[0].sky_blocks["value"][spoiled < 0.2] = np.nan
    members[0].sky_blocks["error"][(spoiled > 0.2) & (spoiled < 0.3)] = np.inf
    members[0].sky_blocks["n_good"][(spoiled > 0.3) & (spoiled < 0.4)] = 0
    members[0].sky_blocks["value"][(spoiled > 0.3) & (spoiled < 0.4)] = 99
    result = match_sky(members, parameters())
    np.testing.assert_allclose(result.level, [0, 0.1], atol=1e-3)


def test_across_ra_zero_and_at_the_pole():
    for center in ((0.0, 1.0), (0.0, 90.0), (77.0, -89.99)):
        members = [member(60 * k, 20, 40 * k, 0.1 * k, center=center) for k in range(3)]
        result = match_sky(members, parameters())
        np.testing.assert_allclose(result.level, [0, 0.1, 0.2], atol=1e-5)


def test_unknown_choices_are_refused():
    with pytest.raises(ValueError, match="skymethod"):
        match_sky([member()], parameters(skymethod="best"))
    with pytest.raises(ValueError, match="skystat"):
        match_sky([member()], parameters(skymethod="local", skystat="max"))


def test_no_members():
    result = match_sky([], parameters())
    assert result.level.size == 0
    assert result.status == []


def test_robust_mean_of_equal_values_with_zero_errors():
    mean, error, count = robust_mean(np.array([2.0, 2.0, 2.0, 9.0]), np.zeros(4))
    assert (mean, count) == (2.0, 3)
    assert np.isfinite(error)


def test_robust_mean_weights_by_the_variance():
    mean, error, _ = robust_mean(np.array([1.0, 1.2]), np.array([1.0, 3.0]))
    assert mean == pytest.approx(1.05)
    assert error == pytest.approx(np.sqrt(0.75))
