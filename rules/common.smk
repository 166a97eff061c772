"""Configuration, input functions and the digest of a step's code; nothing else."""

import json
import sys
from functools import cache

sys.path.insert(0, str(Path(workflow.basedir) / "scripts"))

from romosaic import inputs
from romosaic.code_digest import code_digest
from romosaic.color_filters import choose_filters
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
    cell=r"[A-Za-z0-9][A-Za-z0-9._+-]*",
    optical_element=r"F[0-9]{3}",


def megabytes(first):
    """Memory of a job: so much on the first attempt, twice on the second, and so on."""
    return lambda wildcards, attempt: first * attempt


def product_memory(step):
    """Memory of a product's job, by its members and its grid: twice as much on the second attempt."""

    def asked(wildcards, attempt):
        names, pixels, _ = read_association(*association_status(wildcards))
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
    return names, grid["nx"] * grid["ny"], grid["name"]


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


def quarantine(wildcards):
    """List of the exposures that cannot be used."""
    return f"{checkpoints.associate.get().output[0]}/quarantine.tsv"


@cache
def read_filter(path, age):
    """Filter of an exposure; read again only when its record has changed."""
    return json.loads(Path(path).read_text())["optical_element"]


@cache
def read_products(folder, ages):
    """Skycell ("none" for a regular grid) and filter of each product; read again when files came or went."""
    found = {}
    for path in sorted(Path(folder, "associations").glob("*_asn.json")):
        names, _, cell = read_association(str(path), path.stat().st_mtime_ns)
        first = Path(folder, "exposures", f"{names[0]}.json")
        element = read_filter(str(first), first.stat().st_mtime_ns)
        found[path.name.removesuffix("_asn.json")] = cell, element
    return found


@cache
def read_cells(folder, ages):
    """Products of each skycell by filter."""
    cells = {}
    for name, (cell, element) in read_products(folder, ages).items():
        if cell != "none":
            cells.setdefault(cell, {}).setdefault(element, []).append(name)
    return cells


def associated():
    """Folder that `associate` writes, and the ages of its parts."""
    folder = checkpoints.associate.get().output[0]
    parts = (Path(folder, part) for part in ("associations", "exposures"))
    return folder, tuple(part.stat().st_mtime_ns for part in parts)


def of_products(pattern):
    """Files of a pattern of every product."""
    return lambda wildcards: expand(
        f"{OUT}/{pattern}", product=read_products(*associated())
    )


def small_of_filter(wildcards):
    """Small images of the products of a filter."""
    names = [
        name
        for name, (_, element) in read_products(*associated()).items()
        if element == wildcards.optical_element
    ]
    return expand(f"{OUT}/preview/{{product}}_small.asdf", product=names)


def small_of_colors(wildcards):
    """Small images of a skycell in the filters of its colour picture."""
    own = read_cells(*associated()).get(wildcards.cell, {})
    names = [name for element in colors(own) for name in own[element]]
    return expand(f"{OUT}/preview/{{product}}_small.asdf", product=names)


def colors(own):
    """Filters of the colour picture of a skycell, of those it has; none without three."""
    return choose_filters(list(own), CONFIG["color"]["filters"])


def all_products(wildcards):
    """Final files of every product, and of the run."""
    made = read_products(*associated())
    wanted = [
        "resample/{product}_coadd.asdf",
        "source_catalog/{product}_cat.asdf",
        "preview/{product}_coadd.png",
    ]
    files = expand(f"{OUT}/{{pattern}}", pattern=wanted)
    files = [pattern.format(product=name) for name in made for pattern in files]
    cells = read_cells(*associated())
    shown = sorted(cell for cell, own in cells.items() if colors(own))
    files += expand(f"{OUT}/color/{{cell}}_color.png", cell=shown)
    elements = sorted({element for _, element in made.values()})
    files += expand(f"{OUT}/overview/{{element}}_overview.png", element=elements)
    truth = [f"{OUT}/simulate/scene.ecsv"] if INPUTS.simulated else []
    return truth + files + ([f"{OUT}/qa/qa.tsv"] if made else [])
