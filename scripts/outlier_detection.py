"""Rule `outlier_detection`: pixels that disagree with the other members of a product."""

from typing import TYPE_CHECKING

from romosaic.errors import reported

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with reported(snakemake.log[0]):
    from romosaic import association_file, flux_file, outlier_detection, product
    from romosaic.job_memory import job_memory

    files, parameters = snakemake.input, snakemake.params.parameters
    members = [flux_file.open_flux(path) for path in files.members]
    sky = product.read_step(files.skymatch)
    levels = [row["level"] for row in sky["members"]]
    grid = association_file.read_grid(files.association)
    besides = job_memory("outlier_detection", len(members), grid.nx * grid.ny)
    budget = {"memory_mb": snakemake.resources.mem_mb - besides}
    flags = outlier_detection.detect_outliers(
        members, levels, grid, parameters | budget, snakemake.threads
    )
    tree = outlier_detection.to_tree(members, flags)
    for row in tree["members"]:
        print(f"outlier_detection: {row['exposure']} {row['flagged'].size} pixels flagged")
    inputs = [(m.name, m.fingerprint) for m in members]
    before = product.steps_of("skymatch", sky["provenance"])
    provenance = product.provenance(parameters, inputs, steps=before)
    product.write_step(snakemake.output[0], {**tree, "provenance": provenance})
