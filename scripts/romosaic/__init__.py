"""romosaic: mosaics of Roman Wide Field Instrument images, one module per step of the workflow."""

import os

__version__ = "0.1.0"

#: Set for whoever imports this, and for the processes that it starts. Matrices here are small, and the threads
#: of a job its own: those of the linear algebra library, which start with numpy, would only spin beside them.
#: Not OMP_NUM_THREADS, which other programs obey too (nproc).
ONE_THREAD = {
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "BLIS_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
}
os.environ.update(ONE_THREAD)
