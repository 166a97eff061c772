"""The configuration: values, messages, and the files it names."""

import json
import os
import subprocess
import sys
import time
from contextlib import chdir
from pathlib import Path

import pytest
import yaml
from romosaic import config, simulate
from romosaic.errors import ConfigError

FOLDER = Path(__file__).parents[1] / "config"


def read(name):
    return yaml.safe_load((FOLDER / name).read_text())


def problems(raw):
    with pytest.raises(ConfigError) as caught:
        config.load(raw)
    return caught.value.problems


# --- values


def test_demo_overrides_only_what_it_needs():
    raw = read("demo.yaml")
    assert set(raw) == {"output_dir", "simulate", "associate"}
    loaded = config.load(raw)
    assert loaded["output_dir"] == "results/demo"
    assert 5 <= len(loaded["simulate"]["exposures"]) <= 6
    for exposure in loaded["simulate"]["exposures"]:
        assert abs(exposure["dec"] - 86.442029) < 0.03
        assert abs(exposure["ra"] - 11.298211) < 0.5  # 0.03 deg on the sky
        assert exposure["pass"] == 1


def test_simulator_and_configuration_have_the_same_defaults():
    assert config.load(None)["simulate"] == simulate.DEFAULTS


FULL = {
    "exposures": "data/*_cal.asdf",
    "output_dir": "./out//a/",
    "associate": {
        "filters": ["f158", "F129"],
        "region": {"ra": 0, "dec": -90, "radius": 1},
        "skycells": ["135p90x51y67"],
        "visits": ["0000101001001001001"],
    },
    "simulate": {"exposures": [{"ra": 1, "dec": 2, "pass": 3}], "detector": "wfi07"},
    "skymatch": None,
    "outlier_detection": {"snr": "5.0 4.0", "good_bits": 4},
    "resample": {"fillval": float("nan"), "good_bits": None},
}


def test_values_are_normalised():
    loaded = config.load(FULL)
    assert loaded["exposures"] == ["data/*_cal.asdf"]
    assert loaded["output_dir"] == "out/a"
    assert loaded["associate"]["filters"] == ["F158", "F129"]
    assert loaded["associate"]["region"] == {"ra": 0.0, "dec": -90.0, "radius": 1.0}
    assert loaded["simulate"]["exposures"][0]["pass"] == 3
    assert loaded["simulate"]["exposures"][0]["sky"] == 0.25
    assert loaded["simulate"]["detector"] == "WFI07"
    assert loaded["skymatch"]["nclip"] == 5
    assert loaded["outlier_detection"]["snr"] == [5.0, 4.0]
    assert loaded["outlier_detection"]["good_bits"] == "4"
    assert loaded["resample"]["fillval"] == "NaN"
    assert loaded["resample"]["good_bits"] is None


@pytest.mark.parametrize(
    ("given", "value"), [("NAN", "NaN"), ("indef", 0.0), ("INDEF", 0.0), (-99, -99.0)]
)
def test_fill_values_mean_what_they_mean_to_romancal(given, value):
    assert config.load({"resample": {"fillval": given}})["resample"]["fillval"] == value


@pytest.mark.parametrize("raw", [None, {}, FULL, read("demo.yaml")])
def test_loading_twice_changes_nothing(raw):
    once = config.load(raw)
    assert config.load(once) == once
    assert json.loads(json.dumps(once, allow_nan=False)) == once


def test_loading_leaves_the_input_alone():
    raw = {"skymatch": None, "exposures": "a", "flux": {"max_unusable_fraction": 0}}
    before = json.dumps(raw)
    config.load(raw)["flux"]["max_unusable_fraction"] = 1
    assert json.dumps(raw) == before
    assert config.load(None)["flux"]["max_unusable_fraction"] == 0.5


def test_defaults_are_not_shared_between_loads():
    config.load(None)["outlier_detection"]["snr"].append(1.0)
    config.load(None)["simulate"]["exposures"].append(1)
    assert config.load(None)["outlier_detection"]["snr"] == [5.0, 4.0]
    assert config.load(None)["simulate"]["exposures"] == []


