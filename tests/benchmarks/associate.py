"""
Time of `snakemake associate` on many exposures.

    PYTHONPATH=scripts .venv/bin/python tests/benchmarks/associate.py 10000 [cores]

writes that many Level-2 files with the header, the distortion and the size of real ones and next to no bytes of
pixels (a survey of fields: 18 detectors, 4 dithers), in a folder that is removed afterwards, and prints for a
first run, a run again, a run with one exposure more and so on: seconds, CPU seconds, memory of all processes,
headers read.
"""

import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import asdf
import numpy as np
import psutil
from romosaic import simulate, simulate_wcs
from romosaic.config import load
from romosaic.simulate_plan import exposure_names

ROOT = Path(__file__).parent.parent.parent
#: Numbers that stand in the template's header wherever its place and name do.
RA, DEC, ROLL, OBSERVATION, VISIT, EXPOSURE = 111.123456789, 44.123456789, 33.0, 555, 777, 9999
SIDE = simulate_wcs.FULL_SIZE


def template(folder: Path) -> tuple[str, bytes]:
    """Name and content of an exposure without signal, its planes compressed to nearly nothing."""
    place = {"ra": RA, "dec": DEC, "roll": ROLL}
    numbers = {"observation": OBSERVATION, "visit": VISIT, "exposure": EXPOSURE}
    parameters = load({"simulate": {"exposures": [place | numbers], "shape": [32, 32]}})["simulate"]
    (name,) = exposure_names(parameters)
    simulate.simulate_one(parameters, name, folder / "small.asdf")
    with asdf.open(folder / "small.asdf", lazy_load=False, memmap=False) as file:
        roman = file["roman"]
        for key in ("data", "err", "dq", "var_poisson", "var_rnoise", "var_flat"):
            if key in roman:
                roman[key] = np.zeros((SIDE, SIDE), roman[key].dtype)
        roman["meta"]["wcs"] = simulate_wcs.build_wcs((SIDE, SIDE), RA, DEC, ROLL, "WFI01")
        file.write_to(folder / "full.asdf", all_array_compression="bzp2")
    return name, (folder / "full.asdf").read_bytes()


def place(number: int) -> tuple[float, float, int, int, int]:
    """RA, Dec (degrees), field, dither and detector of an exposure."""
    field, rest = divmod(number, 72)
    dither, detector = divmod(rest, 18)
    row, column = divmod(field, 20)
    dec = 30 + 0.4 * row + 0.13 * (detector // 6) + 0.005 * dither
    east = 0.8 * column + 0.13 * (detector % 6) + 0.004 * dither
    return 110 + east / np.cos(np.radians(dec)), dec, field, dither, detector


def write(folder: Path, name: str, content: bytes, number: int) -> Path:
    """Write a copy of the template with another place and name, of the same length."""
    ra, dec, field, dither, detector = place(number)
    observation, visit = 100 + field // 900, 100 + field % 900
    changes = {
        f"{RA}": f"{ra:.9f}",
        f"{DEC}": f"{dec:.9f}",
        f"observation: {OBSERVATION}": f"observation: {observation}",
        f"visit: {VISIT}": f"visit: {visit}",
        f"{OBSERVATION}{VISIT}_{EXPOSURE}_": f"{observation}{visit}_{dither + 1:04d}_",
        "WFI01": f"WFI{detector + 1:02d}",
        "wfi01": f"wfi{detector + 1:02d}",
    }
    for old, new in changes.items():
        assert len(old) == len(new) and (old in name or old.encode() in content), old
        content, name = content.replace(old.encode(), new.encode()), name.replace(old, new)
    path = folder / f"{name}_cal.asdf"
    path.write_bytes(content)
    return path


def watch(process: subprocess.Popen, peak: list[float]) -> None:
    """Follow the memory (MB, shared pages shared out) of a process and its children."""
    while process.poll() is None:
        total = 0
        try:
            for one in [found := psutil.Process(process.pid), *found.children(recursive=True)]:
                text = Path(f"/proc/{one.pid}/smaps_rollup").read_text()
                total += int(re.search(r"^Pss: +(\d+)", text, re.M)[1])
        except (OSError, psutil.Error, TypeError):
            continue
        peak[0] = max(peak[0], total / 1024)
        time.sleep(1)


def run(
    folder: Path, *arguments: str, config: tuple[str, ...] = ()
) -> tuple[float, float, float, str]:
    """Run Snakemake on the folder's exposures: seconds, CPU seconds, memory (MB) and what it printed."""
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "-d", str(folder)]
    command += [*arguments, "--config", "exposures=raw", *config]
    peak, output = [0.0], folder / "output.txt"
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with open(output, "w") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)
        watcher = threading.Thread(target=watch, args=(process, peak))
        watcher.start()
        assert process.wait() == 0, output.read_text()[-3000:]
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    watcher.join()
    core = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, core, peak[0], output.read_text()


def measure(label: str, folder: Path, cores: int, *arguments: str) -> None:
    """Run the step and print a line."""
    log = folder / "results/logs/associate/associate.log"
    log.unlink(missing_ok=True)
    wall, core, peak, _ = run(folder, "associate", "-q", "all", "--cores", str(cores), *arguments)
    read = re.search(r"(\d+) headers? read", log.read_text())[1] if log.exists() else "-"
    print(f"{label:34}{wall:9.1f}{core:9.1f}{peak:9.0f}{read:>9}", flush=True)


def main(number: int, cores: int) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        raw = folder / "raw"
        raw.mkdir()
        stem, content = template(folder)
        paths = [write(raw, stem, content, k) for k in range(number)]
        time.sleep(11)  # younger files are opened again
        print(f"{number} exposures of {len(content)} bytes, {cores} cores")
        print(f"{'':34}{'s':>9}{'CPU s':>9}{'MB':>9}{'headers':>9}")
        measure("first run", folder, cores)
        measure("nothing to do", folder, cores)
        measure("forced, nothing new", folder, cores, "--forcerun", "associate")
        write(raw, stem, content, number)
        measure("one more", folder, cores)
        for path in paths:
            path.touch()
        measure("forced, all touched", folder, cores, "--forcerun", "associate")
        paths[0].write_bytes(paths[0].read_bytes().replace(b"33.0", b"33.1"))
        measure("one changed", folder, cores)
        products = len(list((folder / "results/associate/associations").iterdir()))
        print(f"products: {products}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 2)
