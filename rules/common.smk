"""Configuration, input functions and the digest of a step's code; nothing else."""

import os
import sys
import time
from functools import cache

from snakemake import jobs
from snakemake.logging import logger

sys.path.insert(0, str(Path(workflow.basedir) / "scripts"))

from romosaic import inputs, product_index
from romosaic.code_digest import code_digest
from romosaic.color_filters import choose_filters
from romosaic.config import load, with_source
from romosaic.config_grids import GRID_KEYS, output_wcs_files
from romosaic.config_types import REST
from romosaic.errors import MESSAGES, RomosaicError
from romosaic.job_memory import catalog_memory, job_memory, settings
from romosaic.names import ASSOCIATION, NAME
from romosaic.plan_costs import job_minutes
from romosaic.progress import Progress
from romosaic.result_files import RECORDING, final_files, unfinished
from romosaic.run_records import (
    clear_up,
    damaged_associations,
    half_done,
    lock,
    lost_records,
    run_at_work,
)
from romosaic.sky_levels import read_levels
from romosaic.summary import failures, summary
from romosaic.terminal import attach

shipped = Path(workflow.basedir) / "config" / "config.yaml"
given = [str(path) for path in workflow.configfiles if Path(path) != shipped]
WHERE = ", ".join(given) or "configuration"

try:
    CONFIG = load(config, WHERE)
    OUT = CONFIG["output_dir"]
    INPUTS = inputs.find(CONFIG, where=WHERE)
    SKYLIST = CONFIG["skymatch"]["skylist"]
    SKY_LEVELS = read_levels(SKYLIST, INPUTS.exposures) if SKYLIST else None
except RomosaicError as error:
    sys.exit(f"romosaic: {with_source(error, workflow.config_settings.config)}")
if not INPUTS.exposures and not {"--lint", "--unlock"} & set(sys.argv):
    sys.exit(
        "romosaic: nothing to do: set `exposures` (or `associations`) in a file for --configfile, or run `make demo` to see it work"
    )


def ages(folder):
    """Ages of the parts of the folder of `associate`: others when a file in it is."""
    parts = Path(folder) / "associations", Path(folder) / "exposures"
    return [part.stat().st_mtime_ns for part in parts if part.exists()]


@cache
def read_products(folder, *ages):
    """Products of the folder of `associate` at its age."""
    return product_index.read(folder)


def products_in(folder):
    """Products of the folder of `associate`: there may be thousands, read again only when there are others."""
    return read_products(str(folder), *ages(folder))


# The date of a script says nothing, a new clone has a new one: `code_digest` in `params` stands for the code.
jobs.get_script_mtime = lambda path: 0.0
if "--unlock" in sys.argv:  # after a kill
    for line in clear_up(OUT):
        print(f"romosaic: {line}", file=sys.stderr)
if workflow.is_main_process and "--unlock" not in sys.argv:
    found = [run_at_work()]  # what another run is making has no record yet
    if not any(found):
        found = [
            half_done(OUT),
            damaged_associations(OUT, products_in),
            lost_records(OUT),
        ]
    for line in filter(None, found):
        print(f"romosaic: warning: {line}", file=sys.stderr)
    lacking = unfinished(OUT) if CONFIG["batch"] == REST else ""
    if lacking:
        sys.exit(f"romosaic: batch: rest comes after all parts: {lacking}")


def jobs_left():
    """Number, rule and product of the jobs that are still to be done, but for `all`."""
    for job in workflow.dag.needrun_jobs():
        if job.rule.name == "all":
            continue
        product = job.wildcards_dict.get("product", "")
        yield workflow.dag.jobid(job), job.rule.name, product


def lock_outputs():
    """Lock the files of the jobs that are still to be done."""
    lock(str(path) for job in workflow.dag.needrun_jobs() for path in job.output)


PROGRESS = Progress(
    jobs_left, lambda: workflow.execution_settings.retries, lock_outputs
)
SHOWN = None
if workflow.is_main_process:
    SHOWN = attach(logger, PROGRESS, workflow.output_settings)
else:  # within a Slurm job, whose log shows what its steps say
    os.environ.pop(MESSAGES, None)


def say(text):
    """Last words of a run."""
    if SHOWN:
        SHOWN.close()
    if text:
        print(text, flush=True)


