"""The catalog of another filter, whose sources a forced catalog measures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .catalog_columns import BASE_COLUMNS, FORCED_LIGHT
from .catalog_table import read_columns
from .coadd_file import read_segmentation
from .errors import REMAKE, ProductError

#: Columns of the forcing catalog that a forced one repeats, and all that it reads of it.
REPEATED = tuple(name for name in BASE_COLUMNS if name not in (*FORCED_LIGHT, "image_flags"))
READ = (*REPEATED, "image_flags")


@dataclass(frozen=True)
class Forcing:
    """
    The catalog that says where to measure.

    Attributes
    ----------
    optical_element : str
        Its filter.
    product : str or None
        Its product; None when that filter has none on this grid.
    segments : (ny, nx) uint32 or None
        Its segmentation.
    columns : dict
        Columns `READ` by name, (n,) arrays.
    """

    optical_element: str
    product: str | None = None
    segments: np.ndarray | None = None
    columns: dict[str, np.ndarray] | None = None

    def __str__(self) -> str:
        if self.product is None:
            return (
                f" of its own: {self.optical_element}, which was to force them, has no product here"
            )
        return f" of {self.product}"


def read_forcing(optical_element: str, files: Sequence[str | Path]) -> Forcing:
    """
    Read the catalog that says where another filter is measured.

    Parameters
    ----------
    optical_element : str
        Its filter.
    files : list of path
        ``_cat.parquet`` and ``_segm.asdf`` of its product; empty when that filter has none on this grid.

    Raises
    ------
    ProductError
        A file is missing or damaged.
    """
    if not files:
        return Forcing(optical_element)
    catalog, segmentation = (Path(path) for path in files)
    columns, segments = read_columns(catalog, READ), read_segmentation(segmentation)
    if np.setdiff1d(segments, columns["label"]).max(initial=0) > 0:
        raise ProductError(segmentation, f"has labels that {catalog.name} has not", REMAKE)
    return Forcing(optical_element, catalog.name.removesuffix("_cat.parquet"), segments, columns)
