"""What runs again after a change: exactly what it concerns, and to the same bits as a new run."""

import shutil
from pathlib import Path

import pytest
from rerun_survey import BASE, PRODUCTS, exposure, fluxes, jobs_of, product
from romosaic.asdf_blocks import AsdfBlocks

ALL = jobs_of(*PRODUCTS)
A, B, C, D = (product(cell) for cell in "ABCD")
LOOK = {"associate"}
STEPS = [
    "associate",
    "flux",
    "skymatch",
    "outlier_detection",
    "resample",
    "source_catalog",
    "preview",
]


def from_step(step: str) -> set[str]:
    return jobs_of(*PRODUCTS, start=step)


EXPOSURES = {
    "nothing": (lambda run: None, set()),
    "added": (lambda run: run.add("a4"), LOOK | fluxes("a4") | jobs_of(A)),
    "added with a date of old": (lambda run: run.add_older("a4"), LOOK | fluxes("a4") | jobs_of(A)),
    "added in a new cell": (lambda run: run.add("d1"), LOOK | fluxes("d1") | jobs_of(D)),
    "removed": (lambda run: run.remove("a2"), LOOK | jobs_of(A)),
    "replaced": (lambda run: run.add("b1"), LOOK | fluxes("b1") | jobs_of(B)),
    "replaced by an older file": (
        lambda run: run.add_older("b1"),
        LOOK | fluxes("b1") | jobs_of(B),
    ),
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


@pytest.mark.parametrize(
    "case", ["nothing", "added", "removed", "replaced", "replaced by an older file"]
)
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
        run.edit(f"{step}.py", "  # a remark", after="import reported")
        run.edit(f"romosaic/{step}.py", "# A remark.\n")
        run.edit(f"romosaic/{step}.py", "More words: ", after='"""')
    assert run.plan() == set()


CODE = {
    # `associate` looks at pixels as `flux` does where it may exclude exposures
    "romosaic/flux": LOOK | fluxes(*BASE) | ALL,
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
    "coadd and sky levels": (f"*[eh]/{B}_[cs][ok]*", jobs_of(B)),
}


@pytest.mark.parametrize("what", RESULTS)
def test_deleted_results(run, what):
    pattern, expected = RESULTS[what]
    run.delete(pattern)
    assert run.plan() == expected


def contents(results: Path) -> dict[str, object]:
    """Arrays of all files of a run, as bytes or as the checksums of their blocks; no dates."""
    import pyarrow.parquet as pq

    found = {}
    for path in sorted(results.glob("[!b]*/*")):
        name = f"{path.parent.name}/{path.name}"
        if path.suffix == ".asdf":
            found[name] = [(block.size, block.checksum) for block in AsdfBlocks.read(path).blocks]
        elif path.suffix == ".parquet":
            columns = pq.read_table(path)
            found[name] = {key: repr(columns[key].to_pylist()) for key in columns.column_names}
        elif path.suffix == ".png":
            found[name] = path.read_bytes()
    return found


def test_products_after_changes_are_those_of_a_new_run(run, finished):
    """Away from the finished survey, and back to it: what was made at once is what it must be again."""
    run.remove("a2")
    for key in ("b1", "ab", "d1"):
        run.add(key)
    assert run.jobs() == LOOK | fluxes("b1", "ab", "d1") | jobs_of(A, B, D)
    new, there = contents(finished.folder / "results"), contents(run.folder / "results")
    # of each exposure one, of each product seven and two pictures, of each filter one
    assert len(new) == 12 + 9 * 6 + 2 and all(new.values())
    changed = {name for name in new if new[name] != there[name]}
    assert {f"resample/{name}_coadd.asdf" for name in (A, B)} < changed
    assert all(
        name.startswith(("flux/", "overview/")) or A in name or B in name for name in changed
    )
    run.remove("d1")
    for key in ("a2", "b1", "ab"):
        shutil.copy(finished.raw(key), run.raw(key))
    assert run.jobs() == LOOK | fluxes("b1", "ab") | jobs_of(A, B)
    back = contents(run.folder / "results")
    assert {name: back[name] for name in new} == new
    # what nothing wants any more is left where it is
    assert {name for name in back if name not in new} >= {f"resample/{D}_coadd.asdf"}


def test_damaged_associations_are_told_and_written_anew(run, finished):
    paths = sorted((run.folder / "results/associate/associations").iterdir())
    sound = [path.read_bytes() for path in paths]
    for path, damaged in zip(paths, (b"", b"{}", sound[2][:-100]), strict=False):
        path.write_bytes(damaged)
    done = run.snakemake()
    warnings = [line for line in done.output.splitlines() if line.startswith("romosaic: warning")]
    assert len(warnings) == 1 and f"{paths[0].name}: is damaged" in warnings[0]
    assert done.returncode == 0 and [path.read_bytes() for path in paths] == sound
    assert "Nothing to be done" in run.snakemake("-n").output


def test_lost_records_are_told_and_can_be_made_anew(run, finished):
    run.lose_records()
    run.configure("resample", pixfrac=0.9)
    done = run.snakemake()
    warnings = [line for line in done.output.splitlines() if line.startswith("romosaic: warning")]
    assert len(warnings) == 1 and "made 18 of 18 files" in warnings[0]
    assert "verify" in warnings[0] and "--touch --forceall" in warnings[0]
    checked = run.snakemake("verify")
    assert checked.returncode == 1
    assert checked.output.count("was made with another value of pixfrac -> delete it") >= 6
    run.delete("resample/*")
    assert run.jobs("-n") == from_step("resample")
    run.configure()
    for path in (finished.folder / "results" / "resample").iterdir():
        shutil.copy2(path, run.folder / "results" / "resample")
    assert run.snakemake("--touch", "--forceall").returncode == 0
    again = run.snakemake("-n")
    assert "Nothing to be done" in again.output and "romosaic: warning" not in again.output
