"""Trees of coadds as they come back from files, through asdf and the data models: valid, or it fails."""

import tempfile
from contextlib import contextmanager
from pathlib import Path

import asdf
import roman_datamodels as rdm
from romosaic import product
from romosaic.asdf_writer import write_asdf
from romosaic.mosaic_wcs import wcs_tree


def grid_wcs(grid):
    """gwcs of a grid."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "wcs.asdf"
        write_asdf(path, {"wcs": wcs_tree(grid)})
        with asdf.open(path, lazy_load=False, memmap=False) as file:
            return file["wcs"]


@contextmanager
def written(model, name="mosaic"):
    """Model of a coadd, validated, of a file that is open meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}_coadd.asdf"
        product.write_mosaic(path, model, product.provenance({}, []), {})
        with asdf.open(path, validate_checksums=True, lazy_load=False, memmap=False) as file:
            yield rdm.open(file)
