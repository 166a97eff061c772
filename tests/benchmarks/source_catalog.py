"""
The step source_catalog beside romancal's SourceCatalogStep: what they cost, and whether their numbers agree.

    make benchmark BENCHMARK=source_catalog                    # about 10 minutes on 2 quiet cores, 3 GB

makes two full-size coadds (once), installs romancal in an environment of its own (once), runs both programs
on each and writes docs/benchmark_catalog.md. romancal takes minutes: what it cost and found is kept beside
the coadd and measured again with --again.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import programs
import report
from benchmark_data import ROOT, write_references
from catalog_agreement import compare, match
from catalog_coadds import make_coadd

HERE = Path(__file__).parent
#: Sources put into a coadd, by the number that is found.
SCENES = {"2,000": 2_400, "20,000": 25_000}
STEMS = ("cat.asdf", "cat.parquet", "segm.asdf")

TEXT = """# Benchmark of the source catalog

Written by `make benchmark BENCHMARK=source_catalog`; do not edit.

{machine}
## What is compared

Both programs make the catalog of the same coadds of 5000 x 5000 pixels: stars and exponential discs of three
sizes over independent noise, a corner not covered. They get the same ePSF and aperture corrections and run
with their defaults, which are the same. Each is a process of its own from start to end, imports, reading and
writing included: romosaic the script of its rule (Snakemake's own start of a job, about a second, comes on
top), romancal `SourceCatalogStep.run` with its results saved, without its network service for reference files
as told in [`benchmark.md`](benchmark.md). CPU seconds are user and system time, memory is the largest
resident size. Of the runs of a program on a coadd the one of the least CPU seconds counts; files are in the
system's cache and kernels compiled.

## Cost

{costs}
## Agreement

Of the sources that both find, less than a pixel apart: {matched}
The difference is given in units of romosaic's error of the same column, relative to romancal's value, or as it
is; of whole numbers and flags the share that differs. `median` and `99 %`: so many differences are no larger.

romancal squares the size of the middle pixel along north for its area: fluxes and areas are larger by 6.6e-5
here, sizes by 3.3e-5. The PSF that romosaic fits is that of the file on this coadd, with the detector pixel,
the drop and the output pixel; the stars have that one, so `psf_gof` of romancal is the larger one of the two.
romosaic's fits weigh pixels alike, romancal's by 1 / err^2. The noise of these coadds is independent from
pixel to pixel and they say so: errors are compared without the correlation that drizzled coadds have.
romosaic's fluxes are above the background between the sources, romancal's above that of all pixels, which holds
wings of sources: fluxes, and what is found with them, differ by the light of that level in the aperture.

{agreement}"""


def arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description="Benchmark of the source catalog beside romancal.")
    parser.add_argument("--folder", type=Path, default=ROOT / "results" / "benchmark")
    parser.add_argument("--report", type=Path, default=ROOT / "docs" / "benchmark_catalog.md")
    parser.add_argument("--only", nargs="+", choices=tuple(SCENES), default=tuple(SCENES))
    parser.add_argument("--runs", type=int, default=3, help="of romosaic on each coadd")
    parser.add_argument("--romancal-runs", type=int, default=1, help="of romancal on each coadd")
    parser.add_argument("--again", action="store_true", help="run romancal again, too")
    parser.add_argument("--romancal-python", type=Path, help="of an environment that has romancal")
    return parser.parse_args()


def run(command: list, folder: Path, environment: dict[str, str]) -> programs.Cost:
    """Run a program in a folder of its own and measure it."""
    folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(
            [str(part) for part in command], env=environment, cwd=folder, stdout=log, stderr=log
        )
        code, core, memory = programs.finish(process)
    wall = time.perf_counter() - start
    if code:
        sys.exit(f"benchmark: {command[1]} failed -> {folder / 'log.txt'}")
    return programs.Cost(core, wall, memory, jobs=1)


def ours(coadd: Path, folder: Path, references: dict[str, Path]) -> programs.Cost:
    """Run the script of the rule."""
    from romosaic.config_models import SourceCatalog

    files = {f"{name}_file": str(references[name]) for name in ("epsf", "apcorr")}
    settings = {
        "input": {"coadd": str(coadd), "epsf": [], "forcing": []},
        "output": [str(folder / f"product_{end}") for end in STEMS],
        "log": [str(folder / "step.log")],
        "params": {
            "parameters": SourceCatalog(**files).model_dump(),
            "reference_file": None,
            "forced_by": None,
        },
    }
    command = [sys.executable, HERE / "catalog_process.py", json.dumps(settings)]
    cost = run(command, folder, dict(os.environ))
    cost.written = programs.megabytes(folder / f"product_{end}" for end in STEMS)
    return cost


def theirs(coadd: Path, folder: Path, references: dict[str, Path], python: Path) -> programs.Cost:
    """Run romancal's step."""
    command = [python, HERE / "romancal_catalog.py", coadd, folder]
    command += [references["epsf"], references["apcorr"]]
    cost = run(command, folder, programs.FOREIGN | {"SKYMAP_PATH": str(references["skymap"])})
    cost.written = programs.megabytes(folder.glob("coadd_*"))
    return cost


