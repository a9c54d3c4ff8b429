"""`load` and `save` by the suffix of the file name, through a table of formats that packages can extend.

A package adds a format by an entry point of the group ``ht_io.formats`` whose name is the suffix without its
dot and whose object is a :class:`Format`; it is imported when a file with that suffix is first met. A format of this
package is a row of ``FORMATS``. How its two functions are written: :mod:`ht_io.loading` for reading,
:mod:`ht_io.saving` for writing; :mod:`ht_io.slabs` and :mod:`ht_io.raw` move plain bytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.metadata import entry_points

from ht_core import DNDarray

from .contents import (
    Contents,
    describe_csv,
    describe_hdf5,
    describe_netcdf,
    describe_npy,
    describe_npz,
    describe_zarr,
)
from .csv_read import load_csv
from .csv_write import save_csv
from .hdf5_read import load_hdf5, open_dataset
from .hdf5_write import save_hdf5
from .loading import Source
from .netcdf_read import load_netcdf, open_variable
from .netcdf_write import save_netcdf
from .npy import load_npy, open_npy, save_npy
from .npz import load_npz, open_member, save_npz
from .zarr_read import load_zarr, open_zarr
from .zarr_write import save_zarr

GROUP = "ht_io.formats"


@dataclass(frozen=True, slots=True)
class Format:
    """A file format: `load(path, ...)` returns a DNDarray, `save(x, path, ...)` writes one; both are
    collective. `open(path, name, op)`, for what is read in parts, is a context manager that gives a source (see
    `ht_io.loading`) on one rank. `inspect(path, op)` returns what a file holds, on one rank.
    """

    name: str
    load: Callable | None
    save: Callable | None
    open: Callable[[object, object, str], AbstractContextManager[Source]] | None = None
    inspect: Callable[..., Contents] | None = None


def _named(opener: Callable) -> Callable:
    """Return `opener` for formats whose files hold several arrays."""

    def open_named(path: object, name: object, op: str) -> AbstractContextManager[Source]:
        if not isinstance(name, str):
            raise TypeError(f"{op}: name must be that of an array in the file, got {name!r}")
        return opener(path, name, op)

    return open_named


def _open_npy(path: object, name: object, op: str) -> AbstractContextManager[Source]:
    if name is not None:
        raise TypeError(f"{op}: name must be None for a file of one array, got {name!r}")
    return open_npy(path, op)


HDF5 = Format("HDF5", load_hdf5, save_hdf5, _named(open_dataset), describe_hdf5)
NETCDF = Format("NetCDF", load_netcdf, save_netcdf, _named(open_variable), describe_netcdf)
FORMATS: dict[str, Format] = {
    **dict.fromkeys((".h5", ".hdf5", ".hdf", ".he5"), HDF5),
    **dict.fromkeys((".nc", ".nc4", ".netcdf", ".cdf"), NETCDF),
    ".csv": Format("CSV", load_csv, save_csv, None, describe_csv),
    ".npy": Format("NPY", load_npy, save_npy, _open_npy, describe_npy),
    ".npz": Format("NPZ", load_npz, save_npz, _named(open_member), describe_npz),
    ".zarr": Format("Zarr", load_zarr, save_zarr, open_zarr, describe_zarr),
}


def find_format(path: str | os.PathLike, op: str) -> Format:
    """Return the format for the suffix of `path`.

    Raises
    ------
    ValueError
        If no installed format has it, or the format cannot do `op` ("load", "save" or "inspect").
    """
    name = os.fsdecode(path)
    suffix = os.path.splitext(name)[1].lower()
    if suffix not in FORMATS:
        for point in entry_points(group=GROUP, name=suffix[1:]):
            FORMATS[suffix] = point.load()
    if suffix not in FORMATS or getattr(FORMATS[suffix], op) is None:
        known = ", ".join(sorted(s for s, f in FORMATS.items() if getattr(f, op) is not None))
        raise ValueError(
            f"{op}: path must end in one of {known}, got {name!r}; other packages add formats by {GROUP}"
        )
    return FORMATS[suffix]


def load(path: str | os.PathLike, *args: object, **options: object) -> DNDarray:
    """Load an array from a file whose format is known by its suffix. Collective.

    Parameters
    ----------
    path : path
    *args, **options
        Those of the format's function, e.g. :func:`load_hdf5` for ``.h5``: the data set, `split`, `dtype`,
        `slices`.

    Returns
    -------
    DNDarray

    Distribution
    ------------
    That of the format's function.

    Raises
    ------
    ValueError
        If the suffix is unknown.
    """
    return find_format(path, "load").load(path, *args, **options)


def save(x: object, path: str | os.PathLike, *args: object, **options: object) -> None:
    """Save an array to a file whose format is known by its suffix. Collective.

    Parameters
    ----------
    x : DNDarray or what the format's function takes
    path : path
    *args, **options
        Those of the format's function, e.g. :func:`save_hdf5` for ``.h5``: the data set, `mode`, `dtype`.

    Distribution
    ------------
    That of the format's function.

    Raises
    ------
    ValueError
        If the suffix is unknown.
    """
    find_format(path, "save").save(x, path, *args, **options)
