"""Engine of scans: cumulate this rank's rows, then add what all ranks before have, in one exscan of a single row.

A scan is a row of its kernel along one axis, the operator that joins carries, and its identity. Nothing is sent where
the scanned axis is not the split axis. This file knows no operation by name.

Gradients: `execute` records itself (``recording``). While it does, a product gathers one row of every rank: a quotient
of products would be wrong at zeros.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from ht_comm import Communicator

from .. import types
from ..dndarray import DNDarray, _cast
from ..errors import DTypeError, LayoutError
from ..layout import Layout, normalize_axis
from .elementwise import as_operand, common_comm
from .recording import record_into
from .redistribution import redistribute
from .tracking import is_tracked, watch

#: Bytes of rows that are cumulated at a time; of narrower rows torch uses whole lines of the caches, as they are.
_TILE, _LINE = 1 << 18, 64


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """What the engine needs to know of a scan.

    Attributes
    ----------
    kernel : callable
        ``kernel(x, dim=, dtype=)``, a cumulating function of torch.
    inplace : callable
        The same, written over its argument: ``inplace(x, dim)``.
    total : callable
        ``total(x, dim=, keepdim=)``: the carry of all rows.
    join : callable
        Joins a carry to cumulated values, written over these.
    operator : str
        The communicator's name for it.
    identity : int
    skips_nan : bool
        NaN counts as the identity.
    """

    name: str
    kernel: Callable[..., torch.Tensor]
    inplace: Callable[..., torch.Tensor]
    total: Callable[..., torch.Tensor]
    join: Callable[..., torch.Tensor]
    operator: str
    identity: int
    skips_nan: bool = False


SUM = Row(
    "cumsum", torch.cumsum, torch.Tensor.cumsum_, torch.sum, torch.Tensor.add_, operator="sum", identity=0
)


def scan_local(
    row: Row,
    local: torch.Tensor,
    layout: Layout,
    axis: int,
    comm: Communicator,
    dtype: torch.dtype,
    initial: bool = False,
) -> torch.Tensor:
    """Return this rank's rows of the scan; with `initial` rank 0's are preceded by the identity.

    *Distribution*: one exscan of one row where `axis` is the split axis and there are several ranks.
    """
    shape = list(local.shape)
    leads = initial and (layout.split != axis or comm.rank == 0)
    shape[axis] += leads
    if leads:
        whole = local.new_empty(shape, dtype=dtype)
        whole.narrow(axis, 0, 1).fill_(row.identity)
        part = whole.narrow(axis, 1, local.shape[axis]).copy_(_numbers(row, local))
        row.inplace(part, axis)
    elif row.skips_nan and (local.is_floating_point() or local.is_complex()):
        whole = part = row.inplace(_numbers(row, local).to(dtype), axis)
    elif local.dtype is dtype:
        whole = part = _cumulated(row, local, axis)
    else:  # the cast is the result: torch would make one more
        whole = part = row.inplace(_cast(local, dtype, copy=True), axis)
    if layout.split == axis and comm.size > 1:
        carry = comm.exscan(_total(row, local, part, axis, dtype), row.operator)
        if comm.rank:
            if part.requires_grad:  # which the derivative of a product needs as it is
                whole = part = part.clone()
            row.join(part, carry)  # in float32 for 16-bit floats, rounded once
    return whole


def _cumulated(row: Row, local: torch.Tensor, axis: int) -> torch.Tensor:
    """Return the kernel's values, tile by tile of rows: torch goes down each column, which leaves the caches."""
    if (
        axis or local.numel() * local.itemsize <= _TILE or local.itemsize < 4
    ):  # narrow carries would be rounded
        return row.kernel(local, dim=axis)
    line = local.numel() * local.itemsize // len(local)
    is_plain = local.is_contiguous() and local.device.type == "cpu" and not local.requires_grad
    if not is_plain or not _LINE <= line <= _TILE // 8:
        return row.kernel(local, dim=axis)
    if torch._C._functorch.maybe_current_level() is not None:  # inside vmap or a transform of torch.func
        return row.kernel(local, dim=axis)
    made, rows = torch.empty_like(local), _TILE // line
    for at in range(0, len(local), rows):
        part = made[at : at + rows].copy_(local[at : at + rows])
        if at:
            row.join(part[:1], made[at - 1 : at])
        row.inplace(part, 0)
    return made


