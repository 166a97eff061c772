"""The markdown of `pixel_steps`."""

import json
import os
import platform
import shlex
import subprocess
import sys
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from benchmark_data import ROOT
from programs import FROM_FLUX_TO_COADD, Cost, Run
from scores import BINS, RADII

OURS = ("snakemake", "numpy", "numba", "asdf", "roman_datamodels", "photutils")
THEIRS = (
    "romancal",
    "stcal",
    "stpipe",
    "drizzle",
    "numpy",
    "asdf",
    "roman_datamodels",
    "photutils",
)

COMPARED = """
## What is compared

Both programs read the same Level-2 files (version 2.1.0 of the data model, lz4), one after the other on the
same machine, from the associations that romosaic's `associate` writes, with their default parameters; both
catalogs get the same ePSF and aperture corrections. Files are read once before each run, so that none waits
for the disk.

- **romosaic** runs as its users run it: a job is a process of its own, started by Snakemake. What a job
  costs is the system's accounting of that process from start to end (a program in the place of `bash` asks
  for it), its own start and imports included. The kernels are compiled: a small run comes before.
  `Snakemake` is all else: planning, starting jobs, watching them. `preview`, `qa` and `catalog` are left out:
  romancal makes no pictures, no report and no merged catalog.
- **romancal** runs as `strun roman_mos` does: a process per association, its steps one after the other in
  memory. Steps are measured within the process, `start` is what comes before them (imports), `read and
  write` what is in none of them. Its inputs are opened there and read by its first step; its coadd and its
  catalog are written there.
- CPU seconds are user and system time. Memory is the largest resident size of one process. Written is the
  size of the files that a step leaves.

`flux to coadd` sums the four pixel steps, for romancal with `start` and `read and write`; the last row is all
that either program took, Snakemake and the catalog included.

romancal is installed as released and not changed. So that it runs without its network service for reference
files (CRDS), `tests/benchmarks/romancal_process.py` sets or replaces at run time: the sky map is a reference
file of romosaic's own tessellation (`SKYMAP_PATH`); ePSF and aperture corrections are given as overrides;
parameter files are not asked for (the defaults of the code hold); the call that tells the name of the CRDS
context, which is only recorded, is replaced; dust maps are refused (`dust_ebv` is NaN, as in romosaic).
Levels and flags of the members are taken out of its memory after outlier_detection; that time is not counted.
The exposures are written by a later version of the data model: the numbers of the version in their headers
are set back to 2.1.0, the last that romancal 1.1.0 reads.

SWarp is no replacement for either: it resamples and coadds data and weight and makes no variances, context,
sky levels, flags or catalogs. It gets romosaic's calibrated members as FITS, levels subtracted, flagged
pixels with weight 0, one weight per exposure and TPV polynomials for the distortion; its time to read and
write them is counted, that to prepare them is not. It is not installed by the benchmark: `apt-get install
swarp` (Debian, Ubuntu) gives it a column.
"""

