"""Explanations of pixels and sources, in words."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import yaml

from .coadd_file import CoaddBlocks
from .dq import FLAGS, bad_mask
from .errors import ProductError, first_line
from .explain import DetectorPixel, Explanation, MemberPixel


def pixel_lines(coadd: CoaddBlocks, found: Explanation) -> list[str]:
    """
    Say of what a pixel is made.

    Parameters
    ----------
    coadd : CoaddBlocks
        The coadd.
    found : Explanation
        Of `explain.explain`.
    """
    values, given = found.values, [m for m in found.members if m.on_it]
    weight = f"{values['weight']:.6g} {coadd.weight_unit}".rstrip()
    contributing = sum(m.in_context for m in found.members)
    place = f"skycell {coadd.grid.skycell}" if coadd.grid.skycell else "regular grid"
    lines = [
        f"{coadd.product}: {coadd.optical_element}, {place}",
        f"pixel x {found.x}, y {found.y} (0-based), RA {found.ra:.7f}, Dec {found.dec:+.7f} degrees",
        f"data {values['data']:.6g}, err {values['err']:.3g} MJy/sr; weight {weight}; "
        f"{contributing} of {len(found.members)} exposures contribute",
        "",
    ]
    if given:
        lines += [*_members(given), "", *_detector_pixels(coadd, found, given)]
    off = [m.exposure for m in found.members if not m.on_it]
    if off:
        lines += ["", f"off their detectors: {', '.join(off)}"]
    return [*lines, "", *_verdict(found)]


def _members(given: list[MemberPixel]) -> list[str]:
    total = sum(m.weight for m in given) or 1.0
    width = max(len(m.exposure) for m in given)
    head = ("bit", "exposure".ljust(width), "detector x", "y", "sky level", "value", "weight")
    lines = ["{:>3}  {}  {:>10} {:>8} {:>10} {:>11} {:>9}  share".format(*head)]
    for m in given:
        value = f"{m.value:11.6g}" if m.weight else f"{'-':>11}"
        share = f"{m.weight / total:5.1%}" if m.weight else "does not contribute"
        lines.append(
            f"{m.bit:3}  {m.exposure:{width}}  {m.x:10.2f} {m.y:8.2f} {m.level:10.5f} {value} "
            f"{m.weight:9.4g}  {share}"
        )
    return lines


def _detector_pixels(coadd: CoaddBlocks, found: Explanation, given: list[MemberPixel]) -> list[str]:
    good_bits = coadd.own["provenance"]["parameters"]["good_bits"]
    lines = [
        "detector pixels under it, sky level subtracted, MJy/sr",
        "bit     x     y  part      value       err  used  flags",
    ]
    for m in given:
        for p in m.pixels:
            lines.append(
                f"{m.bit:3} {p.x:5} {p.y:5} {p.part:5.0%} {p.value:10.5g} {p.err:9.3g}  "
                f"{'yes' if _used(p, good_bits) else 'no ':<4}  {flag_words(p, found.reasons)}"
            )
    return lines


def _used(pixel: DetectorPixel, good_bits: str | None) -> bool:
    bad = bad_mask(np.array([pixel.dq], np.uint32), good_bits)[0]
    return bool(not bad and pixel.why is None and np.isfinite(pixel.value + pixel.err))


def flag_words(pixel: DetectorPixel, reasons: Mapping[int, str]) -> str:
    """Flags of a detector pixel: names of its DQ bits; of an outlier why it is one."""
    words = [name for name, bit in FLAGS.items() if bit & pixel.dq]
    known = sum(FLAGS.values())
    words += [f"bit {bit}" for bit in range(32) if pixel.dq & ~known & (1 << bit)]
    if pixel.why is not None:
        why = []
        for bit, text in sorted(reasons.items()):
            yes, _, no = text.partition("; otherwise ")
            why += [yes] if bit & pixel.why else [no] if no else []
        words.append(f"OUTLIER ({'; '.join(why)})")
    return ", ".join(words) or "-"


def _verdict(found: Explanation) -> list[str]:
    changed = [m.exposure for m in found.members if m.changed]
    lines = []
    if any(m.weight for m in found.members):
        agrees = "as" if found.agrees else "NOT as"
        lines.append(f"weighted mean of the values: {found.mean:.6g}, {agrees} in the coadd")
    if changed:
        lines.append(f"no longer what the coadd was made of: {', '.join(changed)}")
    if not found.agrees:
        lines.append(
            "the files beside the coadd are not those that it was made of: run the workflow again"
        )
    return lines


def read_source(path: str | Path, label: int) -> tuple[dict, dict, dict]:
    """
    Read the row of a source.

    Parameters
    ----------
    path : str or path
        ``_cat.parquet`` file.
    label : int
        Its label.

    Returns
    -------
    row : dict
        Values by column.
    columns : dict
        `unit` (if any) and `description` by column.
    flags : dict
        Meaning by bit, by column of flags.

    Raises
    ------
    ProductError
        The file is missing or damaged, or has no such source.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, filters=[("label", "==", label)])
    except (OSError, pa.ArrowException) as error:
        todo = "make it with source_catalog"
        raise ProductError(
            path, f"cannot be read as a catalog ({first_line(error)})", todo
        ) from error
    if not table.num_rows:
        raise ProductError(path, f"has no source {label}", "labels are in its column `label`")
    notes = {key.decode(): text.decode() for key, text in (table.schema.metadata or {}).items()}
    described = yaml.safe_load(notes.get("table_meta_yaml", "{}")).get("datatype", [])
    flags: dict[str, dict[int, str]] = {}
    for key, text in notes.items():
        _, _, rest = key.partition("source_catalog.")
        column, _, bit = rest.partition(".")
        if column.endswith("_flags") and bit.isdigit():
            flags.setdefault(column, {})[int(bit)] = text
    return table.to_pylist()[0], {entry["name"]: entry for entry in described}, flags


#: Columns of which the schema has a wrong text, with ours: it says 1 - (semimajor / semiminor).
_MEANT = {"ellipticity": "1 - (semiminor / semimajor)"}


def source_lines(row: Mapping, columns: Mapping, flags: Mapping) -> list[str]:
    """
    Say what the catalog has of a source.

    Parameters
    ----------
    row, columns, flags
        Of `read_source`.
    """
    lines = []
    width = max(len(name) for name in row)
    for name, value in row.items():
        about = columns.get(name, {})
        unit = about.get("unit") or ""
        text = f"{value:.7g}" if isinstance(value, float) else str(value)
        if name.endswith(("ra", "dec")) or (name.startswith(("ra_", "dec_")) and "err" not in name):
            text = f"{value:.7f}"
        own = name.removeprefix("forced_")
        meaning = " ".join(str(_MEANT.get(own, about.get("description", ""))).split())
        lines.append(f"{name:{width}}  {text:>14} {unit:7} {meaning}".rstrip())
        bits = flags.get(own, {})
        lines += [
            f"{'':{width}}  {bit:>14}: {bits[bit]}" for bit in sorted(bits) if bit & int(value or 0)
        ]
    return lines
