"""Writing contiguous data sets: every rank writes the byte ranges of its elements. No lock, order or
MPI-IO.
"""

from __future__ import annotations

import torch
from ht_comm import Communicator, plan_redistribution
from ht_core import Layout

from .plan_write import SMALL_RANGE, Item
from .replace import write_all
from .selection import Ranges, plan_blocks, plan_ranges
from .storage import byte_view, host_view

#: Bytes per rank of one step of moving columns to rows.
_PASS_BYTES = 32 << 20


def has_small_ranges(item: Item, size: int) -> bool:
    """Tell whether the elements of a rank lie in so short ranges that they are better moved to whole rows
    first.
    """
    layout = item.layout
    if layout.split == 0 or size == 1:
        return False
    most = plan_ranges(layout.shape, layout.split, 0, max(layout.counts))
    return most.length * item.dtype.itemsize < SMALL_RANGE


def write_raw(handle: int | None, offset: int, item: Item, comm: Communicator) -> Exception | None:
    """Write this rank's part of `item`, whose data begins at byte `offset`; return what went wrong instead
    of raising.

    Distribution
    ------------
    No message if the item is split along axis 0 or its ranges are long; otherwise one redistribution to rows
    for every 32 MiB per rank, in which every rank takes part also after a failure (`handle` is then None).
    """
    if not has_small_ranges(item, comm.size):
        start = item.layout.offset(comm.rank)
        return _write_part(handle, offset, item, item.local, item.layout.split, start, item.layout.shape)
    error = None
    shape = item.layout.shape
    rows = max(_PASS_BYTES * comm.size * shape[0] // max(item.nbytes, 1), 1)
    for low in range(0, shape[0], rows):
        high = min(low + rows, shape[0])
        block, first = move_to_rows(item, low, high, comm)
        if error is None and handle is not None:
            error = _write_part(handle, offset, item, block, 0, first, shape)
    return error


def move_to_rows(item: Item, low: int, high: int, comm: Communicator) -> tuple[torch.Tensor, int]:
    """Return this rank's even part of the rows [low, high), and which row it begins with. One redistribution."""
    shape = item.layout.shape
    if item.layout.split == 0:
        boxes = [
            ((max(box[0][0], low), min(box[0][1], high)), *box[1:]) for box in item.layout.boxes(comm.size)
        ]
        source = tuple(((start, max(start, stop)), *rest) for (start, stop), *rest in boxes)
    else:
        source = tuple(((low, high), *box[1:]) for box in item.layout.boxes(comm.size))
    band = Layout.even((high - low, *shape[1:]), 0, comm.size)
    target = tuple(((low + box[0][0], low + box[0][1]), *box[1:]) for box in band.boxes(comm.size))
    begin = item.layout.box(comm.rank)[0][0]
    start, stop = source[comm.rank][0]
    local = item.local[start - begin : stop - begin]
    return comm.redistribute(local, plan_redistribution(source, target)), low + band.offset(comm.rank)


def _write_part(
    handle: int | None,
    offset: int,
    item: Item,
    local: torch.Tensor,
    axis: int,
    start: int,
    shape: tuple[int, ...],
) -> Exception | None:
    """Write `local`, which is [start, start + local.shape[axis]) of `axis`."""
    if handle is None or local.numel() == 0:
        return None
    stop = start + local.shape[axis]
    try:
        if not item.is_cast and _is_plain(local) and not item.record:
            _write_ranges(handle, offset, plan_ranges(shape, axis, start, stop), local, item.dtype.itemsize)
            return None
        scratch = None
        for low, high in plan_blocks(local.shape[0], local[0].numel() * item.dtype.itemsize):
            if scratch is None:
                scratch = torch.empty((high - low, *local.shape[1:]), dtype=item.dtype.torch)
            block = scratch[: high - low]
            item.fill_block(local[low:high], block)
            if item.swapped:
                host_view(block).byteswap(inplace=True)
            if item.record:
                _write_records(handle, offset, item, block, axis, start, low)
                continue
            _write_ranges(
                handle, offset, plan_ranges(shape, axis, start, stop, (low, high)), block, item.dtype.itemsize
            )
    except OSError as error:
        return OSError(
            error.errno, f"save: path must be on a file system that takes the data: {error.strerror}"
        )
    except Exception as error:
        return error
    return None


def _write_records(
    handle: int, offset: int, item: Item, block: torch.Tensor, axis: int, start: int, low: int
) -> None:
    """Write rows that other arrays' rows lie between: each is a range, or ranges, of its own."""
    shape = (1, *item.layout.shape[1:])
    first = low + start if axis == 0 else low
    for index, row in enumerate(block):
        one = plan_ranges(shape, axis, *((0, 1) if axis == 0 else (start, start + block.shape[axis])))
        _write_ranges(handle, offset + (first + index) * item.record, one, row, item.dtype.itemsize)


def _is_plain(local: torch.Tensor) -> bool:
    """Tell whether the bytes of `local` in memory are those to be written."""
    return local.is_contiguous() and not local.is_conj() and not local.is_neg()


def _write_ranges(handle: int, offset: int, ranges: Ranges, local: torch.Tensor, itemsize: int) -> None:
    data = byte_view(local.detach())
    length = ranges.length * itemsize
    for index in range(ranges.number):
        at = offset + (ranges.first + index * ranges.stride) * itemsize
        write_all(handle, data[index * length : (index + 1) * length], at)