def test_values_of_the_command_line_arrive_as_text():
    """Inside braces Snakemake's --config leaves numbers, booleans and nulls as text."""
    section = {
        "nclip": "3",
        "lsigma": "1e-1",
        "match_down": "False",
        "upper": "null",
        "dqbits": "none",
    }
    loaded = config.load({"skymatch": section, "outlier_detection": {"snr": ["6", "5"]}})
    assert loaded["skymatch"]["nclip"] == 3
    assert loaded["skymatch"]["lsigma"] == 0.1
    assert loaded["skymatch"]["match_down"] is False
    assert loaded["skymatch"]["upper"] is None
    assert loaded["skymatch"]["dqbits"] is None
    assert loaded["outlier_detection"]["snr"] == [6.0, 5.0]


def test_large_whole_numbers_keep_their_digits():
    assert config.load({"simulate": {"seed": 2**63 + 1}})["simulate"]["seed"] == 2**63 + 1
    assert config.load({"simulate": {"seed": str(2**63 + 1)}})["simulate"]["seed"] == 2**63 + 1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2027-06-01T10:00:00", "2027-06-01T10:00:00"),
        ("'2027-06-01T10:00:00+02:00'", "2027-06-01T08:00:00"),
        ("2027-06-01", "2027-06-01T00:00:00"),
    ],
)
def test_times_may_be_yaml_times(text, value):
    raw = yaml.safe_load(f"simulate: {{start_time: {text}}}")
    assert config.load(raw)["simulate"]["start_time"] == value


#: Parameters of OutlierDetectionStep and their defaults, romancal 1.1.0.
OUTLIER_STEP = {
    "weight_type": "ivm",
    "pixfrac": 1.0,
    "kernel": "square",
    "fillval": "NaN",
    "maskpt": 0.7,
    "snr": "5.0 4.0",
    "scale": "1.2 0.7",
    "backg": 0.0,
    "save_intermediate_results": False,
    "resample_data": True,
    "resample_on_skycell": True,
    "good_bits": "~DO_NOT_USE",
    "in_memory": True,
    "pixmap_stepsize": 10.0,
    "pixmap_order": 3,
}


@pytest.mark.parametrize("name", OUTLIER_STEP)
def test_parameters_of_romancals_outlier_step(name):
    """Known with the same default and format, or refused with what to do instead."""
    raw = {"outlier_detection": {name: OUTLIER_STEP[name]}}
    if name in config.load(None)["outlier_detection"]:
        assert config.load(raw) == config.load(None)
    else:
        (problem,) = problems(raw)
        assert problem.startswith(f"outlier_detection.{name}: romancal's, not known here: ")
        assert problem.endswith(" -> leave it out")


# --- messages


def bad_configs():
    """Pairs of lines of a text file: a configuration and what is said about it."""
    text = Path(__file__).with_name("data").joinpath("bad_configs.txt").read_text()
    lines = [line for line in text.splitlines() if line and line[0] != "#"]
    return list(zip(lines[::2], lines[1::2], strict=True))


@pytest.mark.parametrize(("text", "message"), bad_configs())
def test_one_bad_value_gives_one_line(text, message):
    assert problems(yaml.safe_load(text)) == [message]


def test_all_problems_are_listed_at_once():
    raw = {
        "threads": 0,
        "skymath": {},
        "skymatch": {"nclip": "x", "lower": 2, "upper": 1},
        "resample": {"kernel": "lanczos2", "pixfrac": 0.5, "fillval": "x"},
        "flux": 7,
        "associate": {"filters": ["F1", "F2"]},
    }
    with pytest.raises(ConfigError) as caught:
        config.load(raw, "my.yaml")
    lines = str(caught.value).splitlines()
    assert lines[0] == "my.yaml: 9 problems"
    starts = {line.removeprefix("  - ").split(":")[0] for line in lines[1:]}
    assert starts == {
        "threads",
        "skymath",
        "skymatch.nclip",
        "skymatch.lower",
        "resample.fillval",
        "resample.pixfrac",
        "flux",
        "associate.filters[0]",
        "associate.filters[1]",
    }


