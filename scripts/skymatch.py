"""Rule `skymatch`: sky level of every member of a product."""

from typing import TYPE_CHECKING

from romosaic.errors import reported

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with reported(snakemake.log[0]):
    from itertools import chain

    from romosaic import flux_file, product, skymatch

    parameters, levels = snakemake.params.parameters, snakemake.params.levels
    first, *paths = snakemake.input.members
    first = flux_file.open_flux(first)
    members = chain([first], map(flux_file.open_flux, paths))
    match = skymatch.match_sky(members, parameters, levels)
    for line in match.report(parameters["skymethod"]):
        print(f"skymatch: {line}")
    inputs = zip(match.names, match.fingerprints, strict=True)
    tree = match.to_tree(parameters)
    before = product.steps_of("flux", first.provenance)  # one configuration made them all
    tree["provenance"] = product.provenance(parameters, inputs, steps=before)
    product.write_step(snakemake.output[0], tree)
