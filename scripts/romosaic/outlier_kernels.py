"""
Compiled loops of outlier detection: sampling members on the grid, and the test.

Positions come as cubic polynomials on small rectangles or, where those do not follow the map, as tables of all
pixels: see `patches.Patches`. All loops are serial and free of the interpreter lock; callers run them in
threads on separate rectangles.
"""

import numpy as np

from .compiled import compiled

#: Bits of `why`: passes the first test itself; passes the second only, beside one that passes the first;
#: is fainter than the reference.
FIRST, NEIGHBOUR, NEGATIVE = 1, 2, 4
#: Detector pixels that the test needs beyond those it judges: neighbours, and their derivatives.
HALO = 2


@compiled
def _row_cubic(coefficients, v):
    """Cubic in u at row coordinate v; coefficients[power of v, power of u]."""
    c = coefficients
    a0 = c[0, 0] + v * (c[1, 0] + v * (c[2, 0] + v * c[3, 0]))
    a1 = c[0, 1] + v * (c[1, 1] + v * (c[2, 1] + v * c[3, 1]))
    a2 = c[0, 2] + v * (c[1, 2] + v * (c[2, 2] + v * c[3, 2]))
    a3 = c[0, 3] + v * (c[1, 3] + v * (c[2, 3] + v * c[3, 3]))
    return a0, a1, a2, a3


@compiled
def _fill(positions, row, y, first, xs, ys):
    """Fill xs, ys with the positions of the pixels from `first` on of row y, the given one of the box."""
    coefficients, place, table = positions
    if table.size:
        for i in range(xs.size):
            xs[i], ys[i] = table[0, row, i], table[1, row, i]
        return
    v = (y - place[2]) * place[3]
    x0, x1, x2, x3 = _row_cubic(coefficients[0], v)
    y0, y1, y2, y3 = _row_cubic(coefficients[1], v)
    for i in range(xs.size):
        u = (first + i - place[0]) * place[1]
        xs[i] = x0 + u * (x1 + u * (x2 + u * x3))
        ys[i] = y0 + u * (y1 + u * (y2 + u * y3))


@compiled
def detector_window(positions, box, shape):
    """
    Detector pixels that a piece of the grid needs, one pixel more on each side.

    Parameters
    ----------
    positions : tuple of arrays
        As in `sample`.
    box : (4,) int64 array
        Grid rows and columns (y0, y1, x0, x1), half-open.
    shape : tuple of int
        Detector (ny, nx).

    Returns
    -------
    y0, y1, x0, x1 : int
        Half-open, within the detector; empty where the piece misses it.
    """
    coefficients, place, table = positions
    x_min = y_min = np.inf
    x_max = y_max = -np.inf
    n = 0 if table.size else 3
    for j in range(n):
        v = (box[0] + 0.5 * j * (box[1] - 1 - box[0]) - place[2]) * place[3]
        x0, x1, x2, x3 = _row_cubic(coefficients[0], v)
        y0, y1, y2, y3 = _row_cubic(coefficients[1], v)
        for i in range(n):
            u = (box[2] + 0.5 * i * (box[3] - 1 - box[2]) - place[0]) * place[1]
            x = x0 + u * (x1 + u * (x2 + u * x3))
            y = y0 + u * (y1 + u * (y2 + u * y3))
            x_min, x_max = min(x_min, x), max(x_max, x)
            y_min, y_max = min(y_min, y), max(y_max, y)
    for j in range(table.shape[1]):
        for i in range(table.shape[2]):
            x, y = table[0, j, i], table[1, j, i]
            if x == x and y == y:
                x_min, x_max = min(x_min, x), max(x_max, x)
                y_min, y_max = min(y_min, y), max(y_max, y)
    if x_min > x_max:
        return 0, 0, 0, 0
    ny, nx = shape
    # The outline between the nine points bulges by far less than a pixel.
    return (
        min(max(int(np.floor(y_min)) - 1, 0), ny),
        min(max(int(np.ceil(y_max)) + 2, 0), ny),
        min(max(int(np.floor(x_min)) - 1, 0), nx),
        min(max(int(np.ceil(x_max)) + 2, 0), nx),
    )


