"""Machine code is loaded without what making it takes, and made anew when any of its sources changes."""

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from romosaic.compiled import compiled

SCRIPTS = Path(__file__).parent.parent / "scripts"

CALLED = """
from romosaic.compiled import compiled

@compiled
def called(x):
    return x + {}
"""
BETWEEN = """
from romosaic.compiled import compiled
from called import called

@compiled
def between(x):
    return called(x)
"""
CALLER = """
import numpy as np
from romosaic.compiled import compiled
from between import between

@compiled
def caller(values):
    if values.size == 0:
        raise ValueError("no values")
    out = np.empty(values.size - (values.size > 3) * 9)
    for i in range(values.size):
        out[i] = between(values[i])
    return out
"""
MAKING = "any(f'numba.{name}' in sys.modules for name in ('np.linalg', 'np.arrayobj', 'cpython.unicode'))"
RUN = (
    "import sys, numpy as np; from caller import caller; print(*caller(np.array([1.0, 2.0])));"
    f"print(sum(caller.stats.cache_misses.values()), {MAKING})"
)

OUTLIERS = "from outlier_scene import *; flag([exposure(pixmap) for pixmap in dithers(3)])"
COADD = "from drizzle_scene import *; coadd([exposure(), exposure()], grid(60))"


@pytest.fixture
def folder(tmp_path) -> Path:
    """Three modules with a function each, of which two call that of another one."""
    for name, text in (("called", CALLED.format(1)), ("between", BETWEEN), ("caller", CALLER)):
        (tmp_path / f"{name}.py").write_text(text)
        os.utime(tmp_path / f"{name}.py", (1, 1))  # Python knows files by size and whole seconds
    return tmp_path


def run(folder: Path, code: str = RUN) -> list[str]:
    """Values, functions that were compiled, and whether what that takes was loaded."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, check=True, cwd=folder, env={"PYTHONPATH": str(SCRIPTS)}, capture_output=True
    )
    return done.stdout.decode().split()


def test_code_that_is_there_is_loaded_alone(folder):
    assert run(folder) == ["2.0", "3.0", "1", "True"]
    assert run(folder) == ["2.0", "3.0", "0", "False"]


def test_code_follows_the_functions_that_it_calls(folder):
    """And those that they call."""
    run(folder)
    (folder / "called.py").write_text(CALLED.format(5))
    assert run(folder) == ["6.0", "7.0", "1", "True"]


def test_compiled_functions_use_nothing_else_of_other_files():
    """Numba compiles the value of a constant in; code would not follow one of another file."""
    dispatchers, found = numba.core.dispatcher.Dispatcher, 0
    for path in sorted((SCRIPTS / "romosaic").glob("*.py")):
        if "from .compiled import" not in (text := path.read_text()):
            continue
        names = vars(importlib.import_module(f"romosaic.{path.stem}"))
        froms = [node for node in ast.parse(text).body if isinstance(node, ast.ImportFrom)]
        others = {name.asname or name.name for node in froms if node.level for name in node.names}
        for value in list(names.values()):
            if isinstance(value, dispatchers) and value.py_func.__module__.endswith(path.stem):
                found += 1
                used = others & set(value.py_func.__code__.co_names)
                wrong = [name for name in used if not isinstance(names[name], dispatchers)]
                assert not wrong, f"{path.stem}.{value.py_func.__name__} uses {wrong}"
    assert found > 50


def test_code_that_is_made_takes_in_what_is_there(folder):
    run(folder)
    for path in folder.rglob("caller.caller-*"):
        path.unlink()
    assert run(folder) == ["2.0", "3.0", "1", "True"]


def test_code_that_has_run_is_taken_into_code_that_is_made(folder):
    run(folder)
    for path in folder.rglob("caller.caller-*"):
        path.unlink()
    first = (
        "from called import called; from between import between; print(called(1.0), between(2.0));"
    )
    assert run(folder, first + RUN) == ["2.0", "3.0", "2.0", "3.0", "1", "True"]
    assert run(folder) == ["2.0", "3.0", "0", "False"]  # with what was taken in


def test_errors_of_code_that_was_loaded(folder):
    code = (
        "for n in (0, 4):\n"
        "    try:\n"
        "        caller(np.ones(n))\n"
        "    except ValueError as error:\n"
        "        print(str(error).replace(' ', '_'))"
    )
    for made in ("1 True", "0 False"):
        found = run(folder, f"{RUN}\n{code}")
        assert found == [
            "2.0",
            "3.0",
            *made.split(),
            "no_values",
            "negative_dimensions_not_allowed",
        ]


@pytest.mark.parametrize("step", [OUTLIERS, COADD], ids=["outlier_detection", "resample"])
def test_steps_that_are_compiled_load_code_alone(step):
    """None of their kernels calls a function of numba's that brings linear algebra along, such as `any`."""
    code = f"{step}; import sys; print({MAKING})"
    path = {"PYTHONPATH": f"{SCRIPTS}:{Path(__file__).parent}"}
    command = [sys.executable, "-c", code]
    found = [
        subprocess.run(command, check=True, env=path, capture_output=True).stdout for _ in range(2)
    ]
    assert found[1].split() == [b"False"]


def test_divisions_by_zero_are_numpys():
    @compiled
    def ratio(a, b):
        return a / b

    assert ratio(1.0, 0.0) == np.inf
    assert np.isnan(ratio(0.0, 0.0))
