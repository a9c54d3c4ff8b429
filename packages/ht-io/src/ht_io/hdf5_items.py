"""What all ranks do to an HDF5 file: write the items of a plan, each by its method."""

from __future__ import annotations

import os

from ht_comm import Communicator

from .chunked import write_chunks
from .hdf5_file import WritableFile
from .mpio import write_with_mpio
from .plan_write import Item
from .raw import write_raw
from .turns import write_in_turns


def write_items(path: str, items: list[Item], offsets: list[int], comm: Communicator) -> Exception | None:
    """Write all items; ranks go through the same messages whatever fails, and the error is returned."""
    error: Exception | None = None
    handle = None
    try:
        handle = os.open(path, os.O_WRONLY)
    except OSError as failure:
        error = failure
    for item, offset in zip(items, offsets):
        if item.method == "raw":
            failure = write_raw(None if error else handle, offset, item, comm)
            error = error or failure
    try:
        if handle is not None:
            os.fsync(handle)  # also where a full disk shows itself on network file systems
    except OSError as failure:
        error = error or failure
    finally:
        if handle is not None:
            os.close(handle)
    if any(item.method in ("chunks", "turns", "mpio") for item in items):
        comm.barrier()  # before HDF5 opens the file again
    return _write_filtered(path, items, comm, error)


def _write_filtered(
    path: str, items: list[Item], comm: Communicator, error: Exception | None
) -> Exception | None:
    """Write the chunked items, which go through HDF5."""
    file = None
    if comm.rank == 0 and any(item.method == "chunks" for item in items):
        try:
            file = WritableFile(path, "r+")
        except OSError as failure:
            error = error or failure
    for item in items:
        if item.method == "chunks":
            failure = write_chunks(file, item, comm)
            error = error or failure
    if file is not None:
        try:
            file.close()
        except OSError as failure:
            error = error or failure
    for item in items:
        if item.method == "turns":
            error = write_in_turns(path, item, comm, error)
    mpio = [item for item in items if item.method == "mpio"]
    return write_with_mpio(path, mpio, comm, error) if mpio else error
