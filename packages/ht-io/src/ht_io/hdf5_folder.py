"""Reading the data sets of one name out of many HDF5 files, as one array."""

from __future__ import annotations

import os
from collections.abc import Callable

from ht_comm import Communicator
from ht_core import DNDarray

from .hdf5_read import open_dataset
from .joined import load_joined

_OP = "load_multiple_hdf5"
_SUFFIXES = (".h5", ".hdf5", ".hdf", ".he5")


def load_multiple_hdf5(
    folder: str | os.PathLike,
    dataset: str,
    dtype: object = None,
    sorting_func: Callable[[str], object] | None = None,
    *,
    split: int | None = 0,
    slices: object = None,
    device: object = None,
    comm: Communicator | None = None,
) -> DNDarray:
    """Load the data set of one name from all HDF5 files of a folder, joined along axis 0. Collective.

    Parameters
    ----------
    folder : path
        Directory that all ranks see. Its files with an HDF5 suffix are read.
    dataset : str
        Name of the data set in each file. They must have one element type and equal extents but for axis 0.
    dtype : dtype, optional
        Element type of the result; by default the stored one.
    sorting_func : callable, optional
        Key by which the file names are sorted, the same on all ranks; by default the names themselves.
    split, slices, device, comm
        As in :func:`load_hdf5`; of the joined array.

    Returns
    -------
    DNDarray

    Distribution
    ------------
    S(split), even whatever the sizes of the files, or R. One allreduce of three integers. Every rank opens every
    file to learn its extent, and reads from it only rows of its own.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        The folder, or a file in it, is absent.
    LayoutError
        The data sets do not fit together.
    Exception
        As :func:`load_hdf5`; the same on all ranks.

    Examples
    --------
    >>> import os, ht_core, ht_io
    >>> if ht_core.ones(1).comm.rank == 0:
    ...     os.makedirs("runs", exist_ok=True)
    >>> ht_io.save_hdf5(ht_core.ones((2, 3)), "runs/1.h5", "x")
    >>> ht_io.save_hdf5(ht_core.ones((4, 3)), "runs/2.h5", "x")
    >>> ht_io.load_multiple_hdf5("runs", "x").shape
    (6, 3)
    """
    if not isinstance(dataset, str):
        raise TypeError(f"{_OP}: dataset must be a string, got {dataset!r}")
    return load_joined(
        folder,
        lambda path: open_dataset(path, dataset, _OP),
        op=_OP,
        suffixes=_SUFFIXES,
        axis=0,
        what="dataset",
        key=sorting_func,
        dtype=dtype,
        split=split,
        slices=slices,
        device=device,
        comm=comm,
    )
