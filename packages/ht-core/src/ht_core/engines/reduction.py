"""Engine of reductions: reduce locally, combine over ranks where the split axis is reduced, finish.

An operation is a row of three parts:

* `local` turns this rank's part into carries: tensors with the reduced axes kept at extent 1. The carries form a
  monoid: sum carries the sum, variance carries (n, mean, M2), argmax carries (value, index);
* `combine` merges the carries of all ranks in one allreduce (two for index carries);
* `finish` turns the merged carries into the result.

Nothing is sent where the split axis stays. This file knows no operation by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from ht_comm import CommError, Communicator

from .. import types
from ..dndarray import DNDarray, _cast
from ..errors import DTypeError, LayoutError
from ..layout import Layout, normalize_axes
from ..registry import register
from .elementwise import as_operand, common_comm, plan_elementwise
from .redistribution import redistribute

Carry = tuple[torch.Tensor, ...]


@dataclass(frozen=True, slots=True)
class Domain:
    """What a kernel may know of the reduction at hand."""

    axes: tuple[int, ...]
    n: int  # number of elements reduced into one
    shape: tuple[int, ...]  # global shape of the input
    split: int | None  # the split axis, if it is reduced
    offset: int  # global index of this rank's first row along it


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that follows from the row, the layout and the arguments: worked out once, then looked up."""

    domain: Domain
    combine: bool  # the split axis is reduced, so that ranks must combine
    layout: Layout  # of the result
    lshape: tuple[int, ...]
    accumulate: torch.dtype
    result: types.dtype


@lru_cache(maxsize=4096)
def plan_reduction(
    row: Row,
    layout: Layout,
    rank: int,
    axis: int | tuple[int, ...] | None,
    source: torch.dtype,
    dtype,
    keepdims: bool,
) -> Plan:
    """Decide what a reduction of an array of this layout and dtype does on `rank`. Pure."""
    before = types.canonical(source)
    if before.kind not in row.accepts:
        raise DTypeError(f"{row.name}: the array must not be of dtype {before}; cast with astype first")
    axes = normalize_axes(axis, layout.ndim, row.name)
    n = math.prod(layout.shape[a] for a in axes)
    if n == 0 and row.identity is None:
        raise LayoutError(
            f"{row.name}: the reduced axes must not be empty, got shape {layout.shape}; there is no identity"
        )
    combine = layout.split is not None and layout.split in axes
    split, offset = (layout.split, layout.displs[rank]) if combine else (None, 0)
    result = types.canonical(dtype) if dtype is not None else row.result(before)
    target = layout.keep(axes) if keepdims else layout.drop(axes)
    domain = Domain(axes, n, layout.shape, split, offset)
    return Plan(domain, combine, target, target.lshape(rank), row.accumulate(before, result).torch, result)


def execute(row: Row, x: object, axis, dtype, out: DNDarray | None, keepdims: bool, where: object, **options):
    """Run a reduction; the arguments are those of the public function."""
    if not isinstance(x, DNDarray):
        x = as_operand(x, common_comm([], row.name), torch.device("cpu"), row.name)
    axis = tuple(axis) if isinstance(axis, list) else axis
    plan = plan_reduction(row, x.layout, x.comm.rank, axis, x.larray.dtype, dtype, bool(keepdims))
    if out is not None:
        _check_out(row, out, plan, x.comm)
    local = x.larray if x.larray.dtype is plan.accumulate else _cast(x.larray, plan.accumulate)
    if where is not True:
        local = _masked(row, x, local, where)
    carry = row.local(local, plan.domain, **options)
    if plan.combine and x.comm.size > 1:
        carry = row.combine(x.comm, carry)
    value = row.finish(carry, plan.domain, **options).reshape(plan.lshape)
    if value.dtype is not plan.result.torch:
        value = _cast(value, plan.result.torch)
    if out is None:
        return DNDarray(value, plan.layout, x.comm)
    out.larray.copy_(redistribute(value, plan.layout, out.layout, x.comm))
    return out


