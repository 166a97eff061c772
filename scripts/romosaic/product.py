"""Writers: every file appears whole or not at all, and says what it was made of."""

import os
import platform
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from . import __version__
from .asdf_blocks import AsdfBlocks, write_asdf
from .errors import ProductError
from .flux import VARIANCES, Calibrated
from .halves import to_half
from .pixmap import PixelMap

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


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """
    Write a file under a temporary name and give it its own only when it is complete.

    Parameters
    ----------
    path : str or path
        The file to make; its folder is created.

    Yields
    ------
    Path
        Temporary name in the same folder with the same suffix. On success it is flushed to disk and renamed,
        on failure removed.

    Raises
    ------
    ProductError
        The disk is full or the folder cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{platform.node()}.{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise ProductError(
            path, f"cannot be written ({error.strerror or error})", "check space and permissions"
        ) from error
    finally:
        with suppress(OSError):  # what went wrong before matters more
            temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, but leave it alone when it holds this text already, its age unchanged."""
    path = Path(path)
    if path.is_file() and path.read_bytes() == text.encode():
        return
    with atomic(path) as temporary:
        temporary.write_bytes(text.encode())


def provenance(parameters: dict, inputs: Iterable[tuple[str, str]]) -> dict:
    """
    Say how a file was made.

    Parameters
    ----------
    parameters : dict
        The step's parameters.
    inputs : iterable of (name, fingerprint)
        Level-2 exposures that the file was made of.

    Returns
    -------
    dict
        versions, parameters, inputs.
    """
    versions = {"romosaic": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "versions": versions,
        "parameters": parameters,
        "inputs": [{"name": name, "fingerprint": fingerprint} for name, fingerprint in inputs],
    }


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
    blocks = AsdfBlocks.read(path)
    blocks.verify()
    tree = blocks.tree()
    if not isinstance(tree, dict) or "romosaic" not in tree:
        raise ProductError(path, "is not a file of this workflow", "delete it and run again")
    return _with_arrays(blocks, tree["romosaic"])


def _with_arrays(blocks: AsdfBlocks, node: object) -> object:
    if isinstance(node, dict):
        if "source" in node and "datatype" in node:
            return np.array(blocks.array(node))
        return {key: _with_arrays(blocks, value) for key, value in node.items()}
    if isinstance(node, list):
        return [_with_arrays(blocks, value) for value in node]
    return node


def write_flux(
    path: str | Path,
    model,
    calibrated: Calibrated,
    pixmap: PixelMap,
    exposure: str,
    provenance: dict,
) -> None:
    """
    Write a calibrated exposure: a valid ImageModel whose images can be mapped, plus what later steps need.

    Parameters
    ----------
    path : str or path
        `_flux.asdf` file.
    model : ImageModel
        The open Level-2 model; its arrays and cal_step are replaced.
    calibrated : Calibrated
        Result of `flux.calibrate`.
    pixmap : PixelMap
        Detector pixels <-> sky.
    exposure : str
        Name of the exposure.
    provenance : dict
        See `provenance`.
    """
    import asdf
    from astropy.time import Time

    model.data, model.dq = calibrated.data, calibrated.dq
    model.err = to_half(calibrated.err)
    for name, variance in calibrated.variances.items():
        model[name] = to_half(variance)
    model.meta.cal_step["flux"] = "COMPLETE"
    model.meta.filename = Path(path).name
    model.meta.file_date = Time.now()
    own = {
        "exposure": exposure,
        "noise": calibrated.noise,
        "unusable": calibrated.unusable,
        "sky_blocks": calibrated.sky_blocks,
        "pixmap": pixmap.to_tree(),
        "variances": calibrated.precise_variances(),
        "provenance": provenance,
    }
    file = asdf.AsdfFile({"roman": model._instance, "romosaic": own})
    mapped = {"data", "dq", *VARIANCES}
    for name, array in model._instance.items():
        if isinstance(array, np.ndarray | asdf.tags.core.NDArrayType) and name not in mapped:
            file.set_array_compression(array, "lz4")
    with atomic(path) as temporary, asdf.config_context() as settings:
        settings.array_inline_threshold = 0
        file.write_to(temporary)


def write_model(path: str | Path, model, provenance: dict) -> None:
    """
    Write a product: a data model under ``roman``, its provenance under ``romosaic``, lz4-compressed.

    Parameters
    ----------
    path : str or path
        File to make.
    model : DataModel
        Valid by its schema; file name and date are set.
    provenance : dict
        See `provenance`.

    Raises
    ------
    ProductError
        The model is not valid by its schema.
    """
    import asdf
    from astropy.time import Time

    model.meta.filename = Path(path).name
    model.meta.file_date = Time.now()
    file = asdf.AsdfFile({"roman": model._instance, "romosaic": {"provenance": provenance}})
    with atomic(path) as temporary:
        try:
            file.write_to(temporary, all_array_compression="lz4")
        except asdf.exceptions.ValidationError as error:
            reason = str(error).strip().splitlines()[0]
            raise ProductError(path, f"would not be valid: {reason}", "report this") from error
