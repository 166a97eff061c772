"""Configuration, input functions and the digest of a step's code; nothing else."""

import json
import sys
from functools import cache

sys.path.insert(0, str(Path(workflow.basedir) / "scripts"))

from romosaic import inputs
from romosaic.code_digest import code_digest
from romosaic.config import load
from romosaic.config_grids import GRID_KEYS, output_wcs_files
from romosaic.errors import RomosaicError
from romosaic.job_memory import job_memory, settings
from romosaic.names import exposure_name
from romosaic.sky_levels import read_levels
from romosaic.summary import summary

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
    sys.exit(f"romosaic: {error}")
if not INPUTS.exposures and not {"--lint", "--unlock"} & set(sys.argv):
    sys.exit(
        "romosaic: nothing to do: set `exposures` (or `associations`) in a file for --configfile, or run `make demo` to see it work"
    )


wildcard_constraints:
    exposure=r"[A-Za-z0-9][A-Za-z0-9._+-]*",
    product=r"[A-Za-z0-9][A-Za-z0-9._+-]*",
    filter=r"[A-Za-z0-9]+",


def megabytes(first):
    """Memory of a job: so much on the first attempt, twice on the second, and so on."""
    return lambda wildcards, attempt: first * attempt


def product_memory(step):
    """Memory of a product's job, by its members and its grid: twice as much on the second attempt."""

    def asked(wildcards, attempt):
        names, pixels = read_association(*association_status(wildcards))
        return job_memory(step, len(names), pixels, **settings(CONFIG)) * attempt

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


def record(wildcards):
    """Header record of an exposure, which `associate` writes."""
    folder = checkpoints.associate.get().output[0]
    return f"{folder}/exposures/{wildcards.exposure}.json"


def association(wildcards):
    """Association of a product, which `associate` writes."""
    folder = checkpoints.associate.get().output[0]
    return f"{folder}/associations/{wildcards.product}_asn.json"


def association_status(wildcards):
    """Path and age of the association of a product."""
    path = Path(association(wildcards))
    return str(path), path.stat().st_mtime_ns


@cache
def read_association(path, age):
    """Names of the exposures and pixels of the grid; read again only when the file has changed."""
    content = json.loads(Path(path).read_text())
    names = [exposure_name(m["expname"]) for m in content["products"][0]["members"]]
    info = content["skycell_wcs_info"]
    grid = info if isinstance(info, dict) else content["output_grid"]
    return names, grid["nx"] * grid["ny"]


def member_names(wildcards):
    """Names of the exposures of a product."""
    return read_association(*association_status(wildcards))[0]


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
    return sorted(str(path) for path in folder.glob("*_asn.json"))


def exposure_records(wildcards):
    """Header records of all exposures."""
    folder = Path(checkpoints.associate.get().output[0]) / "exposures"
    return sorted(str(path) for path in folder.glob("*.json"))


def product_filter(product):
    """Filter of a product, as its name ends."""
    return product.rsplit("_", 1)[-1]


def products_of_filter(wildcards):
    """Products of a filter."""
    names = [
        Path(path).name.removesuffix("_asn.json") for path in associations(wildcards)
    ]
    return [name for name in names if product_filter(name) == wildcards.filter]


def coadds_of_filter(wildcards):
    """Coadds of a filter."""
    return [
        f"{OUT}/resample/{name}_coadd.asdf" for name in products_of_filter(wildcards)
    ]


def filter_memory(step):
    """Memory of a job that reads the coadds of a filter one by one: that of the largest grid."""

    def asked(wildcards, attempt):
        pixels = 0
        for product in products_of_filter(wildcards):
            path = f"{checkpoints.associate.get().output[0]}/associations/{product}_asn.json"
            pixels = max(
                pixels, read_association(path, Path(path).stat().st_mtime_ns)[1]
            )
        return job_memory(step, 0, pixels, **settings(CONFIG)) * attempt

    return asked


def measured_epsf(wildcards):
    """Measured PSF of the filter of a product, if catalogs are to use it."""
    if CONFIG["source_catalog"]["psf"] != "measured":
        return []
    return f"{OUT}/epsf/{product_filter(wildcards.product)}_epsf.asdf"


def quarantine(wildcards):
    """List of the exposures that cannot be used."""
    return f"{checkpoints.associate.get().output[0]}/quarantine.tsv"


def all_products(wildcards):
    """Final files of every product."""
    names = [
        Path(path).name.removesuffix("_asn.json") for path in associations(wildcards)
    ]
    wanted = [
        "resample/{product}_coadd.asdf",
        "source_catalog/{product}_cat.asdf",
        "preview/{product}_coadd.png",
    ]
    truth = [f"{OUT}/simulate/scene.ecsv"] if INPUTS.simulated else []
    return truth + [
        f"{OUT}/{path}".format(product=name) for name in names for path in wanted
    ]
