"""Keys of output grids, one vocabulary: of section `resample`, and of custom mosaics."""

from .config_types import (
    Positive,
    Real,
    Section,
    SkyPosition,
    Text,
    key,
    optional,
    real,
    two,
    whole,
)

#: Keys that an output_wcs sets.
_SET_BY_WCS = ("crpix", "crval", "rotation", "pixel_scale", "pixel_scale_ratio")


class OutputGrid(Section):
    """A tangent-plane grid; x grows to the west where +y is north."""

    output_shape: optional(two(whole(ge=1, le=100_000))) = key(
        None,
        "Size [nx, ny]. null: the smallest that holds the members, or that of `output_wcs`.",
        unit="pixel",
        allowed="two integers from 1 to 100000, or null",
    )
    crpix: optional(two(Real)) = key(
        None,
        "Pixel [x, y] of the tangent point, counted from 0. null: the middle of the grid; with `crval` "
        "alone, where it falls. Without `output_shape` the grid ends with the members.",
        unit="pixel",
        allowed="two numbers, or null",
    )
    crval: optional(SkyPosition) = key(
        None,
        "Tangent point [ra, dec]. null: the middle of the members.",
        unit="deg",
        allowed="[ra, dec] with 0 <= ra < 360 and -90 <= dec <= 90, or null",
    )
    rotation: optional(real(ge=-360, le=360)) = key(
        None, "Position angle of +y, east of north. null: 0.", unit="deg"
    )
    pixel_scale: optional(real(gt=0, le=60)) = key(
        None,
        "Pixel side. null: from `pixel_scale_ratio`, or else that of skycells, 0.055.",
        unit="arcsec",
    )
    pixel_scale_ratio: optional(Positive) = key(
        None,
        "Pixel side over that of the first member, at the middle of its detector. Ignored with "
        "`pixel_scale`.",
    )
    output_wcs: optional(Text) = key(
        None,
        "ASDF file whose `wcs` is a gwcs of a tangent plane with square pixels: the grid. Its size is that "
        "of `output_shape`, or of the gwcs.",
        allowed="path or null",
    )

    def conflicts(self) -> list[tuple[tuple[str, ...], str]]:
        """See `Section.conflicts`."""
        return [
            ((name, "output_wcs"), f"{value} is not allowed with output_wcs, which sets it")
            for name in _SET_BY_WCS
            if self.output_wcs and (value := getattr(self, name)) is not None
        ]

    def needs_members(self) -> bool:
        """Whether the place of the grid, or its pixel side, depends on the members."""
        placed = self.output_wcs or (self.crval and self.output_shape)
        return not placed or (self.pixel_scale is None and self.pixel_scale_ratio is not None)


#: What `associate` needs of section `resample`, and no other step.
GRID_KEYS = (*OutputGrid.model_fields, "resample_on_skycell")


def output_wcs_files(config: dict) -> list[str]:
    """
    List the files of output grids that a configuration names.

    Parameters
    ----------
    config : dict
        From `config.load`.
    """
    grids = [config["resample"], *(p["grid"] for p in config["associate"]["products"] if p["grid"])]
    return list(dict.fromkeys(grid["output_wcs"] for grid in grids if grid["output_wcs"]))
