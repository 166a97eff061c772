"""Members of a product with known sky levels: as block statistics, and as images of a common sky."""

import itertools
from types import SimpleNamespace

import numpy as np
from romosaic.grid import Grid
from romosaic.pixmap import PixelMap
from romosaic.sky import block_statistics

SHAPE, SIZE, SCALE = (512, 448), 64, 0.11 / 3600
CENTER = (150.0, 2.0)
NAMES = (f"e{number:05d}" for number in itertools.count())


def parameters(**changed):
    """Section `skymatch` of the configuration, as far as the levels need it."""
    values = {"skymethod": "match", "match_down": True, "subtract": False, "skystat": "mode"}
    return {**values, "nclip": 5, "lsigma": 4.0, "usigma": 4.0, **changed}


def pixel_map(dx=0.0, dy=0.0, roll=0.0, center=CENTER, shape=SHAPE) -> PixelMap:
    """Map of an exposure at an offset (pixels) and roll (degrees)."""
    c, s = np.cos(np.radians(roll)), np.sin(np.radians(roll))
    plane = Grid(*center, 0.0, 0.0, SCALE, 1, 1)
    ny, nx = shape

    def wcs(x, y):
        # A Roman-like distortion: a quadratic term of a few pixels.
        u, v = x - nx / 2, y - ny / 2
        u, v = u + 2e-5 * u * v, v + 1e-5 * u**2
        return plane.to_sky(c * u - s * v + dx, s * u + c * v + dy)

    return PixelMap.fit(wcs, shape)


def _member(pixmap: PixelMap, blocks: dict) -> SimpleNamespace:
    name = next(NAMES)
    parts = {"shape": pixmap.shape, "sky_blocks": blocks, "pixmap": pixmap}
    return SimpleNamespace(name=name, fingerprint=f"of {name}", **parts)


def member(
    dx=0.0,
    dy=0.0,
    roll=0.0,
    level=0.0,
    sky=None,
    noise=0.0,
    seed=0,
    center=CENTER,
    shape=SHAPE,
):
    """Block statistics of a level plus the true `sky`(ra, dec), MJy/sr; noise is that of a block."""
    pixmap = pixel_map(dx, dy, roll, center, shape)
    x, y = (
        (np.arange(0, n, SIZE) + np.minimum(np.arange(SIZE, n + SIZE, SIZE), n) - 1) / 2
        for n in shape[::-1]
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
    return _member(pixmap, blocks)


def gradient(ra, dec):
    """A sky that rises by a few hundredths MJy/sr over a detector."""
    return 0.3 + 20 * (ra - 150) + 35 * (dec - 2)


def halo(peak: float, scale: float):
    """Light of a large galaxy at the centre of the field: peak (MJy/sr), scale length (pixels)."""

    def light(ra, dec):
        x, y = Grid(*CENTER, 0.0, 0.0, SCALE, 1, 1).to_pixel(ra, dec)
        return peak * np.exp(-np.hypot(x, y) / scale)

    return light


def imaged(dx, dy, roll, level, light=None, stars=0, noise=0.04, seed=0, shape=SHAPE):
    """
    An exposure of a common sky, measured in blocks as `flux` does.

    Stars (so many per block; the same ones for all members) have peaks of 1 to 3000 times the noise of a pixel.
    """
    pixmap = pixel_map(dx, dy, roll, shape=shape)
    ny, nx = shape
    ra, dec = pixmap.sky(*np.meshgrid(np.arange(nx, dtype=float), np.arange(ny, dtype=float)))
    data = level + np.random.default_rng(seed).normal(0, noise, shape)
    if light:
        data += light(ra, dec)
    rng = np.random.default_rng(99)
    reach = 1.5 * max(shape)
    n = rng.poisson(stars * (2 * reach / SIZE) ** 2)
    place = Grid(*CENTER, 0.0, 0.0, SCALE, 1, 1).to_sky(*rng.uniform(-reach, reach, (2, n)))
    offsets = np.arange(-8, 9)
    for x, y, peak in zip(
        *pixmap.detector(*place), noise * 10 ** rng.uniform(0, 3.5, n), strict=True
    ):
        if 9 <= x <= nx - 10 and 9 <= y <= ny - 10:
            column, row = round(x), round(y)
            profile = [np.exp(-((offsets - f) ** 2) / 4.5) for f in (y - row, x - column)]
            data[row - 8 : row + 9, column - 8 : column + 9] += peak * np.outer(*profile)
    return _member(pixmap, block_statistics(data.astype(np.float32), np.zeros(shape, bool)))
