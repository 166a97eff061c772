"""Trees of coadds as they come back from files, through asdf and the data models: valid, or it fails."""

import tempfile
from contextlib import contextmanager
from pathlib import Path

import asdf
import numpy as np
import roman_datamodels as rdm
from astropy.time import Time
from romosaic import product
from romosaic.asdf_writer import write_asdf
from romosaic.mosaic_wcs import wcs_tree, wcsinfo


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
        product.write_model(path, model, product.provenance({}, []), {})
        with asdf.open(path, validate_checksums=True, lazy_load=False, memmap=False) as file:
            yield rdm.open(file)


def known_coadd(grid, data, err, weight, optical_element="F158", pixfrac=1.0):
    """Valid MosaicModel whose numbers are known."""
    model = rdm.datamodels.MosaicModel.create_fake_data(shape=grid.shape)
    model.data, model.err, model.weight = data, err, weight
    for name in ("var_poisson", "var_rnoise"):
        model[name] = err**2 / 2
    model.context = (weight > 0).astype(np.uint32)[None]
    model.meta.wcs, model.meta.wcsinfo = grid_wcs(grid), wcsinfo(grid)
    model.meta.instrument.optical_element = optical_element
    model.meta.resample.pixfrac = pixfrac
    model.meta.file_date = model.meta.coadd_info.time_first = Time("2027-06-01T00:00:00.000")
    model.meta.data_release_id = "p"
    return model


def save_coadd(path, model, provenance, **own):
    """Write a model, by asdf, as the file of a coadd, with what else the workflow says of it."""
    model.meta.filename = path.name
    tree = {"roman": model._instance, "romosaic": {**own, "provenance": provenance}}
    asdf.AsdfFile(tree).write_to(path, all_array_compression="lz4")
