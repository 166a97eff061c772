"""
Step `flux`: calibrate one exposure to MJy/sr and learn its sky, once for all products that use it.

Data and errors are multiplied by the exposure's photometric conversion, variances by its square. Pixels that
no later step can use (values that are not finite, errors or variances that are not positive) are marked
DO_NOT_USE, lose their value and are counted by reason. The sky is measured in blocks, and the noise of the sky
as a model: a constant variance plus a slope per unit of signal.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from . import dq as dq_flags
from .dq_list import DqList
from .errors import ExposureError
from .halves import from_half, is_positive, scale_half, to_half
from .sky import bands, block_statistics, block_variances, sample_step, sky_noise

VARIANCES = ("var_poisson", "var_rnoise", "var_flat")
#: Below this sky variance (MJy^2/sr^2) the schema's float16 loses digits: its normal numbers end at 6e-5.
FLOAT16_VARIANCE = 1e-4
#: Bit of the pixels that carry nothing.
_UNUSABLE = np.uint32(dq_flags.FLAGS["DO_NOT_USE"])


@dataclass
class Calibrated:
    """
    One exposure after `flux`.

    Attributes
    ----------
    data : (ny, nx) float32 array
        MJy/sr; NaN where the error or a variance is not usable.
    err : (ny, nx) float16 array
        MJy/sr.
    dq : (ny, nx) uint32 array
        Data quality, unusable pixels marked DO_NOT_USE.
    flagged : DqList
        The same as a list.
    variances : dict of (ny, nx) float16 arrays
        var_poisson, var_rnoise and, where the exposure has it, var_flat; MJy^2/sr^2.
    precise_variances : dict of (ny, nx) float32 arrays
        The same where the schema's float16 would lose their digits; often none.
    sky_blocks : dict
        See `sky.block_statistics`; besides `variance`, see `sky.block_variances`.
    noise : dict
        See `sky.sky_noise`.
    unusable : dict of int
        Number of pixels by reason.
    """

    data: np.ndarray
    err: np.ndarray
    dq: np.ndarray
    flagged: DqList
    variances: dict[str, np.ndarray]
    precise_variances: dict[str, np.ndarray]
    sky_blocks: dict
    noise: dict
    unusable: dict[str, int]

    def summary(self) -> str:
        """Sky and unusable pixels, for the log."""
        reasons = [f"{count} {reason}" for reason, count in self.unusable.items() if count]
        sky = f"sky {self.noise['pedestal']:.4f} MJy/sr"
        return f"{sky}, unusable pixels: {', '.join(reasons) or 'none'}"


def calibrate(
    arrays: Mapping[str, np.ndarray],
    conversion: float,
    *,
    where: str,
    max_unusable_fraction: float = 0.5,
    sky: Mapping | None = None,
    in_place: bool = False,
) -> Calibrated:
    """
    Calibrate an exposure to surface brightness.

    Parameters
    ----------
    arrays : mapping of (ny, nx) arrays
        data (float32), dq (uint32), err, var_poisson and optionally var_rnoise and var_flat (float16), in units
        of the exposure (DN/s) and its square.
    conversion : float
        MJy/sr per unit, 1e-15 to 1e15; 1 for an exposure that is calibrated already.
    where : str
        File name, for error messages.
    max_unusable_fraction : float
        An exposure with a larger share of unusable pixels is refused.
    sky : mapping, optional
        Parameters of the sky statistics: skystat, dqbits, lower, upper, nclip, lsigma, usigma, binwidth.
    in_place : bool
        Whether the arrays may be overwritten where that saves a copy.

    Returns
    -------
    Calibrated

    Raises
    ------
    ExposureError
        Too many unusable pixels, or arrays of different shapes.
    """
    sky = dict(sky or {})
    good_bits = sky.pop("dqbits", "~DO_NOT_USE")
    _check_shapes(where, arrays)
    data = _own(arrays["data"], np.float32, in_place)
    data *= np.float32(conversion)
    dq = _own(arrays["dq"], np.uint32, in_place)
    variances, factor = {n: arrays[n] for n in VARIANCES if n in arrays}, conversion**2
    if "var_rnoise" not in variances:
        variances["var_rnoise"] = _read_noise(arrays["err"], dq, list(variances.values()))
    unusable, places = _mark_unusable(data, arrays["err"], dq, variances)
    data.flat[places], flagged = np.nan, DqList.of(dq)  # no choice of good bits makes them count
    _check_share(where, flagged, unusable, max_unusable_fraction)
    bad = flagged.mask(_UNUSABLE | dq_flags.bad_bits(good_bits))  # what is no sky
    planes = data, bad, variances["var_rnoise"], variances["var_poisson"], factor
    noise = sky_noise(*planes)
    sky_blocks = {**block_statistics(data, bad, **sky), "variance": block_variances(*planes)}
    deep = noise["sky_variance"] < FLOAT16_VARIANCE
    precise = {name: _scaled(plane, factor) for name, plane in variances.items() if deep}
    # Last, as they may take the place of what is in units of the exposure.
    err = _halves(arrays["err"], conversion, in_place)
    halves = {name: _halves(plane, factor, in_place) for name, plane in variances.items()}
    return Calibrated(data, err, dq, flagged, halves, precise, sky_blocks, noise, unusable)


def check_usable(
    arrays: Mapping[str, np.ndarray], *, where: str, max_unusable_fraction: float = 0.5
) -> None:
    """
    Refuse an exposure with too many unusable pixels, without calibrating it.

    Parameters
    ----------
    arrays, where, max_unusable_fraction
        As for `calibrate`.

    Raises
    ------
    ExposureError
        As `calibrate`.
    """
    _check_shapes(where, arrays)
    dq = np.array(arrays["dq"], dtype=np.uint32)
    variances = {name: arrays[name] for name in VARIANCES if name in arrays}
    unusable, _ = _mark_unusable(arrays["data"], arrays["err"], dq, variances)
    _check_share(where, DqList.of(dq), unusable, max_unusable_fraction)


def _check_shapes(where: str, arrays: Mapping[str, np.ndarray]) -> None:
    shapes = {name: np.shape(array) for name, array in arrays.items()}
    if len(set(shapes.values())) != 1 or len(shapes["data"]) != 2:
        raise ExposureError(where, f"has arrays of different shapes: {shapes}", "make it again")


def _check_share(where: str, flagged: DqList, unusable: dict[str, int], limit: float) -> None:
    share = np.count_nonzero(flagged.values & _UNUSABLE) / np.prod(flagged.shape)
    if share > limit:
        reasons = ", ".join(f"{name} {count}" for name, count in unusable.items() if count)
        raise ExposureError(
            where,
            f"has {100 * share:.1f} % unusable pixels ({reasons})",
            "leave it out, or raise flux.max_unusable_fraction",
        )


def _own(array: np.ndarray, dtype: type, in_place: bool) -> np.ndarray:
    """Array of a native type that may be written to; the array itself where that is allowed."""
    return np.array(array, dtype=dtype, copy=None if in_place and array.flags.writeable else True)


def _scaled(array: np.ndarray, factor: float) -> np.ndarray:
    """Float32 values times a factor."""
    if array.dtype.type is np.float16:
        return from_half(array, factor)
    return np.asarray(array, dtype=np.float32) * np.float32(factor)


def _halves(array: np.ndarray, factor: float, in_place: bool) -> np.ndarray:
    """Float16 values times a factor."""
    if array.dtype.type is np.float16:
        return scale_half(array, factor, in_place)
    halves = np.empty(array.shape, np.float16)
    for rows in bands(array):
        halves[rows] = to_half(_scaled(array[rows], factor))
    return halves


def _flagged(dq: np.ndarray) -> np.ndarray:
    return dq & _UNUSABLE != 0


def _read_noise(err: np.ndarray, dq: np.ndarray, variances: list[np.ndarray]) -> np.ndarray:
    """
    Read-noise variance of an exposure that does not carry it: what err leaves after the other variances.

    Under bright sources that difference is rounding noise of float16, of either sign: it is floored at half the
    median of the pixels where read noise is a fair share of the error, or at a thousandth of the variance
    where it is nowhere.
    """
    sample = np.s_[:: sample_step(err.size)]
    total, left = _remainder(*(plane.ravel()[sample] for plane in (err, *variances)))
    good = ~_flagged(dq.ravel()[sample]) & np.isfinite(total)
    fair = good & (left > 0.1 * total) & (left < np.inf)
    values = 0.5 * left[fair] if fair.any() else 1e-3 * total[good]
    floor = np.float32(np.median(values)) if values.size else np.finfo(np.float32).tiny
    made = np.empty(err.shape, np.float32)
    for rows in bands(err):
        _, left = _remainder(*(plane[rows] for plane in (err, *variances)))
        # Pixels whose err or variances are unusable stay so (NaN passes through maximum).
        np.maximum(left, floor, out=made[rows])
    return made


def _remainder(err: np.ndarray, *variances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Squares of errors, and what variances leave of them; float32."""
    with np.errstate(invalid="ignore", over="ignore"):  # infinite errors are marked later
        total = _scaled(err, 1.0) ** 2
        left = total.copy()
        for variance in variances:
            left -= _scaled(variance, 1.0)
    return total, left


def _mark_unusable(
    data: np.ndarray, err: np.ndarray, dq: np.ndarray, variances: dict[str, np.ndarray]
) -> tuple[dict[str, int], np.ndarray]:
    """Mark pixels DO_NOT_USE in dq for what is wrong with their values; counts by reason, and flat indices."""
    planes = {"data not finite": data, "err not positive": err}
    planes |= {f"{name} not positive": plane for name, plane in variances.items()}
    counts, places = dict.fromkeys(["flagged", *planes], 0), [np.empty(0, np.int64)]
    for rows in bands(dq):
        given = _flagged(dq[rows])
        counts["flagged"] += int(np.count_nonzero(given))
        for reason, plane in planes.items():
            if plane is data:
                fit = np.isfinite(data[rows])
            else:
                # Flat-field variance may be exactly zero; noise of the detector and of the light may not.
                fit = is_positive(plane[rows], or_zero=reason.startswith("var_flat"))
            if (new := ~(fit | given)).any():
                counts[reason] += int(np.count_nonzero(new))
                dq[rows][new] |= _UNUSABLE
                places.append(rows.start * dq.shape[1] + np.flatnonzero(new))
    return counts, np.concatenate(places)
