"""Keys of custom mosaics, `associate.products` of the configuration."""

from typing import Annotated

from pydantic import Field

from .config_grids import OutputGrid
from .config_types import (
    Filter,
    Positive,
    Section,
    Skycell,
    Texts,
    key,
    optional,
    real,
)
from .names import NAME

#: Names of products become names of files, with room for what the steps add.
Name = Annotated[str, Field(strict=True, pattern=f"^{NAME}$", max_length=140)]


class Region(Section):
    """A circle on the sky."""

    ra: real(ge=0, lt=360) = key(..., "Right ascension of the centre.", unit="deg")
    dec: real(ge=-90, le=90) = key(..., "Declination of the centre.", unit="deg")
    radius: Positive = key(..., "Radius.", unit="deg")


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
        "Grid to make it on; pixel side and rotation are those of section `resample` where it has none. "
        "Without `target` and `grid`: the grid that section `resample` describes.",
        allowed="{output_shape, crpix, crval, ...} or null",
    )
    filter: optional(Filter) = key(None, "Use only exposures of this filter. null: all.")

    def problems(self) -> list[str]:
        """Say which keys are right alone but not together."""
        found = []
        if self.members and self.region:
            found.append("give members or region, not both")
        if self.target and self.grid:
            found.append("give target or grid, not both")
        if not (self.members or self.region or self.target or self.grid):
            found.append("give members, region, target or grid")
        if self.grid:
            found += [f"grid.{keys[0]}: {message}" for keys, message in self.grid.conflicts()]
            if self.grid.needs_members() and not (self.members or self.region or self.target):
                found.append(
                    "give members or region, or a grid that needs none: output_wcs, or crval and "
                    "output_shape, without pixel_scale_ratio"
                )
        return found
