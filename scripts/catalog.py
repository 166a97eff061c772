"""Rule `catalog`: one catalog of all products of a filter in a projection region."""

from typing import TYPE_CHECKING

from romosaic.errors import reported

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with reported(snakemake.log[0]):
    from romosaic import catalog

    catalogs, made = snakemake.input.catalogs, snakemake.output[0]
    count = catalog.merge(catalogs, made, **snakemake.params.parameters)
    print(f"catalog: {count} sources of {len(catalogs)} products")
