"""Rule `skymatch`: sky level of every member of a product."""

from typing import TYPE_CHECKING

from romosaic.errors import reported

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with reported(snakemake.log[0]):
    from romosaic import flux_file, product, skymatch

    parameters = snakemake.params.parameters
    members = [flux_file.open_flux(path) for path in snakemake.input.members]
    match = skymatch.match_sky(members, parameters)
    rows = []
    columns = zip(members, match.level, match.status, match.group, strict=True)
    for member, level, status, group in columns:
        row = {"exposure": member.name, "level": level, "status": status, "group": group}
        rows.append(row)
        print(f"skymatch: {member.name} {level:.5f} MJy/sr {status}")
    provenance = product.provenance(parameters, [(m.name, m.fingerprint) for m in members])
    tree = {"members": rows, "pairs": match.pairs, "provenance": provenance}
    product.write_step(snakemake.output[0], tree)
