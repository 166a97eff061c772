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


def megabytes(first):
    """Memory of a job: so much on the first attempt, twice on the second, and so on."""
    return lambda wildcards, attempt: first * attempt


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


@cache
def read_members(path, age):
    """Names of the exposures of an association, read again only when the file has changed."""
    content = json.loads(Path(path).read_text())
    return [exposure_name(m["expname"]) for m in content["products"][0]["members"]]


def member_names(wildcards):
    """Names of the exposures of a product."""
    path = Path(association(wildcards))
    return read_members(str(path), path.stat().st_mtime_ns)


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