wildcard_constraints:
    exposure=NAME,
    # after the parts of a survey no rule makes files of products, so that none is planned once more
    product=r"(?!)" if CONFIG["batch"] == REST else NAME,
    filter=r"f\d{3}",
    region=r"\d{3}[pm]\d{2}|none",
    cell=NAME,


def by_attempt(first):
    """Memory or time limit of a job: so much on the first attempt, twice on the second, and so on."""
    return lambda wildcards, attempt: first * attempt


def product_memory(step):
    """Memory of a product's job, by its members and its grid: twice as much on the second attempt."""

    def asked(wildcards, attempt):
        names, pixels = contents(wildcards.product)
        return job_memory(step, len(names), pixels, **settings(CONFIG)) * attempt

    return asked


def product_minutes(step):
    """Time limit of a product's job, by its members and its grid: twice as much on the second attempt."""

    def asked(wildcards, attempt):
        names, pixels = contents(wildcards.product)
        return job_minutes(step, len(names), pixels) * attempt

    return asked


def references(*keys):
    """Reference files that the configuration names, as inputs: a new one of the same name counts."""
    given = [
        CONFIG[section][key] for section, key in (name.split(".") for name in keys)
    ]
    return [path for path in given if path]


def raw_exposure(wildcards):
    """Level-2 file of an exposure."""
    return INPUTS.exposures[wildcards.exposure]


def exposure_state(wildcards):
    """Sizes and dates of the input files, by what -n is to call them."""
    return {"sizes and dates of the input files": INPUTS.state()}


def record(wildcards):
    """Header record of an exposure, which `associate` writes."""
    folder = checkpoints.associate.get().output[0]
    return f"{folder}/exposures/{wildcards.exposure}.json"


def association_of(product):
    """Association of a product, which `associate` writes."""
    folder = checkpoints.associate.get().output[0]
    return f"{folder}/associations/{product}{ASSOCIATION}"


def association(wildcards):
    """Association of the product of a job."""
    return association_of(wildcards.product)


@cache
def read_contents(path, age):
    """What `contents` says, read again only when the file has changed."""
    return product_index.exposures_and_pixels(path)


def contents(product):
    """Names of the exposures of a product, and pixels of its grid."""
    path = association_of(product)
    return read_contents(path, Path(path).stat().st_mtime_ns)


def member_names(wildcards):
    """Names of the exposures of a product."""
    return contents(wildcards.product)[0]


def members(wildcards):
    """Calibrated exposures of a product."""
    return [f"{OUT}/flux/{name}_flux.asdf" for name in member_names(wildcards)]


def user_levels(wildcards):
    """Sky levels of the exposures of a product in the user's table, if there is one."""
    if SKY_LEVELS is None:
        return None
    return {name: SKY_LEVELS.get(name) for name in member_names(wildcards)}


def records(wildcards):
    """Header records of the exposures of a product."""
    folder = checkpoints.associate.get().output[0]
    return [f"{folder}/exposures/{name}.json" for name in member_names(wildcards)]


def associations(wildcards):
    """Associations of all products."""
    folder = Path(checkpoints.associate.get().output[0]) / "associations"
    return sorted(str(path) for path in folder.glob(f"*{ASSOCIATION}"))


def exposure_records(wildcards):
    """Header records of all exposures."""
    folder = Path(checkpoints.associate.get().output[0]) / "exposures"
    return sorted(str(path) for path in folder.glob("*.json"))


def products_of_filter(wildcards):
    """Names of the products of a filter."""
    found = products(wildcards)
    return [
        name
        for name in sorted(found)
        if found[name].optical_element.lower() == wildcards.filter
    ]


def filter_memory(step, processes=0):
    """Memory of a job that reads the coadds of a filter one by one: by the largest grid, and its processes."""

    def asked(wildcards, attempt):
        sizes = (contents(product)[1] for product in products_of_filter(wildcards))
        pixels = max(sizes, default=0)
        return job_memory(step, processes, pixels, **settings(CONFIG)) * attempt

    return asked


def measured_epsf(wildcards):
    """Measured PSF of the filter of a product, if catalogs are to use it."""
    if CONFIG["source_catalog"]["psf"] != "measured":
        return []
    element = products(wildcards)[wildcards.product].optical_element
    return f"{OUT}/epsf/{element.lower()}_epsf.asdf"


def quarantine(wildcards):
    """List of the exposures that cannot be used."""
    return f"{checkpoints.associate.get().output[0]}/quarantine.tsv"


