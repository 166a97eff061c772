"""Sections of the steps that look at products and make none: `preview` to `qa`, and exports."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from .config_types import Filter, Flag, Section, key, listed, optional, real, two, whole


class Preview(Section):
    """Pictures of the mosaics."""

    size: whole(ge=100, le=10000) = key(
        1080, "Height of the picture of a square mosaic.", unit="pixel"
    )


def _three(filters: list[str]) -> list[str]:
    if filters and len(set(filters)) != 3:
        raise ValueError("three different filters")
    return filters


class Color(Section):
    """Colour pictures of skycells that have three filters."""

    filters: Annotated[listed(Filter), AfterValidator(_three)] = key(
        [],
        "Filters shown as red, green and blue; skycells without them have no picture. Empty: the longest "
        "wavelength of a skycell, the middle one, the shortest.",
        allowed="three filters, or an empty list",
    )
    size: whole(ge=100, le=10000) = key(
        1080, "Height of the picture of a square skycell.", unit="pixel"
    )


class Overview(Section):
    """Pictures of all products of a filter, a panel per field of the sky."""

    size: whole(ge=100, le=10000) = key(2000, "Longer side of a picture, about.", unit="pixel")


def _limits(default: list[float], meaning: str, unit: str = ""):
    """Amber and red limit of a measure: rising for a largest value, falling for a smallest."""
    return key(default, meaning, unit=unit, allowed="[amber, red], or null for no grade")


_Pair = optional(two(real(ge=0)))


class Qa(Section):
    """Quality of the products: limits beyond which a measure is called amber, and red."""

    sky_residual: _Pair = _limits(
        [0.2, 0.5],
        "Largest difference of the skies of two members after matching, over the noise of a pixel.",
    )
    flagged_fraction: _Pair = _limits(
        [0.02, 0.05], "Largest part of the pixels of a member that are outliers."
    )
    exposures: _Pair = _limits([3, 2], "Median number of exposures of a covered pixel, at least.")
    noise_ratio: _Pair = _limits(
        [1.1, 1.3], "Scatter of empty pixels over its prediction, or the inverse if that is larger."
    )
    fwhm_ratio: _Pair = _limits(
        [1.15, 1.4], "Median FWHM of stars over that of all products of the filter."
    )
    member_offset: _Pair = _limits(
        [10, 30], "Largest offset of the stars of a member from those of the others.", "mas"
    )
    seam_level: _Pair = _limits(
        [0.3, 1.0],
        "Largest difference of the level from that of a neighbouring skycell, over the noise of a pixel.",
    )
    seam_flux: _Pair = _limits(
        [0.01, 0.03], "Largest median difference of fluxes from those in a neighbouring skycell."
    )
    seam_offset: _Pair = _limits(
        [5, 20], "Largest median distance of sources from those in a neighbouring skycell.", "mas"
    )
    metadata: _Pair = _limits([1.0, 0.9], "Part of the wanted metadata that is known, at least.")


_Plane = Literal["data", "err", "weight", "context", "var_poisson", "var_rnoise", "var_flat", "dq"]


def _different(planes: list[str]) -> list[str]:
    if not planes or len(set(planes)) < len(planes):
        raise ValueError("one plane or more, each once")
    return planes


class Fits(Section):
    """Mosaics as FITS files, on request."""

    planes: Annotated[listed(_Plane), AfterValidator(_different)] = key(
        ["data", "err", "weight", "context"],
        "Planes that are written, in this order; those that a mosaic does not have are left out.",
    )


class Moc(Section):
    """The covered part of the sky as a multi-order coverage map, on request."""

    order: whole(ge=8, le=20) = key(
        16, "HEALPix order: cells of 13 arcsec for 14, 3.2 for 16, 0.8 for 18."
    )


_Ivoid = Annotated[
    str, Field(strict=True, pattern=r"^ivo://[A-Za-z0-9][\w.~-]{2,}(/[\w.~/-]*\w)?$")
]


class Hips(Section):
    """Mosaics as tiles for Aladin and other browsers of the sky, on request."""

    order: whole(ge=3, le=17) = key(
        13,
        "HEALPix order of the finest tiles, of 512 pixels: a pixel has 0.05 arcsec for 13, 0.1 for 12.",
    )
    subtract_sky: Flag = key(
        True,
        "Take off each mosaic's own sky level, so that levels that do not agree make no steps; false: "
        "values are those of the mosaics.",
    )
    creator_did: _Ivoid = key(
        "ivo://unknown.authority/romosaic",
        "Identifier, to which the filter is added: one of your own authority before you publish.",
        allowed="ivo://authority/path",
    )
