"""
Step `fits`, on request: coadds as FITS files, for programs that do not read ASDF.

Pixels are not touched: the tangent-plane WCS of FITS is the grid itself.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from .coadd_file import CoaddBlocks
from .fits_file import Card, plane_cards
from .grid import Grid
from .product_index import Product

_HEAD = ("product", "filter", "skycell", "ra", "dec", "nx", "ny", "bytes")


def coadd_cards(coadd: CoaddBlocks) -> dict[str, Card]:
    """Cards of the first header of a coadd: what it is, of what it was made and when it was taken."""
    meta, own = coadd.meta, coadd.own
    info, versions = meta["coadd_info"], own["provenance"]["versions"]
    return {
        "ORIGIN": f"romosaic {versions['romosaic']}",
        "TELESCOP": "ROMAN",
        "INSTRUME": "WFI",
        "FILTER": coadd.optical_element,
        "PRODUCT": coadd.product,
        **({"SKYCELL": coadd.grid.skycell} if coadd.grid.skycell else {}),
        "NCOMBINE": (len(coadd.inputs), "exposures"),
        "EXPTIME": (float(info["exposure_time"]), "[s] mean of the covered pixels"),
        "TIMESYS": "UTC",
        **_dates("BEG", info["time_first"]),
        **_dates("END", info["time_last"]),
        "PIXAR_SR": (coadd.grid.middle_pixel_area, "[sr] solid angle of the middle pixel"),
        "ABZP": (_zero_point(coadd), "AB mag of a sum of 1 MJy/sr over pixels"),
    }


def _dates(which: str, time: str) -> dict[str, Card]:
    """Date cards; with the Julian date, which readers of the WCS would else add with a warning."""
    return {f"DATE-{which}": str(time), f"MJD-{which}": modified_julian_date(time)}


def modified_julian_date(time: str) -> float:
    """MJD of an ISO date-time."""
    return (datetime.fromisoformat(str(time)) - datetime(1858, 11, 17)) / timedelta(days=1)


def _zero_point(coadd: CoaddBlocks) -> float:
    """AB magnitude of a sum of 1 over pixels: 3631 Jy are magnitude 0."""
    return float(-2.5 * np.log10(coadd.grid.middle_pixel_area * 1e6 / 3631))


def members_table(coadd: CoaddBlocks) -> dict[str, list]:
    """Table MEMBERS: the exposures in the order of the context's bits, with what was subtracted."""
    members = coadd.own["members"]
    return {
        "BIT": list(range(len(members))),
        "EXPOSURE": [str(member["exposure"]) for member in members],
        "STATUS": [str(member["status"]) for member in members],
        "LEVEL": [float(member["level"]) for member in members],
        "WEIGHT": [float(member["weight"]) for member in members],
    }


def images(coadd: CoaddBlocks, planes: Iterable[str]) -> Iterator[tuple[dict, np.ndarray]]:
    """
    Planes of a coadd one by one.

    Yields
    ------
    (cards, array)
        As `fits_file.write_fits` takes them; planes that the coadd does not have are left out.
    """
    for name in planes:
        if coadd.tree["roman"].get(name) is None:
            continue
        for number, part in enumerate(coadd.planes(name), 1):
            yield plane_cards(name, coadd.weight_type, number), part


def index(files: Mapping[str, str | Path], products: Mapping[str, Product]) -> str:
    """Table of FITS files by product, tab-separated text: a line each, with the middle in degrees."""
    lines = []
    for name, path in files.items():
        product = products[name]
        grid = Grid.from_wcs_info(json.loads(product.grid))
        ra, dec = (f"{degrees:.7f}" for degrees in grid.center)
        row = name, product.optical_element, product.skycell, ra, dec, grid.nx, grid.ny
        lines.append("\t".join(map(str, (*row, Path(path).stat().st_size))))
    return "\n".join(["\t".join(_HEAD), *lines]) + "\n"
