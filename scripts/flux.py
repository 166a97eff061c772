"""Rule `flux`: calibrate one exposure and measure its sky."""

from typing import TYPE_CHECKING

from romosaic.errors import reported

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with reported(snakemake.log[0]):
    from romosaic import association_file, exposure, flux, flux_file, product

    raw, record = snakemake.input.exposure, association_file.read(snakemake.input.record)
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
