"""The workflow as users run it: whole runs of Snakemake on a small survey, judged against its truth."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import quality
import yaml
from coadd_file import grid_wcs
from conftest import CORNER, ROOT, survey_parameters, write_survey
from romosaic.association_file import read_grid
from romosaic.flux_file import open_flux
from romosaic.grid import Grid
from romosaic.mosaic_wcs import wcsinfo
from romosaic.product import read_step
from romosaic.psf import encircled_energy

CELL = "000p86x51y59"
GIVEN = Grid(*CORNER, 400.0, 400.5, 0.06 / 3600, 820, 790, 30.0, x_east=False)
PRODUCT = f"r00001_p_v01001001001001_{CELL}_f158"


def shell(folder: Path, *arguments: object, config: dict | None = None):
    """Run Snakemake in a folder of its own, as a user in a shell would."""
    command = [sys.executable, "-m", "snakemake", "-s", ROOT / "Snakefile", "-d", folder]
    command += ["--cores", "2", *arguments]
    if config is not None:
        path = folder / "config.yaml"
        path.write_text(yaml.safe_dump(config))
        command += ["--configfile", path]
    # The tests' own sys.path must not help the workflow find its library.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, env=environment
    )


def jobs(folder: Path) -> list[str]:
    """Jobs of the last run in a folder, by Snakemake's log of it."""
    last = max((folder / ".snakemake/log").glob("*.log"))  # their names are dates
    return re.findall(r"^Job \d+: (.*)", last.read_text(), re.M)


def association(folder: Path, name: str, members: list[Path], target: str) -> Path:
    """Write a user's association beside copies of its members."""
    folder.mkdir()
    for member in members:
        (folder / member.name).symlink_to(member)
    path = folder / f"{name}_asn.json"
    entries = [{"expname": member.name, "exptype": "science"} for member in members]
    path.write_text(
        json.dumps({"target": target, "products": [{"name": name, "members": entries}]})
    )
    return path


def write_wcs(path: Path, grid: Grid) -> Path:
    """Write the file of an output_wcs."""
    import asdf

    asdf.AsdfFile({"wcs": grid_wcs(grid)}).write_to(path)
    return path


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    """Exposures of 44 arcseconds with enough isolated stars to judge fluxes."""
    parameters = survey_parameters(
        shape=[400, 400],
        stars_per_arcmin2=100.0,
        galaxies_per_arcmin2=10.0,
        star_magnitudes=[19.0, 25.0],
    )
    return write_survey(tmp_path_factory.mktemp("stars"), parameters)


@pytest.fixture(scope="module")
def run(survey, tmp_path_factory):
    """One run with all kinds of products: a skycell, a regular grid, one member alone, a given WCS."""
    folder = tmp_path_factory.mktemp("run")
    paths = list(survey.paths.values())
    config = {
        "exposures": [str(survey.folder)],
        "associations": [
            str(association(folder / "field", "field", paths[:3], "my field")),
            str(association(folder / "alone", "alone", paths[:1], "none")),
        ],
        "associate": {
            "skycells": [CELL],
            "products": [
                {
                    "name": "given",
                    "members": list(survey.paths),
                    "grid": {"output_wcs": str(write_wcs(folder / "given.asdf", GIVEN))},
                }
            ],
        },
    }
    done = shell(folder, config=config)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, config, done


def open_product(path: Path):
    import roman_datamodels.datamodels as rdm

    model = rdm.open(path, validate_checksums=True)
    model.validate()
    return model


@pytest.mark.parametrize("name", [PRODUCT, "field", "alone", "given"])
def test_products_are_valid(run, name):
    import roman_datamodels.datamodels as rdm
    from astropy.table import Table

    results = run[0] / "results"
    coadd = open_product(results / f"resample/{name}_coadd.asdf")
    catalog = open_product(results / f"source_catalog/{name}_cat.asdf")
    segmentation = open_product(results / f"source_catalog/{name}_segm.asdf")
    assert isinstance(coadd, rdm.MosaicModel)
    assert isinstance(catalog, rdm.MosaicSourceCatalogModel)
    assert isinstance(segmentation, rdm.MosaicSegmentationMapModel)
    table = Table.read(results / f"source_catalog/{name}_cat.parquet")
    assert len(table) == len(catalog.source_catalog) > 0
    assert segmentation.data.max() == len(table)
    assert segmentation.data.shape == coadd.data.shape
    assert table["kron_flux"].unit == "nJy"
    assert (results / f"preview/{name}_coadd.png").stat().st_size > 10_000


