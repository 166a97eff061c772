"""Peak memory of the pixel steps for 300 members on one skycell: what their rules ask for is enough."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import survey_parameters, write_survey
from romosaic import exposure as level2
from romosaic import flux, flux_file, product
from romosaic.asdf_blocks import AsdfBlocks
from romosaic.config import load
from romosaic.grid import Grid
from romosaic.job_memory import SNAKEMAKE, job_memory, settings

ROOT = Path(__file__).parent.parent
N, LARGE = 300, (0, 150)  # members, and those that cover the whole cell
THREADS = 8  # with a stack of members each
CELL = Grid(150.0, 2.0, 2499.5, 2499.5, 0.055 / 3600, 5000, 5000, skycell="150p02x50y50")
OUTPUTS = {"skymatch": "skymatch", "outlier_detection": "outliers", "resample": "coadd"}
#: Little for images and stacks: all of either would be more than the rule asks for with it.
CONFIG = load({"outlier_detection": {"memory_mb": 64}})
#: The kernel's own record of a program's largest resident size: that of `getrusage` begins with its parent's.
RUN = """
import re, runpy, sys
from pathlib import Path

sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
kilobytes = re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]
print(kilobytes, file=sys.__stdout__)
"""


def write_member(folder: Path, shape: tuple[int, int], x: float, y: float) -> Path:
    """File of `flux` of an exposure with its middle at a pixel of the cell, its sides along the cell's."""
    ra, dec = map(float, CELL.to_sky(x, y))
    pointing = {"ra": ra, "dec": dec, "roll": 0.0, "sky": 0.25}
    few = {"stars_per_arcmin2": 2.0, "galaxies_per_arcmin2": 2.0}
    folder.mkdir()
    survey = write_survey(folder, survey_parameters(shape=list(shape), exposures=[pointing], **few))
    ((name, raw),) = survey.paths.items()
    record, found = level2.read_record(raw), level2.read_exposure(raw)
    calibrated = flux.calibrate(found.arrays, found.conversion, where=raw, in_place=True)
    given = level2.pixel_map(raw, record), name, product.provenance({}, [(name, "1")])
    flux_file.write_flux(folder / "a_flux.asdf", found.blocks, calibrated, *given)
    return folder / "a_flux.asdf"


@dataclass
class Steps:
    """Runs the steps of a product, each once and after those before it."""

    folder: Path
    files: dict
    peaks: dict[str, float]

    def asked(self, step: str) -> int:
        """MB that the rule asks for."""
        return job_memory(step, N, CELL.nx * CELL.ny, **settings(CONFIG))

    def peak(self, step: str) -> float:
        """Largest resident size of a step's process, MB."""
        for name, output in OUTPUTS.items():
            if name not in self.peaks:
                self.files[output] = str(self.folder / f"{output}.asdf")
                self.peaks[name] = self._measured(name, self.files[output])
            if name == step:
                break
        return self.peaks[step]

    def _measured(self, step: str, output: str) -> float:
        parameters = {key: value for key, value in CONFIG[step].items() if key != "memory_mb"}
        log = self.folder / f"{step}.log"
        job = {
            "input": self.files,
            "output": {"file": output},
            "params": {"parameters": parameters, "levels": None},
            "resources": {"mem_mb": self.asked(step)},
            "threads": THREADS,
            "log": [str(log)],
        }
        process = ROOT / "tests/benchmarks/step_process.py"
        command = [sys.executable, "-c", RUN, process, step, json.dumps(job)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:] + log.read_text()[-2000:]
        return int(done.stdout) * 1024 / 1e6


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    """
    A product of two members that cover the cell and 298 that reach into a corner of it.

    Those have a million pixels, of which an eighteenth are on the cell: their images fill the memory of a
    step that keeps them, and cost little.
    """
    folder = tmp_path_factory.mktemp("steps")
    ny, nx = 256, 4096
    corner = CELL.nx + nx - 2 * 448, CELL.ny + ny - 2 * 128
    small = write_member(folder / "small", (ny, nx), *corner)
    large = write_member(folder / "large", (2520, 2520), 2499.5, 2499.5)
    members = [folder / f"r0000101001001001001_{k:04d}_wfi01_f158_flux.asdf" for k in range(N)]
    for k, path in enumerate(members):
        path.symlink_to(large if k in LARGE else small)
    names = [{"expname": path.name.replace("_flux", "_cal")} for path in members]
    association = {
        "products": [{"name": "p", "members": names}],
        "skycell_wcs_info": CELL.to_wcs_info(),
        "target": CELL.skycell,
        "data_release_id": "p",
    }
    path = folder / "p_asn.json"
    path.write_text(json.dumps(association))
    yield Steps(folder, {"association": str(path), "members": [str(m) for m in members]}, {})
    shutil.rmtree(folder)  # pytest would keep what is large


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell")
@pytest.mark.parametrize("step", OUTPUTS)
def test_three_hundred_members_fit_in_what_the_rule_asks_for(steps, step):
    assert steps.peak(step) < steps.asked(step) - SNAKEMAKE
    assert steps.asked(step) < 4000


@pytest.mark.skipif(sys.platform != "linux", reason="see above")
def test_the_measured_steps_did_all_of_the_work(steps):
    """Two members are all over the cell, the others in its corner, where copies of one agree."""
    steps.peak("resample")
    flagged = [row["flagged"].size for row in product.read_step(steps.files["outliers"])["members"]]
    assert all((flagged[k] > 0) == (k in LARGE) for k in range(N))
    tree = AsdfBlocks.read(steps.files["coadd"]).tree
    assert tree["roman"]["context"]["shape"] == [-(-N // 32), *CELL.shape]
    covered = [use["n_covered"] for use in tree["romosaic"]["members"]]
    assert all(covered[k] > 0.95 * CELL.nx * CELL.ny for k in LARGE)
    assert min(covered) > 0.9 * 4 * 128 * 448
