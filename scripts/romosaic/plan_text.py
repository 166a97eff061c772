"""The plan of a run as a table for the terminal, 100 characters wide."""

import shutil
from collections import defaultdict
from pathlib import Path

import numpy as np

from .run_lines import count

#: Products listed one by one; of more, only the extremes.
LISTED = 20
_EXTREMES = 5
_NAMED = 8
_WIDTH = 100
_NAME = 46
_HEAD = (
    f"{'product':{_NAME}}{'members':>8}{'covered':>9}{'':>7}{'depth':>11}{'disk':>7}{'mem':>6}{'CPU':>6}",
    f"{'':{_NAME}}{'':>8}{'arcmin2':>9}{'%':>7}{'mean':>6}{'max':>5}{'MB':>7}{'MB':>6}{'s':>6}",
)


def report(
    table, exposures: dict[str, dict], bad: list[tuple[str, str]], folder: str | Path
) -> str:
    """
    Say what a run will make.

    Parameters
    ----------
    table : pandas.DataFrame
        See `plan.make_table`.
    exposures : dict
        Records by exposure name; those that no product uses are counted.
    bad : list of (exposure, reason)
        Quarantined exposures.
    folder : str or path
        Folder of plan.tsv and plan.png, on the disk of the results.

    Returns
    -------
    str
        Lines of at most 100 characters (longer only where a path or a reason is).
    """
    free_mb = shutil.disk_usage(folder).free / 1e6
    blocks = [["plan: " + headline(table, exposures)], _products(table), _totals(table, free_mb)]
    blocks += [_depths(table), _nearly_empty(table), _quarantine(bad)]
    blocks.append([f"every product: {folder}/plan.tsv    picture: {folder}/plan.png"])
    return "\n\n".join("\n".join(block) for block in blocks if block)


def size(megabytes: float) -> str:
    """Megabytes as people say them."""
    for unit, factor in (("TB", 1e6), ("GB", 1e3)):
        if megabytes >= factor:
            return f"{megabytes / factor:.3g} {unit}"
    return f"{megabytes:.0f} MB"


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    for unit, factor in (("days", 2 * 86400), ("h", 5400), ("min", 120)):
        if seconds >= factor:
            unit_seconds = {"days": 86400, "h": 3600, "min": 60}[unit]
            return f"{seconds / unit_seconds:.3g} {unit}"
    return f"{seconds:.0f} s"


def depth_totals(table) -> dict[str, dict[int, float]]:
    """Area (arcmin2, products added up) by filter and number of exposures, from `depth_arcmin2`."""
    totals = defaultdict(lambda: defaultdict(float))
    for element, text in zip(table["optical_element"], table["depth_arcmin2"], strict=True):
        for part in text.split():
            depth, area = part.split(":")
            totals[element][int(depth)] += float(area)
    return {element: dict(sorted(areas.items())) for element, areas in sorted(totals.items())}


def depth_bins(deepest: int) -> list[tuple[int, int]]:
    """Numbers of exposures (first, last) of the lines of a histogram: each one up to 8, then by octaves."""
    bins = [(depth, depth) for depth in range(1, min(deepest, 8) + 1)]
    first = 9
    while first <= deepest:
        last = min(2 * first - 2, deepest)
        bins.append((first, last))
        first = last + 1
    return bins


def headline(table, exposures: dict[str, dict]) -> str:
    """Say in a line what a run makes of what; see `report` for the parameters."""
    names = " ".join(sorted(set(table["optical_element"])))
    cells = table["skycell"][table["skycell"] != "none"].nunique()
    regular = int((table["skycell"] == "none").sum())
    where = f"on {count(cells, 'skycell')}" if cells else ""
    if regular:
        where += f"{' and ' if where else 'on '}{count(regular, 'regular grid')}"
    exposed = count(len(exposures), "exposure")
    return f"{count(len(table), 'product')} {where} from {exposed}, {names}"


