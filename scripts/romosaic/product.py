"""Products and intermediate files: written with what they were made of, read back checked."""

import platform
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from . import __version__
from .asdf_blocks import AsdfBlocks
from .asdf_writer import Tagged, time_tree, write_asdf
from .atomic import atomic
from .errors import REMAKE, ProductError

#: Packages whose version can change a product.
_PACKAGES = (
    "asdf",
    "astropy",
    "drizzle",
    "gwcs",
    "numba",
    "numpy",
    "photutils",
    "rad",
    "roman_datamodels",
    "scipy",
)


def provenance(
    parameters: dict,
    inputs: Iterable[tuple[str, str]],
    excluded: Iterable[dict] = (),
    steps: Mapping[str, dict] | None = None,
) -> dict:
    """
    Say how a file was made.

    Parameters
    ----------
    parameters : dict
        The step's parameters.
    inputs : iterable of (name, fingerprint)
        Level-2 exposures that the file was made of.
    excluded : iterable of dict, optional
        Those that belong to it and cannot be used: expname, reason.
    steps : mapping, optional
        Parameters of the steps before, by step: see `steps_of`.

    Returns
    -------
    dict
        versions, parameters, inputs; steps and excluded, where there are any.
    """
    versions = {"romosaic": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    left_out = [dict(row) for row in excluded]
    return {
        "versions": versions,
        "parameters": parameters,
        "inputs": [{"name": name, "fingerprint": fingerprint} for name, fingerprint in inputs],
        **({"steps": dict(steps)} if steps else {}),
        **({"excluded": left_out} if left_out else {}),
    }


def steps_of(step: str, made: Mapping) -> dict[str, dict]:
    """Parameters of a step and of those before it, by step, from the provenance of a file that it made."""
    return {**made.get("steps", {}), step: made["parameters"]}


def write_step(path: str | Path, tree: dict) -> None:
    """Write an intermediate file: plain values and arrays under the key ``romosaic``."""
    with atomic(path) as temporary:
        write_asdf(temporary, {"romosaic": tree})


def read_step(path: str | Path) -> dict:
    """
    Read an intermediate file that `write_step` made, arrays included, after checking its checksums.

    Raises
    ------
    ProductError
        The file is missing, damaged, or not an intermediate file.
    """
    blocks = AsdfBlocks.read(path, REMAKE)
    blocks.verify()
    tree = blocks.tree
    if not isinstance(tree, dict) or "romosaic" not in tree:
        raise ProductError(path, "is not a file of this workflow", REMAKE)
    return _with_arrays(blocks, tree["romosaic"])


def _with_arrays(blocks: AsdfBlocks, node: object) -> object:
    if isinstance(node, dict):
        if "source" in node and "datatype" in node:
            return np.array(blocks.array(node))
        return {key: _with_arrays(blocks, value) for key, value in node.items()}
    if isinstance(node, list):
        return [_with_arrays(blocks, value) for value in node]
    return node


def write_model(
    path: str | Path,
    model: Tagged,
    provenance: dict,
    own: dict | None = None,
    threads: int = 1,
    consume: bool = False,
) -> None:
    """
    Write a product: a data model under ``roman``, what the workflow says of it under ``romosaic``.

    Parameters
    ----------
    path : str or path
        File to make.
    model : Tagged
        See `mosaic_model.mosaic_model`; file name and date are set.
    provenance : dict
        See `provenance`.
    own : dict, optional
        More that the workflow wants to say of it, plain types: kept beside the provenance.
    threads : int, optional
        The file does not depend on it.
    consume : bool, optional
        Give back the memory of its arrays as they are written, their values with it.
    """
    date = datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")
    model.value["meta"] |= {"filename": Path(path).name, "file_date": time_tree(date)}
    tree = {"roman": model, "romosaic": {**(own or {}), "provenance": provenance}}
    with atomic(path) as temporary:
        write_asdf(temporary, tree, packed=True, threads=threads, consume=consume)
