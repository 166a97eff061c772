"""Sky levels on block statistics: values, errors, groups, methods and edge cases."""

import numpy as np
import pytest
from romosaic.errors import ConfigError
from romosaic.skymatch import COMPLETE, SKIPPED, match_sky
from sky_scene import gradient, member, parameters


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
    result, turned = (match_sky(order, parameters()) for order in (members, members[::-1]))
    np.testing.assert_array_equal(turned.level[::-1], result.level)
    assert turned.names[::-1] == result.names
    found = {(result.names[i], result.names[j]): k for k, (i, j) in enumerate(ends(result))}
    for k, (i, j) in enumerate(ends(turned)):
        same = found[turned.names[j], turned.names[i]]
        assert turned.pairs["difference"][k] == -result.pairs["difference"][same]
        assert turned.pairs["error"][k] == result.pairs["error"][same]
        assert i < j


def ends(result):
    return list(zip(result.pairs["i"], result.pairs["j"], strict=True))


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
    for method in ("local", "global+match"):
        result = match_sky(members, parameters(skymethod=method))
        np.testing.assert_allclose(result.level, [0.3, 0.5, 0.1], atol=1e-6)
        assert result.status == [COMPLETE] * 3


def two_groups():
    """Members 0 and 2 overlap, 1 and 3 do, and 4 is alone."""
    return [
        member(0, 0, 0, 0.30),
        member(5000, 0, 0, 0.90),
        member(50, 30, 10, 0.35),
        member(5060, 0, 0, 0.80),
        member(0, 9000, 0, 0.70),
    ]


def test_two_disjoint_groups_each_have_their_own_zero():
    result = match_sky(two_groups(), parameters())
    np.testing.assert_allclose(result.level, [0, 0.1, 0.05, 0, 0], atol=1e-5)
    assert result.group.tolist() == [0, 1, 0, 1, 2]
    assert result.status == [COMPLETE] * 4 + [SKIPPED]
    assert ends(result) == [(0, 2), (1, 3)]


def test_two_disjoint_groups_each_have_their_own_global_level():
    """The sky that is left after matching: one level for all would leave light in the brighter groups."""
    result = match_sky(two_groups(), parameters(skymethod="global+match"))
    np.testing.assert_allclose(result.level, [0.3, 0.9, 0.35, 0.8, 0.7], atol=1e-5)
    common = match_sky(two_groups(), parameters(skymethod="global"))
    np.testing.assert_allclose(common.level, 0.3, atol=1e-6)


def test_disjoint_groups_are_named_where_it_matters():
    members = two_groups()
    a, b, c, d, e = (one.name for one in members)
    result = match_sky(members, parameters())
    assert result.groups == [[a, c], [b, d], [e]]
    tree = result.to_tree(parameters(subtract=True))
    assert tree["groups"] == result.groups
    assert [row["group"] for row in tree["members"]] == [0, 1, 0, 1, 2]
    assert [row["subtracted"] for row in tree["members"]] == [True] * 5
    for method in ("match", "global+match"):
        *lines, warning = result.report(method)
        assert len(lines) == 5 and lines[1] == f"{b} 0.10000 MJy/sr COMPLETE"
        assert warning.startswith("warning: 3 groups of members do not overlap; their levels are")
        assert warning.endswith(f"{a}, {c} | {b}, {d} | {e}")
    assert len(result.report("local")) == len(result.report("global")) == 5
    alike = match_sky([members[0], members[2]], parameters())
    assert alike.groups == [[a, c]] and len(alike.report("match")) == 2


@pytest.mark.parametrize("pixels", [1, 138])
def test_an_overlap_smaller_than_a_block_leaves_two_groups(pixels):
    """A few pixels of common sky hold no block of either member: nothing to compare, nothing to solve."""
    members = [member(level=0.3), member(dx=-447, dy=512 - pixels, level=0.5)]
    result = match_sky(members, parameters())
    assert result.level.tolist() == [0, 0] and result.status == [SKIPPED, SKIPPED]
    assert result.group.tolist() == [0, 1]
    assert "2 groups" in result.report("match")[-1]


def test_rank_deficient_systems_have_the_smallest_solution():
    """m members have m - 1 independent differences, or fewer in groups; weights may differ by 1e8."""
    members = two_groups()
    members[2].sky_blocks["error"][:] = 1.0
    members[3].sky_blocks["error"][:] = 1e-8
    result = match_sky(members, parameters())
    np.testing.assert_allclose(result.level, [0, 0.1, 0.05, 0, 0], atol=1e-5)
    np.testing.assert_allclose(result.pairs["residual"], 0, atol=1e-9)


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


def test_levels_of_the_user_are_taken_as_they_are():
    members = [member(10 * k, 0, 0, 0.1 * k, gradient) for k in range(3)]
    members[2].sky_blocks["value"][:] = np.nan
    levels = {one.name: level for one, level in zip(members, (0.0, 0.13, -7.0), strict=True)}
    settings = parameters(skymethod="user", match_down=False)
    result = match_sky(members, settings, levels | {"another": 3.0})
    assert result.level.tolist() == [0.0, 0.13, -7.0]
    assert result.status == [COMPLETE] * 3
    # What the given levels leave: 0.03 of the 0.1 between the two.
    np.testing.assert_allclose(result.pairs["residual"], [0.03], atol=1e-4)


def test_members_without_a_level_of_the_user_are_named():
    members = [member(10 * k) for k in range(6)]
    names = [one.name for one in members]
    levels = {names[0]: 0.1, names[1]: None}
    with pytest.raises(ConfigError) as caught:
        match_sky(members, parameters(skymethod="user"), levels)
    assert str(caught.value) == (
        f"skymatch.skylist: has no level for {', '.join(names[1:4])} and 2 more -> add a line for each"
    )


def test_no_members():
    result = match_sky([], parameters())
    assert result.level.size == 0
    assert result.status == []
