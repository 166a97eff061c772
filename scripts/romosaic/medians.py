"""
The median over the members of a product, pixel by pixel, and how many have a value there.

Few members are sorted by a network, all pixels of a row at once; its comparators grow as n log^2 n. Many are
selected from, pixel by pixel: 1.3 times faster for 100, 2 for 300, 4 for 1200 (numpy 2, AVX2).
"""

import numpy as np

from .compiled import compiled

#: Most members that a network sorts.
FEW = 64
#: Largest depth that is told: what is made of it, in `outlier_limits`, no longer changes there.
DEEPEST = 255


def sorting_network(n: int) -> np.ndarray:
    """
    Comparators that sort n values.

    Batcher's merge exchange (Knuth, The Art of Computer Programming 3, 5.2.2, algorithm M), for any n.

    Parameters
    ----------
    n : int
        Number of values.

    Returns
    -------
    (m, 2) int64 array
        Pairs (a, b), a < b; in this order, the smaller of the two values goes to a.
    """
    pairs = []
    p = top = 1 << max((n - 1).bit_length() - 1, 0)
    while p > 0:
        q, r, d = top, 0, p
        while True:
            pairs += [(i, i + d) for i in range(n - d) if i & p == r]
            if q == p:
                break
            d, q, r = q - p, q >> 1, p
        p >>= 1
    return np.array(pairs, np.int64).reshape(-1, 2)


def combine(
    stack: np.ndarray,
    network: np.ndarray,
    reference: np.ndarray,
    depth: np.ndarray,
    origin: tuple[int, int],
) -> None:
    """
    Reference of a piece of the grid: the median of the valid members, the minimum of two.

    Parameters
    ----------
    stack : (n, ny, nx) float32 array
        Members on the grid, NaN where invalid; used up.
    network : (m, 2) int64 array
        `sorting_network` of `FEW`, or of as many as there are if these are fewer.
    reference : (gy, gx) float32 array
        Receives the reference; NaN where fewer than two members are valid.
    depth : (gy, gx) uint8 array
        Receives the number of valid members, `DEEPEST` at most.
    origin : tuple of int
        Row and column in `reference` of the first pixel of the stack.
    """
    n, ny, nx = stack.shape
    piece = np.s_[origin[0] : origin[0] + ny, origin[1] : origin[1] + nx]
    if n <= FEW:
        # Comparators among the first n lines of a network sort n values.
        _by_network(stack, network[network[:, 1] < n], reference[piece], depth[piece])
        return
    columns, valid = np.empty((nx, n), np.float32), np.empty(nx, np.int32)
    for y in range(ny):
        _balance(stack[:, y], columns, valid)
        columns.partition(n // 2, axis=1)
        below = columns[:, : n // 2].max(axis=1)
        _middle(below, columns[:, n // 2], valid, n, reference[piece][y], depth[piece][y])


@compiled
def _by_network(stack, network, reference, depth):
    n, ny, nx = stack.shape
    valid = np.empty(nx, np.int32)
    for y in range(ny):
        valid[:] = 0
        for k in range(n):
            line = stack[k, y]
            for x in range(nx):
                good = line[x] == line[x]
                valid[x] += good
                line[x] = line[x] if good else np.float32(np.inf)
        for pair in range(network.shape[0]):
            low, high = stack[network[pair, 0], y], stack[network[pair, 1], y]
            for x in range(nx):
                a, b = low[x], high[x]
                low[x] = a if a < b else b
                high[x] = b if a < b else a
        for x in range(nx):
            m = valid[x]
            value = np.float32(np.nan)
            if m == 2:
                value = stack[0, y, x]
            elif m > 2:
                value = np.float32(0.5) * (stack[(m - 1) // 2, y, x] + stack[m // 2, y, x])
            reference[y, x] = value
            depth[y, x] = min(m, DEEPEST)


@compiled
def _balance(row, columns, valid):
    """
    Copy a row of pixels with the members side by side, invalid ones in turn to the high and the low end.

    The valid ones then lie around the middle of all, wherever the valid ones of other pixels begin.
    """
    n, nx = row.shape
    valid[:] = n
    end = np.full(nx, np.inf, np.float32)
    for k in range(n):
        line = row[k]
        for x in range(nx):
            bad = line[x] != line[x]
            line[x] = end[x] if bad else line[x]
            end[x] = -end[x] if bad else end[x]
            valid[x] -= bad
    for start in range(0, nx, 16):  # columns whose ends the cache holds
        for k in range(n):
            line = row[k]
            for x in range(start, min(start + 16, nx)):
                columns[x, k] = line[x]


@compiled
def _middle(below, above, valid, n, reference, depth):
    """Reference and depth of a row, from the values of ranks n // 2 - 1 and n // 2 of n balanced ones."""
    for x in range(valid.size):
        m, first = valid[x], (n - valid[x]) // 2
        value = np.float32(np.nan)
        if m >= 2:
            low = below[x] if first + (m - 1) // 2 < n // 2 else above[x]
            high = below[x] if first + m // 2 < n // 2 else above[x]
            value = low if m == 2 else np.float32(0.5) * (low + high)
        reference[x] = value
        depth[x] = min(m, DEEPEST)
