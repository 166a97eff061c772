"""
Errors, fluxes and positions of the source catalog on a simulated coadd, against its truth.

    PYTHONPATH=scripts:tests python tests/benchmarks/catalog_errors.py <coadd> <scene.ecsv> [parts]

prints the tables of docs/source_catalog.md: parts are empty, injected, truth and sampling (default: all).
`stars.yaml` simulates a skycell of stars for the last two; sampling reads the truth of the exposures beside
scene.ecsv.
"""

import sys
from itertools import pairwise
from pathlib import Path

import catalog_scene as scene
import numpy as np
from romosaic import apertures, noise_correlation, photometry
from romosaic.catalog_files import CoaddFile, read_coadd
from romosaic.catalog_references import choose_psf
from romosaic.detection import unusable
from romosaic.source_catalog import find, make_catalog
from scipy.spatial import KDTree

MAGNITUDES = (18, 19, 20, 21, 22, 23, 24, 24.5, 25)
NAMES = ("01", "02", "04", "08")
#: Scale lengths of the discs put on empty places, pixels; 0 is a star.
RADII = (0.0, 1.5, 4.0)
POSITIONS = ("centroid", "centroid_win", "psf")


def spread(values: np.ndarray) -> float:
    """Scatter from the median absolute deviation: no outlier counts."""
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def show(what: str, *pulls: np.ndarray) -> None:
    """Standard deviation of pulls, in brackets their robust scatter, and how many are not known."""
    unknown = sum(int(np.isnan(p).sum()) for p in pulls)
    pulls = [p[np.isfinite(p)] for p in pulls]
    print(f"{what:42s}", *(f"{np.std(p):6.3f} ({spread(p):.3f})" for p in pulls), unknown or "")


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
    exposures = sorted(Path(path).parent.glob("*_truth.npz"))
    return {"places": places, "mag": mag, "flux": flux, "alone": np.array(alone), "star": star} | {
        "id": np.array(table["id"])[on],
        "exposures": exposures,
    }


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


def empty_apertures(coadd: CoaddFile, truth: dict) -> None:
    """Scatter over error in empty places: circles, and the Kron ellipses and segments of injected sources."""
    places = empty_places(coadd, truth)
    bad = unusable(coadd.data, coadd.err, coadd.weight)
    found = find(coadd.data, bad, scene.parameters())
    image, sources, _ = inject(coadd, places, 1.5)
    table, segments = catalog(coadd, image)
    table = table[scene.match(table, sources)[0]]
    print(f'{len(places)} empty places: circles of 0.1, 0.2, 0.4, 0.8", Kron ellipses, segments')
    for label, rho in (
        ("correlated", coadd.correlation),
        ("pixels as independent", noise_correlation.INDEPENDENT),
    ):
        scale = photometry.Scale(coadd.grid.middle_pixel_area, rho)
        columns, _ = photometry.circles(found, coadd.err, *places.T, scale)
        pulls = [columns[f"aper{n}_flux"] / columns[f"aper{n}_flux_err"] for n in NAMES]
        pulls.append(moved_ellipses(found, coadd.err, places, table, scale))
        pulls.append(moved_segments(found, coadd.err, places, table, segments, scale))
        show(label, *pulls)
    level = columns["aper08_flux"] / (np.pi * photometry.APERTURE_RADII["08"] ** 2)
    print(f"level there {level.mean():.1f} +- {level.std() / len(level) ** 0.5:.1f} nJy/arcsec2")


def moved_ellipses(found, err, places, table, scale) -> np.ndarray:
    """Pulls of Kron ellipses put on empty places."""
    row = np.arange(len(places)) % len(table)
    axes = (np.array(table[f"semi{name}"], float)[row] for name in ("major", "minor"))
    radius = photometry.KRON_PARAMS[0] * np.array(table["kron_radius"], float)[row]
    major, minor = (radius * axis / scale.arcsec**2 for axis in axes)
    turn = np.radians(np.array(table["orientation_pix"], float)[row])
    none = np.zeros(len(places), np.int32)
    shape = (found.bad, found.segments, none, *places.T, major, minor, turn)
    sums = apertures.ellipse_sums(found.data, err, *shape)[:, 0]
    return sums / np.sqrt(noise_correlation.ellipse_variances(err, *shape, scale.half_rho))


