"""Adding records to a classic NetCDF file where it is: only the number of records makes them part of it.

Records lie at the end of the file. New ones are written behind it while the header still has the old number; when
all ranks have agreed that everything is on the disk, rank 0 writes the new one, 4 or 8 bytes within one sector.
Until then, and for ever if anything fails, readers see the file as it was.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from ht_comm import Communicator
from ht_core import types
from ht_core.errors import LayoutError

from .cf_pack import packer_of
from .classic import Header, Variable
from .hdf5_items import write_items
from .plan_netcdf import DEFAULT_FILLS
from .plan_write import Item
from .replace import check_space, write_all
from .saving import explain
from .storage import check_cast

_COUNT_AT = 4  # byte at which the number of records is


def append_records(
    items: list[Item],
    path: str | os.PathLike,
    header: Header,
    dimension: str,
    comm: Communicator,
    op: str,
) -> None:
    """Add `items` behind the records of a file, whose header all ranks know. Collective.

    Distribution
    ------------
    Three one-number agreements, and the messages of :func:`ht_io.raw.write_raw`. Every rank writes its byte ranges;
    what is missing of other variables, fill values, is dealt to the ranks by records.

    Raises
    ------
    LayoutError, ValueError, DTypeError
        `items` do not fit, before any message.
    OSError
        The file cannot be written, or the disk is full; all ranks raise the same error, and the file is as it was.
    """
    name = os.path.realpath(os.fsdecode(path))
    number = _check(items, header, dimension, op)
    old = header.dims[dimension]
    placed = [_placed(item, header, op) for item in items]
    offsets = [header.variables[i.name].begin + old * header.record_bytes() for i in items]
    given = {item.name for item in items}
    rest = [v for v in header.variables.values() if header.is_record(v) and v.name not in given]
    if not number:
        return
    first = min(v.begin for v in header.variables.values() if header.is_record(v))
    last = first + old * header.record_bytes()
    end = -(-(last + number * header.record_bytes()) // 4) * 4
    sizes: list[int] = []  # of the file as it was, on rank 0
    error = None
    try:
        if comm.rank == 0:
            error = _attempt(lambda: sizes.append(_prepare(name, header, old, end, op)), name, op)
        comm.agree(error)
        error = write_items(name, placed, offsets, comm)
        comm.agree(error or _attempt(lambda: _fill_rest(name, rest, header, old, number, comm), name, op))
    except BaseException:
        if sizes:
            os.truncate(name, min(last, sizes[0]))
            os.truncate(name, sizes[0])  # with zeros for padding
        raise
    comm.agree(_attempt(lambda: _count(name, header, old + number), name, op) if comm.rank == 0 else None)


def _check(items: list[Item], header: Header, dimension: str, op: str) -> int:
    """Return how many records are added."""
    if header.record != dimension:
        raise ValueError(
            f"{op}: append must be the unlimited dimension of the file, {header.record!r}, got {dimension!r}"
        )
    counts = {}
    for item in items:
        variable = header.variables[item.name]
        shape = () if item.is_scalar else item.layout.shape
        if not header.is_record(variable):
            text = f"{op}: append must be a dimension of every variable, got {dimension!r} for {item.name!r} with"
            raise ValueError(f"{text} {variable.dims}; save the others once, in a call of their own")
        if shape[1:] != header.shape(variable)[1:] or not shape:
            raise LayoutError(
                f"{op}: x must have the shape of {item.name!r}, {header.shape(variable)}, but for axis 0, along "
                f"which it is added, got {shape}"
            )
        counts[item.name] = shape[0]
    if len(set(counts.values())) > 1:
        raise ValueError(f"{op}: x must add as many indices of {dimension!r} to each variable, got {counts}")
    return next(iter(counts.values()), 0)


def _placed(item: Item, header: Header, op: str) -> Item:
    """Return the item in the type of the variable, interleaved with the others' records."""
    variable = header.variables[item.name]
    native = variable.dtype.newbyteorder("=")
    dtype = types.canonical(native)
    check_cast(types.of(item.local), dtype, op)
    record = header.record_bytes()
    is_dense = (
        record == item.layout.size // item.layout.shape[0] * native.itemsize if item.layout.size else True
    )
    return replace(
        item,
        dtype=dtype,
        method="raw" if item.layout.size else "none",
        swapped=native.itemsize > 1,
        record=0 if is_dense else record,
        packer=packer_of(dtype, variable.attrs, op),
        attrs={},
    )


def _attempt(action: Callable[[], object], name: str, op: str) -> Exception | None:
    try:
        action()
    except Exception as error:
        return explain(error, name, op)
    return None


def _prepare(name: str, header: Header, old: int, end: int, op: str) -> int:
    """Make sure that the header has the old number of records (not that of a file that was never closed), and room;
    return how long the file was.
    """
    check_space(os.path.dirname(name), end - os.path.getsize(name), op)
    _count(name, header, old)
    size = os.path.getsize(name)
    os.truncate(name, max(end, size))
    return size


def _count(name: str, header: Header, number: int) -> None:
    """Write the number of records."""
    width = 8 if header.version == 5 else 4
    if number >= 1 << (8 * width - 1):
        raise OSError(errno.EFBIG, f"the format holds fewer than {1 << (8 * width - 1)} records")
    handle = os.open(name, os.O_WRONLY)
    try:
        write_all(handle, memoryview(number.to_bytes(width, "big")), _COUNT_AT)
        os.fsync(handle)
    finally:
        os.close(handle)


def _fill_rest(
    name: str, rest: list[Variable], header: Header, old: int, number: int, comm: Communicator
) -> None:
    """Write fill values into this rank's share of the new records of variables that nobody gave."""
    if not rest:
        return
    handle = os.open(name, os.O_WRONLY)
    try:
        for variable in rest:
            shape = header.shape(variable)[1:]
            row = np.full(shape, _fill(variable.dtype, variable.attrs), variable.dtype).tobytes()
            for record in range(old + comm.rank, old + number, comm.size):
                write_all(handle, memoryview(row), variable.begin + record * header.record_bytes())
        os.fsync(handle)
    finally:
        os.close(handle)


def _fill(dtype: np.dtype, attrs: Mapping[str, object]) -> object:
    if dtype.kind == "S":
        return b"\0"
    return attrs.get("_FillValue", DEFAULT_FILLS[dtype.newbyteorder("=").name])
