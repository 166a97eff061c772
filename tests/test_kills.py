"""SIGKILL of every step while it reads, computes, writes and renames: no wrong product; the next completes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from romosaic.config import load
from romosaic.config_grids import GRID_KEYS

KILLING = Path(__file__).parent / "killing.py"
STEPS = (
    "associate",
    "flux",
    "skymatch",
    "outlier_detection",
    "resample",
    "source_catalog",
    "preview",
)
PHASES = ("reading", "computing", "writing", "renaming")


def job(step, inputs, outputs, **params) -> dict:
    """Job as `killing.py` takes it."""
    output = {"file": outputs} if isinstance(outputs, str) else outputs
    return {"step": step, "input": inputs, "output": output, "params": params}


def jobs(folder: Path, raws: list[Path]) -> list[dict]:
    """Jobs of one small product, as the rules make them; each reads what undisturbed ones before it wrote."""
    grid = {"pixel_scale": 0.11}
    product = {"name": "p", "members": [path.name for path in raws], "grid": grid}
    config = load({"associate": {"product_type": "custom", "products": [product]}})
    names = [path.name.removesuffix("_cal.asdf") for path in raws]
    reference = folder / "reference"
    association = f"{reference}/associate/associations/p_asn.json"
    records = [f"{reference}/associate/exposures/{name}.json" for name in names]
    members = [f"{reference}/flux/{name}_flux.asdf" for name in names]
    sky = {k: v for k, v in config["skymatch"].items() if k not in ("match_down", "skylist")}
    outliers = {k: v for k, v in config["outlier_detection"].items() if k != "memory_mb"}
    resample = {k: v for k, v in config["resample"].items() if k not in GRID_KEYS}
    for_flux = {k: v for k, v in sky.items() if k not in ("skymethod", "subtract")}

    found = [
        job(
            "associate",
            {"associations": []},
            "associate",
            own=[str(path) for path in raws],
            parameters=config["associate"],
            reference_file=None,
            grids={key: config["resample"][key] for key in GRID_KEYS},
            max_unusable_fraction=0.5,
        )
    ]
    found += [
        job(
            "flux",
            {"exposure": str(raw), "record": record},
            f"flux/{raw.name.replace('_cal', '_flux')}",
            parameters=config["flux"] | {"sky": for_flux},
        )
        for raw, record in zip(raws, records, strict=True)
    ]
    inputs = {"association": association, "members": members}
    sky |= {"match_down": config["skymatch"]["match_down"]}
    found.append(job("skymatch", inputs, "skymatch/p_skymatch.asdf", parameters=sky, levels=None))
    inputs = inputs | {"skymatch": f"{reference}/skymatch/p_skymatch.asdf"}
    target = "outlier_detection/p_outliers.asdf"
    found.append(job("outlier_detection", inputs, target, parameters=outliers))
    inputs = inputs | {"outliers": f"{reference}/{target}"}
    found.append(job("resample", inputs, "resample/p_coadd.asdf", parameters=resample))
    coadd = {"coadd": f"{reference}/resample/p_coadd.asdf"}
    files = {"catalog": "p_cat.asdf", "parquet": "p_cat.parquet", "segmentation": "p_segm.asdf"}
    outputs = {key: f"source_catalog/{name}" for key, name in files.items()}
    given = {"parameters": config["source_catalog"], "reference_file": None, "forced_by": None}
    found.append(job("source_catalog", coadd | {"epsf": [], "forcing": []}, outputs, **given))
    inputs = {"association": association, "records": records, **coadd}
    inputs |= {"outliers": f"{reference}/outlier_detection/p_outliers.asdf"}
    inputs["catalog"] = f"{reference}/source_catalog/p_cat.parquet"
    files = {"coadd": "coadd.png", "planes": "planes.png", "thumbnail": "thumbnail.jpg"}
    outputs = {key: f"preview/p_{name}" for key, name in (files | {"small": "small.asdf"}).items()}
    given = {"parameters": config["preview"], "reference_file": None}
    found.append(job("preview", inputs, outputs, **given))
    return found


@pytest.fixture(scope="module")
def report(survey, tmp_path_factory):
    """What was there after each kill, and after the run that followed it."""
    folder = tmp_path_factory.mktemp("kills")
    (folder / "jobs.json").write_text(json.dumps(jobs(folder, list(survey.paths.values())[:2])))
    environment = os.environ | {"PYTHONHASHSEED": "0", "MPLBACKEND": "agg"}
    done = subprocess.run(
        [sys.executable, KILLING, folder], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return json.loads((folder / "report.json").read_text())


def reference(report, step):
    """Digests of a step's files in the undisturbed run."""
    return {
        name: value for name, value in report["reference"].items() if name.startswith(f"{step}/")
    }


def visible(found):
    """Files that could be taken for a product."""
    return {name: value for name, value in found.items() if value != "hidden"}


def test_every_step_is_killed_in_every_phase(report):
    rows = [(step, row) for step in STEPS for row in report["kills"][step]]
    assert len(rows) >= 20
    for step, row in rows:
        assert row["exit"] == -signal.SIGKILL, (step, row["phase"])
    # A picture is drawn by others between two calls of ours: it has no phase of its own for everything.
    for step in STEPS[:-1]:
        assert {row["phase"] for row in report["kills"][step]} == set(PHASES), step


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_leaves_no_wrong_product(report, step):
    expected = reference(report, step)
    assert expected
    for row in report["kills"][step]:
        left = visible(row["left"])
        assert {name: expected.get(name) for name in left} == left, row["phase"]
        if row["phase"] in ("reading", "computing") and step != "associate":
            assert row["left"] == {}, row["phase"]


@pytest.mark.parametrize("step", STEPS)
def test_the_next_run_completes_and_cleans_up(report, step):
    """Bit for bit what an undisturbed run makes, and nothing beside it."""
    rows = [row for row in report["kills"][step] if "next" in row]
    assert {row["phase"] for row in rows} >= {"renaming"}
    for row in rows:
        assert row["next"] == 0, row["phase"]
        names = reference(report, step)
        if step == "flux":
            names = {name: names[name] for name in row["then"]}
            assert len(names) == 1
        assert row["then"] == names, row["phase"]
