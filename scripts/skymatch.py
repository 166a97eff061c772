"""Rule `skymatch`: sky level of every member of a product."""

from typing import TYPE_CHECKING

from romosaic.errors import reported

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with reported(snakemake.log[0]):
    from romosaic import flux_file, product, skymatch

    parameters, levels = snakemake.params.parameters, snakemake.params.levels
    members = (flux_file.open_flux(path) for path in snakemake.input.members)
    match = skymatch.match_sky(members, parameters, levels)
    for line in match.report(parameters["skymethod"]):
        print(f"skymatch: {line}")
    inputs = zip(match.names, match.fingerprints, strict=True)
    tree = match.to_tree(parameters)
    # one configuration made them all
    before = product.steps_of("flux", flux_file.open_flux(snakemake.input.members[0]).provenance)
    tree["provenance"] = product.provenance(parameters, inputs, steps=before)
    product.write_step(snakemake.output[0], tree)
