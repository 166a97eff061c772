"""Names of exposures and their files."""

import os
from pathlib import Path

#: Imaging filters of the Wide Field Instrument.
FILTERS = ("F062", "F087", "F106", "F129", "F146", "F158", "F184", "F213")
#: How the name of a calibrated Level-2 file ends.
SUFFIX = "_cal.asdf"
#: How the name of a product's association ends.
ASSOCIATION = "_asn.json"
#: Pattern of the names of exposures, products and skycells: they become names of files.
NAME = r"[A-Za-z0-9][A-Za-z0-9._+-]*"


def exposure_name(path: str | Path) -> str:
    """Name of the exposure in a file: the file's name without ``_cal.asdf`` or ``.asdf``."""
    return os.path.basename(path).removesuffix(SUFFIX).removesuffix(".asdf")
