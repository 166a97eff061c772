"""
Make the pictures of the documents: coadds with and without sky levels and outlier flags.

``PYTHONPATH=scripts python docs/pictures.py results/demo`` after ``make demo``; writes docs/skymatch.png and
docs/outlier_detection.png.
"""

import argparse
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from romosaic.association_file import read_grid
from romosaic.config import load
from romosaic.flux_file import open_flux
from romosaic.grid import Grid
from romosaic.product import read_step
from romosaic.resample import resample

DOCS = Path(__file__).parent


def read(results: Path) -> tuple:
    """Members, levels, flags and grid of the product with the most pixels flagged."""
    paths = sorted((results / "outlier_detection").glob("*_outliers.asdf"))
    outliers = {path: read_step(path)["members"] for path in paths}
    path = max(paths, key=lambda path: sum(row["flagged"].size for row in outliers[path]))
    product = path.name.removesuffix("_outliers.asdf")
    sky = read_step(results / f"skymatch/{product}_skymatch.asdf")["members"]
    members = [open_flux(results / f"flux/{row['exposure']}_flux.asdf") for row in sky]
    association = results / f"associate/associations/{product}_asn.json"
    levels, flagged = [r["level"] for r in sky], [r["flagged"] for r in outliers[path]]
    return members, levels, flagged, read_grid(association)


def part(grid: Grid, x: int, y: int, size: int) -> Grid:
    """Cut a square out of a grid."""
    return replace(grid, x0=grid.x0 - x, y0=grid.y0 - y, nx=size, ny=size)


def draw(path: Path, pictures: dict, limits: tuple[float, float], labels: tuple[str, str]) -> None:
    """Write pictures side by side, in one scale of grey."""
    figure = Figure(figsize=(10, 5.2), dpi=90, layout="constrained")
    axes = figure.subplots(1, len(pictures))
    for axis, (title, data) in zip(axes, pictures.items(), strict=True):
        image = axis.imshow(data, cmap="gray", vmin=limits[0], vmax=limits[1], origin="lower")
        axis.set_title(title, fontsize=11)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_xlabel(labels[0], fontsize=9)
    figure.colorbar(image, ax=axes, shrink=0.85, label=labels[1])
    figure.savefig(path, pil_kwargs={"optimize": True})


def binned(data: np.ndarray, n: int) -> np.ndarray:
    """Medians of squares of n pixels: the sky, without stars."""
    ny, nx = (size // n * n for size in data.shape)
    squares = data[:ny, :nx].reshape(ny // n, n, nx // n, n)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of squares without a pixel
        return np.nanmedian(squares, axis=(1, 3))


def draw_seams(members, levels, flags, grid, parameters) -> None:
    """Draw the coadd before and after its members' sky levels are matched."""
    same = np.full(len(levels), np.mean(levels))
    pictures = {}
    for title, given in (("before skymatch", same), ("after skymatch", levels)):
        data = resample(members, given, flags, grid, parameters, threads=2).data
        pictures[title] = binned(data, 20)
    middle = np.nanmedian(pictures["after skymatch"])
    pictures = {title: data - middle for title, data in pictures.items()}
    text = "medians of 20 x 20 pixels; a skycell is 275 arcsec wide"
    draw(DOCS / "skymatch.png", pictures, (-0.03, 0.03), (text, "sky level, MJy/sr"))


def draw_outliers(members, levels, flags, grid, parameters) -> None:
    """Draw the place with the most outliers before and after they are flagged."""
    size = 240
    counts = np.zeros((grid.ny // size, grid.nx // size))
    seen = np.zeros(counts.shape)
    for member, flagged in zip(members, flags, strict=True):
        y, x = np.divmod(flagged.astype(int), member.shape[1])
        x, y = grid.to_pixel(*member.pixmap.sky(x.astype(float), y.astype(float)))
        column, row = np.floor(x / size).astype(int), np.floor(y / size).astype(int)
        inside = (column >= 0) & (row >= 0) & (row < counts.shape[0]) & (column < counts.shape[1])
        np.add.at(counts, (row[inside], column[inside]), 1)
        middle = np.indices(counts.shape) * size + size / 2
        px, py = member.pixmap.detector(*grid.to_sky(middle[1], middle[0]))
        seen += (px > 0) & (px < member.shape[1]) & (py > 0) & (py < member.shape[0])
    counts[seen < 3] = 0  # two exposures hardly tell an outlier
    row, column = np.unravel_index(counts.argmax(), counts.shape)
    cut = part(grid, column * size, row * size, size)
    pictures = {}
    for title, given in (("without flags", [None] * len(members)), ("with flags", flags)):
        pictures[title] = resample(members, levels, given, cut, parameters, threads=2).data
    low, high = np.nanpercentile(pictures["with flags"], [1, 50])
    limits = low, high + 6 * (high - low)
    text = f"{size} x {size} pixels of 0.055 arcsec, {int(seen[row, column])} exposures"
    draw(DOCS / "outlier_detection.png", pictures, limits, (text, "MJy/sr"))


def main() -> None:
    """Read the results of a run and write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("results", type=Path, help="output_dir of a run, such as results/demo")
    given = read(parser.parse_args().results)
    parameters = load({})["resample"]
    draw_seams(*given, parameters)
    draw_outliers(*given, parameters)


if __name__ == "__main__":
    main()
