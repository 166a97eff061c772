"""
Steps that are killed: a program that runs the steps' scripts in children and SIGKILLs them at chosen moments.

``python killing.py FOLDER`` reads FOLDER/jobs.json, runs every job once undisturbed in FOLDER/reference, then
kills it again and again in FOLDER/work, and runs it to the end once it has written. FOLDER/report.json says
what was there after each kill and after the run that followed. Children are forks of one process, which has all
imports and compiled kernels.
"""

import hashlib
import io
import json
import os
import re
import runpy
import signal
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
#: Modules whose calls are reading: of files that the step starts from.
READERS = {"asdf_blocks", "asdf_compression", "asdf_tree", "catalog_files", "exposure", "flux_file"}
#: Modules whose calls are writing, once a file has been begun; "" stands for calls of the system.
WRITERS = {"", "asdf_writer", "atomic", "product"}
#: Calls of the system that are moments of their own, wherever they are made.
SYSTEM = {"write", "open", "fsync", "replace", "mkdir", "unlink", "seek", "flush"}
_DATE = re.compile(rb"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?")


def digest(path: Path) -> str:
    """Content of a file but for the dates of its making; raises for one that is not whole."""
    from romosaic.asdf_blocks import AsdfBlocks
    from romosaic.flux_file import open_flux

    if path.suffix == ".asdf":
        blocks = AsdfBlocks.read(path)
        blocks.verify()
        if "checksums" in blocks.tree:
            open_flux(path).verify()
        text = re.sub(rb"#ROMOSAIC .*\n", b"", _DATE.sub(b"", blocks.text))
        # asdf lists its extensions in no order.
        parts = [
            *sorted(text.splitlines()),
            *(b"%d %d %s" % (b.used, b.size, b.checksum) for b in blocks.blocks),
        ]
    elif path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        table, sink = pq.read_table(path).replace_schema_metadata(None), pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table.combine_chunks())
        parts = [sink.getvalue().to_pybytes()]
    else:
        parts = [path.read_bytes()]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def contents(folder: Path) -> dict[str, str]:
    """Digest of every file; of one that is not whole, what is wrong with it."""
    found = {}
    for path in sorted(folder.rglob("*")):
        # A hidden file is nobody's product; the list of statuses only saves time.
        if path.is_file() and path.suffix != ".log" and path.name != "status.json":
            name = str(path.relative_to(folder))
            try:
                found[name] = "hidden" if path.name.startswith(".") else digest(path)
            except Exception as error:
                found[name] = f"{type(error).__name__}: {error}"
    return found


def snakemake_object(job: dict, folder: Path):
    """Give a script what Snakemake would, with outputs in a folder."""
    from types import SimpleNamespace

    from snakemake.iocontainers import InputFiles, OutputFiles, Params

    names = job["output"]
    placed = {key: str(folder / name) for key, name in names.items()}
    output = OutputFiles(fromdict=placed)
    return SimpleNamespace(
        input=InputFiles(fromdict=job["input"]),
        output=output,
        params=Params(fromdict=job["params"]),
        wildcards=SimpleNamespace(product="p"),
        resources=SimpleNamespace(mem_mb=4000),
        log=[str(folder / f"{job['step']}.log")],
        threads=1,
    )


def _of_system(function) -> bool:
    """Whether a function is that of files, and not a method of texts of the same name."""
    return function.__module__ in ("posix", "_io", "io") or isinstance(
        getattr(function, "__self__", None), io.IOBase
    )


class Moments:
    """The moments of a run: calls within the library, and calls of the system that anyone makes."""

    def __init__(self, kill_at: int | None = None) -> None:
        self.kill_at, self.seen = kill_at, []

    def __call__(self, frame, event, argument) -> None:
        if event == "call":
            path = frame.f_code.co_filename
            if "romosaic/" not in path:
                return
            label = Path(path).stem, frame.f_code.co_name
        elif event == "c_call" and argument.__name__ in SYSTEM and _of_system(argument):
            label = "", argument.__name__
        else:
            return
        if len(self.seen) == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.seen.append(label)

    def phases(self) -> dict[str, list[int]]:
        """Numbers of the moments of reading, computing and writing."""
        start = self.seen.index(("atomic", "atomic"))
        phases = {"reading": [], "computing": [], "writing": [], "renaming": []}
        for number, (module, name) in enumerate(self.seen):
            if (module, name) == ("", "replace"):
                phases["renaming"].append(number)
            elif number > start:
                # what is read and computed between two files is part of neither phase
                if module in WRITERS:
                    phases["writing"].append(number)
            elif module in READERS:
                phases["reading"].append(number)
            elif module not in WRITERS | {"errors"}:
                phases["computing"].append(number)
        return phases


def run(job: dict, folder: Path) -> None:
    """Run the script of a step in this process."""
    script = str(ROOT / "scripts" / f"{job['step']}.py")
    runpy.run_path(script, init_globals={"snakemake": snakemake_object(job, folder)})


def in_child(job: dict, folder: Path, moments: Moments | None = None) -> int:
    """Run a step in a fork; returns its exit code, negative for a signal."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        if moments:
            sys.setprofile(moments)
        run(job, folder)
        sys.setprofile(None)
        if moments:
            (folder / "phases.json").write_text(json.dumps(moments.phases()))
        code = 0
    finally:
        os._exit(code)


def kills(job: dict, folder: Path, rng: np.random.Generator) -> list[dict]:
    """Kill a step at a random moment of each phase, each time with a run to the end afterwards."""
    rows = []
    assert in_child(job, folder / "moments", Moments()) == 0
    for phase, moments in json.loads((folder / "moments" / "phases.json").read_text()).items():
        at = int(rng.choice(moments))
        row = {"phase": phase, "at": at, "of": len(moments)}
        # `associate` writes only what differs; the others write over what is there.
        work = folder / "work" / job["step"] / (phase if job["step"] == "associate" else "all")
        work.mkdir(parents=True, exist_ok=True)
        row["exit"] = in_child(job, work, Moments(at))
        row["left"] = contents(work)
        if phase in (
            "writing",
            "renaming",
        ):  # the others have written nothing that could stand in the way
            row["next"] = in_child(job, work)
            row["then"] = contents(work)
        rows.append(row)
    return rows


def main(folder: Path) -> None:
    """Run all jobs, undisturbed and killed."""
    jobs = json.loads((folder / "jobs.json").read_text())
    for job in jobs:  # here, so that the children have all imports and kernels
        run(job, folder / "reference")
    rng, report = np.random.default_rng(12), {}
    for job in jobs:
        if job["step"] not in report:
            (folder / "moments").mkdir(exist_ok=True)
            report[job["step"]] = kills(job, folder, rng)
    found = {"kills": report, "reference": contents(folder / "reference")}
    (folder / "report.json").write_text(json.dumps(found))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "scripts"))
    main(Path(sys.argv[1]))
