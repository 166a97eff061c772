"""
Step `hips`, on request: all coadds of a filter as a HiPS, the tiles that Aladin and other sky browsers read.

IVOA Recommendation HiPS 1.0 (Fernique et al. 2017). Each pixel of the finest tiles is taken from one coadd, by
bilinear interpolation between its covered pixels: the one in whose middle part it lies (within a projection
region the skycell that owns the place), or the next one that has data; of several of a skycell the one of most
exposures comes first. Tiles of lower orders are means of 2 x 2 pixels. Tiles are made one by one, of windows of
the coadds, so that memory follows neither the number of coadds nor that of tiles.
"""

import gc
import multiprocessing
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from math import ceil, log2
from pathlib import Path

import numpy as np

from . import __version__, moc
from .atomic import atomic_folder
from .coadd_file import CoaddBlocks, open_coadd
from .fits import modified_julian_date
from .grid import Grid, unit_vector
from .hips_tiles import (
    ALLSKY,
    THUMB,
    WIDTH,
    all_sky,
    block_means,
    join,
    middles,
    pixel_vectors,
    read_tile,
    tile_cards,
    tile_path,
    touched,
    write_tile,
)
from .overview import bilinear
from .small_image import Stretch, sky_level

#: Every so many pixels of a coadd are looked at for its sky level and its stretch.
_SAMPLE = 4
#: A job of a process is a tile so many orders above the finest, with all below it.
_PART = 3
#: Coadds that a process keeps open.
_OPEN = 16
#: Side of a HEALPix cell of order 0, degrees, about.
_BASE = 58.6


@dataclass(frozen=True)
class Source:
    """
    A coadd as a source of tiles.

    Attributes
    ----------
    path : str
        Its file.
    grid : Grid
        Its pixels.
    exposures : int
        Number of its exposures.
    sky : float
        Level of its empty sky, MJy/sr.
    stretch : Stretch or None
        Of its pixels without that level; None where it is empty.
    times : tuple of str
        Begin of its first exposure and end of its last one.
    """

    path: str
    grid: Grid
    exposures: int
    sky: float
    stretch: Stretch | None
    times: tuple[str, str]

    @classmethod
    def read(cls, path: str | Path, subtract_sky: bool) -> "Source":
        """Look at a coadd; without its sky level, if that is to be taken off."""
        coadd = open_coadd(path)
        cut = np.s_[::_SAMPLE, ::_SAMPLE]
        data = np.array(coadd.image("data")[cut])
        data[~(coadd.image("weight")[cut] > 0)] = np.nan
        sky = sky_level(data)[0] if subtract_sky else 0.0
        info = coadd.meta["coadd_info"]
        times = str(info["time_first"]), str(info["time_last"])
        stretch = Stretch.of(data - np.float32(sky))
        return cls(str(path), coadd.grid, len(coadd.inputs), sky, stretch, times)


def sources(paths: Sequence[str | Path], subtract_sky: bool) -> list[Source]:
    """Look at coadds one by one; those of most exposures first."""
    found = [Source.read(path, subtract_sky) for path in paths]
    return sorted(found, key=lambda source: (-source.exposures, source.path))


def common_stretch(found: Sequence[Source]) -> Stretch:
    """Stretch of all pictures: the medians of those of the coadds."""
    own = [(s.stretch.low, s.stretch.high, s.stretch.knee) for s in found if s.stretch]
    return Stretch(*np.median(own or [(0.0, 1.0, 1.0)], axis=0).tolist())


@lru_cache(maxsize=_OPEN)
def _opened(path: str) -> CoaddBlocks:
    return open_coadd(path)


