"""Sky map reference files (`SkycellsRefModel`), read as tables of a `SkyMap`."""

from functools import cached_property
from pathlib import Path

import numpy as np

from .errors import SkymapError
from .grid import sky_position, unit_vector
from .projection_regions import RegionTable
from .skycell_lattice import CellLattice
from .skycell_names import parse_name

REGION_DTYPE = np.dtype(
    [
        ("index", "<i4"),
        ("ra_tangent", "<f8"),
        ("dec_tangent", "<f8"),
        ("ra_min", "<f8"),
        ("ra_max", "<f8"),
        ("dec_min", "<f8"),
        ("dec_max", "<f8"),
        ("orientat", "<f4"),
        ("x_tangent", "<f8"),
        ("y_tangent", "<f8"),
        ("nx", "<i4"),
        ("ny", "<i4"),
        ("skycell_start", "<i4"),
        ("skycell_end", "<i4"),
    ]
)
CELL_DTYPE = np.dtype(
    [
        ("name", "<U16"),
        ("ra_center", "<f8"),
        ("dec_center", "<f8"),
        ("orientat", "<f4"),
        ("x_tangent", "<f8"),
        ("y_tangent", "<f8"),
    ]
    + [(f"{axis}_corn{n}", "<f8") for n in (1, 2, 3, 4) for axis in ("ra", "dec")]
)
#: Regions of a file whose lattices are kept in memory.
_MAX_LATTICES = 512
_NEWER = "use one of July 2025 or later, or none: the sky map is then computed"


