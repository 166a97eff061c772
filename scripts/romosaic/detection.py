"""Find sources in a coadd: background, matched filter, threshold, segmentation (photutils underneath)."""

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import ConfigError

# Deblending as in romancal: 32 exponential levels, a child needs 1e-4 of its parent's light.
_DEBLEND_LEVELS = 32
_DEBLEND_CONTRAST = 1e-4
# Surface brightness beyond this is no measurement (MJy/sr; the brightest stars saturate near 1e6).
_LARGEST = 1e15


@dataclass(frozen=True)
class Detection:
    """
    What detection hands to the measurements.

    Attributes
    ----------
    data : (ny, nx) float32
        Background-subtracted image, 0 where `bad`.
    smoothed : (ny, nx) float32
        `data` through the matched filter.
    threshold : (ny, nx) float32
        What a pixel of `smoothed` must exceed to belong to a source.
    bad : (ny, nx) bool
        Pixels without a usable value.
    segments : (ny, nx) int32
        Labels 1..n, 0 is background.
    blended : (n,) bool
        Sources that were cut out of a larger one.
    kernel : (k,) float64
        Matched filter along one axis (it is separable).
    stars : (n,) bool, optional
        Sources of the star finder, whose segments are discs; without it none.
    starts : (n, 2) float64, optional
        Where (x, y) the star is that a segment stands for, when it holds several; otherwise NaN.
    """

    data: np.ndarray
    smoothed: np.ndarray
    threshold: np.ndarray
    bad: np.ndarray
    segments: np.ndarray
    blended: np.ndarray
    kernel: np.ndarray
    stars: np.ndarray | None = None
    starts: np.ndarray | None = None


