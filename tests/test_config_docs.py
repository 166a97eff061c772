"""The documents of the configuration are those of its models."""

import itertools
import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from romosaic import config, config_docs
from romosaic.errors import ConfigError

FOLDER = Path(__file__).parents[1] / "config"


def read(name):
    return yaml.safe_load((FOLDER / name).read_text())


@pytest.mark.parametrize("name", ["config.yaml", "config.schema.json", "README.md"])
def test_documents_are_those_of_the_models(name):
    made = config_docs.render((FOLDER / "README.md").read_text())[name]
    assert (FOLDER / name).read_text() == made, "run `make config`"


def test_config_file_spells_out_every_default():
    given = read("config.yaml")
    assert given == config.load(None)
    assert list(given) == list(config.load(None))


def test_every_key_has_a_comment_above_it():
    lines = (FOLDER / "config.yaml").read_text().splitlines()
    for above, line in itertools.pairwise(lines):
        if line and not line.lstrip().startswith("#"):
            assert above.lstrip().startswith("#"), line


def test_sections_follow_the_pipeline():
    steps = "skymap simulate associate plan flux skymatch outlier_detection resample "
    steps += "epsf source_catalog catalog preview color overview qa fits moc hips hats verify clean_stale"
    assert list(config.sections()) == steps.split()


def test_schema_accepts_the_config_files_and_refuses_what_load_refuses():
    schema = json.loads((FOLDER / "config.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    for name in ("config.yaml", "demo.yaml"):
        jsonschema.validate(read(name), schema)
    for bad in (
        {"skymatch": {"nclipp": 1}},
        {"resample": {"kernel": "round"}},
        {"resample": {"pixfrac": 0}},
        {"associate": {"region": {"ra": 360, "dec": 0, "radius": 1}}},
        {"threads": "many"},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, schema)


def test_lost_markers_are_noticed():
    with pytest.raises(ValueError, match="markers"):
        config_docs.render("# Configuration\n")


def test_readme_shows_the_real_messages():
    raw = {
        "outlier_detection": {"snr": [4, 5]},
        "flux": {"nclip": 3},
        "resample": {"kernel": "sqare"},
    }
    with pytest.raises(ConfigError) as caught:
        config.load(raw, "my.yaml")
    shown = (FOLDER / "README.md").read_text()
    for line in str(caught.value).splitlines():
        assert line in shown


def test_readme_shows_a_valid_file():
    text = (FOLDER / "README.md").read_text()
    raw = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    loaded = config.load(raw)
    assert len(loaded["exposures"]) == 3
    assert loaded["associate"]["filters"] == ["F129", "F158"]