def moved_segments(found, err, places, table, segments, scale) -> np.ndarray:
    """Pulls of segments put on empty places."""
    pulls = []
    for place, row in zip(places[:4000], np.arange(4000) % len(table), strict=False):
        x0, x1, y0, y1 = (
            int(table[f"bbox_{side}"][row]) for side in ("xmin", "xmax", "ymin", "ymax")
        )
        mask = segments[y0 : y1 + 1, x0 : x1 + 1] == table["label"][row]
        x, y = (int(p) - n // 2 for p, n in zip(place, mask.shape[::-1], strict=True))
        here = slice(y, y + mask.shape[0]), slice(x, x + mask.shape[1])
        variance = noise_correlation.variance(mask * err[here].astype(float), scale.half_rho)
        pulls.append((mask * found.data[here]).sum(dtype=float) / np.sqrt(variance))
    return np.array(pulls)


def inject(coadd: CoaddFile, places: np.ndarray, radius: float) -> tuple:
    """Image with sources on empty places at least 70 pixels apart, the sources, and their magnitudes."""
    cells, first = np.unique((places // 140).astype(int), axis=0, return_index=True)
    mag = np.random.default_rng(3).uniform(21.5, 24.5, len(cells))
    flux = 10 ** (-0.4 * (mag - 31.4)) / photometry.Scale(coadd.grid.middle_pixel_area).flux
    sources = np.column_stack([places[first], flux])
    image = coadd.data + scene.render(coadd.data.shape, sources, radius)
    return image.astype(np.float32), sources, mag


def catalog(coadd: CoaddFile, image: np.ndarray, psf=None):
    """Table and segments of an image with the coadd's errors."""
    arrays = (image, coadd.err, coadd.weight, coadd.grid, scene.parameters())
    return make_catalog(*arrays, psf=psf or scene.psf(), correlation=coadd.correlation)


def injected(coadd: CoaddFile, truth: dict) -> None:
    """Pulls of sources put on empty places: positions (x, y), fluxes."""
    places = empty_places(coadd, truth)
    for radius in RADII:
        image, sources, magnitudes = inject(coadd, places, radius)
        table, _ = catalog(coadd, image)
        rows, which = scene.match(table, sources)
        table, true, mag = table[rows], sources[which], magnitudes[which]
        print(f"{len(rows)} injected, disc of {radius} pixels (0: star)")
        for kind in POSITIONS:
            show(
                f"  {kind}",
                *(
                    (table[f"{axis}_{kind}"] - true[:, i]) / table[f"{axis}_{kind}_err"]
                    for i, axis in enumerate("xy")
                ),
            )
        flux = true[:, 2] * photometry.Scale(coadd.grid.middle_pixel_area).flux
        parts = flux_parts(table, flux, mag, star=radius == 0)
        gof = (np.median(table["psf_gof"][one]) for one in (mag < 23, mag >= 23))
        extended = np.mean(table["is_extended"])
        print(f"  {extended:.1%} is_extended, psf_gof", *(f"{value:.0f}" for value in gof))
        for name, part in parts.items():
            pull = (np.array(table[f"{name}_flux"], float) - part * flux) / table[
                f"{name}_flux_err"
            ]
            show(f"  {name} 21.5-23, 23-24.5 mag", pull[mag < 23], pull[mag >= 23])
            faint = (np.array(table[f"{name}_flux"], float) / part / flux)[mag >= 24]
            over = f"{np.median(faint):.4f} +- {1.253 * spread(faint) / np.sqrt(faint.size):.4f}"
            print(f"    over truth, {faint.size} of 24-24.5 mag: {over}")


def flux_parts(table, flux: np.ndarray, mag: np.ndarray, star: bool) -> dict[str, np.ndarray]:
    """Part of a source's light that an aperture should hold: of the PSF, else the median by half magnitudes."""
    parts = {}
    if star:
        parts["psf"] = np.ones(len(flux))
        for name, energy in zip(photometry.APERTURE_RADII, table.meta["ee_fractions"], strict=True):
            parts[f"aper{name}"] = np.full(len(flux), energy)
    for name in ("kron", "segment"):
        ratio, step = np.array(table[f"{name}_flux"], float) / flux, np.floor(2 * mag)
        parts[name] = np.zeros(len(flux))
        for one in np.unique(step):
            parts[name][step == one] = np.median(ratio[step == one])
    return parts


def found_alone(coadd: CoaddFile, truth: dict) -> tuple:
    """Catalog of the coadd, the row of each true source, and whether it is found, isolated and whole."""
    psf = choose_psf(coadd.optical_element, coadd.grid.pixel_scale * 3600)
    table, _ = catalog(coadd, coadd.data, psf)
    places = np.stack([table["x_centroid"], table["y_centroid"]], axis=1).astype(float)
    distance, row = KDTree(places).query(truth["places"])
    good = (distance < 2.5) & truth["alone"] & (np.array(table["image_flags"])[row] == 0)
    return table, row, good


def against_truth(coadd: CoaddFile, truth: dict) -> None:
    """Isolated sources by magnitude: flux over truth, its pulls, and how far positions are off."""
    table, row, good = found_alone(coadd, truth)
    energy = dict(zip(photometry.APERTURE_RADII, table.meta["ee_fractions"], strict=True))
    kinds = [("psf", 1.0, True), *((f"aper{n}", energy[n], True) for n in NAMES)]
    for kind, part, star in [*kinds, ("kron", 1.0, False)]:
        for low, high in pairwise(MAGNITUDES):
            one = good & (truth["star"] == star) & (truth["mag"] >= low) & (truth["mag"] < high)
            if one.sum() > 2:
                flux, error = (
                    np.array(table[f"{kind}_flux{end}"], float)[row][one] / part
                    for end in ("", "_err")
                )
                ratio, pull = flux / truth["flux"][one], (flux - truth["flux"][one]) / error
                print(
                    f"{kind:6s} {low}-{high} mag: {ratio.size} median {np.median(ratio):.4f}"
                    f" mean {ratio.mean():.4f} +- {ratio.std() / np.sqrt(ratio.size):.4f}"
                    f" scatter {spread(ratio):.4f} pull {np.std(pull):.2f} ({spread(pull):.2f})"
                )
    for low, high in pairwise(MAGNITUDES):
        one = good & truth["star"] & (truth["mag"] >= low) & (truth["mag"] < high)
        if one.sum() > 2:
            print(f"{low}-{high} mag: {one.sum()} stars, pixels off in x, y; error; pulls; bias")
            for kind in POSITIONS:
                off = np.stack([np.array(table[f"{axis}_{kind}"], float)[row] for axis in "xy"])
                off = (off - truth["places"].T)[:, one]
                error = np.stack(
                    [np.array(table[f"{axis}_{kind}_err"], float)[row][one] for axis in "xy"]
                )
                print(
                    f"  {kind:13s}",
                    *(f"{spread(o):.4f}" for o in off),
                    f"{np.median(error):.4f}",
                    *(f"{spread(o):.2f}" for o in off / error),
                    *(f"{np.median(o):+.4f}" for o in off),
                )
            print(f"  psf_gof {np.median(np.array(table['psf_gof'])[row][one]):.2f}")
    print(table.meta["m5sigma"], table.meta["empty_apertures"])


def sampling(coadd: CoaddFile, truth: dict) -> None:
    """How much of the positions' scatter of bright stars is told by where they lie in pixels, each left out."""
    table, row, good = found_alone(coadd, truth)
    inside = []
    for path in truth["exposures"]:
        with np.load(path) as file:
            places = np.stack([file["source_x"], file["source_y"]], axis=1)
            known = dict(zip(file["source_id"].tolist(), places, strict=True))
        inside.append([known.get(name, (np.nan, np.nan)) for name in truth["id"].tolist()])
    inside = np.concatenate(inside, axis=1)
    one = good & truth["star"] & (truth["mag"] < 21) & np.isfinite(inside).all(axis=1)
    for kind in POSITIONS:
        for i, axis in enumerate("xy"):
            off = np.array(table[f"{axis}_{kind}"], float)[row] - truth["places"][:, i]
            kept = one & (np.abs(off) < 0.2)
            told = (foretold(p[kept], off[kept]) for p in (inside, truth["places"]))
            shares = "detector pixels {:.2f}, output pixels {:.2f}".format(*told)
            print(
                f"{kept.sum()} stars, {axis}_{kind}: {off[kept].std():.4f} pixels; told by {shares}"
            )


def foretold(places: np.ndarray, off: np.ndarray) -> float:
    """Share of a variance that sines and cosines of places in pixels tell of the one that is left out."""
    angle = 2 * np.pi * places
    terms = np.hstack([np.ones((len(off), 1)), np.sin(angle), np.cos(angle)])
    hat = terms @ np.linalg.pinv(terms)
    return float(1 - ((off - hat @ off) / (1 - np.diag(hat))).var() / off.var())


PARTS = {
    "empty": empty_apertures,
    "injected": injected,
    "truth": against_truth,
    "sampling": sampling,
}

if __name__ == "__main__":
    mosaic = read_coadd(sys.argv[1])
    true = read_truth(sys.argv[2], mosaic)
    for name in sys.argv[3:] or PARTS:
        PARTS[name](mosaic, true)
