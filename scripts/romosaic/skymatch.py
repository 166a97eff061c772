"""
Sky levels: one additive level per member of a product, from the block sky statistics of `flux`.

Methods and parameters are romancal's. Differences between overlapping members are measured by interpolating
the blocks of one at the block centres of the other, and balanced by weighted least squares over the graph
of overlaps.
"""

from dataclasses import dataclass

import numpy as np

from .grid import unit_vector

COMPLETE, SKIPPED = "COMPLETE", "SKIPPED"
#: Share of good weight that an interpolated block value needs.
MIN_WEIGHT = 0.5
#: Clipping of the block differences of a pair, in robust standard deviations, and its turns.
PAIR_CLIP, PAIR_TURNS = 3.0, 8
_MAD = 1.4826  # standard deviation over median absolute deviation, Gaussian


@dataclass(frozen=True)
class SkyMatch:
    """
    Sky levels of the members of a product.

    Attributes
    ----------
    level : (n,) float64 array
        Level to subtract from each member, MJy/sr; 0 where the status is SKIPPED.
    status : list of str
        ``COMPLETE``, or ``SKIPPED`` for a member without a valid block or, where only differences count,
        without an overlap.
    group : (n,) int array
        Members with the same number are connected by overlaps. Levels of method 'match' are comparable
        within a group only.
    pairs : dict of arrays
        One entry per overlapping pair: `i`, `j` (int), `difference` of sky i - j, its standard `error`
        (MJy/sr), number of `blocks` compared, and `residual` = difference - (level i - level j) of the
        least squares solution.
    """

    level: np.ndarray
    status: list[str]
    group: np.ndarray
    pairs: dict[str, np.ndarray]


@dataclass(frozen=True)
class _Blocks:
    """Block statistics of one member: centres, values (NaN: none), variances, place on the sky."""

    x: np.ndarray
    y: np.ndarray
    value: np.ndarray
    variance: np.ndarray
    ra: np.ndarray
    dec: np.ndarray
    center: np.ndarray
    radius: float


def match_sky(members: list, parameters) -> SkyMatch:
    """
    Sky level of every member.

    Parameters
    ----------
    members : list of FluxExposure
        Or anything with `shape`, `sky_blocks` and `pixmap` as in `flux_file.FluxExposure`.
    parameters : mapping
        `skymethod` ('local', 'global', 'match', 'global+match'), `match_down`, `skystat`,
        `nclip`, `lsigma`, `usigma`: section `skymatch` of the configuration. (`lower`, `upper`, `dqbits`
        and `binwidth` concern pixels, and have done their work in the block statistics.)

    Returns
    -------
    SkyMatch
        'local': each member its own sky. 'global': all the lowest of these. 'match': levels that equalise
        the overlaps, the lowest (`match_down`) or highest of each group 0. 'global+match': the same plus
        the lowest sky that is left after matching, one for all members.

    Raises
    ------
    ValueError
        Unknown `skymethod` or `skystat`.
    """
    method = parameters["skymethod"]
    if method not in ("local", "global", "match", "global+match"):
        raise ValueError(f"skymethod is local, global, match or global+match, not {method!r}")
    blocks = [_read_blocks(member) for member in members]
    valid = np.array([bool(np.isfinite(b.value).any()) for b in blocks], bool)
    pairs = _all_pairs(members, blocks)
    group = _groups(len(members), pairs["i"], pairs["j"])
    delta = _solve(group, pairs)
    pairs["residual"] = pairs["difference"] - (delta[pairs["i"]] - delta[pairs["j"]])

    level = np.zeros(len(members))
    if "match" in method:
        level = _shift_groups(delta, group, parameters["match_down"])
    if method == "match":
        valid &= np.isin(np.arange(len(members)), np.r_[pairs["i"], pairs["j"]])
    else:
        local = np.array([_local_sky(b.value, parameters) for b in blocks], float)
        if method == "local":
            level = local
        elif valid.any():
            level = level + np.min((local - level)[valid])
    level = np.where(valid, level, 0.0)
    return SkyMatch(level, [COMPLETE if v else SKIPPED for v in valid], group, pairs)


