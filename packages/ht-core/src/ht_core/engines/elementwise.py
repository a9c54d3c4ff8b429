"""Engine of elementwise operations: broadcast, promote, align, compute.

`plan_elementwise` decides from layouts alone which layout the result has and what each operand must do to meet it:
nothing, a local slice, or one redistribution. Equal layouts skip all of it: a few comparisons lead to the torch kernel.
This file knows no operation by name.

Gradients: `execute` records itself (``recording``); a kernel that torch can differentiate is all a row needs. An
operand that every rank uses whole for its own rows goes through ``use_whole``: the origin of its one allreduce.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from ht_comm import CommError, get_comm

from .. import types
from ..devices import sanitize_device
from ..dndarray import DNDarray, _cast
from ..errors import DTypeError, LayoutError
from ..layout import Layout
from .recording import record_into
from .redistribution import redistribute
from .taped import use_whole
from .tracking import is_tracked, watch

if TYPE_CHECKING:
    from ht_comm import Communicator

_WEAK = (bool, int, float, complex)

#: How the dtype of the computation follows from the operands.
COMPUTE: dict[str, Callable[..., types.dtype]] = {
    "common": types.result_type,
    "floating": types.floating_type,
    "quotient": types.quotient_type,
    "integer": types.number_type,
    "double": types.double_type,
    "tolerance": types.tolerance_type,
}
_RESULT: dict[str, Callable[[types.dtype], types.dtype]] = {
    "common": lambda compute: compute,
    "real": types.to_real,
    **{name: lambda compute, fixed=fixed: fixed for name, fixed in types.DTYPES.items()},
}
_SIGNED = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}
_UNSIGNED = {signed: unsigned for unsigned, signed in _SIGNED.items()}


@dataclass(frozen=True, slots=True)
class Row:
    """What the engine needs to know of an elementwise operation."""

    name: str
    kernel: Callable[..., torch.Tensor]
    accepts: str  # kinds of the common dtype
    compute: str  # dtype of the computation: a key of COMPUTE
    result: str | tuple[str, ...]  # "common", "real" or the name of a dtype; one for each result
    numpy: str | None
    conditions: int = 0  # leading operands that are conditions: bool, and no part of the promotion
    exponents: int = 0  # trailing operands that are integers of their own dtype, and no part of the promotion
    # How the kernel serves unsigned integers wider than a byte, for which torch has none: "bits", their bits as signed
    # integers give the same bits; "order", signed integers in the same order do; "host", NumPy does on the host.
    wide: str = "host"


@dataclass(frozen=True, slots=True)
class Plan:
    """Layout of the result, and for each operand the layout it must be brought to (in its own dimensions)."""

    layout: Layout
    targets: tuple[Layout, ...]


def broadcast_shapes(*shapes: tuple[int, ...], op: str = "broadcast_shapes") -> tuple[int, ...]:
    """Return the shape to which all broadcast.

    Raises
    ------
    LayoutError
        If they do not.
    """
    ndim = max(map(len, shapes), default=0)
    result = [1] * ndim
    for shape in shapes:
        for axis, n in enumerate(shape, start=ndim - len(shape)):
            if n != 1 and result[axis] not in (1, n):
                raise LayoutError(f"{op}: shapes must broadcast, got {', '.join(map(str, shapes))}")
            result[axis] = n if n != 1 else result[axis]
    return tuple(result)


@lru_cache(maxsize=4096)
def plan_elementwise(layouts: tuple[Layout, ...], p: int, fixed: Layout | None, op: str) -> Plan:
    """Decide where an elementwise operation on operands of these layouts happens. Pure.

    Candidates are the layouts of the operands that span the whole extent of their split axis; the one that leaves the
    fewest elements to be moved wins, the first among equals. With `fixed`, the layout of ``out``, there is no choice.

    Raises
    ------
    LayoutError
        If the shapes do not broadcast, or not to the shape of `fixed`.
    """
    shape = broadcast_shapes(*(x.shape for x in layouts), op=op)
    if fixed is not None:
        if fixed.shape != shape:
            raise LayoutError(f"{op}: out must have shape {shape}, got {fixed.shape}")
        return Plan(fixed, tuple(_align(x, fixed) for x in layouts))
    candidates = [Layout(shape, None)]
    for x in layouts:
        axis = None if x.split is None else x.split + len(shape) - x.ndim
        if axis is not None and x.shape[x.split] == shape[axis]:
            candidates.append(Layout(shape, axis, x.counts))
    if len(candidates) > 1:
        del candidates[0]  # replicated only where every operand is, or is split along an axis it broadcasts

    def moved(target: Layout) -> int:
        aligned = ((x, _align(x, target)) for x in layouts)
        return sum(x.size for x, t in aligned if x.split is not None and x is not t)

    best = min(candidates, key=moved)
    return Plan(best, tuple(_align(x, best) for x in layouts))


def _align(x: Layout, target: Layout) -> Layout:
    """Return the layout in which `x` meets `target`: cut as it is, or whole where `x` is broadcast along its split."""
    axis = None if target.split is None else target.split - (target.ndim - x.ndim)
    if axis is None or axis < 0 or x.shape[axis] != target.shape[target.split]:
        return Layout(x.shape, None)
    return Layout(x.shape, axis, target.counts)


def common_comm(arrays: list[DNDarray], op: str) -> Communicator:
    """Return the communicator that all `arrays` share; the current one where there is no array.

    Raises
    ------
    CommError
        If they live on different communicators.
    """
    if not arrays:
        return get_comm()
    comm = arrays[0].comm
    if any(x.comm is not comm for x in arrays):
        raise CommError(
            f"{op}: operands must live on one communicator, got {len({id(x.comm) for x in arrays})}"
        )
    return comm


def as_operand(value: object, comm: Communicator, device: torch.device, op: str) -> DNDarray:
    """Return `value` as an array: DNDarrays as they are; tensors, NumPy arrays and sequences as replicated ones."""
    if isinstance(value, DNDarray):
        return value
    if not isinstance(value, torch.Tensor):
        array = np.asarray(value)
        if array.dtype.kind not in types.ALL:
            raise DTypeError(f"{op}: operands must be arrays or numbers, got {type(value).__name__}")
        value = torch.from_numpy(np.ascontiguousarray(array)).reshape(array.shape)
    value = value.to(device)
    return DNDarray(value, Layout(tuple(value.shape), None), comm)


@dataclass(frozen=True, slots=True)
class Call:
    """One operation, validated: what remains is to run the kernel and to hand over its results."""

    comm: Communicator
    layout: Layout
    locals: list[torch.Tensor]
    mask: torch.Tensor | None
    compute: types.dtype
    results: tuple[types.dtype, ...]


def prepare(row: Row, operands: tuple, outs: tuple, where: object, dtype: object) -> Call:
    """Validate any mixture of arrays and scalars, promote and align them."""
    arrays = [x for x in operands if isinstance(x, DNDarray)]
    given = [out for out in outs if out is not None]
    for out in given:
        if not isinstance(out, DNDarray):
            raise DTypeError(f"{row.name}: out must be a DNDarray, got {type(out).__name__}")
    masks = [where] if isinstance(where, DNDarray) else []
    comm = common_comm([*arrays, *masks, *given], row.name)
    known = arrays or masks or given
    device = known[0].larray.device if known else sanitize_device(None).torch_device
    operands = tuple(x if type(x) in _WEAK else as_operand(x, comm, device, row.name) for x in operands)

    promoting = operands[row.conditions : len(operands) - row.exponents]
    compute = _compute_dtype(row, promoting, dtype)
    results = row.result if type(row.result) is tuple else (row.result,)
    results = tuple(_RESULT[r](compute) for r in results)
    for out, result in zip(outs, results):
        if out is not None and not types.can_cast(result, out.dtype, "same_kind"):
            raise DTypeError(
                f"{row.name}: out must be able to hold {result}, got {out.dtype}; cast with astype first"
            )

    wanted = (types.bool_,) * row.conditions + (compute,) * len(promoting)
    wanted += tuple(_integer_dtype(row, x) for x in operands[len(wanted) :])
    operands = tuple(
        _scalar(x, kind, device, comm, row.name) if type(x) in _WEAK else x
        for x, kind in zip(operands, wanted)
    )
    extra = () if where is True else (as_operand(where, comm, device, row.name),)
    fixed = given[0].layout if given else None
    plan = plan_elementwise(tuple(x.layout for x in operands + extra), comm.size, fixed, row.name)
    locals_ = [
        redistribute(x.larray, x.layout, target, comm) for x, target in zip(operands + extra, plan.targets)
    ]
    if watch.is_on and plan.layout.split is not None:
        locals_ = [use_whole(x, comm) if t.split is None else x for x, t in zip(locals_, plan.targets)]
    mask = locals_.pop().to(torch.bool) if extra else None
    # Scalars became 0-d tensors of the wanted dtype, so torch's own (different) promotion never decides.
    locals_ = [_cast(x, kind.torch) for x, kind in zip(locals_, wanted)]
    return Call(comm, plan.layout, locals_, mask, compute, results)


def execute(
    row: Row, operands: tuple, out: DNDarray | None = None, where: object = True, dtype: object = None
) -> DNDarray:
    """Run an elementwise operation on any mixture of arrays and scalars (the general path)."""
    if watch.is_on and is_tracked(operands, out, where):
        return record_into(
            row.name, lambda xs, mask: execute(row, xs, None, mask, dtype), operands, out, where
        )
    if row.wide == "order" and row.result == "bool" and _is_beyond(operands):
        return _compare_with_integer(row, operands, out, where)
    call = prepare(row, operands, (out,), where, dtype)
    (result,) = call.results
    if call.compute.torch in types.WIDE_UNSIGNED:
        value = _compute_wide(row, call.locals)
    elif (
        out is not None
        and call.mask is None
        and out.larray.dtype is result.torch
        and not overlap(call.locals, out.larray)
    ):
        value = row.kernel(*call.locals, out=out.larray)
    else:
        value = row.kernel(*call.locals)
    return _finish(value, result, call.layout, call.comm, out, call.mask)


def execute_several(
    row: Row, operands: tuple, outs: tuple = (), where: object = True, dtype: object = None
) -> tuple[DNDarray, ...]:
    """Run an elementwise operation with several results."""
    if watch.is_on and is_tracked(operands, outs, where):
        return record_into(
            row.name, lambda xs, mask: execute_several(row, xs, (), mask, dtype), operands, outs, where
        )
    outs = outs or (None,) * len(row.result)
    call = prepare(row, operands, outs, where, dtype)
    wide = call.compute.torch in types.WIDE_UNSIGNED
    values = on_host(row, call.locals) if wide else row.kernel(*call.locals)
    return tuple(
        _finish(
            value,
            result,
            call.layout,
            call.comm,
            None if out is None else _same_layout(row, out, call),
            call.mask,
        )
        for value, result, out in zip(values, call.results, outs)
    )


def _same_layout(row: Row, out: DNDarray, call: Call) -> DNDarray:
    if out.layout is not call.layout:
        raise LayoutError(
            f"{row.name}: the arrays of out must have one layout, got {out.layout} and {call.layout}"
        )
    return out


def _compute_dtype(row: Row, operands: tuple, dtype: object) -> types.dtype:
    """Return the dtype of the computation: what the operands ask for, or what the caller does."""
    common = types.result_type(*operands)
    if common.kind not in row.accepts:
        raise DTypeError(f"{row.name}: operands must be of kind {kinds_text(row.accepts)}, got {common}")
    compute = COMPUTE[row.compute](*operands)
    if dtype is not None and row.result != "bool":
        wanted = types.canonical(dtype)
        if not types.can_cast(common, wanted, "same_kind") or COMPUTE[row.compute](wanted) is not wanted:
            raise DTypeError(f"{row.name}: dtype must be one that can hold {compute}, got {wanted}")
        compute = wanted
    if row.numpy is None and row.wide == "host" and compute.torch in types.WIDE_UNSIGNED:
        raise DTypeError(f"{row.name}: operands must not be of {compute}; cast with astype first")
    return compute


def _integer_dtype(row: Row, x: object) -> types.dtype:
    kind = types.result_type(x)
    if kind.kind not in types.INTEGRAL:
        raise DTypeError(f"{row.name}: the last operand must be an integer, got {kind}")
    return types.int64 if kind.torch in types.WIDE_UNSIGNED or type(x) in _WEAK else kind


def _finish(value, result, layout, comm, out, mask) -> DNDarray:
    if out is not None and value is out.larray:
        return out
    shape = layout.lshape(comm.rank)
    if tuple(value.shape) != shape:
        value = value.expand(shape).contiguous()
    value = _cast(value, result.torch)
    if out is None:
        if mask is not None:
            value = torch.where(mask, value, torch.zeros((), dtype=value.dtype, device=value.device))
        return DNDarray(value, layout, comm)
    value = _cast(value, out.larray.dtype)
    if mask is None:
        out.larray.copy_(value)
    else:
        out.larray.copy_(torch.where(mask, value, out.larray))
    return out


def overlap(operands: list[torch.Tensor], out: torch.Tensor) -> bool:
    """Tell whether writing to `out` could change an operand that is still to be read: another view of its memory."""
    memory = out.untyped_storage().data_ptr()
    return any(
        x.untyped_storage().data_ptr() == memory
        and (x.data_ptr() != out.data_ptr() or x.shape != out.shape or x.stride() != out.stride())
        for x in operands
    )


# -- unsigned integers wider than a byte ------------------------------------------------------------------------


def _compute_wide(row: Row, locals_: list[torch.Tensor]) -> torch.Tensor:
    """Compute on uint16, uint32 or uint64: on the same bits as signed integers where the row allows it."""
    if row.wide == "host":
        return on_host(row, locals_)
    signed = [x.view(_SIGNED[x.dtype]) if x.dtype in _SIGNED else x for x in locals_]
    if (
        row.wide == "order"
    ):  # adding half the range turns the order of unsigned integers into that of signed ones
        signed = [x ^ torch.iinfo(x.dtype).min if x.dtype in _UNSIGNED else x for x in signed]
    value = row.kernel(*signed)
    if value.dtype in _UNSIGNED and row.result == "common":
        value = value ^ torch.iinfo(value.dtype).min if row.wide == "order" else value
        value = value.view(_UNSIGNED[value.dtype])
    return value


def on_host(row: Row, locals_: list[torch.Tensor]):
    """Compute by NumPy's function of the same name."""
    device = locals_[0].device
    with np.errstate(all="ignore"):
        found = getattr(np, row.numpy)(*(x.cpu().numpy() for x in locals_))
    if isinstance(found, tuple):
        return tuple(torch.from_numpy(np.asarray(x)).to(device) for x in found)
    return torch.from_numpy(np.asarray(found)).to(device)


