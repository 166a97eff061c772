"""
Lattices of skycells, and the Roman sky tessellation computed from its definition.

The sphere is cut into rings of equal regions (the vertical coordinate of HEALPix, Gorski et al. 2005, ApJ
622, 759, with shifted rings and 8 more regions per ring towards the equator); each region has a tangent
plane of its own, on which the skycells stand in a square lattice.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from .errors import SkymapError
from .projection_regions import RegionTable
from .skycell_names import format_name, parse_name, region_prefix

#: Names have two digits for a row or column, counted from 50.
_MAX_OFFSET = 49


@dataclass(frozen=True)
class CellLattice:
    """
    The skycells of one region, in the order of the map.

    Attributes
    ----------
    rows, cols : (n,) int64
        Places in the lattice, northward and eastward from the tangent point.
    x, y : (n,) float64
        Centres in the region's plane, pixels from the tangent point (x mirrored when x points west).
    names : (n,) str or None
        Names, when they are not made from the places.
    """

    rows: np.ndarray
    cols: np.ndarray
    x: np.ndarray
    y: np.ndarray
    names: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def _table(self) -> tuple[np.ndarray, int]:
        """Local index by (row, col), -1 for none, with a rim of missing cells; place of (0, 0) in it."""
        reach = int(max(np.abs(self.rows).max(), np.abs(self.cols).max())) + 1
        table = np.full((2 * reach + 1, 2 * reach + 1), -1)
        table[self.rows + reach, self.cols + reach] = np.arange(len(self))
        return table, reach

    def local(self, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """Local indices of the cells at given places (int arrays), -1 where there is none."""
        table, reach = self._table
        return table[
            np.clip(rows, -reach, reach) + reach,
            np.clip(cols, -reach, reach) + reach,
        ]


@dataclass(frozen=True)
class AnalyticTables:
    """
    Regions and lattices computed from the definition of the tessellation, each ring when it is needed.

    Attributes
    ----------
    nside : int
        Rings between a pole and the middle of the equatorial belt (Roman: 13, which gives 53 rings).
    pixel_scale : float
        Degrees per pixel.
    cell_size, pitch : int
        Side of a skycell and distance between skycells, pixels.
    x_east : bool
        Right ascension increases with x.
    """

    nside: int
    pixel_scale: float
    cell_size: int
    pitch: int
    x_east: bool
    _lattices: dict = field(default_factory=dict, init=False, repr=False, compare=False)

    #: What an error names as its place, and the length of the names.
    where = "skymap"
    name_length = 12

    @cached_property
    def ring_sizes(self) -> np.ndarray:
        """(4 nside + 1,) int64: regions per ring, from the north pole to the south pole."""
        k = np.arange(4 * self.nside + 1)
        sizes = 8 * np.minimum(np.minimum(k, k[::-1]), self.nside)
        sizes[[0, -1]] = 1
        return sizes

    @cached_property
    def ring(self) -> np.ndarray:
        """(R,) int64: ring of each region."""
        return np.repeat(np.arange(len(self.ring_sizes)), self.ring_sizes)

    @cached_property
    def regions(self) -> RegionTable:
        """All regions of the sky."""
        n, last = 4 * self.nside, len(self.ring_sizes) - 1
        edges = _ring_declination((2 * self.nside - 0.5 - np.arange(n)) / n)
        tangents = _ring_declination((2 * self.nside - np.arange(n + 1)) / n)
        limits = np.concatenate([[90.0], edges, [-90.0]])
        ring, size = self.ring, self.ring_sizes[self.ring]
        index = np.arange(len(ring))
        place = index - np.concatenate([[0], np.cumsum(self.ring_sizes)])[ring]
        ra = place * (360.0 / size)
        ra_min, ra_max = ra - 180.0 / size, ra + 180.0 / size
        ra_min = np.where(ra_min < 0, ra_min + 360.0, ra_min)
        for cap, tangent in ((0, 135.0), (last, 225.0)):
            here = ring == cap
            ra[here], ra_min[here], ra_max[here] = tangent, 0.0, 360.0
        return RegionTable(
            index=index,
            ra=ra,
            dec=tangents[ring],
            ra_min=ra_min,
            ra_max=ra_max,
            dec_min=limits[ring + 1],
            dec_max=limits[ring],
            orientation=np.zeros(len(ring)),
            x_east=self.x_east,
        )

    def lattice(self, row: int) -> CellLattice:
        """Return the skycells of a region; the regions of a ring share them."""
        ring = self.lattice_key(row)
        if ring not in self._lattices:
            self._lattices[ring] = self._make_lattice(row)
        return self._lattices[ring]

    def lattice_key(self, row: np.ndarray) -> np.ndarray:
        """Ring of regions: those with equal keys share their lattice."""
        return self.ring[row]

    def _make_lattice(self, row: int) -> CellLattice:
        """Keep the cells of which a corner of the core lies within the region's limits."""
        regions, step = self.regions, np.radians(self.pitch * self.pixel_scale)
        reach = int(np.ceil(np.tan(regions.radius[row]) / step + 0.5))
        # Corners of the cores: (row, col) - 1/2 for rows and columns -reach .. reach + 1.
        corner = (np.arange(-reach, reach + 2) - 0.5) * step
        xi, eta = corner[None, :], corner[:, None]
        dec0 = regions.dec[row]
        sin_dec = np.sin(np.radians(dec0))
        cos_dec = 0.0 if abs(dec0) == 90 else np.cos(np.radians(dec0))
        w = cos_dec - eta * sin_dec
        dec = np.degrees(np.arctan2(sin_dec + eta * cos_dec, np.hypot(xi, w)))
        offset, half = np.degrees(np.arctan2(xi, w)), regions.width[row] / 2
        inside = (dec >= regions.dec_min[row]) & (dec < regions.dec_max[row])
        inside &= (half == 180) | ((offset >= -half) & (offset < half))
        exists = inside[:-1, :-1] | inside[:-1, 1:] | inside[1:, :-1] | inside[1:, 1:]
        rows, cols = (places - reach for places in np.nonzero(exists))
        if len(rows) == 0 or max(np.abs(rows).max(), np.abs(cols).max()) > _MAX_OFFSET:
            raise SkymapError(
                "skymap",
                f"{self.nside} rings do not fit skycells of {self.pitch} px of {self.pixel_scale} deg",
                "choose skycells of which 2 to 99 stand side by side in a region",
            )
        sign = self.pitch if self.x_east else -self.pitch
        return CellLattice(rows, cols, sign * cols.astype(float), self.pitch * rows.astype(float))

    def names(self, row: int, local: np.ndarray) -> list[str]:
        """Names of some cells (local indices) of a region."""
        lattice, prefix = (
            self.lattice(row),
            region_prefix(self.regions.ra[row], self.regions.dec[row]),
        )
        places = zip(lattice.rows[local].tolist(), lattice.cols[local].tolist(), strict=True)
        return [format_name(prefix, *place) for place in places]

    @cached_property
    def prefixes(self) -> dict[str, int]:
        """Region row by the first part of the names."""
        points = zip(self.regions.ra.tolist(), self.regions.dec.tolist(), strict=True)
        return {region_prefix(ra, dec): row for row, (ra, dec) in enumerate(points)}

    def locate(self, name: str) -> tuple[int, int] | None:
        """Region row and local index of a name, None when no cell has it."""
        parsed = parse_name(name)
        if parsed is None or parsed[0] not in self.prefixes:
            return None
        row = self.prefixes[parsed[0]]
        local = int(self.lattice(row).local(parsed[1], parsed[2]))
        return None if local < 0 else (row, local)


def _ring_declination(t: np.ndarray) -> np.ndarray:
    """Declination (degrees) of the vertical coordinate t of HEALPix, -1/2 <= t <= 1/2."""
    a = np.abs(t)
    height = np.where(a <= 0.25, 8 * a / 3, 1 - (2 - 4 * a) ** 2 / 3)
    return np.degrees(np.arcsin(np.sign(t) * height))