def associated():
    """Folder that `associate` writes, and the ages of its parts."""
    folder = str(checkpoints.associate.get().output[0])
    return folder, *ages(folder)


def products(wildcards):
    """Products with their filters and grids, by name."""
    return products_in(checkpoints.associate.get().output[0])


@cache
def read_cells(folder, *ages):
    """Products of each skycell by filter."""
    cells = {}
    for name, product in read_products(folder, *ages).items():
        if product.skycell:
            own = cells.setdefault(product.skycell, {})
            own.setdefault(product.optical_element, []).append(name)
    return cells


def forced_by(wildcards):
    """Filter whose sources are measured on a product, None where its own are."""
    pairs = CONFIG["source_catalog"]["forced"]
    if not pairs:
        return None
    return pairs.get(products(wildcards)[wildcards.product].optical_element)


def forcing(wildcards):
    """Catalog and segmentation map of the product whose sources are measured, if there is one."""
    by = forced_by(wildcards)
    name = by and product_index.partner(products(wildcards), wildcards.product, by)
    files = [f"{name}_cat.parquet", f"{name}_segm.asdf"] if name else []
    return [f"{OUT}/source_catalog/{file}" for file in files]


@cache
def read_regions(folder, *ages):
    """Products of each filter and projection region."""
    regions = {}
    for name, product in read_products(folder, *ages).items():
        pair = product.optical_element.lower(), product.region
        regions.setdefault(pair, []).append(name)
    return regions


def catalogs(wildcards):
    """Catalogs of the products of a filter in a projection region."""
    names = read_regions(*associated())[wildcards.filter, wildcards.region]
    return expand(f"{OUT}/source_catalog/{{product}}_cat.parquet", product=names)


def merged_catalogs(wildcards):
    """Catalogs of all projection regions, of one filter where the wildcards name one."""
    own = wildcards.get("filter")
    return [
        f"{OUT}/catalog/{element}/projection_region={region}/{element}_{region}.parquet"
        for element, region in sorted(read_regions(*associated()))
        if own in (None, element)
    ]


def of_products(pattern):
    """Files of a pattern of every product."""
    return lambda wildcards: expand(f"{OUT}/{pattern}", product=products(wildcards))


def of_filter(pattern):
    """Files of a pattern of the products of a filter."""
    return lambda wildcards: expand(
        f"{OUT}/{pattern}", product=products_of_filter(wildcards)
    )


def of_filters(pattern):
    """Files of a pattern of every filter."""

    def asked(wildcards):
        found = products(wildcards).values()
        elements = sorted({product.optical_element.lower() for product in found})
        return expand(f"{OUT}/{pattern}", filter=elements)

    return asked


def small_of_colors(wildcards):
    """Small images of a skycell in the filters of its colour picture."""
    own = read_cells(*associated()).get(wildcards.cell, {})
    names = [name for element in colors(own) for name in own[element]]
    return expand(f"{OUT}/preview/{{product}}_small.asdf", product=names)


def colors(own):
    """Filters of the colour picture of a skycell, of those it has; none without three."""
    return choose_filters(list(own), CONFIG["color"]["filters"])


def part_of_survey():
    """Products of the part of a survey that this run makes; None for a whole one and for the rest."""
    if CONFIG["batch"] in (None, REST):
        return None
    return sorted(product_index.batch(products_in(f"{OUT}/associate"), CONFIG["batch"]))


def all_products(wildcards):
    """Final files of every product, and of the run; of a part of a survey only the ones or the others."""
    found = products(wildcards)
    if CONFIG["batch"] == REST:
        return files_of_run(found)
    part = part_of_survey()
    names = sorted(found) if part is None else part
    files = [f"{OUT}/{path}" for name in names for path in final_files(name)]
    return files + files_of_run(found) if part is None else files


def files_of_run(found):
    """Final files that are of no single product."""
    cells = read_cells(*associated())
    shown = sorted(cell for cell, own in cells.items() if colors(own))
    files = expand(f"{OUT}/color/{{cell}}_color.png", cell=shown)
    files += of_filters("overview/{filter}_overview.png")({})
    files += merged_catalogs({})
    truth = [f"{OUT}/simulate/scene.ecsv"] if INPUTS.simulated else []
    return truth + files + ([f"{OUT}/qa/qa.tsv"] if found else [])
