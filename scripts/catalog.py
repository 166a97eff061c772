"""Rule `catalog`: one catalog of all products of a filter."""

from typing import TYPE_CHECKING

from romosaic.errors import reported

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with reported(snakemake.log[0]):
    from romosaic import catalog

    catalogs = snakemake.input.catalogs
    count = catalog.merge(
        catalogs,
        snakemake.output[0],
        **snakemake.params.parameters,
    )
    print(f"catalog: {count} sources of {len(catalogs)} products")
