"""
Cut-outs of a run's mosaics, across the borders of skycells.

Skycells of one projection region are windows of one pixel grid, so that a cut-out is pasted from them without
resampling: each pixel is that of the skycell in whose middle part it lies, or of the next one that has data.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from . import product_index
from .coadd_file import CoaddBlocks
from .errors import GridError, ProductError
from .fits_file import Card, plane_cards
from .grid import Grid
from .product_index import Product
from .skymap import SkyMap

#: Planes of a cut-out.
PLANES = ("data", "err", "weight")
#: Largest difference of two places on one grid that are the same pixel, pixels.
_SAME = 1e-3
#: Most pixels along a side.
_LARGEST = 10000


@dataclass
class Cutout:
    """
    A piece of the sky.

    Attributes
    ----------
    grid : Grid
        Its pixels.
    planes : dict of (ny, nx) float32 arrays
        By name, of `PLANES`; NaN (weight 0) where no coadd has data.
    source : (ny, nx) uint32 array
        Which of `products` a pixel comes from, counted from 1; 0 for none.
    products : list of str
        Coadds that were looked at.
    optical_element, weight_type : str
        Of the coadds.
    """

    grid: Grid
    planes: dict[str, np.ndarray]
    source: np.ndarray
    products: list[str]
    optical_element: str
    weight_type: str

    @property
    def counts(self) -> list[int]:
        """Pixels from each of the products."""
        return np.bincount(self.source.ravel(), minlength=len(self.products) + 1)[1:].tolist()


def made_products(output_dir: str | Path, optical_element: str | None) -> dict[str, dict]:
    """
    Find the products of a run whose coadds are made.

    Parameters
    ----------
    output_dir : str or path
        Folder of the run's results.
    optical_element : str or None
        Only those of this filter.

    Returns
    -------
    dict
        `Product` by name, by filter.

    Raises
    ------
    ProductError
        There are none.
    """
    folder, found = Path(output_dir), {}
    for name, product in product_index.read(folder / "associate").items():
        if (folder / f"resample/{name}_coadd.asdf").exists():
            found.setdefault(product.optical_element, {})[name] = product
    if not found:
        raise ProductError(folder, "holds no coadds", "give the folder of a run: --output-dir")
    wanted = optical_element.upper() if optical_element else None
    if wanted and wanted not in found:
        known = ", ".join(sorted(found))
        raise ProductError(folder, f"holds no coadds of filter {wanted}", f"it has {known}")
    return {wanted: found[wanted]} if wanted else found


def choose_all(found: Mapping[str, dict], ra: float, dec: float, size: float, owner: str) -> dict:
    """
    Choose for each filter, as `choose` does.

    Parameters
    ----------
    found : mapping
        Of `made_products`.
    ra, dec, size, owner
        As for `choose`.

    Returns
    -------
    dict
        (grid, chosen) by filter; filters without a mosaic there are left out.

    Raises
    ------
    GridError
        No filter has one.
    """
    plans, problem = {}, None
    for element, products in sorted(found.items()):
        try:
            plans[element] = choose(products, ra, dec, size, owner)
        except GridError as error:
            problem = error
    if not plans and problem:
        raise problem
    return plans


def foreign_part(cut: Grid, owner: str, skymap: SkyMap) -> float:
    """Part of a cut-out that belongs to another projection region than the skycell that owns its middle."""
    if not owner:
        return 0.0
    at = (np.linspace(-0.5, n - 0.5, 101) for n in (cut.nx, cut.ny))
    ra, dec = cut.to_sky(*np.meshgrid(*at))
    region, _, _ = owner.partition("x")
    return float((~np.char.startswith(skymap.primary_cell(ra, dec), f"{region}x")).mean())


def shift(reference: Grid, other: Grid) -> tuple[int, int] | None:
    """
    Pixel of the first grid on which pixel (0, 0) of the other lies, (x, y).

    Returns
    -------
    tuple of int or None
        None where they are not windows of one pixel grid.
    """
    fields = ("ra0", "dec0", "pixel_scale", "orientation", "x_east")
    if any(getattr(reference, name) != getattr(other, name) for name in fields):
        return None
    dx, dy = reference.x0 - other.x0, reference.y0 - other.y0
    if max(abs(dx - round(dx)), abs(dy - round(dy))) > _SAME:
        return None
    return round(dx), round(dy)


def choose(
    products: Mapping[str, Product], ra: float, dec: float, size: float, owner: str = ""
) -> tuple[Grid, dict[str, Grid]]:
    """
    Choose the pixel grid of a cut-out, and the products of one filter on it.

    The grid is that of the product which holds the middle best: the skycell that owns the place, else the
    product whose middle is next. Products on other pixel grids (of a neighbouring projection region) are left.

    Parameters
    ----------
    products : mapping
        `Product` of one filter by name.
    ra, dec : float
        Its middle, degrees.
    size : float
        Its side, arcsec.
    owner : str, optional
        Skycell that owns the middle.

    Returns
    -------
    grid : Grid
        Pixels of the cut-out.
    chosen : dict
        Grids by product, those that the cut-out touches; the next to the middle first.

    Raises
    ------
    GridError
        No product holds the middle, or the cut-out is too large.
    """
    if not size > 0:
        raise GridError("cutout", f"{size} arcsec is not a size", "give its side")
    grids = {name: Grid.from_wcs_info(json.loads(p.grid)) for name, p in products.items()}
    best, least = None, (True, np.inf, 0)
    for name, grid in grids.items():
        off = _off_middle(grid, *grid.to_pixel(ra, dec))
        rank = (products[name].skycell != owner, float(off), -products[name].members)
        if off <= 0.5 and rank < least:
            best, least = name, rank
    if best is None:
        cell = f" (skycell {owner})" if owner else ""
        todo = "look at overview/, or give another place or filter"
        raise GridError(f"{ra:.6f}, {dec:.6f}", f"lies on no mosaic{cell}", todo)
    reference = grids[best]
    n = max(round(size / 3600 / reference.pixel_scale), 1)
    if n > _LARGEST:
        what = f"would be {n} pixels wide"
        raise GridError(
            "cutout", what, f"at most {_LARGEST * reference.pixel_scale * 3600:.0f} arcsec"
        )
    x, y = (round(float(place)) - n // 2 for place in reference.to_pixel(ra, dec))
    cut = replace(reference, x0=reference.x0 - x, y0=reference.y0 - y, nx=n, ny=n, skycell=None)
    chosen = {name: grid for name, grid in grids.items() if _part(cut, grid)}
    near = {name: _off_middle(grid, *grid.to_pixel(ra, dec)) for name, grid in chosen.items()}
    # Of several of one skycell the one of most exposures is seen first.
    order = sorted(chosen, key=lambda name: (near[name], -products[name].members, name))
    return cut, {name: chosen[name] for name in order}


def _off_middle(grid: Grid, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Distance from the middle along the farther axis, in sides of the grid; 0.5 at its edge."""
    dx, dy = (np.abs(p - (n - 1) / 2) / n for p, n in ((x, grid.nx), (y, grid.ny)))
    return np.where(np.isfinite(dx + dy), np.maximum(dx, dy), np.inf)


