"""Keys of section `source_catalog` of the configuration."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import PlainValidator, WithJsonSchema

from .config_types import Flag, Positive, Section, Text, key, optional, whole
from .names import FILTERS


def _forced(value: Any) -> dict[str, str]:
    """Filters and the filters that force them, in capitals."""
    if value is None or (isinstance(value, str) and value.strip().lower() in ("", "null", "none")):
        return {}
    if not isinstance(value, dict):
        raise ValueError
    pairs = {str(name).strip().upper(): str(by).strip().upper() for name, by in value.items()}
    if len(pairs) < len(value):
        raise ValueError("a filter is given twice")
    for name in (*pairs, *pairs.values()):
        if name not in FILTERS:
            raise ValueError(f"{name} is no filter: {', '.join(FILTERS)}")
    for name, by in pairs.items():
        if name == by:
            raise ValueError(f"{name} cannot force itself")
        if by in pairs:
            raise ValueError(f"{by} is to force {name} and is forced itself, by {pairs[by]}")
    return pairs


Forced = Annotated[
    dict[str, str],
    PlainValidator(_forced),
    WithJsonSchema({"type": "object", "additionalProperties": {"type": "string"}}),
]


class SourceCatalog(Section):
    """Sources of a mosaic: positions, fluxes, shapes and segmentation map."""

    absent: ClassVar[dict[str, str]] = {
        "forced_segmentation": "`forced` names the filter, the run finds its product",
        "suffix": "files are named as the archive names them",
    }

    bkg_boxsize: whole(ge=8) = key(1000, "Side of the boxes of the background map.", unit="pixel")
    kernel_fwhm: Positive = key(
        2.0, "FWHM of the Gaussian that smooths the detection image.", unit="pixel"
    )
    snr_threshold: Positive = key(3.0, "Detection threshold above the background.", unit="sigma")
    npixels: whole(ge=1) = key(25, "Smallest number of connected pixels of a source.", unit="pixel")
    deblend: Flag = key(False, "Split blended sources.")
    method: Literal["segmentation", "dao", "both"] = key(
        "segmentation",
        "How sources are found: by segments; by the star finder DAOFIND, for crowded fields of stars; or both: "
        "a segment stands for its brightest star, every other star is a source of its own.",
    )
    star_threshold: Positive = key(
        5.0, "Height of a star above the noise of DAOFIND's image.", unit="sigma"
    )
    forced: Forced = key(
        {},
        "Measure the products of a filter at the sources of another filter's product on the same grid, "
        "in columns named as romancal's forced catalogs: {F129: F158} measures F129 where F158 has sources.",
        allowed="{filter: filter, ...}; no filter on both sides",
    )
    fit_psf: Flag = key(True, "Fit the PSF to every source.")
    psf: Literal["analytic", "measured"] = key(
        "analytic",
        "PSF for filters without an epsf_file. measured: one per filter, from the coadds of the whole "
        "run (step epsf), so that new exposures rerun every catalog of their filter.",
    )
    epsf_file: optional(Text) = key(
        None,
        "ePSF reference file (EpsfRefModel, .asdf), used for its filter. null: see psf.",
        allowed="path or null",
    )
    apcorr_file: optional(Text) = key(
        None,
        "Aperture-correction reference file (ApcorrRefModel, .asdf). null: from the PSF.",
        allowed="path or null",
    )
