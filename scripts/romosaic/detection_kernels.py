"""Passes over the pixels of a coadd that detection makes (numba kernels): masks, smoothing, labels."""

import numpy as np

from .compiled import compiled

# Where less than this part of a smoothing kernel meets usable pixels, there is nothing to smooth.
_LEAST_COVERED = 1e-6


@compiled
def mark_unusable(data, err, weight, largest):
    """
    Mark pixels that cannot be measured.

    Parameters
    ----------
    data, err, weight : (ny, nx) float32
    largest : float
        Least absolute value of data or err that is none.

    Returns
    -------
    (ny, nx) bool
    """
    bad = np.empty(data.shape, np.bool_)
    for row in range(data.shape[0]):
        for col in range(data.shape[1]):
            # NaN compares false.
            good = (abs(data[row, col]) < largest) & (err[row, col] < largest)
            good &= (err[row, col] > 0) & (weight[row, col] > 0) & (weight[row, col] < np.inf)
            bad[row, col] = not good
    return bad


@compiled
def expand(rows, cols, offset, low, high, bad, image):
    """
    Fill an image with a sum of products of rows and columns, within limits.

    Parameters
    ----------
    rows : (ny, k) float32
    cols : (k, nx) float32
    offset, low, high : float32
        Added to the sum; limits of the result.
    bad : (ny, nx) bool
        Pixels that become 0.
    image : (ny, nx) float32
        Written to.
    """
    line = np.empty(cols.shape[1], np.float32)
    for row in range(rows.shape[0]):
        line[:] = np.float32(0)
        for k in range(cols.shape[0]):
            weight = rows[row, k]
            for col in range(line.size):
                line[col] += weight * cols[k, col]
        for col in range(line.size):
            value = min(max(line[col] + offset, low), high)
            image[row, col] = np.float32(0) if bad[row, col] else value


@compiled
def smooth(data, bad, kernel):
    """
    Convolve with a separable kernel, unusable pixels and the outside of the image interpolated over.

    Parameters
    ----------
    data : (ny, nx) float32
        0 where `bad`.
    bad : (ny, nx) bool
    kernel : (k,) float64
        One axis of a symmetric kernel, odd length.

    Returns
    -------
    (ny, nx) float32
        0 where the kernel meets no usable pixel.
    """
    ny, nx = data.shape
    half = kernel.size // 2
    result = np.empty(data.shape, np.float32)
    holed = np.zeros(ny, np.bool_)
    for row in range(ny):
        holed[row] = bad[row].any()
    # Sums along columns, with margins for the sums along rows; 1 is the mask's.
    light, cover = np.zeros(nx + 2 * half), np.zeros(nx + 2 * half)
    inside = np.zeros(nx + 2 * half)
    inside[half : half + nx] = 1.0
    total, share = np.empty(nx), np.empty(nx)
    along = np.empty(nx)
    _along_row(inside, kernel, along)
    for row in range(ny):
        first, last = max(row - half, 0), min(row + half + 1, ny)
        light[:] = 0.0
        whole = 0.0
        for k in range(first, last):
            weight = kernel[k - row + half]
            whole += weight
            for col in range(nx):
                light[half + col] += weight * data[k, col]
        _along_row(light, kernel, total)
        if holed[first:last].any():
            cover[:] = 0.0
            for k in range(first, last):
                weight = kernel[k - row + half]
                for col in range(nx):
                    cover[half + col] += 0.0 if bad[k, col] else weight
            _along_row(cover, kernel, share)
        else:
            share[:] = whole * along
        for col in range(nx):
            value = total[col] / share[col] if share[col] > _LEAST_COVERED else 0.0
            result[row, col] = value
    return result


@compiled
def _along_row(line, kernel, out):
    """Correlate a line that has margins with a kernel."""
    out[:] = 0.0
    for k in range(kernel.size):
        weight = kernel[k]
        for col in range(out.size):
            out[col] += weight * line[col + k]


@compiled
def label(image, threshold, bad, npixels):
    """
    Label groups of pixels above a threshold that are connected by sides or corners.

    Runs of pixels along rows are joined with those they touch in the row above (union-find).

    Parameters
    ----------
    image, threshold : (ny, nx) float32
    bad : (ny, nx) bool
        Pixels that belong to no group.
    npixels : int
        Least size of a group.

    Returns
    -------
    segments : (ny, nx) int32
        Labels in the order of the groups' first pixels, row by row; 0 is background.
    n : int
        Largest label.
    """
    ny, nx = image.shape
    begin, end, starts = _runs(image, threshold, bad)
    parent = np.arange(begin.size)
    for row in range(1, ny):
        above = starts[row - 1]
        for run in range(starts[row], starts[row + 1]):
            while above < starts[row] and end[above] < begin[run]:
                above += 1
            other = above
            while other < starts[row] and begin[other] <= end[run]:
                _join(parent, run, other)
                other += 1
    size = np.zeros(begin.size, np.int64)
    for run in range(begin.size):
        size[_root(parent, run)] += end[run] - begin[run]
    segments = np.zeros((ny, nx), np.int32)
    number = np.zeros(begin.size, np.int32)
    n = 0
    for row in range(ny):
        for run in range(starts[row], starts[row + 1]):
            root = _root(parent, run)
            if size[root] < npixels:
                continue
            if number[root] == 0:
                n += 1
                number[root] = n
            segments[row, begin[run] : end[run]] = number[root]
    return segments, n


