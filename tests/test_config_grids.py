"""Keys of output grids: what is allowed alone, and what together."""

import re

import pytest
from romosaic.config import load
from romosaic.config_grids import output_wcs_files
from test_config import problems


def test_an_output_wcs_leaves_nothing_to_choose_but_the_size():
    options = {"rotation": 0, "crpix": [1, 2], "crval": "10 20", "pixel_scale_ratio": 1}
    given = {"output_wcs": "grid.asdf", "output_shape": [30, 20]}
    assert load({"resample": given})["resample"]["output_shape"] == [30, 20]
    assert problems({"resample": given | options}) == [
        f"resample.{name}: {value} is not allowed with output_wcs, which sets it"
        for name, value in [
            ("crpix", "[1.0, 2.0]"),
            ("crval", "[10.0, 20.0]"),
            ("rotation", "0.0"),
            ("pixel_scale_ratio", "1.0"),
        ]
    ]


@pytest.mark.parametrize(
    "name, value",
    [
        ("output_shape", [0, 5]),
        ("output_shape", [5, 100_001]),
        ("output_shape", [5]),
        ("output_shape", [5.5, 5]),
        ("crpix", [1, "x"]),
        ("crpix", 3),
        ("crval", [10, 90.5]),
        ("crval", [360, 0]),
        ("rotation", 361),
        ("pixel_scale_ratio", 0),
        ("pixel_scale", 61),
    ],
)
def test_impossible_grids_are_refused(name, value):
    (line,) = problems({"resample": {name: value}})
    assert re.match(rf"resample\.{name}(\[\d\])?: .* is not allowed; allowed: ", line)


def test_files_of_output_grids_are_those_of_all_sections():
    grids = [None, {"output_wcs": "b.asdf"}, {"rotation": 3}, {"output_wcs": "a.asdf"}]
    products = [{"name": f"m{n}", "members": "x", "grid": grid} for n, grid in enumerate(grids)]
    config = {"associate": {"products": products}, "resample": {"output_wcs": "a.asdf"}}
    assert output_wcs_files(load(config)) == ["a.asdf", "b.asdf"]
    assert output_wcs_files(load({})) == []
