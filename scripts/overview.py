"""Rule `overview`: all products of a filter on one picture of the sky."""

from typing import TYPE_CHECKING

from romosaic.errors import reported

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with reported(snakemake.log[0]):
    from romosaic import overview
    from romosaic.atomic import atomic

    images, element = snakemake.input.small, snakemake.wildcards.filter.upper()
    title = f"{element}: {len(images)} product{'' if len(images) == 1 else 's'}"
    with atomic(snakemake.output[0]) as temporary:
        overview.draw(temporary, images, title, **snakemake.params.parameters)
    print(f"overview: {title}")
