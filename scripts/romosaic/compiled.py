"""The decorators of compiled loops, and where their machine code is kept."""

import gc
import importlib
import sys
from collections.abc import Callable
from functools import cache, partial
from types import FunctionType, ModuleType, SimpleNamespace

# Python's search for garbage would go through numba's modules time and again: it is told that they stay.
_searches = gc.isenabled()
gc.disable()
try:
    from llvmlite.binding import parse_assembly, parse_bitcode
    from numba import njit
    from numba.core import entrypoints, environment
    from numba.core.caching import CompileResultCacheImpl, FunctionCache
    from numba.core.runtime import rtsys
finally:
    gc.freeze()
    if _searches:
        gc.enable()


def _named(name: str) -> ModuleType:
    """Return a module, an empty one in place of those of numba that are not there."""
    if name.startswith("numba.") and name not in sys.modules:
        return ModuleType(name)
    return importlib.import_module(name)


# Code that was kept names the modules that it was made of, which take 0.02 s. What it has of them is for code
# that the interpreter runs, of which there is none. (Of numba 0.68.)
environment.importlib = SimpleNamespace(import_module=_named)


# No loop here is made of what other packages teach numba; to look for them opens a file of each package.
entrypoints._already_initialized = True


class _Kept(CompileResultCacheImpl):
    """Machine code as it was kept; what code of its callers is made of is read when that happens."""

    def rebuild(self, target_context, payload):
        if payload[0][1] != "object":
            return super().rebuild(target_context, payload)
        (name, kind, (code, bitcode)), *rest = payload
        # all that is looked up by name
        target_context.codegen()._engine._defined_symbols.add(rest[0].llvm_cpython_wrapper_name)
        found = super().rebuild(target_context, [(name, kind, (code, _nothing())), *rest])
        found.library._get_module_for_linking = cache(partial(parse_bitcode, bitcode))
        return found


@cache
def _nothing() -> bytes:
    """Return what stands for the bitcode of no functions."""
    return parse_assembly("").as_bitcode()


class _Cache(FunctionCache):
    """
    Machine code on disk, without two habits of numba's own cache.

    Before that loads code, it reads all that making code takes, in each process: 0.1 s, and 0.3 s for scipy's
    linear algebra, which belongs to it. And it asks whether the file of a function has changed, but not the
    files of the functions that it calls: their old code would live on in its own.

    Parameters
    ----------
    function : function
        Of a module that has imported the compiled functions that it calls.
    """

    _impl_class = _Kept

    def __init__(self, function: FunctionType) -> None:
        super().__init__(function)
        caches = [getattr(value, "_cache", None) for value in function.__globals__.values()]
        called = [cache.stamps for cache in caches if isinstance(cache, _Cache)]
        #: Hashes of the files that the code is made of.
        self.stamps = {self._impl.locator.get_source_stamp()}.union(*called)
        self._cache_file._source_stamp = tuple(sorted(self.stamps))

    def load_overload(self, sig, target_context):
        rtsys.initialize(target_context)  # what gives the code memory for its arrays
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)


_decorate = njit(nogil=True, error_model="numpy")
#: For loops that become part of those that call them.
inlined = njit(inline="always")


def compiled(function: FunctionType) -> Callable:
    """
    Compile a function at its first call, once for all processes.

    It runs without the interpreter's lock, so that threads share out the work. Divisions by zero give what
    numpy gives.
    """
    dispatcher = _decorate(function)
    dispatcher._cache = _Cache(function)
    return dispatcher
