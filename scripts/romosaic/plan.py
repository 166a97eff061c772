"""
Step `plan`: what a run will make and what it will cost, from headers only.

Coverage is taken from the footprints in the product's own tangent plane: lines along x are cut exactly,
`LINES` of them share out y. What is missed lies between a line and an edge along it, so that a footprint's
area, and the area of each depth, is good to 1/LINES = 0.4 % of the grid, mostly to 0.01 %. Pixels that are
flagged bad are not known from headers: a mosaic covers somewhat less.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import association_file
from .grid import Grid
from .plan_costs import exposure_costs, product_costs, product_work

#: Lines along x on which the depth is taken.
LINES = 256
#: Edges times lines handled at a time, to bound the memory of a product of thousands of members.
_CHUNK = 1 << 22
_ARCMIN2 = (180 * 60 / np.pi) ** 2


@dataclass(frozen=True)
class Planned:
    """
    A product to be made.

    Attributes
    ----------
    name : str
        Its name.
    grid : Grid
        Its pixels.
    optical_element : str
        Filter of its members.
    members : list of str
        Names of its exposures.
    """

    name: str
    grid: Grid
    optical_element: str
    members: list[str]


def read(
    associations: Iterable[str | Path], records: Iterable[str | Path]
) -> tuple[list[Planned], dict[str, dict]]:
    """
    Read what `associate` wrote.

    Parameters
    ----------
    associations, records : iterable of path
        Its associations and its records of exposures.

    Returns
    -------
    products : list of Planned
        In the order of the associations.
    exposures : dict
        Records (see `exposure.read_record`) by exposure name.
    """
    found = map(association_file.read, records)
    exposures = {record["exposure"]: record for record in found}
    products = []
    for path in associations:
        content = association_file.read(path)
        grid, members = (
            association_file.output_grid(content),
            association_file.member_names(content),
        )
        element = exposures[members[0]]["optical_element"]
        products.append(Planned(content["products"][0]["name"], grid, element, members))
    return products, exposures


def depth_areas(x: Sequence, y: Sequence, nx: int, ny: int) -> np.ndarray:
    """
    Areas of a grid that a number of polygons cover, by that number.

    Parameters
    ----------
    x, y : sequences of (V,) float arrays
        Vertices of each polygon in 0-based pixels of the grid, either way round, not closed. Polygons do not
        cross themselves; one with a vertex that is not finite (behind the tangent plane) covers nothing.
    nx, ny : int
        Size of the grid, which reaches from -0.5 to n - 0.5.

    Returns
    -------
    (D + 1,) float64
        Square pixels covered by 0, 1, ... D polygons; the sum is nx ny.
    """
    height = ny / LINES  # of the strip that a line stands for
    y_line = (np.arange(LINES) + 0.5) * height - 0.5
    parts = [_crossings(edges, y_line, nx) for edges in _edges(x, y, _CHUNK // LINES)]
    line, place, step = (
        np.concatenate([np.empty(0, kind), *(part[i] for part in parts)])
        for i, kind in enumerate((np.intp, np.float64, np.intp))
    )
    order = np.lexsort((place, line))
    line, place, depth = line[order], place[order], np.cumsum(step[order])
    # A line's steps up and down cancel: what follows its last crossing has length or depth zero.
    length = np.where(line[1:] == line[:-1], np.diff(place), 0.0)
    areas = np.bincount(np.maximum(depth[:-1], 0), weights=length, minlength=1) * height
    areas[0] = max(nx * ny - areas[1:].sum(), 0.0)
    deepest = np.flatnonzero(areas > 1e-9 * nx * ny)
    return areas[: deepest[-1] + 1]


def _edges(x: Sequence, y: Sequence, number: int):
    """Yield the edges of all polygons, `number` or a few more at a time: x1, y1, x2, y2, sense of rotation."""
    waiting, count = [], 0
    for one_x, one_y in zip(x, y, strict=True):
        one_x, one_y = np.asarray(one_x, float), np.asarray(one_y, float)
        if not (np.isfinite(one_x).all() and np.isfinite(one_y).all()):
            continue
        next_x, next_y = _next(one_x), _next(one_y)
        sense = np.sign((one_x * next_y - next_x * one_y).sum())
        waiting.append(np.stack([one_x, one_y, next_x, next_y, np.full_like(one_x, sense)]))
        count += one_x.size
        if count >= number:
            yield np.concatenate(waiting, axis=1)
            waiting, count = [], 0
    if waiting:
        yield np.concatenate(waiting, axis=1)


def _next(values: np.ndarray) -> np.ndarray:
    """Values of the vertices that follow (`numpy.roll` takes five times as long)."""
    return np.concatenate([values[1:], values[:1]])


def _crossings(edges: np.ndarray, y_line: np.ndarray, nx: int):
    """Line, x within the grid, and step of the depth (+1 into a polygon, -1 out of it) of each crossing."""
    x1, y1, x2, y2, sense = edges
    edge, line = np.nonzero((y1[:, None] > y_line) != (y2[:, None] > y_line))
    slope = (x2[edge] - x1[edge]) / (y2[edge] - y1[edge])
    place = x1[edge] + (y_line[line] - y1[edge]) * slope
    # The inside of a polygon that turns counter-clockwise is to the left of an edge that goes up.
    step = np.where(y2[edge] > y1[edge], -1, 1) * sense[edge].astype(np.intp)
    return line, np.clip(place, -0.5, nx - 0.5), step


def make_table(
    products: Sequence[Planned],
    exposures: dict[str, dict],
    nearly_empty_fraction: float,
    memory: dict[str, float],
):
    """
    Coverage and cost of products.

    Parameters
    ----------
    products : sequence of Planned
        The products.
    exposures : dict
        Records by exposure name.
    nearly_empty_fraction : float
        Products that cover less of their grid are called nearly empty.
    memory : dict
        What the memory of jobs depends on: see `job_memory.settings`.

    Returns
    -------
    pandas.DataFrame
        A row per product: product, skycell, optical_element, ra, dec (degrees, of the middle), members,
        covered_arcmin2, covered_fraction, mean_depth (over the covered part), max_depth, depth_arcmin2
        (text: depth:area for each number of exposures), nearly_empty, disk_mb, memory_mb (that the
        largest job asks for), cpu_s of its own steps; flux_disk_mb, flux_cpu_s: its share of the exposures'
        own step, shared out evenly among the products of an exposure, so that columns add up to the whole run.
    """
    import pandas as pd

    uses = Counter(name for product in products for name in product.members)
    rows = []
    for product in products:
        own = [exposures[name] for name in product.members]
        areas, work = areas_and_work(product.grid, own)
        row = {"product": product.name, **_coverage(product, areas)}
        row["nearly_empty"] = row["covered_fraction"] < nearly_empty_fraction
        costs = product_costs(work, memory)
        row |= {key: round(float(value), 1) for key, value in costs.items()}
        shares = [
            (1 / uses[record["exposure"]], exposure_costs(record["shape"][0] * record["shape"][1]))
            for record in own
        ]
        for key in ("disk_mb", "cpu_s"):
            row[f"flux_{key}"] = round(sum(part * cost[key] for part, cost in shares), 3)
        rows.append(row)
    return pd.DataFrame(rows)


def _coverage(product: Planned, areas: np.ndarray) -> dict:
    """Where a product lies and how deep it is."""
    grid, depth = product.grid, np.arange(areas.size)
    per_pixel = grid.middle_pixel_area * _ARCMIN2
    covered, (ra, dec) = float(areas[1:].sum()), grid.center
    listed = [f"{n}:{area * per_pixel:.4g}" for n, area in enumerate(areas) if n and area > 0]
    return {
        "skycell": grid.skycell or "none",
        "optical_element": product.optical_element,
        "ra": round(ra, 6),
        "dec": round(dec, 6),
        "members": len(product.members),
        "covered_arcmin2": float(f"{covered * per_pixel:.6g}"),
        "covered_fraction": float(f"{covered / (grid.nx * grid.ny):.6g}"),
        "mean_depth": round(float(np.dot(depth, areas)) / covered, 3) if covered else 0.0,
        "max_depth": areas.size - 1,
        "depth_arcmin2": " ".join(listed),
    }


def areas_and_work(grid: Grid, records: list[dict]) -> tuple[np.ndarray, dict[str, float]]:
    """Areas of a product by depth, see `depth_areas`, and its work, see `plan_costs.product_work`."""
    outlines = [record["footprint"] for record in records]
    ends = np.cumsum([len(outline["ra"]) for outline in outlines])[:-1]
    ra, dec = (np.concatenate([outline[key] for outline in outlines]) for key in ("ra", "dec"))
    x, y = (np.split(axis, ends) for axis in grid.to_pixel(ra, dec))
    ratios = [
        abs((u * _next(v) - _next(u) * v).sum()) / 2 / np.prod(record["shape"])
        for u, v, record in zip(x, y, records, strict=True)
    ]
    ratios = [ratio for ratio in ratios if np.isfinite(ratio) and ratio > 0]
    areas = depth_areas(x, y, grid.nx, grid.ny)
    visited = np.dot(np.arange(areas.size), areas) / (np.mean(ratios) if ratios else 1.0)
    return areas, product_work(len(records), visited, areas[1:].sum(), grid.nx * grid.ny)


def read_quarantine(path: str | Path) -> list[tuple[str, str]]:
    """Read the exposures that cannot be used, and why, from the list that `associate` wrote."""
    rows = (line.split("\t", 1) for line in Path(path).read_text().splitlines()[1:])
    return [(row[0], row[1]) for row in rows if len(row) == 2]
