"""
Time and memory that Snakemake takes to plan the products of many exposures.

    PYTHONPATH=scripts:tests/benchmarks .venv/bin/python tests/benchmarks/planning.py 1000 10000

takes that many records of exposures, a survey of fields (18 detectors, 4 dithers) as in ``associate.py``, whose
headers count as read already, and prints seconds, core seconds and memory of ``snakemake associate`` (products
from records) and of ``snakemake -n`` (the plan of every job), of all products and of a
hundred of them.
"""

import re
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from associate import SIDE, place, run
from romosaic import simulate_wcs
from romosaic.footprint import detector_outline
from romosaic.records import Records, status


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


def measure(label: str, folder: Path, *arguments: str) -> str:
    """Run Snakemake, print a line, and return what Snakemake printed."""
    wall, core, memory, text = run(folder, *arguments)
    jobs = re.search(r"^total +(\d+)", text, re.M)
    print(f"{label:44}{wall:9.1f}{core:9.1f}{memory:9.0f}{jobs[1] if jobs else '-':>9}", flush=True)
    return text


def main(numbers: list[int]) -> None:
    """Print the table."""
    print(f"{'':44}{'s':>9}{'core s':>9}{'MB':>9}{'jobs':>9}")
    for number in numbers:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            survey(folder, number)
            measure(f"{number} exposures: associate", folder, "associate", "--cores", "2")
            assert (
                " 0 headers read" in (folder / "results/logs/associate/associate.log").read_text()
            )
            found = sorted((folder / "results/associate/associations").glob("*_asn.json"))
            measure(f"  plan of all {len(found)} products", folder, "-n", "-q", "rules")
            names = [path.name.removesuffix("_asn.json") for path in found[:100]]
            pictures = [f"results/preview/{name}_coadd.png" for name in names]
            measure(f"  plan of {len(names)} of them", folder, *pictures, "-n", "-q", "rules")


if __name__ == "__main__":
    main([int(text) for text in sys.argv[1:]])