@compiled
def clean(rows, left, level, out):
    """
    Copy a piece of a member, a level subtracted and bad pixels blanked.

    Parameters
    ----------
    rows : tuple of arrays
        Rows of the member: data, (ny, nx) float32, MJy/sr; where the bad pixels of each begin among all of
        them, and where the last ones end, (ny + 1,) int64; columns of the bad pixels, ascending in a row, (n,)
        uint16. See `dq_list.BadPixels`.
    left : int
        First column of the piece.
    level : float32
        Sky level, MJy/sr.
    out : (rows, columns) float32 array
        Receives the piece; bad pixels become NaN.
    """
    data, starts, columns = rows
    for y in range(out.shape[0]):
        values, line = data[y, left:], out[y]
        for x in range(line.size):
            value = values[x] - level
            line[x] = value if np.isfinite(value) else np.float32(np.nan)
        for k in range(starts[y], starts[y + 1]):
            x = columns[k] - left
            if x >= line.size:
                break
            if x >= 0:
                line[x] = np.nan


@compiled
def sample(rows, window, level, positions, box, min_weight, memory, out, origin):
    """
    Map a member bilinearly onto a piece of the grid.

    Bad pixels, and those outside of the window, have weight 0; the others are renormalised. The value is NaN
    where less than `min_weight` of the weight is good, and off the member.

    Parameters
    ----------
    rows : tuple of arrays
        Rows of the window, as in `clean`.
    window : tuple of int
        Detector rows and columns (y0, y1, x0, x1), half-open: from `detector_window`.
    level : float32
        As in `clean`.
    positions : tuple of float64 arrays
        Coefficients, (2, 4, 4): detector x and y as cubics, [axis, power of v, power of u]. Place, (4,):
        x0, sx, y0, sy of u = (grid x - x0) sx, v = (grid y - y0) sy. Table, (2, rows, columns): detector x
        and y of the pixels of `box`, in place of the cubics; (2, 0, 0) for these.
    box : (4,) int64 array
        Grid rows and columns (y0, y1, x0, x1), half-open.
    min_weight : float32
        Least share of good weight.
    memory : (size,) float32 array
        As long as the window has pixels, or longer; used up.
    out : (ny, nx) float32 array
        Receives the samples.
    origin : tuple of int
        Grid row and column of the first pixel of `out`.

    Returns
    -------
    int
        Number of samples that are not NaN.
    """
    size = window[1] - window[0], window[3] - window[2]
    good = memory[: size[0] * size[1]].reshape(size)
    clean(rows, window[2], level, good)
    out[:] = np.float32(np.nan)
    count, corner = 0, (window[0], window[2])
    xs, ys = np.empty(box[3] - box[2]), np.empty(box[3] - box[2])
    for j in range(box[1] - box[0]):
        line = out[box[0] + j - origin[0], box[2] - origin[1] :]
        _fill(positions, j, box[0] + j, box[2], xs, ys)
        count += _sample_row(good, corner, xs, ys, min_weight, line)
    return count


@compiled
def _sample_row(good, corner, xs, ys, min_weight, line):
    """Fill a row of grid pixels with samples; return how many are not NaN."""
    ny, nx = good.shape
    count = 0
    for i in range(xs.size):
        x, y = xs[i], ys[i]
        if not (x > -2.0 and y > -2.0):  # NaN off the detector has no way to integers
            continue
        # The fractions are taken before the window's offset: they must not depend on the window.
        ix, iy = int(np.floor(x)), int(np.floor(y))
        fx, fy = np.float32(x - ix), np.float32(y - iy)
        iy, ix = iy - corner[0], ix - corner[1]
        value = np.float32(np.nan)
        if ix >= 0 and iy >= 0 and ix < nx - 1 and iy < ny - 1:
            upper = good[iy, ix] + fx * (good[iy, ix + 1] - good[iy, ix])
            lower = good[iy + 1, ix] + fx * (good[iy + 1, ix + 1] - good[iy + 1, ix])
            value = upper + fy * (lower - upper)
        if value != value and ix >= -1 and iy >= -1 and ix < nx and iy < ny:
            value = _renormalised(good, iy, ix, fy, fx, min_weight)
        line[i] = value
        count += value == value
    return count


