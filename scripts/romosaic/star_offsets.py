"""Astrometry of the members of a product: bright stars, centred in each exposure anew."""

from collections.abc import Mapping, Sequence

import numpy as np

from .grid import Grid

#: Stars looked at, and half a side of the pixels read around one.
MAX_STARS, HALF = 60, 5
#: Width of the Gaussian window of a centroid, detector pixels: about that of a star in the middle filters.
_SIGMA = 1.0
_TURNS = 8
_LEAST_SNR = 30.0


def member_offsets(
    members: Sequence, flagged: Sequence[np.ndarray], ra: np.ndarray, dec: np.ndarray, grid: Grid
) -> dict:
    """
    Compare the positions of stars in the members with each other.

    Parameters
    ----------
    members : sequence of FluxExposure
        A few pixels around each star are read.
    flagged : sequence of (n,) uint32 array
        Flat indices of each member's outliers: stars with one of them near the centre do not count there.
    ra, dec : (n,) float64 arrays
        Positions of stars, brightest first, degrees.
    grid : Grid
        Grid on which positions are compared.

    Returns
    -------
    dict
        `n_stars`: stars seen in two members or more; `scatter`: rms along an axis of one star in one member
        about its mean, mas; `offsets`: median offset of each member from the others, mas along x and y of
        the grid, None for a member with fewer than three of the stars; `largest`: length of the largest.
    """
    place = np.full((2, len(members), min(len(ra), MAX_STARS)), np.nan)
    for number, (member, outliers) in enumerate(zip(members, flagged, strict=True)):
        place[:, number] = _positions(member, outliers, ra[:MAX_STARS], dec[:MAX_STARS], grid)
    place *= grid.pixel_scale * 3.6e6
    seen = np.isfinite(place[0]).sum(axis=0)
    place = place[:, :, seen >= 2]
    if not place.size:
        return {"n_stars": 0, "scatter": None, "offsets": [None] * len(members), "largest": None}
    count = np.isfinite(place[0]).sum(axis=0)
    # About the mean of the OTHERS, so that a member that is off does not drag its own yardstick.
    total = np.nansum(place, axis=1, keepdims=True)
    from_others = place - (total - place) / (count - 1)
    offsets = [
        np.nanmedian(from_others[:, k], axis=1).tolist()
        if np.isfinite(from_others[0, k]).sum() >= 3
        else None
        for k in range(len(members))
    ]
    lengths = [float(np.hypot(*offset)) for offset in offsets if offset]
    deviation = (place - total / count) * np.sqrt(count / (count - 1))
    scatter = 1.4826 * np.nanmedian(np.abs(deviation))
    return {
        "n_stars": int(place.shape[2]),
        "scatter": float(scatter),
        "offsets": offsets,
        "largest": max(lengths, default=None),
    }


def choose_stars(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """
    Rows of a catalog that are bright, clean point sources, brightest first.

    Parameters
    ----------
    columns : mapping
        Columns `is_extended`, `image_flags`, `warning_flags`, `aper04_flux`, `aper04_flux_err`.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        good = columns["aper04_flux"] / columns["aper04_flux_err"] > _LEAST_SNR
    good &= ~columns["is_extended"].astype(bool) & (columns["warning_flags"] == 0)
    # Low depth (bit 4) does not blur a star.
    good &= columns["image_flags"] & ~4 == 0
    rows = np.flatnonzero(good)
    return rows[np.argsort(-columns["aper04_flux"][rows], kind="stable")]


def _positions(
    member, outliers: np.ndarray, ra: np.ndarray, dec: np.ndarray, grid: Grid
) -> np.ndarray:
    """Positions (2, n) of the stars on the grid as one member sees them; NaN where it does not."""
    ny, nx = member.shape
    data, dq, pixmap = member.data, member.dq, member.pixmap
    x, y = pixmap.detector(ra, dec)
    found = np.full((2, len(ra)), np.nan)
    inside = (x > HALF + 1) & (x < nx - HALF - 2) & (y > HALF + 1) & (y < ny - HALF - 2)
    for k in np.flatnonzero(inside):
        x0, y0 = round(float(x[k])), round(float(y[k]))
        part = np.s_[y0 - HALF : y0 + HALF + 1, x0 - HALF : x0 + HALF + 1]
        stamp, bad = np.array(data[part], float), dq[part] & 1 > 0
        rows = np.arange(y0 - HALF, y0 + HALF + 1)[:, None] * nx
        bad |= np.isin(rows + np.arange(x0 - HALF, x0 + HALF + 1), outliers)
        bad |= ~np.isfinite(stamp)
        if bad[2:-2, 2:-2].any():
            continue
        found[:, k] = _centroid(np.where(bad, np.nan, stamp))
        found[:, k] += x0 - HALF, y0 - HALF
    return np.stack(grid.to_pixel(*pixmap.sky(*found)))


def _centroid(stamp: np.ndarray) -> tuple[float, float]:
    """Centroid (x, y) in a Gaussian window that follows it; NaN where it walks away."""
    rim = np.ones(stamp.shape, bool)
    rim[1:-1, 1:-1] = False
    signal = np.nan_to_num(stamp - np.nanmedian(stamp[rim]))
    y, x = np.mgrid[: stamp.shape[0], : stamp.shape[1]]
    cx = cy = (stamp.shape[0] - 1) / 2
    for _ in range(_TURNS):
        window = signal * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * _SIGMA**2))
        total = window.sum()
        if not total > 0:
            return np.nan, np.nan
        # Twice the step: the window halves it for a source of its own width.
        cx += 2 * float((window * (x - cx)).sum() / total)
        cy += 2 * float((window * (y - cy)).sum() / total)
        if not max(abs(cx - HALF), abs(cy - HALF)) < 2:
            return np.nan, np.nan
    return cx, cy
