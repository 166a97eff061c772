import sys

import catalog_scene as scene
import numpy as np
import photutils
import pytest
from astropy.convolution import convolve
from photutils.segmentation import make_2dgaussian_kernel
from romosaic import detection
from romosaic.background import background
from romosaic.errors import ConfigError

OPTIONS = {
    "bkg_boxsize": 100,
    "kernel_fwhm": 2.0,
    "snr_threshold": 3.0,
    "npixels": 25,
    "deblend": False,
}


def blob(x, y, flux, shape=(100, 100), sigma=1.6):
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    r2 = (cols - x) ** 2 + (rows - y) ** 2
    return flux / (2 * np.pi * sigma**2) * np.exp(-0.5 * r2 / sigma**2)


@pytest.mark.parametrize("fwhm", [1.0, 2.0, 3.5])
def test_smoothing_equals_convolution(fwhm):
    data = np.random.default_rng(4).normal(size=(60, 70)).astype(np.float32)
    kernel = detection.matched_filter(fwhm)
    assert kernel.size % 2 == 1 and kernel.size >= 3 * fwhm
    assert kernel.sum() == pytest.approx(1)
    bad = np.zeros(data.shape, bool)
    bad[20:22, 30:32] = True
    square = make_2dgaussian_kernel(fwhm, size=kernel.size)
    np.testing.assert_allclose(np.outer(kernel, kernel), square.array, atol=1e-15)
    expected = convolve(data, square, mask=bad)
    for mask in (bad, np.zeros_like(bad)):
        clean = np.where(mask, np.float32(0), data)
        smoothed = detection.smooth(clean, mask, kernel)
        if mask.any():
            good = ~mask[10:-10, 10:-10]
            difference = (smoothed - expected)[10:-10, 10:-10][good]
            assert np.abs(difference).max() < 1e-5
    # The outside counts as unknown, not as zero: a constant stays constant up to the border.
    flat = detection.smooth(np.ones((20, 30), np.float32), np.zeros((20, 30), bool), kernel)
    np.testing.assert_allclose(flat, 1, rtol=1e-6)


def test_unusable_pixels():
    data = np.ones((1, 10), np.float32)
    err, weight = data.copy(), data.copy()
    data[0, 0], data[0, 1], data[0, 2] = np.nan, np.inf, 1e30
    err[0, 3], err[0, 4], err[0, 5] = np.nan, 0, -1
    weight[0, 6], weight[0, 7], weight[0, 8] = 0, np.nan, -1
    assert detection.unusable(data, err, weight).tolist() == [[True] * 9 + [False]]


def test_covered_window():
    bad = np.ones((20, 30), bool)
    assert detection.covered_window(bad) is None
    bad[4, 7] = bad[9, 3] = False
    assert detection.covered_window(bad) == (slice(4, 10), slice(3, 8))
    assert detection.covered_window(np.zeros((2, 3), bool)) == (slice(0, 2), slice(0, 3))


def test_threshold_and_size_select_sources():
    rng = np.random.default_rng(0)
    data = blob(30, 30, 400) + blob(70, 60, 90) + rng.normal(size=(100, 100))
    data, bad = data.astype(np.float32), np.zeros((100, 100), bool)
    found = detection.detect(data, bad, **OPTIONS)
    assert found.segments.max() == 1 and found.blended.tolist() == [False]
    assert found.segments[30, 30] == 1
    above = found.smoothed > found.threshold
    assert above[found.segments > 0].all()
    fainter = detection.detect(data, bad, **OPTIONS | {"npixels": 8, "snr_threshold": 1.5})
    assert fainter.segments[60, 70] > 0
    assert not detection.detect(data, bad, **OPTIONS | {"npixels": 500}).segments.any()
    bad[25:36, 25:36] = True
    masked = detection.detect(data, bad, **OPTIONS)
    assert not masked.segments[bad].any()


def test_wings_of_sources_are_not_counted_as_sky():
    """Sources are sought on the background of all pixels, and measured on that of those between them."""
    rng = np.random.default_rng(6)
    sources = scene.lattice(rng, 500, 70, 400, 4000, edge=35)
    data, *_ = scene.observe(rng, scene.render((500, 500), sources))
    bad = np.zeros(data.shape, bool)
    bad[:, :50] = True
    level, rms = background(data, bad, 1000)
    found = detection.detect(data, bad, **OPTIONS | {"bkg_boxsize": 1000})
    assert found.segments.max() == 42
    smoothed = detection.smooth(np.where(bad, 0, data - level), bad, found.kernel)
    np.testing.assert_allclose(found.smoothed, smoothed, atol=1e-6)
    np.testing.assert_array_equal(found.threshold, rms * np.float32(3))
    wings, left = (np.median(sky[~bad]) - scene.SKY for sky in (level, data - found.data))
    noise = scene.NOISE * 1.2533 / np.sqrt(np.count_nonzero(~bad) / 3)
    assert wings > 6 * noise and abs(left) < 2 * noise
    assert (found.data[bad] == 0).all()


def test_without_sky_between_sources_the_background_is_that_of_all_pixels():
    rng = np.random.default_rng(6)
    data = (blob(20, 20, 1500, (40, 40)) + rng.normal(size=(40, 40))).astype(np.float32)
    bad = np.zeros(data.shape, bool)
    found = detection.detect(data, bad, **OPTIONS)
    assert found.segments.max() == 1
    np.testing.assert_array_equal(found.data, data - background(data, bad, 1000)[0])


def test_deblending_cuts_a_pair_apart():
    image = blob(45, 50, 2000) + blob(53, 50, 1500) + blob(20, 20, 1500)
    data = (image + np.random.default_rng(1).normal(size=image.shape)).astype(np.float32)
    bad = np.zeros(data.shape, bool)
    assert detection.detect(data, bad, **OPTIONS).segments.max() == 2
    if photutils.__version__ < "3.1":
        pytest.importorskip("skimage")
    found = detection.detect(data, bad, **OPTIONS | {"deblend": True})
    assert found.segments.max() == 3
    assert found.segments[50, 45] != found.segments[50, 53]
    children = {found.segments[50, 45], found.segments[50, 53]}
    assert {k + 1 for k in np.flatnonzero(found.blended)} == children


def test_deblending_without_its_package_is_a_clear_error(monkeypatch):
    if photutils.__version__ >= "3.1":
        pytest.skip("photutils deblends by itself")
    monkeypatch.setitem(sys.modules, "skimage", None)
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    data = (blob(45, 50, 2000) + blob(53, 50, 1500)).astype(np.float32)
    data += np.random.default_rng(1).normal(size=data.shape).astype(np.float32)
    with pytest.raises(ConfigError, match=r"source_catalog.deblend.*scikit-image"):
        detection.detect(data, np.zeros(data.shape, bool), **OPTIONS | {"deblend": True})
