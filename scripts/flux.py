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
    raw_file = exposure.read_exposure(raw, record["fingerprint"])
    parameters, name = snakemake.params.parameters, record["exposure"]
    calibrated = flux.calibrate(
        raw_file.arrays, raw_file.conversion, where=raw, in_place=True, **parameters
    )
    flux_file.write_flux(
        snakemake.output[0],
        raw_file.blocks,
        calibrated,
        exposure.pixel_map(raw, record),
        name,
        product.provenance(parameters, [(name, record["fingerprint"])]),
    )
    print(f"flux: {name} {calibrated.summary()}")
