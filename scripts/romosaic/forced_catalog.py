"""
Forced photometry: the light of one filter's mosaic at the places and in the apertures of another's.

Both mosaics have one grid. The columns are those of romancal's forced catalogs: label, positions and
shapes are the forcing catalog's; ``forced_`` columns are measured in this mosaic, fluxes in the forcing
catalog's apertures (circles at its centroids, Kron ellipses of its size), centroids and shapes in its
segments. Segments without any data here are left out, labels stay.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from . import photometry, sky_columns
from .catalog_columns import FORCED, FORCED_LIGHT, FORCED_SHAPES
from .catalog_flags import STAR_FINDER, UNFORCED
from .catalog_measurements import (
    Columns,
    isophotal,
    light,
    measure,
    neighbours,
    own_shapes,
    positions,
)
from .detection import Detection
from .forcing import REPEATED, Forcing
from .shapes import Moments


def force(
    found: Detection, forcing: Forcing, window: tuple[slice, slice]
) -> tuple[Detection, Columns]:
    """
    Put another catalog's segments in place of those of a detection.

    Parameters
    ----------
    found : Detection
        Of this mosaic, inside its window.
    forcing : Forcing
        With a product.
    window : (rows, columns) slices
        Of the whole grid.

    Returns
    -------
    found : Detection
        Labels 1..n are the rows of `columns`; pixels without data belong to none.
    columns : dict
        The forcing catalog's columns of the sources that have data here, in the order of their labels.
    """
    segments = np.where(found.bad, 0, forcing.segments[window]).astype(np.int64)
    order = np.argsort(forcing.columns["label"])
    labels = forcing.columns["label"][order]
    present = np.zeros(max(int(segments.max(initial=0)), int(labels.max(initial=0))) + 1, bool)
    present[np.unique(segments)] = True
    kept = order[present[labels]]
    columns = {name: np.asarray(values)[kept] for name, values in forcing.columns.items()}
    renumber = np.zeros(present.size, np.int32)
    renumber[columns["label"]] = np.arange(1, kept.size + 1)
    # Whoever a forcing catalog cut up is cut up here.
    flags = columns["image_flags"].astype(np.int32)
    forced = replace(
        found,
        **{"segments": renumber[segments], "blended": flags & 8 > 0},
        **{"stars": flags & STAR_FINDER > 0, "starts": None},
    )
    return forced, columns


def measure_forced(
    found: Detection,
    given: Columns,
    err: np.ndarray,
    weight: np.ndarray,
    window: tuple[slice, slice],
    options: dict[str, Any],
) -> Columns:
    """
    Measure a mosaic at the places of another's catalog.

    Parameters
    ----------
    found : Detection
    given : dict
        Results of `force`.
    err, weight : (ny, nx) float32
        Planes of this mosaic inside its window.
    window : (rows, columns) slices
    options : dict
        Grid, kernel_fwhm, psf, energy and scale as `catalog_measurements.measure` takes them.

    Returns
    -------
    dict
        (n,) arrays by column name; pixel positions inside the window.
    """
    grid, scale = options["grid"], options["scale"]
    labels, own = own_shapes(found)
    shape = _given_shape(given, own, window, scale.arcsec)
    radius = given["kron_radius"].astype(np.float64) / scale.arcsec
    radii = photometry.kron(found, err, labels, shape, scale, radius)
    total = isophotal(found, err, labels, own, scale)
    bright = radii.columns | {name: total[name] for name in ("segment_flux", "segment_flux_err")}
    bright |= light(found, err, weight, shape, radii, **options)
    own_radii = photometry.kron(found, err, labels, own, scale)
    # The edge of a forced segment is no isophote of this image: noise does not move it.
    still = replace(found, threshold=np.full(err.shape, -np.inf, np.float32))
    forms = total | own_radii.columns | positions(still, err, labels, own, own_radii, grid, scale)
    forms |= neighbours(labels, own, scale)
    forms["nn_label"] = np.append(given["label"], -1)[forms["nn_label"] - (forms["nn_label"] > 0)]
    forms["ra"], forms["dec"] = forms["ra_centroid"], forms["dec_centroid"]
    columns = {name: given[name] for name in REPEATED if name in given}
    for axis, start in (("x", window[1].start), ("y", window[0].start)):
        moved = [name for name in columns if name.startswith((f"{axis}_", f"bbox_{axis}"))]
        for name in (name for name in moved if not name.endswith("_err")):
            columns[name] = columns[name].astype(np.float64) - start
    columns["image_flags"] = bright["image_flags"]
    columns |= {FORCED + name: bright[name] for name in FORCED_LIGHT if name in bright}
    columns |= {FORCED + name: forms[name] for name in FORCED_SHAPES if name in forms}
    columns["_healpix_29"] = sky_columns.healpix_29(columns["ra"], columns["dec"])
    return columns


def measure_unforced(
    found: Detection, err: np.ndarray, weight: np.ndarray, options: dict[str, Any]
) -> Columns:
    """
    Measure a mosaic whose forcing filter has no product, at its own sources, in a forced catalog's columns.

    All catalogs of a filter then have the same columns; the bit `UNFORCED` of `image_flags` tells them apart.

    Parameters
    ----------
    found, err, weight, options
        As for `measure_forced`.

    Returns
    -------
    dict
        (n,) arrays by column name.
    """
    own = measure(found, err, weight, **options)
    columns = {name: values for name, values in own.items() if name not in FORCED_LIGHT}
    columns |= {FORCED + name: own[name] for name in FORCED_LIGHT if name in own}
    columns |= {FORCED + name: own[name] for name in FORCED_SHAPES if name in own}
    columns |= {FORCED + name: own[f"{name}_centroid"] for name in ("ra", "dec")}
    columns["image_flags"] = columns["image_flags"] | np.int32(UNFORCED)
    return columns


def _given_shape(
    given: Columns, own: Moments, window: tuple[slice, slice], arcsec: float
) -> Moments:
    """Shapes that a catalog's columns describe, with this mosaic's light in the segments."""
    major, minor = (given[name].astype(np.float64) / arcsec for name in ("semimajor", "semiminor"))
    theta = np.radians(given["orientation_pix"].astype(np.float64))
    cosine, sine = np.cos(theta), np.sin(theta)
    return replace(
        own,
        x=given["x_centroid"].astype(np.float64) - window[1].start,
        y=given["y_centroid"].astype(np.float64) - window[0].start,
        xx=(major * cosine) ** 2 + (minor * sine) ** 2,
        yy=(major * sine) ** 2 + (minor * cosine) ** 2,
        xy=(major**2 - minor**2) * sine * cosine,
    )
