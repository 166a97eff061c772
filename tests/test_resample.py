"""Resample: fluxes, weights, variances and context of coadds of exposures in memory."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from drizzle_scene import (
    coadd,
    detector,
    exposure,
    grid,
    noisy,
    parameters,
    planes_of_coadd,
    skycell,
)
from romosaic.dq import FLAGS
from romosaic.errors import ExposureError
from romosaic.resample import MemberUse, exposure_time_map, resample
from romosaic.weights import exposure_weights

VARIANCE = 0.01


def star(pixmap, x0, y0, sigma=3.0) -> np.ndarray:
    """Surface brightness of a Gaussian of flux 1 (per output pixel) at an output position of grid(300)."""
    ny, nx = pixmap.shape
    x, y = pixmap.on_grid(grid(300)).forward(np.arange(nx), np.arange(ny))
    return np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / (2 * sigma**2)) / (2 * np.pi * sigma**2)


# ---- brightness and flux ----------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["tiled", "drizzle"])
def test_constant_brightness_stays_constant_on_a_bent_detector(engine):
    members = [exposure(str(i), 2.5, roll=17.0 * i, bend=4.0, at=(9.0 * i, 0)) for i in range(3)]
    made = coadd(members, grid(200), levels=[0.5] * 3, engine=engine)
    covered = made.weight > 0
    assert covered.sum() > 15000
    assert np.allclose(made.data[covered], 2.0, rtol=1e-6)
    assert np.all(np.isnan(made.data[~covered]))


@pytest.mark.parametrize("place", [(100.0, 110.0), (150.0, 150.0), (205.0, 170.0), (140.0, 205.0)])
def test_flux_of_a_star_is_the_same_all_over_a_bent_detector(place):
    """A star moved over a distorted detector: intensities are not rescaled by area (rc#1637, st#352)."""
    pixmap = detector((90, 90), bend=6.0, roll=35.0)
    made = coadd([exposure(data=star(pixmap, *place), pixmap=pixmap)], grid(300))
    x, y = np.meshgrid(np.arange(300), np.arange(300))
    aperture = np.hypot(x - place[0], y - place[1]) < 20
    assert made.data[aperture].sum() == pytest.approx(1.0, abs=2e-3)


def test_levels_are_subtracted():
    members = [exposure("a", 1.25), exposure("b", 1.5, roll=50.0)]
    made = coadd(members, grid(60), levels=[0.25, 0.5])
    assert np.allclose(made.data, 1.0, rtol=1e-6)
    assert [use.level for use in made.members] == [0.25, 0.5]


def test_engines_make_the_same_coadd():
    """Data to 1e-6 and weight to 1e-5 where 0.3 +- 0.1 is measured: differences to 3e-7 MJy/sr."""
    members = [noisy(str(i), i, roll=31.0 * i, at=(20.0 * i, -10.0)) for i in range(3)]
    ours, library = (coadd(members, grid(180), engine=e) for e in ("tiled", "drizzle"))
    assert np.array_equal(ours.context, library.context)
    covered = ours.weight > 0
    assert np.array_equal(covered, library.weight > 0)
    for name in ("data", "err", "weight", "var_rnoise", "var_poisson"):
        a, b = getattr(ours, name)[covered], getattr(library, name)[covered]
        # noise of either sign: what is relative to the data is so to the pixels they are means of
        assert np.allclose(a, b, rtol=1e-6, atol=3e-7 if name == "data" else 0), name


@pytest.mark.parametrize("kernel", ["point", "turbo", "gaussian", "lanczos3"])
def test_other_kernels_make_valid_coadds(kernel):
    made = coadd([noisy("a", 1), noisy("b", 2, roll=70.0)], grid(150), kernel=kernel)
    covered = made.weight > 0.01 * made.weight.max()
    assert covered.sum() > 3000
    assert np.median(made.data[covered]) == pytest.approx(0.3, abs=0.01)
    known = np.isfinite(made.err[covered])
    assert known.mean() > 0.9
    assert np.all(made.err[covered][known] > 0)


def test_output_smaller_than_input_has_no_holes():
    """Chunks were missing (dz#104), and border pixels of a cell that the input runs over."""
    made = coadd([exposure(shape=(300, 300), roll=30.0)], grid(40))
    assert np.allclose(made.data, 1.0, rtol=1e-6)
    assert np.allclose(made.weight, 0.25 / VARIANCE, rtol=1e-5)


# ---- weights ----------------------------------------------------------------------------------------


def test_weight_is_constant_on_star_cores():
    plain = exposure("a", 1.0)
    bright = exposure("a", 1.0)
    core = np.s_[38:43, 33:38]
    bright.data[core] += 1000.0
    bright.var_poisson[core] *= 500.0
    bright.var_rnoise[core] *= 50.0
    with_star, without = (coadd([m, exposure("b", 1.0)], grid(80)) for m in (bright, plain))
    assert np.array_equal(with_star.weight, without.weight)
    assert with_star.var_poisson.max() > 50 * without.var_poisson.max()


def test_star_core_is_the_mean_by_sky_variance():
    deep, shallow = exposure("a", 10.0, variance=0.01), exposure("b", 20.0, variance=0.03)
    deep.var_poisson[:] *= 100
    made = coadd([deep, shallow], grid(50))
    assert np.allclose(made.data, (10 / 0.01 + 20 / 0.03) / (1 / 0.01 + 1 / 0.03), rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "weight"), [("ivm", 1 / VARIANCE + 4 / VARIANCE), ("exptime", 400.0), ("none", 2.0)]
)
def test_weight_types(kind, weight):
    members = [exposure("a", 1.0), exposure("b", 4.0, variance=VARIANCE / 4)]
    members = [replace(m, exposure_time=t) for m, t in zip(members, (100.0, 300.0), strict=True)]
    made = coadd(members, grid(50), weight_type=kind)
    assert np.allclose(made.weight, weight / 4, rtol=1e-5)
    w = exposure_weights(members, kind)
    assert w.sum() == pytest.approx(weight)
    assert np.allclose(made.data, (w * [1, 4]).sum() / w.sum(), rtol=1e-6)


