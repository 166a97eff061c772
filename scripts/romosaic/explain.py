"""
Of what a pixel of a coadd is made.

Each exposure is drizzled alone on a grid of this one pixel, with the parameters, the sky level and the flagged
pixels of the coadd: values and weights are those that went into it, and their mean is the coadd's value.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from .coadd_file import CoaddBlocks
from .errors import ProductError, RomosaicError
from .flux_file import FluxExposure, open_flux
from .grid import Grid
from .halves import from_half
from .product import read_step
from .resample import resample

#: Points along a side of the pixel at which the detector pixels under it are looked up.
_POINTS = 16


@dataclass(frozen=True)
class DetectorPixel:
    """
    A detector pixel under a pixel of the coadd.

    Attributes
    ----------
    x, y : int
        Its place, 0-based.
    part : float
        Part of the coadd's pixel that it covers.
    value, err : float
        MJy/sr; the sky level is subtracted. The error is that of photons and read noise.
    dq : int
        Flags of the exposure.
    why : int or None
        Bits of the reason if it was flagged as an outlier.
    """

    x: int
    y: int
    part: float
    value: float
    err: float
    dq: int
    why: int | None


@dataclass(frozen=True)
class MemberPixel:
    """
    What an exposure gave to a pixel.

    Attributes
    ----------
    bit : int
        Its bit of the context.
    exposure : str
        Name.
    in_context : bool
        The coadd says that it contributes.
    level : float
        Sky level subtracted, MJy/sr.
    x, y : float
        Place on its detector, 0-based; NaN where the pixel lies off it.
    value, weight : float
        Alone on this pixel; NaN and 0 where it gives nothing.
    changed : bool
        The exposure is not the one that the coadd was made of.
    pixels : list of DetectorPixel
        Those under the pixel.
    """

    bit: int
    exposure: str
    in_context: bool
    level: float
    x: float
    y: float
    value: float
    weight: float
    changed: bool = False
    pixels: list[DetectorPixel] = field(default_factory=list)

    @property
    def on_it(self) -> bool:
        """The pixel lies on its detector, or its light reaches it."""
        return bool(self.pixels) or self.weight > 0


@dataclass(frozen=True)
class Explanation:
    """
    A pixel of a coadd and its members.

    Attributes
    ----------
    x, y : int
        The pixel, 0-based.
    ra, dec : float
        Its centre, degrees.
    values : dict
        Planes of the coadd there.
    members : list of MemberPixel
        All exposures of the product.
    reasons : dict
        Meaning of the bits of `why`.
    """

    x: int
    y: int
    ra: float
    dec: float
    values: dict[str, float]
    members: list[MemberPixel]
    reasons: dict[int, str]

    @property
    def mean(self) -> float:
        """Weighted mean of the members, to be held against the coadd's value."""
        used = [(m.value, m.weight) for m in self.members if m.weight > 0]
        total = sum(weight for _, weight in used)
        return sum(value * weight for value, weight in used) / total if total else float("nan")

    @property
    def agrees(self) -> bool:
        """The members at hand give the coadd's value and its context, to the rounding of float32."""
        same = [m.in_context == (m.weight > 0) for m in self.members]
        pair = np.array([self.mean, self.values["data"]])
        scale = max((abs(m.value) for m in self.members if m.weight > 0), default=0.0)
        close = np.isnan(pair).all() or abs(pair[0] - pair[1]) <= 1e-5 * scale + 1e-9
        # The fill value of a pixel without exposures is not a mean.
        return all(same) and (not any(m.weight > 0 for m in self.members) or bool(close))


def check_question(
    ra: float | None, dec: float | None, x: int | None, y: int | None, label: int | None
) -> None:
    """
    Refuse what does not name one place: a position, a pixel or a source.

    Parameters
    ----------
    ra, dec : float or None
        Position, degrees.
    x, y : int or None
        Pixel.
    label : int or None
        Source.

    Raises
    ------
    RomosaicError
        None or several are named, or half of one.
    """
    pairs = (ra, dec), (x, y), (label, label)
    named = [sum(value is not None for value in pair) for pair in pairs]
    if sorted(named) != [0, 0, 2]:
        todo = "give --ra and --dec, or --x and --y, or --label"
        raise RomosaicError("explain", "one place is to be named", todo)


def catalog_of(coadd: CoaddBlocks) -> Path:
    """Catalog of a coadd of a run."""
    return _there(coadd, f"source_catalog/{coadd.product}_cat.parquet")


def find_pixel(grid: Grid, ra: float, dec: float) -> tuple[int, int]:
    """
    Pixel (x, y) that holds a position in degrees.

    Raises
    ------
    ProductError
        It lies off the grid.
    """
    x, y = (float(p) for p in grid.to_pixel(ra, dec))
    if not (abs(x - (grid.nx - 1) / 2) < grid.nx / 2 and abs(y - (grid.ny - 1) / 2) < grid.ny / 2):
        raise _off(grid, f"{ra:.7f}, {dec:+.7f} degrees lie off it")
    return round(x), round(y)


def check_pixel(grid: Grid, x: float, y: float) -> tuple[int, int]:
    """
    Return the pixel of the grid that a place lies in.

    Raises
    ------
    ProductError
        There is none.
    """
    if not (-0.5 <= x < grid.nx - 0.5 and -0.5 <= y < grid.ny - 0.5):  # NaN neither
        raise _off(grid, f"has {grid.nx} x {grid.ny} pixels, and no pixel {x}, {y}")
    return round(x), round(y)


