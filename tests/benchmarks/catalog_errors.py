"""
Errors and fluxes of the source catalog on a simulated coadd, against its truth: docs/source_catalog.md.

Run with ``PYTHONPATH=scripts:tests python tests/benchmarks/catalog_errors.py <coadd> <scene.ecsv>``.
"""

import sys
from itertools import pairwise

import catalog_scene as scene
import numpy as np
from romosaic import noise_correlation, photometry
from romosaic.catalog_files import CoaddFile, read_coadd
from romosaic.catalog_references import choose_psf
from romosaic.detection import detect, unusable
from romosaic.source_catalog import Parameters, make_catalog
from scipy.spatial import KDTree

MAGNITUDES = (18, 20, 21, 22, 23, 24, 24.5, 25)
NAMES = ("01", "02", "04", "08")


def spread(values: np.ndarray) -> float:
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def read_truth(path: str, coadd: CoaddFile) -> dict[str, np.ndarray]:
    """Sources on the coadd; `alone`: nothing less than 3.5 mag fainter within 35 pixels."""
    from astropy.table import Table

    table = Table.read(path)
    x, y = coadd.grid.to_pixel(np.array(table["ra"]), np.array(table["dec"]))
    on = (x > -50) & (x < coadd.grid.nx + 50) & (y > -50) & (y < coadd.grid.ny + 50)
    name = f"_{coadd.optical_element.lower()}"
    mag, flux = (np.array(table[kind + name])[on] for kind in ("mag", "flux"))
    places = np.stack([x[on], y[on]], axis=1)
    near = KDTree(places).query_ball_point(places, 35)
    alone = [all(j == i or mag[j] > mag[i] + 3.5 for j in js) for i, js in enumerate(near)]
    star = np.array(table["type"][on] == "star")
    return {"places": places, "mag": mag, "flux": flux, "alone": np.array(alone), "star": star}


def empty_places(coadd: CoaddFile, truth: dict) -> np.ndarray:
    """Places far from all true sources, the farther the brighter these are."""
    ny, nx = coadd.data.shape
    tried = np.random.default_rng(1).uniform(40, [nx - 40, ny - 40], (40000, 2))
    bad = unusable(coadd.data, coadd.err, coadd.weight)
    for limit, distance in ((28.5, 20), (23, 60), (20, 150), (18, 400)):
        bright = truth["places"][truth["mag"] < limit]
        if len(bright):
            tried = tried[KDTree(bright).query(tried)[0] > distance]
    cut = [bad[int(y) - 18 : int(y) + 19, int(x) - 18 : int(x) + 19].any() for x, y in tried]
    return tried[~np.array(cut)]


def empty_circles(coadd: CoaddFile, places: np.ndarray) -> None:
    bad = unusable(coadd.data, coadd.err, coadd.weight)
    parameters = Parameters().detection
    found = detect(coadd.data, bad, **parameters)
    for label, rho in (
        ("correlated", coadd.correlation),
        ("independent", noise_correlation.INDEPENDENT),
    ):
        scale = photometry.Scale(coadd.grid.middle_pixel_area, rho)
        columns, _ = photometry.circles(found, coadd.err, *places.T, scale)
        pulls = [columns[f"aper{n}_flux"] / columns[f"aper{n}_flux_err"] for n in NAMES]
        print(f"{len(places)} empty circles, {label}:", *(f"{spread(p):.3f}" for p in pulls))


def injected(coadd: CoaddFile, places: np.ndarray, radius: float) -> None:
    """Pulls of sources put on empty places at least 70 pixels apart, stars for radius 0."""
    cells, first = np.unique((places // 140).astype(int), axis=0, return_index=True)
    chosen = places[first]
    scale = photometry.Scale(coadd.grid.middle_pixel_area)
    flux = 10 ** (-0.4 * (np.random.default_rng(3).uniform(21.5, 24.5, len(cells)) - 31.4))
    sources = np.column_stack([chosen, flux / scale.flux])
    image = (coadd.data + scene.render(coadd.data.shape, sources, radius)).astype(np.float32)
    arrays = (image, coadd.err, coadd.weight, coadd.grid, Parameters())
    table, _ = make_catalog(*arrays, psf=scene.psf(), correlation=coadd.correlation)
    rows, which = scene.match(table, sources)
    table, true = table[rows], sources[which]
    for kind in ("centroid", "centroid_win", "psf"):
        pulls = [
            spread((table[f"{axis}_{kind}"] - true[:, i]) / table[f"{axis}_{kind}_err"])
            for i, axis in enumerate("xy")
        ]
        print(f"{len(rows)} injected, disc {radius}, {kind}: {pulls[0]:.2f} {pulls[1]:.2f}")
    pull = (table["psf_flux"] - true[:, 2] * scale.flux) / table["psf_flux_err"]
    print(f"  PSF flux {spread(pull):.2f}")


def against_truth(coadd: CoaddFile, truth: dict) -> None:
    """Flux over truth of isolated sources by magnitude: median and scatter."""
    psf = choose_psf(coadd.optical_element, coadd.grid.pixel_scale * 3600)
    arrays = (coadd.data, coadd.err, coadd.weight, coadd.grid, Parameters())
    table, _ = make_catalog(*arrays, psf=psf, correlation=coadd.correlation)
    energy = dict(zip(photometry.APERTURE_RADII, table.meta["ee_fractions"], strict=True))
    places = np.stack([table["x_centroid"], table["y_centroid"]], axis=1).astype(float)
    distance, row = KDTree(places).query(truth["places"])
    good = (distance < 2.5) & truth["alone"] & (np.array(table["image_flags"])[row] == 0)
    kinds = [("psf", 1.0, True), *((f"aper{n}", energy[n], True) for n in NAMES)]
    for kind, part, star in [*kinds, ("kron", 1.0, False)]:
        for low, high in pairwise(MAGNITUDES):
            one = good & (truth["star"] == star) & (truth["mag"] >= low) & (truth["mag"] < high)
            ratio = np.array(table[f"{kind}_flux"], float)[row][one] / part / truth["flux"][one]
            if ratio.size:
                print(
                    f"{kind} {low}-{high}: {ratio.size} {np.median(ratio):.3f} ({spread(ratio):.3f})"
                )
    print(table.meta["m5sigma"], table.meta["empty_apertures"])


if __name__ == "__main__":
    mosaic = read_coadd(sys.argv[1])
    true = read_truth(sys.argv[2], mosaic)
    empty = empty_places(mosaic, true)
    empty_circles(mosaic, empty)
    for radius in (0.0, 1.5, 4.0):
        injected(mosaic, empty, radius)
    against_truth(mosaic, true)
