"""
Sky levels: one additive level per member of a product, from the block sky statistics of `flux`.

Methods and parameters are romancal's. Differences between overlapping members (see `sky_pairs`) are balanced by
weighted least squares over the graph of overlaps. Members that no chain of overlaps connects are matched apart
from each other: every connected group has its own zero.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from .errors import ConfigError
from .sky_pairs import Blocks, measure_pairs, read_blocks

COMPLETE, SKIPPED = "COMPLETE", "SKIPPED"
_METHODS = ("local", "global", "match", "global+match", "user")


@dataclass(frozen=True)
class SkyMatch:
    """
    Sky levels of the members of a product.

    Attributes
    ----------
    names, fingerprints : list of str
        Members and the identities of their Level-2 files.
    level : (n,) float64 array
        Sky level of each member, MJy/sr; 0 where the status is SKIPPED.
    status : list of str
        ``COMPLETE``, or ``SKIPPED`` for a member without a valid block or, with method 'match', without an
        overlap: there is nothing to match it to.
    group : (n,) int array
        Members with the same number are connected by overlaps. Levels of the methods 'match' and
        'global+match' are comparable within a group only.
    pairs : dict of arrays
        One entry per measured pair: `i`, `j` (int, i < j), `difference` of sky i - j, its standard `error`
        (MJy/sr), number of `blocks` compared, and `residual` = difference - (level i - level j) of the
        least squares solution or, with method 'user', of the given levels.
    """

    names: list[str]
    fingerprints: list[str]
    level: np.ndarray
    status: list[str]
    group: np.ndarray
    pairs: dict[str, np.ndarray]

    @property
    def groups(self) -> list[list[str]]:
        """Names of the members of each group."""
        found: list[list[str]] = [[] for _ in range(self.group.max(initial=-1) + 1)]
        for name, number in zip(self.names, self.group, strict=True):
            found[number].append(name)
        return found

    def to_tree(self, parameters: Mapping) -> dict:
        """Plain values and arrays for the step's file."""
        columns = zip(self.names, self.level, self.status, self.group, strict=True)
        members = [
            {
                "exposure": name,
                "level": float(level),
                "status": status,
                "group": int(group),
                "subtracted": bool(parameters["subtract"]),
            }
            for name, level, status, group in columns
        ]
        return {"members": members, "groups": self.groups, "pairs": self.pairs}

    def report(self, skymethod: str) -> list[str]:
        """Lines for the log: each member, and which groups do not overlap where that matters."""
        columns = zip(self.names, self.level, self.status, strict=True)
        lines = [f"{name} {level:.5f} MJy/sr {status}" for name, level, status in columns]
        groups = self.groups
        if len(groups) > 1 and "match" in skymethod:
            shown = [_shown(names) for names in groups[:10]]
            shown += [f"{len(groups) - 10} more"] if len(groups) > 10 else []
            lines.append(
                f"warning: {len(groups)} groups of members do not overlap; their levels are independent: "
                + " | ".join(shown)
            )
        return lines


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def match_sky(
    members: Iterable, parameters: Mapping, levels: Mapping[str, float] | None = None
) -> SkyMatch:
    """
    Sky level of every member.

    Parameters
    ----------
    members : iterable of FluxExposure
        See `sky_pairs.read_blocks`; each is let go when it has been read.
    parameters : mapping
        `skymethod` ('local', 'global', 'match', 'global+match', 'user'), `match_down`, `skystat`,
        `nclip`, `lsigma`, `usigma`: section `skymatch` of the configuration. (`lower`, `upper`, `dqbits`
        and `binwidth` concern pixels, and have done their work in the block statistics.)
    levels : mapping, optional
        With method 'user': the level of each member by its name, MJy/sr.

    Returns
    -------
    SkyMatch
        'local': each member its own sky. 'global': all the lowest of these. 'match': levels that equalise
        the overlaps, the lowest (`match_down`) or highest of each group 0. 'global+match': the same plus
        the lowest sky that is left after matching, one for each group. 'user': `levels`. No result depends
        on the order of the members.

    Raises
    ------
    ValueError
        Unknown `skymethod` or `skystat`.
    ConfigError
        Members without a level in `levels`.
    """
    method = parameters["skymethod"]
    if method not in _METHODS:
        raise ValueError(f"skymethod is {', '.join(_METHODS)}, not {method!r}")
    blocks = [read_blocks(member) for member in members]
    names = [b.name for b in blocks]
    # Which partners a member chooses and how sums are rounded follow the names, not the user's order.
    order = np.array(sorted(range(len(names)), key=names.__getitem__), int)
    blocks = [blocks[k] for k in order]
    given = _given(blocks, levels or {}) if method == "user" else None
    pairs = measure_pairs(blocks)
    delta = level = given
    valid = np.ones(len(blocks), bool)
    if given is None:
        group = _groups(len(blocks), pairs["i"], pairs["j"])
        delta = _solve(group, pairs)
        level, valid = _levels(blocks, delta, group, pairs, parameters)
    pairs["residual"] = pairs["difference"] - (delta[pairs["i"]] - delta[pairs["j"]])
    return _as_given(blocks, level, valid, pairs, order)


def _given(blocks: list[Blocks], levels: Mapping[str, float]) -> np.ndarray:
    """Levels of the user's table in the order of the members."""
    missing = [b.name for b in blocks if levels.get(b.name) is None]
    if missing:
        problem = f"has no level for {_shown(missing)} -> add a line for each"
        raise ConfigError("skymatch.skylist", [problem])
    return np.array([levels[b.name] for b in blocks], float)


def _as_given(
    blocks: list[Blocks],
    level: np.ndarray,
    valid: np.ndarray,
    pairs: dict[str, np.ndarray],
    order: np.ndarray,
) -> SkyMatch:
    """Result in the user's order of the members, in which member k of `blocks` is number order[k]."""
    back = np.argsort(order)
    i, j = order[pairs["i"]], order[pairs["j"]]
    sign = np.where(i < j, 1.0, -1.0)
    i, j = np.minimum(i, j), np.maximum(i, j)
    turned = {name: sign * pairs[name] for name in ("difference", "residual")}
    pairs = {**pairs, **turned, "i": i, "j": j}
    place = np.lexsort((j, i))
    return SkyMatch(
        [blocks[k].name for k in back],
        [blocks[k].fingerprint for k in back],
        level[back],
        [COMPLETE if v else SKIPPED for v in valid[back]],
        _groups(len(blocks), i, j),
        {name: column[place] for name, column in pairs.items()},
    )


def _levels(
    blocks: list[Blocks],
    delta: np.ndarray,
    group: np.ndarray,
    pairs: dict[str, np.ndarray],
    parameters: Mapping,
) -> tuple[np.ndarray, np.ndarray]:
    """Levels of a method from matched levels and each member's own sky, and which of them count."""
    method = parameters["skymethod"]
    valid = np.array([b.points.size > 0 for b in blocks], bool)
    level = _shift_groups(delta, group, parameters["match_down"])
    if method == "match":
        valid &= np.isin(np.arange(level.size), np.r_[pairs["i"], pairs["j"]])
    else:
        local = np.array([_local_sky(b.values, parameters) for b in blocks], float)
        if method == "local":
            level = local
        elif method == "global":
            level = np.full(level.size, local[valid].min(initial=np.inf))
        else:
            left = np.full(group.max(initial=-1) + 1, np.inf)
            np.minimum.at(left, group[valid], (local - level)[valid])
            level = level + left[group]
    return np.where(valid, level, 0.0), valid


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
    """Sky of one member: the clipped statistic over its valid blocks; NaN without one."""
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
