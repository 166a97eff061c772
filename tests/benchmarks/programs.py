"""Runs of romosaic and of romancal on the same exposures, with what each step cost."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from benchmark_data import ROOT
from romosaic import ONE_THREAD

HERE = Path(__file__).parent
#: Environment of other programs: without what romosaic sets for itself.
FOREIGN = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", *ONE_THREAD}}
ROMANCAL = "romancal==1.1.0"
STEPS = ("flux", "skymatch", "outlier_detection", "resample", "source_catalog")
FROM_FLUX_TO_COADD = STEPS[:4]
#: Rules that make what romancal does not: pictures, quality, merged catalogs.
_NOT_ROMANCALS = ("preview", "qa", "catalog")
#: Ends of the names of the files that romancal leaves.
WRITTEN = {"resample": ("_coadd.asdf",), "source_catalog": ("_cat.parquet", "_segm.asdf")}


@dataclass
class Cost:
    """
    What something cost.

    Attributes
    ----------
    core : float
        User and system seconds.
    wall : float
        Seconds, added up over processes.
    memory : float
        Largest resident size of a process, MB.
    written : float
        Size of the files it left, MB.
    jobs : int
        Processes, or runs of a step in one.
    """

    core: float = 0.0
    wall: float = 0.0
    memory: float = 0.0
    written: float = 0.0
    jobs: int = 0

    def add(self, core: float, wall: float, memory: float, written: float = 0.0) -> None:
        """Count another process."""
        self.core += core
        self.wall += wall
        self.written += written
        self.memory = max(self.memory, memory)
        self.jobs += 1


@dataclass
class Run:
    """
    A run of a program on a set of exposures.

    Attributes
    ----------
    folder : Path
        Its results.
    steps : dict of Cost
        By row of the table.
    total : Cost
        Of all its processes; wall from the start of the first to the end of the last.
    looking : float
        Seconds in which the benchmark took results out of its memory.
    """

    folder: Path
    steps: dict[str, Cost] = field(default_factory=dict)
    total: Cost = field(default_factory=Cost)
    looking: float = 0.0


def megabytes(paths) -> float:
    """Size of files."""
    return sum(path.stat().st_size for path in paths if path.is_file()) / 1e6


def finish(process: subprocess.Popen) -> tuple[int, float, float]:
    """Wait for a process; exit code, CPU seconds and peak memory (MB) of it and its children."""
    _, status, use = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, use.ru_utime + use.ru_stime, use.ru_maxrss * 1024 / 1e6


def read_once(paths: list[Path]) -> None:
    """Read files, so that both programs find them in the system's cache."""
    for path in paths:
        with path.open("rb") as file:
            while file.read(1 << 24):
                pass


