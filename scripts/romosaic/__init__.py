"""romosaic: mosaics of Roman Wide Field Instrument images, one module per step of the workflow."""

__version__ = "0.1.0"
