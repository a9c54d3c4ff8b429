"""Writing data sets with any other filter: ranks write one after the other through h5py, which runs the
filter.
"""

from __future__ import annotations

import h5py
import numpy as np
import torch
from ht_comm import Communicator

from .hdf5_file import WritableFile
from .plan_write import Item
from .selection import plan_blocks
from .storage import file_type, host_view


def write_in_turns(path: str, item: Item, comm: Communicator, error: Exception | None) -> Exception | None:
    """Write `item` into the file at `path`; return what went wrong instead of raising.

    Distribution
    ------------
    p broadcasts of one integer: each rank tells when it has closed the file. After a failure nobody writes
    any more.
    """
    for rank in range(comm.size):
        if comm.rank == rank and error is None:
            try:
                _write_own(path, item, rank)
            except Exception as failure:
                error = failure
        if comm.bcast(np.array([error is not None], dtype=np.int64), root=rank)[0]:
            break
    return error


def _write_own(path: str, item: Item, rank: int) -> None:
    if item.local.numel() == 0:
        return
    box = item.layout.box(rank)
    with WritableFile(path, "r+") as file:
        dataset = file[item.name]
        row_bytes = item.local[0].numel() * item.dtype.itemsize
        for start, stop in plan_blocks(item.local.shape[0], row_bytes, item.chunks[0] if item.chunks else 1):
            block = torch.empty((stop - start, *item.local.shape[1:]), dtype=item.dtype.torch)
            item.fill_block(item.local[start:stop], block)
            where = dataset.id.get_space()
            first = [low + begin for (low, _), begin in zip(box, item.starts)]
            first[0] += start
            where.select_hyperslab(tuple(first), tuple(block.shape))
            space = h5py.h5s.create_simple(tuple(block.shape))
            dataset.id.write(space, where, host_view(block), mtype=file_type(item.dtype))
            file.check()
