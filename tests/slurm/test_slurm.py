"""`snakemake --profile slurm` on a real Slurm of one node: jobs that die run again, products stay the same."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import CORNER, survey_parameters, write_survey
from killing import contents
from romosaic.asdf_blocks import AsdfBlocks

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PLANES = ("data", "weight", "var_rnoise", "var_poisson", "context")
STEPS = (
    "flux",
    "skymatch",
    "outlier_detection",
    "resample",
    "source_catalog",
    "catalog",
    "preview",
)
LIMIT = (
    600  # seconds; a run takes 200 to 300, most of it between two looks of the plugin at the queue
)


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """A running Slurm."""
    up = subprocess.run([HERE / "cluster.sh", "up"], capture_output=True, text=True)
    if up.returncode == 77:
        pytest.skip(up.stdout.splitlines()[-1])
    assert up.returncode == 0, up.stdout + up.stderr
    yield
    subprocess.run([HERE / "cluster.sh", "down"], check=True)


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    return write_survey(tmp_path_factory.mktemp("survey"), survey_parameters())


class Run:
    """A run of the workflow in a folder of its own, in the background, as a user's shell would start it."""

    def __init__(self, folder: Path, exposures: Path | None = None):
        self.folder, self.configfile = folder, "config/demo.yaml"
        # as a clone: `--profile slurm` finds the profile by the link at the top
        for name in ("Snakefile", "rules", "scripts", "config", "envs", "profiles", "slurm"):
            (folder / name).symlink_to(ROOT / name)
        if exposures:
            self.configfile = "mine.yaml"
            self.configure(exposures)

    def configure(self, exposures: Path) -> None:
        """Write the configuration of one small product of all exposures of a folder."""
        circle = {"ra": CORNER[0], "dec": CORNER[1], "radius": 0.1}
        products = [{"name": "field", "region": circle}]
        config = {
            "exposures": [str(exposures)],
            "associate": {"product_type": "custom", "products": products},
        }
        (self.folder / self.configfile).write_text(yaml.safe_dump(config))

    def start(self, *arguments: str, profile: str = "slurm") -> None:
        command = [sys.executable, "-m", "snakemake", *arguments, "--configfile", self.configfile]
        if profile:
            command += ["--profile", profile]
            # Two cores are all that the node has; a look at the queue at once, not after 20 s.
            command += ["--set-threads", "associate=2", "--latency-wait", "5"]
            command += ["--slurm-init-seconds-before-status-checks", "2"]
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        with open(self.folder / "log", "a") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, stdout=log, stderr=subprocess.STDOUT, env=environment
            )

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def finish(self, limit: float = LIMIT) -> None:
        assert self.process.wait(limit) == 0, self.log[-5000:]

    def wait_for(self, found) -> None:
        """Wait until something is true of this run, which must not end before."""
        end = time.monotonic() + LIMIT
        while not found():
            assert self.process.poll() is None and time.monotonic() < end, self.log[-5000:]
            time.sleep(0.2)

    def jobs(self, rule: str) -> list[str]:
        """Slurm jobs of this run that are running, of a rule or group."""
        queue = subprocess.run(
            ["squeue", "-h", "-t", "running", "-o", "%A|%Z|%k"],
            capture_output=True,
            text=True,
            check=True,
        )
        rows = [line.split("|") for line in queue.stdout.splitlines()]
        return [
            job for job, where, comment in rows if where == str(self.folder) and rule in comment
        ]

    def planes(self) -> dict[str, np.ndarray]:
        blocks = AsdfBlocks.read(self.folder / "results/resample/field_f158_coadd.asdf")
        roman = blocks.tree["roman"]
        return {name: blocks.array(roman[name]) for name in PLANES}


@pytest.fixture(scope="module")
def short_of_memory(survey, tmp_path_factory):
    """A run whose flux jobs get too little memory at first; it goes on while other tests run. Of one part."""
    run = Run(tmp_path_factory.mktemp("memory"), survey.folder)
    run.start("--set-resources", "flux:mem_mb=80*attempt", "--config", "batch=1/1")
    yield run
    run.process.kill()


@pytest.fixture(scope="module")
def broken(survey, short_of_memory, tmp_path_factory):
    """A run of which a job is cancelled, then Snakemake killed, then started again."""
    run = Run(tmp_path_factory.mktemp("broken"), survey.folder)
    run.start()
    run.wait_for(lambda: run.jobs("rule_flux"))
    subprocess.run(["scancel", run.jobs("rule_flux")[0]], check=True)
    run.wait_for(lambda: run.jobs("mosaic"))
    run.wait_for(lambda: list(run.folder.glob("results/skymatch/*.asdf")))
    run.process.send_signal(signal.SIGKILL)
    run.process.wait()
    left = run.jobs("mosaic")
    run.start("--unlock")
    run.finish()
    run.start()
    run.finish()
    return run, left


def test_a_killed_snakemake_and_a_cancelled_job_are_made_up_for(broken):
    run, left = broken
    assert left, "the Slurm job outlives its Snakemake"
    assert "cancelled in Slurm; it is tried again" in run.log
    assert "1 of 1 product" in run.log
    assert not list(run.folder.glob("results/*/.*field*")), "leftovers of killed writers"


def test_a_job_killed_for_memory_gets_more(short_of_memory):
    run = short_of_memory
    run.finish()
    assert "1 of 1 product" in run.log
    again = "failed: flux .*: out of memory, ended by Slurm; it is tried again"
    assert len(re.findall(again, run.log)) >= 4  # every flux job at least once


def test_a_part_is_made_with_groups(short_of_memory):
    run = short_of_memory
    run.finish()
    assert "this was part 1/1" in run.log
    assert not (run.folder / "results/catalog").exists()


def test_products_are_the_same_bit_for_bit(broken, short_of_memory):
    short_of_memory.finish()
    planes, others = broken[0].planes(), short_of_memory.planes()
    assert np.isfinite(planes["data"]).any()
    for name in PLANES:
        np.testing.assert_array_equal(planes[name], others[name])


@pytest.mark.demo
def test_the_demo_makes_the_same_files_as_without_slurm(tmp_path_factory):
    with_slurm, without = (Run(tmp_path_factory.mktemp("demo")) for _ in range(2))
    made = []
    for run, how in ((with_slurm, {}), (without, {"profile": ""})):
        if made:  # exposures carry the date of their making
            folder = "results/demo/simulate"
            shutil.copytree(with_slurm.folder / folder, without.folder / folder)
        run.start(*(["--cores", "2"] if made else []), **how)
        run.finish(3600)
        assert "4 of 4 products" in run.log and "failed" not in run.log
        files = contents(run.folder / "results/demo")
        made.append({path: found for path, found in files.items() if path.split("/")[0] in STEPS})
    assert len(made[0]) > 40 and made[0] == made[1]
