"""Writing through parallel HDF5, where h5py is built with it: collective writes of every rank's part."""

from __future__ import annotations

import ctypes
import errno
import os
import re
from dataclasses import replace

import h5py
import numpy as np
import torch
from ht_comm import Communicator

from .plan_write import Item
from .selection import BLOCK_BYTES
from .storage import file_type, host_view

ENGINES = ("auto", "posix", "mpio")


def choose_engine(items: list[Item], engine: str | None, comm: Communicator, op: str) -> list[Item]:
    """Return the items with the method that `engine` means.

    Raises
    ------
    ValueError
        If it is unknown, or is "mpio" and h5py cannot do that on `comm`.
    """
    engine = os.environ.get("HT_IO_ENGINE", "auto") if engine is None else engine
    if engine not in ENGINES:
        raise ValueError(f"{op}: engine must be one of {', '.join(ENGINES)}, got {engine!r}")
    if engine == "posix":
        return items
    wanted = ("turns",) if engine == "auto" else ("raw", "chunks", "turns")
    chosen = [item.method in wanted and not _has_other_filter(item) for item in items]
    if not any(chosen) or comm.handle is None:
        return items  # threads and single processes have no MPI to hand to HDF5
    obstacle = _obstacle()
    if obstacle is not None:
        if engine == "mpio":
            raise ValueError(f"{op}: engine must be 'auto' or 'posix' here, got 'mpio': {obstacle}")
        return items
    return [replace(item, method="mpio") if is_chosen else item for item, is_chosen in zip(items, chosen)]


def _has_other_filter(item: Item) -> bool:
    """Tell whether the data set has, or may have, other filters than gzip.

    LZF came out unreadable from parallel HDF5 1.10, presumably chunks that it leaves as they are.
    """
    if item.place is not None:
        return item.chunks is not None
    return item.chunks is not None and item.compression is not None and item.level is None


def _obstacle() -> str | None:
    """Return why parallel HDF5 cannot be used, None if it can. Two MPI libraries in one process would crash it."""
    if not h5py.get_config().mpi:
        return "h5py is not built with parallel HDF5"
    from mpi4py import MPI  # ranks run on it already

    linked = _linked_version()
    running = MPI.Get_library_version()
    if linked is not None and _first_line(linked) != _first_line(running):
        return f"h5py is built with {_first_line(linked)!r}, and this job runs on {_first_line(running)!r}"
    return None


def _linked_version() -> str | None:
    """Ask the MPI library that HDF5 is linked with for its version; None where the system does not tell."""
    try:
        with open("/proc/self/maps") as maps:
            paths = set(re.findall(r"\S*/libhdf5[^/\s]*\.so\S*", maps.read()))
        for path in sorted(path for path in paths if "_hl" not in path):
            ask = ctypes.CDLL(path).MPI_Get_library_version
            text, length = ctypes.create_string_buffer(8192), ctypes.c_int()
            ask(text, ctypes.byref(length))
            return text.value.decode(errors="replace")
    except (OSError, AttributeError):
        return None
    return None


def _first_line(text: str) -> str:
    return " ".join(text.strip("\0\n ").splitlines()[0].split())


def write_with_mpio(
    path: str, items: list[Item], comm: Communicator, error: Exception | None
) -> Exception | None:
    """Write `items` into the file at `path`; return what went wrong instead of raising.

    Distribution
    ------------
    One agreement, then HDF5's own: collective writes of at most 8 MiB per rank.
    """
    try:
        comm.agree(error)  # nobody enters HDF5's collectives alone
    except Exception as failure:
        return failure
    try:
        with h5py.File(path, "r+", driver="mpio", comm=comm.handle) as file:
            transfer = h5py.h5p.create(h5py.h5p.DATASET_XFER)
            transfer.set_dxpl_mpio(h5py.h5fd.MPIO_COLLECTIVE)
            for item in items:
                error = _write_item(file[item.name], item, comm, transfer) or error
    except Exception as failure:
        error = error or failure
    if isinstance(error, OSError) and not error.errno:
        error = OSError(errno.EIO, f"save: path must be on a file system that takes the data: {error}")
    return error


def _write_item(
    dataset: h5py.Dataset, item: Item, comm: Communicator, transfer: h5py.h5p.PropDXID
) -> Exception | None:
    """Write all blocks of an item; after a failure go on with empty ones, as other ranks wait in the call."""
    error = None
    lshapes = [item.layout.lshape(rank) for rank in range(comm.size)]
    row_bytes = max(int(np.prod(shape[1:])) for shape in lshapes) * item.dtype.itemsize
    rows = max(BLOCK_BYTES // max(row_bytes, 1), 1)
    origin = [low + start for (low, _), start in zip(item.layout.box(comm.rank), item.starts)]
    for low in range(0, max(shape[0] for shape in lshapes), rows):
        part = item.local[low : low + rows]
        where = dataset.id.get_space()
        block = None
        if part.numel() and error is None:
            block = torch.empty(part.shape, dtype=item.dtype.torch)
            try:
                item.fill_block(part, block)
            except ValueError as failure:
                block, error = None, failure
        if block is not None:
            space = h5py.h5s.create_simple(tuple(part.shape))
            if dataset.shape:
                where.select_hyperslab((origin[0] + low, *origin[1:]), tuple(part.shape))
        else:
            block, space = torch.empty(1, dtype=item.dtype.torch), h5py.h5s.create_simple((1,))
            space.select_none()
            where.select_none()
        try:
            dataset.id.write(space, where, host_view(block), mtype=file_type(item.dtype), dxpl=transfer)
        except Exception as failure:
            error = failure
    return error
