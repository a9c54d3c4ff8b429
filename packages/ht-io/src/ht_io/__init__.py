"""Parallel files for distributed arrays, with stock wheels."""

from ._version import __version__
from .formats import FORMATS, Format, load, save
from .hdf5_folder import load_multiple_hdf5
from .hdf5_read import load_hdf5
from .hdf5_write import save_hdf5
from .netcdf_read import load_netcdf
from .netcdf_write import save_netcdf

__all__ = [
    "FORMATS",
    "Format",
    "__version__",
    "load",
    "load_hdf5",
    "load_multiple_hdf5",
    "load_netcdf",
    "save",
    "save_hdf5",
    "save_netcdf",
]
