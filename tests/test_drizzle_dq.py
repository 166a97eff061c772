"""Data quality of coadds: the flags of the detector pixels that contribute, and of no others."""

import tracemalloc

import numpy as np
import pytest
from drizzle_scene import coadd, exact_sums, exposure, grid
from romosaic import drizzle_dq
from romosaic.dq import FLAGS

GOOD = {name: FLAGS[name] for name in ("JUMP_DET", "WARM", "SATURATED", "REFERENCE_PIXEL")}


def flagged(name="a", seed=1, fraction=0.02, **where):
    """Exposure with random flags, some of them on bad pixels."""
    member = exposure(name, **where)
    rng = np.random.default_rng(seed)
    for bit in (*GOOD.values(), FLAGS["DO_NOT_USE"]):
        member.dq[rng.random(member.shape) < fraction] |= np.uint32(bit)
    return member


def exact_flags(members, output) -> np.ndarray:
    """OR of the flags of all good pixels that overlap, pixel by pixel."""
    dq = np.zeros(output.shape, np.uint32)
    for member in members:
        good = (member.dq & FLAGS["DO_NOT_USE"]) == 0
        bits = np.array(list(GOOD.values()), np.uint32)
        planes = good[..., None] & ((member.dq[..., None] & bits) != 0)
        for bit, overlap in zip(bits, exact_sums(member.pixmap, planes * 1.0, output), strict=True):
            dq[overlap > 1e-7] |= bit
    return dq


def test_flags_are_those_of_all_pixels_that_overlap(monkeypatch):
    monkeypatch.setattr(drizzle_dq, "BLOCK", 9)  # several blocks: a border leaves no trace
    members = [
        flagged("a", 1, shape=(20, 22), roll=31.0, bend=0.02),
        flagged("b", 2, shape=(20, 22), roll=-70.0, at=(12.0, 9.0)),
    ]
    output = grid(40, 44)
    expected = exact_flags(members, output)
    assert np.count_nonzero(expected) > 200
    for engine in ("tiled", "drizzle"):
        made = coadd(members, output, engine=engine, propagate_dq=True)
        assert made.dq.dtype == np.uint32 and made.dq.shape == output.shape
        # the exact overlaps count corners of 1e-7, the library those above its rounding
        assert np.count_nonzero(made.dq != expected) <= 1
        assert not (made.dq & FLAGS["DO_NOT_USE"]).any()
        assert not made.dq[made.weight == 0].any()


@pytest.mark.parametrize(
    ("kernel", "pixfrac"), [("square", 0.5), ("point", 1.0), ("gaussian", 1.0)]
)
def test_flags_spread_as_the_kernel_does(kernel, pixfrac):
    members = {}
    for name, bit in (("clean", 0), ("flagged", FLAGS["JUMP_DET"])):
        member = exposure(name, shape=(30, 30), roll=12.0)
        member.dq[15, 15] = bit
        member.data[15, 15] = 2.0
        members[name] = member
    made = coadd([members["flagged"]], grid(50), kernel=kernel, pixfrac=pixfrac, propagate_dq=True)
    # where the one pixel that differs is felt
    felt = (np.abs(made.data - 1) > 1e-6) & (made.weight > 0)
    assert felt.any()
    assert np.array_equal(made.dq == FLAGS["JUMP_DET"], felt)
    clean = coadd([members["clean"]], grid(50), kernel=kernel, pixfrac=pixfrac, propagate_dq=True)
    assert not clean.dq.any()


def test_flags_of_outliers_stay_out_and_good_bits_let_flags_in():
    member = exposure(shape=(30, 30), roll=0.0)
    member.dq[10, 10] = FLAGS["JUMP_DET"]
    member.dq[20, 20] = FLAGS["DO_NOT_USE"] | FLAGS["HOT"]
    flat = [np.array([10 * 30 + 10], np.uint32)]
    out = coadd([member], grid(60), flagged=flat, propagate_dq=True)
    assert not out.dq.any()
    everything = coadd([member], grid(60), good_bits=None, propagate_dq=True)
    assert set(np.unique(everything.dq)) == {
        0,
        FLAGS["JUMP_DET"],
        FLAGS["DO_NOT_USE"] | FLAGS["HOT"],
    }


def test_dq_is_made_when_asked_for():
    member = flagged()
    plain, asked = (coadd([member], grid(80), propagate_dq=on) for on in (False, True))
    assert plain.dq is None
    assert np.array_equal(plain.data, asked.data, equal_nan=True)
    far = coadd([exposure(at=(900.0, 0.0))], grid(40), propagate_dq=True)
    assert not far.dq.any()


def test_memory_is_that_of_blocks():
    member = flagged(shape=(1300, 1300))
    output = grid(600)
    sums = drizzle_dq.DqSum(output, "square", 1.0)
    covered, good = np.ones(output.shape, bool), np.ones(member.shape, bool)
    tracemalloc.start()
    sums.add(member.pixmap, (0, 1300, 0, 1300), member.dq, good, covered)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # a turned block of 512 lies in a box of 1400 x 1400: positions, weights, sums and flags
    assert peak < 60e6
    assert sums.dq.any()
