"""
Memory that the jobs of a product ask for: a budget that the steps keep to, whatever the number of members.

Rates are those of resident memory, in which pages of mapped files count; measured with
``tests/benchmarks/many_members.py``, plus a quarter. They leave out `outlier_detection.memory_mb`, which that
step's bands follow, and Snakemake's own process, which a cluster counts as part of the job. Nothing heavy is
imported: rules ask at every start.
"""

from math import ceil

#: MB of a job: a constant and rates per member, per million pixels of the grid, the same times planes of the
#: context, and per million pixels of the largest window of a member, of which one is at work at a time.
RATES = {
    "skymatch": {"job": 200, "member": 0.6},
    "outlier_detection": {"job": 200, "member": 0.35, "grid": 5, "window": 12},
    "resample": {
        "job": 250,
        "member": 0.35,
        "grid": 20,
        "context": 4.2,
        "window": 28,
        "flat": 5,
        "library": 11,
    },
    "source_catalog": {"job": 220, "grid": 80},
    "preview": {"job": 170, "grid": 8, "member": 0.1},
    "qa": {"job": 165, "grid": 10, "member": 0.5},
    "fits": {"job": 140, "grid": 8},
    # its members are its processes
    "hips": {"job": 200, "grid": 9, "member": 150},
}
MARGIN = 1.25
SNAKEMAKE = 225
#: Members that share a plane of the context.
PER_PLANE = 32
#: Million pixels of a whole detector.
DETECTOR = 16.8


def settings(config: dict) -> dict[str, float]:
    """What of a configuration (see `config.load`) the memory of jobs depends on: see `job_memory`."""
    chosen = config["resample"]
    tiled = (
        chosen["kernel"] == "square" and chosen["pixfrac"] == 1 and chosen["engine"] != "drizzle"
    )
    return {
        "budget_mb": config["outlier_detection"]["memory_mb"],
        "flat": int(chosen["include_var_flat"]),
        "library": int(not tiled),
    }


def job_memory(
    step: str,
    members: int,
    pixels: int,
    *,
    budget_mb: float = 0,
    flat: int = 0,
    library: int = 0,
) -> int:
    """
    Memory that the job of a step of a product asks for, MB.

    Parameters
    ----------
    step : str
        One of `RATES`.
    members : int
        Exposures of the product.
    pixels : int
        Pixels of its grid.
    budget_mb : float, optional
        `outlier_detection.memory_mb`, which that step adds to what it needs besides.
    flat, library : int, optional
        1 where the variance of the flat is written, and where the drizzle library works; otherwise 0.
    """
    grid = pixels / 1e6
    # Turned by 45 degrees, a detector has twice the area of a grid of its own in a window, and four grid
    # pixels lie in one of its own.
    window = min(DETECTOR, grid / 2)
    work = {
        "job": 1,
        "member": members,
        "grid": grid,
        "context": grid * ceil(members / PER_PLANE),
        "window": window,
        "flat": flat * (grid + window),
        "library": library * (grid + 4 * window),
    }
    own = MARGIN * sum(rate * work[kind] for kind, rate in RATES[step].items())
    return ceil(SNAKEMAKE + own + (budget_mb if step == "outlier_detection" else 0))


def catalog_memory(rows: int) -> int:
    """Memory that a job of `catalog` or `hats` asks for, MB, by the rows that it holds at a time."""
    return ceil(SNAKEMAKE + MARGIN * (400 + 0.0015 * rows))
