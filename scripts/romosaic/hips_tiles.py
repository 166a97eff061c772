"""
Tiles of a HiPS: their pixels on the sky, their four children, their files.

IVOA Recommendation HiPS 1.0 (Fernique et al. 2017), section 4: a tile is a HEALPix cell, nested, of which its
512 x 512 pixels are the cells nine orders further down. Rows of FITS images run from the corner in the east to
that in the south, columns from the east to the north; pictures have their rows the other way round. The WCS of
a tile is the HPX projection of Calabretta & Roukema (2007, MNRAS 381, 865).
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from . import moc
from .fits_file import Card, write_image
from .small_image import Stretch

#: Pixels along the side of a tile, and orders from a tile to its pixels.
WIDTH, SHIFT = 512, 9
#: Tiles of this order are shown together, so many pixels to a tile's side.
ALLSKY, THUMB = 3, 64


@cache
def pixel_numbers() -> np.ndarray:
    """
    Nested index of each pixel of a tile among those of the tile, (512, 512) int64 in the order of FITS.

    Even bits count along the edge to the north-east, odd ones to the north-west (Gorski et al. 2005, ApJ 622,
    759): from row to row the former go down, from column to column the latter go up.
    """
    count, bits = np.arange(WIDTH), np.zeros(WIDTH, np.int64)
    for bit in range(SHIFT):
        bits |= (count >> bit & 1) << 2 * bit
    return bits[::-1, None] | bits << 1


def pixel_vectors(order: int, number: int) -> np.ndarray:
    """Unit vectors (3, 512, 512) float64 of the middles of the pixels of a tile."""
    from astropy_healpix import healpix_to_xyz

    inside = (number << 2 * SHIFT) + pixel_numbers()
    return np.stack(healpix_to_xyz(inside, 1 << order + SHIFT, order="nested"))


def middles(order: int, numbers: np.ndarray) -> np.ndarray:
    """Unit vectors (3, n) float64 of the middles of tiles."""
    from astropy_healpix import healpix_to_xyz

    return np.stack(healpix_to_xyz(numbers, 1 << order, order="nested"))


def touched(ranges: np.ndarray, range_order: int, order: int) -> np.ndarray:
    """
    Tiles in which there may be data.

    Parameters
    ----------
    ranges : (n, 2) int64 array
        Ranges of covered HEALPix cells, nested (see `moc`). What they cover is known to a part of a cell: the
        neighbours count, too.
    range_order : int
        Their order.
    order : int
        Order of the tiles.

    Returns
    -------
    (m,) int64 array
        Nested numbers of the tiles, sorted.
    """
    from astropy_healpix import neighbours

    # Cells of a quarter of a tile will do; there may be very many of the finest ones.
    cell_order = min(range_order, order + 2)
    shift = 2 * (range_order - cell_order)
    first, last = ranges[:, 0] >> shift, (ranges[:, 1] - 1 >> shift) + 1
    cells = np.unique(moc.cells(np.stack([first, last], axis=1)))
    around = neighbours(cells, 1 << cell_order, order="nested").ravel()
    cells = np.unique(np.concatenate([cells, around[around >= 0]]))
    if cell_order >= order:
        return np.unique(cells >> 2 * (cell_order - order))
    steps = 2 * (order - cell_order)
    return ((cells[:, None] << steps) + np.arange(1 << steps)).ravel()


def tile_path(order: int, number: int) -> str:
    """Where a tile is below the folder of the HiPS, without its suffix."""
    return f"Norder{order}/Dir{number // 10_000 * 10_000}/Npix{number}"


def tile_cards(order: int, number: int) -> dict[str, Card]:
    """Cards of a tile of surface brightness: which it is, and its place in the HPX projection, degrees."""
    face, inside = divmod(number, 1 << 2 * order)
    x, y = (sum((inside >> 2 * k + odd & 1) << k for k in range(order)) for odd in (0, 1))
    # Middle of the face in a plane of which no face reaches the far rim; its corners are 45 degrees away.
    lon, lat = 0 if face // 4 == 1 else 45, 45 * (1 - face // 4)
    side = WIDTH << order
    step = 45 / side
    # Where the plane's origin lies along the two edges of the face, in sides of it.
    east, west = (1 - (lat + lon) / 45) / 2, (1 - (lat - lon) / 45) / 2
    return {
        "BUNIT": "MJy sr-1",
        "ORDERING": "NESTED",
        "ORDER": (order, "order of the tile"),
        "NPIX": (number, "number of the tile"),
        "CTYPE1": "RA---HPX",
        "CTYPE2": "DEC--HPX",
        "CRPIX1": west * side - WIDTH * y + 0.5,
        "CRPIX2": WIDTH * (x + 1) - east * side + 0.5,
        "CRVAL1": 90.0 * (face % 4),
        "CRVAL2": 0.0,
        "CD1_1": -step,
        "CD1_2": -step,
        "CD2_1": step,
        "CD2_2": -step,
        "PV2_1": 4,
        "PV2_2": 3,
        "RADESYS": "ICRS",
    }


def join(children: Sequence[np.ndarray | None]) -> np.ndarray:
    """
    Tile of the means of 2 x 2 pixels of its children.

    Parameters
    ----------
    children : sequence of four (512, 512) float32 arrays or None
        Tiles of numbers 4 n to 4 n + 3; None where there is nothing.

    Returns
    -------
    (512, 512) float32 array
        Mean of what is finite, NaN where nothing is.
    """
    half = WIDTH // 2
    tile = np.full((WIDTH, WIDTH), np.nan, np.float32)
    for number, child in enumerate(children):
        if child is not None:
            row, column = half * (1 - number % 2), half * (number // 2)
            tile[row : row + half, column : column + half] = block_means(child, 2)
    return tile


def block_means(tile: np.ndarray, side: int) -> np.ndarray:
    """Means of what is finite in blocks of pixels, float32; NaN where nothing is."""
    blocks = tile.reshape(len(tile) // side, side, -1, side)
    finite = np.isfinite(blocks)
    count = finite.sum(axis=(1, 3), dtype=np.float32)
    with np.errstate(invalid="ignore"):
        return np.where(finite, blocks, 0).sum(axis=(1, 3)) / count


def all_sky(thumbs: dict[int, np.ndarray]) -> np.ndarray:
    """
    Tiles of order 3 side by side, 27 in a row, the first at the top.

    Parameters
    ----------
    thumbs : dict of (64, 64) float32 arrays
        Tiles by number, averaged down.

    Returns
    -------
    (1856, 1728) float32 array
        In the order of FITS; NaN where there is nothing.
    """
    count = 12 << 2 * ALLSKY
    across = int(count**0.5)
    canvas = np.full((-(-count // across) * THUMB, across * THUMB), np.nan, np.float32)
    for number, thumb in thumbs.items():
        row, column = (place * THUMB for place in divmod(number, across))
        top = len(canvas) - row
        canvas[top - THUMB : top, column : column + THUMB] = thumb
    return canvas


def write_tile(path: Path, cards: dict[str, Card], tile: np.ndarray, stretch: Stretch) -> None:
    """
    Write a tile as FITS and as a picture, grey and transparent where there is nothing.

    Parameters
    ----------
    path : Path
        Without suffix; its folder is made.
    cards : dict
        Of the FITS header.
    tile : (ny, nx) float32 array
        In the order of FITS.
    stretch : Stretch
        Of the picture.
    """
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path.with_suffix(".fits"), cards, tile)
    seen = np.isfinite(tile)
    shades = np.where(seen, np.rint(255 * stretch.apply(np.where(seen, tile, 0))), 0)
    picture = np.stack([shades, 255 * seen], axis=-1).astype(np.uint8)[::-1]
    Image.fromarray(np.ascontiguousarray(picture)).save(path.with_suffix(".png"), compress_level=3)


def read_tile(path: Path) -> np.ndarray:
    """Read the array of a tile back from its FITS file; the path is without suffix."""
    size = WIDTH * WIDTH * 4
    with open(path.with_suffix(".fits"), "rb") as stream:
        stream.seek(-(size + -size % 2880), 2)
        return np.frombuffer(stream.read(size), ">f4").astype(np.float32).reshape(WIDTH, WIDTH)
