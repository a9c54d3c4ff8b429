"""Parallel files for distributed arrays, with stock wheels."""

from . import checkpoint
from ._version import __version__
from .contents import ArrayInfo, Contents
from .csv_read import load_csv, load_csv_from_folder
from .csv_write import save_csv
from .formats import FORMATS, Format, load, save
from .hdf5_folder import load_multiple_hdf5
from .hdf5_read import load_hdf5
from .hdf5_write import save_hdf5
from .inspecting import attributes, inspect
from .netcdf_read import load_netcdf
from .netcdf_write import save_netcdf
from .npy import load_npy, load_npy_from_path, save_npy
from .npz import load_npz, save_npz
from .streaming import Stream, stream
from .zarr_read import load_zarr
from .zarr_write import save_zarr

__all__ = [
    "FORMATS",
    "ArrayInfo",
    "Contents",
    "Format",
    "Stream",
    "__version__",
    "attributes",
    "checkpoint",
    "inspect",
    "load",
    "load_csv",
    "load_csv_from_folder",
    "load_hdf5",
    "load_multiple_hdf5",
    "load_netcdf",
    "load_npy",
    "load_npy_from_path",
    "load_npz",
    "load_zarr",
    "save",
    "save_csv",
    "save_hdf5",
    "save_netcdf",
    "save_npy",
    "save_npz",
    "save_zarr",
    "stream",
]
