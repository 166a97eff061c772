"""The decorator of compiled loops; numba is started here, without what they do not need."""

import sys
from collections.abc import Callable
from typing import Any

from numba import njit


def _start() -> None:
    """
    Load what numba loads before its first kernel, without scipy's linear algebra.

    Numba only asks whether there is one; that would be half of the time that a step waits for its first kernel.
    No kernel uses it: one that did would be refused when it is compiled. Modules are imported by one thread,
    before a step has others: none of them misses what is hidden for the moment.
    """
    hidden = "scipy.linalg" not in sys.modules
    if hidden:
        sys.modules["scipy.linalg"] = None  # an import of it fails while this stands
    try:
        import numba.np.arraymath  # noqa: F401
    finally:
        if hidden:
            del sys.modules["scipy.linalg"]


_start()
_decorate = njit(cache=True, nogil=True, error_model="numpy")


def compiled(function: Callable) -> Any:
    """
    Compile a function at its first call, once for all processes.

    It runs without the interpreter's lock, so that threads share out the work. Divisions by zero give what
    numpy gives.
    """
    return _decorate(function)
