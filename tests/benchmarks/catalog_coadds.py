"""Full-size coadds with stars and galaxies for `source_catalog`."""

from pathlib import Path

import catalog_scene as scene
import numpy as np
from benchmark_data import FILTER, SKYCELLS
from coadd_file import known_coadd, save_coadd
from romosaic import skymap
from romosaic.noise_correlation import INDEPENDENT
from romosaic.product import provenance

#: Scale lengths of the galaxies' discs, coadd pixels; 0 is a star. In equal numbers.
SIZES = (0.0, 0.0, 1.0, 2.0, 4.0)
# Flux of the faintest star over the noise of a pixel, and slope of the counts.
FAINTEST, COUNT_SLOPE = 260, 1.2
BRIGHTEST = 1e5


def draw_sources(rng, n: int, side: int) -> list[tuple[float, np.ndarray]]:
    """Sizes with the places and fluxes (as `catalog_scene.render` takes them) of their sources."""
    size = rng.choice(SIZES, n)
    flux = FAINTEST * (1 + size) * rng.uniform(size=n) ** (-1 / COUNT_SLOPE)
    flux = np.minimum(flux, BRIGHTEST) * scene.NOISE
    rows = np.stack([*rng.uniform(0, side, (2, n)), flux], axis=1)
    return [(radius, rows[size == radius]) for radius in sorted(set(SIZES))]


def make_coadd(path: Path, n: int) -> None:
    """
    Write a coadd of a skycell with n sources, unless it is there: a corner is not covered.

    Parameters
    ----------
    path : Path
        ``_coadd.asdf`` file.
    n : int
        Sources in the whole cell, most of them bright enough to be found.
    """
    if path.exists():
        return
    rng = np.random.default_rng(n)
    grid = skymap.read_skymap().cell(SKYCELLS[0]).grid
    image = np.zeros(grid.shape)
    for radius, sources in draw_sources(rng, n, grid.nx):
        image += scene.render(grid.shape, sources, radius)
    data, err, weight = scene.observe(rng, image)
    y, x = np.ogrid[: grid.ny, : grid.nx]
    outside = x + 0.2 * y < 400
    data[outside], err[outside], weight[outside] = np.nan, np.nan, 0
    path.parent.mkdir(parents=True, exist_ok=True)
    model = known_coadd(grid, data, err, weight, FILTER)
    independent = {"correlation": INDEPENDENT.tolist()}
    save_coadd(path, model, provenance({"kernel": "square"}, []), noise=independent)
