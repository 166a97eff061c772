"""
Step `flux`: calibrate one exposure to MJy/sr and learn its sky, once for all products that use it.

Data and errors are multiplied by the exposure's photometric conversion, variances by its square. Pixels that
no later step can use (values that are not finite, errors or variances that are not positive) are marked
DO_NOT_USE and counted by reason. The sky is measured in blocks, and the noise of the sky as a model: a constant
variance plus a slope per unit of signal.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from . import dq as dq_flags
from .errors import ExposureError
from .halves import from_half, to_half
from .sky import block_statistics, block_variances, sky_noise

VARIANCES = ("var_poisson", "var_rnoise", "var_flat")
#: Below this sky variance (MJy^2/sr^2) the schema's float16 loses digits: its normal numbers end at 6e-5.
FLOAT16_VARIANCE = 1e-4


@dataclass
class Calibrated:
    """
    One exposure after `flux`.

    Attributes
    ----------
    data, err : (ny, nx) float32 arrays
        MJy/sr.
    dq : (ny, nx) uint32 array
        Data quality, unusable pixels marked DO_NOT_USE.
    variances : dict of (ny, nx) float32 arrays
        var_poisson, var_rnoise and, where the exposure has it, var_flat; MJy^2/sr^2.
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
    variances: dict[str, np.ndarray]
    sky_blocks: dict
    noise: dict
    unusable: dict[str, int] = field(default_factory=dict)

    def halves(self) -> dict[str, np.ndarray]:
        """Errors and variances in the precision of the schema, float16."""
        return {name: to_half(plane) for name, plane in {"err": self.err, **self.variances}.items()}

    def summary(self) -> str:
        """Sky and unusable pixels, for the log."""
        reasons = [f"{count} {reason}" for reason, count in self.unusable.items() if count]
        sky = f"sky {self.noise['pedestal']:.4f} MJy/sr"
        return f"{sky}, unusable pixels: {', '.join(reasons) or 'none'}"

    def precise_variances(self) -> dict[str, np.ndarray]:
        """Variances that need float32 because the schema's float16 would lose their digits; often none."""
        deep = self.noise["sky_variance"] < FLOAT16_VARIANCE
        return dict(self.variances) if deep else {}


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
        data (float32), err (float16), dq (uint32), var_poisson (float16) and optionally var_rnoise and
        var_flat (float16), in units of the exposure (DN/s) and its square.
    conversion : float
        MJy/sr per unit; 1 for an exposure that is calibrated already.
    where : str
        File name, for error messages.
    max_unusable_fraction : float
        An exposure with a larger share of unusable pixels is refused.
    sky : mapping, optional
        Parameters of the sky statistics: skystat, dqbits, lower, upper, nclip, lsigma, usigma, binwidth.
    in_place : bool
        Whether data and dq may be overwritten where that saves a copy.

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
    # float16 holds neither the products nor the sums that follow.
    scaled = {name: _scaled(arrays[name], conversion**2) for name in VARIANCES if name in arrays}
    err = _scaled(arrays["err"], conversion)
    data = _scaled(arrays["data"], conversion, in_place)
    copy = None if in_place and arrays["dq"].flags.writeable else True
    dq = np.array(arrays["dq"], dtype=np.uint32, copy=copy)
    given = dq & dq_flags.FLAGS["DO_NOT_USE"] != 0
    if "var_rnoise" not in scaled:
        scaled["var_rnoise"] = _read_noise(err, scaled, given)
    unusable = _mark_unusable(data, err, dq, scaled, given)
    _check_share(where, dq, unusable, max_unusable_fraction)
    bad = dq_flags.bad_mask(dq, good_bits) | (dq & dq_flags.FLAGS["DO_NOT_USE"] != 0)
    planes = data, bad, scaled["var_rnoise"], scaled["var_poisson"]
    return Calibrated(
        *(data, err, dq, scaled),
        sky_blocks={**block_statistics(data, bad, **sky), "variance": block_variances(*planes)},
        noise=sky_noise(*planes),
        unusable=unusable,
    )


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
    given = dq & dq_flags.FLAGS["DO_NOT_USE"] != 0
    variances = {name: arrays[name] for name in VARIANCES if name in arrays}
    unusable = _mark_unusable(arrays["data"], arrays["err"], dq, variances, given)
    _check_share(where, dq, unusable, max_unusable_fraction)


def _check_shapes(where: str, arrays: Mapping[str, np.ndarray]) -> None:
    shapes = {name: np.shape(array) for name, array in arrays.items()}
    if len(set(shapes.values())) != 1 or len(shapes["data"]) != 2:
        raise ExposureError(where, f"has arrays of different shapes: {shapes}", "make it again")


def _check_share(where: str, dq: np.ndarray, unusable: dict[str, int], limit: float) -> None:
    share = np.count_nonzero(dq & dq_flags.FLAGS["DO_NOT_USE"]) / dq.size
    if share > limit:
        reasons = ", ".join(f"{name} {count}" for name, count in unusable.items() if count)
        raise ExposureError(
            where,
            f"has {100 * share:.1f} % unusable pixels ({reasons})",
            "leave it out, or raise flux.max_unusable_fraction",
        )


def _scaled(array: np.ndarray, factor: float, in_place: bool = False) -> np.ndarray:
    """Float32 values times a factor; the array itself where that is what it is already, or `in_place`."""
    if array.dtype.type is np.float16:
        return from_half(array, factor)
    values = np.asarray(array, dtype=np.float32)
    if in_place and values.flags.writeable:
        values *= np.float32(factor)
        return values
    return values if factor == 1 else values * np.float32(factor)


def _read_noise(err: np.ndarray, variances: dict, bad: np.ndarray) -> np.ndarray:
    """
    Read-noise variance of an exposure that does not carry it: what err leaves after the other variances.

    Under bright sources that difference is rounding noise of float16, of either sign: it is floored at half the
    median of the pixels where read noise is a fair share of the error.
    """
    total = err**2
    left = total.copy()
    with np.errstate(invalid="ignore"):  # infinite errors are marked later
        for variance in variances.values():
            left -= variance
    fair = ~bad & (left > 0.1 * total) & (left < np.inf)
    floor = 0.5 * np.median(left[fair]) if fair.any() else np.float32(np.finfo(np.float32).tiny)
    # Pixels whose err or variances are unusable stay so (NaN passes through maximum).
    return np.maximum(left, np.float32(floor))


def _mark_unusable(
    data: np.ndarray, err: np.ndarray, dq: np.ndarray, variances: dict, given: np.ndarray
) -> dict[str, int]:
    """Mark pixels DO_NOT_USE in dq for what is wrong with their values; returns counts by reason."""
    counts = {"flagged": int(np.count_nonzero(given))}
    for reason, values in {"data not finite": data, "err not positive": err, **variances}.items():
        if values is data:
            fit = np.isfinite(data)
        else:
            # Flat-field variance may be exactly zero; noise of the detector and of the light may not.
            fit = (values >= 0 if reason == "var_flat" else values > 0) & (values < np.inf)
        wrong = ~fit
        name = f"{reason} not positive" if reason in variances else reason
        counts[name] = int(np.count_nonzero(wrong & ~given))
        dq[wrong] |= np.uint32(dq_flags.FLAGS["DO_NOT_USE"])
    return counts
