"""Small detectors on the sky, and exposures in memory, for the tests of drizzling and resample."""

import warnings
from dataclasses import dataclass, field

import numpy as np
from romosaic.dq import FLAGS
from romosaic.grid import Grid
from romosaic.pixmap import PixelMap
from romosaic.resample import Coadd, resample

RA, DEC = 150.0, 2.0
OUTPUT, DETECTOR = 0.055 / 3600, 0.11 / 3600


def grid(nx=200, ny=None, *, x=None, y=None, skycell=None, scale=OUTPUT) -> Grid:
    """Output grid with the tangent point at (x, y), by default its middle."""
    ny = nx if ny is None else ny
    x, y = (nx - 1) / 2 if x is None else x, (ny - 1) / 2 if y is None else y
    return Grid(RA, DEC, x, y, scale, nx, ny, skycell=skycell)


def skycell(col: int, row: int) -> Grid:
    """Skycell in the size and on the pitch of the real sky map."""
    return grid(5000, x=2499.5 - 4800 * col, y=2499.5 - 4800 * row, skycell=f"x{row}y{col}")


def detector(shape=(80, 70), *, at=(0.0, 0.0), roll=20.0, mirror=False, bend=0.0) -> PixelMap:
    """
    Map of a detector.

    Parameters
    ----------
    shape : tuple of int
        (ny, nx).
    at : tuple of float
        Position of its middle, in output pixels from the tangent point.
    roll : float
        Degrees.
    mirror : bool
        Left-handed detector.
    bend : float
        Largest shift by distortion, detector pixels.
    """
    ny, nx = shape
    plane = Grid(RA, DEC, 0.0, 0.0, OUTPUT, 1, 1)
    c, s = np.cos(np.radians(roll)), np.sin(np.radians(roll))

    def wcs(x, y):
        u, v = 2 * np.asarray(x, float) / nx - 1, 2 * np.asarray(y, float) / ny - 1
        du, dv = (
            u * nx / 2 + bend * (0.5 * u * u + 0.4 * u * v + 0.3 * v * v),
            v * ny / 2 + bend * (0.5 * v * v - 0.3 * u * v + 0.3 * u * u),
        )
        du = -du if mirror else du
        step = DETECTOR / OUTPUT
        return plane.to_sky(at[0] + step * (c * du - s * dv), at[1] + step * (s * du + c * dv))

    return PixelMap.fit(wcs, shape)


@dataclass
class Exposure:
    """An exposure in memory, with what `resample` asks of a FluxExposure."""

    name: str
    pixmap: PixelMap
    data: np.ndarray
    dq: np.ndarray
    var_rnoise: np.ndarray
    var_poisson: np.ndarray
    sky_variance: float
    exposure_time: float = 139.15
    pedestal: float = 1.0
    var_flat: np.ndarray | None = None
    truth: dict = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int]:
        return self.data.shape

    @property
    def effective_exposure_time(self) -> float:
        return self.exposure_time


def exposure(name="e", data=1.0, *, variance=0.01, dtype=np.float16, **where) -> Exposure:
    """Exposure of constant or given data; variances a quarter read noise, three quarters Poisson noise."""
    pixmap = where.pop("pixmap", None) or detector(**where)
    plane = np.ones(pixmap.shape)
    return Exposure(
        name,
        pixmap,
        (plane * data).astype(np.float32),
        np.zeros(pixmap.shape, np.uint32),
        (0.25 * variance * plane).astype(dtype),
        (0.75 * variance * plane).astype(dtype),
        variance,
    )


def noisy(name: str, seed: int, level=0.3, **where) -> Exposure:
    """Exposure of noise on a level, with a few bad pixels."""
    made = exposure(name, level, **where)
    rng = np.random.default_rng(seed)
    made.data += rng.normal(0, np.sqrt(made.sky_variance), made.shape).astype(np.float32)
    made.dq[rng.random(made.shape) < 0.02] = FLAGS["DO_NOT_USE"]
    return made


def parameters(**changes) -> dict:
    """Section ``resample``."""
    return {
        "kernel": "square",
        "pixfrac": 1.0,
        "fillval": "NaN",
        "weight_type": "ivm",
        "good_bits": "~DO_NOT_USE",
        "include_var_flat": False,
        "propagate_dq": False,
        "engine": "auto",
    } | changes


def coadd(members, output, *, levels=None, flagged=None, threads=1, **changes) -> Coadd:
    """`resample` with parameters changed from the defaults; a warning is an error, whatever the input."""
    levels = [0.0] * len(members) if levels is None else levels
    flagged = [None] * len(members) if flagged is None else flagged
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return resample(members, levels, flagged, output, parameters(**changes), threads)


def planes_of_coadd(made: Coadd) -> list[np.ndarray]:
    """All arrays of a coadd, the context last."""
    return [made.data, made.err, made.weight, made.var_rnoise, made.var_poisson, made.context]


def clip(polygon, axis, limit, keep_above):
    """Part of a polygon on one side of an axis-parallel line (Sutherland & Hodgman 1974)."""
    out = []
    for a, b in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        inside = [(p[axis] >= limit) == keep_above or p[axis] == limit for p in (a, b)]
        if inside[0]:
            out.append(a)
        if inside[0] != inside[1]:
            t = (limit - a[axis]) / (b[axis] - a[axis])
            out.append(a + t * (b - a))
    return np.array(out).reshape(-1, 2)


def area(polygon) -> float:
    x, y = polygon.T
    return 0.5 * float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) if len(polygon) else 0.0


def exact_sums(pixmap, planes, output, power=1, pixfrac=1.0) -> np.ndarray:
    """Sum of (overlap / pixel area)^power * plane by clipping detector pixels with every output pixel."""
    ny, nx = pixmap.shape
    half = np.array([-0.5, 0.5]) * pixfrac
    ends = ((np.arange(n)[:, None] + half).ravel() for n in (nx, ny))
    x, y = pixmap.on_grid(output).forward(*ends)
    corners = np.stack([x, y], axis=-1)
    sums = np.zeros((planes.shape[2], output.ny, output.nx))
    for j, i in np.ndindex(ny, nx):
        rows, columns = [2 * j, 2 * j, 2 * j + 1, 2 * j + 1], [2 * i, 2 * i + 1, 2 * i + 1, 2 * i]
        quad = corners[rows, columns]
        low = np.maximum(np.floor(quad.min(axis=0) + 0.5).astype(int), 0)
        high = np.minimum(np.ceil(quad.max(axis=0) + 0.5).astype(int), (output.nx, output.ny))
        for row in range(low[1], high[1]):
            band = clip(clip(quad, 1, row - 0.5, True), 1, row + 0.5, False)
            for column in range(low[0], high[0]):
                part = clip(clip(band, 0, column - 0.5, True), 0, column + 0.5, False)
                sums[:, row, column] += (area(part) / area(quad)) ** power * planes[j, i]
    return sums
