"""Section `skymatch` of the configuration."""

from typing import ClassVar, Literal

from .config_types import BITS, Bits, Flag, Positive, Real, Section, Text, key, optional, whole


class Skymatch(Section):
    """Sky levels of the members of a product."""

    absent: ClassVar[dict[str, str]] = {
        "stepsize": "overlaps are found by blocks of pixels: there is nothing to set"
    }

    skymethod: Literal["match", "local", "global", "global+match", "user"] = key(
        "match",
        "match: equal levels where members overlap; local: each member's own sky; global: the lowest "
        "of these; global+match: matched, then the lowest sky that is left; user: those of `skylist`. "
        "With match and global+match, members that no chain of overlaps connects have levels of their "
        "own, with a warning.",
    )
    skylist: optional(Text) = key(
        None,
        "Table of the levels for skymethod user: an exposure (name or file) and its level in MJy/sr on "
        "a line (.txt, .tsv, .csv, .ecsv).",
        allowed="path or null",
    )
    match_down: Flag = key(True, "Match to the lowest level of the members, not to the highest.")
    subtract: Flag = key(
        False,
        "How the mosaic's table of members has it: whether the levels were taken off the members' "
        "images before they were resampled. As in romancal, the mosaic is without them either way.",
    )
    skystat: Literal["median", "midpt", "mean", "mode"] = key("mode", "Statistic of the sky.")
    dqbits: Bits = key("~DO_NOT_USE", "DQ bits that a sky pixel may have.", allowed=BITS)
    lower: optional(Real) = key(None, "Ignore pixels below this value.", unit="MJy/sr")
    upper: optional(Real) = key(None, "Ignore pixels above this value.", unit="MJy/sr")
    nclip: whole(ge=0) = key(5, "Number of clipping iterations.")
    lsigma: Positive = key(4.0, "Lower clipping limit.", unit="sigma")
    usigma: Positive = key(4.0, "Upper clipping limit.", unit="sigma")
    binwidth: Positive = key(0.1, "Bin width of the mode and midpt statistics.", unit="sigma")

    def conflicts(self) -> list[tuple[tuple[str, ...], str]]:
        """See `Section.conflicts`."""
        found = []
        if self.lower is not None and self.upper is not None and self.lower >= self.upper:
            message = f"{self.lower} is not below skymatch.upper: {self.upper}"
            found.append((("lower", "upper"), message))
        if self.skymethod == "user" and self.skylist is None:
            found.append((("skylist", "skymethod"), "null is not allowed with skymethod user"))
        if self.skymethod != "user" and self.skylist is not None:
            message = f"is not used by skymethod {self.skymethod}; allowed: null, or skymethod user"
            found.append((("skylist", "skymethod"), message))
        return found
