"""Colour pictures: which filters, balance, hue of bright sources, the files."""

import numpy as np
import pytest
from matplotlib.image import imread
from romosaic import color
from romosaic.color_filters import choose_filters
from romosaic.grid import Grid
from romosaic.small_image import SmallImage

RNG = np.random.default_rng(8)


@pytest.mark.parametrize(
    "given, wanted, expected",
    [
        (["F062", "F158"], [], ()),
        (["F106", "F158", "F184"], [], ("F184", "F158", "F106")),
        (["F062", "F087", "F106", "F129", "F213"], [], ("F213", "F106", "F062")),
        (["F106", "F158", "F184", "F062"], ["F158", "F106", "F062"], ("F158", "F106", "F062")),
        (["F106", "F158", "F184"], ["F158", "F106", "F062"], ()),
    ],
)
def test_filters(given, wanted, expected):
    assert choose_filters(given, wanted) == expected
    assert choose_filters(given[::-1], wanted) == expected


def field(gain=1.0, sky=0.2, shape=(200, 220)):
    """A band: noise, white sources everywhere, sources of this band's own."""
    band = np.random.default_rng(1).normal(0, 1, shape) * 0  # the same places in all bands
    rng = np.random.default_rng(2)
    for _ in range(150):
        y, x = rng.integers(5, 195), rng.integers(5, 215)
        band[y - 1 : y + 2, x - 1 : x + 2] += rng.uniform(0.3, 2)
    return gain * (band + RNG.normal(0, 0.01, shape)) + sky


def small(data, element="F158", weight=1.0):
    grid = Grid(10.0, 20.0, 100.0, 100.0, 1e-4, data.shape[1], data.shape[0])
    good = np.isfinite(data).astype(np.float32)
    return SmallImage(data.astype(np.float32), weight * good, good, grid, element)


def test_white_sources_are_white_whatever_the_units_and_the_sky():
    bands = [color.join([small(field(gain, sky))]) for gain, sky in ((1, 0.2), (30, -5), (0.1, 3))]
    for band in bands:
        band[50:60, 50:60] = np.nan
    image = color.compose(bands)
    assert image.shape == (200, 220, 3) and image.min() == 0 and image.max() <= 1
    assert (image[50:60, 50:60] == 0).all()
    bright = image[image.min(axis=2) > 0.5]
    assert len(bright) > 300
    assert np.abs(bright - bright.mean(axis=1, keepdims=True)).max() < 0.1


def test_a_source_keeps_its_hue_at_any_brightness():
    bands = [field(sky=0) for _ in range(3)]
    for value, x in ((0.5, 30), (5, 60), (500, 90)):
        for band, part in zip(bands, (1.0, 0.5, 0.25), strict=True):
            band[150:155, x : x + 5] = value * part
    image = color.compose(bands)
    for x in (30, 60, 90):
        red, green, blue = image[152, x + 2]
        assert red > 0.3
        assert green / red == pytest.approx(0.5, abs=0.1) and blue / red == pytest.approx(
            0.25, abs=0.1
        )


def test_visits_are_joined_by_weight_without_their_skies():
    a, b = (np.full((10, 10), level) for level in (5.0, 7.0))
    a[3, 3], b[3, 3] = 6.0, 10.0
    b[0, 0] = np.nan
    joined = color.join([small(a, weight=1), small(b, weight=3)])
    assert joined[5, 5] == joined[0, 0] == 0
    assert joined[3, 3] == pytest.approx((1 * 1 + 3 * 3) / 4)


def test_pictures(tmp_path):
    names = ("F184", "F158", "F106")
    bands = {name: [small(field(), name)] for name in names}
    paths = tmp_path / "a.png", tmp_path / "a.jpg"
    assert color.draw(paths, bands, "000p86x51y59", size=500) == names
    large, thumbnail = (imread(path) for path in paths)
    assert (large.shape[0], thumbnail.shape[0]) == (458, 550)  # less than a square of 500 and 600
    assert 0.03 < large[..., :3].mean() < 0.9 and large[..., :3].max() > 0.9