def test_a_wrong_key_does_not_conflict_with_others():
    assert problems({"resample": {"kernel": "lanczos9", "engine": "tiled", "pixfrac": 0.5}}) == [
        'resample.kernel: "lanczos9" is not allowed (did you mean lanczos3?); '
        "allowed: square, point, turbo, gaussian, lanczos2, lanczos3"
    ]


@pytest.mark.parametrize("raw", [[1], "exposures", 3])
def test_a_configuration_is_a_mapping(raw):
    assert problems(raw) == [f"{json.dumps(raw)} is no configuration; allowed: keys and values"]


def test_long_values_are_cut():
    (line,) = problems({"resample": {"kernel": "x" * 5000}})
    assert len(line) < 250


def test_import_is_light():
    code = "import sys, romosaic.config as c; c.load(None); print(*sys.modules)"
    source = os.fspath(FOLDER.parent / "scripts")
    run = [sys.executable, "-c", code]
    loaded = subprocess.run(
        run, env={"PYTHONPATH": source}, capture_output=True, text=True, check=True
    ).stdout.split()
    assert "pydantic" in loaded
    assert not {"numpy", "astropy", "asdf", "pandas", "yaml", "snakemake"} & set(loaded)


# --- files


def touch(base, *names):
    for name in names:
        path = Path(base, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def listed(base, *entries, key="exposures"):
    with chdir(base):
        return [str(path) for path in config.input_files({key: list(entries)}, key)]


def refused(base, *entries):
    with pytest.raises(ConfigError) as caught:
        listed(base, *entries)
    return caught.value.problems


@pytest.fixture
def tree(tmp_path):
    touch(
        tmp_path,
        "v1/b_cal.asdf",
        "v1/a_cal.asdf",
        "v1/a_uncal.asdf",
        "v1/a_truth.parquet",
        "v1/.c_cal.asdf",
        "v1/deep/d_cal.asdf",
        "e.asdf",
        "one_asn.json",
    )
    return tmp_path


@pytest.mark.parametrize(
    ("entries", "paths"),
    [
        ([], []),
        (["v1"], ["v1/a_cal.asdf", "v1/b_cal.asdf"]),
        (["v1/"], ["v1/a_cal.asdf", "v1/b_cal.asdf"]),
        (["v1/*_cal.asdf"], ["v1/a_cal.asdf", "v1/b_cal.asdf"]),
        (["v1/[ax]*"], ["v1/a_cal.asdf", "v1/a_uncal.asdf"]),
        (["v1/**/*_cal.asdf"], ["v1/a_cal.asdf", "v1/b_cal.asdf", "v1/deep/d_cal.asdf"]),
        (["e.asdf", "v1/deep"], ["e.asdf", "v1/deep/d_cal.asdf"]),
        (["v1/b_cal.asdf", "v1", "./v1/a_cal.asdf"], ["v1/a_cal.asdf", "v1/b_cal.asdf"]),
    ],
)
def test_globs_folders_and_files(tree, entries, paths):
    assert listed(tree, *entries) == paths


def test_paths_stay_as_given(tree, monkeypatch):
    absolute = str(tree / "v1/a_cal.asdf")
    assert listed(tree, absolute, "v1/b_cal.asdf") == [absolute, "v1/b_cal.asdf"]
    assert listed(tree, str(tree / "v1/deep/*")) == [str(tree / "v1/deep/d_cal.asdf")]
    assert listed(tree, absolute, "v1/a_cal.asdf") == [absolute]
    monkeypatch.chdir(tree)
    assert listed(".", "v1/deep") == ["v1/deep/d_cal.asdf"]
    monkeypatch.setenv("HOME", str(tree))
    assert listed("/", "~/e.asdf") == [str(tree / "e.asdf")]


@pytest.mark.parametrize("entry", ["lists/night.txt", "@lists/night.txt"])
def test_text_files_hold_entries_relative_to_themselves(tree, entry):
    touch(tree, "lists/f_cal.asdf")
    text = "\ufeff# the night\n\nf_cal.asdf  # the best\n../v1/*_cal.asdf\n  ../v1/deep\r\n"
    (tree / "lists/night.txt").write_text(text)
    assert listed(tree, entry) == [
        "lists/../v1/a_cal.asdf",
        "lists/../v1/b_cal.asdf",
        "lists/../v1/deep/d_cal.asdf",
        "lists/f_cal.asdf",
    ]


def test_text_file_of_any_name(tree):
    (tree / "night").write_text(f"{tree}/e.asdf\n")
    assert listed(tree, "@night") == [f"{tree}/e.asdf"]
    (tree / "night.lst").write_text("e.asdf\n")
    assert listed(tree, "night.lst") == ["e.asdf"]


def test_what_matches_nothing_is_named(tree):
    (tree / "list.txt").write_text("# two\nv1\nnone_cal.asdf\nmore.txt\n")
    touch(tree, "more.txt", "none.txt", "empty/x.asdf")
    (tree / "bytes.txt").write_bytes(b"\xff\xfe\x00\xd8")
    entries = ["no_cal.asdf", "no*.asdf", "v1/*.parquet", "e.fits", "empty", "list.txt", "none.txt"]
    touch(tree, "e.fits")
    assert refused(tree, *entries, "@gone", "bytes.txt") == [
        "exposures: 'no_cal.asdf': no such file or folder",
        "exposures: 'no*.asdf' matches nothing",
        "exposures: 'v1/*.parquet' matches 1 names, none of them a .asdf file",
        "exposures: 'e.fits' is no .asdf file",
        "exposures: 'empty': no *_cal.asdf in this folder -> give a glob such as **/*_cal.asdf",
        "exposures: 'list.txt', line 3: 'none_cal.asdf': no such file or folder",
        "exposures: 'list.txt', line 4: 'more.txt' is a list within a list -> name its files here",
        "exposures: 'none.txt': the list is empty",
        "exposures: '@gone': no such file or folder",
        "exposures: 'bytes.txt': cannot be read: is no text",
    ]


def test_two_files_of_one_exposure_are_refused(tree):
    touch(tree, "v2/a_cal.asdf", "v3/b.asdf")
    assert refused(tree, "v1", "v2", "v3/b.asdf") == [
        "exposures: v1/a_cal.asdf and v2/a_cal.asdf are two files with one name, a -> keep one of them",
        "exposures: v1/b_cal.asdf and v3/b.asdf are two files with one name, b -> keep one of them",
    ]


def test_one_file_by_two_ways_is_one_exposure(tree):
    (tree / "link").symlink_to("v1")
    assert listed(tree, "v1", "link") == ["link/a_cal.asdf", "link/b_cal.asdf"]


def test_a_file_literally_named_like_a_glob(tree):
    touch(tree, "v[1]/z_cal.asdf")
    assert listed(tree, "v[1]/z_cal.asdf") == ["v[1]/z_cal.asdf"]


@pytest.mark.parametrize("name", ["a b", "ä", "-a", "..", "a$(x)", "a{b}", ""])
def test_names_that_no_product_could_carry_are_refused(tmp_path, name):
    path = f"{name}_cal.asdf"
    touch(tmp_path, path)
    assert refused(tmp_path, path) == [
        f"exposures: {path}: the name {name!r} is not allowed; allowed: letters, digits and ._+-"
    ]


def test_associations(tree):
    assert listed(tree, "one_asn.json", key="associations") == ["one_asn.json"]
    assert listed(tree, str(tree), key="associations") == [str(tree / "one_asn.json")]
    with pytest.raises(ConfigError, match=r"associations: 'v1': no \*_asn.json in this folder"):
        listed(tree, "v1", key="associations")


def test_many_problems_are_cut(tmp_path):
    lines = refused(tmp_path, *[f"{number}_cal.asdf" for number in range(1000)])
    assert (len(lines), lines[-1]) == (101, "exposures: and 900 more problems")


def test_many_files_take_seconds(tmp_path):
    names = [f"r{number:07d}_cal.asdf" for number in range(20_000)]
    for name in names:
        os.close(os.open(tmp_path / name, os.O_CREAT))
    (tmp_path / "list.txt").write_text("\n".join(names))
    start = time.process_time()
    assert listed(tmp_path, "*_cal.asdf") == names
    assert len(listed(tmp_path, ".", "list.txt")) == len(names)
    assert time.process_time() - start < 10