def _check_out(row: Row, out: object, plan: Plan, comm: Communicator) -> None:
    if not isinstance(out, DNDarray) or out.shape != plan.layout.shape:
        got = out.shape if isinstance(out, DNDarray) else type(out).__name__
        raise LayoutError(f"{row.name}: out must be a DNDarray of shape {plan.layout.shape}, got {got}")
    if out.comm is not comm:
        raise CommError(f"{row.name}: out must live on the communicator of x, got {out.comm!r}")
    if not types.can_cast(plan.result, out.dtype, "same_kind"):
        raise DTypeError(f"{row.name}: out must be able to hold {plan.result}, got {out.dtype}")


def _masked(row: Row, x: DNDarray, local: torch.Tensor, where: object) -> torch.Tensor:
    if row.identity is None:
        raise DTypeError(f"{row.name}: where must be True, for the operation has no identity")
    mask = as_operand(where, x.comm, x.larray.device, row.name)
    target = plan_elementwise((x.layout, mask.layout), x.comm.size, x.layout, row.name).targets[1]
    mask = redistribute(mask.larray, mask.layout, target, x.comm).to(torch.bool)
    return torch.where(mask, local, torch.tensor(row.identity, dtype=local.dtype, device=local.device))


# -- combining: how carries of ranks merge --------------------------------------------------------------------


def by(op: str) -> Callable:
    """Combine each carry by one allreduce of the operator `op`."""

    def combine(comm, carry: Carry) -> Carry:
        return tuple(comm.allreduce(c, op, out=c if c.is_contiguous() else None) for c in carry)

    return combine


def by_moments(comm, carry: Carry) -> Carry:
    """Combine (n, mean, M2) by one allreduce."""
    n, mean, m2 = carry
    packed = torch.cat([n.reshape(1).to(mean.dtype), mean.reshape(-1), m2.reshape(-1)])
    merged = comm.allreduce(packed, "moments")
    d = mean.numel()
    return merged[0], merged[1 : d + 1].reshape(mean.shape), merged[d + 1 :].reshape(m2.shape)


def by_index(op: str) -> Callable:
    """Combine (value, index): the extreme value, and the lowest index that has it; NaN is the extreme of all."""

    def combine(comm, carry: Carry) -> Carry:
        value, index = carry
        best = comm.allreduce(value, op)
        mine = (value == best) | ((value != value) & (best != best))
        index = torch.where(mine, index, torch.iinfo(torch.int64).max)
        return best, comm.allreduce(index, "min")

    return combine


# -- rows ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """What the engine needs to know of a reduction."""

    name: str
    local: Callable[..., Carry]
    combine: Callable[..., Carry]
    finish: Callable[..., torch.Tensor]
    identity: object  # of the operation on no element; None where there is none
    accepts: str
    result: Callable[[types.dtype], types.dtype]
    accumulate: Callable[[types.dtype, types.dtype], types.dtype]


def _first(carry: Carry, domain: Domain, **options) -> torch.Tensor:
    return carry[0]


def _same(dtype: types.dtype) -> types.dtype:
    return dtype


def wide_accumulator(dtype: types.dtype, result: types.dtype) -> types.dtype:
    """Accumulate 16-bit floats in float32 and everything else in the dtype of the result."""
    return types.float32 if result in (types.float16, types.bfloat16) else result


_DOC = """{summary}

{body}
*Distribution*: where the split axis is reduced, the result is replicated and the ranks combine in {messages} of the
size of the result; otherwise the split stays and nothing is sent.

Parameters
----------
x : DNDarray
    Input of any shape and layout.
axis : int or tuple of int, optional
    Axes to reduce; all of them by default.
{dtype}out : DNDarray, optional
    Where the result is written; it keeps its layout.
keepdims : bool
    Keep the reduced axes with extent 1.
{more}
Returns
-------
DNDarray
    {returns}

Raises
------
LayoutError
    If an axis is out of range or named twice{empty}.
DTypeError
    If the dtype is not accepted.
"""


