"""romosaic: mosaics of Roman Wide Field Instrument images, one module per step of the workflow."""

import os

__version__ = "0.1.0"

# Matrices here are small, and the threads of a job its own: those of the linear algebra library, which start
# with numpy, would only spin beside them and wait for work.
for _library in ("OPENBLAS", "MKL", "OMP", "BLIS"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"
os.environ["VECLIB_MAXIMUM_THREADS"] = "1"