def test_products_have_pictures_and_measures(run):
    results = run[0] / "results"
    paths = [results / f"qa/{name}_qa.json" for name in ("field", "alone")]
    field, alone = (json.loads(path.read_text()) for path in paths)
    assert field["noise_ratio"] == pytest.approx(1, abs=0.1)  # the field is crowded
    assert field["astrometry"]["n_stars"] > 3 and field["astrometry"]["largest"] < 10
    assert (field["metadata"]["missing"], alone["astrometry"]["largest"]) == ([], None)
    head, *rows = [line.split("\t") for line in (results / "qa/qa.tsv").read_text().splitlines()]
    grades = {row[0]: row[head.index("exposures_grade")] for row in rows}
    assert grades == {"alone": "red", "field": "green", "given": "green", PRODUCT: "green"}
    for path in ("preview/field_planes.png", "overview/f158_overview.png", "qa/qa.html"):
        assert (results / path).stat().st_size > 10_000


def test_new_limits_grade_anew_and_measure_nothing(snakemake, run):
    plan = snakemake(run[0], "-n", config=run[1] | {"qa": {"exposures": [9, 8]}})
    table = plan.output.split("Job stats:")[1].split("Reasons:")[0]
    assert set(re.findall(r"^(\w+) +\d+$", table, re.M)) == {"all", "qa_table", "total"}


def test_no_placeholder_is_left(run):
    coadd = open_product(run[0] / f"results/resample/{PRODUCT}_coadd.asdf")
    flat = coadd.to_flat_dict()
    wrong = {
        key: value
        for key, value in flat.items()
        if key.startswith("roman.meta")
        and "individual_image_meta" not in key
        and (value in ("?", -999999) if isinstance(value, str | int | float) else False)
    }
    assert not wrong
    background = coadd.meta.individual_image_meta["background"]
    assert set(background["method"]) == {"match"} and not background["subtracted"].any()
    assert coadd.meta.wcsinfo.skycell_name == CELL
    assert coadd.meta.filename == f"{PRODUCT}_coadd.asdf"


def test_every_file_says_what_it_was_made_of(run, survey):
    from romosaic.asdf_blocks import AsdfBlocks
    from romosaic.exposure import fingerprint

    wanted = [{"name": n, "fingerprint": fingerprint(p)} for n, p in survey.paths.items()]
    for path in ("resample/{}_coadd", "source_catalog/{}_cat", "source_catalog/{}_segm"):
        file = run[0] / f"results/{path.format('field')}.asdf"
        provenance = AsdfBlocks.read(file).tree["romosaic"]["provenance"]
        assert provenance["inputs"] == wanted[:3]
        assert provenance["versions"]["roman_datamodels"]
        assert provenance["parameters"]


def test_coadds_say_what_each_member_gave(run):
    from romosaic.asdf_blocks import AsdfBlocks

    results = run[0] / "results"
    coadd = AsdfBlocks.read(results / "resample/field_coadd.asdf").tree
    sky = read_step(results / "skymatch/field_skymatch.asdf")
    outliers = read_step(results / "outlier_detection/field_outliers.asdf")
    rows = coadd["romosaic"]["members"]
    assert [row["level"] for row in rows] == [row["level"] for row in sky["members"]]
    assert coadd["romosaic"]["sky_groups"] == [[row["exposure"] for row in rows]]
    for row, other in zip(rows, outliers["members"], strict=True):
        assert (row["exposure"], row["status"]) == (other["exposure"], "USED")
        y0, y1, x0, x1 = row["window"]
        area = (y1 - y0) * (x1 - x0)
        # a regular grid holds its members whole: what is not bad or an outlier is used
        assert row["n_bad"] + row["n_flagged"] + row["n_used"] == area == 400 * 400
        assert row["n_flagged"] <= other["flagged"].size and row["weight"] > 0


def test_sky_levels_follow_the_truth(run, survey):
    rows = read_step(run[0] / "results/skymatch/field_skymatch.asdf")["members"]
    truth = np.array([survey.truth(row["exposure"])["sky"] for row in rows])
    levels = np.array([row["level"] for row in rows])
    # 16 blocks of 4096 pixels of 0.04 MJy/sr: 1.5e-4 each exposure, more for the mode and the sources.
    np.testing.assert_allclose(levels - levels[0], truth - truth[0], atol=0.002)