def measure(options: argparse.Namespace, name: str, python: Path, references) -> dict:
    """Costs and tables of both programs on one coadd."""
    from astropy.table import Table

    base = options.folder.resolve() / "source_catalog" / name.replace(",", "")
    coadd = base / "coadd_coadd.asdf"
    make_coadd(coadd, SCENES[name])
    programs.read_once([coadd])
    ours(coadd, base / "romosaic", references)  # compiles the kernels
    print(f"benchmark: romosaic, {name} sources", flush=True)
    runs = [ours(coadd, base / "romosaic", references) for _ in range(options.runs)]
    found = {"romosaic": least(runs), "ours": options.runs}
    kept = base / "romancal.json"
    if options.again or not kept.exists():
        print(f"benchmark: romancal, {name} sources", flush=True)
        folder, n = base / "romancal", options.romancal_runs
        cost = least([theirs(coadd, folder, references, python) for _ in range(n)])
        kept.write_text(json.dumps({"runs": n, "cost": asdict(cost)}))
    before = json.loads(kept.read_text())
    found |= {"romancal": programs.Cost(**before["cost"]), "runs": before["runs"]}
    tables = [
        Table.read(path)
        for path in (
            base / "romosaic" / "product_cat.parquet",
            base / "romancal" / "coadd_cat.parquet",
        )
    ]
    rows = match(*tables)
    columns = compare(*(table[which] for table, which in zip(tables, rows, strict=True)))
    return found | {"numbers": [*map(len, tables), len(rows[0])], "columns": columns}


def least(costs: list[programs.Cost]) -> programs.Cost:
    """Cost of the run that took the least CPU seconds."""
    return min(costs, key=lambda cost: cost.core)


def cost_table(results: dict[str, dict]) -> str:
    """Costs of both programs by coadd."""
    rows = []
    for found in results.values():
        a, b, (n, m, _) = found["romosaic"], found["romancal"], found["numbers"]
        of_each = (("romosaic", a, n, found["ours"]), ("romancal", b, m, found["runs"]))
        for program, cost, count, runs in of_each:
            each = f"{1e3 * cost.core / count:.2f}"
            rows.append([program, f"{count:,}", f"{runs}", *report.numbers(cost), each])
        ratio = (b.core / m) / (a.core / n)
        cells = [
            f"{x / y:.1f}" for x, y in ((b.core, a.core), (b.wall, a.wall), (b.memory, a.memory))
        ]
        rows.append(
            ["**ratio**", "", "", *(f"**{cell}**" for cell in cells), "", f"**{ratio:.1f}**"]
        )
    head = ["", "sources", "runs", "CPU s", "wall s", "GB", "MB written", "CPU ms per source"]
    return report.table(head, rows)


def agreement_table(results: dict[str, dict]) -> str:
    """Differences by column, of each coadd."""
    rows = []
    for columns in zip(*(found["columns"] for found in results.values()), strict=True):
        numbers = [value for column in columns for value in (column.median, column.most)]
        cells = ("" if value != value else f"{value:.2g}" for value in numbers)
        unit = next((column.unit for column in columns if column.unit), "")
        rows.append([f"`{columns[0].name}`", *cells, unit, columns[0].note])
    head = [cell for name in results for cell in (f"{name}: median", "99 %")]
    return report.table(["column", *head, "in", "why"], rows)


def write(results: dict[str, dict], python: Path) -> str:
    """Markdown of the results."""
    versions = {"Python": platform.python_version()} | {k: version(k) for k in report.OURS[1:]}
    command = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    lines = {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": report.machine(),
        "load at the end": f"{os.getloadavg()[2]:.1f} (15 minutes)",
        "romosaic": f"commit {commit or 'unknown'}; {report.listed(versions)}",
        "romancal": report.listed(report.their_versions(python)),
    }
    matched = " and ".join(
        "{2:,} (romosaic has {0:,}, romancal {1:,})".format(*found["numbers"])
        for found in results.values()
    )
    return TEXT.format(
        machine=report.table(["", ""], [list(line) for line in lines.items()]).replace(
            "---:", "---"
        ),
        costs=cost_table(results),
        matched=f"{matched}.",
        agreement=agreement_table(results),
    )


def main() -> None:
    """Run what is asked for and write the report."""
    options = arguments()
    folder = options.folder.resolve()
    references = write_references(folder / "references")
    python = options.romancal_python or programs.make_romancal(folder / "venv-romancal")
    results = {}
    for name in options.only:
        results[name] = measure(options, name, python, references)
    text = write(results, python)
    options.report.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
