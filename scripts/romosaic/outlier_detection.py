"""
Outlier detection: pixels that disagree with what the other members of a product see at the same place.

Members are mapped bilinearly onto the grid of the product. Their median is the reference, the minimum where two
are valid, none where only one is. It is interpolated back to every detector pixel and compared with it in
romancal's two passes. The noise of a pixel comes from a model of its exposure and the reference, not from the
pixel's own error, which a cosmic ray inflates by its own Poisson noise.
"""

from collections.abc import Callable
from functools import partial
from itertools import groupby
from threading import Lock

import numpy as np

from . import medians
from . import outlier_kernels as kernels
from .dq import bad_bits
from .dq_list import BadPixels
from .grid import Grid
from .outlier_limits import reference_noise_factors, scales
from .patches import Patches, cut
from .threads import Scratch, in_order, in_threads

FIRST, NEIGHBOUR, NEGATIVE = kernels.FIRST, kernels.NEIGHBOUR, kernels.NEGATIVE
#: Meaning of the bits of `why`.
REASONS = {
    str(FIRST): "off the reference by more than the first snr and scale allow",
    str(NEIGHBOUR): "off by more than only the second allow, beside a pixel with bit 1",
    str(NEGATIVE): "fainter than the reference; otherwise brighter",
}
#: Members whose images are open at a time, a file each, of the 256 that some systems allow a process.
MAX_OPEN = 128
#: Share of the memory that is for open images at least; stacks of mapped members take no more than they need.
OPEN_SHARE = 0.25
#: Side of the rectangles with one cubic each: grid pixels, detector pixels.
GRID_PATCH, DETECTOR_PATCH = 256, 128
#: Rows of a member: data, and where its bad pixels are (see `BadPixels.of_rows`).
Rows = tuple[np.ndarray, np.ndarray, np.ndarray]


def status(n_members: int) -> str:
    """``COMPLETE``, or ``SKIPPED`` for fewer than two members: there is nothing to compare with."""
    return "COMPLETE" if n_members >= 2 else "SKIPPED"


def detect_outliers(
    members: list, levels: np.ndarray, grid: Grid, parameters, threads: int = 1
) -> list[tuple[np.ndarray, np.ndarray]]:
    """
    Find outlying pixels of every member of a product.

    Parameters
    ----------
    members : list of FluxExposure
        Or anything with `shape`, `data`, `dq`, `pixmap`, `sky_variance`, `pedestal`, `poisson_slope`,
        `optical_element` and, for noise 'err', the variance planes, as in `flux_file.FluxExposure`. Of images
        only windows are read.
    levels : (n,) array_like of float
        Sky level to subtract from each member, MJy/sr.
    grid : Grid
        Grid of the product. It is padded inside, so that products that share a border see the same.
    parameters : mapping
        `noise` ('model' or 'err'), `snr` and `scale` (two numbers each), `backg` (MJy/sr),
        `maskpt`, `good_bits`, `memory_mb`: section `outlier_detection` of the configuration. `memory_mb`
        bounds the stacks of mapped members, the pages of their images and the lists of their bad pixels (these
        up to three quarters of it); the reference takes 5 bytes per grid pixel besides, and the variances of
        one member at a time as much as they are.
    threads : int
        Worker threads. Neither they nor `memory_mb` change a bit of the result.

    Returns
    -------
    list of (flagged, why)
        Per member: sorted flat indices into the detector frame (uint32) and the reasons (uint8: bits
        `FIRST`, `NEIGHBOUR`, `NEGATIVE`). Pixels that `good_bits` call bad are not flagged again. Empty
        for fewer than two members.

    Raises
    ------
    ValueError
        Unknown `noise`, or bad `good_bits`.
    """
    if parameters["noise"] not in ("model", "err"):
        raise ValueError(f"noise is model or err, not {parameters['noise']!r}")
    bad = bad_bits(parameters["good_bits"])
    if status(len(members)) == "SKIPPED":
        return [_no_flags() for _ in members]
    steps = [_pixel_diagonal(member, grid) for member in members]
    # A judged pixel needs its neighbours, theirs for the derivative, and one grid pixel to interpolate.
    pad = int(np.ceil(2.5 * np.nanmax([*steps, 0.0]))) + 2
    inner = np.array([pad, grid.ny + pad, pad, grid.nx + pad]) - 0.5
    padded = grid.padded(pad)
    views = []
    for member, level, step in zip(members, levels, steps, strict=True):
        zone = inner + 0.5 * step * np.array([-1, 1, -1, 1])
        views.append(_View(member, float(level), padded, zone, bad))
    budget = parameters["memory_mb"] * 2**20
    lists = sum(view.bad.nbytes for view in views if view.window is not None)
    budget = max(budget - lists, OPEN_SHARE * budget)
    share = min((1 - OPEN_SHARE) * budget / threads, 4 * len(views) * GRID_PATCH**2)
    images = _OpenImages(budget - threads * share)
    reference = _reference(views, padded, images, parameters["maskpt"], share, threads)
    return _flags(views, images, reference, parameters, threads)


