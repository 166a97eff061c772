"""Rule `resample`: drizzle the members of a product onto its grid."""

from typing import TYPE_CHECKING

from romosaic.errors import reported

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with reported(snakemake.log[0]):
    from romosaic import association_file, flux_file, mosaic_model, product, resample

    files, parameters, threads = snakemake.input, snakemake.params.parameters, snakemake.threads
    asn = association_file.read(files.association)
    grid = association_file.output_grid(asn)
    members = [flux_file.open_flux(path) for path in files.members]
    sky, outliers = product.read_step(files.skymatch), product.read_step(files.outliers)
    given = [r["level"] for r in sky["members"]], [r["flagged"] for r in outliers["members"]]
    coadd = resample.resample(members, *given, grid, parameters, threads)
    before = product.steps_of("outlier_detection", outliers["provenance"])
    steps = {"association": asn, "sky": sky["members"], "outliers": outliers}
    steps["skymethod"] = sky["provenance"]["parameters"]["skymethod"]
    model = mosaic_model.mosaic_model(coadd, grid, members, parameters=parameters, **steps)
    inputs = [(m.name, m.fingerprint) for m in members]
    excluded = asn["products"][0].get("excluded", ())
    provenance = product.provenance(parameters, inputs, excluded, before)
    uses = {"noise": coadd.noise, "sky_groups": sky["groups"]}
    uses["members"] = [use.to_tree() for use in coadd.members]
    product.write_model(snakemake.output[0], model, provenance, uses, threads, consume=True)
    for use in coadd.members:
        print(f"resample: {use.exposure} {use.status} {use.n_used} pixels")
