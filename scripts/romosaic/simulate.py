"""
Simulated Level-2 exposures, with the truth beside them: for the demo, the tests and the benchmarks.

An image is the surface brightness of a random scene averaged over each pixel, plus a flat sky: what calibrated,
flat-fielded images hold. So the flux of a source is the sum of data times the solid angle of each pixel,
whatever the distortion. Everything random comes from streams that are named by the seed and what they are for
(place on the sky, detector, exposure): the files do not depend on the order or the number of jobs.
"""

import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .errors import ConfigError
from .simulate_plan import DEFAULTS, exposure_names, plan

if TYPE_CHECKING:
    from astropy.table import Table
    from roman_datamodels.datamodels import ImageModel

__all__ = [
    "CONVERSION_MEGAJANSKYS",
    "DEFAULTS",
    "exposure_names",
    "plan",
    "scene_circle",
    "simulate_exposure",
    "simulate_one",
    "survey_scene",
    "truth_path",
    "write_scene",
]

CONVERSION_MEGAJANSKYS = {
    "F062": 0.6106,
    "F087": 0.8423,
    "F106": 0.7760,
    "F129": 0.7730,
    "F146": 0.2515,
    "F158": 0.7708,
    "F184": 1.1861,
    "F213": 1.2302,
}
"""MJy/sr per DN/s: 2 electrons per DN, the instrument's effective areas, pixels of 2.787e-13 sr."""

# Light of sources outside the detector reaches it: the largest stamp's half.
_SCENE_MARGIN = 30 / 3600


def scene_circle(exposure: dict, shape: tuple[int, int]) -> tuple[float, float, float]:
    """Centre and radius (degrees) of the circle that holds all sources that an exposure can see."""
    return exposure["ra"], exposure["dec"], 0.112 / 3600 * np.hypot(*shape) / 2 + _SCENE_MARGIN


def _generator(seed: int, *names: str) -> np.random.Generator:
    """Random stream of a purpose; a checksum names it, as Python's own hash changes from run to run."""
    return np.random.default_rng([seed, *(zlib.crc32(name.encode()) for name in names)])


