import warnings

import numpy as np
import pytest
from photutils.segmentation import detect_sources
from romosaic.detection_kernels import label, mark_near, mark_unusable, segment_pixels
from scipy.ndimage import binary_dilation, gaussian_filter


@pytest.mark.parametrize("shape", [(150, 170), (1, 300), (300, 1), (2, 2)])
@pytest.mark.parametrize("smoothing", [0.0, 1.0, 4.0])
def test_labels_equal_photutils(shape, smoothing):
    """From single pixels to groups that wind around each other, at every level, with holes."""
    rng = np.random.default_rng(3)
    image = gaussian_filter(rng.normal(size=shape), smoothing).astype(np.float32)
    bad = rng.uniform(size=shape) < 0.05
    bad[0, 0] = False
    for quantile in (0.2, 0.5, 0.8, 0.99):
        threshold = np.full(shape, np.quantile(image, quantile), np.float32)
        for npixels in (1, 4, 25):
            segments, n = label(image, threshold, bad, npixels)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                expected = detect_sources(image, threshold, npixels, mask=bad)
            assert segments.dtype == np.int32 and segments.max() == n
            if expected is None:
                assert n == 0
            else:
                np.testing.assert_array_equal(segments, expected.data)


def test_labels_of_all_and_of_nothing():
    image, level = np.ones((30, 40), np.float32), np.zeros((30, 40), np.float32)
    bad = np.zeros((30, 40), bool)
    segments, n = label(image, level, bad, 1200)
    assert n == 1 and (segments == 1).all()
    for arguments in ((image, level, bad, 1201), (image, level, ~bad, 1), (level, level, bad, 1)):
        segments, n = label(*arguments)
        assert n == 0 and not segments.any()
    assert label(image * np.nan, level, bad, 1)[1] == 0


def test_largest_value_is_unusable():
    data = np.array([[1e15, -1e15, 9e14, -9e14]], np.float32)
    one = np.ones_like(data)
    assert mark_unusable(data, one, one, np.float32(1e15)).tolist() == [[True, True, False, False]]
    assert mark_unusable(one, data, one, np.float32(1e15)).tolist() == [[True, True, False, True]]


def test_pixels_of_segments():
    segments = np.random.default_rng(1).integers(-9, 3, (40, 50)).clip(0).astype(np.int32)
    segments[7:11] = 0
    for part in (segments, np.zeros((3, 4), np.int32), np.ones((1, 1), np.int32)):
        for ours, numpys in zip(segment_pixels(part), np.nonzero(part), strict=True):
            np.testing.assert_array_equal(ours, numpys)


@pytest.mark.parametrize("shape", [(90, 110), (1, 60), (60, 1)])
@pytest.mark.parametrize("reach", [0, 1, 7, 20])
def test_pixels_near_segments(shape, reach):
    rng = np.random.default_rng(2)
    segments = np.where(rng.uniform(size=shape) > 0.998, 7, 0).astype(np.int32)
    segments.flat[[0, -1]] = 3
    bad = rng.uniform(size=shape) < 0.01
    before = bad.copy()
    square = np.ones((2 * reach + 1,) * 2)
    near = mark_near(segments, bad, reach)
    np.testing.assert_array_equal(near, binary_dilation(segments > 0, square) | bad)
    np.testing.assert_array_equal(bad, before)