_DTYPE = "dtype : dtype, optional\n    Dtype of the result and of the accumulation.\n"
_WHERE = "where : array of bool, optional\n    Reduce only the elements where True.\n"
_DDOF = "ddof : int or float\n    The divisor is n - ddof. `correction` is the Array API's name for it.\n"


def reduction(
    name: str,
    local: Callable[..., Carry],
    summary: str,
    *,
    combine: Callable[..., Carry],
    finish: Callable[..., torch.Tensor] = _first,
    identity: object = None,
    accepts: str = types.ALL,
    result: Callable[[types.dtype], types.dtype] = _same,
    accumulate: Callable[[types.dtype, types.dtype], types.dtype] = wide_accumulator,
    takes: str = "dtype",
    returns: str = "Of the dtype of `x`.",
    body: str = "",
    messages: str = "one allreduce",
    numpy: str | None = "",
    aliases: tuple[str, ...] = (),
) -> Callable[..., DNDarray]:
    """Define a reduction: the public function and its method.

    `takes` picks the signature, a key of ``_SIGNATURES``: "dtype" (as ``sum``), "mean", "plain" (as ``any``),
    "extreme" (as ``max``), "index" (as ``argmax``) or "ddof" (as ``var``).
    """
    row = Row(name, local, combine, finish, identity, accepts, result, accumulate)
    function = _SIGNATURES[takes](row)
    function.__name__ = function.__qualname__ = name
    function.__module__ = "ht_core"
    function.__doc__ = _DOC.format(
        summary=summary,
        body=body + "\n" if body else "",
        messages=messages,
        dtype=_DTYPE if takes in ("dtype", "mean", "ddof") else "",
        more={"dtype": _WHERE, "plain": _WHERE, "ddof": _DDOF}.get(takes, ""),
        returns=returns,
        empty="" if identity is not None else ", or the reduced axes are empty",
    )
    return register(
        function,
        kind="reduction",
        numpy=name if numpy == "" else numpy,
        accepts=accepts,
        cost=f"{messages} of the size of the result where the split axis is reduced; none otherwise",
        aliases=aliases,
    )


def _with_dtype(row: Row) -> Callable:
    def function(x, /, axis=None, dtype=None, out=None, keepdims=False, *, where=True):
        return execute(row, x, axis, dtype, out, keepdims, where)

    return function


def _mean(row: Row) -> Callable:
    def function(x, /, axis=None, dtype=None, out=None, keepdims=False):
        return execute(row, x, axis, dtype, out, keepdims, True)

    return function


def _extreme(row: Row) -> Callable:
    def function(x, /, axis=None, out=None, keepdims=False):
        return execute(row, x, axis, None, out, keepdims, True)

    return function


def _index(row: Row) -> Callable:
    def function(x, /, axis=None, out=None, *, keepdims=False):
        if axis is not None and not hasattr(axis, "__index__"):
            raise LayoutError(f"{row.name}: axis must be an integer or None, got {axis!r}")
        return execute(row, x, axis, None, out, keepdims, True)

    return function


def _plain(row: Row) -> Callable:
    def function(x, /, axis=None, out=None, keepdims=False, *, where=True):
        return execute(row, x, axis, None, out, keepdims, where)

    return function


def _with_ddof(row: Row) -> Callable:
    def function(x, /, axis=None, dtype=None, out=None, ddof=0, keepdims=False, *, correction=None):
        ddof = ddof if correction is None else correction
        return execute(row, x, axis, dtype, out, keepdims, True, ddof=ddof)

    return function


_SIGNATURES = {
    "dtype": _with_dtype,
    "mean": _mean,
    "plain": _plain,
    "extreme": _extreme,
    "index": _index,
    "ddof": _with_ddof,
}
