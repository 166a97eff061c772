"""
The Roman sky map: every skycell by name and by position, computed when it is asked for.

    sky = SkyMap()
    sky.cell("135p90x51y67").grid
    sky.cells_overlapping([10.0, 10.1, 10.1, 10.0], [-5.0, -5.0, -4.9, -4.9])
    sky.primary_cell(ra, dec)

The tessellation is that of the reference files of July 2025 and later (4058 projection regions, 8,045,034
skycells); a reference file is not needed, but one can be used instead (`SkyMap.from_reference_file`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from .errors import SkymapError
from .footprint import closed_polygon, holds_origin, square_overlaps
from .grid import Grid
from .projection_regions import project, region_of
from .skycell import Skycell
from .skycell_lattice import AnalyticTables
from .skycell_names import unknown_name
from .skymap_file import ReferenceTables

#: Degrees per pixel of the Roman skycells: 0.055 arcsec.
PIXEL_SCALE = 0.055 / 3600
#: Areas (square pixels) that cannot be told from a shared border in double precision.
_NO_AREA = 1e-4


@dataclass(frozen=True)
class SkyMap:
    """
    A tessellation of the sky into skycells.

    Attributes
    ----------
    pixel_scale : float
        Degrees per pixel at the tangent points.
    cell_size : int
        Side of a skycell's image, pixels.
    pitch : int
        Distance between neighbouring skycells, the side of the core that is a cell's own, pixels.
    border : int
        Rim that a skycell shares with its neighbours on each side, pixels: cell_size = pitch + 2 border.
    x_east : bool
        Right ascension increases with x, as in the sky maps so far; false for the mirrored handedness.
    nside : int
        Rings of projection regions between a pole and the equatorial belt.
    source : ReferenceTables or None
        Tables of a reference file, which then stand in place of the computed ones.
    """

    pixel_scale: float = PIXEL_SCALE
    cell_size: int = 5000
    pitch: int = 4800
    border: int = 100
    x_east: bool = True
    nside: int = 13
    source: ReferenceTables | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not (self.pixel_scale > 0 and self.pitch > 0 and self.border >= 0):
            raise SkymapError("skymap", "has a pixel scale or size that is not positive")
        if self.cell_size != self.pitch + 2 * self.border:
            raise SkymapError(
                "skymap",
                f"skycells of {self.cell_size} px do not fit a pitch of {self.pitch} px with a border of "
                f"{self.border} px",
                "make the skycell size the pitch and two borders",
            )
        if not 1 <= self.nside <= 39:  # beyond, two regions would have the same name
            raise SkymapError("skymap", f"cannot name the regions of {self.nside} rings")

    @classmethod
    def from_reference_file(cls, path: str | Path) -> "SkyMap":
        """
        Sky map of a reference file (`SkycellsRefModel`), of the whole sky or of some projection regions.

        Names, places and tangent points are taken from the file; the handedness is deduced from it.

        Parameters
        ----------
        path : str or path
            The ASDF file.

        Raises
        ------
        SkymapError
            The file is missing, is not a sky map, or is one from before July 2025.
        """
        tables = ReferenceTables.read(path)
        return cls(
            pixel_scale=tables.pixel_scale,
            cell_size=tables.cell_size,
            pitch=tables.pitch,
            border=tables.border,
            x_east=tables.x_east,
            source=tables,
        )

    @cached_property
    def tables(self) -> AnalyticTables | ReferenceTables:
        """Projection regions and their cells."""
        if self.source is not None:
            return self.source
        return AnalyticTables(self.nside, self.pixel_scale, self.cell_size, self.pitch, self.x_east)

    def __getstate__(self) -> dict:
        """Leave the computed tables behind when the map goes to another process."""
        return {key: value for key, value in self.__dict__.items() if key != "tables"}

    def __contains__(self, name: object) -> bool:
        return self.tables.locate(str(name)) is not None

    def cell(self, name: str) -> Skycell:
        """
        Skycell of a name.

        Raises
        ------
        SkymapError
            There is no such cell; names the nearest ones, and the present name of an old one.
        """
        found = self.tables.locate(str(name))
        if found is None:
            raise unknown_name(self.tables, name)
        return self._cell(*found)

    def cells_overlapping(
        self,
        ra: np.ndarray,
        dec: np.ndarray,
        min_overlap_pixels: float = 0,
        own_regions_only: bool = False,
    ) -> list[str]:
        """
        Names of the skycells that a footprint overlaps, in index order.

        Great circles are straight in a gnomonic plane: the footprint is a straight polygon on every
        region's plane, and its overlap with a skycell's square is exact, at the poles and across RA 0 too.
        (romancal 1.0 and 1.1 miss cells here and there, and all cells of a footprint at (0, 84.85): they
        take the parallels that bound a region for great circles. By default they also leave out what
        `own_regions_only` leaves out.)

        Parameters
        ----------
        ra, dec : (V,) array_like of float
            Vertices, degrees, either way round; edges are great circles. Any simple polygon, within 40
            degrees of its middle.
        min_overlap_pixels : float, optional
            Least overlap, square pixels of the skycell. With 0 any overlap of positive area counts.
        own_regions_only : bool, optional
            Leave out cells of projection regions that the footprint itself does not meet: they reach over
            the border of their region, by up to a cell.

        Raises
        ------
        SkymapError
            The vertices are not a footprint (too few, not on the sky, too wide).
        """
        return self.overlaps(ra, dec, min_overlap_pixels, own_regions_only)[0]

    def overlaps(
        self,
        ra: np.ndarray,
        dec: np.ndarray,
        min_overlap_pixels: float = 0,
        own_regions_only: bool = False,
    ) -> tuple[list[str], np.ndarray]:
        """
        Skycells that a footprint overlaps, and how much.

        Parameters
        ----------
        ra, dec : (V,) array_like of float
        min_overlap_pixels : float, optional
        own_regions_only : bool, optional
            As in `cells_overlapping`.

        Returns
        -------
        names : list of str
            In index order.
        pixels : (n,) float64
            Area of the overlap with each cell's image (border included), square pixels.
        """
        polygon, center, radius = closed_polygon(ra, dec)
        tables, scale = self.tables, np.radians(self.pixel_scale)
        # A cell has some point in its region and reaches no farther from it than its diagonal.
        rows = tables.regions.near(center, radius + self.cell_size * np.sqrt(2) * scale)
        x, y = project(tables.regions.frames[rows], polygon)
        x, y = x / scale, y / scale
        if own_regions_only:
            met = tables.regions.crossed(rows, polygon) | holds_origin(x, y)
            rows, x, y = rows[met], x[met], y[met]
        which, local, x_cell, y_cell = self._candidates(rows, x, y)
        area = square_overlaps(x, y, which, x_cell, y_cell, self.cell_size)
        kept = (area > _NO_AREA) & (area >= min_overlap_pixels)
        names = []
        for number in range(len(rows)):
            chosen = local[kept & (which == number)]
            if len(chosen):
                names += tables.names(rows[number], chosen)
        return names, area[kept]

    def overlap_pixels(self, name: str, ra: np.ndarray, dec: np.ndarray) -> float:
        """Area (square pixels) that a footprint (vertices in degrees) shares with one skycell."""
        names, pixels = self.overlaps(ra, dec)
        self.cell(name)
        return float(pixels[names.index(name)]) if name in names else 0.0

    def primary_cell(self, ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
        """
        Names of the skycells whose core holds each position: the cores share out the sky.

        Parameters
        ----------
        ra, dec : array_like of float
            Degrees; any right ascension.

        Returns
        -------
        array of str, of the broadcast shape
            The empty string where the map has no cell (outside a piece of the sky, or not finite).
        """
        ra, dec = np.broadcast_arrays(np.asarray(ra, float), np.asarray(dec, float))
        row, x, y = region_of(self.tables.regions, ra.ravel(), dec.ravel())
        pixel = np.radians(self.pixel_scale)
        place = self.place(x / pixel, y / pixel)
        key = np.where(row < 0, -1, self.tables.lattice_key(row))
        local = np.full(len(row), -1)
        for value, members in _groups(key):
            if value >= 0:
                lattice = self.tables.lattice(int(row[members[0]]))
                local[members] = lattice.local(place[0][members], place[1][members])
        names = np.zeros(len(row), dtype=f"U{self.tables.name_length}")
        for value, members in _groups(np.where(local < 0, -1, row)):
            if value >= 0:
                cells, inverse = np.unique(local[members], return_inverse=True)
                names[members] = np.array(self.tables.names(value, cells))[inverse]
        return names.reshape(ra.shape)[()]

    def place(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lattice row and column whose core holds plane positions (pixels from a tangent point)."""
        east = x if self.x_east else -x
        row, col = np.floor(y / self.pitch + 0.5), np.floor(east / self.pitch + 0.5)
        return row.astype(np.int64), col.astype(np.int64)

    def _candidates(self, rows, x, y):
        """Cells whose square meets the bounding box of the polygon in their region's plane."""
        half = self.cell_size / 2
        x0, x1 = x.min(axis=1) - half, x.max(axis=1) + half
        y0, y1 = y.min(axis=1) - half, y.max(axis=1) + half
        parts = []
        for number, row in enumerate(rows):
            cells = self.tables.lattice(row)
            near = np.flatnonzero(
                (cells.x > x0[number])
                & (cells.x < x1[number])
                & (cells.y > y0[number])
                & (cells.y < y1[number])
            )
            if len(near):
                parts.append((np.full(len(near), number), near, cells.x[near], cells.y[near]))
        if not parts:
            return np.empty(0, int), np.empty(0, int), np.empty(0), np.empty(0)
        return tuple(np.concatenate(column) for column in zip(*parts, strict=True))

    def _cell(self, region_row: int, local: int) -> Skycell:
        regions, lattice = self.tables.regions, self.tables.lattice(region_row)
        middle = (self.cell_size - 1) / 2
        name = self.tables.names(region_row, np.array([local]))[0]
        grid = Grid(
            ra0=float(regions.ra[region_row]),
            dec0=float(regions.dec[region_row]),
            x0=float(middle - lattice.x[local]),
            y0=float(middle - lattice.y[local]),
            pixel_scale=self.pixel_scale,
            nx=self.cell_size,
            ny=self.cell_size,
            orientation=float(regions.orientation[region_row]),
            skycell=name,
            x_east=self.x_east,
        )
        return Skycell(
            name=name,
            region=int(regions.index[region_row]),
            row=int(lattice.rows[local]),
            col=int(lattice.cols[local]),
            grid=grid,
            skymap=self,
            _region_row=int(region_row),
        )


def read_skymap(reference_file: str | Path | None = None) -> SkyMap:
    """Sky map of a run: that of a reference file where one is given, else the computed one."""
    return SkyMap.from_reference_file(reference_file) if reference_file else SkyMap()


def _groups(keys: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each value of an integer array and the positions that hold it."""
    order = np.argsort(keys, kind="stable")
    values, first = np.unique(keys[order], return_index=True)
    ends = [*first[1:].tolist(), len(order)]
    for value, start, end in zip(values.tolist(), first.tolist(), ends[: len(values)], strict=True):
        yield value, order[start:end]