def _numbers(row: Row, local: torch.Tensor) -> torch.Tensor:
    if not row.skips_nan or not (local.is_floating_point() or local.is_complex()):
        return local
    return torch.where(local != local, row.identity, local)


def _total(row: Row, local: torch.Tensor, part: torch.Tensor, axis: int, dtype: torch.dtype) -> torch.Tensor:
    """Return the carry of this rank: the last row, or for 16-bit floats the total in float32, rounded once."""
    if dtype in (torch.float16, torch.bfloat16):
        return row.total(_numbers(row, local).float(), dim=axis, keepdim=True)
    n = part.shape[axis]
    if n:
        return part.narrow(axis, n - 1, 1).clone(memory_format=torch.contiguous_format)
    shape = [*part.shape[:axis], 1, *part.shape[axis + 1 :]]
    return part.new_full(shape, row.identity)


def execute(
    row: Row,
    x: object,
    axis: int | None,
    dtype: object,
    out: DNDarray | None,
    initial: bool = False,
    flattens: bool = True,
) -> DNDarray:
    """Run a scan; the arguments are those of the public functions."""
    if watch.is_on and is_tracked(x, out):
        return record_into(
            row.name,
            lambda xs, _: execute(row, *xs, axis, dtype, None, initial, flattens),
            (x,),
            out,
            True,
        )
    if not isinstance(x, DNDarray):
        x = as_operand(x, common_comm([], row.name), torch.device("cpu"), row.name)
    if axis is None:
        if x.ndim != 1:
            if not flattens:
                raise LayoutError(
                    f"{row.name}: axis must be given for an array of {x.ndim} dimensions, got None"
                )
            from ..reshaping import ravel

            x = ravel(x)
        axis = 0
    axis = normalize_axis(axis, x.ndim, row.name)
    result = types.canonical(dtype) if dtype is not None else _result(x.dtype)
    if result is types.bool_:
        raise DTypeError(f"{row.name}: dtype must be numeric, got bool; use int64")
    layout = _with_initial(x.layout, axis, x.comm.size) if initial else x.layout
    if out is not None:
        _check_out(row, out, layout, result, x)
    # uint64 is cumulated as int64, which has kernels and agrees with it modulo 2**64.
    compute = torch.int64 if result.kind == "u" else result.torch
    value = scan_local(row, x.larray, x.layout, axis, x.comm, compute, initial)
    value = value.view(result.torch) if result is types.uint64 else _cast(value, result.torch)
    if out is None:
        return DNDarray(value, layout, x.comm)
    out.larray.copy_(redistribute(value, layout, out.layout, x.comm))
    return out


def _result(dtype: types.dtype) -> types.dtype:
    return {"b": types.int64, "i": types.int64, "u": types.uint64}.get(dtype.kind, dtype)


def _with_initial(layout: Layout, axis: int, p: int) -> Layout:
    if axis != layout.split:
        return layout.with_axis(axis, layout.shape[axis] + 1)
    return layout.with_counts((layout.counts[0] + 1, *layout.counts[1:]))


def _check_out(row: Row, out: object, layout: Layout, result: types.dtype, x: DNDarray) -> None:
    if not isinstance(out, DNDarray) or out.shape != layout.shape or out.comm is not x.comm:
        got = out.shape if isinstance(out, DNDarray) else type(out).__name__
        raise LayoutError(
            f"{row.name}: out must be a DNDarray of shape {layout.shape} on the communicator of x, got {got}"
        )
    if not types.can_cast(result, out.dtype, "same_kind"):
        raise DTypeError(f"{row.name}: out must be able to hold {result}, got {out.dtype}; cast with astype")