ONE_SKYCELL = """## One skycell

Six exposures of 4088 x 4088 pixels, a third of each on the skycell of 5000 x 5000. One process and one
thread at a time.

"""
THREADS = """
Wall seconds with one and with two threads, which romancal has not; of single steps the least of {} runs in
turn ({} of many exposures), without Snakemake:

"""
SWARP = """
SWarp, one thread, for resampling and coaddition of data and weight alone:

"""
SURVEY = """## Survey

Twelve exposures on the four skycells around the corner where these meet, eight on each skycell. romosaic
with {cores} cores, romancal with {processes} processes at a time; the wall seconds of a step are added up
over its jobs, those of the last row are a clock's.

"""
FLAGGED = """
Pixels flagged by `outlier_detection`, of those that three or more exposures see, by the amplitude of the
cosmic ray over the sky noise (sigma); false ones are of clean pixels, star cores are those within 3 pixels
of stars brighter than 23 mag:

"""
LEVELS = """
Errors of the sky levels less their mean, MJy/sr:

"""
STARS = """
Flux of isolated stars within 0.4 arcsec over the truth, median ± its standard error (half of the 16 to 84 %
range); {right:.3f} is right. They have no neighbour of a hundredth of their flux within 2 arcsec, nor of a
tenth within 3.2, as far as the ring reaches that tells the sky:

"""
KEPT = """
Flux of stars within 0.4 arcsec on the coadds over what their exposures hold of it, median ± its standard error
(mean; number); of stars without a cosmic ray or a bad pixel there in any exposure. A coadd is a mean of its
exposures, so noise, sky and neighbours cancel, and what is left is what weights and flags took. 0.9996 is
right: pixels of 0.055 arcsec smooth 0.0004 out of the circle (SWarp's bilinear ones 0.0013):

"""
NOISE = """
Noise of single sky pixels (MJy/sr), and spread of the fluxes of empty apertures over their errors, ± its
standard error by leaving out one of twenty regions after the other (number of apertures); 1 is right.
Error² = (1 - 0.40 · 0.11″ / radius) · sum of err² (SWarp: of 4 / weight, four output pixels to an input pixel):

"""


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table, its first column text and the others numbers."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" + "---:|" * (len(head) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def number(value: float) -> str:
    """Three digits, nothing for nothing."""
    if not value:
        return ""
    return f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def numbers(cost: Cost | None) -> list[str]:
    """Cells of a cost: core and wall seconds, memory (GB), written (MB)."""
    if cost is None:
        return [""] * 4
    memory = f"{cost.memory / 1e3:.2f}" if cost.memory else ""
    return [number(cost.core), number(cost.wall), memory, number(cost.written)]


def ratios(ours: Cost | None, theirs: Cost | None) -> list[str]:
    """Cells of romancal's costs over ours; nothing where one of them has none."""
    cells = []
    for key in ("core", "wall", "memory", "written"):
        values = [getattr(cost, key) if cost else 0.0 for cost in (theirs, ours)]
        cells.append(f"{values[0] / values[1]:.2g}" if all(values) else "")
    return cells


def together(run: Run, names: tuple[str, ...]) -> Cost:
    """Sum of rows."""
    rows = [run.steps[name] for name in names if name in run.steps]
    keys = ("core", "wall", "written")
    sums = [sum(getattr(row, key) for row in rows) for key in keys]
    return Cost(sums[0], sums[1], max(row.memory for row in rows), sums[2])


def costs(ours: Run, theirs: Run) -> str:
    """Table of the steps of two runs."""
    rows = []

    def row(name: str, a: Cost | None, b: Cost | None, bold: bool = False) -> None:
        cells = [f"{name} ({a.jobs} jobs)" if a and a.jobs > 1 and not bold else name]
        cells += [*numbers(a), *numbers(b), *ratios(a, b)]
        rows.append([f"**{cell}**" if bold and cell else cell for cell in cells])

    row("associate", ours.steps.get("associate"), None)
    row("start", None, theirs.steps["start"])
    for name in FROM_FLUX_TO_COADD:
        row(name, ours.steps[name], theirs.steps[name])
    row("read and write", None, theirs.steps["read and write"])
    coadd = together(theirs, ("start", *FROM_FLUX_TO_COADD, "read and write"))
    row("flux to coadd", together(ours, FROM_FLUX_TO_COADD), coadd, True)
    row("source_catalog", *(run.steps["source_catalog"] for run in (ours, theirs)))
    row("Snakemake", ours.steps["Snakemake"], None)
    row("all, with Snakemake and catalog", ours.total, theirs.total, True)
    columns = ("CPU s", "wall s", "GB", "MB written")
    head = ["", *(f"romosaic {c}" for c in columns), *(f"romancal {c}" for c in columns)]
    return table([*head, *(f"ratio of {c}" for c in columns)], rows)


def cell(found: dict) -> str:
    """Costs of one skycell."""
    ours, theirs, threaded = (found[key] for key in ("romosaic", "romancal", "threaded"))
    text = ONE_SKYCELL + costs(ours, theirs) + THREADS.format(*found["repeats"])
    runs = ours, threaded, theirs
    rows = [["all, on 1 and on 2 cores", *(number(run.total.wall) for run in runs), ""]]
    for exposures, walls in found["threads"].items():
        for name in ("outlier_detection", "resample"):
            one, two = walls[1][name], walls[2][name]
            given = exposures == ours.steps["flux"].jobs
            theirs_ = number(theirs.steps[name].wall) if given else ""
            label = f"{name}, {exposures} exposures"
            rows.append([label, number(one), number(two), theirs_, f"{one / two:.2f}"])
    text += table(["", "1 thread", "2 threads", "romancal", "1 thread / 2 threads"], rows)
    if "SWarp" in found:
        text += SWARP
        costs_ = {"romosaic, resample": ours.steps["resample"]}
        costs_ |= {"romancal, resample": replace(theirs.steps["resample"], written=0.0)}
        costs_ |= {f"SWarp, {kernel}": cost for kernel, (cost, _) in found["SWarp"].items()}
        cells = zip(*(numbers(cost) for cost in costs_.values()), strict=True)
        names = ("CPU s", "wall s", "GB", "MB written")
        rows = [[name, *row] for name, row in zip(names, cells, strict=True)]
        text += table(["", *costs_], rows)
    return text


def survey(found: dict) -> str:
    """Costs of the survey."""
    text = SURVEY.format(**found)
    return text + costs(found["romosaic"], found["romancal"]) + "\n" + stars(found)


def quality(title: str, found: dict) -> str:
    """Scores of the programs side by side."""
    scores = found["scores"]
    full = [name for name in scores if "sky" in scores[name]]
    text = f"## Quality: {title}\n" + FLAGGED
    keys = list(scores[full[0]]["outliers"])
    names = [key.replace("100-inf", "> 100").replace("clean", "false") for key in keys]
    names = [name.replace("cores", "false on star cores") for name in names]
    rows = [["all pixels", *(f"{scores[full[0]]['outliers'][key][1]}" for key in keys)]]
    rows += [[name, *(f"{scores[name]['outliers'][key][0]}" for key in keys)] for name in full]
    text += table(["", *names], rows) + LEVELS
    rows = [[name, *(f"{value:.5f}" for value in scores[name]["sky"])] for name in full]
    text += table(["", "largest", "rms"], rows)
    text += stars(found) + NOISE
    rows = [
        [name, f"{score['noise']:.5f}", *(f"{pull:.3f} ± {e:.3f}" for pull, e, _ in score["pulls"])]
        for name, score in scores.items()
    ]
    pulls = zip(RADII, scores[full[0]]["pulls"], strict=True)
    return text + table(["", "pixel noise", *(f"{radius}″ ({p[2]})" for radius, p in pulls)], rows)


def stars(found: dict) -> str:
    """Fluxes of stars by program: over the truth, and over what the exposures hold."""
    scores = found["scores"]
    count = [entry.number for entry in next(iter(scores.values()))["stars"]]
    bins = [f"{low}-{high} mag" for low, high in BINS]
    rows = [
        [name, *(f"{e.median:.4f} ± {e.error:.4f} ({e.scatter:.4f})" for e in score["stars"])]
        for name, score in scores.items()
    ]
    head = ["", *(f"{name} ({n})" for name, n in zip(bins, count, strict=True))]
    text = STARS.format(**found) + table(head, rows)
    rows = [
        [
            name,
            *(f"{e.median:.4f} ± {e.error:.4f} ({e.mean:.4f}; {e.number})" for e in score["kept"]),
        ]
        for name, score in scores.items()
    ]
    return text + KEPT + table(["", *bins], rows)


def machine() -> str:
    """Processor, memory and kernel."""
    try:
        text = Path("/proc/cpuinfo").read_text()
        model = next(line.split(":")[1] for line in text.splitlines() if "model name" in line)
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    kernel = f"{platform.system()} {platform.release()}"
    return f"{model.strip()}, {os.cpu_count()} cores, {memory:.0f} GB, {kernel}"


def their_versions(python: Path) -> dict[str, str]:
    """Versions of packages in romancal's environment, and of its Python."""
    code = f"import json, platform; from importlib.metadata import version; names = {THEIRS!r}; "
    code += (
        "print(json.dumps({'Python': platform.python_version()} | {n: version(n) for n in names}))"
    )
    told = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(told.stdout)


def listed(versions: dict[str, str]) -> str:
    """Names and versions in a line."""
    return ", ".join(f"{name} {number}" for name, number in versions.items())


def write(results: dict[str, dict], python: Path, swarp: str | None) -> str:
    """
    Markdown of the results.

    Parameters
    ----------
    results : dict
        Of `pixel_steps.Benchmark`.
    python : Path
        Python of romancal.
    swarp : str, optional
        Version of SWarp.
    """
    ours = {"Python": platform.python_version()} | {name: version(name) for name in OURS}
    command = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    started = shlex.join(["tests/benchmarks/pixel_steps.py", *shown(sys.argv[1:])])
    text = "# Benchmark of the pixel steps\n\nWritten by `make benchmark`; do not edit.\n\n"
    lines = {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": machine(),
        "load at the end": f"{os.getloadavg()[2]:.1f} (15 minutes)",
        "command": f"`{started}`",
        "romosaic": f"commit {commit or 'unknown'}; {listed(ours)}",
        "romancal": listed(their_versions(python)),
        "SWarp": swarp or "not installed",
    }
    text += table(["", ""], [list(line) for line in lines.items()]).replace("---:", "---")
    text += COMPARED
    if "cell" in results:
        text += "\n" + cell(results["cell"])
    if "survey" in results:
        text += "\n" + survey(results["survey"])
    if "cell" in results:
        text += "\n" + quality("the six exposures of one skycell", results["cell"])
    if "romanisim" in results:
        title = "four exposures (1000 x 1000) of the real simulator, romanisim"
        text += "\n" + quality(title, results["romanisim"])
    return text


def shown(arguments: list[str]) -> list[str]:
    """Arguments without the folders of this machine."""
    return [Path(text).name if Path(text).is_absolute() else text for text in arguments]
