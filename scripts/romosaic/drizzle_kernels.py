"""
Compiled loops of the tiled drizzle: exact overlap sums of detector pixels with one tile of the output grid.

Square kernel, pixfrac 1 (Fruchter & Hook 2002, PASP 114, 144): a detector pixel is a quadrilateral of constant
surface brightness, and an output pixel gets that brightness times the overlap area. The area integral is turned
into one along the outline, as scan converters of font outlines do: each edge adds its signed area to the
derivative of the image along x, and a running sum along x gives the image. Neighbouring pixels share
their edges, so that an edge is walked once, with the difference of the two brightnesses.
"""

import numpy as np

from .compiled import compiled, inlined


@compiled
def _lines(c, height, middle, slope, bend):
    """Fill in the middle, half the difference of the ends, and the bend of each line of corners of a box."""
    n = c.shape[0]
    for j in range(height + 1):
        v = 2.0 * j / height - 1.0
        middle[j] = slope[j] = 0.0
        for d in range(n - 1, -1, -1):
            value = c[n - 1, d]
            for e in range(n - 2, -1, -1):
                value = value * v + c[e, d]
            if d % 2:
                slope[j] += value
            else:
                middle[j] += value
        bend[j] = value - middle[j]  # that at u = 0


@compiled
def _ranges(tiles, series, height, width):
    """Range of the column coordinate, -1 to 1, where each row of a box may overlap each tile: (n, height)."""
    low, high = np.full((len(tiles), height), -1.0), np.full((len(tiles), height), 1.0)
    middle, slope, bend = np.empty(height + 1), np.empty(height + 1), np.empty(height + 1)
    for axis in range(2):
        _lines(series[1 - axis], height, middle, slope, bend)
        # A row of pixels is its first line of corners, widened by a pixel's extent and by the line's bend.
        step, steep, most = 0.0, 0.0, 0.0
        for j in range(height + 1):
            steep, most = max(steep, abs(slope[j])), max(most, abs(bend[j]))
            if j > 0:
                turn = abs(slope[j] - slope[j - 1])
                step = max(step, abs(middle[j] - middle[j - 1]) + turn)
        slack = step + 2.0 * steep / width + 1.5 * most + 0.1
        for k in range(len(tiles)):
            for j in range(height):
                first = tiles[k, axis, 0] - slack - middle[j]
                last = tiles[k, axis, 1] + slack - middle[j]
                if slope[j] != 0.0:
                    first, last = first / slope[j], last / slope[j]
                elif first < 0.0 < last:  # along the tile's side: it never leaves the strip
                    first, last = -2.0, 2.0
                else:  # or is never in it
                    first, last = 2.0, 2.0
                low[k, j] = max(low[k, j], min(first, last))
                high[k, j] = min(high[k, j], max(first, last))
    return low, high


@compiled
def columns_on(tiles, series, height, width):
    """
    Find the columns of each row of a detector box whose pixels may overlap tiles of a field.

    Parameters
    ----------
    tiles : (n, 2, 2) int64 array
        Rows and columns (start, stop) of the tiles, from the first ones of the field.
    series : (2, m, m) float64 array
        Polynomials x and y of the positions in the field: see `drizzle_tiles.Tile`; empty where there are none.
    height, width : int
        Of the box.

    Returns
    -------
    lo, hi : (n, height) int64 arrays
        Columns [lo, hi); (width, 0) for none; all where there are no polynomials.
    windows : (n, 4) int64 array
        Rows and columns (y0, y1, x0, x1) of the box that hold all these, half-open; zeros for none.
    """
    lo, hi = np.zeros((len(tiles), height), np.int64), np.full((len(tiles), height), width)
    windows = np.zeros((len(tiles), 4), np.int64)
    if series.size == 0:
        windows[:, 1], windows[:, 3] = height, width
        return lo, hi, windows
    low, high = _ranges(tiles, series, height, width)
    for k in range(len(tiles)):
        window = windows[k]
        for j in range(height):
            if low[k, j] < high[k, j]:
                lo[k, j] = max(int(np.floor((low[k, j] + 1) / 2 * width)) - 1, 0)
                hi[k, j] = min(int(np.ceil((high[k, j] + 1) / 2 * width)) + 1, width)
            else:
                lo[k, j], hi[k, j] = width, 0
            if lo[k, j] < hi[k, j]:
                if window[1] == 0:
                    window[0], window[2] = j, width
                window[1] = j + 1
                window[2], window[3] = min(window[2], lo[k, j]), max(window[3], hi[k, j])
    return lo, hi, windows


