"""Parallel reading of HDF5 with stock h5py: every rank reads its own part straight into its tensor.

Raw byte-range reads were measured and gain nothing over this, and this handles every storage layout, filter
and byte order. Ranks exchange one small message at the end, which agrees that all of them succeeded and saw
the same data set.
"""

from __future__ import annotations

import errno
import itertools
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager

import h5py
import numpy as np
import torch
from ht_comm import Communicator
from ht_core import DNDarray, types

from .loading import check_readable, fill_by_blocks, load_source
from .selection import BLOCK_BYTES, Selection, plan_blocks
from .slabs import Slab, read_slab
from .storage import file_type, host_view, stored_dtype

_LISTED = 20  # data sets named in an error


def load_hdf5(
    path: str | os.PathLike,
    dataset: str,
    *,
    dtype: object = None,
    split: int | None = None,
    slices: object = None,
    device: object = None,
    comm: Communicator | None = None,
) -> DNDarray:
    """Load a data set, or a rectangular part of it, from an HDF5 file. Collective.

    Parameters
    ----------
    path : path
        File that all ranks can open.
    dataset : str
        Name of the data set within the file, e.g. ``"run1/features"``.
    dtype : dtype, optional
        Element type of the result; by default the stored one (any byte order on disk, native in memory). The
        cast is done block by block.
    split : int, optional
        Axis of the result along which it is distributed, evenly by *selected* rows; None: every rank reads
        all of it.
    slices : int, slice, Ellipsis, None, list of int or tuple of these, optional
        Part to read, as in basic indexing with positive steps; None stands for a whole axis. One axis may be
        selected by a list or 1-D array of integers, in any order, or of bools. Nothing else is read; of
        chunks, those that hold some of it.
    device : device, optional
        Where the result lives; the current default device if not given.
    comm : Communicator, optional
        Whose ranks share the result; the current one if not given.

    Returns
    -------
    DNDarray
        Shape of the selection, `split` as asked.

    Distribution
    ------------
    S(split) or R. One message in all: an allreduce of three integers after reading, in which ranks agree
    that all have succeeded and saw the same shape and type. Each rank reads only its own part, straight into
    the result's memory.

    Raises
    ------
    FileNotFoundError, IsADirectoryError, PermissionError, OSError
        The file is absent, not readable, not HDF5, truncated or damaged.
    KeyError
        There is no such data set; the text lists those there are.
    LayoutError
        `split` or `slices` do not fit the data set.
    DTypeError
        The elements are not numbers, or `dtype` would drop the imaginary part.

    Whatever rank it happens on, all ranks raise the same error.

    Examples
    --------
    >>> import ht_core, ht_io
    >>> ht_io.save_hdf5(ht_core.ones((6, 2), split=0), "ones.h5", "values")
    >>> ht_io.load_hdf5("ones.h5", "values", split=0, slices=slice(2, None)).shape
    (4, 2)
    """
    if not isinstance(dataset, str):
        raise TypeError(f"load_hdf5: dataset must be a string, got {dataset!r}")
    return load_source(
        lambda: open_dataset(path, dataset, "load_hdf5"),
        op="load_hdf5",
        dtype=dtype,
        split=split,
        slices=slices,
        device=device,
        comm=comm,
    )


@contextmanager
def open_dataset(path: object, dataset: str, op: str) -> Iterator[HDF5Source]:
    """Open a data set for reading, as a source."""
    with open_to_read(path, op) as file:
        yield HDF5Source(find_dataset(file, dataset, op), op)