def test_levels_of_the_user_rerun_what_they_change(snakemake, run, survey, tmp_path):
    folder = shutil.copytree(run[0], tmp_path / "run", symlinks=True)
    table, names = folder / "levels.tsv", survey.names
    targets = [f"results/skymatch/{name}_skymatch.asdf" for name in ("field", "alone")]

    def levels(**given):
        table.write_text("exposure\tlevel\n" + "".join(f"{k}\t{v}\n" for k, v in given.items()))
        section = {"skymethod": "user", "skylist": "levels.tsv", "subtract": True}
        return run[1] | {"skymatch": section}

    given = dict.fromkeys(names[:3], 0.25) | {names[2]: -1.5}
    done = snakemake(folder, *targets, config=levels(**given))
    assert done.returncode == 0, done.output
    assert sorted(jobs(folder)) == ["skymatch alone", "skymatch field"]
    rows = read_step(folder / targets[0])["members"]
    assert [(row["level"], row["subtracted"]) for row in rows] == [
        (v, True) for v in given.values()
    ]
    again = snakemake(folder, "-n", *targets, config=levels(**given | {names[1]: 0.5}))
    assert "skymatch field" in again.output and "skymatch alone" not in again.output
    lacking = snakemake(folder, *targets, config=levels(**{names[0]: 0.25}))
    (line,) = re.findall("failed: skymatch field: .*", lacking.output)
    assert f"no level for {names[1]}, {names[2]}" in line
    wrong = snakemake(folder, "-n", config=levels(**given, nobody=1.0))
    assert wrong.returncode == 1 and "levels.tsv: lists nobody, not in this run" in wrong.output


@pytest.fixture(scope="module")
def members(run, survey):
    """Members of `field`: flux file, its level, mask of its defects, and what is in it."""
    found = []
    for row in read_step(run[0] / "results/skymatch/field_skymatch.asdf")["members"]:
        member = open_flux(run[0] / f"results/flux/{row['exposure']}_flux.asdf")
        truth, defects = survey.truth(member.name), (np.asarray(member.dq) & 1) > 0
        for key in ("hot_index", "bad_index", "cosmic_ray_index"):
            defects.ravel()[truth[key].astype(int)] = True
        found.append((member, row["level"], defects, truth))
    return found


def test_outliers_are_found(run, members):
    rows = read_step(run[0] / "results/outlier_detection/field_outliers.asdf")["members"]
    total = {}
    for (member, *_, truth), row in zip(members, rows, strict=True):
        scores = quality.outlier_scores(
            member,
            row["flagged"],
            truth["cosmic_ray_index"],
            truth["cosmic_ray_amplitude"] * truth["conversion_megajanskys"],
            np.r_[truth["hot_index"], truth["bad_index"]].astype(int),
            quality.coverage(member, [other for other, *_ in members]) >= 3,
        )
        for key, score in scores.items():
            total[key] = np.add(total.get(key, (0, 0)), score)
    bright = [total[key] for key in ("10-30", "30-100", "100-inf")]
    assert sum(found for found, _ in bright) > 0.98 * sum(all_ for _, all_ in bright) > 20
    assert total["clean"][0] <= max(5, 5e-5 * total["clean"][1])


@pytest.mark.parametrize("magnitudes, error", [((19, 21.5), 0.015), ((21.5, 23.5), 0.03)])
def test_star_fluxes_do_not_depend_on_magnitude(run, survey, members, magnitudes, error):
    data = open_product(run[0] / "results/resample/field_coadd.asdf").data
    grid = read_grid(run[0] / "results/associate/associations/field_asn.json")
    ra, dec, flux = (np.asarray(survey.scene()[key]) for key in ("ra", "dec", "flux_f158"))
    flux, magnitude = flux * 1e-9, 31.4 - 2.5 * np.log10(flux)
    kind = (survey.scene()["type"] == "star") & (magnitude < magnitudes[1])
    stars = np.flatnonzero(kind & (magnitude >= magnitudes[0]))
    held = flux * encircled_energy(0.4, "F158", responses=(0.11, 0.11, 0.055))
    alone = stars[quality.isolated(ra, dec, stars, flux)]
    ratio = quality.aperture_flux(data, grid, ra[alone], dec[alone]) / held[alone]
    # At 23.5 mag the sky noise in the aperture is 2.5 %; fainter neighbours than 1 % add their light.
    assert np.nanmedian(ratio) == pytest.approx(1, abs=error)
    # What the exposures hold of a star has the same noise: weights and flags take nothing.
    apart = stars[quality.isolated(ra, dec, stars, flux, quality.APART)]
    members = [row[:3] for row in members]
    kept = quality.kept_light(data, grid, members, ra[apart], dec[apart], held[apart])
    assert min(np.isfinite(ratio).sum(), np.isfinite(kept).sum()) >= 4
    np.testing.assert_allclose(kept[np.isfinite(kept)], 1, atol=0.003)


