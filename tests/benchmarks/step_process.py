"""
A rule's script in a process of its own, as Snakemake starts it: after the imports of its preamble.

    PYTHONPATH=scripts .venv/bin/python tests/benchmarks/step_process.py <step> <job as JSON>

See `many_members`, which writes the job.
"""

import json
import resource
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import snakemake.iocontainers
import snakemake.logging  # noqa: F401

SCRIPTS = Path(__file__).parent.parent.parent / "scripts"
OPEN_FILES = 256  # a low limit of today's systems


class Named(list):
    """Values of a job, by number and by name."""

    def __init__(self, **values: Any) -> None:
        super().__init__(values.values())
        self.__dict__.update(values)

    def get(self, name: str) -> Any:
        """Value of a name, or None."""
        return self.__dict__.get(name)


def main(step: str, job: dict) -> None:
    """Run the script of a step on a job."""
    sys.path.insert(0, str(SCRIPTS))
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    parts = {k: Named(**v) for k, v in job.items() if isinstance(v, dict)}
    job = SimpleNamespace(**{**job, **parts})
    runpy.run_path(str(SCRIPTS / f"{step}.py"), init_globals={"snakemake": job})


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
