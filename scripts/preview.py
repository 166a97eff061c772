"""Rule `preview`: a picture of a product."""

from pathlib import Path
from typing import TYPE_CHECKING

from romosaic.errors import reported

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with reported(snakemake.log[0]):
    import pandas as pd
    from romosaic import association, catalog_files, preview
    from romosaic.atomic import atomic

    grid = association.read_grid(snakemake.input.association)
    footprints = association.read_footprints(snakemake.input.records)
    columns = ["x_centroid", "y_centroid", "image_flags"]
    x, y, flags = pd.read_parquet(snakemake.input.catalog, columns=columns).to_numpy().T
    with atomic(snakemake.output[0]) as temporary:
        preview.draw(
            temporary,
            catalog_files.read_coadd(snakemake.input.coadd).data,
            grid,
            title=Path(snakemake.output[0]).stem,
            **{"x": x, "y": y, "shallow": flags.astype(int) & 4 > 0},
            footprints=footprints,
            cells=association.cells_around(grid, footprints, snakemake.params.reference_file),
            **snakemake.params.parameters,
        )
