"""Parallel reading of HDF5 with stock h5py: every rank reads its own part straight into its tensor.

Raw byte-range reads were measured and gain nothing over this, and this handles every storage layout, filter
and byte order. Ranks exchange one small message at the end, which agrees that all of them succeeded and saw
the same data set.
"""

from __future__ import annotations

import errno
import os
import zlib

import h5py
import numpy as np
import torch
from ht_comm import Communicator, get_comm
from ht_core import DNDarray, Layout, types
from ht_core.devices import sanitize_device
from ht_core.layout import normalize_axis

from .selection import Selection, plan_blocks, plan_selection
from .storage import check_cast, empty, file_type, host_view, stored_dtype

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
    slices : int, slice, Ellipsis, None or tuple of these, optional
        Part to read, as in basic indexing with positive steps; None stands for a whole axis. Nothing else is
        read.
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
    comm = get_comm() if comm is None else comm
    error, local, layout, seen = None, None, None, None
    try:
        local, layout, seen = _read(path, dataset, dtype, split, slices, device, comm)
    except Exception as failure:
        error = failure
    _agree_same(comm, seen, error)
    return DNDarray(local, layout, comm)


def _read(
    path: object,
    dataset: object,
    dtype: object,
    split: object,
    slices: object,
    device: object,
    comm: Communicator,
) -> tuple[torch.Tensor, Layout, str]:
    target = None if dtype is None else types.canonical(dtype)
    place = sanitize_device(device).torch_device
    if not isinstance(dataset, str):
        raise TypeError(f"load_hdf5: dataset must be a string, got {dataset!r}")
    with open_to_read(path, "load_hdf5") as file:
        source = find_dataset(file, dataset, "load_hdf5")
        stored = stored_dtype(source, "load_hdf5")
        target = stored if target is None else target
        check_cast(stored, target, "load_hdf5")
        selection = plan_selection(source.shape, slices)
        shape = selection.shape
        if split is not None:
            split = normalize_axis(split, len(shape), "load_hdf5", "split")
        layout = Layout.even(shape, split, comm.size)
        check_complete(source, os.fspath(path), "load_hdf5")
        local = empty(layout.lshape(comm.rank), target.torch, place)
        read_into(source, selection.part(layout.box(comm.rank)), local, stored)
    return (
        local,
        layout,
        f"{dataset!r} of shape {source_shape(selection)}, dtype {stored}, result {layout}, {target}",
    )


def source_shape(selection: Selection) -> str:
    """Return the selection as text, for comparison between ranks."""
    return f"{selection.counts} from {selection.starts} by {selection.steps}"


def _agree_same(comm: Communicator, seen: str | None, error: Exception | None) -> None:
    """Raise the same error on all ranks if one failed or if ranks saw different things. One message when all
    is well.
    """
    mark = 0 if seen is None else zlib.crc32(seen.encode())
    failed, most, least = comm.allreduce(
        np.array([error is not None, mark, -mark], dtype=np.int64), "max"
    ).tolist()
    if not failed and most == -least:
        return
    if not failed:
        error = OSError(
            errno.EINVAL,
            "load_hdf5: path and arguments must mean the same on every rank: ranks see different things, "
            f"this one {seen}; put the file where all nodes share it",
        )
    comm.agree(error)


def open_to_read(path: object, op: str) -> h5py.File:
    """Open an HDF5 file for reading, with errors that say what is wrong."""
    name = os.fspath(path)  # TypeError if this is no path
    try:
        os.stat(name)
    except OSError as error:
        text = f"{op}: path must be an existing, readable file, got {name!r}"
        raise type(error)(error.errno, text) from None
    if os.path.isdir(name):
        raise IsADirectoryError(errno.EISDIR, f"{op}: path must be a file, got the directory {name!r}")
    try:
        return h5py.File(name, "r")
    except PermissionError:
        raise PermissionError(
            errno.EACCES, f"{op}: path must be readable by this user, got {name!r}"
        ) from None
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
    """Raise if the file ends before the data does: HDF5 itself would fill the rest with zeros."""
    offset = dataset.id.get_offset()
    if offset is not None and os.path.getsize(path) < offset + dataset.id.get_storage_size():
        raise OSError(
            errno.EIO, f"{op}: path must be a complete file, got {path!r}, which ends within {dataset.name!r}"
        )


def read_into(dataset: h5py.Dataset, part: Selection, out: torch.Tensor, stored: types.dtype) -> None:
    """Read `part` of `dataset` into `out`, a contiguous tensor with as many elements, casting and staging in
    blocks.
    """
    if part.size == 0:
        return
    out = out.view(part.counts)
    if out.dtype is stored.torch and out.device.type == "cpu":
        _read_part(dataset, part, out, stored)
        return
    if not part.counts:
        scratch = torch.empty((), dtype=stored.torch)
        _read_part(dataset, part, scratch, stored)
        out.copy_(scratch)
        return
    row_bytes = part.size // part.counts[0] * stored.itemsize
    # A chunk is decompressed once per visit: blocks of whole chunks of rows visit each once (if the part
    # begins at one).
    multiple = dataset.chunks[0] if dataset.chunks and part.steps[0] == 1 else 1
    scratch = None
    for start, stop in plan_blocks(part.counts[0], row_bytes, multiple):
        if scratch is None:
            scratch = torch.empty((stop - start, *part.counts[1:]), dtype=stored.torch)
        block = scratch[: stop - start]
        _read_part(dataset, part.rows(start, stop), block, stored)
        out[start:stop].copy_(block)


def _read_part(dataset: h5py.Dataset, part: Selection, out: torch.Tensor, stored: types.dtype) -> None:
    """Let HDF5 read straight into `out`; only the byte order may differ from the file's."""
    if not part.counts:
        space = h5py.h5s.create(h5py.h5s.SCALAR)
        dataset.id.read(space, space, host_view(out), mtype=file_type(stored))
        return
    where = dataset.id.get_space()
    where.select_hyperslab(part.starts, part.counts, stride=part.steps)
    try:
        dataset.id.read(h5py.h5s.create_simple(part.counts), where, host_view(out), mtype=file_type(stored))
    except OSError as error:
        where = f"{dataset.name!r} of {dataset.file.filename!r}"
        text = f"load_hdf5: path must be an undamaged file, got one that fails in {where} ({error})"
        raise OSError(error.errno or errno.EIO, text) from None
