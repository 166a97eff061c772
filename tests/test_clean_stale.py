"""What `clean_stale` lists and removes, and above all what it leaves alone."""

import os
import re
from pathlib import Path

import pytest
from rerun_survey import exposure, product
from romosaic import result_files
from romosaic.clean_stale import remove_files, stale_files, write_table
from romosaic.errors import ProductError
from romosaic.product_index import Product
from romosaic.result_files import OF_ALL, PRODUCT, patterns

ROOT = Path(__file__).parent.parent


def fill(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


@pytest.fixture
def results(tmp_path):
    """One exposure and one product that are wanted, and one of each that are not."""
    folder = tmp_path / "results"
    for name in ("new", "old"):
        fill(
            folder,
            *(
                f"flux/{name}_flux.asdf",
                f"skymatch/{name}_skymatch.asdf",
                f"preview/{name}_coadd.png",
            ),
            *(f"source_catalog/{name}_{end}" for end in ("cat.asdf", "cat.parquet", "segm.asdf")),
            *(f"outlier_detection/{name}_outliers.asdf", f"resample/{name}_coadd.asdf"),
            *(f"logs/flux/{name}.log", f"benchmarks/resample/{name}.tsv"),
        )
    return folder


#: Names of what is of the run.
WANTED = {
    "exposure": {"new"},
    "product": {"new"},
    "filter": {"f158"},
    "region": {"f158_000p86"},
    "cell": {"new"},
}


def found(folder, inputs=()):
    return stale_files(folder, WANTED, inputs)


def names(stale, folder):
    return [os.path.relpath(path, folder) for path, _ in stale.files]


def test_files_of_what_is_not_wanted_are_listed(results):
    stale = found(results)
    assert names(stale, results) == [
        *("benchmarks/resample/old.tsv", "flux/old_flux.asdf", "logs/flux/old.log"),
        *(
            "outlier_detection/old_outliers.asdf",
            "preview/old_coadd.png",
            "resample/old_coadd.asdf",
        ),
        "skymatch/old_skymatch.asdf",
        *(f"source_catalog/old_{end}" for end in ("cat.asdf", "cat.parquet", "segm.asdf")),
    ]
    assert stale.report(False)[-1].startswith("10 files (0.0 MB) that no association wants -> ")
    before = sorted(path for path in results.rglob("*") if path.is_file())
    remove_files(stale.files)
    after = sorted(path for path in results.rglob("*") if path.is_file())
    assert [path for path in before if path not in after] == [
        results / n for n in names(stale, results)
    ]
    assert found(results).files == []
    assert found(results).report(True) == ["0 files (0.0 MB) that no association wants removed"]


#: Files of a filter and of a skycell, of which the first ones are wanted.
OF_SEVERAL = (
    "epsf/{filter}_epsf.asdf",
    "hats/{filter}/dataset/Norder=0/Npix=1.parquet",
    "catalog/f158/projection_region={region}/f158_{region}.parquet",
    "logs/catalog/f158_{region}.log",
    "overview/{filter}_overview.png",
    "color/{cell}_color.png",
    "color/{cell}_thumbnail.jpg",
    "moc/{filter}_moc.fits",
    "hips/{filter}/Norder3/Dir0/Npix5.png",
    "logs/hips/{filter}.log",
    "benchmarks/overview/{filter}.tsv",
    "logs/color/{cell}.log",
)


def test_what_is_of_filters_and_skycells_that_are_gone_is_listed(tmp_path):
    """Folders as a whole: all that a step made in them, and nothing of another filter."""
    folder = tmp_path / "results"
    for row in (("f158", "new", "000p86"), ("f062", "old", "none")):
        form = dict(zip(("filter", "cell", "region"), row, strict=True))
        fill(folder, *(name.format(**form) for name in OF_SEVERAL))
    kept = ["qa/qa.tsv", "moc/moc.fits", "hips/hips.tsv", "logs/moc/moc.log", "plan/plan.png"]
    fill(folder, *kept)
    before = {path for path in folder.rglob("*") if path.is_file()}
    stale = found(folder)
    gone = [name.format(**form) for name in OF_SEVERAL]
    folders = ("hats/f062", "hips/f062")
    inside = [name for name in gone if name.startswith(folders)]
    assert names(stale, folder) == sorted({*gone} - {*inside} | {*folders})
    assert sum(size for _, size in stale.files) == sum(map(len, gone))
    remove_files(stale.files)
    after = {path for path in folder.rglob("*") if path.is_file()}
    assert before - after == {folder / name for name in gone}
    assert found(folder).files == []
    assert [path.name for path in (folder / "catalog/f158").iterdir()] == [
        "projection_region=000p86"
    ]


def test_folders_that_hold_an_input_or_are_links_are_not_emptied(tmp_path):
    folder, outside = tmp_path / "results", tmp_path / "outside"
    fill(folder, "hips/f062/raw.asdf", "hips/f062/Norder3/Npix5.png")
    fill(outside, "Norder3/Npix5.png")
    (folder / "hips/f087").symlink_to(outside)
    (folder / "hips/f106").mkdir()
    (folder / "hips/f106/link").symlink_to(outside)
    stale = found(folder, [folder / "hips/f062/raw.asdf"])
    assert names(stale, folder) == ["hips/f087", "hips/f106"]
    remove_files(stale.files)
    assert [path.name for path in (folder / "hips").iterdir()] == ["f062"]
    assert (outside / "Norder3/Npix5.png").exists()


def test_names_are_those_of_the_products():
    cells = {"a": ("F062", "x"), "b": ("F158", "x"), "c": ("F106", "x"), "d": ("F158", "")}
    products = {name: Product(*place, "grid", 1) for name, place in cells.items()}
    made = result_files.names(products, ["e"])
    assert made["region"] == {"f062_none", "f158_none", "f106_none"}
    assert made["cell"] == {"x"}
    assert made["filter"] == {"f062", "f106", "f158"} and made["exposure"] == {"e"}
    del products["c"]  # no colour picture of two filters
    assert result_files.names(products, ["e"])["cell"] == set()
    assert result_files.names(products, ["e"], ("F062", "F158", "F062"))["cell"] == {"x"}


@pytest.mark.parametrize(
    "name",
    [
        *(
            "flux/notes.txt",
            "flux/old_flux.asdf.bak",
            "flux/.old_flux.host.1.asdf",
            "flux/_flux.asdf",
        ),
        *(
            "simulate/old_cal.asdf",
            "associate/exposures/old.json",
            "plan/plan.tsv",
            "old_coadd.asdf",
        ),
        *(
            "catalog/mine/x",
            "hips/f15/x",
            "hips/F062/x",
            "epsf/my_epsf.asdf",
            "flux/old_flux.asdf/x",
        ),
        *("overview/F062_overview.png", "moc/moc.fits", "qa/qa.html", "color/notes.png"),
        *("resample/mine/old_coadd.asdf", "logs/associate/old.log", "resample/old_flux.asdf"),
        *("logs/qa/qa_table.log", "logs/fits/fits.log", "benchmarks/fits/fits.tsv"),
        *("flux/.._flux.asdf/x", "../flux/old_flux.asdf", "../resample/old_coadd.asdf"),
    ],
)
def test_other_files_are_left_alone(tmp_path, name):
    folder = tmp_path / "results"
    folder.mkdir()
    fill(folder, name)
    assert found(folder).files == []


def test_products_that_begin_with_the_name_of_a_step_are_no_exception(tmp_path):
    files = ["resample/resample_x_coadd.asdf", "logs/qa/qa_x.log", "fits/fits_coadd.fits"]
    fill(tmp_path, *files, "qa/qa_table_qa.json", "logs/resample/resample.log")
    assert names(found(tmp_path), tmp_path) == sorted(
        [*files, "qa/qa_table_qa.json", "logs/resample/resample.log"]
    )


def test_logs_of_all_products_are_known():
    """In the rules of the steps whose logs are looked at: those without a name of a product or an exposure."""
    steps = {step for step, _, _ in patterns()} | OF_ALL.keys()
    text = "".join((ROOT / f"rules/{step}.smk").read_text() for step in steps)
    logs = re.findall(r'/logs/(\w+)/([^"]+)\.log"', text)
    assert dict(log for log in logs if "{" not in log[1]) == OF_ALL


def test_inputs_are_left_alone_whatever_they_are_called(results):
    """Also by another path, and when the folder holds only another name of them."""
    outside = results.parent / "raw.asdf"
    outside.write_text("an exposure")
    os.link(outside, results / "flux" / "hard_flux.asdf")
    (results / "flux" / "soft_flux.asdf").symlink_to(outside)
    inputs = [outside, results / "skymatch" / ".." / "flux" / "old_flux.asdf"]
    listed = names(found(results, inputs), results)
    assert not [name for name in listed if name.startswith("flux/")] and listed


def test_of_links_only_the_link_is_removed(results):
    outside = results.parent / "kept.asdf"
    outside.write_text("not of this run")
    link = results / "flux" / "older_flux.asdf"
    link.symlink_to(outside)
    broken = results / "flux" / "broken_flux.asdf"
    broken.symlink_to(results.parent / "nowhere")
    stale = found(results)
    assert {"flux/older_flux.asdf", "flux/broken_flux.asdf"} < set(names(stale, results))
    remove_files(stale.files)
    assert outside.read_text() == "not of this run"
    assert not link.is_symlink() and not broken.is_symlink()


def test_folders_that_lead_out_are_left_alone(results):
    outside = results.parent / "scratch"
    (results / "flux").rename(outside)
    (results / "flux").symlink_to(outside)
    stale = found(results)
    assert not [path for path, _ in stale.files if "_flux" in path]
    assert stale.notes == [f"{results}/flux leads out of {results}: not looked at"]
    assert stale.notes[0] in stale.report(False)


def test_the_folder_itself_may_be_a_link_or_a_crooked_path(results):
    link = results.parent / "link"
    link.symlink_to(results)
    (results.parent / "other").mkdir()
    for folder in (link, results.parent / "other" / ".." / "results"):
        assert len(found(folder).files) == 10
        assert found(folder).notes == []


def test_what_is_gone_or_cannot_go(results, tmp_path):
    remove_files([(str(results / "flux" / "gone_flux.asdf"), 1)])
    with pytest.raises(ProductError, match="cannot be removed"):
        remove_files([(str(results / "flux" / "new_flux.asdf" / "below"), 1)])
    write_table(tmp_path / "clean_stale.tsv", [("a", 1)], removed=True)
    assert (tmp_path / "clean_stale.tsv").read_text() == "file\tbytes\tremoved\na\t1\tyes\n"


def test_a_cell_that_vanished(run):
    """As a target: listed first, removed when told to, and nothing runs because of it."""
    gone, lost = product("C"), exposure("c1")
    run.remove("c1")
    listed = run.snakemake("clean_stale")
    assert listed.returncode == 0, listed.output[-2000:]
    table = run.folder / "results" / "clean_stale" / "clean_stale.tsv"
    rows = [line.split("\t") for line in table.read_text().splitlines()[1:]]
    files = {run.folder / path for path, _, removed in rows if removed == "no"}
    mine = {p for p in (run.folder / "results").rglob("*") if gone in p.name or lost in p.name}
    assert files == mine and len(files) == sum(map(len, PRODUCT.values())) + 1 + 2 * (
        len(PRODUCT) + 1
    )
    run.configure("clean_stale", remove=True)
    assert run.snakemake("clean_stale").returncode == 0
    assert not [path for path in files if path.exists()]
    assert run.raw("b1").exists() and run.plan() == set()