def off_middle(grid: Grid, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """
    Squared distance from the middle of a grid, in its sides; infinite outside.

    Of the skycells of a projection region the one with the least is the one whose core holds the place: what
    lies next to the points of a square lattice are squares.
    """
    dx, dy = ((p - (n - 1) / 2) / n for p, n in ((x, grid.nx), (y, grid.ny)))
    return np.where(np.maximum(np.abs(dx), np.abs(dy)) < 0.5, dx * dx + dy * dy, np.inf)


def sample(found: Sequence[Source], vectors: np.ndarray) -> np.ndarray | None:
    """
    Surface brightness at positions, each from one coadd.

    Parameters
    ----------
    found : sequence of Source
        Coadds; of two as good the first.
    vectors : (3, ny, nx) float64 array
        Unit vectors.

    Returns
    -------
    (ny, nx) float32 array or None
        MJy/sr, NaN where no coadd has data; None where that is everywhere.
    """
    shape = vectors.shape[1:]
    values, nearest = np.full(shape, np.nan, np.float32), np.full(shape, np.inf)
    for source in found:
        x, y = source.grid.vectors_to_pixel(vectors)
        off = off_middle(source.grid, x, y)
        wanted = off < nearest
        if not wanted.any():
            continue
        x, y = x[wanted], y[wanted]
        x0, y0 = (max(int(p.min()), 0) for p in (x, y))
        x1, y1 = min(int(x.max()) + 2, source.grid.nx), min(int(y.max()) + 2, source.grid.ny)
        coadd, window = _opened(source.path), (y0, y1, x0, x1)
        good = coadd.window("weight", window) > 0
        if not good.any():
            continue
        data = np.where(good, coadd.window("data", window), 0) - good * np.float32(source.sky)
        total, share = bilinear(np.stack([data, good]), x - x0, y - y0)
        # Where the nearest pixel has no data there is none.
        has = share > 0.5
        place = np.nonzero(wanted)
        place = tuple(axis[has] for axis in place)
        values[place], nearest[place] = total[has] / share[has], off[wanted][has]
    return values if np.isfinite(nearest).any() else None


def near(found: Sequence[Source], order: int, number: int) -> list[Source]:
    """Coadds that may come near a tile, the one whose middle is next first."""
    middle = middles(order, np.array([number]))[:, 0]
    kept = []
    for source in found:
        grid = source.grid
        apart = np.degrees(np.arccos(np.clip(unit_vector(*grid.center) @ middle, -1, 1)))
        # No corner of a HEALPix cell is farther from its middle than the root of its area.
        if apart < np.hypot(grid.nx, grid.ny) / 2 * grid.pixel_scale + _BASE / 2**order:
            kept.append((float(apart), source))
    return [source for _, source in sorted(kept, key=lambda pair: pair[0])]


@dataclass(frozen=True)
class Tree:
    """
    The hierarchy, or a part of it.

    Attributes
    ----------
    folder : Path
        Folder of the HiPS.
    order : int
        Order of the tiles that coadds are sampled for, or that are read.
    numbers : (n,) int64 array
        Numbers of those that there may be, sorted.
    kept : int
        Order of the finest tiles that are written.
    found : sequence of Source or None
        Coadds that the finest tiles are made of; None where these are in the folder already.
    stretch : Stretch
        Of the pictures.
    """

    folder: Path
    order: int
    numbers: np.ndarray
    kept: int
    found: Sequence[Source] | None
    stretch: Stretch

    def make(self, order: int, number: int) -> np.ndarray | None:
        """Make a tile and all below it; None where there is nothing."""
        first, end = self._range(order, number)
        if first == end:
            return None
        path = self.folder / tile_path(order, number)
        if order < self.order:
            children = [self.make(order + 1, 4 * number + k) for k in range(4)]
            tile = None if all(child is None for child in children) else join(children)
        elif self.found is None:
            return read_tile(path)
        else:
            tile = sample(near(self.found, order, number), pixel_vectors(order, number))
        if tile is not None and order <= self.kept:
            write_tile(path, tile_cards(order, number), tile, self.stretch)
        return tile

    def make_all(self, workers: int) -> None:
        """Make all tiles, by several processes: each makes a tile of some order and all below it."""
        top = max(self.kept - _PART, 0)
        numbers = np.unique(self.numbers >> 2 * (self.order - top))
        jobs = [(self._part(top, int(number)), top, int(number)) for number in numbers]
        if workers > 1 and len(jobs) > 1:
            context = multiprocessing.get_context("fork")
            with ProcessPoolExecutor(workers, mp_context=context, initializer=gc.freeze) as pool:
                made = list(pool.map(_made, jobs))
        else:
            made = [_made(job) for job in jobs]
        above = replace(self, order=top, numbers=numbers[np.array(made, bool)], found=None)
        for face in range(12):
            above.make(0, face)

    def _part(self, order: int, number: int) -> "Tree":
        """What is below a tile, with the coadds that come near it."""
        own = self.numbers[slice(*self._range(order, number))]
        return replace(self, numbers=own, found=near(self.found, order, number))

    def _range(self, order: int, number: int) -> np.ndarray:
        """First and last (half-open) of the finest tiles below a tile."""
        steps = 2 * (self.order - order)
        return np.searchsorted(self.numbers, [number << steps, number + 1 << steps])


def sampling_order(scale: float) -> int:
    """Order of the first tiles whose pixels are not larger than pixels of `scale` degrees: none is left out."""
    return max(ceil(log2(_BASE / WIDTH / scale)), 0)


def _made(job: tuple[Tree, int, int]) -> bool:
    tree, order, number = job
    return tree.make(order, number) is not None


def make(
    folder: str | Path,
    coadds: Sequence[str | Path],
    coverage: str | Path,
    *,
    order: int,
    subtract_sky: bool,
    creator_did: str,
    workers: int = 1,
) -> dict[str, int]:
    """
    Make the HiPS of a filter; it appears whole or not at all.

    Parameters
    ----------
    folder : str or path
        Folder to make, named as the filter.
    coadds : sequence of path
        ``_coadd.asdf`` files of the filter, one or more.
    coverage : str or path
        MOC of what they cover.
    order, subtract_sky, creator_did
        Parameters of the step.
    workers : int, optional
        Processes.

    Returns
    -------
    dict
        Tiles by order.

    Raises
    ------
    ProductError
        A coadd or the MOC is missing or damaged; the disk is full.
    """
    found, (ranges, range_order) = sources(coadds, subtract_sky), moc.read(coverage)
    stretch = common_stretch(found)
    with atomic_folder(folder) as temporary:
        finest = max(order, *(sampling_order(source.grid.pixel_scale) for source in found))
        tiles = touched(ranges, range_order, finest)
        Tree(temporary, finest, tiles, order, found, stretch).make_all(workers)
        write_all_sky(temporary, stretch)
        shutil.copyfile(coverage, temporary / "Moc.fits")
        (temporary / "products.tsv").write_text(products_table(found))
        files = list(temporary.rglob("Npix*"))
        orders = [int(p.parts[-3].removeprefix("Norder")) for p in files if p.suffix == ".fits"]
        known = {
            "creator_did": f"{creator_did}/{Path(folder).name}",
            "obs_title": f"Roman WFI {Path(folder).name.upper()}, mosaics of romosaic",
            **_shown(found, stretch),
            "hips_order": order,
            "hips_pixel_scale": f"{_BASE / (WIDTH << order):.6g}",
            "hips_nb_tiles": len(files),
            "hips_estsize": sum(p.stat().st_size for p in files) // 1024,
            "moc_sky_fraction": f"{np.diff(ranges).sum() / (12 << 2 * range_order):.6g}",
        }
        (temporary / "properties").write_text(properties(known))
    return dict(sorted(Counter(orders).items()))


def write_all_sky(folder: Path, stretch: Stretch) -> None:
    """Write the tiles of order 3 averaged down and side by side, ``Norder3/Allsky``."""
    paths = folder.glob(f"Norder{ALLSKY}/Dir*/Npix*.fits")
    thumbs = {
        int(path.stem.removeprefix("Npix")): block_means(
            read_tile(path.with_suffix("")), WIDTH // THUMB
        )
        for path in paths
    }
    cards = {"BUNIT": "MJy sr-1", "ORDERING": "NESTED", "ORDER": ALLSKY}
    write_tile(folder / f"Norder{ALLSKY}/Allsky", cards, all_sky(thumbs), stretch)


def _shown(found: Sequence[Source], stretch: Stretch) -> dict[str, object]:
    """Properties of what is in the tiles and how to show it."""
    first, grid = found[0], found[0].grid
    ra, dec = grid.center
    begin, end = ([s.times[k] for s in found] for k in (0, 1))
    return {
        "hips_pixel_cut": f"{stretch.low:.6g} {stretch.high:.6g}",
        "hips_initial_ra": f"{ra:.6f}",
        "hips_initial_dec": f"{dec:+.6f}",
        "hips_initial_fov": f"{1.5 * first.grid.ny * grid.pixel_scale:.4g}",
        "t_min": f"{modified_julian_date(min(begin)):.6f}",
        "t_max": f"{modified_julian_date(max(end)):.6f}",
    }


def properties(known: Mapping[str, object]) -> str:
    """Write the file ``properties`` with what is the same for all, and the time of its making."""
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%MZ}"
    lines = {
        **known,
        "obs_collection": "romosaic",
        "obs_regime": "Infrared",
        "dataproduct_type": "image",
        "hips_version": "1.4",
        "hips_builder": f"romosaic {__version__}",
        "hips_release_date": now,
        "hips_creation_date": now,
        "hips_status": "private master unclonable",
        "hips_frame": "equatorial",
        "hips_order_min": 0,
        "hips_tile_width": WIDTH,
        "hips_tile_format": "png fits",
        "hips_pixel_bitpix": -32,
        "hips_sampling": "bilinear",
    }
    return "".join(f"{key:<20} = {value}\n" for key, value in lines.items())


def products_table(found: Sequence[Source]) -> str:
    """Table of the coadds in the tiles, tab-separated: exposures, and the level that was taken off (MJy/sr)."""
    rows = [
        f"{Path(s.path).name.removesuffix('_coadd.asdf')}\t{s.exposures}\t{s.sky:.6f}"
        for s in found
    ]
    return "\n".join(["product\texposures\tsky", *rows]) + "\n"


def index(folders: Sequence[str | Path]) -> str:
    """Table of the HiPS of all filters, tab-separated: order of the finest tiles, tiles, megabytes."""
    rows = []
    for folder in map(Path, folders):
        lines = (folder / "properties").read_text().splitlines()
        own = dict(line.replace(" ", "").split("=", 1) for line in lines)
        size = int(own["hips_estsize"]) / 1024
        rows.append(f"{folder.name}\t{own['hips_order']}\t{own['hips_nb_tiles']}\t{size:.1f}")
    return "\n".join(["filter\torder\ttiles\tmegabytes", *rows]) + "\n"
