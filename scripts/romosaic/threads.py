"""Work shared out to threads: results come in the order of their items, whatever the number of threads."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from math import prod
from queue import Empty, SimpleQueue

import numpy as np


def in_threads(function: Callable, items: Iterable, threads: int) -> list:
    """Return ``[function(item) for item in items]``, worked out by up to `threads` threads."""
    if threads <= 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, items))


def in_order(function: Callable, items: Iterable, threads: int) -> Iterator:
    """
    Yield ``function(item)`` for each item, worked out ahead of its use.

    Parameters
    ----------
    function : callable
        Of one item.
    items : iterable
        Taken one by one, no faster than the results are.
    threads : int
        Threads, and how many results they are ahead; with 1 each is worked out when it is asked for.

    Yields
    ------
    object
        Results, in the order of the items.
    """
    if threads <= 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


class Scratch:
    """
    Memory of passing arrays, used again.

    That of a new array is cleared page by page, which takes as long as most of what is done in it, and threads
    wait for each other there.

    Parameters
    ----------
    dtype : dtype
        Of the arrays.
    """

    def __init__(self, dtype: type) -> None:
        self._dtype, self._free = dtype, SimpleQueue()

    @contextmanager
    def array(self, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
        """
        Lend an array.

        Parameters
        ----------
        shape : tuple of int
            Its shape.

        Yields
        ------
        array
            Zero at first, later as it was left; nobody else's until the block ends.
        """
        try:
            memory = self._free.get_nowait()
        except Empty:
            memory = np.zeros(0, self._dtype)
        size = prod(shape)
        if memory.size < size:
            memory = np.zeros(size, self._dtype)
        yield memory[:size].reshape(shape)
        self._free.put(memory)
