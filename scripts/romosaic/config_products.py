"""Keys of custom mosaics, `associate.products` of the configuration."""

from typing import Annotated

from pydantic import Field

from .config_types import (
    Filter,
    Positive,
    Real,
    Section,
    Skycell,
    Texts,
    key,
    optional,
    real,
    whole,
)

#: Names of products become names of files, with room for what the steps add.
Name = Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,139}$")]


class Region(Section):
    """A circle on the sky."""

    ra: real(ge=0, lt=360) = key(..., "Right ascension of the centre.", unit="deg")
    dec: real(ge=-90, le=90) = key(..., "Declination of the centre.", unit="deg")
    radius: Positive = key(..., "Radius.", unit="deg")


class OutputGrid(Section):
    """A tangent-plane grid; its middle is the tangent point."""

    ra: real(ge=0, lt=360) = key(..., "Right ascension of the middle.", unit="deg")
    dec: real(ge=-90, le=90) = key(..., "Declination of the middle.", unit="deg")
    nx: whole(ge=1, le=100_000) = key(..., "Width.", unit="pixel")
    ny: whole(ge=1, le=100_000) = key(..., "Height.", unit="pixel")
    pixel_scale: optional(real(gt=0, le=60)) = key(
        None, "Pixel scale. null: that of regular grids, `resample.pixel_scale`.", unit="arcsec"
    )
    rotation: optional(Real) = key(
        None,
        "Position angle of the +y axis, east of north. null: that of regular grids, "
        "`resample.rotation`.",
        unit="deg",
    )


class CustomProduct(Section):
    """A mosaic of chosen exposures, on a chosen grid."""

    name: Name = key(
        ...,
        "Name of the product; exposures that are not listed in `members` make one per filter, "
        "<name>_<filter>, unless `filter` is given.",
        allowed="up to 140 letters, digits and ._+-, the first a letter or digit",
    )
    members: Texts = key(
        [],
        "Its exposures. Empty: those that meet `region`, or else `target` or `grid`.",
        allowed="list of exposure names, or globs of names",
    )
    region: optional(Region) = key(
        None,
        "Take the exposures that meet this circle (and `target` or `grid`).",
        allowed="{ra, dec, radius} or null",
    )
    target: optional(Skycell) = key(
        None, "Skycell to make it on.", allowed="skycell name such as 135p90x51y67, or null"
    )
    grid: optional(OutputGrid) = key(
        None,
        "Grid to make it on. Without `target` and `grid`: a regular grid that holds its members.",
        allowed="{ra, dec, nx, ny, pixel_scale, rotation} or null",
    )
    filter: optional(Filter) = key(None, "Use only exposures of this filter. null: all.")

    def problem(self) -> str | None:
        """Say which keys are right alone but not together."""
        if self.members and self.region:
            return "give members or region, not both"
        if self.target and self.grid:
            return "give target or grid, not both"
        if not (self.members or self.region or self.target or self.grid):
            return "give members, region, target or grid"
        return None