def simulate_exposure(exposure: dict, parameters: dict) -> tuple["ImageModel", dict]:
    """
    One exposure and its truth.

    Parameters
    ----------
    exposure : dict
        Entry of `plan`.
    parameters : dict
        Section ``simulate`` of the configuration; missing keys have the values of `DEFAULTS`.

    Returns
    -------
    model : roman_datamodels.datamodels.ImageModel
        Valid, in DN/s, sky not subtracted.
    truth : dict
        ``sky`` (MJy/sr), ``conversion_megajanskys``, ``exposure_time`` (s), ``gain``, ``read_noise``, ``ra``,
        ``dec``, ``roll`` (deg); flat int64 pixel indices ``cosmic_ray_index``, ``hot_index``, ``bad_index``
        (flagged), with ``cosmic_ray_amplitude`` and ``hot_amplitude`` (float32, DN/s) and ``hot_flagged``
        (bool); ``source_id``, ``source_x``, ``source_y`` (0-based pixels) and ``source_flux`` (nJy) of the
        sources whose centres are in the image; ``noiseless``, the float32 image (DN/s) of scene and sky alone;
        ``pixel_area``, float32 (sr).
    """
    from astropy.time import Time, TimeDelta

    from .simulate_metadata import aberration_scale, build_metadata, earth_orbit
    from .simulate_wcs import build_wcs

    parameters = DEFAULTS | parameters
    shape = tuple(parameters["shape"])
    begin = Time(parameters["start_time"], format="isot", scale="utc")
    exposure = exposure | {
        "ra": float(exposure["ra"]) % 360.0,
        "start": begin + TimeDelta(exposure["start_seconds"], format="sec"),
        "visit_start": begin + TimeDelta(exposure["visit_start_seconds"], format="sec"),
        "conversion_megajanskys": CONVERSION_MEGAJANSKYS[exposure["optical_element"]],
    }
    velocity = earth_orbit(exposure["start"])[1]
    exposure["va_scale"] = aberration_scale(exposure["ra"], exposure["dec"], velocity)
    ra, dec, roll, detector = (exposure[key] for key in ("ra", "dec", "roll", "detector"))
    wcs = build_wcs(shape, ra, dec, roll, detector, exposure["va_scale"])
    truth = _noiseless(exposure, wcs, shape, parameters)
    arrays = _measured(exposure, truth, shape, parameters)
    middle = truth["pixel_area"][shape[0] // 2, shape[1] // 2]
    meta = build_metadata(exposure, wcs, float(middle), float(parameters["jitter"]))
    return _image_model(meta, arrays), truth


def _noiseless(exposure, wcs, shape, parameters) -> dict:
    """The scene and the sky, DN/s, and the part of the truth that says what is in them."""
    from .scene import draw_scene, source_flux
    from .simulate_render import draw_sources
    from .simulate_wcs import local_geometry, pixel_area_map

    scene = draw_scene(*scene_circle(exposure, shape), parameters)
    flux = source_flux(scene, exposure["optical_element"])
    conversion = exposure["conversion_megajanskys"]
    area = pixel_area_map(wcs, shape)
    x, y, jacobian = local_geometry(wcs, np.asarray(scene["ra"]), np.asarray(scene["dec"]))
    # The amplitude is in DN/s for a pixel of mean area, so that the stamps know what is faint.
    unit = float(area.mean())
    shapes = ("sersic_n", "half_light_radius", "axis_ratio", "position_angle")
    sources = {"x": x, "y": y, "jacobian": jacobian, "amplitude": flux * 1e-15 / conversion / unit}
    sources |= {name: np.asarray(scene[name], float) for name in shapes}
    image = draw_sources(shape, sources, exposure["optical_element"], parameters["jitter"])
    image *= np.float32(unit) / area
    # Wrapped transforms leave tiny negative values.
    np.maximum(image, 0, out=image)
    image += np.float32(exposure["sky"] / conversion)
    inside = (x >= -0.5) & (x < shape[1] - 0.5) & (y >= -0.5) & (y < shape[0] - 0.5)
    return {
        **{key: exposure[key] for key in ("sky", "ra", "dec", "roll", "exposure_time")},
        **{key: parameters[key] for key in ("gain", "read_noise")},
        "conversion_megajanskys": conversion,
        "source_id": np.asarray(scene["id"])[inside],
        "source_x": x[inside],
        "source_y": y[inside],
        "source_flux": flux[inside],
        "noiseless": image,
        "pixel_area": area,
    }


def _measured(exposure, truth, shape, parameters) -> dict:
    """Arrays of the file; adds the defects and cosmic rays to the truth."""
    from .simulate_noise import Detector, draw_cosmic_rays, draw_defects, observe

    seed, name, chip = parameters["seed"], exposure["name"], exposure["detector"]
    fractions = ("bad_pixel_fraction", "hot_pixel_fraction", "hot_flagged_fraction")
    defects = draw_defects(
        _generator(seed, chip, "defects"), shape, *(parameters[key] for key in fractions)
    )
    rays = draw_cosmic_rays(
        _generator(seed, name, "cosmic rays"),
        shape,
        parameters["cosmic_ray_rate"],
        exposure["exposure_time"],
    )
    arrays = observe(
        truth["noiseless"],
        Detector(parameters["gain"], parameters["read_noise"], exposure["exposure_time"]),
        defects,
        rays,
        {"noise": _generator(seed, name, "noise"), "flat": _generator(seed, chip, "flat")},
    )
    truth |= {
        "cosmic_ray_index": rays[0],
        "cosmic_ray_amplitude": rays[1],
        "hot_index": defects.hot,
        "hot_amplitude": defects.hot_rate,
        "hot_flagged": defects.hot_flagged,
        "bad_index": np.union1d(defects.dead, defects.noisy),
    }
    return arrays | {"dq": defects.flags(shape)}


def _image_model(meta: dict, arrays: dict) -> "ImageModel":
    from roman_datamodels.datamodels import ImageModel

    shape = arrays["data"].shape
    model = ImageModel.create_minimal()
    for key, value in meta.items():
        model.meta[key] = value
    for key, value in arrays.items():
        model[key] = value
    model["dq2"] = np.zeros(shape, np.uint32)
    # Ramps are not simulated: what is known of them only while fitting is empty.
    for key in ("chisq", "dumo"):
        model[key] = np.zeros(shape, np.float16)
    model["amp33"] = np.zeros((1, 1, 1), np.uint16)
    for side in ("left", "right", "top", "bottom"):
        model[f"border_ref_pix_{side}"] = np.zeros((1, 1, 1), np.float32)
        model[f"dq_border_ref_pix_{side}"] = np.zeros((1, 1), np.uint32)
    return model


def simulate_one(parameters: dict, name: str, path: str | Path) -> None:
    """
    Simulate an exposure and write it, with its truth beside it.

    Parameters
    ----------
    parameters : dict
        Section ``simulate`` of the configuration.
    name : str
        One of `exposure_names`.
    path : str or path
        File to write, ``<name>_cal.asdf``; the truth goes to ``<name>_truth.npz`` in the same folder (the
        dict of `simulate_exposure` without its two images).

    Raises
    ------
    ConfigError
        The configuration has no such exposure.
    """
    import asdf

    from .atomic import atomic

    path = Path(path)
    chosen = [exposure for exposure in plan(parameters) if exposure["name"] == name]
    if not chosen:
        raise ConfigError("simulate.exposures", [f"no entry gives the exposure {name}"])
    model, truth = simulate_exposure(chosen[0], parameters)
    del truth["noiseless"], truth["pixel_area"]
    with atomic(truth_path(path)) as temporary:
        np.savez_compressed(temporary, **truth)
    file = asdf.AsdfFile({"roman": model._instance})
    with atomic(path) as temporary, open(temporary, "wb") as stream:
        file.write_to(stream, all_array_compression="lz4")


def truth_path(path: str | Path) -> Path:
    """File of the truth of an exposure's file: ``<name>_truth.npz`` beside ``<name>_cal.asdf``."""
    path = Path(path)
    return path.with_name(path.name.removesuffix(".asdf").removesuffix("_cal") + "_truth.npz")


def write_scene(parameters: dict, path: str | Path) -> None:
    """
    Write the truth catalog: all sources that some exposure can see.

    Parameters
    ----------
    parameters : dict
        Section ``simulate`` of the configuration.
    path : str or path
        ECSV file: the columns of `romosaic.scene.draw_scene`, and ``flux_<filter>`` (nJy) and ``mag_<filter>``
        (AB) of every filter simulated.
    """
    from .atomic import atomic

    scene = survey_scene(parameters)
    with atomic(path) as temporary:
        scene.write(temporary, format="ascii.ecsv")


def survey_scene(parameters: dict) -> "Table":
    """
    Sources that some exposure can see.

    Parameters
    ----------
    parameters : dict
        Section ``simulate`` of the configuration.

    Returns
    -------
    astropy.table.Table
        As `write_scene` writes it, ordered by ``id``.
    """
    from astropy.table import unique, vstack

    from .scene import add_fluxes, draw_scene

    parameters = DEFAULTS | parameters
    exposures = plan(parameters)
    scenes = [
        draw_scene(*scene_circle(exposure, tuple(parameters["shape"])), parameters)
        for exposure in exposures
    ]
    scene = unique(vstack(scenes, metadata_conflicts="silent"), keys="id")
    return add_fluxes(scene, sorted({e["optical_element"] for e in exposures}))
