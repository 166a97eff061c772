"""
Fit of pixel maps: what the one step does that sees the exposure's gwcs.

A series is tried first, of rising degree. What it leaves of a WCS that is not smooth enough for it goes into a
table, whose nodes are moved closer until it is good halfway between them, at last to every half pixel.
"""

from dataclasses import replace

import numpy as np

from .chebyshev import Chebyshev2D, Function
from .errors import ExposureError
from .footprint import detector_outline
from .grid import unit_vector
from .offset_table import QUANTUM, OffsetTable
from .pixmap import TOLERANCE, VERTICES, PixelMap, to_plane

#: Degrees tried, in order: a whole Roman detector needs 9, cutouts of it fewer.
DEGREES = (3, 5, 7, 9, 12, 16, 21)
#: Error at which no higher degree is tried: sky positions in double precision are not better.
PRECISION = 5e-9
#: A map covers this much more than the detector on each side (fraction of its size, and pixels)
#: where the WCS does; else as much as the WCS does, to the pixels' outer edges or their centres.
MARGINS = ((0.02, 2.0), (0.0, 2.0), (0.0, 0.0), (0.0, -0.5))
#: Points along each side of the detector at which an accepted series is checked.
CHECKS = 96
#: Largest error, in pixels, of the inverse of a series that a table goes with.
ROUND_TRIP = 1e-6
#: Distances of the nodes of tables that are tried, detector pixels.
STEPS = (16.0, 8.0, 4.0, 2.0, 1.0, 0.5)
#: Rows of nodes worked on at a time, to bound memory.
BAND = 64

_CHECK = "check the distortion of meta.wcs"


def fit(wcs: Function, shape: tuple[int, int]) -> PixelMap:
    """
    Make the pixel map of an exposure.

    Parameters
    ----------
    wcs : callable
        (x, y) in 0-based pixels -> (ra, dec) in degrees, defined on the detector and best a little beyond.
    shape : tuple of int
        Detector (ny, nx).

    Returns
    -------
    PixelMap
        A series where one of the degrees tried follows the WCS to `TOLERANCE`; else a series and a table.

    Raises
    ------
    ExposureError
        The WCS gives no position for a part of the detector, maps it to a point or a line, folds it, jumps by
        more than a pixel, or gives other positions when asked again.
    """
    series, plane = fit_series(wcs, shape)
    return series if series.error <= TOLERANCE else tabulate(series, plane)


def fit_series(wcs: Function, shape: tuple[int, int]) -> tuple[PixelMap, Function]:
    """
    Fit a series to the WCS.

    Parameters
    ----------
    wcs, shape
        As for `fit`.

    Returns
    -------
    pixmap : PixelMap
        Its error may exceed `TOLERANCE`: then it is the smooth part that goes with a table.
    plane : callable
        (x, y) -> (u, v): the WCS, against the tangent plane of the map.

    Raises
    ------
    ExposureError
        As `fit`.
    """
    frame = _frame(wcs, shape)

    def plane(x, y):
        return to_plane(frame, unit_vector(*wcs(x, y)))

    domain = _domain(plane, shape)
    tried = []
    for degree in DEGREES:
        forward = Chebyshev2D.fit(plane, domain, degree)
        fitted = PixelMap(frame, tuple(shape), forward, _invert(forward, degree), np.inf)
        fitted = replace(fitted, error=_error(fitted, plane, np.linspace(0.0, 1.0, 23)))
        tried.append(fitted)
        if fitted.error <= PRECISION:
            break
    best = min(tried, key=lambda fitted: fitted.error)
    if best.error <= TOLERANCE:
        # Golden section: no lattice of a tabulated distortion keeps in step with it.
        parts = np.sort(np.arange(1, CHECKS - 1) * 0.6180339887498949 % 1.0)
        error = _error(best, plane, np.concatenate([[0.0], parts, [1.0]]), inverse=False)
        best = replace(best, error=max(best.error, error))
    if best.error <= TOLERANCE:
        return best, plane
    linear = replace(best, forward=Chebyshev2D.fit(plane, domain, 1))
    return _smooth_part([replace(linear, error=np.inf), *tried]), plane


def _smooth_part(tried: list[PixelMap]) -> PixelMap:
    """Simplest of the series that is about as good as the best one, and has an inverse."""
    sound = [found for fitted in tried if (found := _with_inverse(fitted)) is not None]
    if not sound:
        raise ExposureError("WCS", "folds the detector", _CHECK)
    least = min(fitted.error for fitted in sound)
    return next(fitted for fitted in sound if fitted.error <= 1.5 * least)