@compiled
def _renormalised(window, iy, ix, fy, fx, min_weight):
    """Bilinear value over the good ones of four pixels; NaN below the least weight."""
    total, value, one = np.float32(0), np.float32(0), np.float32(1)
    for dy in range(2):
        for dx in range(2):
            y, x = iy + dy, ix + dx
            if 0 <= y < window.shape[0] and 0 <= x < window.shape[1]:
                pixel = window[y, x]
                if pixel == pixel:
                    weight = (fy if dy else one - fy) * (fx if dx else one - fx)
                    total += weight
                    value += weight * pixel
    return value / total if total > 0 and total >= min_weight else np.float32(np.nan)


@compiled
def _blot(reference, depth, positions, box, zone, blot, members):
    """
    Interpolate the reference linearly at detector pixels.

    `members` receives the least depth of the four grid pixels: 0 where there is no reference, negative outside
    of the judged `zone` (those pixels serve as neighbours only).
    """
    gy, gx = reference.shape
    xs, ys = np.empty(box[3] - box[2]), np.empty(box[3] - box[2])
    for j in range(box[1] - box[0]):
        _fill(positions, j, box[0] + j, box[2], xs, ys)
        for i in range(box[3] - box[2]):
            x, y = xs[i], ys[i]
            blot[j, i] = np.float32(np.nan)
            members[j, i] = 0
            if not (x >= 0 and y >= 0 and x < gx - 1 and y < gy - 1):
                continue
            ix, iy = int(x), int(y)
            least = min(
                min(depth[iy, ix], depth[iy, ix + 1]),
                min(depth[iy + 1, ix], depth[iy + 1, ix + 1]),
            )
            if least < 2:
                continue
            fx, fy = np.float32(x - ix), np.float32(y - iy)
            top = reference[iy, ix] + fx * (reference[iy, ix + 1] - reference[iy, ix])
            low = reference[iy + 1, ix] + fx * (reference[iy + 1, ix + 1] - reference[iy + 1, ix])
            blot[j, i] = top + fy * (low - top)
            inside = zone[0] <= y <= zone[1] and zone[2] <= x <= zone[3]
            # Signed before the minus: unsigned numbers have no negative.
            members[j, i] = np.int16(least) if inside else -np.int16(least)


@compiled
def _derivative(blot, j, i):
    """Largest absolute difference from the four neighbours, and whether one of them has no value."""
    value, largest, rim = blot[j, i], np.float32(0), False
    for dj, di in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        step = abs(blot[j + dj, i + di] - value)
        if step > largest:
            largest = step
        rim |= step != step
    return largest, rim


@compiled
def _slope(reference, positions, box, j, i):
    """Steepest change of the reference over one detector pixel, in the grid cell of pixel (j, i) of `box`."""
    coefficients, place, table = positions
    xs, ys = np.empty(1), np.empty(1)
    if table.size:
        xs[0], ys[0] = table[0, j, i], table[1, j, i]
        step = 0.5 * np.hypot(
            table[0, j, i + 1] - table[0, j, i - 1], table[1, j, i + 1] - table[1, j, i - 1]
        )
    else:
        _fill(positions, j, box[0] + j, box[2] + i, xs, ys)
        v = (box[0] + j - place[2]) * place[3]
        _, a1, _, _ = _row_cubic(coefficients[0], v)
        _, b1, _, _ = _row_cubic(coefficients[1], v)
        step = place[1] * np.hypot(a1, b1)
    ix, iy = int(xs[0]), int(ys[0])
    r00, r01 = reference[iy, ix], reference[iy, ix + 1]
    r10, r11 = reference[iy + 1, ix], reference[iy + 1, ix + 1]
    steepest = max(max(abs(r01 - r00), abs(r11 - r10)), max(abs(r10 - r00), abs(r11 - r01)))
    return steepest * step


@compiled
def _beside(first, j, i):
    """Whether a pixel or one of its neighbours is set."""
    for b in range(j - 1, j + 2):
        for a in range(i - 1, i + 2):
            if first[b, a]:
                return True
    return False


@compiled
def _reasons(data, blot, members, first, second, backg, why):
    """Bits of the pixels that fail the second test beside one (or being one) that fails the first."""
    ny, nx = data.shape
    for j in range(2, ny - 2):
        for i in range(2, nx - 2):
            bits = 0
            if second[j, i] and members[j, i] > 0 and _beside(first, j, i):
                bits = FIRST if first[j, i] else NEIGHBOUR
                if data[j, i] < blot[j, i] + backg:
                    bits |= NEGATIVE
            why[j - 2, i - 2] = bits


