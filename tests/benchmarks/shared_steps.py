"""
Peak memory and time of the steps that are not of one product, as whole processes.

    snakemake all fits moc --cores 2 --configfile config/demo.yaml
    PYTHONPATH=scripts .venv/bin/python tests/benchmarks/shared_steps.py results/demo [step ...]

on the full-size exposures and coadds of the demo: `epsf`, `catalog`, `hats`, `moc` and `hips` of a filter;
`fits` of a product; `color`; `overview`, of a hundred times as many products, too; `flux` of an exposure and of
one whose pixel map needs a table (`rough`). Prints what `many_members.py` prints.
"""

import json
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
from many_members import measure
from romosaic.asdf_blocks import AsdfBlocks
from romosaic.config import load
from romosaic.exposure import read_record
from romosaic.job_memory import catalog_memory, job_memory, settings
from romosaic.small_image import SmallImage

RULES = Path(__file__).parent.parent.parent / "rules"
CONFIG = load({})
FILTERS = ("F106", "F129", "F158")


def fixed(step: str) -> int:
    """Memory that a rule asks for, where it is a number, MB."""
    return int(re.search(r"mem_mb=by_attempt\((\d+)", (RULES / f"{step}.smk").read_text())[1])


def rough_exposure(raw: Path, made: Path) -> Path:
    """Copy an exposure, its x shifted by up to 0.1 pixels, differently in each of 17 x 17 parts."""
    import asdf
    from astropy.modeling import models
    from gwcs import WCS

    with asdf.open(raw, lazy_load=False, memmap=False) as file:
        knots = np.linspace(-8.0, 4096.0, 18)
        shifts = np.random.default_rng(3).normal(0, 0.03, (18, 18))
        shift = models.Tabular2D(points=[knots, knots], lookup_table=knots[:, None] + shifts)
        steps = file["roman"]["meta"]["wcs"].pipeline
        table = models.Mapping((0, 1, 1)) | shift & models.Identity(1)
        first = (steps[0].frame, table | steps[0].transform)
        rest = [(step.frame, step.transform) for step in steps[1:]]
        box = file["roman"]["meta"]["wcs"].bounding_box
        file["roman"]["meta"]["wcs"] = WCS([first, *rest])
        file["roman"]["meta"]["wcs"].bounding_box = box
        file.write_to(made, all_array_compression="lz4")
    return made


def small_images(paths: list[Path], folder: Path) -> list[str]:
    """Small images of one skycell in three filters, which differ in nothing else."""
    made = []
    for element in FILTERS:
        made.append(str(folder / f"{element}_small.asdf"))
        replace(SmallImage.read(paths[0]), optical_element=element).write(made[-1], {})
    return made


def flux_job(raw: Path, record: Path, made: Path) -> dict:
    """Job of `flux`."""
    sky = {
        k: v for k, v in CONFIG["skymatch"].items() if not re.match("skymethod|match_|subt|skyl", k)
    }
    return {
        "input": {"exposure": str(raw), "record": str(record)},
        "output": {"made": str(made)},
        "params": {"parameters": {**CONFIG["flux"], "sky": sky}},
    }


def jobs(results: Path, folder: Path) -> Iterator[tuple[str, str, dict, int]]:
    """Yield name, step, job and what it asks for."""
    coadds = sorted(map(str, results.glob("resample/*_coadd.asdf")))
    catalogs = sorted(map(str, results.glob("source_catalog/*_cat.parquet")))
    small = sorted(results.glob("preview/*_small.asdf"))
    nx, ny = AsdfBlocks.read(coadds[0]).tree["roman"]["data"]["shape"]
    chosen = settings(CONFIG)

    def shared(step: str, inputs: dict, made: str, **more) -> dict:
        outputs = {"picture": str(folder / made), "thumbnail": str(folder / "small.jpg")}
        return {
            "input": inputs,
            "output": outputs,
            "params": {"parameters": CONFIG[step], **more},
            "wildcards": {"cell": "demo", "filter": "f158"},
            "rule": f"{step}_filter" if step != "fits" else "fits_product",
        }

    detection = ("bkg_boxsize", "kernel_fwhm", "snr_threshold", "npixels", "deblend")
    detection = {key: CONFIG["source_catalog"][key] for key in detection}
    asked = job_memory("source_catalog", 0, nx * ny, **chosen)
    job = shared("epsf", {"coadds": coadds[:2]}, "f158_epsf.asdf", detection=detection)
    yield "epsf", "epsf", job, asked
    for step, inputs, made in (
        ("catalog", catalogs, "f158_000p86.parquet"),
        ("hats", [str(folder / "f158_000p86.parquet")], "hats/f158"),
    ):
        asked = catalog_memory(CONFIG[step]["max_rows"])
        yield step, step, shared(step, {"catalogs": inputs}, made), asked
    job = shared("color", {"small": small_images(small, folder)}, "color.png")
    yield "color", "color", job, fixed("color")
    for times in (1, 100):
        job = shared("overview", {"small": [str(path) for path in small] * times}, "overview.png")
        yield f"overview of {times * len(small)}", "overview", job, fixed("overview")
    asked = job_memory("fits", 0, nx * ny, **chosen)
    yield "fits", "fits", shared("fits", {"coadd": coadds[0]}, "a_coadd.fits"), asked
    yield "moc", "moc", shared("moc", {"coadds": coadds}, "f158_moc.fits"), asked
    asked = job_memory("hips", 1, nx * ny, **chosen)
    inputs = {"coadds": coadds, "moc": str(folder / "f158_moc.fits")}
    yield "hips", "hips", shared("hips", inputs, "hips/f158"), asked


def exposure_jobs(results: Path, folder: Path) -> Iterator[tuple[str, str, dict, int]]:
    """Yield the same of the jobs of exposures."""
    raw = sorted(results.glob("simulate/*_cal.asdf"))[0]
    record = results / f"associate/exposures/{raw.name.removesuffix('_cal.asdf')}.json"
    yield "flux", "flux", flux_job(raw, record, folder / "a_flux.asdf"), fixed("flux")
    record = folder / "rough.json"
    record.write_text(json.dumps(read_record(rough_exposure(raw, folder / raw.name))))
    job = flux_job(folder / raw.name, record, folder / "rough_flux.asdf")
    yield "rough", "flux", job, fixed("flux")


def main(results: Path, names: list[str], folder: Path) -> None:
    """Print the table, of all or of some of the steps."""
    head = ("CPU s", "seconds", "peak MB", "own MB", "mapped MB", "asked MB")
    print(f"{'':18}" + "".join(f"{word:>10}" for word in head))
    own = exposure_jobs(results, folder) if not names or {"flux", "rough"} & {*names} else ()
    for name, step, job, asked in chain(own, jobs(results, folder)):
        if not names or name.split()[0] in names:
            job |= {"threads": 1, "log": [str(folder / f"{step}.log")]}
            values = [*measure(step, job), asked]
            print(f"{name:18}" + "".join(f"{value:10.1f}" for value in values), flush=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(sys.argv[1]), sys.argv[2:], Path(temporary))
