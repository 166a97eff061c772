"""Quality of products against the truth of simulated exposures: used by tests and benchmarks."""

import numpy as np
from romosaic.flux_file import FluxExposure
from romosaic.grid import Grid

#: Variance of the median of drizzled sky pixels over that of their mean: sum(arcsin rho) / sum(rho) over the
#: correlations rho of neighbours (0.055" pixels of 0.11" ones); for independent pixels it would be pi / 2.
MEDIAN = 1.14
#: Arcsec within which a star's flux is measured, and share of it that no neighbour there may have: within the
#: circle and its surroundings; and within the ring that tells the sky (to 2.8 arcsec) and what reaches in.
ALONE = ((2.0, 0.01), (3.2, 0.1))
#: The same where the light of neighbours cancels.
APART = ((1.0, 0.1), (3.2, 30.0))
#: Jy per MJy/sr of an arcsec^2; side of a detector pixel, arcsec.
JY, DETECTOR_PIXEL = 1e6 * np.radians(1 / 3600) ** 2, 0.11


def coverage(
    member: FluxExposure, members: list[FluxExposure], grids: list[Grid] = (), step: int = 1
) -> np.ndarray:
    """
    Number of members whose detector holds the sky position of each pixel of a member, itself included.

    Parameters
    ----------
    grids : list of Grid
        Pixels on none of these count 0; an empty list counts everywhere.
    step : int
        Pixels in squares of this side are taken as the middle one.

    Returns
    -------
    (ny, nx) int array
    """
    ny, nx = member.shape
    middles = [np.arange((step - 1) / 2, size, step) for size in (nx, ny)]
    ra, dec = member.pixmap.sky(*np.meshgrid(*middles))
    count = np.zeros(ra.shape, int)
    for other in members:
        count += _inside(*other.pixmap.detector(ra, dec), *other.shape)
    if grids:
        count *= np.any([_inside(*g.to_pixel(ra, dec), *g.shape) for g in grids], axis=0)
    return np.repeat(np.repeat(count, step, 0), step, 1)[:ny, :nx]


def _inside(x: np.ndarray, y: np.ndarray, ny: int, nx: int) -> np.ndarray:
    return (x > -0.5) & (x < nx - 0.5) & (y > -0.5) & (y < ny - 0.5)


