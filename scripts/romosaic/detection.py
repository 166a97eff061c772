"""Find sources in a coadd: background, matched filter, threshold, segmentation (photutils underneath)."""

import math
import warnings
from dataclasses import dataclass

import numpy as np

from .background import background, level_between
from .detection_kernels import label, mark_near, mark_unusable, smooth
from .errors import ConfigError

# Deblending as in romancal: 32 exponential levels, a child needs 1e-4 of its parent's light.
_DEBLEND_LEVELS = 32
_DEBLEND_CONTRAST = 1e-4
# Samples of the matched filter along a pixel.
_SAMPLES = 10
# Pixels of wings around a segment (1.1 arcsec of a skycell). With 10 half of the bias that wings give the
# background is left, with 20 a third, with 30 a quarter, but only two thirds of the pixels of a dense cell.
_WINGS = 20
# Surface brightness beyond this is no measurement (MJy/sr; the brightest stars saturate near 1e6).
_LARGEST = 1e15


@dataclass(frozen=True)
class Detection:
    """
    What detection hands to the measurements.

    Attributes
    ----------
    data : (ny, nx) float32
        Image less the background between the sources, 0 where `bad`: what is measured.
    smoothed : (ny, nx) float32
        Image less the background of all pixels, through the matched filter: what was searched.
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
    return mark_unusable(data, err, weight, np.float32(_LARGEST))


def covered_window(bad: np.ndarray) -> tuple[slice, slice] | None:
    """Smallest window (rows, columns) that holds all usable pixels, None without any."""
    rows = np.flatnonzero(~bad.all(axis=1))
    if rows.size == 0:
        return None
    cols = np.flatnonzero(~bad[rows[0] : rows[-1] + 1].all(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(cols[0]), int(cols[-1]) + 1)


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
    size = math.ceil(3.0 * fwhm) // 2 * 2 + 1
    fine = (np.arange(size * _SAMPLES) + 0.5) / _SAMPLES - size / 2
    profile = np.exp(-4.0 * math.log(2.0) * (fine / fwhm) ** 2)
    return profile.reshape(size, _SAMPLES).sum(axis=1) / profile.sum()


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
    connected by sides or corners in groups of at least `npixels`, are a source. This is done on the background
    of all pixels, as in romancal; wings of the sources are in it, so that what is measured afterwards is the
    image less the background of the pixels away from them.

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
    clean, rms = background(data, bad, bkg_boxsize)
    np.subtract(data, clean, out=clean, where=~bad)
    kernel = matched_filter(kernel_fwhm)
    smoothed = smooth(clean, bad, kernel)
    rms *= np.float32(snr_threshold)
    segments, blended = _segment(smoothed, rms, bad, npixels, deblend)
    if blended.size:
        near = mark_near(segments, bad, _WINGS)
        # The plane of what was searched takes the level, and then what is measured.
        if level_between(data, bad, near, bkg_boxsize, clean):
            np.subtract(data, clean, out=clean, where=~bad)
    return Detection(clean, smoothed, rms, bad, segments, blended, kernel)


def _segment(
    smoothed: np.ndarray, threshold: np.ndarray, bad: np.ndarray, npixels: int, deblend: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Label connected pixels above the threshold; also which labels are children of a blend."""
    segments, n = label(smoothed, threshold, bad, npixels)
    if n == 0 or not deblend:
        return segments, np.zeros(n, bool)
    parents, segments = segments, _deblended(smoothed, segments, npixels)
    inside = segments > 0
    family = np.zeros(segments.max() + 1, np.int64)
    family[segments[inside]] = parents[inside]
    return segments, (np.bincount(family)[family] > 1)[1:]


def _deblended(smoothed: np.ndarray, segments: np.ndarray, npixels: int) -> np.ndarray:
    """Segmentation with overlapping sources cut apart at saddles (photutils, multi-threshold)."""
    from photutils.segmentation import SegmentationImage, deblend_sources

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = deblend_sources(
                smoothed,
                SegmentationImage(segments.copy()),
                npixels,
                n_levels=_DEBLEND_LEVELS,
                contrast=_DEBLEND_CONTRAST,
                progress_bar=False,
            )
        return np.ascontiguousarray(found.data, np.int32)
    except ModuleNotFoundError as error:
        raise ConfigError(
            "config",
            [
                f"source_catalog.deblend: photutils before 3.1 needs the package {error.name} -> install "
                "scikit-image, use Python 3.12 or later, or set deblend to false"
            ],
        ) from error