# -- scalars ------------------------------------------------------------------------------------------------------


def _scalar(value, compute: types.dtype, device: torch.device, comm: Communicator, op: str) -> DNDarray:
    if compute.kind in "iu" and type(value) is int:
        limits = types.iinfo(compute)
        if not limits.min <= value <= limits.max:
            raise OverflowError(
                f"{op}: Python integer {value} is out of bounds for {compute}; cast the array first"
            )
    # Through the widest dtype of its kind: torch refuses a number beyond float16, which is infinite there.
    made = (
        torch.tensor(value, dtype=torch.float64)
        if type(value) is float
        else torch.tensor(value, dtype=compute.torch)
    )
    return DNDarray(made.to(device, compute.torch), Layout((), None), comm)


def _is_beyond(operands: tuple) -> bool:
    """Tell whether an integer array meets a Python integer that its dtype cannot hold."""
    strong = [types.result_type(x) for x in operands if type(x) not in _WEAK]
    if len(strong) != 1 or strong[0].kind not in "iu":
        return False
    limits = types.iinfo(strong[0])
    return any(type(x) is int and not limits.min <= x <= limits.max for x in operands)


def _compare_with_integer(row: Row, operands: tuple, out: DNDarray | None, where: object) -> DNDarray:
    """Compare with an integer beyond the dtype of the array: all its elements compare as 0 does."""
    (array,) = (x for x in operands if type(x) is not int)
    answer = row.kernel(
        *(torch.tensor(0.0 if type(x) is not int else math.copysign(1.0, x)) for x in operands)
    )
    constant = Row(
        row.name,
        lambda x, out=None: torch.full_like(x, bool(answer), dtype=torch.bool),
        "iu",
        "common",
        "bool",
        None,
        wide="bits",
    )
    return execute(constant, (array,), out, where)


def kinds_text(letters: str) -> str:
    """Return the kinds of dtypes in words."""
    words = {
        "b": "bool",
        "i": "signed integer",
        "u": "unsigned integer",
        "f": "real floating",
        "c": "complex",
    }
    return ", ".join(words[k] for k in letters)
