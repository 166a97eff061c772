"""Rule `simulate`: one simulated exposure with its truth, or the catalog of what the sky holds."""

from typing import TYPE_CHECKING

from romosaic.errors import reported

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with reported(snakemake.log[0]):
    from romosaic import simulate

    if snakemake.wildcards.get("exposure") is None:
        simulate.write_scene(snakemake.params.parameters, snakemake.output.scene)
    else:
        name = snakemake.wildcards.exposure
        simulate.simulate_one(snakemake.params.parameters, name, snakemake.output.exposure)
