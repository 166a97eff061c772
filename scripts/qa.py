"""Rule `qa`: measures of a product, or the table of all products with grades and seams."""

import json
from typing import TYPE_CHECKING

from romosaic.errors import reported

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with reported(snakemake.log[0]):
    from romosaic import association_file, coadd_file, flux_file, product, qa, qa_report
    from romosaic.atomic import write_text
    from romosaic.catalog_table import read_columns

    files, made, params = snakemake.input, snakemake.output, snakemake.params
    if snakemake.wildcards.get("product") is None:
        print(*qa_report.write(files, made, params.parameters, params.benchmarks), sep="\n")
    else:
        coadd, members = coadd_file.open_coadd(files.coadd), map(flux_file.open_flux, files.members)
        steps = [product.read_step(path) for path in (files.skymatch, files.outliers)]
        columns = read_columns(files.catalog, qa.COLUMNS)
        grid = association_file.read_grid(files.association)
        segmentation = coadd_file.read_segmentation(files.segmentation)
        found = qa.measure(coadd, *steps, columns, segmentation, list(members), grid)
        found["provenance"] = product.provenance({}, coadd.inputs, steps=coadd.steps)
        write_text(made[0], json.dumps({"product": snakemake.wildcards.product, **found}, indent=1))