def _part(cut: Grid, grid: Grid) -> tuple[tuple[int, int, int, int], tuple[int, int]] | None:
    """Window (y0, y1, x0, x1) of a product that lies in the cut-out, and where it goes (y, x)."""
    found = shift(cut, grid)
    if found is None:
        return None
    dx, dy = found
    x0, x1 = max(-dx, 0), min(cut.nx - dx, grid.nx)
    y0, y1 = max(-dy, 0), min(cut.ny - dy, grid.ny)
    return ((y0, y1, x0, x1), (y0 + dy, x0 + dx)) if x1 > x0 and y1 > y0 else None


def paste(cut: Grid, coadds: Sequence[CoaddBlocks]) -> Cutout:
    """
    Paste a cut-out from coadds, of which only the windows in it are read.

    Parameters
    ----------
    cut : Grid
        Pixels of the cut-out.
    coadds : sequence of CoaddBlocks
        One or more of one filter on this pixel grid.
    """
    planes = {name: np.full(cut.shape, np.nan, np.float32) for name in PLANES}
    planes["weight"][:] = 0
    source, nearest = np.zeros(cut.shape, np.uint32), np.full(cut.shape, np.inf)
    for number, coadd in enumerate(coadds, 1):
        part = _part(cut, coadd.grid)
        if part is None:
            continue
        (y0, y1, x0, x1), (top, left) = part
        to = np.s_[top : top + y1 - y0, left : left + x1 - x0]
        off = _off_middle(coadd.grid, np.arange(x0, x1), np.arange(y0, y1)[:, None])
        weight = coadd.window("weight", (y0, y1, x0, x1))
        better = (weight > 0) & (off < nearest[to])
        for name in PLANES:
            values = weight if name == "weight" else coadd.window(name, (y0, y1, x0, x1))
            planes[name][to][better] = values[better]
        nearest[to][better] = off[better]
        source[to][better] = number
    names, first = [coadd.product for coadd in coadds], coadds[0]
    return Cutout(cut, planes, source, names, first.optical_element, first.weight_type)


def cards(cutout: Cutout) -> dict[str, Card]:
    """Cards of the first header."""
    return {
        "TELESCOP": "ROMAN",
        "INSTRUME": "WFI",
        "FILTER": cutout.optical_element,
        "PIXAR_SR": (cutout.grid.middle_pixel_area, "[sr] solid angle of the middle pixel"),
    }


def images(cutout: Cutout) -> Iterable[tuple[dict, np.ndarray]]:
    """
    Images of a cut-out.

    Yields
    ------
    (cards, array)
        As `fits_file.write_fits` takes them.
    """
    for name in PLANES:
        yield plane_cards(name, cutout.weight_type), cutout.planes[name]
    yield {"EXTNAME": ("SOURCE", "row of the table PRODUCTS, counted from 1")}, cutout.source


def products_table(cutout: Cutout) -> dict[str, list]:
    """Table PRODUCTS: the coadds that were looked at, and the pixels from each."""
    return {"PRODUCT": cutout.products, "PIXELS": cutout.counts}


def report(cutout: Cutout, foreign: float) -> list[str]:
    """
    Say in lines what a cut-out holds.

    Parameters
    ----------
    cutout : Cutout
        It.
    foreign : float
        Part of its pixels that belong to another projection region than its middle.
    """
    total = cutout.source.size
    lines = [
        f"  {count / total:6.1%}  {name}"
        for name, count in zip(cutout.products, cutout.counts, strict=True)
        if count
    ]
    empty = (cutout.source == 0).mean()
    lines += [f"  {empty:6.1%}  without data"] if empty else []
    if foreign > 0:
        lines.append(
            f"  {foreign:.1%} of it belong to another projection region, whose pixels lie otherwise: there "
            "only what the region of the middle has is shown"
        )
    return lines


def file_name(ra: float, dec: float, optical_element: str) -> str:
    """Name of the file of a cut-out: its middle, 0.04 arcsec exact, and the filter."""
    return f"cutout_{ra % 360:.5f}_{dec:+.5f}_{optical_element.lower()}.fits"
