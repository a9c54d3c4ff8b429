"""Parallel files for distributed arrays, with stock wheels."""

from ._version import __version__
from .formats import FORMATS, Format, load, save
from .hdf5_read import load_hdf5
from .hdf5_write import save_hdf5

__all__ = ["FORMATS", "Format", "__version__", "load", "load_hdf5", "save", "save_hdf5"]
