# romosaic: Roman Level-2 images in, mosaics on the Roman sky map out.
#
# results/
#   simulate/            simulated exposures, when section `simulate` asks for some (demo, tests)
#   associate/           exposures/*.json records, associations/*_asn.json one per product, quarantine.tsv
#   plan/                plan.tsv, plan.png: what the run will make and cost (target `plan`)
#   flux/                *_flux.asdf       exposures in MJy/sr, their sky and pixel maps
#   skymatch/            *_skymatch.asdf   sky level of each member of a product
#   outlier_detection/   *_outliers.asdf   flagged pixels of each member
#   resample/            *_coadd.asdf      the mosaic
#   epsf/                *_epsf.asdf       PSF of a filter, if it is to be measured
#   source_catalog/      *_cat.asdf *_cat.parquet *_segm.asdf
#   catalog/             <filter>/                every source of a filter once, a file per projection region
#   preview/             *_coadd.png *_planes.png *_thumbnail.jpg, and *_small.asdf for the next three
#   color/               *_color.png       skycells with three filters
#   overview/            *_overview.png    all products of a filter on the sky
#   qa/                  *_qa.json qa.tsv seams.tsv qa.html
#   fits/                *_coadd.fits fits.tsv (target `fits`)
#   moc/                 *_moc.fits moc.fits: the covered part of the sky (target `moc`)
#   hips/                <filter>/ tiles for Aladin, hips.tsv (target `hips`)
#   hats/                <filter>/ catalogs for LSDB, hats.tsv (target `hats`)
#   verify/              verify.tsv: the files that were checked (target `verify`)
#   clean_stale/         clean_stale.tsv: files that nothing wants any more (target `clean_stale`)
#   logs/ benchmarks/    one file per job

from pathlib import Path

from snakemake.utils import min_version

min_version("9.27")


configfile: str(Path(workflow.basedir) / "config" / "config.yaml")


report: "rules/report/workflow.rst"


include: "rules/common.smk"
include: "rules/simulate.smk"
include: "rules/associate.smk"
include: "rules/plan.smk"
include: "rules/flux.smk"
include: "rules/skymatch.smk"
include: "rules/outlier_detection.smk"
include: "rules/resample.smk"
include: "rules/epsf.smk"
include: "rules/source_catalog.smk"
include: "rules/catalog.smk"
include: "rules/preview.smk"
include: "rules/color.smk"
include: "rules/overview.smk"
include: "rules/qa.smk"
include: "rules/fits.smk"
include: "rules/moc.smk"
include: "rules/hips.smk"
include: "rules/hats.smk"
include: "rules/verify.smk"
include: "rules/clean_stale.smk"


rule all:
    default_target: True
    input:
        all_products,


onsuccess:
    say(
        summary(
            OUT,
            PROGRESS,
            CONFIG["batch"],
            workflow.dag.targetjobs,
            part_of_survey,
        )
    )
    clear_up(OUT)


onerror:
    say(failures(OUT, PROGRESS, workflow.execution_settings.keep_going))
    clear_up(OUT)
