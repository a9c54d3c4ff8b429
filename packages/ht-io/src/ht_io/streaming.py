"""Passing over a file in blocks of rows, the next of which is read while the caller computes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

import torch
from ht_comm import Communicator, get_comm
from ht_core import DNDarray, Layout, types
from ht_core.devices import sanitize_device
from ht_core.errors import LayoutError
from ht_core.layout import normalize_axis

from .formats import find_format
from .loading import Source, agree_same
from .selection import Selection, plan_selection
from .storage import check_cast, unpooled

_OP = "stream"


def stream(
    path: str | os.PathLike,
    name: str | None = None,
    block_rows: int = 65536,
    split: int | None = 0,
    *,
    dtype: object = None,
    slices: object = None,
    device: object = None,
    comm: Communicator | None = None,
) -> Stream:
    """Iterate over an array in a file in blocks of rows, larger than memory if need be. Collective.

    Parameters
    ----------
    path : path
        File that every rank can read: HDF5, NetCDF, Zarr, .npy or .npz, known by its suffix.
    name : str, optional
        Name of the data set, variable or array, for formats that have them.
    block_rows : int
        Rows of the global array per block; the last block may have fewer. For chunked files a multiple of the rows
        of a chunk: others are decompressed twice.
    split : int or None
        Axis along which each block is distributed; None: every rank gets all of it.
    dtype, slices, device, comm
        As in :func:`load_hdf5`.

    Returns
    -------
    Stream
        An iterable of DNDarrays with as many steps on every rank, which ``len`` tells; each ``for`` begins anew.

    Distribution
    ------------
    Blocks are S(split), even, or R: global blocks in the order of the file, so that what is computed from them in
    turn does not depend on the number of ranks. One allreduce of three integers when it is made and one per
    block. Memory: this rank's part of the block in use and of the next one, and while a step is taken of a third.

    Raises
    ------
    FileNotFoundError, PermissionError, OSError, KeyError, LayoutError, DTypeError
        As :func:`load_hdf5`, at the call; what fails later is raised at that block.
    ValueError
        `block_rows` is no positive number, or the format cannot be read in parts.

    All ranks raise the same error.

    Notes
    -----
    All ranks must take the same steps: a rank that leaves the loop alone leaves the others waiting. A block that
    the caller keeps stays as it is.

    Examples
    --------
    >>> import ht_core, ht_io
    >>> ht_io.save_npy(ht_core.ones((10, 3), split=0), "rows.npy")
    >>> [block.shape for block in ht_io.stream("rows.npy", block_rows=4)]
    [(4, 3), (4, 3), (2, 3)]
    """
    if not hasattr(block_rows, "__index__") or isinstance(block_rows, bool) or block_rows < 1:
        raise ValueError(f"{_OP}: block_rows must be a positive integer, got {block_rows!r}")
    opener = find_format(path, "load").open
    if opener is None:
        raise ValueError(f"{_OP}: path must be of a format that is read in parts, got {os.fsdecode(path)!r}")
    return Stream(
        lambda: opener(path, name, _OP),
        int(block_rows),
        split,
        dtype,
        slices,
        device,
        get_comm() if comm is None else comm,
    )


class Stream:
    """What :func:`stream` returns.

    Attributes
    ----------
    shape : tuple of int
        Of the whole selection.
    dtype : dtype
        Of the blocks.
    """

    def __init__(
        self,
        opener: object,
        block_rows: int,
        split: int | None,
        dtype: object,
        slices: object,
        device: object,
        comm: Communicator,
    ) -> None:
        self._open, self._rows, self._comm = opener, block_rows, comm
        error, seen = None, None
        try:
            self._place = sanitize_device(device).torch_device
            with opener() as source:
                self.dtype = source.dtype if dtype is None else types.canonical(dtype)
                check_cast(source.dtype, self.dtype, _OP)
                self._selection = plan_selection(source.shape, slices, _OP)
                self.shape = self._selection.shape
                if not self.shape:
                    raise LayoutError(f"{_OP}: slices must leave an axis to iterate over, got a number")
                self._split = None if split is None else normalize_axis(split, len(self.shape), _OP, "split")
                seen = f"{source.name} {source.shape} {self._selection.describe()} {self._split} {block_rows}"
        except Exception as failure:
            error = failure
        agree_same(comm, seen, error, _OP)

    def __len__(self) -> int:
        return -(-self.shape[0] // self._rows)

    def __repr__(self) -> str:
        return f"Stream(shape={self.shape}, dtype={self.dtype}, blocks={len(self)})"

    def __iter__(self) -> Iterator[DNDarray]:
        with ExitStack() as stack:
            source, error = None, None
            try:
                source = stack.enter_context(self._open())
            except Exception as failure:
                error = failure
            # The pool is left first: no read is under way when the file is closed.
            pool = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="ht-io-stream"))
            ahead = None if error or not len(self) else pool.submit(self._read, source, 0)
            for number in range(len(self)):
                local, error = _result(ahead, error)
                agree_same(self._comm, f"{number}", error, _OP)
                if number + 1 < len(self):
                    ahead = pool.submit(self._read, source, number + 1)
                block = DNDarray(local, self._layout(number), self._comm)
                del local  # the caller alone keeps the block
                yield block
                del block

    def _layout(self, number: int) -> Layout:
        rows = min(self._rows, self.shape[0] - number * self._rows)
        return Layout.even((rows, *self.shape[1:]), self._split, self._comm.size)

    def _part(self, number: int) -> Selection:
        """Return the selection of this rank's part of a block."""
        (low, high), *rest = self._layout(number).box(self._comm.rank)
        first = number * self._rows
        return self._selection.part(((first + low, first + high), *rest))

    def _read(self, source: Source, number: int) -> torch.Tensor:
        """Read this rank's part of a block; runs in the thread."""
        local = unpooled(self._layout(number).lshape(self._comm.rank), self.dtype.torch, self._place)
        part = self._part(number)
        if part.size:
            source.read_into(part, local)
        return local


def _result(ahead: Future | None, error: Exception | None) -> tuple[torch.Tensor | None, Exception | None]:
    if ahead is None:
        return None, error
    try:
        return ahead.result(), None
    except Exception as failure:
        return None, failure