class ReferenceTables:
    """
    Projection regions and lattices of a reference file, each region's cells read when they are needed.

    Parameters
    ----------
    path : str or path
        The file, for errors.
    meta : mapping
        Its `meta`.
    regions, cells : structured arrays
        Its tables `projection_regions` and `skycells`.

    Attributes
    ----------
    where : str
        Path of the file.
    regions : RegionTable
        Projection regions of the file: all or some of the sky's.
    pixel_scale : float
        Degrees per pixel.
    cell_size, pitch, border : int
        Pixels, as in `SkyMap`.
    x_east : bool
        Right ascension increases with x.

    Raises
    ------
    SkymapError
        The tables are not of a sky map, or are from before July 2025.
    """

    def __init__(self, path: str | Path, meta: dict, regions: np.ndarray, cells: np.ndarray):
        self.where = str(path)
        for table, names, dtype in (
            ("projection_regions", regions.dtype.names, REGION_DTYPE),
            ("skycells", cells.dtype.names, CELL_DTYPE),
        ):
            missing = sorted(set(dtype.names) - set(names or ()))
            if missing:
                raise SkymapError(path, f"its table {table} has no column {', '.join(missing)}")
        self.pixel_scale = float(meta["pixel_scale"]) / 3600
        self.cell_size = int(meta["nxy_skycell"])
        self.border = int(meta["skycell_border_pixels"])
        self.pitch = self.cell_size - 2 * self.border
        self._cells = cells
        self._lattices: dict[int, CellLattice] = {}
        counts = regions["skycell_end"].astype(np.int64) - regions["skycell_start"]
        # Rows of a piece of the sky are counted from 0, its indices are those of the whole sky.
        self._rows = np.concatenate([[0], np.cumsum(counts)])
        if len(regions) == 0 or counts.min() < 1 or self._rows[-1] != len(cells):
            raise SkymapError(
                path,
                f"its regions count {self._rows[-1]} skycells, its table has {len(cells)}",
                "give a file of whole projection regions",
            )
        self.x_east = True
        self.regions = self._make_regions(regions)
        if not self._centers_agree():
            self.x_east = False
            self.regions = self._make_regions(regions)
            if not self._centers_agree():
                raise SkymapError(
                    path, "its skycells do not lie where their tangent points say", _NEWER
                )
        self._refuse_old_names()

    @classmethod
    def read(cls, path: str | Path) -> "ReferenceTables":
        """
        Open a reference file; an uncompressed one is memory-mapped.

        Raises
        ------
        SkymapError
            The file is missing, is not a sky map, or is one from before July 2025.
        """
        import asdf

        opened = None
        try:
            opened = asdf.open(path, memmap=True, lazy_load=True)
            roman = opened["roman"]
            meta, regions, cells = roman["meta"], roman["projection_regions"], roman["skycells"]
            tables = cls(path, meta, np.asarray(regions), np.asarray(cells))
        except Exception as error:  # the YAML library's and asdf's own errors share no base class
            if opened is not None:
                opened.close()
            if isinstance(error, SkymapError):
                raise
            if isinstance(error, OSError) and error.strerror:
                raise SkymapError(path, error.strerror, "check the path") from error
            raise SkymapError(
                path, "is not a sky map reference file", "give a SkycellsRefModel (.asdf)"
            ) from error
        tables._file = opened  # open as long as its memory-mapped tables are in use
        return tables

    def __reduce__(self):
        """Open the file again in another process instead of sending it the tables."""
        return ReferenceTables.read, (self.where,)

    @property
    def name_length(self) -> int:
        """Longest name, characters."""
        return self._cells.dtype["name"].itemsize // 4

    @cached_property
    def prefixes(self) -> dict[str, int]:
        """Region row by the first part of the names, that before the x."""
        first = self._cells["name"][self._rows[:-1]]
        return {str(name).split("x")[0]: row for row, name in enumerate(first)}

    def lattice_key(self, row: np.ndarray) -> np.ndarray:
        """Key of the lattice of regions: each has its own."""
        return np.asarray(row)

    def lattice(self, row: int) -> CellLattice:
        """Return the skycells of a region."""
        row = int(row)
        if row not in self._lattices:
            if len(self._lattices) >= _MAX_LATTICES:
                self._lattices.clear()
            self._lattices[row] = self._read_lattice(row)
        return self._lattices[row]

    def names(self, row: int, local: np.ndarray) -> list[str]:
        """Names of some cells (local indices) of a region."""
        return self.lattice(row).names[local].tolist()

    def locate(self, name: str) -> tuple[int, int] | None:
        """Region row and local index of a name, None when no cell has it."""
        row = self.prefixes.get(name.split("x")[0])
        if row is None:
            return None
        found = np.flatnonzero(self.lattice(row).names == name)
        return (row, int(found[0])) if len(found) else None

    def _make_regions(self, table: np.ndarray) -> RegionTable:
        return RegionTable(
            index=table["index"].astype(np.int64),
            ra=table["ra_tangent"].astype(float),
            dec=table["dec_tangent"].astype(float),
            ra_min=table["ra_min"] % 360.0,
            ra_max=table["ra_max"].astype(float),
            dec_min=table["dec_min"].astype(float),
            dec_max=table["dec_max"].astype(float),
            orientation=table["orientat"].astype(float),
            x_east=self.x_east,
        )

    def _offsets(self, row: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Table rows of a region, and the plane positions (pixels) of their centres."""
        cells = np.asarray(self._cells[self._rows[row] : self._rows[row + 1]])
        middle = (self.cell_size - 1) / 2
        return cells, middle - cells["x_tangent"], middle - cells["y_tangent"]

    def _read_lattice(self, row: int) -> CellLattice:
        cells, x, y = self._offsets(row)
        rows, cols = np.round(y / self.pitch), np.round(x / self.pitch)
        if max(np.abs(x - cols * self.pitch).max(), np.abs(y - rows * self.pitch).max()) > 0.01:
            raise SkymapError(
                self.where,
                f"its skycells of region {self.regions.index[row]} are not {self.pitch} px apart",
                _NEWER,
            )
        cols = cols if self.x_east else -cols
        return CellLattice(rows.astype(np.int64), cols.astype(np.int64), x, y, cells["name"].copy())

    def _centers_agree(self) -> bool:
        """Whether tangent points and centres on the sky agree, for most cells of the first region."""
        cells, x, y = self._offsets(0)
        scale = np.radians(self.pixel_scale)
        plane = np.stack([x * scale, y * scale, np.ones_like(x)])
        found = sky_position(self.regions.frames[0].T @ plane)
        apart = unit_vector(*found) - unit_vector(cells["ra_center"], cells["dec_center"])
        # Most: real files hold a few centres with an ill-defined right ascension.
        return bool(np.median(np.sqrt((apart**2).sum(axis=0))) < 0.1 * scale)

    def _refuse_old_names(self) -> None:
        lattice = self.lattice(0)
        places = [parse_name(name) for name in lattice.names.tolist()]
        if all(places):
            row = np.array([place[1] for place in places])
            if (row != lattice.rows).any() and (row == lattice.cols).all():
                raise SkymapError(self.where, "is a sky map from before July 2025", _NEWER)
