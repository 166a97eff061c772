"""Products of hundreds of members: right, and within the files that a process may open."""

import json
import subprocess
import sys
from copy import copy
from pathlib import Path

import drizzle_scene
import numpy as np
from conftest import survey_parameters, write_survey
from outlier_scene import CENTER, SCALE, SIGMA, exposure, flag, grid_of, pixel_map
from romosaic import exposure as level2
from romosaic import flux, flux_file, product, resample
from romosaic.grid import Grid
from romosaic.outlier_detection import FIRST

SCRIPTS = Path(__file__).parent.parent / "scripts"


def test_three_hundred_members_on_one_cell():
    """More valid members at a pixel than a byte counts; every hit is found."""
    n, size = 300, 48
    rng = np.random.default_rng(1)
    maps = [pixel_map(*rng.uniform(-2, 2, 2), rng.uniform(0, 90), (size, size)) for _ in range(n)]
    members = [exposure(pixmap, seed=k) for k, pixmap in enumerate(maps)]
    for member in members:
        member.data[20:24, 22] += 30 * SIGMA
    flags = flag(members, Grid(*CENTER, 2499.5, 2499.5, SCALE / 2, 5000, 5000))
    hit = np.arange(20, 24) * size + 22
    assert all(np.isin(hit, flagged).all() for flagged, _ in flags)
    false = sum(flagged.size for flagged, _ in flags) - n * hit.size
    assert false <= 2e-5 * n * size**2


def test_twelve_hundred_copies_and_a_cosmic_ray_in_some_of_them():
    shape, hit = (16, 16), 8 * 16 + 7
    first = exposure(pixel_map(roll=20.0, shape=shape), seed=5)
    members = [copy(first) for _ in range(1200)]
    struck = [0, 31, 255, 256, 1024, 1199]
    for k in struck:
        members[k].data = first.data.copy()
        members[k].data.ravel()[hit] += 20 * SIGMA
    flags = flag(members, grid_of(64, 64), memory_mb=16)
    # Bit for bit the same but for the hits: all others have no flag.
    assert [k for k, (flagged, _) in enumerate(flags) if flagged.size] == struck
    for k in struck:
        assert (flags[k][0].tolist(), flags[k][1].tolist()) == ([hit], [FIRST])


def test_context_of_twelve_hundred_members(monkeypatch):
    """38 planes, the last one half used; each place has the bits of the members that lie there."""
    # Of no matter here, and for so many on top of each other most of the work.
    monkeypatch.setattr(resample, "noise_factors", lambda *given: {})
    n, places = 1200, [(-15.0, -15.0), (15.0, -15.0), (15.0, 15.0)]
    which = np.random.default_rng(2).integers(0, 4, n)  # the fourth of the places is off the grid
    maps = [drizzle_scene.detector((6, 5), at=at) for at in [*places, (500.0, 0.0)]]
    members = [drizzle_scene.exposure(f"e{k}", pixmap=maps[which[k]]) for k in range(n)]
    made = drizzle_scene.coadd(members, drizzle_scene.grid(50))
    assert made.context.shape == (38, 50, 50)
    bits = np.unpackbits(made.context.astype("<u4").view(np.uint8), bitorder="little")
    bits = np.moveaxis(bits.reshape(38, 50, 50, 32), 3, 1).reshape(38 * 32, 50, 50)
    for number, (x, y) in enumerate(places):
        at = np.s_[round(24.5 + y), round(24.5 + x)]
        np.testing.assert_array_equal(np.flatnonzero(bits[:, *at]), np.flatnonzero(which == number))
        one = drizzle_scene.coadd([members[np.argmax(which == number)]], drizzle_scene.grid(50))
        expected = np.count_nonzero(which == number) * one.weight[at]
        np.testing.assert_allclose(made.weight[at], expected, rtol=1e-4)
    assert [use.status == "USED" for use in made.members] == (which < 3).tolist()


RUN = """
import json, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (160, 160))
from romosaic import flux_file, outlier_detection, resample, skymatch
from romosaic.config import load
from romosaic.grid import Grid

paths, config = json.load(sys.stdin), load({})
members = [flux_file.open_flux(path) for path in paths]
assert all(member.sky_blocks["n_good"].sum() > 0 for member in members)
ra, dec = members[0].pixmap.sky(31.5, 31.5)
grid = Grid(float(ra), float(dec), 59.5, 59.5, 0.055 / 3600, 120, 120)
levels = [0.0] * len(members)
found = outlier_detection.detect_outliers(members, levels, grid, config["outlier_detection"], 2)
flagged = [flat for flat, _ in found]
coadd = resample.resample(members, levels, flagged, grid, config["resample"], 2)
print(sum(flat.size for flat in flagged), coadd.context.shape[0], int(coadd.context[:, 60, 60].sum()))
"""


def test_members_do_not_hold_their_files_open(tmp_path):
    """160 open files for 150 members, each with data, DQ, two variances and five arrays of sky blocks."""
    survey = write_survey(tmp_path, survey_parameters(shape=[64, 64]))
    raw = survey.paths[survey.names[0]]
    record, found = level2.read_record(raw), level2.read_exposure(raw)
    calibrated = flux.calibrate(found.arrays, found.conversion, where=raw)
    path = tmp_path / "a_flux.asdf"
    made_of = product.provenance({}, [("a", "b")])
    pixmap = level2.pixel_map(raw, record)
    flux_file.write_flux(path, found.blocks, calibrated, pixmap, "a", made_of)
    run = subprocess.run(
        [sys.executable, "-c", RUN],
        cwd=SCRIPTS,
        input=json.dumps([str(path)] * 150),
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    # Copies of one exposure: nothing is flagged, and all of them are in the context.
    everyone = 4 * (2**32 - 1) + 2**22 - 1
    assert run.stdout.split() == ["0", "5", str(everyone)]
