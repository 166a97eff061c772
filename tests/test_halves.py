"""Half-precision conversions: bit for bit those of numpy, except that finite values stay finite."""

import numpy as np
import pytest
from romosaic.halves import from_half, half_table, is_positive, scale_half, to_half
from romosaic.resample_kernels import widen

ALL = np.arange(1 << 16, dtype=np.uint16).view(np.float16)


@pytest.mark.parametrize("factor", [1.0, 0.7708, 0.7708**2, 1e-12, 3e4])
def test_from_half_is_the_product_in_float32(factor):
    with np.errstate(all="ignore"):
        expected = ALL.astype(np.float32) * np.float32(factor)
    found = from_half(ALL.reshape(256, 256), factor)
    assert found.dtype == np.float32 and found.shape == (256, 256)
    np.testing.assert_array_equal(found.ravel(), expected)


def test_from_half_takes_views_and_either_byte_order():
    array = ALL.reshape(256, 256)[3:40:2, ::-3]
    np.testing.assert_array_equal(from_half(array), array.astype(np.float32))
    np.testing.assert_array_equal(from_half(array.astype(">f2")), array.astype(np.float32))
    assert from_half(np.empty((0, 5), np.float16)).shape == (0, 5)


def test_widened_halves_are_the_same_numbers():
    """To the bit, the least ones too, whatever the processor does with small numbers."""
    bits, out = ALL.view(np.uint16).reshape(64, 1024), np.full((64, 1000), -7, np.float32)
    widen(bits, 24, half_table(), out)
    expected = half_table().reshape(64, 1024)[:, 24:]
    np.testing.assert_array_equal(out.view(np.uint32), expected.view(np.uint32))
    number = np.isfinite(expected)
    np.testing.assert_array_equal(out[number], ALL.reshape(64, 1024)[:, 24:][number].astype(float))


def test_to_half_gives_every_half_back():
    with np.errstate(invalid="ignore"):
        found = to_half(ALL.astype(np.float32))
    number = ~np.isnan(ALL)
    np.testing.assert_array_equal(found.view(np.uint16)[number], ALL.view(np.uint16)[number])
    assert np.isnan(found[~number]).all()


def test_to_half_rounds_as_numpy_does():
    rng = np.random.default_rng(2)
    bits = rng.integers(0, 1 << 32, 500_000, dtype=np.uint32)
    halves = ALL[np.isfinite(ALL)].astype(np.float64)
    ties = np.unique(halves)
    ties = ((ties[1:] + ties[:-1]) / 2).astype(np.float32)
    tiny = rng.uniform(-2e-7, 2e-7, 10_000).astype(np.float32)
    for values in (bits.view(np.float32), ties, np.nextafter(ties, np.float32(0)), tiny):
        with np.errstate(all="ignore"):
            expected = values.astype(np.float16)
        kept = np.isfinite(expected)
        found = to_half(values)
        np.testing.assert_array_equal(found[kept], expected[kept])
        assert np.array_equal(np.signbit(found[kept]), np.signbit(expected[kept]))
        np.testing.assert_array_equal(np.isnan(found), np.isnan(values))


def test_to_half_keeps_finite_values_finite():
    values = np.array([65504, 65519, 65520, 1e5, 3e38, -1e9, np.inf, -np.inf], np.float32)
    big = 65504
    np.testing.assert_array_equal(
        to_half(values), np.array([big, big, big, big, big, -big, np.inf, -np.inf], np.float16)
    )


@pytest.mark.parametrize("factor", [1.0, 0.7708, 1e-6, 3e4])
def test_scaled_halves_are_those_of_the_products(factor):
    expected = to_half(from_half(ALL, factor))
    array = ALL.copy().reshape(256, 256)
    for changed in (array[3:40:2, ::-3], array.astype(">f2")):
        found = scale_half(changed, factor, in_place=True)
        assert found.dtype == np.float16 and found.dtype.isnative
        np.testing.assert_array_equal(found, to_half(from_half(changed, factor)))
    found = scale_half(array, factor)
    np.testing.assert_array_equal(array.view(np.uint16).ravel(), ALL.view(np.uint16))
    np.testing.assert_array_equal(found.ravel(), expected)
    assert scale_half(array, factor, in_place=True) is array
    np.testing.assert_array_equal(array.ravel(), expected)
    array.flags.writeable = False
    assert scale_half(array, factor, in_place=True) is not array


@pytest.mark.parametrize("kind", [np.float16, ">f2", np.float32])
def test_positive_values(kind):
    with np.errstate(invalid="ignore"):
        array = ALL.astype(kind)
        finite = np.isfinite(ALL)
        np.testing.assert_array_equal(is_positive(array), finite & (ALL > 0))
        np.testing.assert_array_equal(is_positive(array, or_zero=True), finite & (ALL >= 0))
