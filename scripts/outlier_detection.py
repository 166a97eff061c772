"""Rule `outlier_detection`: pixels that disagree with the other members of a product."""

from typing import TYPE_CHECKING

from romosaic.errors import reported

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with reported(snakemake.log[0]):
    from romosaic import association, exposure, outlier_detection, product

    parameters = snakemake.params.parameters
    members = [exposure.open_flux(path) for path in snakemake.input.members]
    levels = [row["level"] for row in product.read_step(snakemake.input.skymatch)["members"]]
    flags = outlier_detection.detect_outliers(
        members,
        levels,
        association.read_grid(snakemake.input.association),
        parameters,
        snakemake.threads,
    )
    tree = {
        "status": outlier_detection.status(len(members)),
        "members": [
            {"exposure": member.name, "shape": list(member.shape), "flagged": flagged, "why": why}
            for member, (flagged, why) in zip(members, flags, strict=True)
        ],
        "provenance": product.provenance(parameters, [(m.name, m.fingerprint) for m in members]),
    }
    product.write_step(snakemake.output[0], tree)
    for row in tree["members"]:
        print(f"outlier_detection: {row['exposure']} {row['flagged'].size} pixels flagged")
