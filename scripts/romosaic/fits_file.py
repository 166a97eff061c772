"""
FITS files of mosaics, written row by row: the first image is the file's first, the others are extensions.

FITS Standard 4.0 (fits.gsfc.nasa.gov; Pence et al. 2010, A&A 524, A42). Unsigned integers are stored with
BZERO 2^31. Each image has the sum of its bytes in its header (DATASUM, section 4.4.2.7).
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from .atomic import atomic
from .grid import Grid

#: Bytes of a record, to a multiple of which headers and data are filled up.
_RECORD = 2880
#: Rows that are turned into FITS's byte order at a time.
_BAND = 256
_BITPIX = {"float32": -32, "uint32": 32}
#: Extension, unit and meaning of the planes of a coadd; the unit of weights depends on their type.
PLANES = {
    "data": ("DATA", "MJy sr-1", "surface brightness"),
    "err": ("ERR", "MJy sr-1", "its error, for sums over many pixels"),
    "weight": ("WEIGHT", "", "sum of the weights of the exposures"),
    "context": ("CONTEXT", "", "exposures as bits, see table MEMBERS"),
    "var_poisson": ("VAR_POISSON", "MJy2 sr-2", "variance of the photons"),
    "var_rnoise": ("VAR_RNOISE", "MJy2 sr-2", "variance of the read noise"),
    "var_flat": ("VAR_FLAT", "MJy2 sr-2", "variance of the flat field"),
    "dq": ("DQ", "", "flags of all pixels that contribute"),
}

#: What a card holds, or that and a comment.
Card = object | tuple[object, str]


def fits_header(grid: Grid) -> dict[str, float | int | str]:
    """
    FITS WCS keywords of a grid (Greisen & Calabretta 2002, A&A 395, 1061).

    LONPOLE is written because its default changes to 0 for a tangent point at the north pole.
    """
    turn = np.radians(grid.orientation)
    return {
        "WCSAXES": 2,
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CUNIT1": "deg",
        "CUNIT2": "deg",
        "CRPIX1": grid.x0 + 1,
        "CRPIX2": grid.y0 + 1,
        "CRVAL1": grid.ra0,
        "CRVAL2": grid.dec0,
        "CDELT1": grid.pixel_scale if grid.x_east else -grid.pixel_scale,
        "CDELT2": grid.pixel_scale,
        "PC1_1": float(np.cos(turn)),
        "PC1_2": float(np.sin(turn)),
        "PC2_1": 0.0 - float(np.sin(turn)),
        "PC2_2": float(np.cos(turn)),
        "LONPOLE": 180.0,
        "LATPOLE": grid.dec0,
        "RADESYS": "ICRS",
    }


def plane_cards(name: str, weight_type: str = "", number: int = 1) -> dict[str, Card]:
    """Cards of a plane of a coadd (see `PLANES`); `number` counts the planes of a context."""
    extension, unit, meaning = PLANES[name]
    if name == "weight":
        unit = {"exptime": "s", "none": ""}.get(weight_type, "MJy-2 sr2")
    cards = {"EXTNAME": (extension, meaning)}
    if name == "context":
        cards["EXTVER"] = (number, "of bits 32 (EXTVER - 1) and following")
    return cards | ({"BUNIT": unit} if unit else {})


def write_fits(
    path: str | Path,
    grid: Grid,
    cards: Mapping[str, Card],
    images: Iterable[tuple[Mapping[str, Card], np.ndarray]],
    tables: Mapping[str, Mapping[str, list]],
) -> None:
    """
    Write images of one grid and tables.

    Parameters
    ----------
    path : str or path
        File to make.
    grid : Grid
        Pixels of all images.
    cards : mapping
        Of the first header besides those of the grid.
    images : iterable of (cards, array)
        (ny, nx) float32 or uint32 arrays; each may go when the next is asked for.
    tables : mapping
        Columns by name, by name of the table.

    Raises
    ------
    ProductError
        The file cannot be written.
    """
    from astropy.io import fits

    with atomic(path) as temporary:
        with open(temporary, "wb") as stream:
            for number, (own, image) in enumerate(images):
                first = {"SIMPLE": True} if number == 0 else {"XTENSION": "IMAGE"}
                given = {**own, **(cards if number == 0 else {})}
                header = _header(first, image, {**given, **fits_header(grid)})
                stream.write(header.tostring(padding=True).encode("ascii"))
                _write_rows(stream, image)
        for name, columns in tables.items():
            made = [
                fits.Column(key, _format(values), array=values) for key, values in columns.items()
            ]
            table = fits.BinTableHDU.from_columns(made, name=name)
            fits.append(str(temporary), table.data, table.header, checksum=True)


def write_image(path: str | Path, cards: Mapping[str, Card], image: np.ndarray) -> None:
    """Write a (ny, nx) float32 array alone, under its own name: into a folder that has none yet."""
    with open(path, "wb") as stream:
        header = _header({"SIMPLE": True}, image, cards)
        stream.write(header.tostring(padding=True).encode("ascii"))
        _write_rows(stream, image)


def _header(first: dict, image: np.ndarray, cards: Mapping[str, Card]):
    from astropy.io.fits import Header

    ny, nx = image.shape
    form = {**first, "BITPIX": _BITPIX[image.dtype.name], "NAXIS": 2, "NAXIS1": nx, "NAXIS2": ny}
    form |= {"EXTEND": True} if "SIMPLE" in first else {"PCOUNT": 0, "GCOUNT": 1}
    if image.dtype == np.uint32:
        form |= {"BZERO": 1 << 31, "BSCALE": 1}
    form["DATASUM"] = str(_sum(image))
    return Header([(key, *_pair(value)) for key, value in {**form, **cards}.items()])


def _pair(value: Card) -> tuple[object, str]:
    return value if isinstance(value, tuple) else (value, "")


def _words(image: np.ndarray) -> Iterator[np.ndarray]:
    """Yield rows of an image as the 32-bit words that are stored, in native order."""
    for start in range(0, len(image), _BAND):
        rows = image[start : start + _BAND]
        rows = np.ascontiguousarray(rows, rows.dtype.newbyteorder("=")).view(np.uint32)
        # minus 2^31 is the same as turning the first bit
        yield rows ^ np.uint32(1 << 31) if image.dtype == np.uint32 else rows


def _sum(image: np.ndarray) -> int:
    """Sum of the stored words with the carry added at its end, which is DATASUM."""
    total = sum(int(words.sum(dtype=np.uint64)) for words in _words(image))
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def _write_rows(stream, image: np.ndarray) -> None:
    for words in _words(image):
        stream.write(words.astype(">u4"))
    stream.write(bytes(-image.nbytes % _RECORD))


def _format(values: list) -> str:
    if all(isinstance(value, str) for value in values):
        return f"{max(map(len, values), default=1)}A"
    return "K" if all(isinstance(value, int) for value in values) else "D"
