"""Metadata of simulated Level-2 files: every required field, with real values wherever one exists."""

from typing import TYPE_CHECKING

import numpy as np

from .simulate_wcs import reference_point, telescope_to_sky

if TYPE_CHECKING:
    import gwcs
    from astropy.time import Time

SIMULATOR_VERSION = "1.0"
"""Raised whenever the same configuration gives other pixels."""

FRAME_TIME = 3.16247
"""Time of one read, s."""

NOT_SIMULATED = "N/A"

_SPEED_OF_LIGHT = 299792.458
_ASTRONOMICAL_UNIT = 149597870.7
_OBLIQUITY = np.radians(23.4392911)
_STEPS_DONE = (
    *("assign_wcs", "dark", "dark_decay", "dq_init", "flat_field", "linearity", "photom"),
    *("ramp_fit", "refpix", "saturation", "tweakreg", "wfi18_transient"),
)
_STEPS_TO_DO = ("flux", "outlier_detection", "skymatch", "source_catalog")
_REFERENCE_FILES = (
    *("apcorr", "area", "bam", "dark", "darkdecaysignal", "distortion", "epsf", "flat", "gain"),
    *("integralnonlinearity", "inverselinearity", "linearity", "mask", "photom", "readnoise"),
    *("refpix", "saturation"),
)


def earth_orbit(time: "Time") -> tuple[np.ndarray, np.ndarray]:
    """
    Place and velocity of the observatory, taken to go with the Earth.

    Parameters
    ----------
    time : astropy.time.Time
        Moment.

    Returns
    -------
    position, velocity : (3,) float64 arrays
        Barycentric-like ICRS axes, km and km/s; from the low-precision solar longitude (Astronomical Almanac,
        section C), good to 1 % in velocity.
    """
    days = time.jd - 2451545.0
    anomaly = np.radians(357.528 + 0.9856003 * days)
    longitude = np.radians(
        280.460 + 0.9856474 * days + 1.915 * np.sin(anomaly) + 0.020 * np.sin(2 * anomaly)
    )
    speed = 2 * np.pi * _ASTRONOMICAL_UNIT / (365.25636 * 86400)
    sun = np.array([np.cos(longitude), np.sin(longitude), 0.0])
    forward = np.array([np.sin(longitude), -np.cos(longitude), 0.0])
    c, s = np.cos(_OBLIQUITY), np.sin(_OBLIQUITY)
    to_equator = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    return -_ASTRONOMICAL_UNIT * to_equator @ sun, speed * to_equator @ forward


def aberration_scale(ra: float, dec: float, velocity: np.ndarray) -> float:
    """
    Scale that undoes the contraction of the field by the observatory's motion.

    Parameters
    ----------
    ra, dec : float
        Degrees.
    velocity : (3,) array
        km/s.

    Returns
    -------
    float
        ``gamma (1 + v.n / c)``: above 1 towards the apex of the motion.
    """
    from .grid import unit_vector

    beta = velocity / _SPEED_OF_LIGHT
    return float((1 + beta @ unit_vector(ra, dec)) / np.sqrt(1 - beta @ beta))


def build_metadata(exposure: dict, wcs: "gwcs.WCS", pixel_area: float, jitter: float) -> dict:
    """
    The tree below ``meta`` of an exposure.

    Parameters
    ----------
    exposure : dict
        One entry of `romosaic.simulate.plan`, plus ``start`` (astropy Time), ``visit_start`` (Time) and
        ``conversion_megajanskys``.
    wcs : gwcs.WCS
        Detector to sky.
    pixel_area : float
        Solid angle of the middle pixel, sr.
    jitter : float
        Pointing jitter, mas.

    Returns
    -------
    dict
        Ready for `roman_datamodels.datamodels.ImageModel`.
    """
    from astropy.time import Time

    return {
        **_constants(),
        "filename": f"{exposure['name']}_cal.asdf",
        "file_date": Time.now(),
        "exposure": _exposure_times(exposure),
        "instrument": {
            "name": "WFI",
            "detector": exposure["detector"],
            "optical_element": exposure["optical_element"],
        },
        "observation": _observation(exposure),
        "visit": {
            "dither": {"primary_name": None, "subpixel_name": None, "executed_pattern": None},
            "type": "PRIME_TARGETED_FIXED",
            "start_time": exposure["visit_start"],
            "nexposures": exposure["visit_exposures"],
            "internal_target": False,
            "wfi_acm_z_defocus_size": None,
        },
        "guide_star": _guide_star(jitter),
        "photometry": {
            "conversion_megajanskys": exposure["conversion_megajanskys"],
            "conversion_megajanskys_uncertainty": 0.0,
            "pixel_area": pixel_area,
        },
        "wcs": wcs,
        **_pointing(exposure, wcs),
    }


