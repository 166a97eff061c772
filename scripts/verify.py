"""Rule `verify`: check all files of the run, and say which ones to delete."""

from pathlib import Path
from typing import TYPE_CHECKING

from romosaic.errors import reported

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with reported(snakemake.log[0]):
    from romosaic import verify

    files = verify.wanted_files(
        Path(snakemake.output[0]).parents[1],
        snakemake.input.associations,
        snakemake.input.records,
        snakemake.params.steps,
        snakemake.params.colors,
    )
    table = verify.check_files(files, workers=snakemake.threads, **snakemake.params.parameters)
    verify.write_table(snakemake.output[0], table)
    verify.refuse_problems(table)
    print(f"verify: {len(table)} files are in order")
