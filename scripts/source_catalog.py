"""Rule `source_catalog`: detect and measure the sources of a coadd."""

from typing import TYPE_CHECKING

from romosaic.errors import reported

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with reported(snakemake.log[0]):
    from romosaic import catalog_files, catalog_references, product, skymap, source_catalog
    from romosaic.forcing import read_forcing

    section, by = snakemake.params.parameters, snakemake.params.forced_by
    coadd = catalog_files.read_coadd(snakemake.input.coadd)
    psf, energy = catalog_references.point_source(coadd, section, snakemake.input.epsf)
    sky = skymap.read_skymap(snakemake.params.reference_file)
    forcing = read_forcing(by, snakemake.input.forcing) if by else None
    table, segmentation = source_catalog.make_catalog(
        *(coadd.data, coadd.err, coadd.weight, coadd.grid, section),
        **{"psf": psf, "energy": energy, "optical_element": coadd.optical_element},
        correlation=coadd.correlation,
        cell=sky.cell(coadd.grid.skycell) if coadd.grid.skycell else None,
        forcing=forcing,
    )
    provenance = product.provenance(section, coadd.inputs, coadd.excluded, coadd.steps)
    catalog_files.write_catalog(
        *(*snakemake.output, table, segmentation, coadd.meta, provenance, forcing)
    )
    print(f"source_catalog: {len(table)} sources{forcing or ''}")
