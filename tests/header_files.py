"""Level-2 files valid, but with next to no pixels, for tests of `associate`."""

from functools import cache
from itertools import pairwise
from pathlib import Path

from coadd_file import grid_wcs
from romosaic import simulate
from romosaic.grid import Grid

#: A corner where four skycells of region 1 meet: 000p86x51y59, x51y60, x52y59, x52y60.
CORNER = (11.298211110169689, 86.44202879552147)
SIDE = 32
#: Degrees per pixel: the frame is 32 arcseconds wide.
SCALE = 1 / 3600


@cache
def _template():
    """A valid Level-2 image."""
    place = {"ra": CORNER[0], "dec": CORNER[1]}
    parameters = {"shape": [SIDE, SIDE], "exposures": [place], "stars_per_arcmin2": 0.0}
    parameters["galaxies_per_arcmin2"] = 0.0
    return simulate.simulate_exposure(simulate.plan(parameters)[0], parameters)[0]


def tree(name: str, ra: float, dec: float, roll: float = 0.0) -> dict:
    """Tree of an exposure whose name tells visit, exposure, detector and filter."""
    visit, exposure, detector, element = name.split("_")
    cuts = [1, 6, 8, 11, 14, 17, 20]
    keys = ["program", "execution_plan", "pass", "segment", "observation", "visit"]
    numbers = [int(visit[a:b]) for a, b in pairwise(cuts)]
    middle = (SIDE - 1) / 2
    roman = _template().copy()._instance
    meta = roman["meta"]
    meta["instrument"].update(detector=detector.upper(), optical_element=element.upper())
    meta["observation"].update(zip(keys, numbers, strict=True))
    meta["observation"]["exposure"] = int(exposure)
    meta["wcs"] = grid_wcs(Grid(ra, dec, middle, middle, SCALE, SIDE, SIDE, roll))
    return {"roman": roman}


def write(path: Path, content: dict) -> Path:
    """Write a tree with every array in a block of its own, as real files are."""
    import asdf

    path.parent.mkdir(parents=True, exist_ok=True)
    with asdf.config_context() as settings:
        settings.array_inline_threshold = 0
        # Without the index, which holds the places of the blocks: tests change the text before them.
        asdf.AsdfFile(content).write_to(path, include_block_index=False)
    return path


def exposure(folder: Path, name: str, ra: float, dec: float, roll: float = 0.0) -> Path:
    """Write the header file of an exposure."""
    return write(folder / f"{name}_cal.asdf", tree(name, ra, dec, roll))


def name(number: int = 1, visit: str = "0000101001001001001", element: str = "f158") -> str:
    """Name of an exposure."""
    return f"r{visit}_{number:04d}_wfi01_{element}"


def altered(path: Path, old: bytes, new: bytes) -> Path:
    """Write the file of an exposure with another text in its header."""
    content = exposure(path.parent, path.name.removesuffix("_cal.asdf"), *CORNER).read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))
    return path
