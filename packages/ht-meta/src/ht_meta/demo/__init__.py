"""``python -m ht_meta demo``: an analysis of an astronomical image, from HDF5 files to a picture, on any
number of ranks.
"""

from .pipeline import DemoError, Options, run_demo

__all__ = ["DemoError", "Options", "run_demo"]
