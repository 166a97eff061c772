"""The page of the QA table: one HTML file without a network, sortable, with details behind each row."""

import json
from collections.abc import Mapping, Sequence

from .qa_grades import GRADED, GRADES
from .qa_template import TEMPLATE

#: Columns of the table: name, heading, unit, digits after the point.
_COLUMNS = (
    *(("product", "product", "", None), ("optical_element", "filter", "", None)),
    *(("exposures", "exposures", "median", 0), ("covered_fraction", "covered", "%", 1)),
    *(("depth", "depth", "AB, 5 σ in 0.2″", 2), ("noise_ratio", "noise", "/ predicted", 3)),
    *(("sky_residual", "sky left", "σ", 3), ("flagged_fraction", "flagged", "%", 2)),
    *(("fwhm_ratio", "FWHM", "/ typical", 2), ("member_offset", "member offset", "mas", 1)),
    *(("seam_level", "seam level", "σ", 3), ("seam_flux", "seam flux", "%", 2)),
    *(("seam_offset", "seam offset", "mas", 2), ("metadata", "metadata", "%", 0)),
    *(("sky_before", "sky before", "10⁻³ MJy/sr", 2), ("sky_after", "sky after", "10⁻³ MJy/sr", 3)),
    *(
        ("exposure_time", "exposure time", "s", 0),
        ("sources", "sources", "", 0),
        ("stars", "stars", "", 0),
    ),
    *(("fwhm", "star FWHM", "arcsec", 3), ("star_scatter", "star scatter", "mas", 1)),
    ("neighbours", "neighbours", "", 0),
)
_FACTORS = {
    "covered_fraction": 100,
    "flagged_fraction": 100,
    "seam_flux": 100,
    "metadata": 100,
    "sky_before": 1e3,
    "sky_after": 1e3,
}


def page(
    rows: Sequence[Mapping],
    products: Sequence[Mapping],
    seams: Sequence[Mapping],
    limits: Mapping[str, Sequence | None],
    costs: Sequence[Mapping],
) -> str:
    """
    Write the page.

    Parameters
    ----------
    rows, products, seams, limits
        As for `qa_grades.make_table`, and its result.
    costs : sequence of mapping
        Rows of `qa_report.run_times`.

    Returns
    -------
    str
        HTML that needs no other file.
    """
    versions: dict[str, set] = {}
    for product in products:
        for name, version in product["provenance"]["versions"].items():
            versions.setdefault(name, set()).add(version)
    content = {
        "columns": [
            {"name": name, "heading": heading, "unit": unit, "digits": digits}
            | {"factor": _FACTORS.get(name, 1), "meaning": GRADED.get(name, "")}
            | {"limits": limits.get(name)}
            for name, heading, unit, digits in _COLUMNS
        ],
        "grades": GRADES,
        "rows": [{key: _short(value) for key, value in row.items()} for row in rows],
        "details": [_details(product) for product in products],
        "seams": [{key: _short(value) for key, value in seam.items()} for seam in seams],
        "costs": [{key: _short(value) for key, value in row.items()} for row in costs],
        "versions": {name: ", ".join(sorted(found)) for name, found in sorted(versions.items())},
    }
    # No text of a name can end the script that holds it.
    text = json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")
    return TEMPLATE.replace("__CONTENT__", text)


def _short(value: object) -> object:
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _details(product: Mapping) -> dict:
    """What is shown when a row is opened."""
    names = ("exposure", "status", "sky_level", "sky_status", "flagged_fraction")
    members = [
        {name: _short(member[name]) for name in names}
        | {"offset": [round(axis, 1) for axis in member["offset"]] if member["offset"] else None}
        for member in product["members"]
    ]
    grid = product["grid"]
    place = f"RA {grid['ra_center']:.5f}  Dec {grid['dec_center']:+.5f}"
    return {"members": members, "missing": product["metadata"]["missing"], "place": place}