@pytest.mark.parametrize(("kind", "what"), [("ivm", "sky_variance"), ("exptime", "exposure_time")])
@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_an_exposure_without_a_weight_is_named(kind, what, value):
    members = [exposure("first"), replace(exposure("second"), **{what: value})]
    with pytest.raises(ExposureError, match=r"second: cannot be weighted"):
        coadd(members, grid(50), weight_type=kind)


def test_unknown_weight_type_is_refused():
    with pytest.raises(ValueError, match="ivm, ivm-block, exptime"):
        coadd([exposure()], grid(50), weight_type="error")


# ---- context and exposure time ----------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 32, 33, 70])
def test_context_of_any_number_of_members(n):
    """More than 32 and more than 64 members: context planes were wrong (dz#69, rc#1355)."""
    # every member covers its own place and one place that all share
    shape = (12, 12)
    members = [
        replace(
            exposure(str(i), shape=shape, roll=0.0, at=(0.0 if i % 2 else 30.0 * (i % 7), 0.0)),
            exposure_time=10.0 + i,
        )
        for i in range(n)
    ]
    made = coadd(members, grid(260, 30))
    assert made.context.dtype == np.uint32
    assert made.context.shape == (-(-n // 32), 30, 260)
    bits = np.unpackbits(made.context.view(np.uint8), axis=-1, bitorder="little")
    bits = bits.reshape(-1, 30, 260, 32).transpose(0, 3, 1, 2).reshape(-1, 30, 260)
    for i, member in enumerate(members):
        alone = coadd([member], grid(260, 30))
        assert np.array_equal(bits[i].astype(bool), alone.weight > 0)
        assert made.members[i].n_covered == bits[i].sum()
    assert not bits[n:].any()
    times = np.array([m.exposure_time for m in members])
    expected = np.tensordot(times, bits[:n].astype(float), axes=1)
    assert np.allclose(exposure_time_map(made.context, times), expected, rtol=1e-6)
    assert made.max_exposure_time == pytest.approx(expected.max(), rel=1e-12)
    assert made.exposure_time == pytest.approx(expected[expected > 0].mean(), rel=1e-12)


def test_mean_exposure_time_keeps_its_digits():
    """The exposure-time mean needs float64 (rc#1672)."""
    # a float32 sum of so many pixels is off in the fifth digit
    member = replace(exposure(shape=(800, 800), roll=0.0), exposure_time=139.15)
    made = coadd([member], grid(1500), threads=2)
    assert made.exposure_time == pytest.approx(139.15, rel=1e-12)
    assert made.max_exposure_time == 139.15


# ---- members and grids ------------------------------------------------------------------------------


def test_members_that_miss_the_grid_are_recorded():
    dead = exposure("dead")
    dead.dq[:] = FLAGS["DO_NOT_USE"]
    members = [exposure("far", at=(900.0, 0.0)), exposure("near"), dead]
    made = coadd(members, grid(50))
    assert [use.status for use in made.members] == ["OUTSIDE", "USED", "NO_GOOD_PIXELS"]
    assert [use.exposure for use in made.members] == ["far", "near", "dead"]
    assert np.unique(made.context).tolist() == [2]
    assert made.members[0].window is None
    assert made.members[2].n_used == made.members[2].n_covered == 0


def test_uses_of_members_become_plain_types():
    members = [exposure("far", at=(900.0, 0.0)), exposure("near")]
    far, near = (use.to_tree() for use in coadd(members, grid(50), levels=[0.5, 0.25]).members)
    assert (far["exposure"], far["status"], far["window"]) == ("far", "OUTSIDE", None)
    assert (near["exposure"], near["status"], near["level"]) == ("near", "USED", 0.25)
    assert near["n_used"] > 0 and near["weight"] > 0
    assert far.keys() == near.keys() == set(MemberUse.__dataclass_fields__)
    assert {type(value) for value in near.values()} == {str, int, float, list}
    assert {type(edge) for edge in near["window"]} == {int}


@pytest.mark.parametrize("engine", ["tiled", "drizzle"])
@pytest.mark.parametrize("members", [[], [exposure(at=(900.0, 0.0))]], ids=["none", "far"])
def test_a_coadd_without_coverage_is_valid(members, engine):
    made = coadd(members, grid(40, 30), engine=engine)
    assert np.isnan(made.data).all()
    assert np.isnan(made.err).all()
    assert not made.weight.any()
    assert made.context.shape == (1, 30, 40)
    assert not made.context.any()
    assert made.exposure_time == made.max_exposure_time == 0.0


def test_a_nearly_empty_coadd_is_valid():
    """Overlaps of a few hundred pixels gave an all-NaN coadd (rc#1765)."""
    made = coadd([exposure(shape=(60, 60), roll=45.0, at=(148.0, 0.0))], grid(150))
    n = np.count_nonzero(made.weight)
    assert 0 < n < 400
    assert made.members[0].n_covered == n
    assert np.isfinite(made.data).sum() == n
    assert np.allclose(made.data[made.weight > 0], 1.0, rtol=1e-5)


def test_only_the_rows_of_the_window_are_read():
    class Spy(np.ndarray):
        def __getitem__(self, key):
            seen.extend([key] if isinstance(key, slice) else [])
            return super().__getitem__(key)

    seen = []
    member = exposure(shape=(600, 600), roll=0.0)
    member.data = member.data.view(Spy)
    made = coadd([member], grid(100))
    assert np.allclose(made.data, 1.0)
    assert 265 < min(rows.start for rows in seen) <= 275
    assert 325 <= max(rows.stop for rows in seen) < 335


def test_one_member_and_members_that_do_not_overlap():
    """One member, and two disjoint groups: each place is the mean of what is there (jw#5304)."""
    apart = [exposure("a", 1.0, at=(-100.0, 0.0)), exposure("b", 3.0, at=(100.0, 0.0))]
    alone = [coadd([member], grid(400)) for member in apart]
    made = coadd(apart, grid(400))
    assert np.unique(made.context).tolist() == [0, 1, 2]
    for i, one in enumerate(alone):
        covered = made.context[0] == 1 << i
        assert np.array_equal(covered, one.weight > 0)
        assert np.array_equal(made.data[covered], one.data[covered])
        assert np.array_equal(made.err[covered], one.err[covered])


def test_lists_must_have_one_length():
    with pytest.raises(ValueError, match="2 exposures, 1 levels"):
        resample([exposure("a"), exposure("b")], [0.0], [None, None], grid(20), parameters())


def test_neighbouring_cells_agree_bit_for_bit_whatever_else_they_hold():
    shared = [
        noisy(f"s{i}", i, shape=(200, 220), roll=40.0 * i, at=(2400.0, 30.0 * i)) for i in range(3)
    ]
    # a member that only the western cell has, a hundred times deeper: other weights, other units
    west_only = exposure("a", shape=(50, 50), variance=1e-4, at=(2000.0, 0.0))
    west = coadd([west_only, *shared], skycell(0, 0))
    east = coadd(shared, skycell(1, 0))
    rows = slice(2200, 2900)
    for a, b in zip(planes_of_coadd(west)[:-1], planes_of_coadd(east)[:-1], strict=True):
        assert np.array_equal(a[rows, 4800:], b[rows, :200], equal_nan=True)
    assert np.count_nonzero(west.weight[rows, 4800:]) > 50000
    assert np.array_equal(west.context[:, rows, 4800:] >> np.uint32(1), east.context[:, rows, :200])


def test_same_bits_for_any_number_of_threads():
    members = [noisy(str(i), i, shape=(500, 480), roll=50.0 * i) for i in range(2)]
    one, *others = (coadd(members, grid(1000), threads=n) for n in (1, 2, 3))
    for other in others:
        for a, b in zip(planes_of_coadd(one), planes_of_coadd(other), strict=True):
            assert np.array_equal(a, b, equal_nan=True)
        assert one.members == other.members and one.noise == other.noise


def test_memory_does_not_grow_with_the_members():
    member = exposure(shape=(300, 300))
    peaks = []
    for n in (2, 20):
        tracemalloc.start()
        coadd([member] * n, grid(500))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    window = 300 * 300 * 4
    assert peaks[1] < peaks[0] + 0.5 * window
    assert peaks[1] < 6 * 500 * 500 * 4 + 15 * window + 500 * 500 * 8 * 5


def test_inputs_are_left_as_they_are():
    member = noisy("a", 1)
    before = [np.copy(a) for a in (member.data, member.dq, member.var_rnoise)]
    for array in (member.data, member.dq, member.var_rnoise, member.var_poisson):
        array.flags.writeable = False
    coadd([member], grid(150), levels=[0.3], flagged=[np.array([100], np.uint32)])
    for a, b in zip(before, (member.data, member.dq, member.var_rnoise), strict=True):
        assert np.array_equal(a, b)
