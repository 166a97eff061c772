"""Members with known pixels for the tests of outlier_detection."""

import itertools
from types import SimpleNamespace

import numpy as np
from romosaic.dq import FLAGS
from romosaic.grid import Grid
from romosaic.outlier_detection import (
    detect_outliers,
)
from romosaic.pixmap import PixelMap

SCALE = 0.11 / 3600
SHAPE = (240, 260)
SIGMA, SLOPE, PEDESTAL = 0.03, 0.003, 0.25
CENTER = (66.0, -35.0)


def parameters(**changed):
    values = {
        "noise": "model",
        "snr": [5.0, 4.0],
        "scale": [1.2, 0.7],
        "backg": 0.0,
        "maskpt": 0.7,
        "good_bits": "~DO_NOT_USE",
        "memory_mb": 600,
    }
    return {**values, **changed}


def pixel_map(dx=0.0, dy=0.0, roll=0.0, shape=SHAPE, center=CENTER, distortion=2e-5):
    """Detector with a quadratic distortion at an offset (detector pixels) and a roll (degrees)."""
    c, s = np.cos(np.radians(roll)), np.sin(np.radians(roll))
    plane = Grid(*center, 0.0, 0.0, SCALE, 1, 1)

    def wcs(x, y):
        u, v = x - (shape[1] - 1) / 2, y - (shape[0] - 1) / 2
        u, v = u + distortion * u * v, v + distortion * u**2 / 2
        return plane.to_sky(c * u - s * v + dx, s * u + c * v + dy)

    return PixelMap.fit(wcs, shape)


def grid_of(nx=500, ny=480, center=CENTER, x0=None, y0=None):
    """Grid of half-size pixels about the same centre."""
    x0, y0 = (nx - 1) / 2 if x0 is None else x0, (ny - 1) / 2 if y0 is None else y0
    return Grid(*center, x0, y0, SCALE / 2, nx, ny)


def exposure(pixmap, seed=0, stars=None, level=0.0, noise=True):
    """An exposure of stars (u, v in detector pixels on the sky plane, flux) with model noise."""
    shape = pixmap.shape
    signal = np.zeros(shape)
    if stars is not None:
        plane = Grid(*CENTER, 0.0, 0.0, SCALE, 1, 1)
        x, y = pixmap.detector(*plane.to_sky(stars[0], stars[1]))
        for sx, sy, flux in zip(x, y, stars[2], strict=True):
            add_star(signal, sx, sy, flux)
    rng = np.random.default_rng(seed)
    sigma = np.sqrt(SIGMA**2 + SLOPE * signal)
    data = PEDESTAL + level + signal + (sigma * rng.normal(size=shape) if noise else 0)
    return SimpleNamespace(
        shape=shape,
        optical_element="F158",
        data=data.astype(np.float32),
        dq=np.zeros(shape, np.uint32),
        var_rnoise=np.full(shape, SIGMA**2 / 2, np.float16),
        var_poisson=(SIGMA**2 / 2 + SLOPE * signal).astype(np.float16),
        var_flat=None,
        pixmap=pixmap,
        sky_variance=SIGMA**2,
        poisson_slope=SLOPE,
        pedestal=PEDESTAL + level,
    )


def add_star(image, x, y, flux, sigma=0.5):
    """A star that the pixels undersample: Gaussian core of 1.2 pixels FWHM, integrated, and faint wings."""
    if not (np.isfinite(x) and -9 < x < image.shape[1] + 9 and -9 < y < image.shape[0] + 9):
        return
    iy, ix = np.ogrid[: image.shape[0], : image.shape[1]]
    near = np.s_[
        max(int(y) - 12, 0) : max(int(y) + 13, 0), max(int(x) - 12, 0) : max(int(x) + 13, 0)
    ]
    dy, dx = iy[near[0]] - y, ix[:, near[1]] - x
    fine = (np.arange(5) - 2) / 5
    core = np.zeros(np.broadcast_shapes(dy.shape, dx.shape))
    for a, b in itertools.product(fine, fine):
        core += np.exp(-((dx + a) ** 2 + (dy + b) ** 2) / (2 * sigma**2)) / 25
    wings = 0.01 / (1 + (dx**2 + dy**2) / 4) ** 1.5
    image[near] += flux * (core / (2 * np.pi * sigma**2) + wings)


def star_field(seed=1, n=150, half=150):
    rng = np.random.default_rng(seed)
    u, v = rng.uniform(-half, half, (2, n))
    return u, v, 10 ** rng.uniform(-0.5, 3, n)


def dithers(n, seed=3, roll=0.0, size=15.0):
    rng = np.random.default_rng(seed)
    return [
        pixel_map(*rng.uniform(-size, size, 2), roll=k * roll + rng.uniform(-1, 1))
        for k in range(n)
    ]


def add_cosmic_rays(member, amplitudes, seed):
    """Single-pixel hits of these amplitudes (sigma), at least 5 pixels apart and from the edges."""
    rng = np.random.default_rng(seed)
    ny, nx = member.shape
    cells = rng.permutation(((ny - 60) // 6) * ((nx - 60) // 6))[: len(amplitudes)]
    row, column = np.divmod(cells, (nx - 60) // 6)
    y, x = 30 + 6 * row, 30 + 6 * column
    member.data[y, x] += np.asarray(amplitudes, np.float32) * np.float32(SIGMA)
    return y * nx + x


def crowded():
    """Five dithered, rolled members with stars, cosmic rays and bad pixels; hits per member."""
    stars = star_field()
    rng = np.random.default_rng(7)
    members, hits = [], []
    for k, pixmap in enumerate(dithers(5, roll=31.0)):
        member = exposure(pixmap, seed=k, stars=stars)
        hits.append(add_cosmic_rays(member, np.full(60, 200.0), seed=50 + k))
        bad = rng.integers(0, member.dq.size, 300)
        member.dq.ravel()[bad] = FLAGS["DO_NOT_USE"]
        member.data.ravel()[bad[:150]] = np.nan
        member.data.ravel()[bad[150:]] = 400.0
        members.append(member)
    return members, hits


def flag(members, grid=None, threads=1, levels=None, **changed):
    levels = np.zeros(len(members)) if levels is None else levels
    return detect_outliers(members, levels, grid or grid_of(), parameters(**changed), threads)


def assert_same(one, other):
    for (flagged, why), (flagged2, why2) in zip(one, other, strict=True):
        np.testing.assert_array_equal(flagged, flagged2)
        np.testing.assert_array_equal(why, why2)
