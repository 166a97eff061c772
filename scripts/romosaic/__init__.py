"""romosaic: mosaics of Roman Wide Field Instrument images, one module per step of the workflow."""
