"""
The WCS of a coadd: the gwcs of its grid as a tagged tree, and its summary for ``meta.wcsinfo``.

The tree is the one that gwcs writes; making it without gwcs and asdf saves `resample` their start.
"""

from collections.abc import Mapping

import numpy as np

from .asdf_writer import ASDF, Tagged
from .grid import Grid, east_north

_GWCS = "tag:stsci.edu:gwcs/"
_FRAME = "tag:astropy.org:astropy/coordinates/frames/"


def wcs_tree(grid: Grid) -> Tagged:
    """
    Build the gwcs of a grid, 0-based pixels to ICRS degrees.

    Returns
    -------
    Tagged
        What is read back as a `gwcs.WCS`: invertible, with LONPOLE 180 degrees at the poles too; with its
        bounding box unless it holds a pole.
    """
    # Of all transforms this one tells crpix, crval, cdelt and pc to who reads the file.
    transform = {
        "crpix": np.array([grid.x0, grid.y0], float),
        "crval": np.array([grid.ra0, grid.dec0], float),
        "cdelt": np.array([grid.pixel_scale, grid.pixel_scale], float),
        "pc": np.array(_turn(grid)),
        "projection": Tagged(
            f"{ASDF}transform/gnomonic-1.4.0",
            {"direction": "pix2sky", "inputs": ["x", "y"], "outputs": ["phi", "theta"]},
        ),
        "inputs": ["x", "y"],
        "outputs": ["lon", "lat"],
    }
    # With a box gwcs inverts only what lies between the least and the greatest declination of the corners:
    # nothing at all where they surround a pole.
    if not _holds(grid, 0.0, 90.0) and not _holds(grid, 0.0, -90.0):
        sides = {"x": [-0.5, grid.nx - 0.5], "y": [-0.5, grid.ny - 0.5]}
        box = {"intervals": sides, "ignore": [], "order": "F"}
        transform["bounding_box"] = Tagged(f"{ASDF}transform/property/bounding_box-1.2.0", box)
    detector = _frame("frame2d", "detector", {"x": "custom:x", "y": "custom:y"}, "pixel")
    sky = _frame("celestial_frame", "icrs", {"lon": "pos.eq.ra", "lat": "pos.eq.dec"}, "deg")
    sky.value["reference_frame"] = Tagged(f"{_FRAME}icrs-1.1.0", {"frame_attributes": {}})
    steps = [(detector, Tagged(f"{_GWCS}fitswcs_imaging-1.0.0", transform)), (sky, None)]
    return Tagged(
        f"{_GWCS}wcs-1.4.0",
        {
            "name": grid.skycell or "mosaic",
            "pixel_shape": [int(grid.nx), int(grid.ny)],
            "steps": [
                Tagged(f"{_GWCS}step-1.3.0", {"frame": frame, "transform": step})
                for frame, step in steps
            ],
        },
    )


def _frame(kind: str, name: str, axes: dict[str, str], unit: str) -> Tagged:
    """Coordinate frame with two axes, given by name and physical type."""
    tree = {
        "name": name,
        "axes_names": list(axes),
        "axes_order": [0, 1],
        "axis_physical_types": list(axes.values()),
        "unit": [Tagged(f"{ASDF}unit/unit-1.0.0", unit)] * 2,
    }
    return Tagged(f"{_GWCS}{kind}-1.2.0", tree)


def _holds(grid: Grid, ra: float, dec: float) -> bool:
    x, y = grid.to_pixel(ra, dec)
    return bool(-0.5 <= x <= grid.nx - 0.5 and -0.5 <= y <= grid.ny - 0.5)


def _turn(grid: Grid) -> list[list[float]]:
    """PC matrix of a grid, pixel offsets to plane offsets: its determinant tells the handedness."""
    o, east = np.radians(grid.orientation), 1.0 if grid.x_east else -1.0
    cosine, sine = float(np.cos(o)), float(np.sin(o))
    return [[east * cosine, east * sine], [-sine, cosine]]


def wcsinfo(grid: Grid) -> dict:
    """Summary of a grid for ``meta.wcsinfo``; scales in degrees as the files of the archive have them."""
    x, y = (grid.nx - 1) / 2, (grid.ny - 1) / 2
    ra, dec = _place(grid, x, y)
    # Counter-clockwise, viewed from the origin towards the sky (IVOA DALI 1.1, 3.3.7).
    order = [0, 3, 2, 1] if grid.x_east else [0, 1, 2, 3]
    corners = np.stack(grid.corners(), axis=1)[order]
    return {
        "ra_ref": float(grid.ra0),
        "dec_ref": float(grid.dec0),
        "x_ref": float(grid.x0),
        "y_ref": float(grid.y0),
        "pixel_scale_ref": float(grid.pixel_scale),
        "pixel_scale": float(np.degrees(np.sqrt(grid.middle_pixel_area))),
        "projection": "TAN",
        "s_region": "POLYGON ICRS " + " ".join(f"{r:.9f} {d:.9f}" for r, d in corners),
        "image_shape": [int(grid.ny), int(grid.nx)],
        "ra": ra,
        "dec": dec,
        "orientation": _north_angle(grid, x, y),
        "orientation_ref": _north_angle(grid, grid.x0, grid.y0),
        "skycell_name": grid.skycell,
        "rotation_matrix": _turn(grid),
    }


def grid_of(info: Mapping) -> Grid:
    """
    Grid that a summary describes: the inverse of `wcsinfo`.

    Raises
    ------
    KeyError, TypeError, ValueError
        It describes none.
    """
    ny, nx = (int(n) for n in info["image_shape"])
    turn = np.asarray(info["rotation_matrix"], float)
    return Grid(
        ra0=float(info["ra_ref"]),
        dec0=float(info["dec_ref"]),
        x0=float(info["x_ref"]),
        y0=float(info["y_ref"]),
        pixel_scale=float(info["pixel_scale_ref"]),
        nx=nx,
        ny=ny,
        orientation=float(np.degrees(np.arctan2(-turn[1, 0], turn[1, 1]))),
        skycell=info.get("skycell_name"),
        x_east=bool(np.linalg.det(turn) > 0),
    )


def _place(grid: Grid, x: float, y: float) -> tuple[float, float]:
    """Sky position of a pixel, degrees; that of the tangent point as it is given, at a pole too."""
    if (x, y) == (grid.x0, grid.y0):
        return float(grid.ra0), float(grid.dec0)
    ra, dec = grid.to_sky(x, y)
    return float(ra), float(dec)


def _north_angle(grid: Grid, x: float, y: float) -> float:
    """Position angle of the +y axis at a pixel, degrees east of north in [0, 360)."""
    east, north = east_north(*_place(grid, x, y))
    here = grid.frame.T @ [(x - grid.x0) * grid.scale, (y - grid.y0) * grid.scale, 1.0]
    here /= np.linalg.norm(here)
    along = grid.frame[1] - here * (here @ grid.frame[1])
    # A tiny negative angle modulo 360 rounds to 360 itself.
    return float(np.degrees(np.arctan2(along @ east, along @ north)) % 360 % 360)
