"""
Resample: the weighted mean of the exposures of one product, with variances, weights and context.

Exposures are added one by one (`drizzling`), so that memory does not grow with their number. With a = overlap
area over the area of the detector pixel, each detector pixel's a sum to 1 over the output, and

    weight = sum(a w)        data = sum(a w d) / sum(a w)        var_* = sum(a w^2 v_*) / sum(a w)^2

The weight w does not follow the signal, so that star cores keep their weight (`weights` tells the types, and
the exceptions). Neighbouring output pixels share detector pixels and are correlated; `var_*` and `err` are
scaled such that variances of the pixels of a large area add up to the variance of its sum. The scatter of
single pixels is smaller: `pixel_noise` says by how much.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from .dq import bad_bits
from .dq_list import BadPixels
from .drizzle_dq import DqSum
from .drizzling import Drizzle
from .errors import ExposureError
from .grid import Grid
from .halves import half_table
from .image_statistics import image_statistics
from .pixel_noise import noise_factors
from .resample_kernels import exposure_times, fill_planes, finish_rows, widen
from .threads import Scratch, in_threads
from .weights import exposure_weights, pixel_weights

#: Rows that are prepared or finished in one go.
BAND = 64


@dataclass(frozen=True)
class MemberUse:
    """
    What one exposure gave to a coadd.

    Attributes
    ----------
    exposure : str
        Its name.
    status : {"USED", "OUTSIDE", "NO_GOOD_PIXELS"}
        OUTSIDE: it misses the grid. NO_GOOD_PIXELS: it has not one good pixel there.
    level : float
        Sky level subtracted, MJy/sr.
    weight : float
        Weight of its good pixels; of ordinary ones, where they differ.
    window : tuple of int or None
        Part (y0, y1, x0, x1) of the detector that was read.
    n_bad, n_flagged : int
        Pixels of the window that are left out for their DQ or values, and those as outliers alone.
    n_used : int
        Good pixels of the detector with their centre in the grid.
    n_covered : int
        Pixels of the coadd that they reach.
    """

    exposure: str
    status: str
    level: float
    weight: float
    window: tuple[int, int, int, int] | None = None
    n_bad: int = 0
    n_flagged: int = 0
    n_used: int = 0
    n_covered: int = 0

    def to_tree(self) -> dict:
        """Plain types, for files."""
        tree = {name: int(n) for name, n in vars(self).items() if name.startswith("n_")}
        window = None if self.window is None else [int(edge) for edge in self.window]
        tree |= {"level": float(self.level), "weight": float(self.weight), "window": window}
        return {"exposure": self.exposure, "status": self.status, **tree}


@dataclass
class Coadd:
    """
    Arrays of a coadd; all (ny, nx) float32 but for `context`.

    Attributes
    ----------
    data : array
        MJy/sr; the fill value where nothing is covered.
    err : array
        MJy/sr, root of the sum of the variances; NaN where nothing is covered.
    weight : array
        Sum of the weights (ivm: sr^2/MJy^2; exptime: s); 0 where nothing is covered.
    context : (n, ny, nx) uint32 array
        Bit m % 32 of plane m // 32: exposure m contributed.
    var_rnoise, var_poisson : array
        MJy^2/sr^2, scaled for sums over areas; NaN where nothing is covered.
    var_flat : array or None
        The same of the flat field, if asked for.
    dq : (ny, nx) uint32 array or None
        Flags of all detector pixels that contribute, if asked for.
    exposure_time, max_exposure_time : float
        Mean over the covered pixels, and largest, s; 0 if nothing is covered.
    members : list of MemberUse
        In the order of the context bits.
    noise : dict
        Noise of single pixels and apertures over that of large areas: see `pixel_noise.noise_factors`.
    statistics : dict
        Of the covered pixels: see `image_statistics.image_statistics`.
    """

    data: np.ndarray
    err: np.ndarray
    weight: np.ndarray
    context: np.ndarray
    var_rnoise: np.ndarray
    var_poisson: np.ndarray
    var_flat: np.ndarray | None = None
    dq: np.ndarray | None = None
    exposure_time: float = 0.0
    max_exposure_time: float = 0.0
    members: list[MemberUse] = field(default_factory=list)
    noise: dict = field(default_factory=dict)
    statistics: dict = field(default_factory=dict)


def resample(
    members: Sequence,
    levels: Sequence[float],
    flagged: Sequence[np.ndarray | None],
    grid: Grid,
    parameters: Mapping,
    threads: int = 1,
) -> Coadd:
    """
    Coadd exposures on a grid.

    Parameters
    ----------
    members : sequence of FluxExposure
        Or anything with name, shape, data, dq, var_rnoise, var_poisson, var_flat, sky_variance, exposure_time,
        effective_exposure_time and pixmap, and what its weights need (see `weights.pixel_weights`). Only the
        windows that fall in the grid are read.
    levels : sequence of float
        Sky level of each exposure, MJy/sr, subtracted.
    flagged : sequence of integer arrays or None
        Outliers of each exposure, flat indices into its detector frame.
    grid : Grid
        Output grid.
    parameters : mapping
        Section ``resample`` of the configuration.
    threads : int
        Results do not depend on it.

    Returns
    -------
    Coadd

    Raises
    ------
    ExposureError
        An exposure has no usable weight, or outliers outside its frame.
    ValueError
        A parameter out of range, or lists of different length.
    """
    weights = exposure_weights(members, parameters["weight_type"])
    if len(set(counts := (len(members), len(levels), len(flagged)))) > 1:
        raise ValueError("{} exposures, {} levels, {} flag lists".format(*counts))
    # A power of two: scaling keeps every digit, so that cells with other members get the same bits.
    unit = 2.0 ** np.round(np.median(np.log2(weights))) if len(weights) else 1.0
    names = ["var_rnoise", "var_poisson"] + ["var_flat"] * bool(parameters["include_var_flat"])
    kernel = {key: parameters[key] for key in ("kernel", "pixfrac")}
    engine = {"engine": parameters["engine"], "threads": threads}
    drizzle = Drizzle(grid, 2 + len(names), len(members), **kernel, **engine)
    dq = DqSum(grid, **kernel) if parameters["propagate_dq"] else None
    reader = _Reader(names, parameters, unit, threads)
    # Placed by this thread: Python's work, which beside other threads takes three times as long.
    places = (drizzle.place(member.pixmap) for member in members)
    given = enumerate(zip(places, members, weights, levels, flagged, strict=True))
    uses = [_add(drizzle, dq, reader, number, *member) for number, member in given]
    del reader  # and its planes, before the arrays of the result are made
    finish = partial(_finish, drizzle, dq, unit, parameters["fillval"], members, uses, threads)
    noise = partial(noise_factors, members, weights, drizzle.context, grid, parameters)
    coadd, coadd.noise = in_threads(lambda work: work(), (finish, noise), threads)
    return coadd


def exposure_time_map(context: np.ndarray, times: Sequence[float]) -> np.ndarray:
    """
    Exposure time of each pixel of a coadd.

    Parameters
    ----------
    context : (n, ny, nx) uint32 array
        Bits of the exposures.
    times : sequence of float
        Exposure times, s, in the order of the bits.

    Returns
    -------
    (ny, nx) float32 array, s
    """
    out = np.zeros(context.shape[1:], np.float32)
    exposure_times(context, np.asarray(times, np.float64), out)
    return out


class _Reader:
    """Reads windows of exposures into one array that is used again for the next exposure."""

    def __init__(self, names: list[str], parameters: Mapping, unit: float, threads: int) -> None:
        self.names, self.unit, self.threads = names, unit, threads
        self.bad_bits = bad_bits(parameters["good_bits"])
        self.weight_type = parameters["weight_type"]
        self.scratch = np.empty(0, np.float32)
        self.bands = Scratch(np.float32)

    def planes(self, member, window, level, flags, weight) -> tuple[np.ndarray, int, int]:
        """
        Read the planes w d, w, w^2 v_1, ... of a window, zero in bad pixels.

        Returns
        -------
        planes : (rows, columns, n_planes) float32 array
            Valid until the next call.
        n_bad, n_flagged : int
            See `MemberUse`.
        """
        y0, y1, x0, x1 = window
        shape = (y1 - y0, x1 - x0, 2 + len(self.names))
        if self.scratch.size < np.prod(shape):
            self.scratch = np.empty(np.prod(shape), np.float32)
        planes = self.scratch[: np.prod(shape)].reshape(shape)
        outliers = _outliers(member, flags, window)
        # Maps of this call alone: its pages and its open files end with it.
        data, bad = member.data, BadPixels.of(member.dq, self.bad_bits)
        variances = [getattr(member, name) for name in self.names]
        weigh = pixel_weights(member, self.weight_type, weight, self.unit)

        def band(start: int) -> tuple[int, int]:
            rows = slice(y0 + start, min(y0 + start + BAND, y1))
            part = np.s_[rows, x0:x1]
            low, high = np.searchsorted(outliers[0], [rows.start, rows.stop])
            here = outliers[0][low:high] - rows.start, outliers[1][low:high] - x0
            out = planes[start : start + BAND]
            with self.bands.array((len(variances), *out.shape[:2])) as parts:
                for plane, variance in zip(variances, parts, strict=True):
                    _read_variance(plane, part, variance)
                values = data[rows], *bad.of_rows(rows.start, rows.stop)
                weights = weigh(part, values[0][:, x0:x1], *parts[:2])
                given = here, tuple(parts), level, weights, out
                n_good, n_flagged = fill_planes(values, x0, *given)
            return out[..., 0].size - n_good - n_flagged, n_flagged

        counts = in_threads(band, range(0, y1 - y0, BAND), self.threads)
        return planes, sum(n for n, _ in counts), sum(n for _, n in counts)


def _read_variance(plane, part, out: np.ndarray) -> None:
    """Fill `out` with part of a variance plane; with zeros where the exposure has no variance of the flat."""
    if plane is None:
        out[:] = 0
    # 16-bit values would overflow in the first product.
    elif plane.dtype == np.float16:
        widen(plane[part[0]].view(np.uint16), part[1].start, half_table(), out)
    else:
        out[:] = plane[part]


def _outliers(member, flags, window) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns, ordered by row, of the flat indices that lie in a window."""
    flat = np.sort(np.asarray([] if flags is None else flags, dtype=np.int64).ravel())
    ny, nx = member.shape
    if flat.size and (flat[0] < 0 or flat[-1] >= ny * nx):
        raise ExposureError(
            member.name,
            f"has outliers flagged beyond its {ny} x {nx} pixels",
            "delete the outlier_detection results and run again",
        )
    y, x = np.divmod(flat, nx)
    y0, y1, x0, x1 = window
    inside = (y >= y0) & (y < y1) & (x >= x0) & (x < x1)
    return y[inside], x[inside]


