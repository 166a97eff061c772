"""Lists of flagged and of bad pixels say what the plane says."""

from itertools import pairwise

import numpy as np
import pytest
from romosaic.dq_list import BadPixels, DqList

PARTS = (
    np.s_[:],
    np.s_[10:20],
    np.s_[6:9, 3:5],
    np.s_[0, 0],
    np.s_[-1, 7:],
    np.s_[-12],
    np.s_[7:7],
    np.s_[30:20, 4:9],
    np.s_[::-1],
    np.s_[20:2:-7, ::2],
    np.s_[-4:, -1],
)


def plane(share, shape=(23, 41)):
    rng = np.random.default_rng(5)
    flagged = rng.random(shape) < share
    return np.where(flagged, rng.integers(1, 1 << 32, shape), 0).astype(np.uint32)


@pytest.mark.parametrize("share", [0.0, 0.05, 1.0])
def test_parts_are_those_of_the_plane(share):
    dq = plane(share)
    found = DqList.of(dq)
    assert found.index.size == np.count_nonzero(dq) and found.index.dtype == np.uint32
    for part in PARTS:
        np.testing.assert_array_equal(found[part], dq[part])
        assert found[part].dtype == np.uint32
    np.testing.assert_array_equal(found, dq)
    with pytest.raises(IndexError):
        found[23]


@pytest.mark.parametrize("share", [0.0, 0.05, 0.6])
@pytest.mark.parametrize("bits", [0, 1, 6, 2**32 - 1])
def test_bad_pixels_are_those_with_a_bit(share, bits):
    dq = plane(share)
    mask = DqList.of(dq).mask(np.uint32(bits))
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, dq & np.uint32(bits) != 0)
    for given in (dq, DqList.of(dq)):
        found = BadPixels.of(given, np.uint32(bits))
        for y0, y1 in ((0, 23), (5, 9), (22, 23), (4, 4)):
            starts, columns = found.of_rows(y0, y1)
            assert starts.size == y1 - y0 + 1
            for y, (start, stop) in enumerate(pairwise(starts), y0):
                expected = np.flatnonzero(dq[y] & np.uint32(bits))
                np.testing.assert_array_equal(columns[start:stop], expected)


def test_a_whole_detector():
    dq = plane(0.01, (4088, 4088))
    given = DqList.of(dq)
    np.testing.assert_array_equal(given[4000:, 4000:], dq[4000:, 4000:])
    found = BadPixels.of(given, np.uint32(1))
    np.testing.assert_array_equal(found.columns[found.starts[4087] :], np.flatnonzero(dq[4087] & 1))
    assert found.starts[-1] == np.count_nonzero(dq & 1)
    assert found.nbytes < 0.01 * dq.nbytes