def _with_inverse(fitted: PixelMap) -> PixelMap | None:
    """Give a series the simplest inverse that is one to `ROUND_TRIP`; None where it has none."""
    for degree in DEGREES:
        made = replace(fitted, backward=_invert(fitted.forward, degree))
        if _error(made, made.forward.points, np.linspace(0.0, 1.0, 23)) <= ROUND_TRIP:
            return made
    return None


def _domain(plane: Function, shape: tuple[int, int]) -> tuple[float, float, float, float]:
    """Widest of the rectangles (x_min, x_max, y_min, y_max) of `MARGINS` on which the WCS is defined."""
    ny, nx = shape
    for share, more in MARGINS:
        mx, my = share * nx + more, share * ny + more
        domain = (-0.5 - mx, nx - 0.5 + mx, -0.5 - my, ny - 0.5 + my)
        nodes = np.meshgrid(np.linspace(*domain[:2], 23), np.linspace(*domain[2:], 23))
        try:
            if np.all(np.isfinite(plane(*nodes))):
                return domain
        except ValueError:  # a table that is asked for what lies beyond it
            if more < 0:
                raise
    raise ExposureError("WCS", "gives no position for a part of the detector", _CHECK)


def _error(fitted: PixelMap, plane: Function, parts: np.ndarray, inverse: bool = True) -> float:
    """Largest error forward and of the inverse, in pixels, on a lattice at `parts` of the detector's sides."""
    x_min, x_max, y_min, y_max = fitted.forward.domain
    ny, nx = fitted.shape
    low, high = np.maximum(-0.5, (x_min, y_min)), np.minimum((nx - 0.5, ny - 0.5), (x_max, y_max))
    xs, ys = (a + parts * (b - a) for a, b in zip(low, high, strict=True))
    x, y = np.meshgrid(xs, ys)
    u, v = plane(x, y)
    fu, fv = fitted.forward.lattice(xs, ys)
    error = np.hypot(fu - u, fv - v).max() / _pixel(fitted)
    if inverse:
        bx, by = fitted.backward.points(u, v)
        error = max(error, np.hypot(bx - x, by - y).max())
    return float(error) if np.isfinite(error) else np.inf


def _pixel(fitted: PixelMap) -> float:
    """Shorter side of the pixel in the middle of the detector, radians."""
    cy, cx = ((n - 1) / 2 for n in fitted.shape)
    u, v = fitted.forward.points(cx + np.array([0.0, 1.0, 0.0]), cy + np.array([0.0, 0.0, 1.0]))
    return float(min(np.hypot(u[1:] - u[0], v[1:] - v[0])))


def tabulate(series: PixelMap, plane: Function) -> PixelMap:
    """
    Add the table of what a series leaves.

    Parameters
    ----------
    series : PixelMap
        Smooth part of the map.
    plane : callable
        (x, y) -> (u, v): the WCS, against the tangent plane of the map.

    Returns
    -------
    PixelMap

    Raises
    ------
    ExposureError
        As `fit`.
    """
    table = _table(series, plane, STEPS[0])
    for step in STEPS[1:]:
        finer = _table(series, plane, step)
        if _difference(table, finer) <= TOLERANCE / 2:
            break
        table = finer
    jump = QUANTUM * max(
        int(np.abs(np.diff(band.astype(np.int64), axis=axis)).max(initial=0))
        for band in _bands(table.values)
        for axis in (1, 2)
    )
    # Shifts as large as the distance of the nodes turn the order of the pixels round.
    if jump > max(table.step, 1.0):
        what = f"jumps or folds by {jump:.2g} pixels within {table.step:g}"
        raise ExposureError("WCS", what, _CHECK)
    made = replace(series, table=table)
    made = replace(made, error=_table_error(made, plane))
    if not made.error <= TOLERANCE:
        raise ExposureError(
            "WCS", f"is not smooth: the pixel map is off by {made.error:.2g} pixels", _CHECK
        )
    return made


def _bands(values: np.ndarray):
    """Bands of rows of nodes; neighbours share a row."""
    return (values[:, k : k + BAND + 1] for k in range(0, values.shape[1], BAND))


def _table(series: PixelMap, plane: Function, step: float) -> OffsetTable:
    """Table of what a series leaves, with `step` pixels between its nodes."""
    x_min, x_max, y_min, y_max = series.forward.domain
    # The outermost nodes may lie beyond what the WCS knows.
    ys, xs = (
        np.clip(-0.5 + step * np.arange(max(int(np.ceil(n / step)), 3) + 1), low, high)
        for n, low, high in zip(series.shape, (y_min, x_min), (y_max, x_max), strict=True)
    )
    values = np.empty((2, ys.size, xs.size), np.int16)
    reach = 0.0
    for k in range(0, ys.size, BAND):
        x, y = np.meshgrid(xs, ys[k : k + BAND])
        shifts = np.stack(series.backward.points(*plane(x, y))) - (x, y)
        if not np.all(np.isfinite(shifts)):
            raise ExposureError("WCS", "gives no position for a part of the detector", _CHECK)
        reach = max(reach, float(np.abs(shifts).max()))
        if reach > 32000 * QUANTUM:
            values = values.astype(np.int32, copy=False)
        values[:, k : k + BAND] = np.rint(shifts / QUANTUM)
    return OffsetTable(step, values, reach)


