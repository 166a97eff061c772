"""Files of the rule `qa_table`: reads what `qa`, `preview` and `source_catalog` left, writes tables, page."""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from . import qa_grades, qa_page, qa_seams
from .atomic import write_text
from .catalog_table import read_columns
from .errors import REMAKE, ProductError
from .grid import Grid
from .small_image import SmallImage


def write(files, made, limits: Mapping[str, Sequence | None], benchmarks: str | Path) -> list[str]:
    """
    Write the table of the products, that of the seams, and the page.

    Parameters
    ----------
    files : namespace
        `measures`, `small`, `catalogs`: files of each product, in the same order.
    made : namespace
        `table`, `seams`, `page`: files to write.
    limits : mapping
        Section `qa` of the configuration.
    benchmarks : str or path
        Folder of the jobs' run times.

    Returns
    -------
    list of str
        Lines for the log.
    """
    products = [_read(path) for path in files.measures]
    seams = find_seams(products, files.small, files.catalogs)
    rows = qa_grades.make_table(products, seams, limits)
    write_text(made.table, to_tsv(rows))
    write_text(made.seams, to_tsv(seams, ("product", "neighbour")))
    costs = run_times(benchmarks)
    write_text(made.page, qa_page.page(rows, products, seams, limits, costs))
    return qa_grades.summary(rows)


def _read(path: str | Path) -> dict:
    try:
        return json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise ProductError(path, f"cannot be read ({error})", REMAKE) from error


def find_seams(
    products: Sequence[Mapping], small: Sequence[str | Path], catalogs: Sequence[str | Path]
) -> list[dict]:
    """
    Compare products with their neighbours; see `qa_seams`.

    Parameters
    ----------
    products : sequence of mapping
        Results of `qa.measure` with the name as `product`.
    small, catalogs : sequence of path
        Small image and catalog of each.

    Returns
    -------
    list of dict
        A row per pair: product, neighbour, level (MJy/sr), blocks, and what `same_sources` gives.
    """
    grids = [Grid.from_wcs_info(product["grid"]) for product in products]
    cells = {
        k: qa_seams.Cell(p["product"], _series(p, grid.skycell), grid)
        for k, (p, grid) in enumerate(zip(products, grids, strict=True))
        if grid.skycell
    }
    number = list(cells)
    image = lru_cache(maxsize=64)(SmallImage.read)
    columns = lru_cache(maxsize=64)(lambda path: read_columns(path, qa_seams.COLUMNS))
    rows = []
    for a, b in qa_seams.neighbours(list(cells.values())):
        i, j = number[a], number[b]
        level, blocks = qa_seams.level_difference(image(small[i]), image(small[j]))
        names = {"product": cells[i].name, "neighbour": cells[j].name}
        same = qa_seams.same_sources(columns(catalogs[i]), columns(catalogs[j]))
        rows.append({**names, "level": level, "blocks": blocks, **same})
    return rows


def _series(product: Mapping, skycell: str) -> str:
    """Name of a product without its skycell; products named otherwise are compared by filter."""
    name = product["product"]
    rest = name.replace(skycell, "") if skycell in name else ""
    return f"{rest} {product['optical_element']}"


def to_tsv(rows: Sequence[Mapping], names: Iterable[str] = ("product",)) -> str:
    """
    Write rows as a table with tabs; what is not known is empty.

    Parameters
    ----------
    rows : sequence of mapping
        All with the same keys.
    names : iterable of str, optional
        Columns of a table without rows.
    """
    columns = list(rows[0]) if rows else list(names)
    lines = ["\t".join(columns)]
    lines += ["\t".join(_cell(row[column]) for column in columns) for row in rows]
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def run_times(folder: str | Path) -> list[dict]:
    """
    Sum up the jobs' run times, step by step.

    Parameters
    ----------
    folder : str or path
        The run's ``benchmarks``: a folder per step with a file per job.

    Returns
    -------
    list of dict
        step, jobs, wall (s, all jobs), cpu (s, all jobs), longest (s), memory (MB, largest).
    """
    rows = []
    for step in sorted(path for path in Path(folder).glob("*") if path.is_dir()):
        jobs = [job for path in step.glob("*.tsv") if (job := _benchmark(path))]
        if jobs:
            wall, cpu, memory = zip(*jobs, strict=True)
            row = {"step": step.name, "jobs": len(jobs), "wall": sum(wall), "cpu": sum(cpu)}
            rows.append(row | {"longest": max(wall), "memory": max(memory)})
    return rows


def _benchmark(path: Path) -> tuple[float, float, float] | None:
    """Wall time, CPU time and memory of a job; unknown ones, of jobs too short to be seen, are 0."""
    lines = path.read_text().splitlines()
    if len(lines) < 2:
        return None
    job = dict(zip(lines[0].split("\t"), lines[-1].split("\t"), strict=False))
    return tuple(_number(job.get(key, "0")) for key in ("s", "cpu_time", "max_rss"))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
