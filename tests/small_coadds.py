"""Small coadds as `resample` leaves them, of arrays that a test chooses, and runs that hold nothing else."""

import json
from pathlib import Path

import numpy as np
from romosaic.asdf_writer import write_asdf
from romosaic.coadd_file import CoaddBlocks, open_coadd
from romosaic.grid import Grid
from romosaic.mosaic_wcs import wcsinfo
from romosaic.product import provenance


def write_coadd(path: Path, grid: Grid, element: str = "F158", **planes: np.ndarray) -> CoaddBlocks:
    """Write what the readers of coadds look at; with planes, or a data plane of noise."""
    noise = np.random.default_rng(5).normal(0, 1, grid.shape).astype(np.float32)
    one = np.ones(grid.shape, np.float32)
    given = {"data": noise, "err": 0.1 * one, "weight": 100 * one, **planes}
    given.setdefault("context", np.ones((1, *grid.shape), np.uint32))
    n = 32 * (len(given["context"]) - 1) + 2
    members = [
        {"exposure": f"e{k}", "status": "USED", "level": 0.25 * k, "weight": 50.0} for k in range(n)
    ]
    meta = {
        "wcsinfo": wcsinfo(grid),
        "instrument": {"optical_element": element},
        "coadd_info": {
            "exposure_time": 100.0,
            "time_first": "2027-06-01T00:00:00.000",
            "time_last": "2027-06-01T01:00:00.000",
        },
    }
    inputs = [(member["exposure"], "0") for member in members]
    own = {"members": members, "provenance": provenance({"weight_type": "ivm"}, inputs)}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_asdf(path, {"roman": {"meta": meta, **given}, "romosaic": own}, packed=True)
    return open_coadd(path)


def add_product(folder: Path, name: str, grid: Grid, element: str = "F158", **planes) -> None:
    """Add a product to a run's folder: association, record of its exposure, coadd."""
    exposure = f"x_{element.lower()}"
    info = grid.to_wcs_info()
    association = {
        "products": [{"name": name, "members": [{"expname": f"{exposure}_cal.asdf"}]}],
        "skycell_wcs_info": info if grid.skycell else "none",
        "output_grid": info,
    }
    contents = {
        f"associations/{name}_asn.json": association,
        f"exposures/{exposure}.json": {"optical_element": element},
    }
    for path, content in contents.items():
        (folder / "associate" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "associate" / path).write_text(json.dumps(content))
    write_coadd(folder / f"resample/{name}_coadd.asdf", grid, element, **planes)
