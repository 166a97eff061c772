"""
What the steps cost: CPU time and disk, linear in the work of a job.

Measured on simulated exposures of 4088 x 4088 pixels and on small ones: ``make demo CORES=1``, and the same on
exposures of 256 x 256 pixels; skycells of 5000 x 5000 pixels with 1, 3, 4, 6 and 18 members; default
parameters; two cores of an AMD EPYC. CPU time is user and system time of a job, start-up included. Other
kernels, deblending and crowded fields take longer. ``python tests/benchmarks/plan_costs.py results/demo`` sets
the jobs of a run beside this table. Memory: see `job_memory`; that of `flux` is its largest resident size.
"""

from math import ceil

from .job_memory import DETECTOR, job_memory

#: Cost of a job: a constant and rates per member, per million detector pixels of the members within the grid
#: (window), per million covered pixels of the grid, and per million of its pixels.
STEPS = {
    "skymatch": {
        "cpu_s": {"job": 0.4, "member": 0.04},
        "disk_mb": {"job": 0.004},
    },
    "outlier_detection": {
        "cpu_s": {"job": 0.65, "window": 0.09},
        "disk_mb": {"window": 0.012},
    },
    "resample": {
        "cpu_s": {"job": 1.9, "grid": 0.03, "covered": 0.155, "window": 0.18},
        "disk_mb": {"grid": 0.095, "covered": 19.9},
    },
    "source_catalog": {
        "cpu_s": {"job": 3, "grid": 0.1, "covered": 0.23},
        "disk_mb": {"grid": 0.02, "covered": 0.03},
    },
    "preview": {
        "cpu_s": {"job": 2.4, "grid": 0.025, "covered": 0.015},
        "disk_mb": {"job": 1, "grid": 0.36, "covered": 0.09},
    },
    "qa": {
        "cpu_s": {"job": 0.6, "grid": 0.03, "covered": 0.01, "member": 0.08},
        "disk_mb": {"job": 0.01},
    },
}
#: Cost of step `flux`, per exposure: a constant and a rate per million detector pixels.
FLUX = {
    "cpu_s": {"job": 0.4, "detector": 0.13},
    "memory_mb": {"job": 50, "detector": 19},
    "disk_mb": {"job": 0.02, "detector": 12.1},
}


def cost(rates: dict[str, float], work: dict[str, float]) -> float:
    """Cost of a job from rates (see `STEPS`) and the work that they apply to."""
    return sum(rate * work[kind] for kind, rate in rates.items())


def product_work(members: int, window: float, covered: float, grid: float) -> dict[str, float]:
    """
    Work of the jobs of a product.

    Parameters
    ----------
    members : int
        Number of exposures.
    window : float
        Detector pixels of all members that lie on the grid.
    covered, grid : float
        Pixels of the grid that are covered, and all.
    """
    millions = {"window": window / 1e6, "covered": covered / 1e6, "grid": grid / 1e6}
    return {"job": 1, "member": members, **millions}


def step_costs(work: dict[str, float]) -> dict[str, dict[str, float]]:
    """cpu_s and disk_mb by step, of a product of some work (see `product_work`)."""
    return {
        step: {kind: cost(rates, work) for kind, rates in kinds.items()}
        for step, kinds in STEPS.items()
    }


def product_memory(work: dict[str, float], settings: dict[str, float]) -> dict[str, int]:
    """MB that a product's jobs ask for, by step; `settings` as of `job_memory.settings`."""
    pixels = round(work["grid"] * 1e6)
    return {step: job_memory(step, work["member"], pixels, **settings) for step in STEPS}


def job_minutes(step: str, members: int, pixels: int) -> int:
    """
    Time limit that the job of a step of a product asks for, minutes.

    Ten minutes and ten times what the step costs with every member whole on the grid: kernels other than the
    default, deblending, slow disks and busy nodes are in the ten.

    Parameters
    ----------
    step : str
        One of `STEPS`.
    members : int
        Exposures of the product.
    pixels : int
        Pixels of its grid.
    """
    # four grid pixels lie in one of a detector
    window = members * min(DETECTOR * 1e6, pixels / 4)
    work = product_work(members, window, covered=pixels, grid=pixels)
    return 10 + ceil(10 * cost(STEPS[step]["cpu_s"], work) / 60)


def product_costs(work: dict[str, float], settings: dict[str, float]) -> dict[str, float]:
    """disk_mb and cpu_s of all steps, and memory_mb that the largest asks for (see `product_memory`)."""
    steps = step_costs(work).values()
    return {
        "disk_mb": sum(step["disk_mb"] for step in steps),
        "memory_mb": max(product_memory(work, settings).values()),
        "cpu_s": sum(step["cpu_s"] for step in steps),
    }


def exposure_costs(pixels: float) -> dict[str, float]:
    """cpu_s, memory_mb and disk_mb of step `flux` of an exposure of a number of pixels."""
    work = {"job": 1, "detector": pixels / 1e6}
    return {kind: cost(rates, work) for kind, rates in FLUX.items()}
