"""
Noise of single pixels and of apertures of a coadd, in units of what `err` and `var_*` say.

With a = the share of a detector pixel that falls on an output pixel, w its weight and v its variance, there are
two variances of a mean sum(a w d) / sum(a w):

    large areas     sum(a w^2 v) / (sum a w)^2          what var_* hold and err is the root of
    single pixels   sum(a^2 w^2 v) / (sum a w)^2        true scatter of an output pixel

Neighbours share detector pixels, so that the second is smaller, while variances of the first kind add up to
the variance of a sum over many pixels. In between, a circular aperture of radius r has f times the sum of
`var_*`, f = 1 - 0.40 p / r for detector pixels of side p: measured on simulated noise at p / r from 0.14 to
1.1, square kernel with pixfrac 1. The ratio of the two depends on the geometry alone - pixel sizes,
orientation and phase of the pixels, kernel, pixfrac, number of exposures - and is taken from places all over
the coadd.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from .drizzle_library import RIM, add_image, padding, positions
from .grid import Grid

#: Places of a coadd that are looked at, and half of their side, output pixels.
N_PLACES, HALF = 9, 24
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
        one place; `aperture_factor`: the formula of f, None for other kernels; `detector_pixel`: p, arcsec.
    """
    maps = [member.pixmap for member in members]
    ratios = np.array([pixmap.on_grid(grid).pixel_ratio for pixmap in maps])
    noise = _relative([float(member.sky_variance) for member in members])
    noise = noise * _relative(weights) ** 2
    found = []
    for window in _places(context, N_PLACES):
        ratio = _ratio_at(window, maps, ratios, noise, context, grid, parameters)
        found += [] if ratio is None else [ratio]
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


def _ratio_at(window, maps, ratios, noise, context, grid: Grid, parameters) -> float | None:
    """Mean of pixel_var / var over the covered pixels of a window, for w^2 v of each exposure."""
    y0, y1, x0, x1 = window
    part = replace(grid, x0=grid.x0 - x0, y0=grid.y0 - y0, nx=int(x1 - x0), ny=int(y1 - y0))
    bits = context[:, y0:y1, x0:x1]
    here = np.bitwise_or.reduce(bits, axis=(1, 2))
    areas, pixels = np.zeros((2, *part.shape))
    for m, pixmap in enumerate(maps):
        if here[m // 32] >> np.uint32(m % 32) & np.uint32(1):
            share, square = _sums(pixmap, ratios[m], part, parameters)
            areas += noise[m] * share
            pixels += noise[m] * square
    # where a kernel's lobes nearly cancel, a ratio says nothing
    known = bits.any(axis=0) & (areas > 0.01 * areas.max())
    return float(np.mean(pixels[known] / areas[known])) if known.any() else None


def _sums(pixmap, pixel_ratio: float, part: Grid, parameters) -> tuple[np.ndarray, np.ndarray]:
    """Sums of a and of a^2 over the pixels of one exposure, as if all were good."""
    pad = padding(pixel_ratio)
    gridmap = pixmap.on_grid(part.padded(pad))
    window = gridmap.window()
    if window is None:
        return np.zeros(part.shape), np.zeros(part.shape)
    y0, y1, x0, x1 = window
    kernel = parameters["kernel"], parameters["pixfrac"]
    spans = np.arange(x0 - RIM, x1 + RIM), np.arange(y0 - RIM, y1 + RIM)
    ones = np.pad(np.ones((y1 - y0, x1 - x0), np.float32), RIM)
    library = add_image(
        ones,
        ones,
        positions(gridmap, *spans, *kernel),
        gridmap.grid.shape,
        pixel_ratio,
        *kernel,
        variance=ones,
    )
    inner = np.s_[pad : pad + part.ny, pad : pad + part.nx]
    share = library.out_wht[inner].astype(float)
    return share, np.nan_to_num(library.out_img2[0][inner]) * share**2
