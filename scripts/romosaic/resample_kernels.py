"""Compiled loops of `resample`: planes of a detector window, and the last arithmetic of a coadd."""

import numpy as np

from .compiled import compiled


@compiled
def widen(bits, left, table, out):
    """
    Look up the float32 values of half-precision numbers.

    Parameters
    ----------
    bits : (ny, more) uint16 array
        Their bits.
    left : int
        Column of `bits` to begin with.
    table : (65536,) float32 array
        Values of all halves, in the order of their bits.
    out : (ny, nx) float32 array
        Receives the values.
    """
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            out[y, x] = table[bits[y, left + x]]


@compiled
def _weights_of_row(values, given, variances, y, keep):
    """Fill `keep` with the weights of a row of pixels, 0 for those whose values are no good."""
    for x in range(keep.size):
        fit = np.isfinite(values[x]) and 0.0 < given[x] < np.inf
        keep[x] = given[x] if fit else 0.0
    for v in variances:
        plane = v[y]
        for x in range(keep.size):
            keep[x] = keep[x] if 0.0 <= plane[x] < np.inf else 0.0


@compiled
def fill_planes(rows, left, flagged, variances, level, weights, out):
    """
    Write the planes of a detector window that are to be drizzled.

    Parameters
    ----------
    rows : tuple of arrays
        Rows of the window, from the detector's first column on: data, (ny, more) float32, MJy/sr; starts,
        (ny + 1,) int64, and columns, (n,) uint16, of the bad pixels (see `dq_list.BadPixels`), which are
        left out, as are those with a value that is not finite or a negative variance.
    left : int
        First column of the window.
    flagged : tuple of arrays
        Rows and columns in the window of outliers, which are left out, too; in the order of rows.
    variances : tuple of (ny, nx) float32 arrays
        MJy^2/sr^2.
    level : float
        Subtracted from the data, MJy/sr.
    weights : (ny, nx) or (1, nx) float32 array
        Weights of the good pixels, of each or of each column, in a unit that makes them about 1. What is no
        positive number makes a pixel bad.
    out : (ny, nx, 2 + n) float32 array
        weight (data - level), weight, weight^2 variance, ...; all zero in bad pixels.

    Returns
    -------
    n_good, n_flagged : int
        Number of good pixels, and of outliers that would be good otherwise.
    """
    n_good, n_flagged, k = 0, 0, 0
    keep = np.empty(out.shape[1], np.float32)
    for y in range(out.shape[0]):
        row = rows[0][y, left:]
        given = weights[y] if weights.shape[0] > 1 else weights[0]
        _weights_of_row(row, given, variances, y, keep)
        for j in range(rows[1][y], rows[1][y + 1]):
            x = rows[2][j] - left
            if 0 <= x < keep.size:
                keep[x] = 0.0
        while k < flagged[0].size and flagged[0][k] == y:
            x = flagged[1][k]
            n_flagged += keep[x] > 0.0
            keep[x] = 0.0
            k += 1
        for x in range(keep.size):
            n_good += keep[x] > 0.0
            out[y, x, 0] = keep[x] * (row[x] - level) if keep[x] > 0.0 else 0.0
            out[y, x, 1] = keep[x]
        p = 2
        for v in variances:
            plane = v[y]
            for x in range(keep.size):
                out[y, x, p] = keep[x] * keep[x] * plane[x] if keep[x] > 0.0 else 0.0
            p += 1
    return n_good, n_flagged


@compiled
def finish_rows(data, weight, variances, err, unit, fill):
    """
    Divide sums by weights, in place.

    Parameters
    ----------
    data, weight : (ny, nx) float32 arrays
        Sums of w d and w; the mean and the weight afterwards.
    variances : tuple of (ny, nx) float32 arrays
        Sums of w^2 v; variances of the mean afterwards.
    err : (ny, nx) float32 array
        Filled: root of the sum of the variances.
    unit : float
        Unit in which w was given.
    fill : float
        Value of uncovered data.

    Returns
    -------
    int
        Number of covered pixels.
    """
    n_covered = 0
    for y in range(data.shape[0]):
        for x in range(data.shape[1]):
            w = float(weight[y, x])
            covered = w > 0.0
            n_covered += covered
            data[y, x] = data[y, x] / w if covered else fill
            weight[y, x] = w * unit if covered else 0.0
            total = 0.0
            for v in variances:
                # kernels with negative lobes can leave a negative sum: no variance is known there
                value = v[y, x] / w / w if covered and v[y, x] >= 0.0 else np.nan
                v[y, x] = value
                total += value
            err[y, x] = np.sqrt(total)
    return n_covered


@compiled
def exposure_times(context, times, out):
    """
    Add up the exposure times of the members of each pixel.

    Parameters
    ----------
    context : (n, ny, nx) uint32 array
        Bits of the members.
    times : (n_members,) float64 array
        Exposure times, s.
    out : (ny, nx) float32 array
        Filled with the sums, s; left alone when empty.

    Returns
    -------
    float
        Largest sum, s.
    """
    n_planes, ny, nx = context.shape
    largest = 0.0
    last, total = np.zeros(n_planes, np.uint32), 0.0
    for y in range(ny):
        for x in range(nx):
            changed = False
            for p in range(n_planes):
                changed = changed or context[p, y, x] != last[p]
            if changed:  # neighbours mostly have the same members
                total = 0.0
                for p in range(n_planes):
                    last[p] = context[p, y, x]
                    for bit in range(min(32, times.size - 32 * p)):
                        if (last[p] >> np.uint32(bit)) & np.uint32(1):
                            total += times[32 * p + bit]
                largest = max(largest, total)
            if out.size:
                out[y, x] = total
    return largest
