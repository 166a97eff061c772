"""Rule `associate`: group exposures by skycell from their headers."""

from typing import TYPE_CHECKING

from romosaic.errors import reported

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with reported(snakemake.log[0]):
    from romosaic.associate import associate

    n_exposures, n_products, notes = associate(
        snakemake.output[0],
        snakemake.params.own,
        snakemake.input.associations,
        snakemake.params.parameters,
        reference_file=snakemake.params.reference_file,
        pixel_scale=snakemake.params.pixel_scale,
        rotation=snakemake.params.rotation,
        workers=snakemake.threads,
    )
    for note in notes:
        print(f"warning: {note}")
    print(f"associate: {n_exposures} exposures make {n_products} products")
