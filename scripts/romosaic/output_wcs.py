"""
The grid of an ``output_wcs``: a gwcs in a file of the user's, read without trust.

A tangent plane maps pixels to directions by a matrix, up to the length of these (a homography). It is found
from positions, whatever models the gwcs is made of, and must give them again at others.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from .asdf_blocks import AsdfBlocks
from .errors import GridError, ProductError
from .grid import Grid, sky_position, unit_vector

#: Largest difference between a gwcs and its grid, pixels.
TOLERANCE = 1e-6
#: Largest side of a grid, pixels: beyond, the members were hardly meant for one image; largest pixel, degrees.
MAX_SIDE, MAX_PIXEL = 100_000, 1 / 60
#: Radians at which the tangent point shows to the last digit.
_WIDE = 0.3
_MEND = "give a gwcs of a tangent plane (TAN) with square pixels, to ICRS degrees"


def read_output_wcs(path: str | Path, shape: Sequence[int] | None = None) -> Grid:
    """
    Read the grid of a file.

    Parameters
    ----------
    path : str or path
        ASDF file with a gwcs under the key ``wcs``, as romancal takes them.
    shape : (nx, ny), optional
        Size of the grid; by default the gwcs's `pixel_shape`, or that of its bounding box.

    Raises
    ------
    GridError
        The file cannot be read, or holds no gwcs that a `Grid` can stand for to `TOLERANCE`.
    """
    path = Path(path)
    try:
        blocks = AsdfBlocks.read(path)
        tree = blocks.tree
        blocks.verify()
    except ProductError as error:
        raise GridError(path, error.what, error.todo) from error
    if not isinstance(tree, dict) or tree.get("wcs") is None:
        raise GridError(path, "has no `wcs`", _MEND)
    import asdf

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            with asdf.open(path, lazy_load=True) as file:
                return grid_of_wcs(file["wcs"], shape, path)
        except GridError:
            raise
        except Exception as error:  # a damaged WCS may raise anything
            raise GridError(
                path, f"has an unreadable WCS ({type(error).__name__})", _MEND
            ) from error


def grid_of_wcs(wcs, shape: Sequence[int] | None = None, where: object = "output_wcs") -> Grid:
    """
    Find the grid that is a gwcs.

    Parameters
    ----------
    wcs : gwcs.WCS
        0-based pixels to ICRS degrees.
    shape : (nx, ny), optional
        See `read_output_wcs`.
    where : object
        What to call it in a message.

    Raises
    ------
    GridError
        As `read_output_wcs`.
    """
    _check_frame(wcs, where)
    nx, ny = shape or _own_shape(wcs, where)
    if not (0 < nx <= MAX_SIDE and 0 < ny <= MAX_SIDE):
        raise GridError(where, f"has {nx} x {ny} pixels", f"give 1 to {MAX_SIDE} on a side")

    def sky(x, y):
        return wcs(x, y, with_bounding_box=False)

    # The corners, and positions between those that a grid was fitted to.
    rng = np.random.default_rng(0)
    part = np.concatenate([[[0, 1, 1, 0], [0, 0, 1, 1]], rng.uniform(0, 1, (2, 500))], axis=1)
    x, y = part * [[nx], [ny]] - 0.5
    ra, dec = sky(x, y)
    least = np.inf
    for grid in _candidates(wcs, sky, nx, ny):
        there = grid.to_pixel(ra, dec)
        apart = np.hypot(there[0] - x, there[1] - y).max()
        if apart <= TOLERANCE and 0 < grid.pixel_scale <= MAX_PIXEL:
            return grid
        least = np.fmin(least, apart)
    raise GridError(where, f"its `wcs` is no regular grid (off by {least:.2g} pixels)", _MEND)


def _check_frame(wcs, where: object) -> None:
    """Refuse what gives no ICRS degrees."""
    frame = wcs.output_frame
    system = getattr(getattr(frame, "reference_frame", None), "name", None)
    units = [str(unit) for unit in getattr(frame, "unit", ())]
    if system != "icrs" or units != ["deg", "deg"]:
        raise GridError(where, f"its `wcs` gives {system} in {' '.join(units)}", _MEND)


def _own_shape(wcs, where: object) -> tuple[int, int]:
    """Size (nx, ny) that a gwcs tells, in romancal's order."""
    if wcs.pixel_shape is not None:
        return tuple(int(n) for n in wcs.pixel_shape)
    if wcs.bounding_box is None:
        raise GridError(where, "its `wcs` has no size", "give output_shape")
    limits = wcs.bounding_box.bounding_box(order="F")
    # Pixel 0 is the first of the image whatever the box says: only a box that starts there gives a size.
    if any(not -0.5 <= low <= 0 for low, _ in limits):
        raise GridError(where, "its bounding box does not start at pixel 0", "give output_shape")
    return tuple(int(high - low + 0.5) for low, high in limits)