def unusable(data: np.ndarray, err: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """
    Mark pixels that cannot be measured.

    Parameters
    ----------
    data, err, weight : (ny, nx) float32

    Returns
    -------
    (ny, nx) bool
        True where data or err are not finite (or so large that their squares are not), err is not positive,
        or the weight is not a positive number.
    """
    # NaN compares false.
    good = np.abs(data) < _LARGEST
    good &= err < _LARGEST
    good &= err > 0
    good &= np.isfinite(weight)
    good &= weight > 0
    return ~good


def covered_window(bad: np.ndarray) -> tuple[slice, slice] | None:
    """Smallest window (rows, columns) that holds all usable pixels, None without any."""
    rows = np.flatnonzero(~bad.all(axis=1))
    if rows.size == 0:
        return None
    cols = np.flatnonzero(~bad[rows[0] : rows[-1] + 1].all(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(cols[0]), int(cols[-1]) + 1)


def background(data: np.ndarray, bad: np.ndarray, boxsize: int) -> tuple[np.ndarray, np.ndarray]:
    """
    Background level and its pixel-to-pixel rms.

    Clipped medians in boxes (3 sigma from the median, sigma from the median absolute deviation), median
    filtered over 3x3 boxes and interpolated (photutils.background.Background2D). Where no box is filled
    well enough, the whole image is one box.

    Parameters
    ----------
    data : (ny, nx) float32
        With at least one usable pixel.
    bad : (ny, nx) bool
        Pixels to leave out.
    boxsize : int
        Side of a box, pixels.

    Returns
    -------
    level, rms : (ny, nx) float32
        0 where `bad`.
    """
    from astropy.stats import SigmaClip
    from photutils.background import Background2D, MedianBackground

    options = {
        "filter_size": (3, 3),
        "coverage_mask": bad if bad.any() else None,
        "sigma_clip": SigmaClip(sigma=3.0, stdfunc="mad_std"),
        "bkg_estimator": MedianBackground(),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model = Background2D(data, boxsize, **options)
        except ValueError:
            model = Background2D(data, data.shape, exclude_percentile=100.0, **options)
    return tuple(
        _full_size(mesh, model.box_size, data.shape, bad)
        for mesh in (model.background_mesh, model.background_rms_mesh)
    )


def _full_size(
    mesh: np.ndarray, box: np.ndarray, shape: tuple[int, int], bad: np.ndarray
) -> np.ndarray:
    """
    Interpolate box values to pixels by cubic splines, within the range of the boxes.

    The same numbers as photutils' own interpolation, which evaluates the 2-D spline at every pixel; splines on
    a grid are products of two sets of 1-D weights.
    """
    from scipy.ndimage import zoom

    def weights(n: int, size: int, length: int) -> np.ndarray:
        columns = [zoom(unit, size, mode="reflect", grid_mode=True)[:length] for unit in np.eye(n)]
        return np.stack(columns, axis=1).astype(np.float32)

    if np.ptp(mesh) == 0:
        image = np.full(shape, mesh.flat[0], np.float32)
    else:
        # Around the mean: float32 then loses nothing of the differences between boxes.
        mean = float(mesh.mean())
        rows, cols = (weights(mesh.shape[k], int(box[k]), shape[k]) for k in (0, 1))
        image = (rows @ (mesh - mean).astype(np.float32)) @ cols.T
        image += np.float32(mean)
        np.clip(image, np.float32(mesh.min()), np.float32(mesh.max()), out=image)
    image[bad] = 0.0
    return image


def matched_filter(fwhm: float) -> np.ndarray:
    """
    One axis of the normalised Gaussian detection kernel.

    Parameters
    ----------
    fwhm : float
        Pixels.

    Returns
    -------
    (k,) float64
        Odd length of at least 3 fwhm, averaged over the pixels, sum 1; the 2-D kernel is its outer product.
    """
    from photutils.segmentation import make_2dgaussian_kernel

    size = math.ceil(3.0 * fwhm)
    return make_2dgaussian_kernel(fwhm, size=size + 1 - size % 2).array.sum(axis=0)


def smooth(data: np.ndarray, bad: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """
    Convolve with a separable kernel, unusable pixels and the outside of the image interpolated over.

    Parameters
    ----------
    data : (ny, nx) float32
        0 where `bad`.
    bad : (ny, nx) bool
    kernel : (k,) float64
        One axis of a symmetric kernel.

    Returns
    -------
    (ny, nx) float32
        0 where the kernel meets no usable pixel.
    """
    from scipy.ndimage import correlate1d

    def convolved(image: np.ndarray) -> np.ndarray:
        rows = correlate1d(image, kernel, axis=0, mode="constant")
        return correlate1d(rows, kernel, axis=1, mode="constant")

    result = convolved(data)
    if bad.any():
        weight = convolved((~bad).astype(np.float32))
        covered = weight > 1e-6
        np.divide(result, weight, out=result, where=covered)
        result[~covered] = 0.0
        return result
    along = [correlate1d(np.ones(n), kernel, mode="constant") for n in data.shape]
    result /= along[0][:, None].astype(np.float32)
    result /= along[1][None, :].astype(np.float32)
    return result


def detect(
    data: np.ndarray,
    bad: np.ndarray,
    *,
    bkg_boxsize: int,
    kernel_fwhm: float,
    snr_threshold: float,
    npixels: int,
    deblend: bool,
) -> Detection:
    """
    Find the sources of an image.

    Pixels of the smoothed image above `snr_threshold` times the background rms (of the unsmoothed image),
    connected by sides or corners in groups of at least `npixels`, are a source.

    Parameters
    ----------
    data : (ny, nx) float32
        Image with its sky.
    bad : (ny, nx) bool
        Pixels to leave out, at least one False.
    bkg_boxsize : int
        Side of a background box, pixels.
    kernel_fwhm : float
        Width of the matched filter, pixels.
    snr_threshold : float
        Threshold in units of the background rms.
    npixels : int
        Least number of pixels of a source.
    deblend : bool
        Cut overlapping sources apart.

    Returns
    -------
    Detection
    """
    clean = np.where(bad, np.float32(0), data)
    level, rms = background(clean, bad, bkg_boxsize)
    np.subtract(clean, level, out=clean, where=~bad)
    kernel = matched_filter(kernel_fwhm)
    smoothed = smooth(clean, bad, kernel)
    rms *= np.float32(snr_threshold)
    segments, blended = _segment(smoothed, rms, bad, npixels, deblend)
    return Detection(clean, smoothed, rms, bad, segments, blended, kernel)


def _segment(
    smoothed: np.ndarray, threshold: np.ndarray, bad: np.ndarray, npixels: int, deblend: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Label connected pixels above the threshold; also which labels are children of a blend."""
    from photutils.segmentation import detect_sources

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # A mask that covers the whole image is refused; an empty one costs a copy.
        mask = bad if bad.any() else None
        found = detect_sources(smoothed, threshold, npixels, mask=mask)
        if found is None:
            return np.zeros(smoothed.shape, np.int32), np.zeros(0, bool)
        parents = found.data
        if not deblend:
            return np.ascontiguousarray(parents, np.int32), np.zeros(found.n_labels, bool)
        parents = parents.copy()
        found = _deblended(smoothed, found, npixels)
    segments = np.ascontiguousarray(found.data, np.int32)
    inside = segments > 0
    family = np.zeros(segments.max() + 1, np.int64)
    family[segments[inside]] = parents[inside]
    return segments, (np.bincount(family)[family] > 1)[1:]


def _deblended(smoothed: np.ndarray, found: Any, npixels: int) -> Any:
    """Segmentation with overlapping sources cut apart at saddles (photutils, multi-threshold)."""
    from photutils.segmentation import deblend_sources

    try:
        return deblend_sources(
            smoothed,
            found,
            npixels,
            n_levels=_DEBLEND_LEVELS,
            contrast=_DEBLEND_CONTRAST,
            progress_bar=False,
        )
    except ModuleNotFoundError as error:
        raise ConfigError(
            "config",
            [
                f"source_catalog.deblend: photutils before 3.1 needs the package {error.name} -> install "
                "scikit-image, use Python 3.12 or later, or set deblend to false"
            ],
        ) from error
