"""Engine of reductions: reduce tile by tile, combine over ranks where the split axis is reduced, finish.

An operation is a row of three parts:

* `local` turns a tile of this rank's part into a carry: tensors with the reduced axes kept at extent 1. The sum
  carries the sum, the variance (n, mean, M2), argmax (value, index);
* `monoid` merges carries: of tiles where they lie, of all ranks in one allreduce;
* `finish` turns the merged carry into the result.

Tiles are cut only where the kernel needs a temporary (a cast, a mask, deviations from a mean), so that it stays in
cache and nothing of the size of the data is allocated. Nothing is sent where the split axis stays. This file knows no
operation by name.

Gradients: `execute` records itself (``recording``). What follows the combination is computed alike on all ranks, so the
gradient comes back from it as it is; kernels must not write in place to what they are given.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from ht_comm import CommError, Communicator

from .. import types
from ..dndarray import DNDarray, _cast
from ..errors import DTypeError, LayoutError
from ..layout import Layout, normalize_axes
from .elementwise import as_operand, common_comm, plan_elementwise
from .monoid import Carry, Monoid
from .recording import record_into
from .redistribution import redistribute
from .taped import use_whole
from .tracking import is_tracked, watch

#: Bytes of a tile in the dtype of the accumulation: with two or three temporaries of its size it stays in cache.
TILE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Domain:
    """What a kernel may know of the reduction at hand."""

    axes: tuple[int, ...]
    n: int  # number of elements reduced into one, masked or not
    shape: tuple[int, ...]  # global shape of the input
    corner: tuple[int, ...]  # global index of the first element of the tile
    source: torch.dtype  # of the input
    masked: bool  # elements may be left out, so that columns may count different numbers


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """What the engine needs to know of a reduction.

    Attributes
    ----------
    local : callable
        ``local(x, mask, domain)`` returns the carry of a tile; `mask`, of its shape, is None where all elements count.
    monoid : Monoid
    finish : callable
        ``finish(carry, domain, **options)`` returns the result with the reduced axes at extent 1.
    identity : object
        Result on no element; None where there is none, so that empty axes and masks need `initial`.
    accepts : str
        Kinds of dtypes.
    result, accumulate : callable
        Dtype of the result from that of the input; dtype of the tiles from those of input and result.
    skips_nan : bool
        NaN elements are left out.
    temporary : bool
        The kernel makes temporaries of the size of its tile.
    weighs : bool
        The mask is an array of weights.
    """

    name: str
    local: Callable[..., Carry]
    monoid: Monoid
    finish: Callable[..., torch.Tensor]
    identity: object
    accepts: str
    result: Callable[[types.dtype], types.dtype]
    accumulate: Callable[[types.dtype, types.dtype], types.dtype]
    skips_nan: bool = False
    temporary: bool = False
    weighs: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that follows from the row, the layout and the arguments: worked out once, then looked up."""

    domain: Domain
    combine: bool  # the split axis is reduced, so that ranks must combine
    layout: Layout  # of the result
    lshape: tuple[int, ...]
    accumulate: torch.dtype
    result: types.dtype
    direct: bool  # the kernel takes the part as it is, in one piece


@lru_cache(maxsize=4096)
def plan_reduction(
    row: Row,
    layout: Layout,
    rank: int,
    axis: int | tuple[int, ...] | None,
    source: torch.dtype,
    dtype,
    keepdims: bool,
    masked: bool = False,
    has_initial: bool = False,
) -> Plan:
    """Decide what a reduction of an array of this layout and dtype does on `rank`. Pure."""
    before = types.canonical(source)
    if before.kind not in row.accepts:
        raise DTypeError(f"{row.name}: the array must not be of dtype {before}; cast with astype first")
    axes = normalize_axes(axis, layout.ndim, row.name)
    n = math.prod(layout.shape[a] for a in axes)
    if row.identity is None and not has_initial:
        _check_not_empty(row, layout, n, masked)
    combine = layout.split is not None and layout.split in axes
    corner = tuple(start for start, _ in layout.box(rank))
    result = types.canonical(dtype) if dtype is not None else row.result(before)
    target = layout.keep(axes) if keepdims else layout.drop(axes)
    accumulate = row.accumulate(before, result).torch
    masked = masked or (row.skips_nan and before.kind in types.FLOATING)
    domain = Domain(axes, n, layout.shape, corner, source, masked)
    direct = not (masked or row.temporary or source in types.WIDE_UNSIGNED) and accumulate is source
    return Plan(domain, combine, target, target.lshape(rank), accumulate, result, direct)


