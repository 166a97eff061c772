"""Rules `fits`: a coadd as a FITS file; a table of all of them."""

from pathlib import Path
from typing import TYPE_CHECKING

from romosaic.errors import reported

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with reported(snakemake.log[0]):
    from romosaic import atomic, coadd_file, fits, fits_file, product_index

    files, made = snakemake.input, snakemake.output[0]
    if snakemake.rule == "fits":
        names = {Path(path).name.removesuffix("_coadd.fits"): path for path in files.products}
        products = product_index.read(Path(made).parents[1] / "associate")
        atomic.write_text(made, fits.index(names, products))
        ending = "" if len(names) == 1 else "s"
        print(f"fits: {len(names)} file{ending} in {Path(made).parent}")
    else:
        coadd = coadd_file.open_coadd(files.coadd)
        images = fits.images(coadd, snakemake.params.parameters["planes"])
        tables = {"MEMBERS": fits.members_table(coadd)}
        fits_file.write_fits(made, coadd.grid, fits.coadd_cards(coadd), images, tables)