def to_tree(members: list, flags: list[tuple[np.ndarray, np.ndarray]]) -> dict:
    """Result of `detect_outliers` for files: its status, what its bits mean, a row per member."""
    rows = [
        {"exposure": member.name, "shape": list(member.shape), "flagged": flagged, "why": why}
        for member, (flagged, why) in zip(members, flags, strict=True)
    ]
    return {"status": status(len(members)), "reasons": REASONS, "members": rows}


def _no_flags() -> tuple[np.ndarray, np.ndarray]:
    return np.empty(0, np.uint32), np.empty(0, np.uint8)


def _pixel_diagonal(member, grid: Grid) -> float:
    """Diagonal of the middle detector pixel in grid pixels; NaN on the other side of the sky."""
    ny, nx = member.shape
    corners = np.array([[-0.5, 0.5, 0.5, -0.5], [-0.5, -0.5, 0.5, 0.5]])
    x, y = grid.to_pixel(*member.pixmap.sky(corners[0] + (nx - 1) / 2, corners[1] + (ny - 1) / 2))
    return float(max(np.hypot(x[2] - x[0], y[2] - y[0]), np.hypot(x[3] - x[1], y[3] - y[1])))


class _View:
    """What one member shows of the padded grid: maps, windows without bad pixels."""

    def __init__(self, member, level: float, grid: Grid, zone: np.ndarray, bad: np.uint32) -> None:
        self.member, self.level, self.zone = member, np.float32(level), zone
        self.shape = tuple(member.shape)
        self.gridmap = member.pixmap.on_grid(grid)
        self.window, box = self.gridmap.window(), self.gridmap.grid_window()
        self.noise = np.array(
            [member.sky_variance, member.pedestal - level, member.poisson_slope], float
        )
        if self.window is None or box is None:
            self.window = None
            return
        self.bad = BadPixels.of(member.dq, bad)
        origin = _origin(grid)
        rows = cut(box[0], box[1], GRID_PATCH, origin[0])
        columns = cut(box[2], box[3], GRID_PATCH, origin[1])
        self.first_patch = tuple((box[2 * k] - origin[k]) // GRID_PATCH for k in range(2))
        self.on_grid = Patches.fit(self.gridmap.inverse, rows, columns, self.gridmap.smooth)

    def on_detector(self) -> Patches:
        """Grid positions of the pixels of the window: of use for one member at a time."""
        rows = cut(self.window[0], self.window[1], DETECTOR_PATCH)
        columns = cut(self.window[2], self.window[3], DETECTOR_PATCH)
        return Patches.fit(self.gridmap.forward, rows, columns, self.gridmap.smooth, kernels.HALO)

    def variances(self, noise: str) -> list[np.ndarray]:
        """Variance planes that add up to the square of the error: maps; none for the noise model."""
        member = self.member
        planes = (member.var_rnoise, member.var_poisson, member.var_flat) if noise == "err" else ()
        return [plane for plane in planes if plane is not None]

    def patch(self, key: tuple[int, int]) -> tuple | None:
        """Positions in the patch `key` and its grid limits (y0, y1, x0, x1); None off the member."""
        if self.window is None:
            return None
        row, column = (k - first for k, first in zip(key, self.first_patch, strict=True))
        p = self.on_grid
        if not (0 <= row < len(p.rows) and 0 <= column < len(p.columns)):
            return None
        limits = (*p.rows[row], *p.columns[column])
        return p.positions(row, column, limits), limits


class _OpenImages:
    """
    Images of the members at work.

    A map holds an open file, and the pages that were read count as memory. All maps are dropped when they may
    hold more than `limit` bytes, or more than `MAX_OPEN` members are open.
    """

    def __init__(self, limit: float) -> None:
        self.limit, self.touched, self.open, self.lock = limit, 0, {}, Lock()

    def rows(self, view: _View, y0: int, y1: int) -> Rows:
        """Rows `y0` to `y1` - 1 of a member."""
        with self.lock:
            new = view not in self.open
            if self.touched > self.limit or (new and len(self.open) >= MAX_OPEN):
                self.open, self.touched, new = {}, 0, True
            if new:
                self.open[view] = view.member.data, np.zeros(view.shape[0], bool)
            data, seen = self.open[view]
            # pages are read as a whole, and some around them: about whole rows
            self.touched += 4 * view.shape[1] * int(np.count_nonzero(~seen[y0:y1]))
            seen[y0:y1] = True
        return data[y0:y1], *view.bad.of_rows(y0, y1)  # checked without the lock

    def drop(self, view: _View) -> None:
        """Drop the maps of a member that is done."""
        with self.lock:
            _, seen = self.open.pop(view, (None, False))
            self.touched -= 4 * view.shape[1] * int(np.count_nonzero(seen))


def _origin(grid: Grid) -> tuple[int, int]:
    """Grid pixel (row, column) of the tangent point: patches count from it, alike in neighbouring grids."""
    return int(np.floor(grid.y0)), int(np.floor(grid.x0))


def _reference(
    views: list[_View],
    grid: Grid,
    images: _OpenImages,
    maskpt: float,
    share: float,
    threads: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Reference and number of valid members, on the padded grid; undefined where that number is below 2."""
    reference, depth = np.empty(grid.shape, np.float32), np.zeros(grid.shape, np.uint8)
    y_origin, x_origin = _origin(grid)
    scratch = Scratch(np.float32), Scratch(np.float32)  # stacks, and windows, which are small
    network = medians.sorting_network(min(len(views), medians.FEW))

    def combine(limits: list[int]) -> None:
        key = ((limits[0] - y_origin) // GRID_PATCH, (limits[2] - x_origin) // GRID_PATCH)
        found = [(view, patch) for view in views if (patch := view.patch(key)) is not None]
        if len(found) >= 2:
            where = images, *scratch, share, reference, depth
            _combine_patch(found, network, limits, np.float32(maskpt), *where)

    rows = cut(0, grid.ny, GRID_PATCH, y_origin)
    columns = cut(0, grid.nx, GRID_PATCH, x_origin)
    in_threads(combine, [np.r_[r, c].tolist() for r in rows for c in columns], threads)
    return reference, depth


def _combine_patch(
    found: list[tuple[_View, tuple]],
    network: np.ndarray,
    limits: list[int],
    maskpt: np.float32,
    images: _OpenImages,
    stacks: Scratch,
    windows: Scratch,
    budget: float,
    reference: np.ndarray,
    depth: np.ndarray,
) -> None:
    """Reference of one patch (y0, y1, x0, x1), in bands of as many rows as the budget (bytes) holds."""
    y0, y1, x0, x1 = limits
    height = int(np.clip(budget / (4 * len(found) * (x1 - x0)), 1, y1 - y0))
    for top in range(y0, y1, height):
        bottom = min(top + height, y1)
        with stacks.array((len(found), bottom - top, x1 - x0)) as stack:
            n = 0
            for view, ((*cubic, table), (py0, py1, px0, px1)) in found:
                box = np.array([max(py0, top), min(py1, bottom), px0, px1], np.int64)
                if box[1] <= box[0]:
                    continue
                rows = np.ascontiguousarray(table[:, box[0] - py0 : box[1] - py0])
                positions = (*cubic, rows)
                window = kernels.detector_window(positions, box, view.shape)
                if window[1] <= window[0] or window[3] <= window[2]:
                    continue
                with windows.array(((window[1] - window[0]) * (window[3] - window[2]),)) as memory:
                    valid = kernels.sample(
                        images.rows(view, *window[:2]),
                        window,
                        view.level,
                        positions,
                        box,
                        maskpt,
                        memory,
                        stack[n],
                        (top, x0),
                    )
                # A member that leaves only NaN here leaves its layer to the next one.
                n += valid > 0
            if n >= 2:
                medians.combine(stack[:n], network, reference, depth, (top, x0))


def _flags(
    views: list[_View],
    images: _OpenImages,
    reference: tuple[np.ndarray, np.ndarray],
    parameters,
    threads: int,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Flagged pixels of each member and the reasons; one begins while threads still work at the one before."""
    rows = (
        (number, judge)
        for number, view in enumerate(views)
        for judge in _judges(view, images, reference, parameters)
    )
    found = [[_no_flags()] for _ in views]
    flags = in_order(lambda row: (row[0], row[1]()), rows, threads)
    for number, group in groupby(flags, key=lambda row: row[0]):
        found[number] += [part for _, part in group]
        images.drop(views[number])
    return [tuple(np.concatenate(part) for part in zip(*parts, strict=True)) for parts in found]


def _judges(
    view: _View, images: _OpenImages, reference: tuple[np.ndarray, np.ndarray], parameters
) -> list[Callable[[], tuple[np.ndarray, np.ndarray]]]:
    """What finds the flagged pixels of one member, row by row of its patches."""
    if view.window is None:
        return []
    model, (snr1, snr2) = parameters["noise"] == "model", parameters["snr"]
    scale1, scale2 = scales(view.member.optical_element, parameters["scale"], model)
    limits = np.array([scale1, snr1, scale2, snr2, parameters["backg"]], float)
    factors, patches = reference_noise_factors(model), view.on_detector()
    variances = view.variances(parameters["noise"])
    judge = partial(_judge_row, view, images, variances, patches, reference, limits, factors)
    return [partial(judge, row) for row in range(len(patches.rows))]


def _judge_row(
    view: _View,
    images: _OpenImages,
    variances: list[np.ndarray],
    patches: Patches,
    reference: tuple[np.ndarray, np.ndarray],
    limits: np.ndarray,
    factors: np.ndarray,
    row: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Flagged pixels in one row of detector patches, and the reasons."""
    halo, nx = kernels.HALO, view.shape[1]
    (y0, y1), (left, right) = patches.rows[row].tolist(), view.window[2:]
    box = np.array([y0 - halo, y1 + halo, left - halo, right + halo], np.int64)
    inside = slice(max(y0 - halo, 0), min(y1 + halo, view.shape[0]))
    rows = images.rows(view, inside.start, inside.stop)
    variance = np.zeros(rows[0].shape if variances else (0, 0), np.float32)
    for plane in variances:
        variance += plane[inside]
    why = np.empty((y1 - y0, right - left), np.uint8)
    positions = patches.positions(row, np.s_[:], box)
    given = view.level, variance, reference, positions, box, patches.columns
    kernels.judge_row(rows, *given, (view.zone, view.noise, limits, factors), why)
    flat = np.flatnonzero(why.ravel() != 0)  # without the interpreter's lock, as for one axis alone
    y, x = np.divmod(flat, right - left)
    return ((y + y0) * nx + x + left).astype(np.uint32), why[y, x]
