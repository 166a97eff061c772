"""Differences of overlapping members: errors, choice of partners, accuracy under a sky with sources."""

import numpy as np
import pytest
from romosaic import sky_pairs
from romosaic.sky_pairs import measure_pairs, overlaps, pair_difference, read_blocks, robust_mean
from romosaic.skymatch import match_sky
from sky_scene import gradient, halo, imaged, member, parameters


def read(*members):
    return [read_blocks(one) for one in members]


# ---- which members overlap ----


def test_overlaps_of_outlines():
    turned = member(0, 655, 45)  # a corner of it comes down to the first one's upper edge
    near, far = member(460, 0, 0), member(0, 0, 0, center=(-30, -80))
    blind = member()
    blind.sky_blocks["n_good"][:] = 0
    i, j, distance = overlaps(read(member(), member(300, 0, 0), turned, near, far, blind))
    # Circles around the first and the fourth meet, their outlines do not.
    assert list(zip(i, j, strict=True)) == [(0, 1), (1, 3)]
    np.testing.assert_allclose(
        distance, np.radians([300 * 0.11 / 3600, 160 * 0.11 / 3600]), rtol=1e-3
    )
    i, j, _ = overlaps(read(member(), member(0, 545, 45)))
    assert i.tolist() == [0] and j.tolist() == [1]


def test_no_members_no_pairs():
    assert all(column.size == 0 for column in measure_pairs([]).values())


@pytest.mark.parametrize("spread", [0, 60])
def test_many_members_choose_a_bounded_number_of_partners(spread, monkeypatch):
    """At one place and about it; the levels are as good as from all pairs."""
    rng = np.random.default_rng(3)
    n = 5 * sky_pairs.PARTNERS
    true = rng.uniform(0, 0.3, n)
    places = rng.uniform(-spread, spread, (n, 2))
    members = [
        member(*place, 0, level, gradient, 0.002, seed=k)
        for k, (place, level) in enumerate(zip(places, true, strict=True))
    ]
    result = match_sky(members, parameters())
    assert result.group.tolist() == [0] * n
    each = np.bincount(np.r_[result.pairs["i"], result.pairs["j"]], minlength=n)
    assert each.min() >= sky_pairs.PARTNERS
    assert each.max() < n / 2 and len(result.pairs["i"]) <= n * sky_pairs.PARTNERS
    monkeypatch.setattr(sky_pairs, "PARTNERS", n)
    every = match_sky(members, parameters())
    assert len(every.pairs["i"]) == n * (n - 1) / 2
    # Both are at the limit that the noise of the members' own 56 blocks sets.
    assert np.std(result.level - true) < 1.1 * np.std(every.level - true)
    assert np.std(every.level - true) < 1.5 * 0.002 / np.sqrt(56)


def test_partners_are_chosen_until_all_that_overlap_are_connected(monkeypatch):
    """Two dense places, a single bridge: who chooses one partner only does not see it."""
    monkeypatch.setattr(sky_pairs, "PARTNERS", 1)
    members = [member(k, 0, 0, 0.1) for k in range(4)] + [
        member(330 + k, 0, 0, 0.2) for k in range(4)
    ]
    result = match_sky(members, parameters())
    assert result.group.tolist() == [0] * 8
    np.testing.assert_allclose(result.level, [0] * 4 + [0.1] * 4, atol=1e-5)


# ---- differences and their errors ----


def test_errors_are_those_of_the_scatter():
    pulls, n = [], 60
    for seed in range(n):
        pair = read(
            member(0, 0, 0, 0.1, noise=0.003, seed=2 * seed),
            member(40, 27, 20 * (seed % 3), 0.2, noise=0.003, seed=2 * seed + 1),
        )
        difference, error, _ = pair_difference(*pair)
        pulls.append((difference + 0.1) / error)
    assert abs(np.mean(pulls)) < 4 / np.sqrt(n)
    assert 0.75 < np.std(pulls) < 1.25


def test_difference_turns_its_sign_with_the_pair():
    one, two = read(
        member(0, 0, 0, 0.1, gradient, 0.003, 1), member(77, 31, 30, 0.3, gradient, 0.003, 2)
    )
    forth, back = pair_difference(one, two), pair_difference(two, one)
    assert forth[0] == pytest.approx(-back[0], abs=1e-12) and forth[1:] == pytest.approx(back[1:])


def test_blocks_hold_no_more_than_they_need():
    one = member(shape=(4088, 4088))
    sizes = [
        value.nbytes for value in vars(read_blocks(one)).values() if isinstance(value, np.ndarray)
    ]
    assert sum(sizes) < 110_000  # a thousand members in 110 MB


# ---- accuracy on images ----

PLACES = [(0, 0, 0), (31, -17, 12), (-90, 60, 33), (60, 90, -90), (-40, -70, 75), (15, 35, 180)]
TRUE = np.array([0.02, 0.11, 0.0, 0.05, 0.3, 0.27])


@pytest.mark.parametrize(
    ("light", "stars"),
    [(None, 0.0), (halo(20.0, 25.0), 0.5), (halo(0.5, 300.0), 0.5), (None, 6.0)],
    ids=["empty", "galaxy", "halo", "crowded"],
)
@pytest.mark.parametrize("n", [2, 6])
def test_levels_under_a_sky_with_sources(light, stars, n):
    members = [
        imaged(*place, level, light, stars, seed=k)
        for k, (place, level) in enumerate(zip(PLACES[:n], TRUE[:n], strict=True))
    ]
    result = match_sky(members, parameters())
    error = result.level - TRUE[:n]
    error -= error.mean()
    # A block's mode is good to 2.08 x 0.04 / 64, the mean of 40 blocks to 2e-4; sources double that.
    assert np.abs(error).max() < (8e-4 if light or stars else 5e-4)


# ---- mean of a pair ----


def test_robust_mean_of_equal_values_with_zero_errors():
    mean, error, count = robust_mean(np.array([2.0, 2.0, 2.0, 9.0]), np.zeros(4))
    assert (mean, count) == (2.0, 3)
    assert np.isfinite(error)


def test_robust_mean_weights_by_the_variance():
    mean, error, _ = robust_mean(np.array([1.0, 1.2]), np.array([1.0, 3.0]))
    assert mean == pytest.approx(1.05)
    assert error == pytest.approx(np.sqrt(0.75))
