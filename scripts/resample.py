"""Rule `resample`: drizzle the members of a product onto its grid."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from romosaic.errors import reported

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with reported(snakemake.log[0]):
    from romosaic import association, exposure, mosaic_model, product, resample

    parameters = snakemake.params.parameters
    grid = association.read_grid(snakemake.input.association)
    members = [exposure.open_flux(path) for path in snakemake.input.members]
    sky = product.read_step(snakemake.input.skymatch)["members"]
    outliers = product.read_step(snakemake.input.outliers)
    coadd = resample.resample(
        members,
        [row["level"] for row in sky],
        [row["flagged"] for row in outliers["members"]],
        grid,
        parameters,
        snakemake.threads,
    )
    model = mosaic_model.mosaic_model(
        coadd,
        grid,
        members,
        association=json.loads(Path(snakemake.input.association).read_text()),
        sky=sky,
        outliers=outliers,
        parameters=parameters,
    )
    product.write_model(
        snakemake.output[0],
        model,
        product.provenance(parameters, [(m.name, m.fingerprint) for m in members]),
    )
