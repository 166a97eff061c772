"""A survey of small exposures in three skycells and two filters, and what can happen to it between two runs."""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import yaml
from conftest import CORNER, survey_parameters, write_survey
from romosaic import simulate, verify
from romosaic.skymap import SkyMap
from snakemake_server import Server

ROOT = Path(__file__).parent.parent
#: Skycells around the corner where four meet, and where their exposures lie from it, pixels of 0.055 arcsec.
CELLS = {
    "A": ("000p86x51y59", -1, -1),
    "B": ("000p86x51y60", 1, -1),
    "C": ("000p86x52y59", -1, 1),
    "D": ("000p86x52y60", 1, 1),
}
FAR = 1000
#: Exposures: filter, skycell, offset in it (pixels). `ab` lies on the border of two skycells.
BASE = {
    "a1": ("F158", "A", 0, 0),
    "a2": ("F158", "A", 40, -30),
    "a3": ("F158", "A", -50, 30),
    "ab": ("F158", "A", FAR, 0),
    "b1": ("F158", "B", 0, 0),
    "c1": ("F158", "C", 0, 0),
    "A1": ("F129", "A", 0, 0),
    "A2": ("F129", "A", 30, 30),
    "B1": ("F129", "B", 0, 0),
    "B2": ("F129", "B", 40, 20),
    "C1": ("F129", "C", 0, 0),
    "C2": ("F129", "C", -30, 50),
}
#: Exposures that come later, and the same ones with another sky or in another place.
LATER = {"a4": ("F158", "A", 20, 60), "d1": ("F158", "D", 0, 0)}
OTHER = {"b1": ("F158", "B", 0, 0), "ab": ("F158", "B", 50, 50)}
#: Small products: not on their skycells, but on the smallest grids around their members.
CONFIG = {
    "exposures": ["raw"],
    "resample": {"resample_on_skycell": False},
    "source_catalog": {"fit_psf": False},
}
PRODUCT_STEPS = ["skymatch", "outlier_detection", "resample", "source_catalog", "qa", "preview"]
#: Jobs that follow whatever changes: of all products of a filter, and of all.
FOLLOWERS = r"(?:catalog|overview) \S+|qa |color \S+"
NAMES = {key: number for number, key in enumerate([*BASE, *LATER], 1)}


def exposure(key: str) -> str:
    """Name of an exposure."""
    element = (BASE | LATER)[key][0].lower()
    return f"r0000101001001001001_{NAMES[key]:04d}_wfi01_{element}"


def product(cell: str, element: str = "f158") -> str:
    """Name of a product."""
    return f"r00001_p_v01001001001001_{CELLS[cell][0]}_{element}"


PRODUCTS = [product(cell, element) for cell in "ABC" for element in ("f158", "f129")]


def jobs_of(*products: str, start: str = "skymatch") -> set[str]:
    """Jobs that remake products from a step on."""
    steps = PRODUCT_STEPS[PRODUCT_STEPS.index(start) :]
    return {f"{step} {name}" for step in steps for name in products}


def fluxes(*keys: str) -> set[str]:
    """Jobs of `flux`."""
    return {f"flux {exposure(key)}" for key in keys}


def simulate_exposures(folder: Path, chosen: dict, **changes) -> None:
    """Write exposures of 100 x 100 pixels; the same key has the same name, whatever it holds."""
    grid, entries = SkyMap().cell(CELLS["A"][0]).grid, []
    x0, y0 = grid.to_pixel(*CORNER)
    for key, (element, cell, dx, dy) in chosen.items():
        _, east, north = CELLS[cell]
        ra, dec = grid.to_sky(x0 + east * FAR + dx, y0 + north * FAR + dy)
        number = NAMES[key]
        entry = {"ra": float(ra), "dec": float(dec), "roll": 10.0 * number, "exposure": number}
        entries.append(entry | {"optical_element": element, "sky": 0.25 + 0.01 * number})
    parameters = survey_parameters(shape=[100, 100], exposures=entries) | changes
    assert simulate.exposure_names(parameters) == [exposure(key) for key in chosen]
    write_survey(folder, parameters)