@compiled
def _corner_line(cx, cy, corners, line, height, width, first, last, x, y):
    """Fill x, y with the tile positions of the corners `first` to `last` of a line of the box."""
    if corners.size:
        for i in range(first, last + 1):
            x[i], y[i] = corners[0, line, i], corners[1, line, i]
        return
    v = 2.0 * line / height - 1.0
    n = cx.shape[0]
    px, py = np.empty(n), np.empty(n)
    for d in range(n):
        sx, sy = cx[n - 1, d], cy[n - 1, d]
        for e in range(n - 2, -1, -1):
            sx = sx * v + cx[e, d]
            sy = sy * v + cy[e, d]
        px[d], py[d] = sx, sy
    scale = 2.0 / width
    for i in range(first, last + 1):
        u = i * scale - 1.0
        sx, sy = px[n - 1], py[n - 1]
        for d in range(n - 2, -1, -1):
            sx = sx * u + px[d]
            sy = sy * u + py[d]
        x[i], y[i] = sx, sy


@inlined
def _add_piece(buffer, row, left, right, height, rate, jumps, i):
    """Add the part of edge i within one row: from column `left` to `right`, `rate` = height per column."""
    n_columns, n_planes = buffer.shape[1] - 1, buffer.shape[2]
    if left < 0.0:  # the whole tile lies to the right of this part
        part = -rate * left if right > 0.0 else height
        height -= part
        left = 0.0
        for p in range(n_planes):
            buffer[row, 0, p] += part * jumps[i, p]
    column = int(left)
    carry = 0.0
    while right > column + 1 and column < n_columns:
        part = rate * (column + 1 - left)
        far = part * (0.5 * (left + 1.0 - column))
        near = part - far + carry
        carry = far
        for p in range(n_planes):
            buffer[row, column, p] += near * jumps[i, p]
        height -= part
        column += 1
        left = float(column)
    if column < n_columns and right > 0.0:
        far = height * (0.5 * (left + right) - column)
        near = height - far + carry
        for p in range(n_planes):
            buffer[row, column, p] += near * jumps[i, p]
            buffer[row, column + 1, p] += far * jumps[i, p]


@compiled
def _add_edges(buffer, x_start, y_start, x_end, y_end, jumps, first, last):
    """
    Add the derivatives of the edges `first` to `last` - 1, with their jumps of brightness.

    A pixel that is walked counter-clockwise has a positive jump. One call for many edges: passing the arrays
    would cost a third of the time of an edge.
    """
    n_rows, n_columns, n_planes = buffer.shape[0], buffer.shape[1] - 1, buffer.shape[2]
    for i in range(first, last):
        x0, y0, x1, y1 = x_start[i], y_start[i], x_end[i], y_end[i]
        sign = -1.0
        if y1 < y0:
            x0, x1, y0, y1, sign = x1, x0, y1, y0, 1.0
        if y1 <= 0.0 or y0 >= n_rows or y1 - y0 < 1e-30:
            continue
        change = 0.0
        for p in range(n_planes):
            change += abs(jumps[i, p])
        if change == 0.0:
            continue
        slope = (x1 - x0) / (y1 - y0)
        rate = sign * (y1 - y0) / abs(x1 - x0) if x1 != x0 else 0.0
        if y0 < 0.0:
            x0 -= y0 * slope
            y0 = 0.0
        if y1 > n_rows:
            x1 = x0 + (n_rows - y0) * slope
            y1 = float(n_rows)
        row = int(y0)
        xa, ya = x0, y0
        while ya < y1:
            xb, yb = x1, float(row + 1)
            if yb < y1:
                xb = x0 + (yb - y0) * slope
            else:
                yb = y1
            left, right = (xa, xb) if xa < xb else (xb, xa)
            if left < n_columns:
                _add_piece(buffer, row, left, right, sign * (yb - ya), rate, jumps, i)
            xa, ya = xb, yb
            row += 1


@compiled
def _brightness(planes, row, shift, x0, y0, x1, y1, first, last, out):
    """Planes over signed area of the pixels `first` to `last` - 1 between two lines of corners."""
    for i in range(first, last):
        area = 0.5 * (
            (x1[i + 1] - x0[i]) * (y1[i] - y0[i + 1]) - (x1[i] - x0[i + 1]) * (y1[i + 1] - y0[i])
        )
        rate = 1.0 / area if area != 0.0 else 0.0
        for p in range(out.shape[1]):
            out[i, p] = planes[row, i - shift, p] * rate


@compiled
def _count(planes, row, shift, x0, y0, x1, y1, first, last, crop, weight_plane):
    """Count the pixels of positive weight with their centre in the part `crop` of the tile."""
    n = 0
    for i in range(first, last):
        x = 0.25 * (x0[i] + x0[i + 1] + x1[i] + x1[i + 1])
        y = 0.25 * (y0[i] + y0[i + 1] + y1[i] + y1[i + 1])
        if crop[0] <= y < crop[1] and crop[2] <= x < crop[3]:
            n += planes[row, i - shift, weight_plane] > 0
    return n


@compiled
def _jumps_across(here, before, first, last, jumps):
    """Jumps of brightness between one row of pixels and the row before."""
    for i in range(first, last):
        for p in range(here.shape[1]):
            jumps[i, p] = here[i, p] - before[i, p]


