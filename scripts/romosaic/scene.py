"""
A random sky: stars and Sersic galaxies that depend on the seed and the place only.

The sky is divided into HEALPix cells of equal area (Gorski et al. 2005, ApJ 622, 759). Every cell has a random
stream of its own, so that any circle of any exposure, in any order and in any number of jobs, finds the same
sources, and the map's equal areas make them uniform on the sphere, poles included.
"""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from astropy.table import Table

AB_ZEROPOINT = 31.4
"""AB magnitude of 1 nJy."""

REFERENCE_FILTER = "F158"
"""Filter of the magnitudes that the scene is drawn in."""

SERSIC_INDICES = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0)
"""Sersic indices that galaxies have."""

_NSIDE = 2048
_CELL_ARCMIN2 = 4 * np.pi * (10800 / np.pi) ** 2 / (12 * _NSIDE**2)
_COUNT_SLOPES = {"star": 0.15, "galaxy": 0.3}
_SERSIC_WEIGHTS = (0.05, 0.4, 0.2, 0.1, 0.08, 0.07, 0.1)


def draw_scene(ra: float, dec: float, radius: float, parameters: dict) -> "Table":
    """
    Sources of the random sky within a circle.

    Parameters
    ----------
    ra, dec : float
        Centre, degrees.
    radius : float
        Radius, degrees.
    parameters : dict
        Section ``simulate`` of the configuration: ``seed``, ``stars_per_arcmin2``, ``galaxies_per_arcmin2``,
        ``star_magnitudes`` and ``galaxy_magnitudes`` are used.

    Returns
    -------
    astropy.table.Table
        One row per source, ordered by ``id``: ``id`` int64, ``ra`` and ``dec`` (deg), ``type`` ("star" or
        "galaxy"), ``mag`` (AB, F158), ``spectral_index`` (flux density goes as wavelength to this power),
        and for galaxies (NaN for stars) ``sersic_n``, ``half_light_radius`` (arcsec, along the major axis),
        ``axis_ratio``, ``position_angle`` (deg, major axis, east of north).
    """
    from astropy import units as u
    from astropy.table import Table
    from astropy_healpix import HEALPix

    from .grid import unit_vector

    healpix = HEALPix(nside=_NSIDE, order="nested")
    cells = np.sort(healpix.cone_search_lonlat(ra * u.deg, dec * u.deg, radius * u.deg))
    columns = [_draw_cell(int(cell), healpix, parameters) for cell in cells]
    table = {key: np.concatenate([c[key] for c in columns]) for key in columns[0]}
    # The chord tells small angles apart where the cosine cannot.
    offset = unit_vector(table["ra"], table["dec"]) - unit_vector(ra, dec)[:, None]
    near = np.sqrt(np.sum(offset**2, axis=0)) <= 2 * np.sin(np.radians(radius) / 2)
    scene = Table({key: values[near] for key, values in table.items()})
    for name, unit in _UNITS.items():
        scene[name].unit = unit
    return scene


_UNITS = {
    "ra": "deg",
    "dec": "deg",
    "mag": "mag(AB)",
    "half_light_radius": "arcsec",
    "position_angle": "deg",
}


def _draw_cell(cell: int, healpix, parameters: dict) -> dict[str, np.ndarray]:
    """Sources of one cell, as columns."""
    generator = np.random.default_rng([parameters["seed"], cell])
    kinds = {}
    for kind, plural in (("star", "stars"), ("galaxy", "galaxies")):
        mean = parameters[f"{plural}_per_arcmin2"] * _CELL_ARCMIN2
        kinds[kind] = generator.poisson(mean)
    stars, galaxies = kinds.values()
    n = stars + galaxies
    # The cell's own coordinates keep areas, so uniform in them is uniform on the sky.
    dx, dy = generator.uniform(size=(2, n))
    lon, lat = healpix.healpix_to_lonlat(np.full(n, cell), dx=dx, dy=dy)
    magnitudes = [
        _draw_magnitudes(generator, count, parameters[f"{kind}_magnitudes"], _COUNT_SLOPES[kind])
        for kind, count in kinds.items()
    ]
    shapes = np.full((4, n), np.nan)
    shapes[:, stars:] = _draw_shapes(generator, magnitudes[1])
    index = np.concatenate(
        [generator.normal(0.0, 0.5, stars), generator.normal(1.0, 1.0, galaxies)]
    )
    return {
        "id": cell * 100_000 + np.arange(n, dtype=np.int64),
        "ra": lon.to_value("deg") % 360.0,
        "dec": lat.to_value("deg"),
        "type": np.repeat(np.array(["star", "galaxy"]), [stars, galaxies]),
        "mag": np.concatenate(magnitudes),
        "spectral_index": index,
        "sersic_n": shapes[0],
        "half_light_radius": shapes[1],
        "axis_ratio": shapes[2],
        "position_angle": shapes[3],
    }


def _draw_magnitudes(generator, n: int, limits: list[float], slope: float) -> np.ndarray:
    """Magnitudes whose counts per magnitude grow as ``10**(slope * mag)`` between two limits."""
    low, high = (10.0 ** (slope * (m - limits[1])) for m in limits)
    return limits[1] + np.log10(low + (high - low) * generator.uniform(size=n)) / slope


def _draw_shapes(generator, mag: np.ndarray) -> np.ndarray:
    """Sersic index, half-light radius (arcsec), axis ratio and position angle (deg) of galaxies."""
    n = len(mag)
    index = generator.choice(SERSIC_INDICES, size=n, p=_SERSIC_WEIGHTS)
    # Fainter galaxies look smaller: about 0.3" at 23 mag.
    radius = 0.3 * 10 ** (-0.1 * (mag - 23) + generator.normal(0.0, 0.2, n))
    ratio = generator.uniform(0.2, 1.0, n)
    return np.stack([index, np.clip(radius, 0.05, 1.5), ratio, generator.uniform(0.0, 180.0, n)])


def source_flux(scene: "Table", optical_element: str) -> np.ndarray:
    """
    Flux densities of a scene's sources in a filter.

    Parameters
    ----------
    scene : astropy.table.Table
        From `draw_scene`.
    optical_element : str
        Filter name.

    Returns
    -------
    float64 array
        nJy (1 nJy = 1e-15 MJy, a surface brightness in MJy/sr times a solid angle in sr).
    """
    from .psf import PIVOT_WAVELENGTHS

    ratio = PIVOT_WAVELENGTHS[optical_element] / PIVOT_WAVELENGTHS[REFERENCE_FILTER]
    reference = 10.0 ** (-0.4 * (np.asarray(scene["mag"], float) - AB_ZEROPOINT))
    return reference * ratio ** np.asarray(scene["spectral_index"], float)


def add_fluxes(scene: "Table", optical_elements: list[str]) -> "Table":
    """
    Add columns ``flux_<filter>`` (nJy) and ``mag_<filter>`` (AB) to a scene, in place.

    Parameters
    ----------
    scene : astropy.table.Table
        From `draw_scene`.
    optical_elements : list of str
        Filter names.

    Returns
    -------
    astropy.table.Table
        The same table.
    """
    for name in optical_elements:
        flux = source_flux(scene, name)
        scene[f"flux_{name.lower()}"] = flux
        scene[f"flux_{name.lower()}"].unit = "nJy"
        scene[f"mag_{name.lower()}"] = AB_ZEROPOINT - 2.5 * np.log10(flux)
        scene[f"mag_{name.lower()}"].unit = "mag(AB)"
    return scene