def _off(grid: Grid, what: str) -> ProductError:
    corners = ", ".join(f"{ra:.4f} {dec:+.4f}" for ra, dec in zip(*grid.corners(), strict=True))
    return ProductError("the coadd", what, f"its corners are {corners} degrees")


def read_members(coadd: CoaddBlocks) -> tuple[list[FluxExposure], dict]:
    """
    Open the exposures of a coadd, and read its outliers, of the same run.

    Returns
    -------
    members : list of FluxExposure
        In the order of the context's bits.
    outliers : dict
        Content of the product's ``_outliers.asdf``.

    Raises
    ------
    ProductError
        One of the files is gone.
    """
    names = (f"flux/{member['exposure']}_flux.asdf" for member in coadd.own["members"])
    members = [open_flux(_there(coadd, name)) for name in names]
    return members, read_step(_there(coadd, f"outlier_detection/{coadd.product}_outliers.asdf"))


def _there(coadd: CoaddBlocks, name: str) -> Path:
    """Return the path of a file of the run of a coadd."""
    path = coadd.blocks.path.resolve().parents[1] / name
    if not path.exists():
        # by the names of the run, whose folder may be a link
        target = os.path.relpath(coadd.blocks.path.absolute().parents[1] / name)
        # behind --configfile, a target would be one more configuration
        command = f"snakemake {target} --cores 4 --configfile <its configuration>"
        todo = f"make it again, in the folder of the run: {command}"
        raise ProductError(path, "is needed and is not there", todo)
    return path


def explain(
    coadd: CoaddBlocks, members: Sequence[FluxExposure], outliers: Mapping, x: int, y: int
) -> Explanation:
    """
    Explain a pixel.

    Parameters
    ----------
    coadd : CoaddBlocks
        The coadd, of which this pixel is read.
    members : sequence of FluxExposure
        Its exposures; only some pixels are read.
    outliers : mapping
        Of `read_members`.
    x, y : int
        The pixel, within the grid.
    """
    window = (y, y + 1, x, x + 1)
    planes = {name: coadd.window(name, window) for name in ("data", "err", "weight", "context")}
    bits = planes.pop("context")[:, 0, 0]
    grid = coadd.grid
    pixel = replace(grid, x0=grid.x0 - x, y0=grid.y0 - y, nx=1, ny=1)
    flags = {row["exposure"]: row for row in outliers["members"]}
    made_of = dict(coadd.inputs)
    parameters = {**coadd.own["provenance"]["parameters"], "propagate_dq": False}
    given = []
    for bit, (use, member) in enumerate(zip(coadd.own["members"], members, strict=True)):
        row = flags.get(member.name, {"flagged": [], "why": []})
        level = float(use["level"])
        place, pixels = _under(member, pixel, level, row)
        value, weight = float("nan"), 0.0
        # other kernels reach farther than the pixels under it
        if pixels or parameters["kernel"] != "square":
            alone = resample([member], [level], [row["flagged"]], pixel, parameters)
            value, weight = float(alone.data[0, 0]), float(alone.weight[0, 0])
        given.append(
            MemberPixel(
                bit=bit,
                exposure=member.name,
                in_context=bool(bits[bit // 32] >> np.uint32(bit % 32) & 1),
                level=level,
                x=place[0],
                y=place[1],
                value=value,
                weight=weight,
                changed=made_of.get(member.name) != member.fingerprint,
                pixels=pixels,
            )
        )
    ra, dec = (float(degrees) for degrees in grid.to_sky(x, y))
    reasons = {int(bit): text for bit, text in outliers["reasons"].items()}
    values = {name: float(plane[0, 0]) for name, plane in planes.items()}
    return Explanation(x, y, ra, dec, values, given, reasons)


def _under(member: FluxExposure, pixel: Grid, level: float, row: Mapping):
    """Place on a detector of the only pixel of a grid, and the detector's pixels under it."""
    gridmap = member.pixmap.on_grid(pixel)
    middle = tuple(float(p[0, 0]) for p in gridmap.inverse(np.zeros(1), np.zeros(1)))
    at = (np.arange(_POINTS) + 0.5) / _POINTS - 0.5
    xs, ys = (p.ravel() for p in gridmap.inverse(at, at))
    ny, nx = member.shape
    with np.errstate(invalid="ignore"):
        inside = (xs >= -0.5) & (xs < nx - 0.5) & (ys >= -0.5) & (ys < ny - 0.5)
    if not inside.any():
        return (float("nan"), float("nan")), []
    flat = np.floor(ys[inside] + 0.5).astype(int) * nx + np.floor(xs[inside] + 0.5).astype(int)
    numbers, counts = np.unique(flat, return_counts=True)
    flagged, why = np.asarray(row["flagged"], np.int64), np.asarray(row["why"], np.int64)
    data, dq = member.data, member.dq
    variances = [plane for plane in (member.var_poisson, member.var_rnoise) if plane is not None]
    pixels = []
    for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
        here = divmod(number, nx)
        found = np.flatnonzero(flagged == number)
        variance = sum(_value(plane, here) for plane in variances)
        pixels.append(
            DetectorPixel(
                x=here[1],
                y=here[0],
                part=count / xs.size,
                value=float(data[here]) - level,
                err=float(np.sqrt(variance)),
                dq=int(dq[here]),
                why=int(why[found[0]]) if found.size else None,
            )
        )
    return middle, pixels


def _value(plane: np.ndarray, here: tuple[int, int]) -> float:
    one = plane[here[0] : here[0] + 1, here[1] : here[1] + 1]
    return float((from_half(one) if plane.dtype == np.float16 else one)[0, 0])
