"""Arrays that lie plainly in a file, as in NumPy's files, classic NetCDF and contiguous HDF5: any selection is
read by byte ranges, straight into a tensor.

A run of bytes is read by ``pread`` into the result. What is strided, byte-swapped or interleaved is copied out
of the mapped file, block by block: no row costs a system call, and no byte between the wanted ones is copied.
Listed rows: see `ht_io.listed_rows`. Knows no communicator and no header of any format.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from ht_core import types

from .listed_rows import RowReader
from .selection import BLOCK_BYTES, Selection, plan_blocks
from .storage import byte_view, host_view

_CALL_BYTES = 1 << 30  # one system call moves less than 2**31


@dataclass(frozen=True, slots=True)
class Slab:
    """Where the elements of an array are in a file.

    Attributes
    ----------
    offset : int
        Byte at which the first element begins.
    shape : tuple of int
    dtype : numpy.dtype
        With the byte order of the file.
    strides : tuple of int
        Bytes from one index to the next, per axis; none is negative.
    """

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype
    strides: tuple[int, ...]

    @classmethod
    def dense(cls, offset: int, shape: tuple[int, ...], dtype: np.dtype, order: str = "C") -> Slab:
        """Return the slab of an array without gaps, in C or Fortran order.

        >>> Slab.dense(80, (3, 4), np.dtype(">f4")).strides
        (16, 4)
        """
        strides, step = [], np.dtype(dtype).itemsize
        for extent in reversed(shape) if order == "C" else shape:
            strides.append(step)
            step *= extent
        return cls(offset, tuple(shape), np.dtype(dtype), tuple(strides[::-1] if order == "C" else strides))

    @property
    def end(self) -> int:
        """The byte after the last element."""
        if 0 in self.shape:
            return self.offset
        last = sum((n - 1) * step for n, step in zip(self.shape, self.strides))
        return self.offset + last + self.dtype.itemsize

    def at(self, part: Selection) -> Slab:
        """Return the slab of the elements of `part`, which holds no list."""
        first = sum(start * step for start, step in zip(part.starts, self.strides))
        strides = tuple(step * every for step, every in zip(self.strides, part.steps))
        return Slab(self.offset + first, part.counts, self.dtype, strides)

    @property
    def is_run(self) -> bool:
        """True where the elements lie one after the other in C order."""
        expected = self.dtype.itemsize
        for extent, stride in zip(reversed(self.shape), reversed(self.strides)):
            if extent > 1 and stride != expected:
                return False
            expected *= extent
        return True


def check_length(handle: int, slab: Slab, path: str, op: str) -> None:
    """Raise if the file ends before the array does.

    Raises
    ------
    OSError
        ``EIO``.
    """
    size = os.fstat(handle).st_size
    if size < slab.end:
        raise OSError(
            errno.EIO,
            f"{op}: path must be a complete file, got {path!r} of {size} bytes instead of {slab.end}",
        )


def read_slab(handle: int, slab: Slab, part: Selection, out: torch.Tensor) -> None:
    """Read `part` of `slab` from the open file into `out`, a contiguous tensor with as many elements.

    Any dtype and device of `out`: what is on disk is converted in blocks of 8 MiB. Call `check_length` first.
    """
    if part.size == 0:
        return
    out = out.view(part.counts)
    if part.listed is not None:
        _read_listed(handle, slab, part, out)
        return
    wanted = slab.at(part)
    is_same = out.device.type == "cpu" and out.dtype is _torch_dtype(slab.dtype)
    if is_same and slab.dtype.isnative and wanted.is_run:
        _read_run(handle, wanted.offset, byte_view(out))
        return
    axis = int(np.argmax(wanted.strides)) if part.counts else 0
    for low, high in _blocks(wanted, axis):
        block = part.along(axis, low, high) if part.counts else part
        target = out.narrow(axis, low, high - low) if part.counts else out
        with _Mapped(handle, slab.at(block)) as view:
            if is_same:
                np.copyto(host_view(target), view)
            else:
                target.copy_(torch.from_numpy(view.astype(slab.dtype.newbyteorder("="))))


def _torch_dtype(dtype: np.dtype) -> torch.dtype:
    return types.canonical(dtype.newbyteorder("=")).torch


def _blocks(wanted: Slab, axis: int) -> Iterator[tuple[int, int]]:
    """Yield ranges of the axis with the largest stride, each about a block's worth of the file."""
    if not wanted.shape:
        return iter([(0, 1)])
    return plan_blocks(wanted.shape[axis], wanted.strides[axis])


