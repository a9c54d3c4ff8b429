"""Loading an array from a file of any format: plan, read this rank's part, agree.

How to add a format
-------------------
Reading needs a *source*, the open file of one array:

- ``shape``: its extents; ``dtype``: `ht_core` dtype of its elements in memory; ``name``: for messages;
- ``read_into(part, out)``: fill the contiguous tensor `out` (any dtype and device, as many elements) with the
  `Selection` `part`. What lies plainly in the file is one call of :func:`ht_io.slabs.read_slab`; what yields NumPy
  blocks of the stored type uses :func:`fill_by_blocks`.

The format's load function opens it in a context manager and hands that to :func:`load_source`, which does the
rest: arguments, selection, split, memory, casts refused, one allreduce in which ranks agree. Writing is
:func:`ht_io.saving.save_file`. Suffixes go into the table of :mod:`ht_io.formats`.
"""

from __future__ import annotations

import errno
import math
import os
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np
import torch
from ht_comm import Communicator, get_comm
from ht_core import DNDarray, Layout, types
from ht_core.devices import sanitize_device
from ht_core.layout import normalize_axis

from .selection import Selection, plan_blocks, plan_selection
from .storage import check_cast, empty


class Source(Protocol):
    """An array in an open file."""

    shape: tuple[int, ...]
    dtype: types.dtype
    name: str

    def read_into(self, part: Selection, out: torch.Tensor) -> None:
        """Fill `out`, a contiguous tensor with as many elements as `part`, with that part of the array."""


def load_source(
    open_source: Callable[[], AbstractContextManager[Source]],
    *,
    op: str,
    dtype: object = None,
    split: int | None = None,
    slices: object = None,
    device: object = None,
    comm: Communicator | None = None,
    counts: tuple[int, ...] | None = None,
) -> DNDarray:
    """Return the array, or the part `slices` of it, that `open_source` opens on every rank. Collective.

    Parts are even unless `counts` tells how many indices of axis `split` each rank gets.

    Distribution
    ------------
    S(split), even by selected rows, or R. One allreduce of three integers after reading. Whatever fails on a
    rank is raised on all.
    """
    comm = get_comm() if comm is None else comm
    error, local, layout, seen = None, None, None, None
    try:
        target = None if dtype is None else types.canonical(dtype)
        place = sanitize_device(device).torch_device
        with open_source() as source:
            target = source.dtype if target is None else target
            check_cast(source.dtype, target, op)
            selection = plan_selection(source.shape, slices, op)
            shape = selection.shape
            axis = None if split is None else normalize_axis(split, len(shape), op, "split")
            layout = Layout(shape, axis, counts) if counts else Layout.even(shape, axis, comm.size)
            local = empty(layout.lshape(comm.rank), target.torch, place)
            part = selection.part(layout.box(comm.rank))
            if part.size:
                source.read_into(part, local)
            what = f"{source.name!r} of shape {source.shape}, dtype {source.dtype}"
            seen = f"{what}, {selection.describe()}, result {layout}, {target}"
    except Exception as failure:
        error = failure
    agree_same(comm, seen, error, op)
    return DNDarray(local, layout, comm)


def agree_same(comm: Communicator, seen: str | None, error: Exception | None, op: str) -> None:
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
            f"{op}: path and arguments must mean the same on every rank: ranks see different things, "
            f"this one {seen}; put the file where all nodes share it",
        )
    comm.agree(error)


def fill_by_blocks(
    part: Selection,
    out: torch.Tensor,
    stored: types.dtype,
    read: Callable[[Selection, torch.Tensor], None],
    multiple: int = 1,
) -> None:
    """Let `read` fill `out`, or blocks of 8 MiB in the stored type that are then cast and copied there.

    Parameters
    ----------
    read : callable
        ``read(part, block)`` fills a contiguous CPU tensor of the stored type and of shape ``part.counts``.
    multiple : int
        Rows that are read together, because they are decompressed together.
    """
    if part.size == 0:
        return
    out = out.view(part.counts)
    if out.dtype is stored.torch and out.device.type == "cpu":
        read(part, out)
        return
    if not part.counts:
        scratch = torch.empty((), dtype=stored.torch)
        read(part, scratch)
        out.copy_(scratch)
        return
    row_bytes = math.prod(part.counts[1:]) * stored.itemsize
    scratch = None
    for start, stop in plan_blocks(part.counts[0], row_bytes, multiple):
        if scratch is None:
            scratch = torch.empty((stop - start, *part.counts[1:]), dtype=stored.torch)
        block = scratch[: stop - start]
        read(part.rows(start, stop), block)
        out[start:stop].copy_(block)


def check_readable(path: object, op: str) -> str:
    """Return `path` as text if it is a file that this rank may read.

    Raises
    ------
    FileNotFoundError, IsADirectoryError, PermissionError, OSError, TypeError
        Otherwise, with the house's text.
    """
    name = os.fspath(path)  # TypeError if this is no path
    try:
        os.stat(name)
    except OSError as error:
        text = f"{op}: path must be an existing, readable file, got {name!r}"
        raise type(error)(error.errno, text) from None
    if os.path.isdir(name):
        raise IsADirectoryError(errno.EISDIR, f"{op}: path must be a file, got the directory {name!r}")
    if not os.access(name, os.R_OK):
        raise PermissionError(errno.EACCES, f"{op}: path must be readable by this user, got {name!r}")
    return os.fsdecode(name)