def discs(shape: tuple[int, int], x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    """Mask of the pixels within a radius (pixels) of some places on an image."""
    mask = np.zeros(shape, bool)
    on_it = _inside(x, y, *shape)  # and not NaN
    x, y = x[on_it], y[on_it]
    reach = int(np.ceil(radius))
    for dy, dx in np.ndindex(2 * reach + 1, 2 * reach + 1):
        px, py = np.rint(x).astype(int) + dx - reach, np.rint(y).astype(int) + dy - reach
        near = (np.hypot(px - x, py - y) <= radius) & _inside(px, py, *shape)
        mask[py[near], px[near]] = True
    return mask


def outlier_scores(
    member: FluxExposure,
    flagged: np.ndarray,
    cr_index: np.ndarray,
    cr_amplitude: np.ndarray,
    defects: np.ndarray,
    judged: np.ndarray,
    hot: np.ndarray = (),
    cores: np.ndarray | None = None,
) -> dict[str, tuple[int, int]]:
    """
    Flagged and all pixels by cosmic-ray amplitude over the sky noise, of hot and of clean pixels.

    Parameters
    ----------
    flagged, cr_index, defects : flat indices
        Flagged pixels; pixels touched by cosmic rays; hot and bad pixels.
    cr_amplitude : float array
        MJy/sr.
    judged : (ny, nx) bool array
        Pixels that count.
    hot : flat indices
        Of the defects, those to be found.
    cores : (ny, nx) bool array, optional
        Where clean pixels are counted apart, too.
    """
    found = np.zeros(np.prod(member.shape), bool)
    found[flagged] = True
    amplitude = np.zeros(found.size)
    np.add.at(amplitude, cr_index, cr_amplitude)
    usable = judged.ravel() & ((np.asarray(member.dq) & 1) == 0).ravel()
    ok = usable.copy()
    ok[defects] = False
    snr = amplitude / np.sqrt(member.sky_variance)
    sets = {}
    for low, high in ((0, 5), (5, 10), (10, 30), (30, 100), (100, np.inf)):
        sets[f"{low}-{high}"] = ok & (amplitude > 0) & (snr >= low) & (snr < high)
    sets["hot"] = np.zeros(found.size, bool)
    sets["hot"][np.asarray(hot, int)] = True
    sets["hot"] &= usable
    sets["clean"] = ok & (amplitude == 0)
    if cores is not None:
        sets["cores"] = sets["clean"] & cores.ravel()
    return {name: (int(found[here].sum()), int(here.sum())) for name, here in sets.items()}


def aperture_flux(
    data: np.ndarray, grid: Grid, ra: np.ndarray, dec: np.ndarray, radius: float = 0.4
) -> np.ndarray:
    """
    Flux (Jy) within circles on the sky above a local annulus (2.4-2.8 arcsec), NaN where not all is covered.

    Parameters
    ----------
    data : (ny, nx) float array
        MJy/sr.
    radius : float
        Arcseconds.
    """
    from photutils.aperture import CircularAnnulus

    x, y = grid.to_pixel(ra, dec)
    scale = grid.pixel_scale * 3600
    inside = (x > 60) & (x < grid.nx - 60) & (y > 60) & (y < grid.ny - 60)
    flux = np.full(x.shape, np.nan)
    for i in np.flatnonzero(inside):
        ring = CircularAnnulus((x[i], y[i]), 2.4 / scale, 2.8 / scale).to_mask(method="center")
        sky = ring.get_values(data)
        circle, area = _circle(grid.to_sky, x[i], y[i], ra[i], dec[i], radius)
        total = _sum(circle, data)
        if np.isfinite(sky).all() and np.isfinite(total):
            flux[i] = (total - np.median(sky) * circle.area) * area * JY
    return flux


def _circle(to_sky, x: float, y: float, ra: float, dec: float, radius: float):
    """Circle on the sky (arcsec) as an aperture on an image, and the area of its pixel there, arcsec^2."""
    from photutils.aperture import EllipticalAperture

    plane = Grid(float(ra), float(dec), 0, 0, 1 / 3600, 1, 1)
    u, v = plane.to_pixel(*to_sky(x + np.array([1, -1, 0, 0]), y + np.array([0, 0, 1, -1])))
    matrix = np.array([[u[0] - u[1], u[2] - u[3]], [v[0] - v[1], v[2] - v[3]]]) / 2
    axes, (a, b), _ = np.linalg.svd(np.linalg.inv(matrix))
    turn, area = np.arctan2(axes[1, 0], axes[0, 0]), abs(np.linalg.det(matrix))
    return EllipticalAperture((x, y), radius * a, radius * b, theta=turn), area


def _sum(aperture, image: np.ndarray) -> float:
    """Sum over an aperture; NaN where it is not all on the image."""
    mask = aperture.to_mask(method="exact")
    part, inside = mask.cutout(image, fill_value=np.nan), mask.data > 0
    return np.nan if part is None else float(np.sum(part[inside] * mask.data[inside]))


def isolated(
    ra: np.ndarray,
    dec: np.ndarray,
    of: np.ndarray,
    flux: np.ndarray,
    limits: tuple[tuple[float, float], ...] = ALONE,
) -> np.ndarray:
    """
    Of the sources numbered `of`: those without a bright neighbour.

    Parameters
    ----------
    limits : tuple of (float, float)
        Within so many arcsec no neighbour has more than that share of the source's flux.
    """
    grid = Grid(float(np.median(ra)), float(np.median(dec)), 0, 0, 1 / 3600, 1, 1)
    x, y = grid.to_pixel(ra, dec)
    alone = []
    for i in of:
        distance, share = np.hypot(x - x[i], y - y[i]), flux / flux[i]
        distance[i] = np.inf
        alone.append(not any(np.any(share[distance < reach] > most) for reach, most in limits))
    return np.array(alone, bool)


def kept_light(
    data: np.ndarray,
    grid: Grid,
    exposures: list[tuple[FluxExposure, float, np.ndarray]],
    ra: np.ndarray,
    dec: np.ndarray,
    flux: np.ndarray,
    radius: float = 0.4,
) -> np.ndarray:
    """
    Light of stars on a coadd over that on its exposures: what weights and flags take.

    A coadd is a mean of its exposures, and a sum over a circle is the mean of theirs: their noise, their sky
    and the light of neighbours cancel, as far as the coadd's weights are one over the variance of the sky.
    Where nothing is taken it is 0.9996: square drops on pixels of 0.055 arcsec smooth the rest out of it.

    Parameters
    ----------
    data : (ny, nx) float array
        Coadd, MJy/sr.
    exposures : list of (FluxExposure, float, (ny, nx) bool array)
        Members, what was subtracted of each (MJy/sr), and their defects.
    ra, dec, flux : (n,) float arrays
        Stars: degrees; Jy that the circle holds of each.
    radius : float
        Arcseconds.

    Returns
    -------
    (n,) float array
        0 where the coadd has no value within the circle; NaN where an exposure has a defect there, or an image
        ends.
    """
    total, weights = np.zeros(len(ra)), np.zeros(len(ra))
    for member, level, defects in exposures:
        light, seen = _exposure_light(member, level, defects, ra, dec, radius)
        total[seen] += light[seen] / member.sky_variance
        weights[seen] += 1 / member.sky_variance
    kept, (x, y) = np.full(len(ra), np.nan), grid.to_pixel(ra, dec)
    for i in np.flatnonzero(_inside(x, y, *grid.shape) & np.isfinite(total) & (weights > 0)):
        circle, area = _circle(grid.to_sky, x[i], y[i], ra[i], dec[i], radius)
        box = circle.bbox
        if min(box.ixmin, box.iymin) >= 0 and box.ixmax <= grid.nx and box.iymax <= grid.ny:
            light = _sum(circle, data) * area - total[i] / weights[i]
            kept[i] = np.nan_to_num(1 + light * JY / flux[i])
    return kept


def _exposure_light(
    member: FluxExposure,
    level: float,
    defects: np.ndarray,
    ra: np.ndarray,
    dec: np.ndarray,
    radius: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Sums over circles on the sky, MJy/sr arcsec^2, NaN with a defect, and which circles it may see any of."""
    data, (x, y) = np.asarray(member.data), member.pixmap.detector(ra, dec)
    light, (ny, nx) = np.full(len(ra), np.nan), member.shape
    reach = radius / DETECTOR_PIXEL + 2
    seen = (x > -reach) & (x < nx + reach) & (y > -reach) & (y < ny + reach)  # and not NaN
    for i in np.flatnonzero(seen):
        circle, area = _circle(member.pixmap.sky, x[i], y[i], ra[i], dec[i], radius)
        if not _sum(circle, defects):
            light[i] = (_sum(circle, data) - level * circle.area) * area
    return light, seen


def empty_places(
    grid: Grid, ra: np.ndarray, dec: np.ndarray, magnitude: np.ndarray, pitch: float
) -> tuple[np.ndarray, np.ndarray]:
    """
    Pixel positions without light of a source: the brighter, the farther away.

    They lie on a lattice, each moved by up to two pixels, so that all phases of the pixels occur; in rows from
    the bottom up.

    Parameters
    ----------
    grid : Grid
        They are on it, 150 pixels or more from its border.
    ra, dec, magnitude : float arrays
        All sources.
    pitch : float
        Of the lattice, pixels.

    Returns
    -------
    x, y : (n,) float arrays
    """
    from scipy.spatial import KDTree

    middles = [np.arange(150, n - 152, pitch) for n in (grid.nx, grid.ny)]
    places = np.stack(np.meshgrid(*middles), axis=-1).reshape(-1, 2)
    places += np.random.default_rng(1).uniform(0, 2, places.shape)
    empty = np.ones(len(places), bool)
    for faintest, arcsec in ((np.inf, 1.2), (25, 2.5), (23, 5.0), (20, 10.0)):
        here = magnitude < faintest
        sources = np.stack(grid.to_pixel(ra[here], dec[here]), axis=-1)
        reach = arcsec / (grid.pixel_scale * 3600)
        if len(sources):
            empty &= KDTree(sources).query(places, distance_upper_bound=reach)[0] > reach
    return places[empty].T


def empty_apertures(
    data: np.ndarray, variance: np.ndarray, grid: Grid, x: np.ndarray, y: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """
    Sums of an image in apertures above their surroundings, and of the variance plane.

    Parameters
    ----------
    data, variance : (ny, nx) float arrays
    x, y : (n,) float arrays
        Centres, pixels.
    radius : float
        Arcseconds.

    Returns
    -------
    total, sum_of_variance : (n,) float arrays
        The second with the noise of the surroundings (median of 3 to 4.5 arcsec); NaN where not all is covered.
    """
    from photutils.aperture import CircularAperture

    scale = grid.pixel_scale * 3600
    circle = CircularAperture(np.stack([x, y], axis=-1), radius / scale)
    near = np.arange(-int(4.5 / scale), int(4.5 / scale) + 1)
    dx, dy = (offset.ravel() for offset in np.meshgrid(near, near))
    ring = (np.hypot(dx, dy) > 3 / scale) & (np.hypot(dx, dy) < 4.5 / scale)
    places = np.rint(np.stack([x, y])).astype(int)
    sky = np.empty(len(x))
    for part in np.array_split(np.arange(len(x)), max(1, len(x) // 500)):
        px, py = places[:, part, None] + np.stack([dx, dy])[:, None, ring]
        sky[part] = np.median(data[py, px], axis=1)
    sums = [circle.do_photometry(plane)[0] for plane in (data, variance)]
    share = circle.area / (np.pi * (4.5**2 - 3**2) / scale**2)
    return sums[0] - sky * circle.area, sums[1] * (1 + MEDIAN * share)


def half_width(values: np.ndarray) -> float:
    """Standard deviation of a Gaussian with the same 16 and 84 percentiles."""
    values = values[np.isfinite(values)]
    return float(np.diff(np.percentile(values, [15.865, 84.135]))[0] / 2)


def with_error(statistic, values: np.ndarray, groups: int = 20) -> tuple[float, float]:
    """
    A statistic of values, and its standard error by leaving out one group of neighbours after the other.

    Groups of neighbours, not single values: those share noise, and a percentile does not feel one of them.
    """
    parts = np.array_split(values, groups)
    rest = [statistic(np.concatenate(parts[:k] + parts[k + 1 :])) for k in range(groups)]
    return statistic(values), float(np.std(rest) * np.sqrt(groups - 1))
