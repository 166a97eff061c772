"""A small simulated survey that all tests share, written once; and the order of the files of tests."""

import fcntl
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from romosaic import simulate

ROOT = Path(__file__).parent.parent
#: Files that take longest, in the order in which workers take them: the last work left is then short. The first
#: compiles the kernels of the whole workflow, and the second needs hardly any.
FIRST = ["test_reruns", "test_asdf_damage", "test_workflow", "test_kills", "test_faults"]

# A corner where four skycells meet.
CORNER = (11.298211110169689, 86.44202879552147)


@dataclass(frozen=True)
class Survey:
    """
    Simulated exposures on disk.

    Attributes
    ----------
    parameters : dict
        Section ``simulate``, complete.
    names : list of str
        Exposure names.
    paths : dict of Path
        ``_cal.asdf`` file of every name.
    scene_path : Path
        ECSV table of all sources.
    """

    parameters: dict
    names: list[str]
    paths: dict[str, Path]
    scene_path: Path

    @property
    def folder(self) -> Path:
        """Folder that holds the exposures."""
        return self.paths[self.names[0]].parent

    def truth(self, name: str) -> dict[str, np.ndarray]:
        """What is in an exposure: levels, cosmic rays, defects, sources (`simulate_exposure`)."""
        with np.load(simulate.truth_path(self.paths[name])) as file:
            return dict(file)

    def scene(self):
        """Table of all sources, with flux_f158 in nJy."""
        from astropy.table import Table

        return Table.read(self.scene_path)


def survey_parameters(**changes) -> dict:
    """Four dithered, rolled exposures of 256 x 256 pixels with different skies around the corner."""
    ra, dec = CORNER
    # 2" in declination, 32" in right ascension (2" on the sky) a step: about 18 pixels.
    step = 2 / 3600
    pointings = [
        (0, 0, 20.0, 0.25),
        (1, -1, 50.0, 0.30),
        (-1, 1, 95.0, 0.385),
        (-1, -1, -4.0, 0.27),
    ]
    exposures = [
        {
            "ra": ra + i * step / np.cos(np.radians(dec)),
            "dec": dec + j * step,
            "roll": roll,
            "sky": sky,
        }
        for i, j, roll, sky in pointings
    ]
    return simulate.DEFAULTS | {"shape": [256, 256], "exposures": exposures, "seed": 7} | changes


def survey_in(folder: Path, parameters: dict) -> Survey:
    """Name what a folder holds."""
    names = simulate.exposure_names(parameters)
    paths = {name: folder / f"{name}_cal.asdf" for name in names}
    return Survey(parameters, names, paths, folder / "scene.ecsv")


def write_survey(folder: Path, parameters: dict) -> Survey:
    """Simulate all exposures into a folder."""
    survey = survey_in(folder, parameters)
    for name, path in survey.paths.items():
        simulate.simulate_one(parameters, name, path)
    simulate.write_scene(parameters, survey.scene_path)
    return survey


def pytest_collection_modifyitems(items: list) -> None:
    """Put the files that take longest first."""
    place = {name: number for number, name in enumerate(FIRST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(FIRST)))


def made_once(tmp_path_factory, name: str, make: Callable[[Path], object]) -> Path:
    """Folder that the first of all workers makes that needs it, and that the others wait for."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    folder = shared / name
    with open(shared / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            begun = tmp_path_factory.mktemp(name) / name
            begun.mkdir()
            make(begun)
            begun.rename(folder)
    return folder


@pytest.fixture(scope="session")
def survey(tmp_path_factory) -> Survey:
    """Four overlapping exposures with their truth; the files must not be changed."""
    parameters = survey_parameters()
    folder = made_once(tmp_path_factory, "survey", lambda new: write_survey(new, parameters))
    return survey_in(folder, parameters)


@pytest.fixture(scope="session")
def simulated():
    """One exposure in memory, (ImageModel, truth with the noiseless image); must not be changed."""
    parameters = survey_parameters()
    return simulate.simulate_exposure(simulate.plan(parameters)[0], parameters)


@pytest.fixture
def image_model(simulated):
    """Copy of the exposure of `simulated` that a test may change."""
    return simulated[0].copy()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """Runs Snakemake at little cost; see `snakemake_server`."""
    from snakemake_server import Server

    server = Server(tmp_path_factory.mktemp("server") / "socket")
    yield server
    server.close()


@pytest.fixture(scope="session")
def snakemake(server):
    """Run Snakemake in a folder of its own: arguments and a configuration in, returncode and output out."""

    def snakemake(folder: Path, *arguments: object, config: dict | None = None):
        fixed = ["-s", ROOT / "Snakefile", "--cores", "2"]
        if config is not None:
            path = folder / "config.yaml"
            path.write_text(yaml.safe_dump(config))
            arguments = (*arguments, "--configfile", path)
        return server.run(folder, *fixed, *arguments)

    return snakemake


def reasons(output: str) -> list[str]:
    """Lines with which the workflow gives its reasons for a failure; how many jobs failed is none."""
    lines = [line for line in output.splitlines() if line.startswith("romosaic: ")]
    return [line for line in lines if not re.match(r"romosaic: \d+ jobs? failed", line)]


@pytest.fixture(scope="session")
def finished(server, tmp_path_factory):
    """A survey after its first run (`rerun_survey.Run`); its files must not be changed."""
    from rerun_survey import Run, first_run

    folder = made_once(tmp_path_factory, "finished", lambda new: first_run(new, server))
    return Run(folder / "run", ROOT, folder / "others", server)


@pytest.fixture
def run(finished, tmp_path):
    """Copy of the finished survey in another folder; exposures and results keep their dates."""
    shutil.copytree(finished.folder, tmp_path / "run")
    return replace(finished, folder=tmp_path / "run")
