"""
Point-spread function measured on the coadds of a filter.

The PSF of a coadd is round by construction: exposures come at several rolls, and `coadd_psf` averages over
angle. So the pixels of a star are samples of one radial profile, taken at as many radii as it has pixels, and
stars at all phases sample it finely: a smooth curve through the pixels of some dozens of stars is the
oversampled PSF of the drizzled pixels, without iterations or deconvolution. (photutils' EPSFBuilder fits 4 to
16 samples per pixel in two dimensions and needs several times as many stars for the same noise.) Light beyond
the stamps is taken from the analytic model.

Stars are bright, unsaturated, alone, and lie on the locus: of the gains of light from 0.1" to 0.2" and from
0.2" to 0.4", point sources have the least, the same for all. Coadds are read one after the other, only stamps
are kept.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from . import photometry, shapes
from .catalog_files import CoaddFile
from .coadd_psf import CoaddPSF, analytic_psf
from .detection import covered_window, detect, unusable

# Half a side of a stamp, and the distance to the next source, pixels.
_HALF, _ALONE = 20, 30
_LOCUS = 0.25  # how far the gains of stars may be from those of the analytic model, relative
_RANGE = 0.03  # relative width of the ranges that are compared to find the locus
_NORM = "04"  # aperture that scales the stars


@dataclass(frozen=True)
class Stars:
    """
    Stamps of the stars of some coadds.

    Attributes
    ----------
    radius, light : (n, m) float32
        Distances of the pixels from the star, pixels, and their values over the star's flux within 0.4"; NaN
        for pixels left out.
    snr : (n,) float32
        Flux within 0.4" over its error.
    """

    radius: np.ndarray
    light: np.ndarray
    snr: np.ndarray


def find_stars(coadd: CoaddFile, parameters: dict, detection: dict) -> Stars:
    """
    Stamps of the stars of a coadd.

    Parameters
    ----------
    coadd : CoaddFile
    parameters : dict
        Section ``epsf`` of the configuration.
    detection : dict
        Keywords of `detection.detect`.

    Returns
    -------
    Stars
    """
    bad = unusable(coadd.data, coadd.err, coadd.weight)
    window = covered_window(bad)
    if window is None:
        return _no_stars()
    data, err, weight = (
        np.ascontiguousarray(plane[window]) for plane in (coadd.data, coadd.err, coadd.weight)
    )
    found = detect(data, np.ascontiguousarray(bad[window]), **detection)
    shape = shapes.moments(found.data, found.smoothed, found.segments, found.blended.size)
    scale = photometry.Scale(coadd.grid.middle_pixel_area, coadd.correlation)
    columns, coverage = photometry.circles(found, err, shape.x, shape.y, scale)
    snr = columns[f"aper{_NORM}_flux"] / columns[f"aper{_NORM}_flux_err"]
    full = np.min([coverage[f"aper{name}"] for name in ("02", "04", "08")], axis=0) > 0.9999
    good = (snr > parameters["min_snr"]) & full & _alone(shape)
    # saturated cores are no data, and weigh less where only some exposures lost them
    good[good] &= _even_weight(weight, shape.x[good], shape.y[good])
    model = analytic_psf(
        *(coadd.optical_element, coadd.grid.pixel_scale * 3600),
        **{"pixfrac": coadd.pixfrac, "kernel": coadd.kernel, "jitter": coadd.jitter},
    )
    chosen = np.flatnonzero(good)[on_locus({k: v[good] for k, v in columns.items()}, model)]
    chosen = chosen[np.argsort(-snr[chosen], kind="stable")][: parameters["max_stars"]]
    flux = columns[f"aper{_NORM}_flux"][chosen] / scale.flux
    return _stamps(found, shape.x[chosen], shape.y[chosen], flux, snr[chosen])


def _no_stars() -> Stars:
    return Stars(*np.zeros((2, 0, (2 * _HALF + 1) ** 2), np.float32), np.zeros(0, np.float32))


def _alone(shape: shapes.Moments) -> np.ndarray:
    """Whether no other source is near."""
    from scipy.spatial import KDTree

    if shape.x.size < 2:
        return np.isfinite(shape.x)
    places = np.nan_to_num(np.stack([shape.x, shape.y], axis=1), nan=-1e6)
    distance, _ = KDTree(places).query(places, k=[2])
    return np.isfinite(shape.x) & (distance[:, 0] > _ALONE)


def _even_weight(weight: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether the middle weighs as much as its surroundings."""
    stamps = shapes.gather(weight, x, y, _HALF)
    core = stamps[:, _HALF - 2 : _HALF + 3, _HALF - 2 : _HALF + 3].min(axis=(1, 2))
    return core > 0.8 * np.median(stamps, axis=(1, 2))


def on_locus(columns: dict[str, np.ndarray], model: CoaddPSF) -> np.ndarray:
    """
    Indices of the sources that gain as little light with the radius as point sources.

    Parameters
    ----------
    columns : dict
        ``aper01_flux``, ``aper02_flux``, ``aper04_flux`` with errors, (n,) float64.
    model : CoaddPSF
        Tells where to look for the locus.

    Returns
    -------
    (k,) int64
    """
    kept = np.ones(columns["aper04_flux"].size, bool)
    for inner, outer in (("01", "02"), ("02", "04")):
        gain = columns[f"aper{outer}_flux"] / columns[f"aper{inner}_flux"]
        expected = np.divide(*model.encircled_energy(np.array([int(outer), int(inner)]) / 10))
        near = kept & (np.abs(gain / expected - 1) < _LOCUS)
        if not near.any():
            return np.zeros(0, np.int64)
        middle = _least_peak(gain[near])
        # what lies below the peak is noise alone: galaxies lie above
        below = middle - gain[near & (gain <= middle)]
        width = max(3 * 1.4826 * float(np.median(below)), 0.01 * middle)
        kept = near & (np.abs(gain - middle) < width)
    return np.flatnonzero(kept)


