"""Rule `clean_stale`: list the files that no association wants any more; remove them when told to."""

from pathlib import Path
from typing import TYPE_CHECKING

from romosaic.errors import reported

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with reported(snakemake.log[0]):
    from romosaic import clean_stale

    found = clean_stale.stale_files(
        Path(snakemake.output[0]).parents[1],
        snakemake.input.associations,
        snakemake.input.records,
        snakemake.input.kept,
    )
    remove = snakemake.params.parameters["remove"]
    if remove:
        clean_stale.remove_files(found.files)
    clean_stale.write_table(snakemake.output[0], found.files, remove)
    for line in found.report(remove):
        print(f"clean_stale: {line}")
