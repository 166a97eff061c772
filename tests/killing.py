"""
Steps that are killed: a program that runs the steps' scripts in children and SIGKILLs them at chosen moments.

``python killing.py FOLDER`` reads FOLDER/jobs.json, runs every job once undisturbed in FOLDER/reference, then kills
it again and again in FOLDER/work, and runs it to the end after each kill. It writes FOLDER/report.json: what was
there after each kill and after the run that followed. Children are forks of one process with warm imports.
"""

import hashlib
import json
import os
import re
import runpy
import signal
import sys
import time
import traceback
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
#: Modules whose calls are reading: of files that the step starts from.
READERS = {"asdf_blocks", "asdf_compression", "asdf_tree", "catalog_files", "exposure", "flux_file"}
#: Calls of the system that are moments of their own, wherever they are made.
SYSTEM = {"write", "open", "fsync", "replace", "mkdir", "unlink", "seek", "flush"}
_DATE = re.compile(rb"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?")


def digest(path: Path) -> str:
    """Content of a file but for the dates of its making; raises for one that is not whole."""
    from romosaic.asdf_blocks import AsdfBlocks

    if path.suffix == ".asdf":
        blocks = AsdfBlocks.read(path)
        blocks.verify()
        blocks.tree()
        text = re.sub(rb"#ROMOSAIC .*\n", b"", _DATE.sub(b"", blocks.text))
        parts = [text, *(b"%d %d %s" % (b.used, b.size, b.checksum) for b in blocks.blocks)]
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
        if path.is_file() and path.suffix not in (".log", ".out") and path.name != "status.json":
            name = str(path.relative_to(folder))
            try:
                found[name] = "hidden" if path.name.startswith(".") else digest(path)
            except Exception as error:
                found[name] = f"{type(error).__name__}: {error}"
    return found


def snakemake_object(job: dict, folder: Path):
    """Give a script what Snakemake would, with outputs in a folder."""
    from types import SimpleNamespace

    from snakemake.iocontainers import InputFiles, OutputFiles, Params, Resources

    names = job["output"]
    placed = {key: str(folder / name) for key, name in names.items()}
    output = OutputFiles(fromdict=placed)
    return SimpleNamespace(
        input=InputFiles(fromdict=job["input"]),
        output=output,
        params=Params(fromdict=job["params"]),
        resources=Resources(fromdict={"mem_mb": 2000}),
        log=[str(folder / f"{job['step']}.log")],
        threads=1,
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
        elif event == "c_call" and getattr(argument, "__name__", "") in SYSTEM:
            label = "", argument.__name__
        else:
            return
        if len(self.seen) == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.seen.append(label)

    def phases(self) -> dict[str, list[int]]:
        """Numbers of the moments of reading, computing and writing."""
        start = self.seen.index(("atomic", "atomic"))
        last = max(k for k, label in enumerate(self.seen) if label == ("", "replace"))
        reading = [k for k, (module, _) in enumerate(self.seen[:start]) if module in READERS]
        rest = sorted(set(range(start)) - set(reading))
        return {
            "reading": reading,
            "computing": [k for k in rest if self.seen[k][0] not in ("", "errors")],
            "writing": list(range(start + 1, last)),
            "renaming": [k for k, label in enumerate(self.seen) if label == ("", "replace")],
        }


def child(job: dict, folder: Path, moments: Moments | None) -> int:
    """Start a fork that runs a step; returns its process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        output = os.open(folder / f"{job['step']}.out", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 2)
        if moments:
            sys.setprofile(moments)
        script = str(ROOT / "scripts" / f"{job['step']}.py")
        runpy.run_path(script, init_globals={"snakemake": snakemake_object(job, folder)})
        sys.setprofile(None)
        if moments:
            (folder.parent / "phases.json").write_text(json.dumps(moments.phases()))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def status(pid: int) -> int:
    """Exit code of a child, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kills(job: dict, folder: Path, rng: np.random.Generator) -> list[dict]:
    """Kill a step in each phase and at a random time, each time with a run to the end afterwards."""
    reference, work = folder / "reference", folder / "work" / job["step"]
    work.mkdir(parents=True)
    before = time.monotonic()
    done = status(child(job, reference, Moments()))
    assert done == 0, (reference / f"{job['step']}.out").read_text()
    seconds = time.monotonic() - before
    rows = []
    for phase, moments in json.loads((folder / "phases.json").read_text()).items():
        at = int(rng.choice(moments)) if moments else None
        if at is not None:
            rows.append({"phase": phase, "at": at, "of": len(moments)})
            rows[-1]["exit"] = status(child(job, work, Moments(at)))
            rows[-1] |= survived(job, work)
    delay = float(rng.uniform(0.1, 0.7) * seconds)
    pid = child(job, work, None)
    time.sleep(delay)
    os.kill(pid, signal.SIGKILL)
    rows.append({"phase": "time", "at": delay, "of": seconds, "exit": status(pid)})
    rows[-1] |= survived(job, work)
    return rows


def survived(job: dict, work: Path) -> dict:
    """What a killed run has left, and what the next run makes of it."""
    left = contents(work)
    code = status(child(job, work, None))
    return {"left": left, "next": code, "then": contents(work)}


def main(folder: Path) -> None:
    """Run all jobs, undisturbed and killed."""
    import romosaic.associate
    import romosaic.catalog_files
    import romosaic.mosaic_model
    import romosaic.preview
    import romosaic.resample
    import romosaic.source_catalog  # noqa: F401

    rng, report = np.random.default_rng(12), {}
    (folder / "reference").mkdir()
    for job in json.loads((folder / "jobs.json").read_text()):
        if job["step"] in report:  # the other exposures of `flux`
            assert status(child(job, folder / "reference", None)) == 0
        else:
            report[job["step"]] = kills(job, folder, rng)
    everything = contents(folder / "reference")
    (folder / "report.json").write_text(json.dumps({"kills": report, "reference": everything}))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "scripts"))
    main(Path(sys.argv[1]))
