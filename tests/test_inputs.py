"""The files that a run starts from."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from romosaic import inputs
from romosaic.config import load
from romosaic.errors import AssociationError, ConfigError

SCRIPTS = Path(__file__).parent.parent / "scripts"


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def write_asn(path, *products):
    rows = [
        {"name": f"mosaic{k}", "members": [{"expname": m, "exptype": "science"} for m in members]}
        for k, members in enumerate(products)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"products": rows}))


@pytest.fixture
def base(tmp_path, monkeypatch):
    """Working folder, from which relative paths start."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(**config):
    return inputs.find(load(config))


def test_nothing(base):
    assert found() == inputs.Inputs({}, [], [], [])


def test_exposures(base):
    touch(base / "raw/b_cal.asdf", base / "raw/a_cal.asdf", base / "c.asdf")
    result = found(exposures=["raw", "c.asdf"])
    expected = {"a": "raw/a_cal.asdf", "b": "raw/b_cal.asdf", "c": "c.asdf"}
    assert result.exposures == expected
    assert sorted(result.own) == sorted(expected.values())
    assert (result.associations, result.simulated) == ([], [])


def test_the_state_follows_sizes_and_dates(tmp_path):
    names = ["a_cal.asdf", "b_cal.asdf"]
    touch(*(tmp_path / name for name in names))
    write_asn(tmp_path / "x_asn.json", ["a_cal.asdf"])
    config = {"exposures": [str(tmp_path)], "associations": [str(tmp_path)]}
    simulated = {"exposures": [{"ra": 0.0, "dec": 0.0}]}  # not there yet
    states = []
    for path, size, date in [
        *((tmp_path / "b_cal.asdf", 0, 0), (tmp_path / "b_cal.asdf", 0, 1)),
        *((tmp_path / "a_cal.asdf", 1, 1), (tmp_path / "x_asn.json", 0, 1)),
    ]:
        states.append(inputs.find(load(config)).state())
        assert inputs.find(load(config | {"simulate": simulated})).state() == states[-1]
        with open(path, "ab") as stream:
            stream.write(b"x" * size)
        os.utime(path, ns=(date, date))
    assert len(set(states)) == 4


def test_members_of_associations_are_inputs_but_not_own(base):
    touch(base / "raw/a_cal.asdf", base / "asn/b_cal.asdf", base / "asn/deep/c_cal.asdf")
    write_asn(base / "asn/x_asn.json", ["b_cal.asdf"], ["deep/c_cal.asdf", "b_cal.asdf"])
    result = found(exposures=["raw"], associations=["asn"])
    assert result.own == ["raw/a_cal.asdf"]
    assert result.associations == ["asn/x_asn.json"]
    assert result.exposures == {
        "a": "raw/a_cal.asdf",
        "b": "asn/b_cal.asdf",
        "c": "asn/deep/c_cal.asdf",
    }


def test_a_member_may_be_an_exposure_too(base):
    touch(base / "raw/a_cal.asdf")
    write_asn(base / "raw/x_asn.json", ["a_cal.asdf"])
    (base / "link").symlink_to(base / "raw")
    for folder in ("raw", "./raw", "link", str(base / "raw")):
        result = found(exposures=[folder], associations=["raw"])
        assert list(result.exposures) == ["a"]
        assert result.own == list(result.exposures.values())


def test_two_files_of_one_name_are_refused(base):
    touch(base / "raw/a_cal.asdf", base / "asn/a_cal.asdf")
    write_asn(base / "asn/x_asn.json", ["a_cal.asdf"], ["a_cal.asdf"])
    with pytest.raises(ConfigError) as caught:
        found(exposures=["raw"], associations=["asn"])
    expected = "exposures: two files for one exposure: raw/a_cal.asdf and asn/a_cal.asdf"
    assert str(caught.value) == f"configuration: {expected}"


def test_all_paths_that_match_nothing_are_told_at_once(base):
    with pytest.raises(ConfigError) as caught:
        found(exposures=["no", "none_*.asdf"], associations=["no_*.json"])
    expected = "'no'", "'none_*.asdf' matches nothing", "'no_*.json' matches nothing"
    assert len(caught.value.problems) == 3
    assert all(part in str(caught.value) for part in expected)


