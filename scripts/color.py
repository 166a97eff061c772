"""Rule `color`: a colour picture of a skycell."""

from typing import TYPE_CHECKING

from romosaic.errors import reported

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with reported(snakemake.log[0]):
    from romosaic import color
    from romosaic.atomic import atomic
    from romosaic.small_image import SmallImage

    bands: dict[str, list] = {}
    for path in snakemake.input.small:
        image = SmallImage.read(path)
        bands.setdefault(image.optical_element, []).append(image)
    cell, parameters = snakemake.wildcards.cell, snakemake.params.parameters
    with atomic(snakemake.output.picture) as picture, atomic(snakemake.output.thumbnail) as small:
        chosen = color.draw((picture, small), bands, cell, **parameters)
    print(f"color: {cell} red, green, blue = {', '.join(chosen)}")
