"""Rule `source_catalog`: detect and measure the sources of a coadd."""

from typing import TYPE_CHECKING

from romosaic.errors import reported

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with reported(snakemake.log[0]):
    from romosaic import catalog_files, catalog_references, product, skymap, source_catalog

    options = dict(snakemake.params.parameters)
    epsf_file, apcorr_file = options.pop("epsf_file"), options.pop("apcorr_file")
    parameters = source_catalog.Parameters(**options)
    coadd = catalog_files.read_coadd(snakemake.input.coadd)
    element = coadd.optical_element
    sky = skymap.read_skymap(snakemake.params.reference_file)
    table, segmentation = source_catalog.make_catalog(
        coadd.data,
        coadd.err,
        coadd.weight,
        coadd.grid,
        parameters,
        psf=catalog_references.choose_psf(
            element,
            coadd.grid.pixel_scale * 3600,
            epsf_file,
            pixfrac=coadd.pixfrac,
            kernel=coadd.kernel,
        ),
        energy=catalog_references.read_apcorr(apcorr_file, element) if apcorr_file else None,
        cell=sky.cell(coadd.grid.skycell) if coadd.grid.skycell else None,
    )
    catalog_files.write_catalog(
        snakemake.output.catalog,
        snakemake.output.parquet,
        snakemake.output.segmentation,
        table,
        segmentation,
        coadd.meta,
        product.provenance(snakemake.params.parameters, coadd.inputs),
    )
    print(f"source_catalog: {len(table)} sources")
