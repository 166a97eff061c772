"""
Positions and shapes of segments: image moments and DAOFIND statistics.

Positions are pixels counted from 0, integers are pixel centres; angles are radians here.
"""

import math
from dataclasses import dataclass

import numpy as np

from .detection_kernels import segment_sums

# A detection thinner than a pixel gets the second moment of a pixel (Bertin & Arnouts 1996).
_PIXEL_VARIANCE = 1.0 / 12.0
_FWHM_TO_SIGMA = 1.0 / (2.0 * math.sqrt(2.0 * math.log(2.0)))


@dataclass(frozen=True)
class Moments:
    """
    Measurements of N segments, arrays of length N, float64 unless said otherwise.

    Attributes
    ----------
    x, y : centroid of the smoothed image, pixels
    xx, yy, xy : second central moments, pixels^2, kept above a pixel's own
    xmin, xmax, ymin, ymax : int64, inclusive bounds
    area : int64, pixels
    flux : sum of data over the segment
    """

    x: np.ndarray
    y: np.ndarray
    xx: np.ndarray
    yy: np.ndarray
    xy: np.ndarray
    xmin: np.ndarray
    xmax: np.ndarray
    ymin: np.ndarray
    ymax: np.ndarray
    area: np.ndarray
    flux: np.ndarray

    @property
    def bounds(self) -> np.ndarray:
        """Inclusive xmin, xmax, ymin, ymax, (n, 4) int64."""
        return np.stack([self.xmin, self.xmax, self.ymin, self.ymax], axis=1).astype(np.int64)

    @property
    def semimajor(self) -> np.ndarray:
        """One-sigma semi-major axis, pixels."""
        return np.sqrt(0.5 * (self.xx + self.yy) + self._split)

    @property
    def semiminor(self) -> np.ndarray:
        """One-sigma semi-minor axis, pixels."""
        return np.sqrt(np.maximum(0.5 * (self.xx + self.yy) - self._split, 0.0))

    @property
    def _split(self) -> np.ndarray:
        return np.hypot(0.5 * (self.xx - self.yy), self.xy)

    @property
    def theta(self) -> np.ndarray:
        """Angle of the major axis from +x, counter-clockwise, radians in [-pi/2, pi/2]."""
        return 0.5 * np.arctan2(2.0 * self.xy, self.xx - self.yy)

    @property
    def ellipse(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Coefficients cxx, cxy, cyy (pixel^-2) of the one-sigma ellipse cxx x^2 + cxy x y + cyy y^2 = 1."""
        determinant = self.xx * self.yy - self.xy**2
        return self.yy / determinant, -2.0 * self.xy / determinant, self.xx / determinant


def moments(data: np.ndarray, smoothed: np.ndarray, segments: np.ndarray, n: int) -> Moments:
    """
    Measure segments 1..n.

    Centroid and second moments are those of the smoothed image with negative values taken as zero
    (photutils.segmentation.SourceCatalog); fluxes are sums of the unsmoothed data.

    Parameters
    ----------
    data, smoothed : (ny, nx) float32
    segments : (ny, nx) int32
        Labels 1..n, every one present; 0 is background.
    n : int
        Number of segments.

    Returns
    -------
    Moments
    """
    sums, bounds, area = segment_sums(data, smoothed, segments, n)
    x, y, xx, yy, xy, flux = sums
    return Moments(x, y, *_thicken(xx, yy, xy), *bounds, area, flux)


def _thicken(
    xx: np.ndarray, yy: np.ndarray, xy: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Add a pixel's variance to the diagonal until no ellipse is thinner than a pixel."""
    determinant = xx * yy - xy * xy
    # Rounding alone can make the moments of a line of pixels slightly negative.
    xy = np.where(determinant < 0, np.sign(xy) * np.sqrt(np.maximum(xx * yy, 0)), xy)
    for _ in range(3):
        thin = xx * yy - xy * xy < _PIXEL_VARIANCE**2
        xx, yy = xx + thin * _PIXEL_VARIANCE, yy + thin * _PIXEL_VARIANCE
    return xx, yy, xy


def daofind(
    data: np.ndarray, x: np.ndarray, y: np.ndarray, fwhm: float
) -> tuple[np.ndarray, np.ndarray]:
    """
    DAOFIND sharpness and roundness1 at given positions (Stetson 1987, PASP 99, 191).

    Parameters
    ----------
    data : (ny, nx) float32
        Image without NaN; outside of it counts as zero.
    x, y : (n,) float64
        Positions; the statistics are those of the nearest pixel.
    fwhm : float
        Width of the Gaussian kernel, pixels.

    Returns
    -------
    sharpness, roundness1 : (n,) float32
        NaN where the position is not finite or the statistic is undefined.
    """
    sigma = fwhm * _FWHM_TO_SIGMA
    radius = max(2.0, 1.5 * sigma)
    half = int(radius)
    offsets = np.arange(-half, half + 1)
    r2 = offsets[:, None] ** 2 + offsets[None, :] ** 2
    inside = r2 <= radius**2
    gauss = np.exp(-0.5 * r2 / sigma**2) * inside
    count = inside.sum()
    kernel = (gauss - gauss.sum() / count) / ((gauss**2).sum() - gauss.sum() ** 2 / count) * inside
    good = np.isfinite(x) & np.isfinite(y)
    # One gather of twice the size holds every pixel that the convolved cut-out needs.
    wide = 2 * half
    stamps = gather(data, np.where(good, x, -1e6), np.where(good, y, -1e6), wide)
    windows = np.lib.stride_tricks.sliding_window_view(stamps, kernel.shape, axis=(1, 2))
    convolved = np.einsum("nijkl,kl->nij", windows, kernel)
    core = stamps[:, half:-half, half:-half] * inside
    peak, height = core[:, half, half], convolved[:, half, half].copy()
    with np.errstate(divide="ignore", invalid="ignore"):
        sharpness = (peak - (core.sum(axis=(1, 2)) - peak) / (count - 1)) / height
        convolved[:, half, half] = 0.0
        quads = (
            -convolved[:, : half + 1, half + 1 :].sum(axis=(1, 2))
            + convolved[:, :half, : half + 1].sum(axis=(1, 2))
            - convolved[:, half:, :half].sum(axis=(1, 2))
            + convolved[:, half + 1 :, half:].sum(axis=(1, 2))
        )
        roundness = 2.0 * quads / np.abs(convolved).sum(axis=(1, 2))
    sharpness[~good] = roundness[~good] = np.nan
    return sharpness.astype(np.float32), roundness.astype(np.float32)


def gather(image: np.ndarray, x: np.ndarray, y: np.ndarray, half: int) -> np.ndarray:
    """
    Cut-outs around the pixels nearest to positions.

    Parameters
    ----------
    image : (ny, nx) array
    x, y : (n,) float64
        Finite positions.
    half : int
        Pixels on each side.

    Returns
    -------
    (n, 2 half + 1, 2 half + 1) float64
        Zero outside the image.
    """
    ny, nx = image.shape
    offsets = np.arange(-half, half + 1)
    cols = np.ceil(x - 0.5).astype(np.int64)[:, None, None] + offsets[None, None, :]
    rows = np.ceil(y - 0.5).astype(np.int64)[:, None, None] + offsets[None, :, None]
    inside = (cols >= 0) & (cols < nx) & (rows >= 0) & (rows < ny)
    values = image[np.clip(rows, 0, ny - 1), np.clip(cols, 0, nx - 1)].astype(np.float64)
    return np.where(inside, values, 0.0)
