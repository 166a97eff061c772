"""The catalog of another filter, whose sources a forced catalog measures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .catalog_columns import BASE_COLUMNS, FORCED_LIGHT
from .coadd_file import read_segmentation
from .errors import ProductError

_AGAIN = "delete it and run again"
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
    import pyarrow.parquet as pq

    catalog, segmentation = (Path(path) for path in files)
    try:
        columns = pq.read_table(catalog, columns=list(READ))
    except (OSError, TypeError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        what = f"cannot be read as part of a catalog ({reason[0]})"
        raise ProductError(catalog, what, _AGAIN) from error
    segments = read_segmentation(segmentation)
    arrays = {name: columns[name].to_numpy() for name in columns.column_names}
    if np.setdiff1d(segments, arrays["label"]).max(initial=0) > 0:
        raise ProductError(segmentation, f"has labels that {catalog.name} has not", _AGAIN)
    return Forcing(optical_element, catalog.name.removesuffix("_cat.parquet"), segments, arrays)