def _candidates(wcs, sky: Callable, nx: int, ny: int) -> Iterator[Grid]:
    """Yield what the gwcs may be: as it says of itself, fitted far beyond the image, fitted within it."""
    if told := _told(wcs.forward_transform, nx, ny):
        yield told
    middle = np.array([[(nx - 1) / 2], [(ny - 1) / 2]])
    step = unit_vector(*sky(middle[0] + [0, 1], middle[1] + [0, 0]))
    scale = max(np.linalg.norm(step[:, 1] - step[:, 0]), 1e-15)
    for reach in (_WIDE / scale, max(nx, ny) / 2):
        fitted = _fitted(sky, middle, reach, scale, nx, ny)
        if fitted:
            yield fitted


def _told(transform, nx: int, ny: int) -> Grid | None:
    """Grid of the transform that romancal and this project write, exactly."""
    names = ("crpix", "crval", "cdelt", "pc")
    if not all(hasattr(transform, name) for name in names):
        return None
    (x0, y0), (ra, dec), cdelt, pc = (
        np.asarray(getattr(transform, name).value, float) for name in names
    )
    matrix = cdelt[:, None] * pc
    scale = float(np.sqrt(np.abs(np.linalg.det(matrix))))
    # Only a handful of angles are the sines and cosines of a number of degrees: those come out as they went in.
    turn = round(float(np.degrees(np.arctan2(-matrix[1, 0], matrix[1, 1]))), 12)
    # The same pixel side for both axes is told as it is, without the rounding of the root.
    sides = np.abs(cdelt)
    scale = float(sides[0]) if sides[0] == sides[1] else scale
    east = bool(np.linalg.det(matrix) > 0)
    return Grid(float(ra), float(dec), float(x0), float(y0), scale, nx, ny, turn, x_east=east)


def _fitted(
    sky: Callable, middle: np.ndarray, reach: float, scale: float, nx: int, ny: int
) -> Grid | None:
    """
    Fit a grid to positions around the middle of the image.

    In the plane that touches the sky there, u, v = (pixel - middle) / reach are sent to
    a = (h1 u + h2 v + h3) / (1 + h7 u + h8 v) and b alike: linear equations for h.
    """
    u, v = (plane.ravel() for plane in np.meshgrid(*[np.cos(np.pi * np.arange(9) / 8)] * 2))
    base = Grid(*(float(c[0]) for c in sky(*middle)), 0.0, 0.0, np.degrees(scale * reach), 1, 1)
    a, b = base.to_pixel(*sky(*(middle + reach * np.stack([u, v]))))
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return None
    one, zero = np.ones_like(u), np.zeros_like(u)
    rows = [
        np.stack([u, v, one, zero, zero, zero, -a * u, -a * v], axis=1),
        np.stack([zero, zero, zero, u, v, one, -b * u, -b * v], axis=1),
    ]
    h = np.linalg.lstsq(np.concatenate(rows), np.concatenate([a, b]), rcond=None)[0]
    to_base = np.diag([base.scale, base.scale, 1.0]) @ np.append(h, 1.0).reshape(3, 3)
    return _of_matrix(base.frame.T @ to_base, middle[:, 0], reach, nx, ny)


def _of_matrix(
    matrix: np.ndarray, middle: np.ndarray, reach: float, nx: int, ny: int
) -> Grid | None:
    """Grid of the (3, 3) matrix that sends ((pixel - middle) / reach, 1) to directions of any length."""
    along_x, along_y, here = matrix.T
    tangent = np.cross(along_x, along_y)
    size = np.linalg.norm(tangent)  # the square of the pixel side times the length of directions
    if not size > 0:
        return None
    east = tangent @ here > 0
    tangent *= (1 if east else -1) / size
    length, side = tangent @ here, np.sqrt(size)
    x0, y0 = middle - reach * np.array([here @ along_x, here @ along_y]) / size
    ra, dec = (float(c) for c in sky_position(tangent))
    scale = float(np.degrees(side / length / reach))
    grid = Grid(ra, dec, float(x0), float(y0), scale, nx, ny, x_east=bool(east))
    # Without a turn +x and +y are the frame's first axes: +y lies in their plane.
    turn = np.degrees(np.arctan2(along_y @ grid.frame[0], along_y @ grid.frame[1]))
    return Grid(ra, dec, float(x0), float(y0), scale, nx, ny, float(turn), x_east=bool(east))
