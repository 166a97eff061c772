"""Rule `plan`: what the run will make and what it will cost, as a table and as a picture of the sky."""

from pathlib import Path
from typing import TYPE_CHECKING

from romosaic.errors import reported

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with reported(snakemake.log[0]):
    from romosaic import plan, plan_picture, plan_text
    from romosaic.atomic import atomic

    files, parameters = snakemake.input, snakemake.params.parameters
    products, exposures = plan.read(files.associations, files.records)
    table = plan.make_table(products, exposures, **parameters)
    with atomic(snakemake.output.table) as temporary:
        table.to_csv(temporary, sep="\t", index=False)
    with atomic(snakemake.output.picture) as temporary:
        tiles, footprints = plan_picture.contents(products, table, exposures)
        plan_picture.draw(temporary, tiles, footprints, plan_text.headline(table, exposures))
    folder = Path(snakemake.output.table).parent
    print(plan_text.report(table, exposures, plan.read_quarantine(files.quarantine), folder))
