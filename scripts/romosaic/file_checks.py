"""Whether a file is whole, by its ending: checksums where its form has some, its structure elsewhere."""

import json
import re
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np

_PNG = b"\x89PNG\r\n\x1a\n"


def problem_of(path: Path) -> str:
    """
    Say what is wrong with a file that is not ASDF; empty where nothing is.

    Parameters
    ----------
    path : Path
        PNG and JPEG pictures, JSON, parquet and FITS files; others are texts.

    Raises
    ------
    Exception
        Any: what the libraries that read such files raise where they cannot.
    """
    if path.name in ("_metadata", "_common_metadata"):  # of a folder of parquet files
        return _check_footer(path)
    if path.name == "properties":
        return _check_properties(path)
    return _READERS.get(path.suffix, _check_text)(path)


def _check_png(path: Path) -> str:
    """Hold the chunks of a picture against their checksums (PNG specification, section 5)."""
    content, place = path.read_bytes(), len(_PNG)
    if not content.startswith(_PNG):
        return "is no PNG picture"
    kind = b""
    while kind != b"IEND":
        if place + 12 > len(content):
            return "is cut short"
        (size,) = struct.unpack_from(">I", content, place)
        kind = content[place + 4 : place + 8]
        body = content[place + 4 : place + 8 + size]
        place += 12 + size
        if place > len(content):
            return "is cut short"
        if zlib.crc32(body) != struct.unpack_from(">I", content, place - 4)[0]:
            return "is corrupt: a part does not match its checksum"
    return "" if place == len(content) else "is corrupt: it goes on behind its end"


def _check_jpeg(path: Path) -> str:
    """Look at the ends of a picture: JPEG has no checksums."""
    content = path.read_bytes()
    if not content.startswith(b"\xff\xd8"):
        return "is no JPEG picture"
    return "" if content.endswith(b"\xff\xd9") else "is cut short"


def _check_json(path: Path) -> str:
    """Read measures, which have no checksums, and whose they are."""
    measures = json.loads(path.read_text())
    own = isinstance(measures, dict) and f"{measures.get('product')}_qa.json" == path.name
    return "" if own else "does not hold measures of this product"


def _check_parquet(path: Path) -> str:
    """Read a table piece by piece, checksums of its pages included; hold it against the ASDF file beside it."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        if not path.with_suffix(".asdf").exists():
            for number in range(file.num_row_groups):
                file.read_row_group(number)
            return ""
        return _compare(file.read(), path.with_suffix(".asdf"))


def _compare(table, path: Path) -> str:
    """Hold a table against that of a catalog."""
    import asdf

    with asdf.open(path, validate_checksums=True, memmap=False) as file:
        source = file["roman"]["source_catalog"]
        if table.column_names != list(source.colnames) or table.num_rows != len(source):
            return "does not hold the table of the .asdf file beside it"
        for name in source.colnames:
            here, there = np.asarray(table[name].to_numpy()), np.asarray(source[name])
            if not np.array_equal(here, there, equal_nan=there.dtype.kind == "f"):
                return f"does not hold the table of the .asdf file beside it: {name}"
    return ""


def _check_footer(path: Path) -> str:
    """Read what a folder of parquet files says of them, and whether those that it names are there."""
    import pyarrow.parquet as pq

    found = pq.read_metadata(path)
    named = {found.row_group(k).column(0).file_path for k in range(found.num_row_groups)}
    missing = sorted(name for name in named if not (path.parent / name).exists())
    return f"names {missing[0]}, which is missing" if missing else ""


def _check_fits(path: Path) -> str:
    """Hold the parts of a FITS file against their checksums, and its length against their sizes."""
    from astropy.io import fits
    from astropy.utils.exceptions import AstropyUserWarning

    with warnings.catch_warnings():
        warnings.simplefilter("error", AstropyUserWarning)
        try:
            with fits.open(path, checksum=True) as file:
                last = file[len(file) - 1]
                end = last.fileinfo()["datLoc"] + last.fileinfo()["datSpan"]
                held = len(file) > 1 or last.header["NAXIS"]
        except AstropyUserWarning as warning:
            return f"is corrupt: {' '.join(str(warning).split())}"
    if not held:  # cut behind the header that stands before tables
        return "holds nothing"
    return "" if end == path.stat().st_size else "is not as long as its headers say"


def _check_properties(path: Path) -> str:
    """Read what a HiPS says of itself, and count its tiles."""
    said = re.search(r"^hips_nb_tiles *= *(\d+)$", path.read_text(), re.MULTILINE)
    there = sum(1 for _ in path.parent.rglob("Npix*")) if said else 0
    if said and there != int(said[1]):
        return f"speaks of {said[1]} tiles, and {there} are there"
    return _check_text(path)


def _check_text(path: Path) -> str:
    """Read a text, which has no checksum, to its end."""
    text = path.read_text()
    return "" if text.endswith("\n") and "\0" not in text else "is cut short or no text"


def _check_table(path: Path) -> str:
    """Count the values of each line of a table."""
    counts = {line.count("\t") for line in path.read_text().splitlines()}
    return _check_text(path) or ("" if len(counts) == 1 else "has lines of different lengths")


_READERS = {
    ".png": _check_png,
    ".jpg": _check_jpeg,
    ".json": _check_json,
    ".parquet": _check_parquet,
    ".fits": _check_fits,
    ".tsv": _check_table,
}