def copy_code(folder: Path) -> Path:
    """Copy the workflow, with its compiled kernels, to where it may be edited."""
    for name in ("rules", "scripts", "config", "envs"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy2(ROOT / "Snakefile", folder)
    return folder


@dataclass
class Run:
    """
    A folder in which Snakemake runs, with its exposures in `raw` and the code that it uses.

    Attributes
    ----------
    folder, code, others : Path
        Where it runs; the workflow; exposures that may come in.
    server : Server
        Runs Snakemake.
    """

    folder: Path
    code: Path
    others: Path
    server: Server

    def snakemake(self, *arguments: object):
        """Run Snakemake; arguments that are targets come first."""
        fixed = ["-s", self.code / "Snakefile", "--cores", "2", "--configfile", "config.yaml"]
        return self.server.run(self.folder, *arguments, *fixed)

    def jobs(self, *arguments: object) -> set[str]:
        """Jobs that a run does, or plans to do with -n: step and wildcard."""
        done = self.snakemake(*arguments)
        assert done.returncode == 0, done.output[-3000:]
        text = done.output
        if "-n" not in arguments:
            logs = (self.folder / ".snakemake" / "log").glob("*.log")
            text = max(logs, key=lambda path: path.stat().st_mtime_ns).read_text()
        found = re.findall(r"^Job \d+: (\w+)(?: (\S+)$)?", text, re.M)
        jobs = {f"{step} {name}" if step != "associate" else step for step, name in found}
        return {job for job in jobs if not re.fullmatch(FOLLOWERS, job)}

    def plan(self) -> set[str]:
        """Jobs that a run would do: first the checkpoint, if it is to run, then what it leads to."""
        pending = self.jobs("-n")
        if "associate" not in pending:
            return pending
        assert pending == {"associate"}
        return self.jobs("associate") | self.jobs("-n")

    def problems(self) -> list[str]:
        """What `verify` finds, schemas apart."""
        made = self.folder / "results" / "associate"
        paths = [sorted(made.glob(f"{kind}/*.json")) for kind in ("associations", "exposures")]
        files = verify.wanted_files(self.folder / "results", *paths, {})
        return [problem for _, _, problem in verify.check_files(files, schemas=False) if problem]

    def configure(self, section: str | None = None, **keys) -> None:
        """Write the configuration, with other values in a section."""
        config = dict(CONFIG)
        if section:
            config[section] = config.get(section, {}) | keys
        (self.folder / "config.yaml").write_text(yaml.safe_dump(config))

    def raw(self, key: str) -> Path:
        """Level-2 file of an exposure."""
        return self.folder / "raw" / f"{exposure(key)}_cal.asdf"

    def add(self, key: str) -> None:
        """Bring an exposure in, or replace it by the one of this name that is kept elsewhere."""
        shutil.copy(self.others / self.raw(key).name, self.raw(key))

    def add_older(self, key: str) -> None:
        """Bring an exposure in with a date from before the run, as archives give them."""
        self.add(key)
        os.utime(self.raw(key), (1e9, 1e9))

    def remove(self, key: str) -> None:
        """Take an exposure out."""
        self.raw(key).unlink()

    def touch(self, *keys: str) -> None:
        """Change the date of exposures, not their content."""
        for key in keys:
            self.raw(key).touch()

    def delete(self, pattern: str) -> None:
        """Delete results."""
        found = list((self.folder / "results").glob(pattern))
        assert found
        for path in found:
            path.unlink()

    def lose_records(self) -> None:
        """Lose Snakemake's folder."""
        shutil.rmtree(self.folder / ".snakemake")

    def edit(self, path: str, text: str, after: str = "") -> None:
        """Edit a copy of the code: put a text behind another, or at the end."""
        if self.code.parent != self.folder:
            self.code = copy_code(self.folder / "code")
        file = self.code / "scripts" / path
        old = file.read_text()
        place = old.index(after) + len(after) if after else len(old)
        file.write_text(old[:place] + text + old[place:])


def first_run(folder: Path, server: Server) -> None:
    """Make a survey and run the workflow on it."""
    simulate_exposures(folder / "run" / "raw", BASE)
    simulate_exposures(folder / "others", LATER)
    simulate_exposures(folder / "others", OTHER, seed=8)
    # The workflow itself, not a copy of it: its kernels are compiled once for all tests.
    run = Run(folder / "run", ROOT, folder / "others", server)
    run.configure()
    assert run.jobs() == {"associate"} | fluxes(*BASE) | jobs_of(*PRODUCTS)
