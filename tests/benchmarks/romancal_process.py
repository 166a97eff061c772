"""
One process of romancal's MosaicPipeline, as `strun roman_mos` runs it, that notes what its steps cost.

    python romancal_process.py <association> <output folder> <references: epsf, apcorr>

runs under romancal's own Python, with the sky map in the environment variable SKYMAP_PATH. Beside the
products it writes `steps.json` (seconds, CPU seconds and peak memory of each step) and `members.npz` (sky
levels and pixels flagged as outliers). These two need time, which is counted for no step and subtracted
from the total.

What is not romancal as it comes, because CRDS is its network service for reference files: the sky map, the
ePSF and the aperture corrections are files that the benchmark wrote; parameter files of CRDS are not asked
for (the defaults of the code hold); the name of the CRDS context, which is only recorded, is replaced; dust
maps are refused, so that the catalog's dust_ebv is NaN, as in romosaic.
"""

import json
import resource
import sys
import time
import traceback
from pathlib import Path

ENTERED = time.perf_counter()
STEPS = ("flux", "skymatch", "outlier_detection", "resample", "source_catalog")


def core_seconds() -> float:
    """User and system time of this process and its children, from its start."""
    uses = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses)


def peak_mb() -> float:
    """Largest resident size since the last call."""
    text = Path("/proc/self/status").read_text()
    Path("/proc/self/clear_refs").write_text("5")
    return int(text.split("VmHWM:")[1].split()[0]) * 1024 / 1e6


class Steps:
    """What each step cost, and what looking at the results cost."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.rows: dict[str, dict] = {}
        self.looking = {"wall": 0.0, "core": 0.0}

    def note(self, name: str, wall: float, core: float) -> None:
        self.rows[name] = {"wall": wall, "core": core, "memory": peak_mb()}

    def watch(self, name: str, step) -> None:
        """Measure the runs of a step of the pipeline."""
        run = step.run

        def measured(*args):
            peak_mb()
            wall, core = time.perf_counter(), core_seconds()
            result = run(*args)
            self.note(name, time.perf_counter() - wall, core_seconds() - core)
            if name == "outlier_detection":
                self.look(result)
            return result

        step.run = measured

    def look(self, library) -> None:
        """Keep the levels and flags of the members for the scores."""
        import numpy as np
        from roman_datamodels.dqflags import pixel

        wall, core = time.perf_counter(), core_seconds()
        kept = {}
        with library:
            for index, model in enumerate(library):
                name = Path(model.meta.filename).name.rsplit("_", 1)[0]
                kept[f"{name}:level"] = float(model.meta.background.level)
                flagged = (np.asarray(model.dq) & pixel.OUTLIER.value) != 0
                kept[f"{name}:flagged"] = np.flatnonzero(flagged)
                library.shelve(model, index, modify=False)
        np.savez(self.folder / "members.npz", **kept)
        self.looking["wall"] += time.perf_counter() - wall
        self.looking["core"] += core_seconds() - core


def refuse(*args, **options):
    """Stand in the place of a question to CRDS; the catalog takes no answer for one."""
    raise OSError("offline")


def main(association: str, folder: Path, references: list[str]) -> None:
    from romancal.pipeline import MosaicPipeline
    from romancal.source_catalog import _source_catalog
    from stpipe import crds_client

    steps = Steps(folder)
    crds_client.get_context_used = lambda observatory: "none: offline"
    _source_catalog.getreferences = refuse
    pipeline = MosaicPipeline()
    pipeline.save_results, pipeline.output_dir = True, str(folder)
    catalog = pipeline.source_catalog
    catalog.override_epsf, catalog.override_apcorr = references
    for name in STEPS:
        steps.watch(name, getattr(pipeline, name))
    steps.note("start", time.perf_counter() - ENTERED, core_seconds())
    wall, core = time.perf_counter(), core_seconds()
    try:
        pipeline.run(association)
    except SystemExit:
        traceback.print_exc()  # CRDS exits without a word
        raise
    in_steps = [steps.rows[name] for name in STEPS]
    rest = {
        "wall": time.perf_counter() - wall - sum(row["wall"] for row in in_steps),
        "core": core_seconds() - core - sum(row["core"] for row in in_steps),
    }
    steps.note("read and write", *(rest[key] - steps.looking[key] for key in ("wall", "core")))
    (folder / "steps.json").write_text(json.dumps({**steps.rows, "looking": steps.looking}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
