"""Validation with schemas that stay: what asdf says of each tree, whatever was held against them before."""

import copy

import pytest
from romosaic.asdf_plugins import load_plugins, schema_error


@pytest.fixture(scope="module")
def file(survey):
    """(asdf file, tagged tree) of a simulated exposure."""
    load_plugins()
    import asdf

    path = survey.paths[survey.names[0]]
    with asdf.open(path, lazy_tree=True) as opened:
        yield opened, asdf.util.load_yaml(path, tagged=True)


DAMAGES = {
    "type": lambda roman: roman["meta"]["exposure"].update(exposure_time="long"),
    "missing": lambda roman: roman["meta"].pop("instrument"),
    "choice": lambda roman: roman["meta"]["instrument"].update(optical_element="F999"),
    "array": lambda roman: roman["data"].update(datatype="int8"),
    "deep": lambda roman: roman["meta"]["wcs"].pop("steps"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_the_first_error_is_that_of_asdf(file, kind):
    import asdf

    opened, tree = file
    assert schema_error(opened, tree) is None
    damaged = copy.deepcopy(tree)
    DAMAGES[kind](damaged["roman"])
    found = schema_error(opened, damaged)
    with pytest.raises(asdf.ValidationError) as error:
        asdf.schema.validate(damaged, ctx=opened, reading=True)
    assert str(found) == str(error.value)
    # Neither a good tree nor a bad one is remembered.
    assert schema_error(opened, tree) is None
    assert str(schema_error(opened, damaged)) == str(found)


def test_a_tree_in_the_place_of_another_is_looked_at(file):
    opened, tree = file
    for _ in range(20):
        damaged = copy.deepcopy(tree)
        damaged["roman"]["meta"]["exposure"]["exposure_time"] = "long"
        assert schema_error(opened, damaged) is not None
        del damaged
        assert schema_error(opened, copy.deepcopy(tree)) is None


def test_loader_and_garbage_are_left_as_they_were():
    import gc

    import yaml

    load_plugins.cache_clear()
    before = yaml.SafeLoader
    load_plugins()
    assert yaml.SafeLoader is before and before is not yaml.CSafeLoader
    assert gc.isenabled()