def _read_blocks(member) -> _Blocks:
    """Block statistics as float64; blocks without a usable value or error become NaN."""
    statistics = member.sky_blocks
    value = np.asarray(statistics["value"], float)
    error = np.asarray(statistics["error"], float)
    good = np.isfinite(value) & np.isfinite(error) & (np.asarray(statistics["n_good"]) > 0)
    ny, nx = member.shape
    x, y = np.asarray(statistics["x"], float), np.asarray(statistics["y"], float)
    ra, dec = member.pixmap.sky(*np.meshgrid(x, y))
    edge_x, edge_y = np.array([-0.5, nx - 0.5]), np.array([-0.5, ny - 0.5])
    corners = unit_vector(*member.pixmap.sky(*np.meshgrid(edge_x, edge_y))).reshape(3, -1)
    center = corners.sum(axis=1)
    center /= np.linalg.norm(center)
    # Distorted edges bulge a little beyond the circle through the corners.
    radius = 1.05 * np.arccos(np.clip(center @ corners, -1, 1)).max()
    return _Blocks(
        x,
        y,
        np.where(good, value, np.nan),
        np.where(good, np.square(error), np.nan),
        ra,
        dec,
        center,
        float(radius),
    )


def _all_pairs(members: list, blocks: list[_Blocks]) -> dict[str, np.ndarray]:
    """Measure every pair of members whose circles on the sky touch."""
    rows = []
    if members:
        center = np.array([b.center for b in blocks])
        radius = np.array([b.radius for b in blocks])
        # Chord lengths keep their digits at small separations, where the cosine has none.
        for i in range(len(members)):
            chord = np.linalg.norm(center[i + 1 :] - center[i], axis=1)
            reach = 2 * np.sin(np.minimum(radius[i + 1 :] + radius[i], np.pi) / 2)
            for j in i + 1 + np.flatnonzero(chord <= reach):
                measured = pair_difference(members, blocks, i, int(j))
                if measured is not None:
                    rows.append((i, int(j), *measured))
    table = {"i": int, "j": int, "difference": float, "error": float, "blocks": int}
    return {
        name: np.array([row[k] for row in rows], dtype)
        for k, (name, dtype) in enumerate(table.items())
    }


def pair_difference(
    members: list, blocks: list[_Blocks], i: int, j: int
) -> tuple[float, float, int] | None:
    """
    Sky of member i minus sky of member j.

    Blocks of j are interpolated at the block centres of i and the other way round: a gradient or a halo
    common to both cancels, and the result does not depend on the order of the members. The two halves
    share their blocks, so that together they carry the weight of one.

    Parameters
    ----------
    members, blocks : list
        Members and their block statistics.
    i, j : int
        The pair.

    Returns
    -------
    tuple or None
        Difference and its standard error (MJy/sr) and the number of block differences used; None when no
        valid blocks overlap.
    """
    halves = [_differences(members[b], blocks[a], blocks[b]) for a, b in ((i, j), (j, i))]
    difference = np.r_[halves[0][0], -halves[1][0]]
    if not difference.size:
        return None
    mean, error, count = robust_mean(difference, np.r_[halves[0][1], halves[1][1]])
    if min(len(half[0]) for half in halves):
        error *= np.sqrt(2)
    return mean, error, count


def _differences(other, blocks: _Blocks, of_other: _Blocks) -> tuple[np.ndarray, np.ndarray]:
    """Differences of valid blocks from the interpolated blocks of `other`, and their variances."""
    own = np.isfinite(blocks.value)
    x, y = other.pixmap.detector(blocks.ra[own], blocks.dec[own])
    ny, nx = other.shape
    on = (x >= -0.5) & (x <= nx - 0.5) & (y >= -0.5) & (y <= ny - 0.5)
    value, variance = _interpolate(of_other, x[on], y[on])
    difference = blocks.value[own][on] - value
    variance += blocks.variance[own][on]
    good = np.isfinite(difference)
    return difference[good], variance[good]