def _add(
    drizzle: Drizzle, dq: DqSum | None, reader, number: int, placement, member, weight, level, flags
):
    """Add one exposure; return its `MemberUse`."""
    use = {"exposure": member.name, "level": float(level), "weight": float(weight)}
    if placement is None:
        return MemberUse(status="OUTSIDE", **use)
    y0, y1, x0, x1 = window = placement.window
    planes, n_bad, n_flagged = reader.planes(member, window, level, flags, weight)
    n_used, n_covered = drizzle.add(number, placement, planes, weight / reader.unit)
    status = "USED" if n_covered else "OUTSIDE" if planes[..., 1].any() else "NO_GOOD_PIXELS"
    if dq is not None and n_covered:
        good = planes[..., 1] > 0
        covered = drizzle.context[number // 32] & np.uint32(1 << (number % 32)) != 0
        dq.add(member.pixmap, window, np.asarray(member.dq[y0:y1, x0:x1], np.uint32), good, covered)
    return MemberUse(
        status=status,
        window=window,
        n_bad=n_bad,
        n_flagged=n_flagged,
        n_used=n_used,
        n_covered=n_covered,
        **use,
    )


def _finish(drizzle: Drizzle, dq: DqSum | None, unit: float, fillval, members, uses, threads: int):
    """Turn the sums into means, variances and weights, in place: the coadd, but for its noise."""
    data, weight, *variances = drizzle.sums
    err = np.empty_like(data)
    fill = np.float32(fillval)
    variances = tuple(variances)
    times = np.array([float(member.effective_exposure_time) for member in members])

    def band(start: int) -> tuple[int, float]:
        rows = slice(start, start + BAND)
        n_covered = finish_rows(
            data[rows], weight[rows], tuple(v[rows] for v in variances), err[rows], unit, fill
        )
        return n_covered, exposure_times(
            drizzle.context[:, rows], times, np.empty((0, 0), np.float32)
        )

    counts = in_threads(band, range(0, drizzle.grid.ny, BAND), threads)
    n_covered = sum(n for n, _ in counts)
    total = sum(time * use.n_covered for time, use in zip(times, uses, strict=True))
    return Coadd(
        data,
        err,
        weight,
        drizzle.context,
        *variances,
        dq=None if dq is None else dq.dq,
        exposure_time=float(total / n_covered) if n_covered else 0.0,
        max_exposure_time=max(t for _, t in counts),
        members=uses,
        statistics=image_statistics(data, weight, threads),
    )
