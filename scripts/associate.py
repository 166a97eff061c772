"""Rule `associate`: group exposures by skycell from their headers."""

from typing import TYPE_CHECKING

from romosaic.errors import reported

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with reported(snakemake.log[0]):
    from romosaic.associate import associate

    done = associate(
        snakemake.output[0],
        snakemake.params.own,
        snakemake.input.associations,
        snakemake.params.parameters,
        reference_file=snakemake.params.reference_file,
        grids=snakemake.params.grids,
        max_unusable_fraction=snakemake.params.max_unusable_fraction,
        workers=snakemake.threads,
    )
    for note in done.notes:
        print(f"warning: {note}")
    print(f"associate: {done.read} headers read, those of new or changed exposures")
    print(f"associate: {done.exposures} exposures, {done.products} products")