class _Mapped:
    """A NumPy view of the mapped bytes of a slab."""

    def __init__(self, handle: int, slab: Slab) -> None:
        first = slab.offset // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        self._map = mmap.mmap(handle, slab.end - first, access=mmap.ACCESS_READ, offset=first)
        self._slab, self._skip = slab, slab.offset - first

    def __enter__(self) -> np.ndarray:
        slab = self._slab
        return np.ndarray(slab.shape, slab.dtype, self._map, self._skip, slab.strides)

    def __exit__(self, *failure: object) -> None:
        self._map = None  # unmapped when the last view of it goes


def _read_run(handle: int, offset: int, data: memoryview) -> None:
    done = 0
    while done < len(data):
        got = os.preadv(handle, [data[done : done + _CALL_BYTES]], offset + done)
        if got == 0:
            raise OSError(errno.EIO, f"path must be a complete file, got one without byte {offset + done}")
        done += got


def _read_listed(handle: int, slab: Slab, part: Selection, out: torch.Tensor) -> None:
    row = slab.at(part.hull(0, 1))
    if part.listed != 0 or not row.is_run:
        _take_listed(handle, slab, part, out)
        return
    native = slab.dtype.newbyteorder("=")
    row_bytes = slab.dtype.itemsize * (part.size // part.counts[0])
    direct = out.device.type == "cpu" and out.dtype is _torch_dtype(slab.dtype) and slab.dtype.isnative
    for low, high in plan_blocks(part.counts[0], row_bytes):
        indices = part.indices[low:high]
        if direct:
            data = host_view(out[low:high]).reshape(len(indices), -1)
            _read_rows(handle, row.offset, slab.strides[0], indices, data)
        else:
            data = np.empty((len(indices), row_bytes // slab.dtype.itemsize), slab.dtype)
            _read_rows(handle, row.offset, slab.strides[0], indices, data)
            out[low:high].copy_(torch.from_numpy(data.astype(native)).view(out[low:high].shape))


def _read_rows(handle: int, first: int, stride: int, indices: np.ndarray, data: np.ndarray) -> None:
    """Fill the rows of `data` with the file's rows `indices`, in the order of the file, neighbours at once."""
    places, order = first + indices * stride, None
    if len(places) > 1 and not (np.diff(places) > 0).all():
        order = np.argsort(places, kind="stable")
        places = places[order]
    elif len(places) > 1 and stride == data.strides[0]:
        starts = np.flatnonzero(np.diff(places, prepend=places[0] - 2 * stride) != stride)
        if len(starts) < len(places) // 2:
            for run, place in zip(np.split(data, starts[1:]), places[starts].tolist()):
                _read_run(handle, place, memoryview(run.reshape(-1).view(np.uint8)))
            return
    rows = data.reshape(-1).view(f"V{data.strides[0]}")
    if RowReader(handle, places, stride, rows, order).read() != data.nbytes:
        # A call was cut short: signals, or more than the system takes at once, or the end of the file.
        for index, place in enumerate(places.tolist()):
            row = data[index if order is None else order[index]]
            _read_run(handle, place, memoryview(row.view(np.uint8)))


def _take_listed(handle: int, slab: Slab, part: Selection, out: torch.Tensor) -> None:
    """Copy listed indices of any axis out of the mapped file."""
    axis = part.listed
    whole = slab.at(part.hull(0, slab.shape[axis]))
    outer = 0 if axis != 0 else None
    step = max(BLOCK_BYTES // max(part.size // part.counts[outer or 0] * slab.dtype.itemsize, 1), 1)
    for low in range(0, part.counts[outer or 0], step):
        high = min(low + step, part.counts[outer or 0])
        if outer is None:
            with _Mapped(handle, whole) as view:
                taken = view.take(part.indices[low:high], axis=axis)
        else:
            with _Mapped(handle, slab.at(part.hull(0, slab.shape[axis]).along(0, low, high))) as view:
                taken = view.take(part.indices, axis=axis)
        out[low:high].copy_(torch.from_numpy(taken.astype(slab.dtype.newbyteorder("="))))
