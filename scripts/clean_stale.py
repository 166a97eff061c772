"""Rule `clean_stale`: list what no association wants any more; remove it when told to."""

from pathlib import Path
from typing import TYPE_CHECKING

from romosaic.errors import reported

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with reported(snakemake.log[0]):
    from romosaic import clean_stale, product_index, result_files

    folder = Path(snakemake.output[0]).parents[1]
    products = product_index.read(folder / "associate")
    exposures = [Path(path).stem for path in snakemake.input.records]
    wanted = result_files.names(products, exposures, snakemake.params.colors)
    found = clean_stale.stale_files(folder, wanted, snakemake.input.kept)
    remove = snakemake.params.parameters["remove"]
    if remove:
        clean_stale.remove_files(found.files)
    clean_stale.write_table(snakemake.output[0], found.files, remove)
    for line in found.report(remove):
        print(f"clean_stale: {line}")
