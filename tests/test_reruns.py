"""What runs again when something changes: exactly what the change concerns, and to the same bits as a new run."""

import shutil
import threading
import time
from pathlib import Path

import pytest
from rerun_survey import (
    BASE,
    CONFIG,
    LATER,
    OTHER,
    PRODUCTS,
    Run,
    copy_code,
    exposure,
    fluxes,
    jobs_of,
    product,
    simulate_exposures,
)
from romosaic.asdf_blocks import AsdfBlocks
from snakemake_server import Server

ALL = jobs_of(*PRODUCTS)
A, B, C, D = (product(cell) for cell in "ABCD")
LOOK = {"associate"}
STEPS = ["associate", "flux", "skymatch", "outlier_detection", "resample", "source_catalog", "preview"]


def from_step(step: str) -> set[str]:
    return jobs_of(*PRODUCTS, start=step)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server") / "socket")
    yield server
    server.close()


@pytest.fixture(scope="module")
def finished(server, tmp_path_factory):
    """A survey after its first run, made at once; its files must not be changed."""
    folder = tmp_path_factory.mktemp("finished")
    simulate_exposures(folder / "raw", BASE)
    simulate_exposures(folder / "others", LATER)
    simulate_exposures(folder / "others", OTHER, seed=8)
    run = Run(folder / "run", copy_code(folder / "code"), folder / "others", server)
    run.folder.mkdir()
    (folder / "raw").rename(run.folder / "raw")
    run.configure()
    assert run.jobs() == LOOK | fluxes(*BASE) | ALL
    return run


@pytest.fixture
def run(finished, tmp_path):
    """Copy of the finished survey in another folder; the exposures and results keep their dates."""
    shutil.copytree(finished.folder, tmp_path / "run")
    return Run(tmp_path / "run", finished.code, finished.others, finished.server)


EXPOSURES = {
    "nothing": (lambda run: None, set()),
    "added": (lambda run: run.add("a4"), LOOK | fluxes("a4") | jobs_of(A)),
    "added with a date of old": (lambda run: run.add_older("a4"), LOOK | fluxes("a4") | jobs_of(A)),
    "added in a new cell": (lambda run: run.add("d1"), LOOK | fluxes("d1") | jobs_of(D)),
    "removed": (lambda run: run.remove("a2"), LOOK | jobs_of(A)),
    "replaced": (lambda run: run.add("b1"), LOOK | fluxes("b1") | jobs_of(B)),
    "replaced by an older file": (lambda run: run.add_older("b1"), LOOK | fluxes("b1") | jobs_of(B)),
    "leaves a cell": (lambda run: run.add("ab"), LOOK | fluxes("ab") | jobs_of(A, B)),
    "cell vanishes": (lambda run: run.remove("c1"), LOOK),
    "one touched": (lambda run: run.touch("ab"), LOOK),
    "all touched": (lambda run: run.touch(*BASE), LOOK),
}


@pytest.mark.parametrize("case", EXPOSURES)
def test_exposures(run, case):
    change, expected = EXPOSURES[case]
    change(run)
    assert run.plan() == expected


@pytest.mark.parametrize("case", ["nothing", "added", "removed", "replaced", "replaced by an older file"])
def test_exposures_when_the_records_of_snakemake_are_lost(run, case):
    change, expected = EXPOSURES[case]
    run.lose_records()
    change(run)
    # whether exposures came or went can no longer be known: `associate` looks
    assert run.plan() == LOOK | expected


PARAMETERS = {
    "associate": ({"min_overlap_pixels": 300.0}, LOOK),
    "plan": ({"nearly_empty_fraction": 0.5}, set()),
    "flux": ({"max_unusable_fraction": 0.6}, fluxes(*BASE) | ALL),
    "skymatch": ({"skymethod": "global"}, ALL),
    "outlier_detection": ({"maskpt": 0.6}, from_step("outlier_detection")),
    "resample": ({"pixfrac": 0.9}, from_step("resample")),
    "source_catalog": ({"npixels": 30}, from_step("source_catalog")),
    "preview": ({"size": 500}, from_step("preview")),
    "verify": ({"schemas": False}, set()),
}


@pytest.mark.parametrize("section", PARAMETERS)
def test_parameters(run, section):
    keys, expected = PARAMETERS[section]
    run.configure(section, **keys)
    assert run.plan() == expected


def test_what_changes_no_bit_reruns_nothing(run):
    (run.folder / "config.yaml").write_text(
        f"{(run.folder / 'config.yaml').read_text()}\nthreads: 1\noutlier_detection: {{memory_mb: 900}}\n"
    )
    assert run.plan() == set()


def test_comments_docstrings_and_dates_of_code_rerun_nothing(run):
    for step in STEPS:
        run.edit(f"{step}.py", "# A remark.\n", before="from typing")
        run.edit(f"romosaic/{step}.py", "# A remark.\n")
        run.edit(f"romosaic/{step}.py", "Docstring: ", before="\n")
    assert run.plan() == set()


CODE = {
    "romosaic/flux": fluxes(*BASE) | ALL,
    "romosaic/skymatch": ALL,
    "romosaic/outlier_detection": from_step("outlier_detection"),
    "romosaic/resample": from_step("resample"),
    "source_catalog": from_step("source_catalog"),  # the script
    "romosaic/preview": from_step("preview"),
    "romosaic/associate": LOOK,
    # shared: by skymatch and flux, by outlier_detection and resample, by the catalog and the preview
    "romosaic/drizzling": from_step("resample"),
    "romosaic/catalog_files": from_step("source_catalog"),
    "romosaic/plan": set(),
}


@pytest.mark.parametrize("module", CODE)
def test_code(run, module):
    run.edit(f"{module}.py", "\n_MORE = 1\n")
    assert run.plan() == CODE[module]


RESULTS = {
    "coadd": (f"resample/{B}*", jobs_of(B, start="resample")),
    "catalog": (f"source_catalog/{B}_cat.asdf", jobs_of(B, start="source_catalog")),
    "parquet": (f"source_catalog/{B}*.parquet", jobs_of(B, start="source_catalog")),
    "segmentation": (f"source_catalog/{B}_segm*", jobs_of(B, start="source_catalog")),
    "picture": (f"preview/{B}*", jobs_of(B, start="preview")),
    # nothing needs them now
    "flux": (f"flux/{exposure('b1')}*", set()),
    "outliers": (f"outlier_detection/{B}*", set()),
    # what is asked for first is what a missing file is needed for
    "coadd and sky levels": (f"*/{B}*[ah].asdf", jobs_of(B)),
    "association": (f"associate/associations/{B}*", set()),
}


@pytest.mark.parametrize("what", RESULTS)
def test_deleted_results(run, what):
    pattern, expected = RESULTS[what]
    run.delete(pattern)
    assert run.plan() == expected
