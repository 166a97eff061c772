"""
Time and memory that Snakemake takes to plan the products of many exposures.

    PYTHONPATH=scripts:tests/benchmarks .venv/bin/python tests/benchmarks/planning.py 1000 10000

takes that many records of exposures, a survey of fields (18 detectors, 4 dithers) as in ``associate.py``, whose
headers count as read already, and prints seconds, CPU seconds and memory of ``snakemake associate`` (products
from records) and of ``snakemake -n`` (the plan of every job): of a part (``batch``) of about 1000 products or
a tenth, of the rest when all products are there, in name at least, and of all products.
"""

import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from associate import SIDE, place, run
from romosaic import simulate_wcs
from romosaic.footprint import detector_outline
from romosaic.records import Records, status
from romosaic.result_files import final_files, product_names


def record(number: int, footprint: dict) -> dict:
    """Record of an exposure of the survey: that of a detector, moved to its place."""
    ra, dec, field, dither, detector = place(number)
    visit = f"{field:05d}"
    name = f"r{visit}01001001001001_{dither + 1:04d}_wfi{detector + 1:02d}_f158"
    east = (footprint["ra"] - footprint["ra"].mean()) / np.cos(np.radians(dec))
    return {
        "exposure": name,
        "fingerprint": f"{number:032x}",
        "detector": f"WFI{detector + 1:02d}",
        "optical_element": "F158",
        "visit_id": f"{visit}01001001001001",
        "exposure_time": 107.0,
        "start_time": "2027-01-01T00:00:00.000",
        "end_time": "2027-01-01T00:02:00.000",
        "shape": [SIDE, SIDE],
        "footprint": {
            "ra": (ra + east).tolist(),
            "dec": (dec + footprint["dec"] - footprint["dec"].mean()).tolist(),
        },
        "pixmap": None,
        "pixel_scale": 0.11,
    }


def survey(folder: Path, number: int) -> None:
    """Write files that are never opened, and records that say that they were."""
    raw = folder / "raw"
    raw.mkdir()
    wcs = simulate_wcs.build_wcs((SIDE, SIDE), 0.0, 0.0, 0.0, "WFI01")
    ra, dec = (np.asarray(angle) for angle in wcs(*detector_outline(SIDE, SIDE)))
    footprint = {"ra": (ra + 180) % 360, "dec": dec}
    found = [record(k, footprint) for k in range(number)]
    paths = {row["exposure"]: raw / f"{row['exposure']}_cal.asdf" for row in found}
    for path in paths.values():
        path.write_bytes(b"#ASDF 1.0.0\n")
    time.sleep(11)  # younger files are opened again
    good = {row["exposure"]: row for row in found}
    statuses = {name: status(path) for name, path in paths.items()}
    unchecked = dict.fromkeys(good)
    Records(good, [], list(good), statuses, unchecked).write(folder / "results/associate")


def measure(label: str, folder: Path, *arguments: str, config: tuple[str, ...] = ()) -> None:
    """Run Snakemake and print a line."""
    wall, core, memory, text = run(folder, *arguments, config=config)
    jobs = re.search(r"^total +(\d+)", text, re.M)
    print(f"{label:44}{wall:9.1f}{core:9.1f}{memory:9.0f}{jobs[1] if jobs else '-':>9}", flush=True)


def main(numbers: list[int]) -> None:
    """Print the table."""
    print(f"{'':44}{'s':>9}{'CPU s':>9}{'MB':>9}{'jobs':>9}")
    for number in numbers:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            survey(folder, number)
            measure(f"{number} exposures: associate", folder, "associate", "--cores", "2")
            assert (
                " 0 headers read" in (folder / "results/logs/associate/associate.log").read_text()
            )
            names = product_names(folder / "results")
            parts = max(10, len(names) // 1000)
            dry = "-n", "-q", "rules"
            measure(f"  plan of part 1 of {parts}", folder, *dry, config=(f"batch=1/{parts}",))
            files = [folder / "results" / path for name in names for path in final_files(name)]
            for path in files:
                path.parent.mkdir(exist_ok=True)
                path.touch()
            measure("  plan of the rest", folder, *dry, config=("batch=rest",))
            for path in {path.parent for path in files}:
                shutil.rmtree(path)
            measure(f"  plan of all {len(names)} products", folder, *dry)


if __name__ == "__main__":
    main([int(text) for text in sys.argv[1:]])