def _check_not_empty(row: Row, layout: Layout, n: int, masked: bool) -> None:
    if n == 0:
        raise LayoutError(
            f"{row.name}: the reduced axes must not be empty, got shape {layout.shape}; there is no identity"
        )
    if masked:
        raise LayoutError(
            f"{row.name}: where must come with initial, for the operation has no identity, got initial=None"
        )


def execute(
    row: Row,
    x: object,
    axis: object = None,
    dtype: object = None,
    out: DNDarray | None = None,
    keepdims: bool = False,
    where: object = True,
    initial: object = None,
    **options: object,
) -> DNDarray:
    """Run a reduction; the arguments are those of the public function, `options` go to ``row.finish``."""
    if watch.is_on and is_tracked(x, out, where):
        if isinstance(x, DNDarray) and row.result(x.dtype).kind not in types.FLOATING:
            with torch.no_grad():
                return execute(row, x, axis, dtype, out, keepdims, where, initial, **options)
        return record_into(
            row.name,
            lambda xs, mask: execute(row, *xs, axis, dtype, None, keepdims, mask, initial, **options),
            (x,),
            out,
            where,
            masks_out=False,
        )
    x, plan = prepare(row, x, axis, dtype, keepdims, where is not True, initial is not None)
    if out is not None:
        check_out(row, out, plan, x.comm)
    carry = reduce(row, x, plan, where)
    if initial is not None:
        carry = row.monoid.merge(carry, (_initial(row, initial, carry[0], plan),))
    return deliver(row.finish(carry, plan.domain, **options), plan, x.comm, out)


def deliver(value: torch.Tensor, plan: Plan, comm: Communicator, out: DNDarray | None) -> DNDarray:
    """Return this rank's part of the result, with the reduced axes at extent 1, as an array, or write it to `out`."""
    value = value.reshape(plan.lshape)
    if value.dtype is not plan.result.torch:
        value = _cast(value, plan.result.torch)
    if out is None:
        return DNDarray(value, plan.layout, comm)
    out.larray.copy_(redistribute(value, plan.layout, out.layout, comm))
    return out


def prepare(
    row: Row,
    x: object,
    axis: object,
    dtype: object,
    keepdims: object,
    masked: bool,
    has_initial: bool = False,
) -> tuple[DNDarray, Plan]:
    """Return `x` as an array and the plan of its reduction; refuse what cannot be reduced."""
    if not isinstance(x, DNDarray):
        x = as_operand(x, common_comm([], row.name), torch.device("cpu"), row.name)
    axis = tuple(axis) if isinstance(axis, list) else axis
    source = x.larray.dtype
    return x, plan_reduction(
        row, x.layout, x.comm.rank, axis, source, dtype, bool(keepdims), masked, has_initial
    )


def reduce(row: Row, x: DNDarray, plan: Plan, where: object = True) -> Carry:
    """Return the carry of the whole array, or of this rank's columns where the split axis is not reduced."""
    if plan.direct:
        carry = row.local(x.larray, None, plan.domain)
    else:
        mask = None if where is True else _companion(row, x, where)
        carry = reduce_tiles(row, x.larray, mask, plan.domain, plan.accumulate)
    if plan.combine and x.comm.size > 1:
        carry = row.monoid.allreduce(x.comm, carry, plan.domain.masked)
    return carry


