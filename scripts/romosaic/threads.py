"""Work shared out to threads: results come in the order of their items, whatever the number of threads."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor


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
