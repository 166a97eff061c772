"""Quality flags of catalog sources: what each bit means, and how it is found."""

import numpy as np

from .detection_kernels import segment_pixels, touching

#: Bits of `image_flags` that are set by the way of detection.
STAR_FINDER, UNFORCED = 256, 512
#: Bits of `image_flags`.
IMAGE_FLAGS = {
    1: "the segment touches pixels without data",
    2: "the segment touches the border of the covered part of the image",
    4: "the mean weight in the segment is below half of the image's median weight",
    8: "the source was cut out of a blend, or others were cut out of it",
    32: "more than half of the Kron aperture is masked, without data or outside the image",
    64: "the 0.4 arcsec aperture holds pixels without data or outside the image",
    128: "the 1.6 arcsec aperture holds pixels without data or outside the image",
    STAR_FINDER: "found by the star finder: the segment is a disc",
    UNFORCED: "detected in its own image: the forcing filter has no product here",
}
#: Bits of `warning_flags`.
WARNING_FLAGS = {1: "the centroid is not finite or its pixel has no data"}

# An aperture is complete when all but rounding errors of its area was summed.
_COMPLETE = 1 - 1e-6


def image_flags(
    segments: np.ndarray,
    bad: np.ndarray,
    weight: np.ndarray,
    blended: np.ndarray,
    coverage: dict[str, np.ndarray],
) -> np.ndarray:
    """
    Flags of sources 1..n.

    Parameters
    ----------
    segments : (ny, nx) int32
        Segmentation of the covered window of the image.
    bad : (ny, nx) bool
        Pixels without data.
    weight : (ny, nx) float32
        Weight map of the coadd.
    blended : (n,) bool
        Children of a blend.
    coverage : dict
        ``kron``, ``aper04``, ``aper16``: (n,) float64, the part of the aperture's area that was summed.

    Returns
    -------
    (n,) int32
        See `IMAGE_FLAGS`.
    """
    n = blended.size
    rows, cols = segment_pixels(segments)
    index = segments[rows, cols] - 1
    border = (rows == 0) | (cols == 0)
    border |= (rows == segments.shape[0] - 1) | (cols == segments.shape[1] - 1)
    area = np.bincount(index, minlength=n)
    # Low weights are judged against a sample of the image: a median of all pixels buys nothing.
    sample = weight[::7, ::7][~bad[::7, ::7]]
    typical = float(np.median(sample)) if sample.size else 0.0
    low = np.bincount(index, weight[rows, cols], n) < 0.5 * typical * area
    flags = np.zeros(n, np.int32)
    for bit, found in (
        (1, np.bincount(index, touching(bad, rows, cols), n) > 0),
        (2, np.bincount(index, border, n) > 0),
        (4, low),
        (8, blended),
        (32, coverage["kron"] < 0.5),
        (64, coverage["aper04"] < _COMPLETE),
        (128, coverage["aper16"] < _COMPLETE),
    ):
        flags |= np.where(found, np.int32(bit), np.int32(0))
    return flags


def warning_flags(x: np.ndarray, y: np.ndarray, bad: np.ndarray) -> np.ndarray:
    """
    Flags of sources at pixel positions.

    Parameters
    ----------
    x, y : (n,) float64
        Centroids in the window of `bad`.
    bad : (ny, nx) bool
        Pixels without data.

    Returns
    -------
    (n,) int32
        See `WARNING_FLAGS`.
    """
    ny, nx = bad.shape
    col, row = np.round(np.nan_to_num(x, nan=-1.0)), np.round(np.nan_to_num(y, nan=-1.0))
    inside = (col >= 0) & (col < nx) & (row >= 0) & (row < ny)
    pixel = bad[np.clip(row, 0, ny - 1).astype(int), np.clip(col, 0, nx - 1).astype(int)]
    return (~inside | pixel).astype(np.int32)
