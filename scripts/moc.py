"""Rules `moc`: the part of the sky that the coadds of a filter cover; that of all filters."""

from typing import TYPE_CHECKING

from romosaic.errors import reported

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with reported(snakemake.log[0]):
    from romosaic import coadd_file, moc

    made = snakemake.output[0]
    if snakemake.rule == "moc":
        ranges, order = moc.join([moc.read(path) for path in snakemake.input.filters])
    else:
        order = snakemake.params.parameters["order"]
        coadds = (coadd_file.open_coadd(path) for path in snakemake.input.coadds)
        ranges = moc.union(moc.covered(c.image("weight"), c.grid, order) for c in coadds)
    moc.write(made, ranges, order)
    print(f"moc: {moc.square_degrees(ranges, order):.6f} square degrees in {made}")