def reduce_tiles(
    row: Row, x: torch.Tensor, mask: torch.Tensor | None, domain: Domain, accumulate: torch.dtype
) -> Carry:
    """Return the carry of `x`, cut along its slowest axis until the pieces are tiles."""
    limit = max(TILE_BYTES // accumulate.itemsize, 1)
    if x.numel() <= limit:
        return _reduce_tile(row, x, mask, domain, accumulate)
    axis = max((a for a in range(x.ndim) if x.shape[a] > 1), key=x.stride)
    step = max(1, x.shape[axis] * limit // x.numel())
    merged, parts = None, []
    for start in range(0, x.shape[axis], step):
        length = min(step, x.shape[axis] - start)
        corner = (*domain.corner[:axis], domain.corner[axis] + start, *domain.corner[axis + 1 :])
        piece = mask if mask is None else mask.narrow(axis, start, length)
        carry = reduce_tiles(
            row, x.narrow(axis, start, length), piece, replace(domain, corner=corner), accumulate
        )
        if axis not in domain.axes:
            parts.append(carry)
        else:
            merged = carry if merged is None else row.monoid.merge(merged, carry)
    return merged if not parts else tuple(torch.cat(same, dim=axis) for same in zip(*parts))


def _reduce_tile(row: Row, x, mask, domain: Domain, accumulate: torch.dtype) -> Carry:
    if row.skips_nan and domain.masked and x.dtype in _WITH_NAN:
        number = x == x
        mask = number if mask is None else mask & number
    if x.dtype is not accumulate:
        x = _cast(x, accumulate)
    return row.local(x, mask, domain)


_WITH_NAN = frozenset(d.torch for d in types.DTYPES.values() if d.kind in types.FLOATING)


def _companion(row: Row, x: DNDarray, where: object) -> torch.Tensor:
    """Return the mask (or the weights) as a view of the shape of this rank's part."""
    mask = as_operand(where, x.comm, x.larray.device, row.name)
    target = plan_elementwise((x.layout, mask.layout), x.comm.size, x.layout, row.name).targets[1]
    local = redistribute(mask.larray, mask.layout, target, x.comm)
    if x.split is not None and target.split is None:
        local = use_whole(local, x.comm)
    return (local if row.weighs else local.to(torch.bool)).expand(x.larray.shape)


def _initial(row: Row, initial: object, like: torch.Tensor, plan: Plan) -> torch.Tensor:
    """Return `initial` as the carry of one more element."""
    value = torch.tensor(initial.item() if hasattr(initial, "item") else initial)
    if value.ndim:
        raise LayoutError(f"{row.name}: initial must be a scalar, got shape {tuple(value.shape)}")
    value = _cast(value, plan.accumulate).to(like.device)
    (carry,) = row.local(value.reshape((1,) * max(like.ndim, 1)), None, replace(plan.domain, axes=()))
    return carry.reshape(()).expand(like.shape)


def check_out(row: Row, out: object, plan: Plan, comm: Communicator) -> None:
    """Refuse an `out` that cannot take the result."""
    if not isinstance(out, DNDarray) or out.shape != plan.layout.shape:
        got = out.shape if isinstance(out, DNDarray) else type(out).__name__
        raise LayoutError(f"{row.name}: out must be a DNDarray of shape {plan.layout.shape}, got {got}")
    if out.comm is not comm:
        raise CommError(f"{row.name}: out must live on the communicator of x, got {out.comm!r}")
    if not types.can_cast(plan.result, out.dtype, "same_kind"):
        raise DTypeError(f"{row.name}: out must be able to hold {plan.result}, got {out.dtype}")


def first(carry: Carry, domain: Domain) -> torch.Tensor:
    """Finish with the only tensor of the carry."""
    return carry[0]


def same(dtype: types.dtype) -> types.dtype:
    """Keep the dtype."""
    return dtype


def as_is(dtype: types.dtype, result: types.dtype) -> types.dtype:
    """Give the kernel the elements in their own dtype."""
    return dtype


def wide_accumulator(dtype: types.dtype, result: types.dtype) -> types.dtype:
    """Accumulate 16-bit floats in float32 and everything else in the dtype of the result.

    uint64 is accumulated as int64, which has kernels and agrees with it modulo 2**64.
    """
    if result in (types.float16, types.bfloat16):
        return types.float32
    return types.int64 if result.kind == "u" else result


def floating_accumulator(dtype: types.dtype, result: types.dtype) -> types.dtype:
    """Accumulate integers in float64, 16-bit floats in float32."""
    wide = types.float64 if dtype.kind in "biu" else dtype
    return types.float32 if wide in (types.float16, types.bfloat16) else wide
