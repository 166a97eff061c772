"""
Differences of sky level between overlapping members of a product, from their block statistics.

Blocks of one member are interpolated at the block centres of the other and the other way round: light that is
common to both, be it a gradient or a halo, cancels. Of many members that all overlap each is compared with a
bounded number of others, from near to far; that keeps the work linear in the number of members.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .chebyshev import Chebyshev2D
from .footprint import detector_outline
from .grid import unit_vector

#: Share of good weight that an interpolated block value needs.
MIN_WEIGHT = 0.5
#: Clipping of the block differences of a pair, in robust standard deviations, and its turns.
PAIR_CLIP, PAIR_TURNS = 3.0, 8
#: A member chooses no more than this many partners; others may choose it, too. The error of its level falls
#: with the square root of their number until the noise of its own blocks rules.
PARTNERS = 12
#: Terms of the series of a pixel map that count here: a pixel is little in a block.
_TERMS = 5
#: Outlines are taken this much larger, so that edges which distortion bends outwards are inside.
_BULGE = 1.02
_MAD = 1.4826  # standard deviation over median absolute deviation, Gaussian


@dataclass(frozen=True)
class Blocks:
    """
    Block statistics of one member and where they are on the sky: small, so that thousands fit in memory.

    Attributes
    ----------
    name : str
        Exposure.
    fingerprint : str
        Identity of its Level-2 file.
    shape : tuple of int
        Detector (ny, nx).
    x, y : (nbx,), (nby,) float64 arrays
        Centres of the block columns and rows, detector pixels.
    table : (3, nby * nbx) float32 array
        1 for a valid block and 0 for others, value (MJy/sr), variance; values and variances of others are 0.
    points : (3, n) float32 array
        Unit vectors of the centres of the n valid blocks: good to 0.1 pixels.
    frame : (3, 3) float64 array
        Axes of the exposure's tangent plane: see `pixmap.PixelMap`.
    to_detector : Chebyshev2D
        Tangent plane (radians) -> detector pixels, to a small part of a block.
    corners : (3, 4) float64 array
        Unit vectors of the detector's corners.
    """

    name: str
    fingerprint: str
    shape: tuple[int, int]
    x: np.ndarray
    y: np.ndarray
    table: np.ndarray
    points: np.ndarray
    frame: np.ndarray
    to_detector: Chebyshev2D
    corners: np.ndarray

    @property
    def valid(self) -> np.ndarray:
        """(nby * nbx,) bool: blocks that have a value."""
        return self.table[0] > 0

    @property
    def values(self) -> np.ndarray:
        """Values of the valid blocks, MJy/sr: (n,) float64."""
        return self.table[1, self.valid].astype(float)


def read_blocks(member) -> Blocks:
    """
    Take from an exposure what the sky levels need.

    Parameters
    ----------
    member : FluxExposure
        Or anything with `name`, `fingerprint`, `shape`, `sky_blocks` and `pixmap` as in
        `flux_file.FluxExposure`. Blocks without pixels, a finite value or a finite error do not count.
    """
    statistics = member.sky_blocks
    value = np.asarray(statistics["value"], np.float32).ravel()
    variance = np.square(np.asarray(statistics["error"], np.float32).ravel())
    good = np.isfinite(value) & np.isfinite(variance) & (np.ravel(statistics["n_good"]) > 0)
    x, y = np.array(statistics["x"], float), np.array(statistics["y"], float)
    at_x, at_y = (positions.ravel()[good] for positions in np.meshgrid(x, y))
    pixmap, (ny, nx) = member.pixmap, member.shape
    inverse = pixmap.backward
    return Blocks(
        member.name,
        member.fingerprint,
        (ny, nx),
        x,
        y,
        np.stack([good, np.where(good, value, 0), np.where(good, variance, 0)], dtype=np.float32),
        unit_vector(*pixmap.sky(at_x, at_y)).astype(np.float32),
        pixmap.frame,
        Chebyshev2D(inverse.domain, inverse.coefficients[:, :_TERMS, :_TERMS]),
        unit_vector(*pixmap.sky(*detector_outline(nx, ny, 0))),
    )


def measure_pairs(blocks: list[Blocks]) -> dict[str, np.ndarray]:
    """
    Measure the sky of overlapping members against each other.

    Every member chooses up to `PARTNERS` of those that it overlaps, evenly from the nearest to the farthest;
    further pairs are measured where members that overlap would not be connected.

    Parameters
    ----------
    blocks : list of Blocks
        Members, in an order that does not depend on how the user lists them.

    Returns
    -------
    dict of (n,) arrays
        `i`, `j`: the pair, int, i < j; `difference` of sky i - j and its standard `error`, MJy/sr; number of
        `blocks` compared, int.
    """
    i, j, distance = overlaps(blocks)
    chosen = _chosen(len(blocks), i, j, distance)
    rows, linked = [], np.arange(len(blocks))

    def measure(k: int) -> None:
        measured = pair_difference(blocks[i[k]], blocks[j[k]])
        if measured is not None:
            rows.append((int(i[k]), int(j[k]), *measured))
            linked[linked == linked[j[k]]] = linked[i[k]]

    for k in np.flatnonzero(chosen):
        measure(k)
    for k in np.flatnonzero(~chosen)[np.argsort(distance[~chosen], kind="stable")]:
        if linked[i[k]] != linked[j[k]]:
            measure(k)
    rows.sort()
    table = {"i": int, "j": int, "difference": float, "error": float, "blocks": int}
    return {
        name: np.array([row[k] for row in rows], dtype)
        for k, (name, dtype) in enumerate(table.items())
    }


def overlaps(blocks: list[Blocks]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Pairs of members, both with a valid block, whose outlines meet.

    Two convex outlines are apart if and only if an edge of one has all of the other beyond it.

    Parameters
    ----------
    blocks : list of Blocks
        Members.

    Returns
    -------
    i, j : (n,) int32 arrays
        The pairs, i < j.
    distance : (n,) float32 array
        Distance of their centres, chord on the unit sphere.
    """
    found = [(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32))]
    if blocks:
        corners = np.stack([b.corners for b in blocks])
        center = corners.sum(axis=2)
        center /= np.linalg.norm(center, axis=1)[:, None]
        # Chord lengths keep their digits at small separations, where the cosine has none.
        reach = _BULGE * np.linalg.norm(corners - center[:, :, None], axis=1).max(axis=1)
        useful = np.array([b.points.size > 0 for b in blocks])
    for i, own in enumerate(blocks):
        chord = np.linalg.norm(center[i + 1 :] - center[i], axis=1)
        near = np.flatnonzero((chord <= reach[i] + reach[i + 1 :]) & useful[i] & useful[i + 1 :])
        w = np.tensordot(corners[np.r_[i, i + 1 + near]], own.frame, axes=(1, 1))
        outline = w[..., :2] / w[..., 2:]
        middle = outline.mean(axis=1, keepdims=True)
        outline = middle + _BULGE * (outline - middle)
        near = near[~(_beyond(outline[:1], outline[1:]) | _beyond(outline[1:], outline[:1]))]
        j = (i + 1 + near).astype(np.int32)
        found.append((np.full_like(j, i), j, chord[near].astype(np.float32)))
    i, j, distance = (np.concatenate(column) for column in zip(*found, strict=True))
    return i, j, distance


