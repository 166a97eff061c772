"""The exposures that section ``simulate`` of the configuration asks for: names and times, no pixels."""

from .errors import ConfigError

DEFAULTS = {
    "exposures": [],
    "seed": 1,
    "shape": [4088, 4088],
    "optical_element": "F158",
    "detector": "WFI01",
    "exposure_time": 139.15,
    "start_time": "2027-06-01T00:00:00",
    "program": 1,
    "stars_per_arcmin2": 20.0,
    "galaxies_per_arcmin2": 70.0,
    "star_magnitudes": [18.0, 27.0],
    "galaxy_magnitudes": [19.0, 27.0],
    "jitter": 8.0,
    "gain": 1.8,
    "read_noise": 0.0224,
    "cosmic_ray_rate": 8.0,
    "bad_pixel_fraction": 0.003,
    "hot_pixel_fraction": 1e-4,
    "hot_flagged_fraction": 0.5,
}
"""Defaults of section ``simulate`` of the configuration."""

SLEW_TIME = 60.0
"""Time between the end of an exposure and the start of the next, s."""


def plan(parameters: dict) -> list[dict]:
    """
    Exposures with all their numbers filled in.

    Parameters
    ----------
    parameters : dict
        Section ``simulate`` of the configuration; missing keys have the values of `DEFAULTS`.

    Returns
    -------
    list of dict
        In the order of the configuration: the keys of the configuration's entry, ``program``, ``name``,
        ``visit_id``, ``start_seconds`` and ``visit_start_seconds`` (s after ``start_time``),
        ``visit_exposures`` (number of exposures of the visit). Entries of one visit with the same exposure
        number (other detectors) start together.

    Raises
    ------
    ConfigError
        Two entries have the same name.
    """
    parameters = DEFAULTS | parameters
    exposures: list[dict] = []
    starts: dict[tuple, float] = {}
    clock = 0.0
    for entry in parameters["exposures"]:
        exposure = {"roll": 0.0, "sky": 0.25} | {k: v for k, v in entry.items() if v is not None}
        for key in ("detector", "optical_element", "exposure_time", "program"):
            exposure.setdefault(key, parameters[key])
        for key in ("execution_plan", "pass", "segment", "observation", "visit"):
            exposure.setdefault(key, 1)
        exposure["visit_id"] = (
            "{program:05d}{execution_plan:02d}{pass:03d}{segment:03d}{observation:03d}{visit:03d}"
        ).format(**exposure)
        before = [e for e in exposures if _same(e, exposure, "visit_id", "detector")]
        exposure.setdefault("exposure", 1 + max((e["exposure"] for e in before), default=0))
        exposure["name"] = "r{visit_id}_{exposure:04d}_{0}_{1}".format(
            exposure["detector"].lower(), exposure["optical_element"].lower(), **exposure
        )
        key = (exposure["visit_id"], exposure["exposure"])
        exposure["start_seconds"] = starts.setdefault(key, clock)
        clock = max(clock, starts[key] + exposure["exposure_time"] + SLEW_TIME)
        exposures.append(exposure)
    _refuse_twins(exposures)
    for exposure in exposures:
        visit = [e for e in exposures if _same(e, exposure, "visit_id")]
        exposure["visit_start_seconds"] = min(e["start_seconds"] for e in visit)
        exposure["visit_exposures"] = len({e["exposure"] for e in visit})
    return exposures


def _same(one: dict, other: dict, *keys: str) -> bool:
    return all(one[key] == other[key] for key in keys)


def _refuse_twins(exposures: list[dict]) -> None:
    names = [e["name"] for e in exposures]
    twins = sorted({name for name in names if names.count(name) > 1})
    if twins:
        problems = [
            f"{name} is simulated twice: give one of the entries another visit, pass, exposure or detector"
            for name in twins
        ]
        raise ConfigError("simulate.exposures", problems)


def exposure_names(parameters: dict) -> list[str]:
    """
    Names of the exposures to simulate.

    Parameters
    ----------
    parameters : dict
        Section ``simulate`` of the configuration.

    Returns
    -------
    list of str
        Such as ``r0000101001001001001_0001_wfi01_f158``, in the order of the configuration.

    Raises
    ------
    ConfigError
        Two entries have the same name.
    """
    return [exposure["name"] for exposure in plan(parameters)]