def _difference(table: OffsetTable, finer: OffsetTable) -> float:
    """Largest difference of two tables at the nodes of the finer one, pixels."""
    _, my, mx = finer.values.shape
    largest = 0.0
    for k in range(0, my, BAND):
        y = -0.5 + finer.step * np.arange(k, min(k + BAND, my))
        x = -0.5 + finer.step * np.arange(mx)
        shifts = np.stack(table.at(x[None, :], y[:, None]))
        largest = max(largest, np.abs(shifts - QUANTUM * finer.values[:, k : k + BAND]).max())
    return float(largest)


def _table_error(made: PixelMap, plane: Function) -> float:
    """Largest error, in pixels, at centres and corners of pixels taken at random."""
    ny, nx = made.shape
    rng = np.random.default_rng(1)
    half = rng.integers(2, size=20_000) / 2
    x, y = (rng.integers(n, size=half.size) + half - 0.5 for n in (nx, ny))
    x_min, x_max, y_min, y_max = made.forward.domain
    x, y = np.clip(x, x_min, x_max), np.clip(y, y_min, y_max)
    u, v = plane(x, y)
    fu, fv = made.forward.points(*made.table.straighten(x, y))
    error = np.hypot(fu - u, fv - v).max() / _pixel(made)
    return float(error) if np.isfinite(error) else np.inf


def _frame(wcs: Function, shape: tuple[int, int]) -> np.ndarray:
    """Tangent frame at the detector's centre, its first axis along detector x."""
    cy, cx = (shape[0] - 1) / 2, (shape[1] - 1) / 2
    sky = unit_vector(*wcs(np.array([cx, cx + 1.0, cx]), np.array([cy, cy, cy + 1.0])))
    center, along, across = sky.T
    if not np.all(np.isfinite(sky)):
        raise ExposureError("WCS", "gives no position for the middle of the detector", _CHECK)
    u, v = along - center, across - center
    if not np.linalg.norm(np.cross(u, v)) > 1e-3 * np.linalg.norm(u) * np.linalg.norm(v):
        raise ExposureError("WCS", "maps the detector to a point or a line", _CHECK)
    for _ in range(2):  # twice: the first difference of two close vectors has lost half its digits
        u -= center * (u @ center)
        u /= np.linalg.norm(u)
    return np.array([u, np.cross(center, u), center])


def _invert(forward: Chebyshev2D, degree: int) -> Chebyshev2D:
    """Series of the inverse map, on the bounding rectangle of the forward map's image."""
    x_min, x_max, y_min, y_max = forward.domain
    x, y = detector_outline(2, 2, VERTICES)
    u, v = forward.points(
        x_min + (x + 0.5) / 2 * (x_max - x_min), y_min + (y + 0.5) / 2 * (y_max - y_min)
    )
    domain = (u.min(), u.max(), v.min(), v.max())
    width, height = x_max - x_min, y_max - y_min
    x_mid, y_mid = x_min + width / 2, y_min + height / 2
    middle = np.array(forward.points(x_mid, y_mid))
    along = np.array(forward.points(x_mid + width / 4, y_mid)) - middle
    across = np.array(forward.points(x_mid, y_mid + height / 4)) - middle
    # The pseudo-inverse: a hopeless map shall fail by its error and not here.
    step = np.linalg.pinv(np.transpose([along / (width / 4), across / (height / 4)]))

    def inverse(u, v):
        # Newton with a fixed Jacobian: the distortion is a few per cent, each turn gains two digits.
        x, y = np.full_like(u, x_mid), np.full_like(v, y_mid)
        fu, fv = np.full_like(u, middle[0]), np.full_like(v, middle[1])
        for _ in range(40):
            dx = step[0, 0] * (u - fu) + step[0, 1] * (v - fv)
            dy = step[1, 0] * (u - fu) + step[1, 1] * (v - fv)
            # Where it does not converge it stays near, and the map is refused by its error.
            x = np.clip(x + dx, x_min - width, x_max + width)
            y = np.clip(y + dy, y_min - height, y_max + height)
            fu, fv = forward.points(x, y)
            if max(np.abs(dx).max(), np.abs(dy).max()) < 1e-10:
                break
        return x, y

    return Chebyshev2D.fit(inverse, domain, degree)