def _constants() -> dict:
    """Sections that are the same in every simulated file."""
    return {
        "calibration_software_name": "romosaic simulate",
        "calibration_software_version": SIMULATOR_VERSION,
        "product_type": "l2",
        "model_type": "ImageModel",
        "origin": "STSCI/SOC",
        "prd_version": NOT_SIMULATED,
        "sdf_software_version": NOT_SIMULATED,
        "telescope": "ROMAN",
        "coordinates": {"reference_frame": "ICRS"},
        "cal_step": {name: "COMPLETE" for name in _STEPS_DONE}
        | {name: "INCOMPLETE" for name in _STEPS_TO_DO},
        "program": {
            "title": "Simulated exposures of a random sky",
            "investigator_name": NOT_SIMULATED,
            "category": "TEST",
            "subcategory": "NONE",
            "science_category": NOT_SIMULATED,
        },
        "rcs": {"active": False, "electronics": None, "bank": None, "led": None, "counts": 0},
        "ref_file": {name: NOT_SIMULATED for name in _REFERENCE_FILES}
        | {"crds": {"version": NOT_SIMULATED, "context": NOT_SIMULATED}},
    }


def _exposure_times(exposure: dict) -> dict:
    from astropy.time import TimeDelta

    seconds = exposure["exposure_time"]
    start = exposure["start"]
    reads = max(1, round(seconds / FRAME_TIME))
    # Resultants of eight reads; the real tables begin with shorter ones.
    pattern = [list(range(i, min(i + 8, reads + 1))) for i in range(1, reads + 1, 8)]
    return {
        "type": "WFI_IMAGE",
        "start_time": start,
        "mid_time": start + TimeDelta(seconds / 2, format="sec"),
        "end_time": start + TimeDelta(seconds, format="sec"),
        "engineering_quality": "OK",
        "ma_table_id": NOT_SIMULATED,
        "ma_table_name": NOT_SIMULATED,
        "ma_table_number": 0,
        "nresultants": len(pattern),
        "data_problem": None,
        "frame_time": FRAME_TIME,
        "exposure_time": seconds,
        "effective_exposure_time": seconds,
        "read_pattern": pattern,
        "truncated": False,
        "hga_move": False,
    }


def _observation(exposure: dict) -> dict:
    keys = ("program", "execution_plan", "pass", "segment", "observation", "visit", "exposure")
    return {key: exposure[key] for key in keys} | {
        "observation_id": f"{exposure['visit_id']}{exposure['exposure']:04d}",
        "visit_id": exposure["visit_id"],
        "visit_file_group": 1,
        "visit_file_sequence": 1,
        "visit_file_activity": "01",
        "wfi_parallel": False,
    }


def _guide_star(jitter: float) -> dict:
    return {
        "guide_window_id": NOT_SIMULATED,
        "guide_mode": "WIM-TRACK",
        "window_xstart": 2036,
        "window_ystart": 2036,
        "window_xstop": 2052,
        "window_ystop": 2052,
        "guide_star_id": NOT_SIMULATED,
        "epoch": "2016.0",
        "jitter_major": jitter,
        "jitter_minor": jitter,
        "jitter_position_angle": 0.0,
    }


def _pointing(exposure: dict, wcs: "gwcs.WCS") -> dict:
    """Sections that say where the telescope looks: ephemeris, pointing, velocity_aberration, wcsinfo."""
    from .grid import east_north, unit_vector

    ra, dec, roll = exposure["ra"], exposure["dec"], exposure["roll"]
    v2, v3, y_angle = reference_point(exposure["detector"])
    rotation = telescope_to_sky(v2, v3, ra, dec, roll - y_angle)
    # Boresight, and a point half an arc second above it to tell where V3 goes.
    here, up = (unit_vector(*rotation(0.0, v)) for v in (-0.5, 0.5))
    ra_v1, dec_v1 = (float(a) for a in rotation(0.0, 0.0))
    east, north = east_north(ra_v1, dec_v1)
    pa_v3 = float(np.degrees(np.arctan2(east @ (up - here), north @ (up - here))) % 360)
    position, velocity = earth_orbit(exposure["start"])
    corners = wcs.footprint(center=False)
    # Wrapping after the fact: a tiny negative right ascension must not become 360.
    vertices = " ".join(f"{(a % 360) % 360:.14g} {d:.14g}" for a, d in corners)
    return {
        "ephemeris": {
            "ephemeris_reference_frame": "EME2000",
            "type": "PREDICTED",
            "time": float(exposure["start"].mjd),
            **dict(zip(("spatial_x", "spatial_y", "spatial_z"), position.tolist(), strict=True)),
            **dict(zip(("velocity_x", "velocity_y", "velocity_z"), velocity.tolist(), strict=True)),
        },
        "pointing": {
            "pa_aperture": roll % 360,
            "pointing_engineering_source": "CALCULATED",
            "ra_v1": ra_v1,
            "dec_v1": dec_v1,
            "pa_v3": pa_v3,
            "target_aperture": f"{exposure['detector']}_FULL",
            "target_ra": ra,
            "target_dec": dec,
        },
        "velocity_aberration": {
            "ra_reference": ra,
            "dec_reference": dec,
            "scale_factor": exposure["va_scale"],
        },
        "wcsinfo": {
            "aperture_name": f"{exposure['detector']}_FULL",
            "v2_ref": v2,
            "v3_ref": v3,
            "vparity": -1,
            "v3yangle": y_angle,
            "ra_ref": ra,
            "dec_ref": dec,
            "roll_ref": (roll - y_angle) % 360,
            "s_region": f"POLYGON ICRS {vertices}",
        },
    }
