"""Records of exposures as `associate` keeps them, and the rules of romancal's schema of associations."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest
from header_files import CORNER
from romosaic.grid import Grid
from romosaic.regular_grids import RegularGrids
from romosaic.skymap import PIXEL_SCALE

VISIT = "0000101002003004005"
#: The four skycells that meet at `CORNER`.
CELLS = ["000p86x51y59", "000p86x51y60", "000p86x52y59", "000p86x52y60"]
#: Regular grids as they are when the configuration says nothing of them.
REGULAR = RegularGrids(PIXEL_SCALE)

_INFO_NUMBERS = {
    "pixel_scale",
    "ra_projection_center",
    "dec_projection_center",
    "x0_projection",
    "y0_projection",
    "ra_center",
    "dec_center",
    "nx",
    "ny",
    "orientat",
    "orientat_projection_center",
}


def record(
    ra=CORNER[0], dec=CORNER[1], number=1, visit=VISIT, element="F158", width=100.0, roll=0.0
):
    """Record of a square exposure of a width in arcseconds, as `exposure.read_record` makes it."""
    grid = Grid(ra, dec, 49.5, 49.5, width / 100 / 3600, 100, 100, roll)
    corners_ra, corners_dec = grid.corners()
    return {
        "exposure": f"r{visit}_{number:04d}_wfi01_{element.lower()}",
        "visit_id": visit,
        "optical_element": element,
        "footprint": {"ra": corners_ra.tolist(), "dec": corners_dec.tolist()},
        "pixel_scale": width / 100,
    }


def by_name(*records):
    return {entry["exposure"]: entry for entry in records}


def check_schema(content):
    """Rules of asn_schema_jw_level3.json of romancal 1.1."""
    for key in ("asn_type", "asn_rule", "asn_id", "program", "asn_pool"):
        assert isinstance(content.get(key, ""), str), key
    for key in ("target", "version_id"):
        assert content.get(key) is None or isinstance(content[key], str), key
    info = content["skycell_wcs_info"]
    if info != "none":
        assert isinstance(info["name"], str)
        assert info.keys() >= _INFO_NUMBERS
        assert {type(info[key]) for key in _INFO_NUMBERS} <= {int, float}
    assert isinstance(content["products"], list)
    for product in content["products"]:
        assert isinstance(product.get("name", ""), str)
        assert isinstance(product["members"], list)
        for member in product["members"]:
            assert isinstance(member["expname"], str)
            assert isinstance(member["exptype"], str)


_LOAD = """
import json, sys
from importlib.resources import files
import jsonschema
from romancal.associations import load_asn
(path,) = (files("romancal.associations") / "lib").glob("asn_schema_*level3.json")
schema = json.loads(path.read_text())
for path in sys.argv[1:]:
    with open(path) as stream:
        found = load_asn(stream)
    jsonschema.validate(found, schema)
    print(json.dumps(found))
"""


def loaded_by_romancal(paths):
    """What romancal's loader makes of association files, held to its schema; skips where there is none."""
    installed = sys.executable if importlib.util.find_spec("romancal") else None
    python = os.environ.get("ROMANCAL_PYTHON") or installed
    if not python:
        pytest.skip("romancal is not installed; ROMANCAL_PYTHON may name a Python that has it")
    command = [python, "-c", _LOAD, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