def _products(table) -> list[str]:
    """Return all products, or those that stand out."""
    if len(table) <= LISTED:
        return [*_HEAD, *(_row(row) for row in table.to_dict("records"))]
    lines = [*_HEAD]
    kinds = {
        "most CPU time": ("cpu_s", False),
        "deepest": ("max_depth", False),
        "least covered": ("covered_fraction", True),
    }
    for title, (column, rising) in kinds.items():
        chosen = table.sort_values([column, "product"], ascending=[rising, True]).head(_EXTREMES)
        lines += [f"- {title}", *(_row(row) for row in chosen.to_dict("records"))]
    return [*lines, f"- and {count(len(table), 'product')} in all, see plan.tsv"]


def _row(row: dict) -> str:
    name = row["product"]
    # The end of a name tells products apart: skycell and filter.
    name = name if len(name) < _NAME else "..." + name[4 - _NAME :]
    return (
        f"{name:{_NAME}}{row['members']:8d}{_short(row['covered_arcmin2'], 9)}"
        f"{_short(100 * row['covered_fraction'], 7)}{_short(row['mean_depth'], 6)}{row['max_depth']:5d}"
        f"{row['disk_mb']:7.0f}{row['memory_mb']:6.0f}{row['cpu_s']:6.0f}"
    )


def _short(value: float, width: int) -> str:
    digits = 0 if value >= 1000 else 1 if value >= 10 else 2
    return f"{value:{width}.{digits}f}"


def _totals(table, free_mb: float) -> list[str]:
    disk, core = table["disk_mb"].sum(), table["cpu_s"].sum()
    flux_disk, flux_core = table["flux_disk_mb"].sum(), table["flux_cpu_s"].sum()
    rows = [
        ("in all", "disk", "CPU time"),
        ("products", size(disk), duration(core)),
        ("exposures (step flux)", size(flux_disk), duration(flux_core)),
        ("run", size(disk + flux_disk), duration(core + flux_core)),
    ]
    lines = [f"{name:24}{a:>10}{b:>12}" for name, a, b in rows]
    lines.append(
        f"largest job: {size(table['memory_mb'].max())} of memory; free disk: {size(free_mb)}"
    )
    area = table["covered_arcmin2"].sum()
    lines.append(f"covered: {area:.4g} arcmin2, the rims that skycells share counted in each")
    if disk + flux_disk > free_mb:
        lines.append("warning: the disk has less room than a run from nothing needs")
    return lines


def _depths(table) -> list[str]:
    """Histogram of area by number of exposures, a column per filter."""
    totals = depth_totals(table)
    if not any(totals.values()):
        return []
    bins = depth_bins(max(max(areas, default=0) for areas in totals.values()))
    shown = list(totals)[:_NAMED]
    values = np.array(
        [
            [sum(area for d, area in totals[e].items() if a <= d <= b) for e in shown]
            for a, b in bins
        ]
    )
    lines = ["arcmin2 by number of exposures", f"{'':9}" + "".join(f"{e:>10}" for e in shown)]
    room = _WIDTH - 11 - 10 * len(shown)
    longest = max(values.sum(axis=1).max(), 1e-300)
    for (a, b), row in zip(bins, values, strict=True):
        label = f"{a}" if a == b else f"{a}-{b}"
        bar = "#" * round(room * row.sum() / longest)
        lines.append(f"{label:>9}" + "".join(f"{v:10.4g}" for v in row) + f"  {bar}".rstrip())
    return lines


def _nearly_empty(table) -> list[str]:
    chosen = table[table["nearly_empty"]].sort_values(["covered_fraction", "product"])
    if chosen.empty:
        return []
    lines = [
        f"nearly empty: {count(len(chosen), 'product')} (a larger associate.min_overlap_pixels makes fewer)"
    ]
    for row in chosen.head(_NAMED).to_dict("records"):
        lines.append(f"  {row['product']}  {100 * row['covered_fraction']:.2g} %")
    if len(chosen) > _NAMED:
        lines.append(f"  and {len(chosen) - _NAMED} more, see nearly_empty in plan.tsv")
    return lines


def _quarantine(bad: list[tuple[str, str]]) -> list[str]:
    if not bad:
        return []
    lines = [f"quarantined: {count(len(bad), 'exposure')}"]
    lines += [f"  {name}: {reason}" for name, reason in bad[:_NAMED]]
    if len(bad) > _NAMED:
        lines.append(f"  and {len(bad) - _NAMED} more, see associate/quarantine.tsv")
    return lines