def _beyond(polygons: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Whether an edge of a convex polygon, shape (n or 1, 4, 2), has all vertices of another beyond it."""
    edge = np.roll(polygons, -1, axis=1) - polygons
    offset = others[:, None] - polygons[:, :, None]
    turn = edge[:, 0, 0] * edge[:, 1, 1] - edge[:, 0, 1] * edge[:, 1, 0]
    side = edge[:, :, None, 0] * offset[..., 1] - edge[:, :, None, 1] * offset[..., 0]
    return (side * np.sign(turn)[:, None, None] < 0).all(axis=2).any(axis=1)


def _chosen(n: int, i: np.ndarray, j: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Pairs that one of the two chooses: evenly from its nearest to its farthest partner."""
    one, two, pair = np.r_[i, j], np.r_[j, i], np.tile(np.arange(i.size, dtype=np.int32), 2)
    # Members of one place would all choose the same few: each begins with the one after it.
    order = np.lexsort(((two - one) % max(n, 1), np.tile(distance, 2), one))
    pair, first = pair[order], np.searchsorted(one[order], np.arange(n + 1))
    chosen = np.zeros(i.size, bool)
    for start, end in pairwise(first):
        take = min(PARTNERS, end - start)
        chosen[pair[start + np.arange(take) * (end - start) // max(take, 1)]] = True
    return chosen


def pair_difference(one: Blocks, two: Blocks) -> tuple[float, float, int] | None:
    """
    Sky of one member minus sky of another.

    The two ways of interpolating share their blocks, so that together they carry the weight of one; the result
    does not depend on which member comes first.

    Returns
    -------
    tuple or None
        Difference and its standard error (MJy/sr) and the number of block differences used; None when no
        valid blocks overlap.
    """
    forth, back = _differences(one, two), _differences(two, one)
    difference = np.r_[forth[0], -back[0]]
    if not difference.size:
        return None
    mean, error, count = robust_mean(difference, np.r_[forth[1], back[1]])
    if min(forth[0].size, back[0].size):
        error *= np.sqrt(2)
    return mean, error, count


def _differences(own: Blocks, other: Blocks) -> tuple[np.ndarray, np.ndarray]:
    """Differences of valid blocks from the interpolated blocks of `other`, and their variances."""
    w = other.frame.astype(np.float32) @ own.points
    u_min, u_max, v_min, v_max = other.to_detector.domain
    with np.errstate(divide="ignore", invalid="ignore"):
        u, v = w[0] / w[2], w[1] / w[2]
    near = (w[2] > 0) & (u >= u_min) & (u <= u_max) & (v >= v_min) & (v <= v_max)
    x, y = other.to_detector.points(u[near], v[near])
    ny, nx = other.shape
    on = (x >= -0.5) & (x <= nx - 0.5) & (y >= -0.5) & (y <= ny - 0.5)
    value, variance = _interpolate(other, x[on], y[on])
    used = np.flatnonzero(own.valid)[np.flatnonzero(near)[on]]
    difference = own.table[1, used] - value
    good = np.isfinite(difference)
    return difference[good], (variance + own.table[2, used])[good]


def _interpolate(blocks: Blocks, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bilinear over valid blocks, constant beyond the outermost centres; NaN where too few are valid."""
    nbx, nby = blocks.x.size, blocks.y.size
    u = np.interp(x, blocks.x, np.arange(nbx))
    v = np.interp(y, blocks.y, np.arange(nby))
    u0, v0 = u.astype(int), v.astype(int)
    right, up = (u0 < nbx - 1).astype(int), nbx * (v0 < nby - 1)
    fu, fv = u - u0, v - v0
    corner = v0 * nbx + u0
    # Not the weights squared: neighbouring positions share these blocks, their mean gains nothing.
    total = np.zeros((3, x.size))
    for block, weight in (
        (corner, (1 - fv) * (1 - fu)),
        (corner + right, (1 - fv) * fu),
        (corner + up, fv * (1 - fu)),
        (corner + up + right, fv * fu),
    ):
        total += weight * blocks.table.take(block, axis=1)
    share = np.where(total[0] >= MIN_WEIGHT, total[0], np.nan)
    return total[1] / share, total[2] / share


def robust_mean(values: np.ndarray, variances: np.ndarray) -> tuple[float, float, int]:
    """
    Weighted mean of values of which some are spoilt by sources.

    Values are clipped about their median at `PAIR_CLIP` robust standard deviations; the scatter in excess
    of the given variances (sources that two block grids cut differently) is added to all variances, so
    that a block with a tiny error does not rule the mean.

    Parameters
    ----------
    values, variances : (n,) float64 arrays
        At least one value; variances may be 0.

    Returns
    -------
    mean, error : float
        Weighted mean and its standard error.
    count : int
        Values used.
    """
    kept = np.ones(values.size, bool)
    for _ in range(PAIR_TURNS):
        middle = np.median(values[kept])
        sigma = _MAD * np.median(np.abs(values[kept] - middle))
        # Half of the values may agree to the last digit: the given errors are the least tolerance.
        limit = PAIR_CLIP * np.maximum(sigma, np.sqrt(variances))
        now = np.abs(values - middle) <= limit
        if np.array_equal(now, kept):
            break
        kept = now
    values, variances = values[kept], variances[kept]
    excess = max(0.0, float(np.mean((values - values.mean()) ** 2 - variances)))
    total = variances + excess
    floor = np.finfo(float).tiny ** 0.5
    weight = 1 / np.maximum(total, max(floor, 1e-12 * float(total.max())))
    return float(weight @ values / weight.sum()), float(weight.sum() ** -0.5), int(values.size)