def _interpolate(blocks: _Blocks, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bilinear over valid blocks, constant beyond the outermost centres; NaN where too few are valid."""
    u = np.interp(x, blocks.x, np.arange(blocks.x.size))
    v = np.interp(y, blocks.y, np.arange(blocks.y.size))
    u0 = np.minimum(u.astype(int), max(blocks.x.size - 2, 0))
    v0 = np.minimum(v.astype(int), max(blocks.y.size - 2, 0))
    u1, v1 = np.minimum(u0 + 1, blocks.x.size - 1), np.minimum(v0 + 1, blocks.y.size - 1)
    fu, fv = u - u0, v - v0
    total, value, variance = np.zeros((3, x.size))
    for row, column, weight in (
        (v0, u0, (1 - fv) * (1 - fu)),
        (v0, u1, (1 - fv) * fu),
        (v1, u0, fv * (1 - fu)),
        (v1, u1, fv * fu),
    ):
        block = blocks.value[row, column]
        good = np.isfinite(block)
        weight = np.where(good, weight, 0.0)
        total += weight
        value += weight * np.where(good, block, 0.0)
        # Not the weights squared: neighbouring positions share these blocks, their mean gains nothing.
        variance += weight * np.where(good, blocks.variance[row, column], 0.0)
    total = np.where(total >= MIN_WEIGHT, total, np.nan)
    return value / total, variance / total


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


def _groups(n: int, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Connected components of the overlap graph, numbered in the order of their first members."""
    root = list(range(n))

    def find(k):
        while root[k] != k:
            root[k] = root[root[k]]
            k = root[k]
        return k

    for a, b in zip(i, j, strict=True):
        low, high = sorted((find(a), find(b)))
        root[high] = low
    _, number = np.unique([find(k) for k in range(n)], return_inverse=True)
    return number.astype(int)


def _solve(group: np.ndarray, pairs: dict[str, np.ndarray]) -> np.ndarray:
    """
    Levels that fit the pair differences best, mean 0 in each group.

    The normal matrix of a connected group of m members is the weighted Laplacian of its graph: rank
    m - 1, its null space the constant. Adding the constant's projector makes it regular and
    fixes the mean at 0.
    """
    level = np.zeros(group.size)
    i, j = pairs["i"], pairs["j"]
    for number in np.unique(group[i]):
        inside = np.flatnonzero(group == number)
        mine = group[i] == number
        a, b = np.searchsorted(inside, i[mine]), np.searchsorted(inside, j[mine])
        error = pairs["error"][mine]
        weight = (error.min() / error) ** 2
        m = inside.size
        normal = np.full((m, m), weight.mean() / m)
        np.add.at(normal, (a, a), weight)
        np.add.at(normal, (b, b), weight)
        np.add.at(normal, (a, b), -weight)
        np.add.at(normal, (b, a), -weight)
        right = np.zeros(m)
        np.add.at(right, a, weight * pairs["difference"][mine])
        np.add.at(right, b, -weight * pairs["difference"][mine])
        level[inside] = np.linalg.solve(normal, right)
    return level


def _shift_groups(delta: np.ndarray, group: np.ndarray, down: bool) -> np.ndarray:
    """Put the lowest (or highest) member of each group at 0."""
    extreme = np.full(group.max(initial=-1) + 1, np.inf if down else -np.inf)
    (np.minimum if down else np.maximum).at(extreme, group, delta)
    return delta - extreme[group]


def _local_sky(value: np.ndarray, parameters) -> float:
    """Sky of one member: the clipped statistic over its blocks; NaN without a valid block."""
    value = value[np.isfinite(value)]
    for turn in range(parameters["nclip"]):
        if not value.size:
            break
        if turn == 0:
            # The fainter half knows nothing of galaxies that fill whole blocks.
            low, middle = np.percentile(value, [15.87, 50])
            sigma = middle - low
        else:
            middle, sigma = value.mean(), value.std()
        kept = (value >= middle - parameters["lsigma"] * sigma) & (
            value <= middle + parameters["usigma"] * sigma
        )
        if kept.all():
            break
        value = value[kept]
    return _statistic(value, parameters["skystat"]) if value.size else np.nan


def _statistic(value: np.ndarray, skystat: str) -> float:
    """Mean, median (which a histogram's 'midpt' approximates) or mode = 2.5 median - 1.5 mean."""
    if skystat == "mean":
        return float(value.mean())
    if skystat in ("median", "midpt"):
        return float(np.median(value))
    if skystat == "mode":
        # Where mean and median disagree by much, the extrapolation is not safe.
        safe = abs(value.mean() - np.median(value)) < 0.3 * value.std()
        return float(2.5 * np.median(value) - 1.5 * value.mean() if safe else np.median(value))
    raise ValueError(f"skystat is mean, median, midpt or mode, not {skystat!r}")
