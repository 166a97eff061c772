"""Rules `hats`: the catalogs of a filter in the HATS layout; a table of those of all filters."""

from typing import TYPE_CHECKING

from romosaic.errors import reported

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with reported(snakemake.log[0]):
    from romosaic import atomic, hats

    files, made = snakemake.input, snakemake.output[0]
    if snakemake.rule == "hats":
        atomic.write_text(made, hats.index(files.filters))
        print(f"hats: folders for LSDB: {', '.join(files.filters)}")
    else:
        parts = hats.make(made, files.catalogs, **snakemake.params.parameters)
        print(f"hats: {made}, partitions: {parts}")