def test_regular_grid_encloses_its_members_and_one_member_skips(run, survey):
    results = run[0] / "results"
    field = open_product(results / "resample/field_coadd.asdf")
    assert field.meta.wcsinfo.skycell_name is None
    assert field.meta.cal_step.outlier_detection == "COMPLETE"
    alone = open_product(results / "resample/alone_coadd.asdf")
    assert alone.meta.cal_step.outlier_detection == "SKIPPED"
    assert list(alone.meta.resample.members) == [next(iter(survey.paths.values())).name]
    # Pixels of 0.11 arcsec on pixels of 0.055 arcsec.
    covered = np.count_nonzero(alone.weight)
    assert covered == pytest.approx(4 * 400**2, rel=0.03)


def test_an_output_wcs_is_the_wcs_of_its_coadd(run):
    coadd = open_product(run[0] / "results/resample/given_coadd.asdf")
    assert (coadd.data.shape, dict(coadd.meta.wcsinfo)) == (GIVEN.shape, wcsinfo(GIVEN))
    x, y = np.meshgrid(np.linspace(0, GIVEN.nx - 1, 9), np.linspace(0, GIVEN.ny - 1, 9))
    there = coadd.meta.wcs.invert(*grid_wcs(GIVEN)(x, y), with_bounding_box=False)
    assert np.hypot(there[0] - x, there[1] - y).max() < 1e-6
    # The corner lies in all members.
    assert np.isfinite(coadd.data[390:410, 390:410]).mean() > 0.99


def test_a_new_file_of_an_output_wcs_remakes_the_grids_that_it_is(snakemake, survey, tmp_path):
    path = write_wcs(tmp_path / "given.asdf", GIVEN)
    member = next(iter(survey.paths.values()))
    config = {
        "exposures": [str(member)],
        "associations": [str(association(tmp_path / "field", "field", [member], "my field"))],
        "associate": {"skycells": [CELL]},
        "resample": {"output_wcs": str(path)},
    }
    for grid in (GIVEN, replace(GIVEN, orientation=5.0)):
        write_wcs(path, grid)
        done = snakemake(tmp_path, "associate", config=config)
        assert done.returncode == 0, done.output[-3000:]
        folder = tmp_path / "results/associate/associations"
        assert read_grid(folder / "field_asn.json") == grid
        ages = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
        if grid == GIVEN:
            first = ages
    assert [name for name in ages if ages[name] != first[name]] == ["field_asn.json"]


def test_a_second_run_has_nothing_to_do(snakemake, run):
    folder, config, _ = run
    again = snakemake(folder, "-n", config=config)
    assert again.returncode == 0, again.output
    assert "Nothing to be done" in again.output


def test_the_run_ends_by_saying_what_it_made(run):
    text = run[2].stdout + run[2].stderr
    assert "4 of 4 products" in text
    (picture,) = [line.split()[-1] for line in text.splitlines() if "look at" in line]
    assert (run[0] / picture).is_file()


def test_without_data_one_line_says_what_to_do(snakemake, tmp_path):
    empty = snakemake(tmp_path)
    assert empty.returncode == 1
    lines = [line for line in empty.output.splitlines() if "set `exposures`" in line]
    assert len(lines) == 1
    assert "make demo" in lines[0]


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda p: p.name)
def test_every_config_file_makes_a_plan(snakemake, path, survey, tmp_path):
    """The default file with the survey's exposures, so that it has something to do."""
    exposures = ["--config", f"exposures={survey.folder}"] if path.name == "config.yaml" else []
    plan = snakemake(tmp_path, "-n", "--configfile", path, *exposures)
    assert plan.returncode == 0, plan.output
    assert "associate" in plan.output


def test_wrong_config_lists_all_problems(snakemake, tmp_path):
    bad = snakemake(tmp_path, "-n", config={"skymatch": {"nclip": -1}, "resampel": {}})
    assert bad.returncode == 1
    assert "skymatch.nclip" in bad.output
    assert "did you mean resample" in bad.output


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize(
    ("damage", "reason"), [(flip_a_byte, "does not match its checksum"), (truncate, "cut short")]
)
def test_a_damaged_exposure_stops_the_run_in_a_line(snakemake, survey, tmp_path, damage, reason):
    sound = next(iter(survey.paths.values()))
    victim = tmp_path / sound.name
    shutil.copy(sound, victim)
    damage(victim)
    failed = snakemake(tmp_path, config={"exposures": [str(victim)]})
    (line,) = re.findall("failed: .*", failed.output)
    assert victim.name in line and reason in line
    assert not list((tmp_path / "results").rglob("*.[ap]*"))  # .asdf, .parquet
