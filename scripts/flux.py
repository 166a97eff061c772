"""Rule `flux`: calibrate one exposure and measure its sky."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from romosaic.errors import reported

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with reported(snakemake.log[0]):
    from romosaic import exposure, flux, flux_file, product

    raw, record = snakemake.input.exposure, json.loads(Path(snakemake.input.record).read_text())
    model, conversion = exposure.read_exposure(raw, record["fingerprint"])
    calibrated = flux.calibrate(
        exposure.arrays(model), conversion, where=raw, **snakemake.params.parameters
    )
    flux_file.write_flux(
        snakemake.output[0],
        model,
        calibrated,
        exposure.pixel_map(raw, model),
        record["exposure"],
        product.provenance(
            snakemake.params.parameters, [(record["exposure"], record["fingerprint"])]
        ),
    )
