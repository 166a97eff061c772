"""Level-2 files with a real header and WCS but next to no pixels, for tests of `associate`."""

from itertools import pairwise
from pathlib import Path

import numpy as np
from romosaic.grid import Grid
from romosaic.mosaic_model import grid_wcs

#: A corner where four skycells of region 1 meet: 000p86x51y59, x51y60, x52y59, x52y60.
CORNER = (11.298211110169689, 86.44202879552147)
SIDE = 32
#: Degrees per pixel: the frame is 32 arcseconds wide.
SCALE = 1 / 3600


def tree(name: str, ra: float, dec: float, roll: float = 0.0) -> dict:
    """Tree of an exposure whose name tells visit, exposure, detector and filter."""
    visit, exposure, detector, element = name.split("_")
    cuts = [1, 6, 8, 11, 14, 17, 20]
    keys = ["program", "execution_plan", "pass", "segment", "observation", "visit"]
    numbers = [int(visit[a:b]) for a, b in pairwise(cuts)]
    middle = (SIDE - 1) / 2
    grid = Grid(ra, dec, middle, middle, SCALE, SIDE, SIDE, roll)
    meta = {
        "instrument": {"detector": detector.upper(), "optical_element": element.upper()},
        "observation": dict(zip(keys, numbers, strict=True)) | {"exposure": int(exposure)},
        "exposure": {
            "exposure_time": 100.0,
            "start_time": "2027-06-01T00:00:00.000",
            "end_time": "2027-06-01T00:01:40.000",
        },
        "cal_step": {"flux": "INCOMPLETE"},
        "photometry": {"conversion_megajanskys": 0.77},
        "wcs": grid_wcs(grid),
    }
    planes = {"data": np.float32, "err": np.float16, "dq": np.uint32}
    arrays = {key: np.zeros((SIDE, SIDE), dtype) for key, dtype in planes.items()}
    return {"roman": {"meta": meta, **arrays}}


def write(path: Path, content: dict) -> Path:
    """Write a tree with every array in a block of its own, as real files are."""
    import asdf

    path.parent.mkdir(parents=True, exist_ok=True)
    with asdf.config_context() as settings:
        settings.array_inline_threshold = 0
        asdf.AsdfFile(content).write_to(path)
    return path


def exposure(folder: Path, name: str, ra: float, dec: float, roll: float = 0.0) -> Path:
    """Write the header file of an exposure."""
    return write(folder / f"{name}_cal.asdf", tree(name, ra, dec, roll))


def name(number: int = 1, visit: str = "0000101001001001001", element: str = "f158") -> str:
    """Name of an exposure."""
    return f"r{visit}_{number:04d}_wfi01_{element}"
