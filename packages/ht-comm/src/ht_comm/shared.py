"""Arrays in memory that the ranks of a node share: the work of `Communicator.shared`.

Files in memory, which every rank maps: they need neither MPI's windows nor MPI, so that every communicator has them.
The name of the file is gone before the array is handed out; what it stands for is freed with the last array.
"""

import math
import mmap
import os
import tempfile
from typing import Any

import numpy as np

from .buffers import Array
from .dtypes import DTYPES, DType, find_dtype, torch_dtype

_IN_MEMORY = "/dev/shm"


def make_shared(comm: Any, shape: int | tuple[int, ...], dtype: Any) -> Array:
    """Return this rank's view of an array of its node; the body of `Communicator.shared`, which has the parameters."""
    extents = tuple(map(int, shape)) if isinstance(shape, (tuple, list)) else (int(shape),)
    if any(extent < 0 for extent in extents):
        raise ValueError(f"shared: shape must have extents >= 0, got {extents}")
    record, is_torch = _find(dtype)
    memory = _open(comm, max(math.prod(extents) * record.itemsize, 1))
    flat = np.frombuffer(memory, np.uint8, count=math.prod(extents) * record.itemsize)
    if not is_torch:
        return flat.view(record.storage).reshape(extents)
    import torch

    return torch.from_numpy(flat).view(torch_dtype(record)).view(extents)


def _find(dtype: Any) -> tuple[DType, bool]:
    """Return the record of a dtype, and whether it is torch's."""
    is_torch = type(dtype).__module__ == "torch"
    try:
        record = find_dtype(dtype if is_torch else np.dtype(dtype))
    except TypeError:
        record = None
    if record is None:
        raise TypeError(f"shared: dtype must be one of {', '.join(DTYPES)}, of NumPy or torch, got {dtype!r}")
    return record, is_torch


def _open(comm: Any, nbytes: int) -> mmap.mmap:
    """Map one new file of zeros on all ranks of a node. Collective; where one rank cannot, all raise."""
    node = comm.node()
    name, memory, problem = "", None, None
    try:
        if node.rank == 0:
            name = _create(nbytes)
    except OSError as error:
        problem = error
    name = node.bcast_object(name)
    try:
        try:
            if name:
                memory = _map(name, nbytes)
        except OSError as error:
            problem = error
        if problem is not None:
            text = f"shared: there must be {nbytes} bytes of memory to share on the node, got: {problem}"
            problem = OSError(problem.errno, text)
        comm.agree(problem)
    finally:
        if node.rank == 0 and name:
            os.unlink(name)
    return memory


def _create(nbytes: int) -> str:
    """Make a file whose pages are there: one that runs out of room later would end the process."""
    folder = _IN_MEMORY if os.path.isdir(_IN_MEMORY) else None
    handle, name = tempfile.mkstemp(prefix="ht-comm-", dir=folder)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(handle, 0, nbytes)
        else:
            os.truncate(handle, nbytes)
    except OSError:
        os.unlink(name)
        raise
    finally:
        os.close(handle)
    return name


def _map(name: str, nbytes: int) -> mmap.mmap:
    handle = os.open(name, os.O_RDWR)
    try:
        return mmap.mmap(handle, nbytes)
    finally:
        os.close(handle)
