"""Projection regions of a sky tessellation: which holds a position, which a footprint comes near."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .grid import unit_vector

#: Right ascensions this close (degrees) outside a region's limits still belong to it: limits that two
#: regions share may differ in their last bit.
_LIMIT_SLACK = 1e-9


@dataclass(frozen=True)
class RegionTable:
    """
    Projection regions: tangent points and limits, one array element per region.

    A region holds the positions with dec_min <= dec < dec_max and ra_min <= ra < ra_max (through RA 0
    when ra_min > ra_max); the one that ends at +90 also holds the pole.

    Attributes
    ----------
    index : (R,) int64
        Index of the region in the whole sky.
    ra, dec : (R,) float64
        Tangent points, degrees.
    ra_min, ra_max, dec_min, dec_max : (R,) float64
        Limits, degrees.
    orientation : (R,) float64
        Rotation of the pixel axes, degrees.
    x_east : bool
        Right ascension increases with x.
    """

    index: np.ndarray
    ra: np.ndarray
    dec: np.ndarray
    ra_min: np.ndarray
    ra_max: np.ndarray
    dec_min: np.ndarray
    dec_max: np.ndarray
    orientation: np.ndarray
    x_east: bool = True

    def __len__(self) -> int:
        return len(self.index)

    @cached_property
    def width(self) -> np.ndarray:
        """(R,) extent in right ascension, degrees: 360 for a polar cap."""
        width = (self.ra_max - self.ra_min) % 360.0
        return np.where(width == 0, 360.0, width)

    @cached_property
    def frames(self) -> np.ndarray:
        """(R, 3, 3) float64: unit vectors of +x, +y and the tangent point as rows (see `Grid.frame`)."""
        ra, dec, turn = np.radians(self.ra), np.radians(self.dec), np.radians(self.orientation)
        polar = np.abs(self.dec) == 90
        cos_dec = np.where(polar, 0.0, np.cos(dec))
        sin_dec = np.where(polar, np.sign(self.dec), np.sin(dec))
        cos_ra, sin_ra, zero = np.cos(ra), np.sin(ra), np.zeros_like(ra)
        east = np.stack([-sin_ra, cos_ra, zero], -1) * (1.0 if self.x_east else -1.0)
        north = np.stack([-sin_dec * cos_ra, -sin_dec * sin_ra, cos_dec], -1)
        tangent = np.stack([cos_dec * cos_ra, cos_dec * sin_ra, sin_dec], -1)
        c, s = np.cos(turn)[:, None], np.sin(turn)[:, None]
        return np.stack([c * east - s * north, s * east + c * north, tangent], 1)

    @cached_property
    def radius(self) -> np.ndarray:
        """(R,) float64: angle from the tangent point to the farthest point of the region, radians."""
        west, east = (self.ra - self.ra_min) % 360.0, (self.ra_max - self.ra) % 360.0
        # On a parallel the angle grows with the difference in right ascension, up to 180 degrees.
        widest = np.radians(np.minimum(np.maximum(west, east), 180.0))
        dec0, cosines = np.radians(self.dec), []
        for limit in (np.radians(self.dec_min), np.radians(self.dec_max)):
            cosines.append(
                np.sin(dec0) * np.sin(limit) + np.cos(dec0) * np.cos(limit) * np.cos(widest)
            )
        return np.arccos(np.clip(np.minimum(*cosines), -1.0, 1.0))

    @cached_property
    def _bands(self) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        """Lower limits, upper limits and members (sorted by ra_min) of the bands of declination."""
        lower, first, band = np.unique(self.dec_min, return_index=True, return_inverse=True)
        order = np.lexsort((self.ra_min, band))
        members = np.split(order, np.searchsorted(band[order], np.arange(1, len(lower))))
        return lower, self.dec_max[first], members

    def find(self, ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
        """
        Region of each position.

        Parameters
        ----------
        ra, dec : (n,) float64
            Degrees; any right ascension.

        Returns
        -------
        (n,) int64
            Rows of this table, -1 where no region holds the position (or it is not finite).
        """
        lower, upper, members = self._bands
        good = np.isfinite(ra) & (np.abs(dec) <= 90)
        ra, dec = np.where(good, ra, 0.0) % 360.0, np.where(good, dec, 0.0)
        band = np.searchsorted(lower, dec, side="right") - 1
        inside = good & (band >= 0)
        inside &= (dec < upper[band]) | (upper[band] >= 90)
        found = np.full(len(ra), -1)
        for number in np.unique(band[inside]):
            here = np.flatnonzero(inside & (band == number))
            rows = members[number]
            # Position -1, before the first limit, is the last region, which goes through RA 0.
            row = rows[np.searchsorted(self.ra_min[rows], ra[here], side="right") - 1]
            beyond = (ra[here] - self.ra_min[row]) % 360.0
            found[here] = np.where(beyond < self.width[row] + _LIMIT_SLACK, row, -1)
        return found

    def near(self, center: np.ndarray, radius: float) -> np.ndarray:
        """Rows of the regions whose outer circle comes within `radius` (radians) of a unit vector (3,)."""
        cosine = self.frames[:, 2] @ center
        return np.flatnonzero(cosine > np.cos(np.minimum(self.radius + radius, np.pi)))

    def crossed(self, rows: np.ndarray, polygon: np.ndarray) -> np.ndarray:
        """
        Whether an edge of a polygon runs through the inside of each region.

        The meridians that bound a region are great circles: they cut an edge exactly. What is left of the
        edge meets the region when its range of declination does.

        Parameters
        ----------
        rows : (r,) int
            Regions to test.
        polygon : (3, V + 1) float64
            Unit vectors of the vertices, the first repeated at the end.

        Returns
        -------
        (r,) bool
        """
        start, step = polygon[:, :-1], np.diff(polygon, axis=1)
        begin, end = np.zeros((len(rows), start.shape[1])), np.ones((len(rows), start.shape[1]))
        sides = ((self.ra_min[rows], 1.0), (self.ra_max[rows], -1.0))
        for limit, sign in sides:
            meridian = np.radians(limit)
            normal = sign * np.stack([-np.sin(meridian), np.cos(meridian), np.zeros(len(rows))], -1)
            normal[self.width[rows] == 360.0] = 0.0
            first, slope = normal @ start, normal @ step
            # An edge along the meridian is in or out as a whole: no begin is behind 2, no end before -1.
            along = np.abs(slope) < 1e-30
            cut = np.clip(-first / np.where(along, 1.0, slope), -1.0, 2.0)
            cut = np.where(along, np.where(first < 0, 2.0, 0.0), cut)
            begin = np.maximum(begin, np.where((slope > 0) | along, cut, 0.0))
            end = np.minimum(end, np.where((slope < 0) & ~along, cut, 1.0))
        low, high = _height_range(start, step, begin, end)
        bottom = np.where(self.dec_min[rows] <= -90, -2, np.sin(np.radians(self.dec_min[rows])))
        top = np.where(self.dec_max[rows] >= 90, 2, np.sin(np.radians(self.dec_max[rows])))
        return ((begin < end) & (low < top[:, None]) & (high > bottom[:, None])).any(axis=1)


def _height_range(start, step, begin, end):
    """Range of sin(dec) of the great-circle arcs below the chords start + t step, begin <= t <= end."""
    length, along = (start**2).sum(0), (start * step).sum(0)
    squared = (step**2).sum(0)
    turning = step[2] * along - start[2] * squared
    flat = np.abs(turning) < 1e-30
    turn = (start[2] * along - step[2] * length) / np.where(flat, 1.0, turning)
    turn = np.where(flat, begin, np.clip(turn, begin, np.maximum(begin, end)))
    heights = [
        (start[2] + t * step[2]) / np.sqrt(length + t * (2 * along + t * squared))
        for t in (begin, turn, end)
    ]
    return np.minimum.reduce(heights), np.maximum.reduce(heights)


def project(frames: np.ndarray, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    Gnomonic plane positions (radians) of unit vectors in several frames.

    Parameters
    ----------
    frames : (r, 3, 3) float64
        As `RegionTable.frames`.
    vectors : (3, n) float64
        Unit vectors, less than 90 degrees from every tangent point.

    Returns
    -------
    x, y : (r, n) float64
    """
    v = frames @ vectors
    return v[:, 0] / v[:, 2], v[:, 1] / v[:, 2]


def region_of(regions: RegionTable, ra, dec) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Region rows of positions (n,) in degrees, -1 for none, and their plane positions (radians, else 0)."""
    row = regions.find(ra, dec)
    known = np.flatnonzero(row >= 0)
    v = np.einsum("nij,jn->in", regions.frames[row[known]], unit_vector(ra[known], dec[known]))
    x, y = np.zeros(len(row)), np.zeros(len(row))
    x[known], y[known] = v[0] / v[2], v[1] / v[2]
    return row, x, y
