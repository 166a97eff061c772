"""
Peak memory and time of the steps of one product of many members, as whole processes.

    make demo
    PYTHONPATH=scripts .venv/bin/python tests/benchmarks/many_members.py results/demo 32 [folder]

takes the product of the run with the most members, and makes its members many: each exposure in turn under
other names, as a copy, or as a link where it is large (a link has the exposure's own name inside, and is mapped
as often as a copy). `folder`, a new temporary one by default, takes them and the results. Prints for each step
of a product: CPU seconds, seconds, largest resident size in all, of memory of its own and of mapped files
(from samples), and what the rule asks for, of which 225 MB are for Snakemake.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

from romosaic import association_file
from romosaic.config import load
from romosaic.job_memory import job_memory, settings
from romosaic.names import exposure_name
from romosaic.result_files import PRODUCT

PROCESS = Path(__file__).parent / "step_process.py"
LARGE = 100_000_000  # bytes
#: Names that the rules of later steps give to the files of a step.
NAMES = {
    "skymatch": ["skymatch"],
    "outlier_detection": ["outliers"],
    "resample": ["coadd"],
    "source_catalog": ["catalog_asdf", "catalog", "segmentation"],
    "preview": ["coadd", "planes", "thumbnail", "small"],
    "qa": ["measures"],
}


def copy_members(results: Path, names: list[str], number: int, folder: Path) -> list[Path]:
    """Files of `flux` of `number` members, copies of those of `names` in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for k in range(number):
        name = names[k % len(names)]
        new = re.sub(r"_\d{4}_", f"_{k + 1:04d}_", name)
        paths.append(folder / f"{new}_flux.asdf")
        if not paths[-1].exists():
            source = results / f"flux/{name}_flux.asdf"
            if source.stat().st_size > LARGE:
                paths[-1].symlink_to(source.resolve())
            else:
                copy_renamed(source, paths[-1], name, new)
    return paths


def copy_renamed(source: Path, target: Path, name: str, new: str) -> None:
    """Copy a file of `flux` under a name of the same length, which moves none of its blocks."""
    with open(source, "rb") as old, open(target, "wb") as stream:
        head = old.read(1 << 20)  # in pieces: a large parent would count as memory of the steps
        end = head.index(b"\n...\n")
        stream.write(head[:end].replace(name.encode(), new.encode()) + head[end:])
        shutil.copyfileobj(old, stream, 1 << 20)


def resident(pid: int) -> tuple[float, float]:
    """Resident memory of a process, of its own and of mapped files, MB; zeros when it has ended."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
        kinds = (int(re.search(rf"Rss{kind}:\s+(\d+)", text)[1]) / 1e3 for kind in ("Anon", "File"))
        return tuple(kinds)
    except (OSError, TypeError):
        return 0.0, 0.0


def measure(step: str, job: dict) -> list[float]:
    """CPU seconds, seconds, largest resident size, of its own, of mapped files (MB)."""
    start, samples, ended = time.monotonic(), [(0.0, 0.0)], Event()
    process = subprocess.Popen([sys.executable, PROCESS, step, json.dumps(job)])

    def sample() -> None:
        while not ended.wait(0.02):
            samples.append(resident(process.pid))

    # in a thread: the end is told as it comes, not at the next sample
    with ThreadPoolExecutor(1) as pool:
        sampling = pool.submit(sample)
        try:
            _, code, usage = os.wait4(process.pid, 0)
            seconds, core = time.monotonic() - start, usage.ru_utime + usage.ru_stime
        finally:
            ended.set()
        sampling.result()
    if code:
        sys.exit(f"{step} failed: see {job['log'][0]}")
    own, mapped = (max(kind) for kind in zip(*samples, strict=True))
    return [core, seconds, usage.ru_maxrss / 1e3, own, mapped]


def measure_steps(
    results: Path, number: int, folder: Path, threads: int = 2, last: str = "qa"
) -> Iterator[tuple[str, list[float]]]:
    """Each step up to the last one, what `measure` tells of it, and the MB that its rule asks for."""
    config = load({})
    paths = (results / "associate/associations").glob("*_asn.json")
    path = max(paths, key=lambda path: len(json.loads(path.read_text())["products"][0]["members"]))
    association = json.loads(path.read_text())
    product = association["products"][0]
    names = [exposure_name(member["expname"]) for member in product["members"]]
    members = copy_members(results, names, number, folder / "flux")
    product["members"] = [
        {"expname": p.name.replace("_flux", "_cal"), "exptype": "science"} for p in members
    ]
    asn = folder / path.name
    asn.write_text(json.dumps(association))
    grid = association_file.read_grid(asn)
    records = [str(results / f"associate/exposures/{name}.json") for name in names]
    files = {"association": str(asn), "members": [str(path) for path in members]}
    files |= {"records": records, "epsf": [], "forcing": []}
    for step in list(NAMES)[: list(NAMES).index(last) + 1]:
        paths = [folder / pattern.format(product["name"]) for pattern in PRODUCT[step]]
        made = {kind: str(path) for kind, path in zip(NAMES[step], paths, strict=True)}
        asked = job_memory(step, number, grid.nx * grid.ny, **settings(config))
        nothing = {"levels": None, "forced_by": None, "reference_file": None}
        job = {
            "input": files,
            "output": made,
            "wildcards": {"product": product["name"]},
            "params": {"parameters": config[step], **nothing},
            "resources": {"mem_mb": asked},
            "threads": threads,
            "log": [str(folder / f"{step}.log")],
        }
        yield step, [*measure(step, job), asked]
        files = made | files


def main(results: Path, number: int, folder: Path) -> None:
    """Print the table."""
    print(f"{number} members, 2 threads")
    head = ("CPU s", "seconds", "peak MB", "own MB", "mapped MB", "asked MB")
    print(f"{'':18}" + "".join(f"{word:>10}" for word in head))
    for step, measured in measure_steps(results, number, folder):
        print(f"{step:18}" + "".join(f"{value:10.1f}" for value in measured), flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 3:
        main(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(sys.argv[1]), int(sys.argv[2]), Path(temporary))