@compiled
def judge_row(rows, level, variance, reference, positions, box, columns, rules, why):
    """
    Compare a row of rectangles of detector pixels with the reference, in romancal's two passes.

    A pixel fails where ``|data - blot - backg| > scale * derivative + snr * error``: with the first scale and
    snr itself, or with the second while one of its 3x3 neighbours fails the first. At the rim of the reference,
    where one of the four neighbours has no blot and a source on that side would go unseen, the derivative is
    also measured within the pixel's own cell of the grid.

    Parameters
    ----------
    rows, level
        As in `sample`: those of `box` that the detector has.
    variance : (rows, nx) or (0, 0) float32 array
        Variance of each pixel of `rows`; empty selects the noise model.
    reference : tuple of (gy, gx) float32 and uint8 arrays
        Reference and depth, from `medians.combine`.
    positions : tuple of float64 arrays
        Grid positions, as in `sample`: coefficients, (n, 2, 4, 4), and places, (n, 4), of all rectangles, and a
        table of all pixels of `box`.
    box : (4,) int64 array
        Detector rows and columns (y0, y1, x0, x1) of the rectangles and `HALO` around them, half-open.
    columns : (n, 2) int64 array
        Columns of the rectangles, half-open.
    rules : tuple of float64 arrays
        Zone, (4,): grid positions (y0, y1, x0, x1) between which pixels are judged. Noise model, (3,): sky
        variance, pedestal on the scale of data less `level`, variance per unit of signal above it. Limits,
        (5,): scale 1, snr 1, scale 2, snr 2, backg. Factors, (256, 2), by number of members in the reference:
        factor of the variance; then the square to take off the derivative, in units of that product.
    why : (rows, columns) uint8 array
        Receives the bits FIRST, NEIGHBOUR, NEGATIVE of the rectangles' pixels; 0 where nothing is wrong.
    """
    coefficients, place, table = positions
    (ny, nx), height, low = rows[0].shape, box[1] - box[0], max(-box[0], 0)
    for k in range(len(columns)):
        x0, x1 = columns[k, 0] - HALO, columns[k, 1] + HALO
        first, stop = max(x0, 0), min(x1, nx)
        data = np.full((height, x1 - x0), np.float32(np.nan))
        inner = data[low : low + ny, first - x0 : stop - x0]
        clean(rows, first, level, inner)
        spread = np.zeros(data.shape if variance.size else (0, 0), np.float32)
        if variance.size:
            spread[low : low + ny, first - x0 : stop - x0] = variance[:, first:stop]
        part = table[:, :, x0 - box[2] : x1 - box[2]] if table.size else table
        where = coefficients[k], place[k], part
        out = why[:, columns[k, 0] - columns[0, 0] : columns[k, 1] - columns[0, 0]]
        _judge(data, spread, reference, where, np.array([box[0], box[1], x0, x1]), rules, out)


@compiled
def _judge(data, variance, reference, positions, box, rules, why):
    """Compare one rectangle, and `HALO` around it: see `judge_row`."""
    image, depth = reference
    zone, noise, limits, factors = rules
    ny, nx = data.shape
    blot = np.empty((ny, nx), np.float32)
    members = np.empty((ny, nx), np.int16)
    _blot(image, depth, positions, box, zone, blot, members)
    first = np.zeros((ny, nx), np.bool_)
    second = np.zeros((ny, nx), np.bool_)
    for j in range(1, ny - 1):
        for i in range(1, nx - 1):
            difference = abs(data[j, i] - blot[j, i] - limits[4])
            if not difference > 0:  # also NaN
                continue
            if variance.size:
                v = float(variance[j, i])
            else:
                v = noise[0] + max(blot[j, i] - noise[1], 0.0) * noise[2]
            v *= factors[abs(members[j, i]), 0]
            steepest, rim = _derivative(blot, j, i)
            if rim:
                slope = _slope(image, positions, box, j, i)
                steepest = max(steepest, slope)
            derivative = np.sqrt(max(steepest**2 - factors[abs(members[j, i]), 1] * v, 0.0))
            first[j, i] = difference > limits[0] * derivative + limits[1] * np.sqrt(v)
            second[j, i] = difference > limits[2] * derivative + limits[3] * np.sqrt(v)
    _reasons(data, blot, members, first, second, limits[4], why)
