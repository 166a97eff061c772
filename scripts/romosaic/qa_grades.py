"""Grades: measures of products (`qa`) and of seams (`qa_seams`) against the limits of the configuration."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

#: From best to worst; a measure that does not exist, or has no limits, has none.
GRADES = ("green", "amber", "red")
#: Columns with limits of the same name, and what they are.
GRADED = {
    "sky_residual": "largest difference of the skies of two members after matching, in units of the noise",
    "flagged_fraction": "largest part of a member's pixels that are outliers",
    "exposures": "median number of exposures of a covered pixel",
    "noise_ratio": "scatter of empty pixels over its prediction",
    "fwhm_ratio": "FWHM of stars over the median of all products of the filter",
    "member_offset": "largest offset of a member's stars from those of the others, mas",
    "seam_level": "largest difference of levels from a neighbouring skycell, in units of the noise",
    "seam_flux": "largest median difference of fluxes from those in a neighbouring skycell",
    "seam_offset": "largest median distance of sources from those in a neighbouring skycell, mas",
    "metadata": "part of the wanted metadata that is known",
}


def grade(value: float | None, limits: Sequence[float] | None) -> str | None:
    """
    Grade of a value: green, amber beyond the first limit, red beyond the second.

    Parameters
    ----------
    value : float or None
        None has no grade.
    limits : two floats or None
        Rising limits are not to be exceeded, falling ones not to be undercut.
    """
    if value is None or limits is None:
        return None
    amber, red = limits
    sign = 1 if red >= amber else -1
    return GRADES[(sign * value > sign * amber) + (sign * value > sign * red)]


def worst(grades: Sequence[str | None]) -> str | None:
    """Worst of some grades; None of none."""
    given = [GRADES.index(one) for one in grades if one]
    return GRADES[max(given)] if given else None


def make_table(
    products: Sequence[Mapping], seams: Sequence[Mapping], limits: Mapping[str, Sequence | None]
) -> list[dict]:
    """
    Table of the products: measures and grades.

    Parameters
    ----------
    products : sequence of mapping
        Results of `qa.measure` with the name as `product`.
    seams : sequence of mapping
        Rows of `seam_row`.
    limits : mapping
        Amber and red limit of each of `GRADED`; None: no grade.

    Returns
    -------
    list of dict
        A row per product in their order: grade, measures, and `<measure>_grade` of each of `GRADED`.
    """
    typical = _typical_fwhm(products)
    beside = defaultdict(list)
    for seam in seams:
        beside[seam["product"]].append(seam)
        beside[seam["neighbour"]].append(seam)
    rows = []
    for product in products:
        row = _measures(product, typical, beside[product["product"]])
        graded = {name: row[name] for name in GRADED}
        if graded["noise_ratio"]:
            graded["noise_ratio"] = max(graded["noise_ratio"], 1 / graded["noise_ratio"])
        grades = {f"{name}_grade": grade(graded[name], limits[name]) for name in GRADED}
        first = {"product": row.pop("product"), "grade": worst(list(grades.values()))}
        rows.append(first | row | grades)
    return rows


def _typical_fwhm(products: Sequence[Mapping]) -> dict[str, float]:
    """Median FWHM of the products of each filter that have one."""
    found = defaultdict(list)
    for product in products:
        if product["fwhm"] is not None:
            found[product["optical_element"]].append(product["fwhm"])
    return {element: float(np.median(values)) for element, values in found.items()}


def _measures(product: Mapping, typical: Mapping[str, float], seams: Sequence[Mapping]) -> dict:
    """One row without its grades."""
    noise, sky, fwhm = product["noise"], product["sky"], product["fwhm"]
    name = product["product"]
    return {
        "product": name,
        "optical_element": product["optical_element"],
        "exposures": product["exposures"],
        "covered_fraction": product["covered_fraction"],
        "exposure_time": product["exposure_time"],
        "depth": product["depth"],
        "noise": noise,
        "noise_ratio": product["noise_ratio"],
        "sky_before": sky["largest_before"],
        "sky_after": sky["largest_after"],
        "sky_residual": _over(sky["largest_after"], noise),
        "flagged_fraction": _largest(row["flagged_fraction"] for row in product["members"]),
        "sources": product["sources"],
        "stars": product["stars"],
        "fwhm": fwhm,
        "fwhm_ratio": _over(fwhm, typical.get(product["optical_element"])),
        "star_scatter": product["astrometry"]["scatter"],
        "member_offset": product["astrometry"]["largest"],
        "neighbours": len(seams),
        "seam_level": _over(_largest(seam["level"] for seam in seams), noise),
        "seam_flux": _largest(seam["flux"] for seam in seams),
        "seam_offset": _largest(seam["offset"] for seam in seams),
        "metadata": product["metadata"]["known"],
    }


def _over(value: float | None, unit: float | None) -> float | None:
    return None if value is None or not unit else value / unit


def _largest(values) -> float | None:
    return max((abs(value) for value in values if value is not None), default=None)


def summary(rows: Sequence[Mapping]) -> list[str]:
    """Lines for the log: how many products of each grade, and why those that are not green are not."""
    counts = ", ".join(f"{sum(row['grade'] == one for row in rows)} {one}" for one in GRADES)
    lines = [f"qa: {len(rows)} products: {counts}"]
    for one in reversed(GRADES[1:]):
        for name in GRADED:
            bad = [row for row in rows if row[f"{name}_grade"] == one]
            if bad:
                most = max(bad, key=lambda row: abs(row[name]))
                lines.append(
                    f"qa: {one}: {name} of {len(bad)} products, such as {most['product']} ({most[name]:.3g})"
                )
    return lines
