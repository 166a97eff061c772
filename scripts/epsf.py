"""Rule `epsf`: measure the point-spread function on the coadds of a filter."""

from typing import TYPE_CHECKING

from romosaic.errors import reported

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with reported(snakemake.log[0]):
    from romosaic import catalog_files, epsf, product

    section = snakemake.params.parameters
    coadds = (catalog_files.read_coadd(path) for path in snakemake.input.coadds)
    found = epsf.measure_epsf(coadds, section, snakemake.params.detection)
    parameters = {**section, "detection": snakemake.params.detection}
    found["provenance"] = product.provenance(parameters, found.pop("inputs"))
    product.write_step(snakemake.output[0], found)
    print(
        f"epsf: {found['stars']} stars of {found['coadds']} coadds, {section['min_stars']} wanted"
    )
    if found["left_out"]:
        print(f"epsf: {found['left_out']} coadds left out: drizzled otherwise")