class HDF5Source:
    """A data set of an open file (see `ht_io.loading`)."""

    def __init__(self, dataset: h5py.Dataset, op: str) -> None:
        self._dataset, self._op = dataset, op
        self.dtype = stored_dtype(dataset, op)
        self.shape = dataset.shape
        self.name = dataset.name
        check_complete(dataset, os.fspath(dataset.file.filename), op)

    def read_into(self, part: Selection, out: torch.Tensor) -> None:
        """Read `part` into `out`, a contiguous tensor with as many elements, casting and staging in blocks."""
        # A chunk is decompressed once per visit: blocks of whole chunks of rows visit each once (if the part
        # begins at one).
        chunks = self._dataset.chunks
        multiple = chunks[0] if chunks and part.steps[0] == 1 and part.listed is None else 1
        fill_by_blocks(part, out, self.dtype, self._read, multiple)

    def _read(self, part: Selection, out: torch.Tensor) -> None:
        """Let HDF5 read straight into `out`; only the byte order may differ from the file's."""
        if part.listed is not None:
            self._read_listed(part, out)
            return
        dataset = self._dataset
        if part.counts:
            space = h5py.h5s.create_simple(part.counts)
            where = dataset.id.get_space()
            where.select_hyperslab(part.starts, part.counts, stride=part.steps)
        else:
            space = where = h5py.h5s.create(h5py.h5s.SCALAR)
        try:
            dataset.id.read(space, where, host_view(out), mtype=file_type(self.dtype))
        except OSError as error:
            text = f"{self._op}: path must be an undamaged file, got one that fails in {dataset.name!r} of"
            raise OSError(error.errno or errno.EIO, f"{text} {dataset.file.filename!r} ({error})") from None

    def _read_listed(self, part: Selection, out: torch.Tensor) -> None:
        """Read listed indices: rows of a contiguous data set one by one, others through windows in which each
        chunk is decompressed once.
        """
        dataset, axis = self._dataset, part.listed
        offset = dataset.id.get_offset()
        if offset is not None and axis == 0:
            is_bfloat16 = self.dtype is types.bfloat16
            kind = _bfloat16_as_integer(dataset) if is_bfloat16 else dataset.dtype
            raw = out.view(torch.int16) if is_bfloat16 else out
            handle = dataset.file.id.get_vfd_handle()
            read_slab(handle, Slab.dense(offset, dataset.shape, kind), part, raw)
            return
        if axis == 0:
            self._read_windows(part, out)
            return
        line = dataset.shape[axis] * math.prod(part.counts[1:]) // part.counts[axis] * self.dtype.itemsize
        multiple = dataset.chunks[0] if dataset.chunks else 1
        for low, high in plan_blocks(part.counts[0], line, multiple):
            self._read_windows(part.rows(low, high), out[low:high])

    def _read_windows(self, part: Selection, out: torch.Tensor) -> None:
        """Read the range around the listed indices of each window of the axis, and take them from it."""
        axis = part.listed
        multiple = self._dataset.chunks[axis] if self._dataset.chunks else 1
        line = part.size // part.counts[axis] * self.dtype.itemsize
        window = max(BLOCK_BYTES // max(line, 1) // multiple, 1) * multiple
        order = np.argsort(part.indices, kind="stable")
        indices = part.indices[order]
        edges = [0, *(1 + np.flatnonzero(np.diff(indices // window))).tolist(), len(indices)]
        target = np.moveaxis(host_view(out), axis, 0)
        for first, last in itertools.pairwise(edges):
            low, high = int(indices[first]), int(indices[last - 1]) + 1
            hull = part.hull(low, high)
            scratch = torch.empty(hull.counts, dtype=self.dtype.torch)
            self._read(hull, scratch)
            target[order[first:last]] = np.moveaxis(host_view(scratch), axis, 0)[indices[first:last] - low]


def _bfloat16_as_integer(dataset: h5py.Dataset) -> np.dtype:
    is_big = dataset.id.get_type().get_order() == h5py.h5t.ORDER_BE
    return np.dtype(">i2" if is_big else "<i2")


def open_to_read(path: object, op: str) -> h5py.File:
    """Open an HDF5 file for reading, with errors that say what is wrong."""
    name = check_readable(path, op)
    try:
        return h5py.File(name, "r")
    except OSError as error:
        number = error.errno or errno.EIO
        raise OSError(number, f"{op}: path must be a complete HDF5 file, got {name!r} ({error})") from None


def find_dataset(file: h5py.File, name: str, op: str) -> h5py.Dataset:
    """Return the data set `name`, or raise a KeyError that lists what there is."""
    try:
        found = file[name] if name.strip("/") else file
    except (KeyError, ValueError) as failure:
        if isinstance(file.get(name, getlink=True), h5py.HardLink):
            text = f"{op}: path must be an undamaged file, in {file.filename!r} {name!r} cannot be opened"
            raise OSError(errno.EIO, f"{text} ({failure})") from None
        found = None
    if isinstance(found, h5py.Dataset):
        return found
    names: list[str] = []
    file.visititems(lambda key, item: _collect(names, key, item))
    what = "a group" if found is not None else "not there"
    listed = ", ".join(sorted(names[:_LISTED])) + (", ..." if len(names) > _LISTED else "")
    where = f"{file.filename!r}, which has: {listed}"
    raise KeyError(f"{op}: dataset must be a data set of the file, got {name!r}, which is {what} in {where}")


def _collect(names: list[str], key: str, item: object) -> bool | None:
    if isinstance(item, h5py.Dataset):
        names.append(key)
    return True if len(names) > _LISTED else None  # anything but None ends the visit


def check_complete(dataset: h5py.Dataset, path: str, op: str) -> None:
    """Raise if data is missing that HDF5 itself would take for zeros or fill values: a file that ends before the
    data does, and the other files of virtual and external data sets.
    """
    offset = dataset.id.get_offset()
    if offset is not None and os.path.getsize(path) < offset + dataset.id.get_storage_size():
        raise OSError(
            errno.EIO, f"{op}: path must be a complete file, got {path!r}, which ends within {dataset.name!r}"
        )
    folder = os.path.dirname(os.path.abspath(path))
    needed: list[tuple[str, int, tuple[str, ...]]] = []  # name, bytes, where HDF5 looks for it
    for source in dataset.virtual_sources() if dataset.is_virtual else ():
        name = source.file_name
        if name != "." and "%" not in name:  # "%b": as many files as there are
            needed.append((name, 0, (os.path.join(folder, name), name)))
    for name, start, size in dataset.external or ():
        needed.append((name, 0 if size == h5py.h5f.UNLIMITED else start + size, (name,)))
    for name, end, places in needed:
        found = next((place for place in places if os.path.exists(place)), None)
        if found is None or os.path.getsize(found) < end:
            what = "is missing" if found is None else "is too short"
            text = f"{op}: path must be a file whose sources are all there, got {path!r}: {name!r}"
            raise OSError(errno.ENOENT, f"{text}, of which {dataset.name!r} is made, {what}")