def test_missing_members_are_named(base):
    touch(base / "asn/b_cal.asdf")
    write_asn(base / "asn/x_asn.json", ["a_cal.asdf", "b_cal.asdf"])
    with pytest.raises(AssociationError) as caught:
        found(associations=["asn/x_asn.json"])
    assert "asn/x_asn.json: has members that do not exist: " in str(caught.value)
    assert "asn/a_cal.asdf ->" in str(caught.value)
    assert "b_cal.asdf" not in str(caught.value)


def test_broken_associations_are_refused(base):
    (base / "x_asn.json").write_text("{")
    with pytest.raises(AssociationError, match=r"x_asn\.json: is not JSON"):
        found(associations=["x_asn.json"])


def test_members_may_lie_outside_when_allowed(base):
    touch(base / "raw/a_cal.asdf")
    write_asn(base / "asn/x_asn.json", ["../raw/a_cal.asdf"])
    with pytest.raises(AssociationError, match="names a member outside its folder"):
        found(associations=["asn"])
    result = found(associations=["asn"], associate={"allow_outside": True})
    assert result.exposures == {"a": "asn/../raw/a_cal.asdf"}
    both = found(exposures=["raw"], associations=["asn"], associate={"allow_outside": True})
    assert both.exposures == {"a": "raw/a_cal.asdf"}


SIMULATE = {"exposures": [{"ra": 1.0, "dec": 2.0}, {"ra": 1.0, "dec": 2.0}], "shape": [64, 64]}
NAMES = [f"r0000101001001001001_000{number}_wfi01_f158" for number in (1, 2)]


def test_simulated_exposures_come_first(base):
    touch(base / "a_cal.asdf")
    result = found(simulate=SIMULATE, exposures=["a_cal.asdf"], output_dir="out")
    made = [f"out/simulate/{name}_cal.asdf" for name in NAMES]
    assert result.simulated == NAMES
    assert result.own == [*made, "a_cal.asdf"]
    assert result.exposures == dict(zip([*NAMES, "a"], result.own, strict=True))


def test_simulated_exposures_that_exist_may_be_named_again(base):
    touch(base / f"out/simulate/{NAMES[0]}_cal.asdf")
    result = found(simulate=SIMULATE, exposures=["./out/simulate"], output_dir="out")
    assert result.own == [f"out/simulate/{name}_cal.asdf" for name in NAMES]


def test_members_may_be_simulated_later(base):
    write_asn(base / "out/simulate/x_asn.json", [f"{name}_cal.asdf" for name in NAMES])
    result = found(simulate=SIMULATE, associations=["out/simulate"], output_dir="out")
    assert list(result.exposures) == NAMES


def test_a_simulated_exposure_is_not_mixed_up_with_a_real_one(base):
    touch(base / f"raw/{NAMES[1]}_cal.asdf")
    with pytest.raises(ConfigError, match=f"two files for one exposure: .*{NAMES[1]}"):
        found(simulate=SIMULATE, exposures=["raw"])


def test_finding_needs_no_heavy_import(tmp_path):
    """Every cluster job finds the inputs anew."""
    touch(tmp_path / "a_cal.asdf")
    write_asn(tmp_path / "x_asn.json", ["a_cal.asdf"])
    code = f"""
import sys
sys.path.insert(0, {str(SCRIPTS)!r})
from romosaic import inputs
from romosaic.config import load
config = load({{"simulate": {SIMULATE}, "associations": "x_asn.json"}})
print(len(inputs.find(config).exposures))
print(*{{"numpy", "asdf", "astropy", "numba"}} & set(sys.modules))
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["3"]


@pytest.mark.parametrize(
    ("own", "line", "where"),
    [
        ({}, ["batch=7/3"], "--config"),
        ({"moc": {"ordr": 9}}, ["moc={order: 9}"], "config.yaml"),
        ({"moc": {"order": 99}}, ["fits={planes: [err]}"], "config.yaml"),
        ({}, ["moc={order: 99}"], "--config"),
        ({}, ["exposures=[here.asdf]"], "--config"),
        ({}, ["skymach={skymethod: match}"], "--config"),
        ({"exposure": "a"}, ["batch=7/3", "exposures=b"], "config.yaml, --config"),
    ],
)
def test_what_came_by_the_command_line_is_not_blamed_on_a_file(
    snakemake, tmp_path, own, line, where
):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(own | {"threads": 1}))
    done = snakemake(tmp_path, "--configfile", path, "--config", *line)
    said = [text for text in done.output.splitlines() if text.startswith("romosaic: ")]
    where = where.replace("config.yaml", str(path))
    assert len(said) == 1 and said[0].startswith(f"romosaic: {where}: "), done.output