def _least_peak(values: np.ndarray) -> float:
    """Middle of the least narrow range of values that holds half as many as the fullest one."""
    values = np.sort(values)
    last = np.searchsorted(values, values * (1 + _RANGE), side="right")
    counts = last - np.arange(values.size)
    first = int(np.argmax(counts >= 0.5 * counts.max()))
    # the fullest range that begins in it
    first += int(np.argmax(counts[first : last[first]]))
    return float(np.median(values[first : last[first]]))


def _stamps(found, x: np.ndarray, y: np.ndarray, flux: np.ndarray, snr: np.ndarray) -> Stars:
    """Radii and scaled light of the pixels round some places, other sources left out."""
    offsets = np.arange(-_HALF, _HALF + 1)
    cols, rows = np.rint(x), np.rint(y)
    dx = (cols - x)[:, None, None] + offsets
    dy = (rows - y)[:, None, None] + offsets[:, None]
    light = shapes.gather(found.data, cols, rows, _HALF) / flux[:, None, None]
    labels = shapes.gather(found.segments, cols, rows, _HALF)
    own = labels[:, _HALF, _HALF][:, None, None]
    bad = shapes.gather(found.bad, cols, rows, _HALF)
    light[(bad > 0) | ((labels != 0) & (labels != own))] = np.nan
    flat = (x.size, -1)
    return Stars(
        np.hypot(dx, dy).reshape(flat).astype(np.float32),
        light.reshape(flat).astype(np.float32),
        snr.astype(np.float32),
    )


def join(parts: Iterable[Stars], max_stars: int) -> Stars:
    """Best stars of several coadds; only so many are held at a time."""
    held = _no_stars()
    for part in parts:
        arrays = [
            np.concatenate([getattr(held, name), getattr(part, name)])
            for name in ("radius", "light", "snr")
        ]
        best = np.argsort(-arrays[2], kind="stable")[:max_stars]
        held = Stars(*(array[best] for array in arrays))
    return held


def profile(stars: Stars) -> tuple[np.ndarray, np.ndarray]:
    """
    Radial profile of stars: a smooth curve through the pixels of all.

    Clipped medians in rings a quarter of a pixel wide (wider outside), each at the mean radius of its pixels.

    Parameters
    ----------
    stars : Stars
        At least one.

    Returns
    -------
    radius, light : (k,) float64
        Pixels; flux per pixel for a flux of 1 within 0.4".
    """
    used = np.isfinite(stars.light) & (stars.radius < _HALF)
    radius, light = stars.radius[used].astype(float), stars.light[used].astype(float)
    edges = np.concatenate([[0, 0.35], np.arange(0.6, 6, 0.25), np.arange(6, _HALF + 0.5, 0.5)])
    rows = []
    for low, high in pairwise(edges):
        ring = (radius >= low) & (radius < high)
        if ring.sum() < 3:
            continue
        r, v = radius[ring], light[ring]
        # the slope within the ring is no scatter
        slope = np.polyfit(r, v, 1) if ring.sum() > 10 else np.array([0.0, np.median(v)])
        rest = v - np.polyval(slope, r)
        keep = np.abs(rest - np.median(rest)) <= 4 * 1.4826 * np.median(np.abs(rest)) + 1e-12
        rows.append((r[keep].mean(), v[keep].mean()))
    return tuple(np.array(rows).T)


def measure_epsf(coadds: Iterable[CoaddFile], parameters: dict, detection: dict) -> dict:
    """
    Measure the PSF of the coadds of one filter.

    Parameters
    ----------
    coadds : iterable of CoaddFile
        One is held at a time. Those drizzled otherwise than the first are left out.
    parameters, detection : dict
        As for `find_stars`.

    Returns
    -------
    dict
        Plain values and arrays, for `product.write_step`: ``drizzling`` (pixel scale in arcsec, pixfrac,
        kernel), ``coadds``, ``left_out`` and ``stars`` (numbers), ``radius`` and ``light`` (see `profile`),
        ``inputs``.
    """
    told = {"drizzling": None, "coadds": 0, "left_out": 0, "inputs": []}

    def parts() -> Iterable[Stars]:
        for coadd in coadds:
            told["drizzling"] = told["drizzling"] or drizzling(coadd)
            if drizzling(coadd) != told["drizzling"]:
                told["left_out"] += 1
                continue
            told["coadds"] += 1
            told["inputs"] = sorted({*told["inputs"], *coadd.inputs})
            stars = find_stars(coadd, parameters, detection)
            del coadd  # before the next one is read
            yield stars

    stars = join(parts(), parameters["max_stars"])
    none = np.zeros(0)
    radius, light = profile(stars) if stars.snr.size else (none, none)
    return told | {"stars": int(stars.snr.size), "radius": radius, "light": light}


def drizzling(coadd: CoaddFile) -> list:
    """What makes the PSFs of two coadds of a filter comparable: pixel scale (arcsec), pixfrac, kernel."""
    return [round(coadd.grid.pixel_scale * 3600, 6), float(coadd.pixfrac), coadd.kernel]