@compiled
def mark_near(segments, bad, reach):
    """
    Mark what is not sky alone: segments and what is near them, and unusable pixels.

    Parameters
    ----------
    segments : (ny, nx) int32
        0 is background.
    bad : (ny, nx) bool
    reach : int
        Half side of the square around each pixel of a segment that is near it, pixels.

    Returns
    -------
    (ny, nx) bool
    """
    ny, nx = segments.shape
    wide, near = np.empty(segments.shape, np.bool_), bad.copy()
    # Steps since the last pixel of a segment, along the rows there and back, then along all columns.
    for row in range(ny):
        steps = reach
        for col in range(nx):
            steps = 0 if segments[row, col] != 0 else steps + 1
            wide[row, col] = steps <= reach
        steps = reach
        for col in range(nx - 1, -1, -1):
            steps = 0 if segments[row, col] != 0 else steps + 1
            wide[row, col] |= steps <= reach
    for turn in range(2):
        since = np.full(nx, reach)
        for k in range(ny):
            row = k if turn == 0 else ny - 1 - k
            for col in range(nx):
                since[col] = 0 if wide[row, col] else since[col] + 1
                near[row, col] |= since[col] <= reach
    return near


@compiled
def segment_pixels(segments):
    """
    Pixels of all segments, row by row (numpy's nonzero takes four times as long).

    Parameters
    ----------
    segments : (ny, nx) int32
        0 is background.

    Returns
    -------
    rows, cols : (n,) int64
    """
    ny, nx = segments.shape
    starts = np.zeros(ny + 1, np.int64)
    for row in range(ny):
        count = 0
        for col in range(nx):
            count += segments[row, col] != 0
        starts[row + 1] = starts[row] + count
    rows, cols = np.empty(starts[ny], np.int64), np.empty(starts[ny], np.int64)
    for row in range(ny):
        k = starts[row]
        if k == starts[row + 1]:
            continue
        for col in range(nx):
            if segments[row, col] != 0:
                rows[k], cols[k] = row, col
                k += 1
    return rows, cols


@compiled
def segment_sums(data, smoothed, segments, n):
    """
    Moments, sums and bounds of segments 1..n.

    Parameters
    ----------
    data, smoothed : (ny, nx) float32
    segments : (ny, nx) int32
        0 is background.
    n : int

    Returns
    -------
    sums : (6, n) float64
        Centroid x, y and central moments xx, yy, xy of the smoothed image, negative values taken as zero; sum
        of data. NaN without light.
    bounds : (4, n) int64
        Least and largest column and row.
    area : (n,) int64
        Pixels.
    """
    rows, cols = segment_pixels(segments)
    sums, norm = np.zeros((6, n)), np.zeros(n)
    bounds, area = np.zeros((4, n), np.int64), np.zeros(n, np.int64)
    for row, col in zip(rows, cols):  # noqa: B905 (numba knows no strict)
        i = segments[row, col] - 1
        light = max(np.float64(smoothed[row, col]), 0.0)
        norm[i] += light
        sums[0, i] += light * col
        sums[1, i] += light * row
        sums[5, i] += data[row, col]
        if area[i] == 0:
            bounds[0, i], bounds[2, i] = col, row
        bounds[0, i], bounds[1, i] = min(bounds[0, i], col), max(bounds[1, i], col)
        bounds[2, i], bounds[3, i] = min(bounds[2, i], row), max(bounds[3, i], row)
        area[i] += 1
    sums[0] /= norm
    sums[1] /= norm
    for row, col in zip(rows, cols):  # noqa: B905
        i = segments[row, col] - 1
        light = max(np.float64(smoothed[row, col]), 0.0)
        dx, dy = col - sums[0, i], row - sums[1, i]
        sums[2, i] += light * dx * dx
        sums[3, i] += light * dy * dy
        sums[4, i] += light * dx * dy
    for k in range(2, 5):
        sums[k] /= norm
    return sums, bounds, area


@compiled
def touching(bad, rows, cols):
    """
    Whether pixels have a bad one among their eight neighbours.

    Parameters
    ----------
    bad : (ny, nx) bool
    rows, cols : (n,) int64

    Returns
    -------
    (n,) bool
    """
    ny, nx = bad.shape
    touched = np.zeros(rows.size, np.bool_)
    for k in range(rows.size):
        for row in range(max(rows[k] - 1, 0), min(rows[k] + 2, ny)):
            for col in range(max(cols[k] - 1, 0), min(cols[k] + 2, nx)):
                touched[k] |= bad[row, col]
    return touched


@compiled
def _runs(image, threshold, bad):
    """Runs [begin, end) of pixels above the threshold, and the first run of each row."""
    ny, nx = image.shape
    starts = np.zeros(ny + 1, np.int64)
    for row in range(ny):
        count, before = 0, False
        for col in range(nx):
            above = (image[row, col] > threshold[row, col]) & (not bad[row, col])
            count += above & (not before)
            before = above
        starts[row + 1] = starts[row] + count
    begin, end = np.empty(starts[ny], np.int64), np.empty(starts[ny], np.int64)
    for row in range(ny):
        run, before = starts[row] - 1, False
        if starts[row] == starts[row + 1]:
            continue
        for col in range(nx):
            above = (image[row, col] > threshold[row, col]) & (not bad[row, col])
            if above and not before:
                run += 1
                begin[run] = col
            if above:
                end[run] = col + 1
            before = above
    return begin, end, starts


@compiled
def _root(parent, run):
    """First run of a group; halves the way to it for the next time."""
    while parent[run] != run:
        parent[run] = parent[parent[run]]
        run = parent[run]
    return run


@compiled
def _join(parent, a, b):
    """Make two groups one; the earlier root stays."""
    a, b = _root(parent, a), _root(parent, b)
    if a < b:
        parent[b] = a
    else:
        parent[a] = b
