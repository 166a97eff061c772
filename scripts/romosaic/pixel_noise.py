"""
Noise of single pixels and of apertures of a coadd, in units of what `err` and `var_*` say.

With a = the share of a detector pixel that falls on an output pixel, w its weight and v its variance, there are
two variances of a mean sum(a w d) / sum(a w):

    large areas     sum(a w^2 v) / (sum a w)^2          what var_* hold and err is the root of
    single pixels   sum(a^2 w^2 v) / (sum a w)^2        true scatter of an output pixel

Neighbours share detector pixels, so that the second is smaller, while variances of the first kind add up to
the variance of a sum over many pixels. In between, a circular aperture of radius r has f times the sum of
`var_*`, f = 1 - 0.40 p / r for detector pixels of side p: measured on simulated noise at p / r from 0.14 to
1.1, square kernel with pixfrac 1.

Any other sum is served by the correlation rho of neighbours, from which both follow: the covariance of two
pixels is ``rho(offset) err err``, so that rho(0) is the factor of single pixels, and rho sums to 1 where
coverage is even. With a(i) the footprints of detector pixels i and W = sum(a w), the covariance is
``sum_i w_i^2 v_i a_j(i) a_l(i) / (W_j W_l)``: the overlaps of footprints with themselves, moved. They are
drizzled for real, a lattice of detector pixels at a time, far enough apart that no two footprints are mixed up.
All depends on the geometry alone - pixel sizes, orientation and phase of the pixels, kernel, pixfrac, number of
exposures - and is taken from places all over the coadd.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from .drizzle_library import RIM, add_image, padding, positions
from .grid import Grid

#: Places of a coadd that are looked at, and half of their side, output pixels.
N_PLACES, HALF = 9, 24
# Exposures whose footprints are taken apart at a place, and lattices of all of them: rho is then within 0.0012
# of what all lattices give, and its sum within 0.33 % (1 to 8 exposures).
_MOST_EXPOSURES, _MOST_LATTICES = 4, 16
# Reach of a kernel's footprint from its middle, in detector pixels times pixfrac (at 45 degrees for squares).
_REACHES = {
    "square": 0.708,
    "turbo": 0.5,
    "point": 0.0,
    "gaussian": 1.25,
    "lanczos2": 2.0,
    "lanczos3": 3.0,
}
_LEAST_CORRELATION = 1e-4  # rows and columns with less are not kept
#: Slope of the factor of apertures (see above).
APERTURE_SLOPE = 0.40
AREAS = "sum(a w^2 v) / (sum a w)^2"
PIXELS = "sum(a^2 w^2 v) / (sum a w)^2"


def noise_factors(
    members: Sequence,
    weights: Sequence[float],
    context: np.ndarray,
    grid: Grid,
    parameters: Mapping,
) -> dict:
    """
    Compare the two variances of a coadd.

    Parameters
    ----------
    members : sequence of FluxExposure
        Their `pixmap` and `sky_variance` are looked at.
    weights : sequence of float
        Weight of an ordinary pixel of each.
    context : (n, ny, nx) uint32 array
        Bits of the members.
    grid : Grid
        Grid of the coadd.
    parameters : mapping
        `kernel` and `pixfrac` are looked at.

    Returns
    -------
    dict
        Plain types, for the file: `var` and `pixel_var`, the formulas; `pixel_factor`: mean over places of
        pixel_var / var, None where nothing is covered; `pixel_factor_range`: its least and greatest value at
        one place; `aperture_factor`: the formula of f, None for other kernels; `detector_pixel`: p, arcsec;
        `correlation`: rho as rows of (2 k + 1) numbers, offset 0 in the middle, None where nothing is covered.
    """
    maps = [member.pixmap for member in members]
    ratios = np.array([pixmap.on_grid(grid).pixel_ratio for pixmap in maps])
    noise = _relative([float(member.sky_variance) for member in members])
    noise = noise * _relative(weights) ** 2
    found, moved = [], []
    for window in _places(context, N_PLACES):
        place = _Place(window, maps, ratios, noise, weights, context, grid, parameters)
        if place.known.any():
            found.append(place.pixel_factor())
            rho = place.correlation()
            moved += [rho] if np.isfinite(rho).all() else []
    simple = parameters["kernel"] == "square" and parameters["pixfrac"] == 1
    known = ratios[np.isfinite(ratios)]  # not those behind the tangent plane
    side = float(np.sqrt(np.median(known))) * grid.pixel_scale * 3600 if known.size else None
    return {
        "var": AREAS,
        "pixel_var": PIXELS,
        "pixel_factor": float(np.mean(found)) if found else None,
        "pixel_factor_range": [float(np.min(found)), float(np.max(found))] if found else None,
        "aperture_factor": f"1 - {APERTURE_SLOPE:.2f} p / r" if simple else None,
        "detector_pixel": side,
        "correlation": _trimmed(np.mean(moved, axis=0)).tolist() if moved else None,
    }


def describe(factors: Mapping) -> list[str]:
    """Say in words what `noise_factors` found: for the logs that go with a product."""
    lines = [
        f"err^2 and var_* are variances of large areas, {factors['var']}: they add up to the variance of the "
        "sum over many pixels (a: share of a detector pixel on an output pixel, w: weight, v: variance)",
    ]
    if factors["pixel_factor"] is not None:
        lines.append(
            f"the variance of a single pixel, {factors['pixel_var']}, is {factors['pixel_factor']:.4f} "
            "times as large ({:.4f} to {:.4f} from place to place)".format(
                *factors["pixel_factor_range"]
            )
        )
    if factors["aperture_factor"] is not None and factors["detector_pixel"]:
        lines.append(
            f"the variance of the sum over a circle of radius r is {factors['aperture_factor']} times the sum "
            f'of var_*, p = {factors["detector_pixel"]:.4f}" the side of a detector pixel'
        )
    return [f"romosaic.resample: {line}" for line in lines]


def _places(context: np.ndarray, n: int) -> list[tuple[int, int, int, int]]:
    """Windows (y0, y1, x0, x1) round up to n covered pixels, evenly spaced in their order."""
    ny, nx = context.shape[1:]
    step = max(min(ny, nx) // 64, 1)
    y, x = np.nonzero(np.bitwise_or.reduce(context[:, ::step, ::step]))
    chosen = np.unique(((np.arange(n) + 0.5) / n * y.size).astype(int)) if y.size else []
    return [
        (max(cy - HALF, 0), min(cy + HALF, ny), max(cx - HALF, 0), min(cx + HALF, nx))
        for cy, cx in zip(step * y[chosen], step * x[chosen], strict=True)
    ]


def _relative(values: Sequence[float]) -> np.ndarray:
    """Values over the largest; 1 for those that are not positive numbers."""
    values = np.asarray(values, float)
    usable = np.isfinite(values) & (values > 0)
    return np.where(usable, values / np.max(values, where=usable, initial=1e-300), 1.0)


def _trimmed(rho: np.ndarray) -> np.ndarray:
    """Correlation without outer rows and columns that are practically 0."""
    middle = rho.shape[0] // 2
    rows, cols = np.nonzero(np.abs(rho) > _LEAST_CORRELATION)
    half = max(np.abs(rows - middle).max(initial=0), np.abs(cols - middle).max(initial=0))
    inner = slice(middle - half, middle + half + 1)
    return rho[inner, inner]


class _Place:
    """Sums over the footprints of the detector pixels that meet one window of a coadd."""

    def __init__(self, window, maps, ratios, noise, weights, context, grid, parameters) -> None:
        y0, y1, x0, x1 = window
        part = replace(grid, x0=grid.x0 - x0, y0=grid.y0 - y0, nx=int(x1 - x0), ny=int(y1 - y0))
        bits = context[:, y0:y1, x0:x1]
        here = np.bitwise_or.reduce(bits, axis=(1, 2))
        present = [m for m in range(len(maps)) if here[m // 32] >> np.uint32(m % 32) & np.uint32(1)]
        self._kernel = parameters["kernel"], parameters["pixfrac"]
        self._noise = noise
        self._exposures = {}
        self._areas, self._total, self._pixels = np.zeros((3, *part.shape))
        for m in present:
            exposure = _Footprints(maps[m], ratios[m], part, *self._kernel)
            share, square = exposure.sums()
            if m in present[:: -(-len(present) // _MOST_EXPOSURES)]:
                self._exposures[m] = exposure
            self._areas += noise[m] * share
            self._total += float(weights[m]) * share
            self._pixels += noise[m] * square
        # where a kernel's lobes nearly cancel, a ratio says nothing
        self.known = bits.any(axis=0) & (self._areas > 0.01 * self._areas.max())
        # ratios at places behind the tangent plane are no numbers
        known = ratios[np.isfinite(ratios)]
        self._reach = _reach(*self._kernel, float(known.max()))

    def pixel_factor(self) -> float:
        """Mean of pixel_var / var over the covered pixels."""
        return float(np.mean(self._pixels[self.known] / self._areas[self.known]))

    def correlation(self) -> np.ndarray:
        """Mean covariance over mean ``err err`` by offset, (2 k + 1, 2 k + 1)."""
        k = self._reach
        # signed: lobes of lanczos kernels may leave a negative sum somewhere, which is not known
        weight = np.where(self.known, 1 / np.where(self.known, self._total, 1.0), 0.0)
        err = np.sqrt(np.where(self.known, self._areas, 0.0)) * weight
        covariance, taken = np.zeros((2 * k + 1, 2 * k + 1)), 0.0
        for m, exposure in self._exposures.items():
            for share in exposure.lattices(k, _MOST_LATTICES // len(self._exposures)):
                covariance += self._noise[m] * autocorrelation(share * weight, k)
                taken += self._noise[m] * np.vdot(share, weight**2)
        # of all footprints, those taken stand for the rest
        covariance *= np.vdot(err, err) / taken if taken > 0 else np.nan
        products = autocorrelation(err, k)
        return covariance / np.where(products > 0, products, np.inf)


class _Footprints:
    """Footprints of the pixels of one exposure on a part of the grid, as if all were good."""

    def __init__(self, pixmap, pixel_ratio: float, part: Grid, kernel: str, pixfrac: float) -> None:
        self._pad = padding(pixel_ratio)
        self._part, self._ratio, self._kernel = part, pixel_ratio, (kernel, pixfrac)
        gridmap = pixmap.on_grid(part.padded(self._pad))
        self._shape, window = gridmap.grid.shape, gridmap.window()
        self._ones = None
        if window is not None:
            y0, y1, x0, x1 = window
            spans = np.arange(x0 - RIM, x1 + RIM), np.arange(y0 - RIM, y1 + RIM)
            self._ones = np.pad(np.ones((y1 - y0, x1 - x0), np.float32), RIM)
            self._positions = positions(gridmap, *spans, *self._kernel)

    def _drizzled(self, weights: np.ndarray, **planes):
        return add_image(
            self._ones, weights, self._positions, self._shape, self._ratio, *self._kernel, **planes
        )

    @property
    def _inner(self) -> tuple[slice, slice]:
        ny, nx = self._part.shape
        return np.s_[self._pad : self._pad + ny, self._pad : self._pad + nx]

    def sums(self) -> tuple[np.ndarray, np.ndarray]:
        """Sums of a and of a^2."""
        if self._ones is None:
            return np.zeros(self._part.shape), np.zeros(self._part.shape)
        library = self._drizzled(self._ones, variance=self._ones)
        share = library.out_wht[self._inner].astype(float)
        return share, np.nan_to_num(library.out_img2[0][self._inner]) * share**2

    def lattices(self, reach: int, most: int) -> Iterator[np.ndarray]:
        """Shares a of pixels so far apart that what lies `reach` beside a footprint meets no other one."""
        if self._ones is None:
            return
        # at 45 degrees neighbours on the lattice are closer along the axes of the output
        step = math.ceil(1.5 * (2 * reach + 1) / math.sqrt(self._ratio))
        for first in np.unique(np.linspace(0, step**2 - 1, most).astype(int)):
            weights = np.zeros_like(self._ones)
            weights[first // step :: step, first % step :: step] = 1
            yield self._drizzled(weights * self._ones).out_wht[self._inner].astype(float)


def _reach(kernel: str, pixfrac: float, pixel_ratio: float) -> int:
    """Largest offset of two output pixels that one detector pixel falls on."""
    pixfrac = 1.0 if kernel.startswith("lanczos") else pixfrac
    return math.ceil(2 * _REACHES[kernel] * pixfrac * math.sqrt(pixel_ratio))


def autocorrelation(image: np.ndarray, reach: int) -> np.ndarray:
    """
    Sums of an image times itself moved by up to `reach` pixels.

    Parameters
    ----------
    image : (ny, nx) float64 array
        0 outside.
    reach : int
        Pixels along each axis.

    Returns
    -------
    (2 reach + 1, 2 reach + 1) float64 array
        By offset, none in the middle.
    """
    out = np.zeros((2 * reach + 1, 2 * reach + 1))
    ny, nx = image.shape
    for dy in range(min(reach, ny - 1) + 1):
        for dx in range(-min(reach, nx - 1), min(reach, nx - 1) + 1):
            here = image[: ny - dy, max(-dx, 0) : nx - max(dx, 0)]
            there = image[dy:, max(dx, 0) : nx - max(-dx, 0)]
            out[reach + dy, reach + dx] = out[reach - dy, reach - dx] = np.vdot(here, there)
    return out
