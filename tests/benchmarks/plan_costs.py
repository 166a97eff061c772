"""
Set the jobs of a run beside what `romosaic.plan_costs` says of them.

    make demo CORES=1
    PYTHONPATH=scripts .venv/bin/python tests/benchmarks/plan_costs.py results/demo

Per step: seconds, largest resident size and bytes on disk, each the mean over its jobs, measured and planned;
of memory, what the jobs ask for.
The seconds are those of a clock: right for CPU time when nothing else runs.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from romosaic import job_memory, plan, plan_costs
from romosaic.config import load


def measured(results: Path, step: str, name: str) -> list[float]:
    """cpu_s, memory_mb and disk_mb of a job."""
    benchmark = pd.read_csv(results / f"benchmarks/{step}/{name}.tsv", sep="\t").iloc[0]
    files = (results / step).glob(f"{name}_*")
    return [benchmark["s"], benchmark["max_rss"], sum(f.stat().st_size for f in files) / 1e6]


def main(results: Path) -> None:
    """Print the table of a run."""
    folder = results / "associate"
    paths = sorted(folder.glob("associations/*.json")), sorted(folder.glob("exposures/*.json"))
    products, exposures = plan.read(*paths)
    rows = {step: [] for step in ("flux", *plan_costs.STEPS)}
    for name, record in exposures.items():
        planned = plan_costs.exposure_costs(np.prod(record["shape"]))
        rows["flux"].append((measured(results, "flux", name), planned))
    for product in products:
        _, work = plan.areas_and_work(product.grid, [exposures[name] for name in product.members])
        memory = plan_costs.product_memory(work, job_memory.settings(load({})))
        for step, planned in plan_costs.step_costs(work).items():
            told = planned | {"memory_mb": memory[step]}
            rows[step].append((measured(results, step, product.name), told))
    print(f"{'':20}{'seconds':>16}{'memory, MB':>18}{'disk, MB':>18}")
    for step, jobs in rows.items():
        real = np.mean([job[0] for job in jobs], axis=0)
        told = [np.mean([job[1][key] for job in jobs]) for key in ("cpu_s", "memory_mb", "disk_mb")]
        print(f"{step:20}" + "".join(f"{a:9.2f} {b:8.2f}" for a, b in zip(real, told, strict=True)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
