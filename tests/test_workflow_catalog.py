"""Catalogs in whole runs: a filter measured where another one's sources are, and the catalogs of filters."""

import re
import shutil

import pandas
import pyarrow.parquet as pq
import pytest
from conftest import survey_parameters, write_survey
from romosaic.skymap import SkyMap
from test_workflow import CELL, jobs, open_product

FORCED = f"r00001_p_v01001001001001_{CELL}_f129"
REGION, OTHER = CELL[:6], "045p86x52y63"


def target(element, region=REGION):
    """Catalog of a filter in a projection region."""
    return f"results/catalog/{element}/projection_region={region}/{element}_{region}.parquet"


TARGETS = [target("f129"), target("f158"), target("f158", OTHER[:6])]
FORCING = f"r00001_p_v01001001001001_{CELL}_f158"


def elsewhere(folder, number):
    """Simulate an exposure of F158 in the other projection region."""
    grid = SkyMap().cell(OTHER).grid
    ra, dec = grid.to_sky(2000.0, 2000.0 + 20 * number)
    entry = {"ra": float(ra), "dec": float(dec), "sky": 0.25, "exposure": number}
    write_survey(folder, survey_parameters(shape=[100, 100], exposures=[entry]))


@pytest.fixture(scope="module")
def run(snakemake, tmp_path_factory):
    """Two exposures in F158, and two in F129 which is forced; one more F158 in another projection region."""
    parameters = survey_parameters(stars_per_arcmin2=300.0, galaxies_per_arcmin2=0.0)
    for number, exposure in enumerate(parameters["exposures"]):
        exposure["optical_element"] = ("F158", "F129")[number % 2]
    survey = write_survey(tmp_path_factory.mktemp("filters"), parameters)
    folder = tmp_path_factory.mktemp("run")
    elsewhere(folder / "elsewhere", 5)
    config = {
        "exposures": [str(survey.folder), "elsewhere"],
        "associate": {"skycells": [CELL, OTHER]},
        "source_catalog": {"forced": {"f129": "f158"}, "method": "both"},
    }
    done = snakemake(folder, *TARGETS, config=config)
    assert done.returncode == 0, done.output[-3000:]
    return folder, config


def test_a_filter_is_measured_at_the_sources_of_another(run):
    import roman_datamodels.datamodels as rdm

    results = run[0] / "results/source_catalog"
    assert f"source_catalog {FORCED}" in jobs(run[0])
    model = open_product(results / f"{FORCED}_cat.asdf")
    assert isinstance(model, rdm.ForcedMosaicSourceCatalogModel)
    assert model.meta.image.forced_segmentation == f"{FORCING}_segm.asdf"
    first = open_product(results / f"{FORCING}_cat.asdf")
    labels = set(model.source_catalog["label"])
    assert labels <= set(first.source_catalog["label"]) and len(labels) > 5
    segments = open_product(results / f"{FORCED}_segm.asdf").data
    assert set(segments[segments > 0]) == labels
    log = (run[0] / f"results/logs/source_catalog/{FORCED}.log").read_text()
    assert f"{len(labels)} sources of {FORCING}" in log


def test_each_filter_has_its_catalog(run):
    for name, columns in (("f158", {"kron_flux"}), ("f129", {"kron_radius", "forced_kron_flux"})):
        whole = pq.ParquetFile(run[0] / target(name)).read()
        assert columns | {"skycell", "filter", "product"} <= set(whole.column_names)
        assert set(whole["filter"].to_pylist()) == {name.upper()}
        model = open_product(
            run[0] / f"results/source_catalog/r00001_p_v01001001001001_{CELL}_{name}_cat.asdf"
        )
        primary = (model.source_catalog["flagged_spatial_id"] >> 59 & 1) == 0
        assert len(whole) == primary.sum() > 0


def test_it_is_made_again_when_its_products_change_and_only_then(snakemake, run, tmp_path):
    folder = shutil.copytree(run[0], tmp_path / "run", symlinks=True)
    again = snakemake(folder, "-n", *TARGETS, config=run[1])
    assert "Nothing to be done" in again.output
    changed = run[1] | {"source_catalog": run[1]["source_catalog"] | {"forced": {}}}
    planned = jobs_planned(snakemake(folder, "-n", *TARGETS, config=changed))
    assert f"source_catalog {FORCED}" in planned and f"catalog f129_{REGION}" in planned
    assert f"source_catalog {FORCING}" not in planned and "catalog f158" not in str(planned)
    wrong = run[1] | {"source_catalog": {"forced": {"f129": "f158", "f158": "f184"}}}
    refused = snakemake(folder, "-n", *TARGETS, config=wrong)
    assert (
        refused.returncode == 1 and "F158 is to force F129 and is forced itself" in refused.output
    )


def test_a_new_exposure_remakes_the_catalogs_of_its_region_only(snakemake, run, tmp_path):
    folder = shutil.copytree(run[0], tmp_path / "run", symlinks=True)
    elsewhere(folder / "new", 6)
    config = run[1] | {"exposures": [*run[1]["exposures"], "new"]}
    assert snakemake(folder, "associate", config=config).returncode == 0
    planned = jobs_planned(snakemake(folder, "-n", *TARGETS, config=config))
    assert [job for job in planned if job.startswith("catalog")] == [f"catalog f158_{OTHER[:6]}"]
    assert f"source_catalog r00001_p_v01001001001001_{OTHER}_f158" in planned


def test_hats_catalogs_are_made_of_all_regions(snakemake, run, tmp_path):
    """On request, of catalogs that are there."""
    folder = shutil.copytree(run[0], tmp_path / "run", symlinks=True)
    done = snakemake(folder, "hats", config=run[1])
    assert done.returncode == 0, done.output[-2000:]
    assert set(jobs(folder)) == {"hats of all filters", "hats f129", "hats f158"}
    rows = [line.split("\t") for line in (folder / "results/hats/hats.tsv").open()]
    for element, sources, *_ in rows[1:]:
        whole = pandas.read_parquet(folder / f"results/catalog/{element}")
        assert len(whole) == int(sources) > 0
    assert set(whole["projection_region"]) == {REGION, OTHER[:6]}


def jobs_planned(done):
    """Jobs of a dry run."""
    return re.findall(r"Job \d+: (.*)", done.output)


def test_where_the_other_filter_has_no_product_its_own_sources_are_measured(
    snakemake, run, tmp_path
):
    folder = shutil.copytree(run[0], tmp_path / "run", symlinks=True)
    config = run[1] | {"source_catalog": {"forced": {"f129": "f184"}}}
    wanted = f"results/source_catalog/{FORCED}_cat.asdf"
    done = snakemake(folder, wanted, config=config)
    assert done.returncode == 0, done.output[-2000:]
    model = open_product(folder / wanted)
    assert (model.source_catalog["image_flags"] & 512 > 0).all()
    log = (folder / f"results/logs/source_catalog/{FORCED}.log").read_text()
    assert "F184, which was to force them, has no product here" in log
