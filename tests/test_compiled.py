"""Kernels start without scipy's linear algebra, which others can still import."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from romosaic.compiled import compiled

SCRIPTS = Path(__file__).parent.parent / "scripts"


def test_a_first_kernel_loads_no_linear_algebra():
    code = (
        "import sys, numpy as np; from romosaic.outlier_kernels import clean;"
        "ones = np.ones((2, 2), np.float32);"
        "clean(ones, np.zeros((2, 2), np.uint32), 0, np.uint32(1), np.float32(1), ones);"
        "assert not ones.any() and 'scipy.linalg' not in sys.modules;"
        "import scipy.linalg; assert scipy.linalg.det([[2.0]]) == 2"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=SCRIPTS)


def test_divisions_by_zero_are_numpys():
    @compiled
    def ratio(a, b):
        return a / b

    assert ratio(1.0, 0.0) == np.inf
    assert np.isnan(ratio(0.0, 0.0))