def run_romosaic(data, folder: Path, cores: int, references: dict[str, Path]) -> Run:
    """
    Run the workflow from nothing to the catalogs, each job measured from outside.

    Parameters
    ----------
    data : benchmark_data.Simulated or Romanisim
    folder : Path
        Results; what is there is removed.
    cores : int
        For Snakemake; the pixel steps get as many threads.
    references : dict of Path
        Of `benchmark_data.write_references`.
    """
    shutil.rmtree(folder, ignore_errors=True)
    shims = folder / "shims"
    shims.mkdir(parents=True)
    shim = shlex.join([sys.executable, "-S", str(HERE / "account.py")])
    (shims / "bash").write_text(f'#!/bin/sh\nexec {shim} "$@"\n')
    (shims / "bash").chmod(0o755)
    config = {
        "exposures": [str(path) for path in data.exposures],
        "output_dir": str(folder / "results"),
        "threads": cores,
        "associate": {"skycells": data.skycells},
        "source_catalog": {f"{name}_file": str(references[name]) for name in ("epsf", "apcorr")},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    jobs, bash = folder / "jobs.jsonl", shutil.which("bash")
    environment = os.environ | {
        "PATH": f"{shims}:{os.environ['PATH']}",
        "ROMOSAIC_BENCHMARK_LOG": str(jobs),
        "ROMOSAIC_BENCHMARK_BASH": bash,
    }
    command = [sys.executable, "-m", "snakemake", "-s", ROOT / "Snakefile", "-d", folder]
    command += ["-q", "all", "--cores", cores, "--omit-from", *_NOT_ROMANCALS]
    command += ["--configfile", folder / "config.yaml"]
    read_once(data.exposures)
    start = time.perf_counter()
    with (folder / "snakemake.log").open("w") as log:
        process = subprocess.Popen(
            [str(part) for part in command], env=environment, stdout=log, stderr=log
        )
        code, core, _ = finish(process)
    wall = time.perf_counter() - start
    if code:
        sys.exit(f"benchmark: romosaic failed -> {folder / 'snakemake.log'}")
    run = Run(folder / "results")
    rows = [json.loads(line) for line in jobs.read_text().splitlines()]
    for row in rows:
        run.steps.setdefault(row["step"], Cost()).add(row["core"], row["wall"], row["memory"])
    for step, cost in run.steps.items():
        cost.written = megabytes((run.folder / step).rglob("*"))
    core -= sum(row["own"] for row in rows)  # what stands in the place of bash is not the workflow
    run.steps["Snakemake"] = Cost(core - sum(row["core"] for row in rows), jobs=1)
    written = sum(cost.written for cost in run.steps.values())
    # Of the jobs: Snakemake's own would count that of this process.
    run.total = Cost(core, wall, max(row["memory"] for row in rows), written, len(rows))
    return run


def make_romancal(folder: Path) -> Path:
    """Python of an environment with romancal, made when it is not there yet."""
    python = folder / "bin" / "python"
    ready = folder / ROMANCAL
    if not ready.exists():
        print(f"benchmark: installing {ROMANCAL} into {folder}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        if subprocess.run([*command, ROMANCAL]).returncode:
            sys.exit(
                "benchmark: romancal is not installed -> --romancal-python names a Python that has it"
            )
        ready.touch()
    return python


def run_romancal(
    data, python: Path, associations: Path, folder: Path, side_by_side: int, references
) -> Run:
    """
    Run romancal's MosaicPipeline, a process per skycell.

    Parameters
    ----------
    data : benchmark_data.Simulated or Romanisim
    python : Path
        Of `make_romancal`.
    associations : Path
        Folder of the associations that `associate` wrote.
    folder : Path
        Results; what is there is removed.
    side_by_side : int
        Processes at a time.
    references : dict of Path
        Of `benchmark_data.write_references`.
    """
    shutil.rmtree(folder, ignore_errors=True)
    inputs = folder / "inputs"
    inputs.mkdir(parents=True)
    for path in data.exposures:
        (inputs / path.name).symlink_to(path)
    environment = FOREIGN | {"SKYMAP_PATH": str(references["skymap"])}
    read_once(data.exposures)
    start, run, waiting, working = time.perf_counter(), Run(folder), [], []
    for path in sorted(associations.glob("*_asn.json")):
        shutil.copy(path, inputs)
        waiting.append(inputs / path.name)
    while waiting or working:
        while waiting and len(working) < side_by_side:
            working.append(start_romancal(python, waiting.pop(0), folder, references, environment))
        end_romancal(run, *working.pop(0))
    run.total.wall = time.perf_counter() - start - run.looking / side_by_side
    return run


def start_romancal(python, association: Path, folder: Path, references, environment):
    """Start the process of a skycell."""
    own = folder / association.name.removesuffix("_asn.json")
    own.mkdir()
    command = [python, HERE / "romancal_process.py", association, own]
    command += [references["epsf"], references["apcorr"]]
    with (own / "log.txt").open("w") as log:
        command = [str(part) for part in command]
        return subprocess.Popen(command, env=environment, cwd=own, stdout=log, stderr=log), own


def end_romancal(run: Run, process: subprocess.Popen, own: Path) -> None:
    """Wait for the process of a skycell and count it."""
    code, core, _ = finish(process)
    if code:
        why = "was killed: is there memory for it?" if code < 0 else "failed"
        sys.exit(f"benchmark: romancal {why} -> {own / 'log.txt'}")
    rows = json.loads((own / "steps.json").read_text())
    looking = rows.pop("looking")
    run.looking += looking["wall"]
    for name, row in rows.items():
        written = megabytes(
            path for path in own.iterdir() if path.name.endswith(WRITTEN.get(name, ()))
        )
        run.steps.setdefault(name, Cost()).add(row["core"], row["wall"], row["memory"], written)
        run.total.written += written
    # Asking for the peak of each step resets the one that the system tells at the end.
    memory = max(row["memory"] for row in rows.values())
    run.total.add(core - looking["core"], 0.0, memory)
