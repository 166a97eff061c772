"""Memory that jobs ask for: what was measured fits, and it grows only with what is held."""

import pytest
from romosaic.config import load
from romosaic.job_memory import RATES, SNAKEMAKE, job_memory, settings
from romosaic.plan_costs import STEPS, job_minutes

CELL = 5000 * 5000
DEFAULTS = settings(load({}))


def asked(step, members, pixels=CELL, **changed):
    return job_memory(step, members, pixels, **{**DEFAULTS, **changed})


def test_every_step_of_a_product_has_rates():
    # made on request and not planned: fits, hips
    assert set(RATES) == {*STEPS, "fits", "hips"}


# Largest resident sizes, MB, of tests/benchmarks/many_members.py and shared_steps.py with full-size exposures.
@pytest.mark.parametrize(
    ("step", "members", "measured"),
    [
        ("skymatch", 32, 64),
        ("outlier_detection", 8, 659),
        ("outlier_detection", 32, 1005),
        ("resample", 6, 1060),
        ("resample", 32, 1067),
        ("fits", 1, 338),
        ("hips", 2, 529),
    ],
)
def test_what_was_measured_fits(step, members, measured):
    assert 1.2 * measured + SNAKEMAKE < asked(step, members) < 4000


def test_options_of_resample_that_need_more():
    assert asked("resample", 6, flat=1) > 1164 and asked("resample", 6, library=1) > 1390
    chosen = settings(load({"resample": {"kernel": "gaussian", "include_var_flat": True}}))
    assert (chosen["library"], chosen["flat"]) == (1, 1)
    assert settings(load({"resample": {"engine": "drizzle"}}))["library"] == 1
    assert (DEFAULTS["library"], DEFAULTS["flat"]) == (0, 0)


@pytest.mark.parametrize("step", sorted(set(RATES) - {"hips"}))  # has processes for members
def test_many_members_ask_for_little_more(step):
    """300 members on one cell under 4 GB; what grows are the planes of the context and the headers."""
    assert asked(step, 300) < 4000
    grown = asked(step, 1200) - asked(step, 12)
    assert grown <= (5500 if step == "resample" else 1000)


def test_the_budget_of_the_bands_is_the_users():
    more = asked("outlier_detection", 6, budget_mb=1600) - asked("outlier_detection", 6)
    assert more == 1600 - DEFAULTS["budget_mb"]
    assert asked("resample", 6, budget_mb=1600) == asked("resample", 6)


@pytest.mark.parametrize("step", sorted(set(RATES) - {"skymatch"}))
def test_larger_grids_ask_for_more(step):
    image = 3 * CELL * 4 / 1e6  # what one float32 image grows by
    assert asked(step, 6, 4 * CELL) > asked(step, 6) + image


@pytest.mark.parametrize("step", STEPS)
def test_time_limits_follow_the_work(step):
    assert 10 < job_minutes(step, 2, CELL) <= 20
    assert job_minutes(step, 2, CELL) <= job_minutes(step, 300, CELL) < 24 * 60
    assert isinstance(job_minutes(step, 2, CELL), int)
