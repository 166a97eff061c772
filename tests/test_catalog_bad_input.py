"""Coadds with damage of every kind: nothing crashes, what can be finite is finite, and flags tell of it."""

import hashlib
import os
import subprocess
import sys
import warnings
from pathlib import Path

import catalog_scene as scene
import numpy as np
import pytest
from romosaic.catalog_flags import IMAGE_FLAGS, WARNING_FLAGS
from romosaic.psf_photometry import PSF_FLAGS
from romosaic.source_catalog import make_catalog

#: Columns that every detected source has a value of, whatever its pixels are.
ALWAYS_FINITE = (
    *("x_centroid", "y_centroid", "x_centroid_err", "y_centroid_err", "ra", "dec"),
    *("ra_centroid", "dec_centroid", "ra_centroid_err", "dec_centroid_err", "segment_area"),
    *("semimajor", "semiminor", "fwhm", "ellipticity", "orientation_pix", "orientation_sky"),
    *("cxx", "cxy", "cyy", "segment_flux", "segment_flux_err"),
)
SIZE = 150


def catalog(planes, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return make_catalog(
            *planes, scene.grid(*planes[0].shape), scene.parameters(**options), psf=scene.psf()
        )


def check(planes, **options):
    """What holds for every catalog."""
    copies = [plane.copy() for plane in planes]
    table, segmentation = catalog(planes, **options)
    for plane, copy in zip(planes, copies, strict=True):
        np.testing.assert_array_equal(plane, copy)
    np.testing.assert_array_equal(np.sort(table["label"]), np.arange(1, len(table) + 1))
    np.testing.assert_array_equal(
        np.unique(segmentation[segmentation > 0]), np.sort(table["label"])
    )
    data, err, weight = planes
    unusable = ~(np.isfinite(data) & np.isfinite(err) & (err > 0) & (weight > 0))
    assert not segmentation[unusable].any()
    for name in table.colnames:
        values = np.asarray(table[name])
        if values.dtype.kind == "U":
            continue
        if name.endswith("_err"):
            # An error, or the misfit, may be too large for float32.
            assert not (values < 0).any(), name
            values = np.where(values > 0, 1.0, values)
        elif name == "psf_gof":
            values = np.minimum(values, 1e30)
        assert not np.isinf(values).any(), name
        assert name not in ALWAYS_FINITE or np.isfinite(values).all(), name
    for name, bits in (
        ("image_flags", IMAGE_FLAGS),
        ("warning_flags", WARNING_FLAGS),
        ("psf_flags", PSF_FLAGS),
    ):
        assert not (np.asarray(table[name]) & ~sum(bits)).any(), name
    fitted = np.isfinite(table["psf_flux"])
    assert (np.asarray(table["psf_flags"])[~fitted] & (64 | 128 | 256) > 0).all()
    incomplete = ~np.isfinite(table["aper04_flux"])
    assert (np.asarray(table["image_flags"])[incomplete] & 64 > 0).all()
    return table, segmentation


def star_field(seed=5, n=12, shape=(SIZE, SIZE)):
    rng = np.random.default_rng(seed)
    places = rng.uniform(-1, [shape[1], shape[0]], (n, 2))
    flux = 10 ** rng.uniform(2.5, 4, (n, 1)) * scene.NOISE
    return scene.observe(rng, scene.render(shape, np.hstack([places, flux])))


def _rows(data, err, weight):
    data[::7] = np.nan
    data[30:34] = np.nan


def _no_weight(data, err, weight):
    weight[:, ::5] = 0
    weight[60:70, 60:70] = 0


def _negative_errors(data, err, weight):
    err[::3, ::4] *= -1


def _infinite(data, err, weight):
    data[::11, ::13], err[::17, ::5] = np.inf, np.inf
    data[5::11, ::13] = -np.inf


def _huge(data, err, weight):
    data[40, 40], data[80, 80:90], err[100, 100] = 3e38, 9e14, 9e14


def _tiny_errors(data, err, weight):
    err[:] = 1e-38


def _noiseless(data, err, weight):
    data[:] = 0
    data[50:60, 50:60] = 1e-30


def _half_covered(data, err, weight):
    y, x = np.mgrid[: data.shape[0], : data.shape[1]]
    outside = x + 2 * y < 200
    data[outside], err[outside], weight[outside] = np.nan, np.nan, 0


def _checkered(data, err, weight):
    weight[::2, ::2] = weight[1::2, 1::2] = 0


def _strips(data, err, weight):
    data[:, np.arange(data.shape[1]) % 12 > 3] = np.nan


@pytest.mark.parametrize(
    "damage",
    [
        *(_rows, _no_weight, _negative_errors, _infinite, _huge, _tiny_errors, _noiseless),
        *(_half_covered, _checkered, _strips),
    ],
)
def test_damaged_coadds(damage):
    planes = star_field()
    damage(*planes)
    for options in ({}, {"npixels": 1, "snr_threshold": 1.0, "bkg_boxsize": 20}):
        table, _ = check(planes, **options)
    assert len(table) > 0


@pytest.mark.parametrize("seed", range(12))
def test_fuzzed_coadds(seed):
    """Random shapes, sources, garbage and parameters."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 140, 2))
    planes = star_field(seed, int(rng.integers(0, 30)), shape)
    garbage = np.array([np.nan, np.inf, -np.inf, 0, -1, 1e-30, -1e-30, 1e30, 3e38], np.float32)
    for plane in planes:
        share = rng.choice([0, 0.001, 0.1, 0.6])
        hit = rng.uniform(size=shape) < share
        plane[hit] = rng.choice(garbage, hit.sum())
        if rng.uniform() < 0.5:
            y, x = (int(rng.integers(0, n)) for n in shape)
            plane[y : y + 30, x : x + 30] = rng.choice(garbage)
    check(
        planes,
        bkg_boxsize=int(rng.choice([1, 7, 50, 1000])),
        kernel_fwhm=float(rng.choice([0.5, 2.0, 5.0])),
        snr_threshold=float(rng.choice([0.01, 1.0, 3.0])),
        npixels=int(rng.choice([1, 5, 25])),
    )


@pytest.mark.parametrize("x", [-0.4, 0.0, 74.5, 149.0, 149.4])
@pytest.mark.parametrize("y", [-0.4, 74.5, 149.4])
def test_sources_at_edges_and_corners_are_flagged(x, y):
    rng = np.random.default_rng(1)
    planes = scene.observe(rng, scene.render((SIZE, SIZE), np.array([[x, y, 50.0]])))
    table, _ = check(planes)
    assert len(table) == 1
    flags, inside = int(table["image_flags"][0]), x == y == 74.5
    assert bool(flags & 2) == (not inside) and bool(flags & 128) == (not inside)
    for name, true in (("x_psf", x), ("y_psf", y)):
        assert abs(table[name][0] - true) < 5 * table[f"{name}_err"][0]


def test_one_pixel_of_coverage():
    planes = star_field()
    lone = planes[2].copy()
    lone[:] = 0
    lone[75, 75] = 1
    table, segmentation = check([*planes[:2], lone], npixels=1, snr_threshold=0.1)
    assert len(table) == 0 and not segmentation.any()


def test_star_without_its_core():
    """The centroid falls on pixels without data: measured from the wings, and flagged."""
    rng = np.random.default_rng(2)
    planes = scene.observe(rng, scene.render((SIZE, SIZE), np.array([[75.0, 75.0, 500.0]])))
    planes[0][72:79, 72:79] = np.nan
    table, segmentation = check(planes)
    assert len(table) == 1 and not segmentation[72:79, 72:79].any()
    row = table[0]
    assert row["warning_flags"] == 1 and row["image_flags"] & 1 and row["image_flags"] & 64
    assert row["psf_flags"] & 128 and np.isnan(row["psf_flux"]) and np.isnan(row["x_psf_err"])
    assert np.isnan(row["aper01_flux"]) and np.isfinite(row["aper16_flux"])


def test_numbers_do_not_depend_on_threads_or_photutils():
    """
    The same bytes in a process with many threads, which has neither photutils nor pandas to measure with.

    Since 3.1 photutils gives asdf converters of its apertures, which asdf loads for anyone.
    """
    code = """
import sys
import numpy  # before romosaic, which would leave linear algebra one thread
measuring = {"pandas"} | {f"photutils.{n}" for n in ("background", "detection", "psf", "segmentation")}
from test_catalog_bad_input import catalog, digest, star_field
print(digest(catalog(star_field())[0]))
assert not measuring & set(sys.modules)
"""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    environment = os.environ | dict.fromkeys(names, "4") | {"PYTHONPATH": ":".join(sys.path)}
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == digest(catalog(star_field())[0])


def digest(table) -> str:
    """Digest of all numbers of a catalog."""
    content = b"".join(np.asarray(table[name]).tobytes() for name in table.colnames)
    return f"{len(table)} {hashlib.sha256(content).hexdigest()}"
