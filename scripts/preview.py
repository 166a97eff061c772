"""Rule `preview`: pictures of a product, and its small image."""

from typing import TYPE_CHECKING

from romosaic.errors import reported

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with reported(snakemake.log[0]):
    from romosaic import association, association_file, coadd_file, preview, preview_planes, product
    from romosaic.atomic import atomic
    from romosaic.catalog_table import read_columns

    files, made, name = snakemake.input, snakemake.output, snakemake.wildcards.product
    parameters, skymap = snakemake.params.parameters, snakemake.params.reference_file
    coadd, grid = coadd_file.open_coadd(files.coadd), association_file.read_grid(files.association)
    data = coadd.image("data")
    small = preview.small_image(coadd, data, grid)
    x, y, flags = read_columns(files.catalog, ["x_centroid", "y_centroid", "image_flags"]).values()
    footprints = association_file.read_footprints(files.records)
    show = {"x": x, "y": y, "shallow": flags & 4 > 0, "footprints": footprints, **parameters}
    show["cells"] = association.cells_around(grid, footprints, skymap)
    with atomic(made.coadd) as path:
        preview.draw(path, data, grid, title=name, small=small, **show)
    planes = preview.planes(coadd, small, product.read_step(files.outliers), files.records)
    with atomic(made.planes) as path, atomic(made.thumbnail) as thumbnail:
        preview_planes.draw_planes(path, planes, name, **parameters)
        preview_planes.draw_thumbnail(thumbnail, planes, name)
    small.write(made.small, product.provenance(parameters, coadd.inputs, steps=coadd.steps))
