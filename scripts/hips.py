"""Rules `hips`: the coadds of a filter as tiles for sky browsers; a table of those of all filters."""

from typing import TYPE_CHECKING

from romosaic.errors import reported

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with reported(snakemake.log[0]):
    from romosaic import atomic, hips

    files, made = snakemake.input, snakemake.output[0]
    if snakemake.rule == "hips":
        atomic.write_text(made, hips.index(files.filters))
        print(f"hips: folders for Aladin: {', '.join(files.filters)}")
    else:
        parameters, workers = snakemake.params.parameters, snakemake.threads
        tiles = hips.make(made, files.coadds, files.moc, workers=workers, **parameters)
        print(
            f"hips: {sum(tiles.values())} tiles in {made}, {tiles.get(parameters['order'], 0)} of the finest"
        )
