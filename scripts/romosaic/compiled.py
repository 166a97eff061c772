"""The decorators of compiled loops; numba is started here, without what they do not need."""

import gc
import sys
from collections.abc import Callable
from typing import Any


def _start() -> Callable:
    """
    Load what numba loads before its first kernel, without scipy's linear algebra, and return its decorator.

    Numba only asks whether there is one; that would be half of the time that a step waits for its first kernel.
    No kernel uses it: one that did would be refused when it is compiled. Modules are imported by one thread,
    before a step has others: none of them misses what is hidden for the moment.

    Python's search for garbage would go through these modules time and again: it is told that they stay.
    """
    hidden, searches = "scipy.linalg" not in sys.modules, gc.isenabled()
    if hidden:
        sys.modules["scipy.linalg"] = None  # an import of it fails while this stands
    gc.disable()
    try:
        import numba.np.arraymath
    finally:
        gc.freeze()
        if searches:
            gc.enable()
        if hidden:
            del sys.modules["scipy.linalg"]
    return numba.njit


_njit = _start()
_decorate = _njit(cache=True, nogil=True, error_model="numpy")
#: For loops that become part of those that call them.
inlined = _njit(inline="always")


def compiled(function: Callable) -> Any:
    """
    Compile a function at its first call, once for all processes.

    It runs without the interpreter's lock, so that threads share out the work. Divisions by zero give what
    numpy gives.
    """
    return _decorate(function)