@compiled
def _jumps_along(here, first, last, jumps):
    """Jumps of brightness between neighbours in a row, and at the row's ends."""
    for p in range(here.shape[1]):
        jumps[first, p] = -here[first, p]
        jumps[last, p] = here[last - 1, p]
    for i in range(first + 1, last):
        for p in range(here.shape[1]):
            jumps[i, p] = here[i - 1, p] - here[i, p]


@compiled
def walk_edges(buffer, planes, offset, cx, cy, corners, lo, hi, width, crop, weight_plane):
    """
    Add the derivatives along x of all pixels that overlap a tile.

    Parameters
    ----------
    buffer : (rows, columns + 1, n_planes) float64 array
        Derivatives; added to.
    planes : (ny, nx, n_planes) float32 array
        Planes of a window of the detector, finite.
    offset : tuple of int
        First row and column of the window less those of the tile's detector box.
    cx, cy : (n, n) float64 arrays
        Polynomials of the tile: see `drizzle_tiles.Tile`.
    corners : (2, rows + 1, columns + 1) or (2, 0, 0) float64 array
        Tile positions x and y of the corners of the box's pixels; empty where the polynomials give them.
    lo, hi : (rows,) int64 arrays
        Of the tile.
    width : int
        Columns of the tile's detector box.
    crop : tuple of float
        Part (y0, y1, x0, x1) of the tile in which pixels are counted.
    weight_plane : int
        Which plane is the weight.

    Returns
    -------
    int
        Number of pixels of positive weight with their centre in `crop`.
    """
    height, n_planes = lo.size, planes.shape[2]
    x0, y0 = np.empty(width + 1), np.empty(width + 1)
    x1, y1 = np.empty(width + 1), np.empty(width + 1)
    before, here = np.zeros((width, n_planes)), np.zeros((width, n_planes))
    jumps = np.empty((width + 1, n_planes))
    n_used = 0
    first0, last0 = width, 0  # columns used of the row before
    for j in range(height + 1):
        first, last = (lo[j], hi[j]) if j < height else (width, 0)
        first1, last1 = (lo[j + 1], hi[j + 1]) if j + 1 < height else (width, 0)
        if j == 0:
            _corner_line(cx, cy, corners, 0, height, width, first, last, x0, y0)
        # line j + 1 of corners, as far as rows j and j + 1 need it
        a, b = min(first, first1), max(last, last1)
        _corner_line(cx, cy, corners, j + 1, height, width, a, b, x1, y1)
        if first < last:
            row, shift = j - offset[0], offset[1]
            _brightness(planes, row, shift, x0, y0, x1, y1, first, last, here)
            n_used += _count(planes, row, shift, x0, y0, x1, y1, first, last, crop, weight_plane)
            _jumps_along(here, first, last, jumps)
            _add_edges(buffer, x0, y0, x1, y1, jumps, first, last + 1)
        a, b = min(first, first0), max(last, last0)
        _jumps_across(here, before, a, b, jumps)
        _add_edges(buffer, x0, y0, x0[1:], y0[1:], jumps, a, b)
        before[min(first0, last0) : last0] = 0.0
        before, here = here, before
        x0, y0, x1, y1 = x1, y1, x0, y0
        first0, last0 = first, last
    return n_used


@compiled
def accumulate(buffer, sums, context, bit, corner, crop, weight_plane, threshold, each):
    """
    Turn the derivatives of a tile into sums, add them to the output and leave the buffer zero.

    Parameters
    ----------
    buffer : (rows, columns + 1, n_planes) float64 array
        Derivatives along x.
    sums : (n_planes, ny, nx) float32 array
        Output planes, added to where this member's weight exceeds `threshold`.
    context : (ny, nx) uint32 array
        Bit plane of this member.
    bit : uint32
        Set in `context` where `sums` is added to.
    corner : tuple of int
        Output row and column of the tile's first pixel; may lie outside the output.
    crop : tuple of int
        Part (y0, y1, x0, x1) of the tile that lies in the output.
    weight_plane : int
        Which plane is the weight.
    threshold : float
        Largest weight that does not count.
    each : tuple of int
        As many as there are planes: the compiler knows the length of a tuple and unrolls the loops over
        planes, which saves a third of the time.

    Returns
    -------
    int
        Number of output pixels added to.
    """
    running = np.zeros(len(each))
    n_covered = 0
    for r in range(buffer.shape[0]):
        running[:] = 0.0
        inside = crop[0] <= r < crop[1]
        for c in range(buffer.shape[1]):
            for p in range(len(each)):
                running[p] += buffer[r, c, p]
                buffer[r, c, p] = 0.0
            if inside and crop[2] <= c < crop[3] and running[weight_plane] > threshold:
                y, x = corner[0] + r, corner[1] + c
                for p in range(len(each)):
                    sums[p, y, x] += np.float32(running[p])
                context[y, x] |= bit
                n_covered += 1
    return n_covered
