"""
Weights of detector pixels in a coadd, by `weight_type`.

Weights that follow the signal take flux from star cores: of the types here only the last two do, and are
meant for comparisons.

ivm
    1 / variance of the exposure's sky pixels: one number per exposure.
ivm-block
    The same in blocks of pixels, for detectors on which the noise changes from place to place: a smooth map
    through the medians of blocks, in which neither sources nor hits leave a trace.
exptime
    Exposure time.
none
    1.
ivm-sky
    1 / (var_rnoise + var_poisson s / data) of each pixel, s the sky level: romancal's type of this name. In
    faint pixels, where the ratio says little, data count as half of the sky level at least.
ivm-pixel
    1 / var_rnoise of each pixel: what romancal calls ivm. As a ramp fit weights its reads by the signal,
    var_rnoise grows with it, and fluxes through 0.4" of stars of middling magnitudes come out up to 8 % low.
"""

from collections.abc import Callable, Sequence

import numpy as np

from .errors import ExposureError

WEIGHT_TYPES = ("ivm", "ivm-block", "exptime", "none", "ivm-sky", "ivm-pixel")
#: Blocks on a side over which the variances of blocks are medianed: no source is as large as half of them.
SMOOTHING = 5

#: Weights (ny, nx) or (1, nx) float32 of a part of the detector, from the part and its data, var_rnoise and
#: var_poisson.
PixelWeights = Callable[[tuple[slice, slice], np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def exposure_weights(members: Sequence, weight_type: str) -> np.ndarray:
    """
    Weight of an ordinary sky pixel of each exposure.

    Parameters
    ----------
    members : sequence of FluxExposure
        Their `sky_variance`, `pedestal` or `exposure_time` are looked at.
    weight_type : str
        One of `WEIGHT_TYPES`.

    Returns
    -------
    (n,) float64 array
        1 / sky variance (sr^2/MJy^2) for all that begin with ivm; seconds for exptime; 1 for none.

    Raises
    ------
    ExposureError
        The variance, the sky level or the exposure time is not a positive number.
    ValueError
        Unknown weight type.
    """
    if weight_type not in WEIGHT_TYPES:
        raise ValueError(f"weight_type is one of {', '.join(WEIGHT_TYPES)}, not {weight_type!r}")
    weights = np.ones(len(members))
    for i, member in enumerate(members):
        if weight_type == "exptime":
            weights[i] = _positive(member, "exposure_time", weight_type)
        elif weight_type != "none":
            weights[i] = 1 / _positive(member, "sky_variance", weight_type)
        if weight_type == "ivm-sky":
            _positive(member, "pedestal", weight_type)
    return weights


def _positive(member, what: str, weight_type: str) -> float:
    value = float(getattr(member, what))
    if np.isfinite(value) and value > 0:
        return value
    name = {"pedestal": "sky level"}.get(what, what.replace("_", " "))
    raise ExposureError(
        member.name,
        f"cannot be weighted by {weight_type}: its {name} is {value}",
        "leave it out, or choose another weight_type",
    )


def pixel_weights(member, weight_type: str, weight: float, unit: float = 1.0) -> PixelWeights:
    """
    Return the function that gives the weights of an exposure's pixels.

    What it says of a pixel does not depend on the part that is asked for.

    Parameters
    ----------
    member : FluxExposure
        Or anything with `shape`; for ivm-block `sky_blocks` and `sky_variance`, for ivm-sky `pedestal`.
    weight_type : str
        One of `WEIGHT_TYPES`.
    weight : float
        Of `exposure_weights`: what types without a map give to every pixel.
    unit : float
        Unit of the weights.

    Returns
    -------
    callable
        See `PixelWeights`. Weights of pixels whose variances are not positive numbers may be no numbers.
    """
    scale = np.float32(1 / unit)
    if weight_type == "ivm-block":
        variance_of = _BlockMap(member)

        def weigh(part, data, var_rnoise, var_poisson):
            return scale / variance_of(part)

    elif weight_type == "ivm-sky":
        sky = np.float32(member.pedestal)

        def weigh(part, data, var_rnoise, var_poisson):
            return scale / (var_rnoise + var_poisson * (sky / np.maximum(data, sky / 2)))

    elif weight_type == "ivm-pixel":

        def weigh(part, data, var_rnoise, var_poisson):
            with np.errstate(divide="ignore"):
                return scale / var_rnoise

    else:
        row = np.full((1, member.shape[1]), weight / unit, np.float32)

        def weigh(part, data, var_rnoise, var_poisson):
            return row[:, part[1]]

    return weigh


def smooth_blocks(variance: np.ndarray, fallback: float) -> np.ndarray:
    """
    Take the medians of 5 x 5 blocks: a step between halves of a detector stays, what a few blocks have goes.

    Parameters
    ----------
    variance : (nby, nbx) float32 array
        Variances of blocks; NaN where unknown.
    fallback : float
        Variance where all blocks of a median are unknown.

    Returns
    -------
    (nby, nbx) float32 array
    """
    padded = np.pad(variance, SMOOTHING // 2, mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (SMOOTHING, SMOOTHING))
    known = np.isfinite(windows).any(axis=(2, 3))
    out = np.full(variance.shape, fallback, np.float32)
    out[known] = np.nanmedian(windows[known], axis=(1, 2))
    return out


class _BlockMap:
    """Variance at every pixel: linear between the centres of the blocks, constant beyond the outer ones."""

    def __init__(self, member) -> None:
        blocks = member.sky_blocks
        self.variance = smooth_blocks(blocks["variance"], member.sky_variance)
        sides = zip((blocks["y"], blocks["x"]), member.shape, strict=True)
        self.rows, self.columns = (_between(centers, n) for centers, n in sides)

    def __call__(self, part: tuple[slice, slice]) -> np.ndarray:
        (y0, y1, v), (x0, x1, u) = (
            tuple(array[span] for array in axis)
            for axis, span in zip((self.rows, self.columns), part, strict=True)
        )
        # Value by value and no matrix product, which would round differently in windows of other sizes.
        lines = self.variance[y0] * (1 - v)[:, None] + self.variance[y1] * v[:, None]
        return lines[:, x0] * (1 - u) + lines[:, x1] * u


def _between(centers: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of n pixels: the blocks before and after, and how far it is from the one to the other (float32)."""
    place = np.interp(np.arange(n), centers, np.arange(len(centers)))
    before = np.floor(place).astype(np.int64)
    return before, np.minimum(before + 1, len(centers) - 1), (place - before).astype(np.float32)
