"""Engine of elementwise operations: broadcast, promote, align, compute.

`plan_elementwise` decides from layouts alone which layout the result has and what each operand must do to meet it:
nothing, a local slice, or one redistribution. Equal layouts skip all of it: a few comparisons lead to the torch kernel.
This file knows no operation by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from ht_comm import CommError, get_comm

from .. import types
from ..dndarray import DNDarray, _cast
from ..errors import DTypeError, LayoutError
from ..layout import Layout
from ..registry import register
from .redistribution import redistribute

if TYPE_CHECKING:
    from ht_comm import Communicator

_WEAK = (bool, int, float, complex)
_COMPUTE = {"common": types.result_type, "floating": types.floating_type, "quotient": types.quotient_type}


@dataclass(frozen=True, slots=True)
class Row:
    """What the engine needs to know of an elementwise operation."""

    name: str
    kernel: Callable[..., torch.Tensor]
    accepts: str  # kinds of the common dtype
    compute: str  # dtype of the computation: a key of _COMPUTE
    result: str  # "common", "bool" or "real"
    numpy: str | None
    conditions: int = 0  # leading operands that are conditions: bool, and no part of the promotion


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


def execute(row: Row, operands: tuple, out: DNDarray | None, where: object) -> DNDarray:
    """Run an elementwise operation on any mixture of arrays and scalars (the general path)."""
    arrays = [x for x in operands if isinstance(x, DNDarray)]
    if out is not None and not isinstance(out, DNDarray):
        raise DTypeError(f"{row.name}: out must be a DNDarray, got {type(out).__name__}")
    masks = [where] if isinstance(where, DNDarray) else []
    comm = common_comm([*arrays, *masks, *([out] if out is not None else [])], row.name)
    device = (
        (arrays or masks or [out])[0].larray.device
        if (arrays or masks or out is not None)
        else torch.device("cpu")
    )
    operands = tuple(x if type(x) in _WEAK else as_operand(x, comm, device, row.name) for x in operands)

    common = types.result_type(*operands[row.conditions :])
    if common.kind not in row.accepts or (row.numpy is None and common.torch in types.WIDE_UNSIGNED):
        raise DTypeError(f"{row.name}: operands must be of kind {_kinds(row.accepts)}, got {common}")
    compute = _COMPUTE[row.compute](*operands[row.conditions :])
    result = {"common": compute, "bool": types.bool_, "real": types.to_real(compute)}[row.result]
    if out is not None and not types.can_cast(result, out.dtype, "same_kind"):
        raise DTypeError(
            f"{row.name}: out must be able to hold {result}, got {out.dtype}; cast with astype first"
        )

    wanted = (types.bool_,) * row.conditions + (compute,) * (len(operands) - row.conditions)
    operands = tuple(
        _scalar(x, dtype, device, comm, row.name) if type(x) in _WEAK else x
        for x, dtype in zip(operands, wanted)
    )
    extra = () if where is True else (as_operand(where, comm, device, row.name),)
    fixed = None if out is None else out.layout
    plan = plan_elementwise(tuple(x.layout for x in operands + extra), comm.size, fixed, row.name)
    locals_ = [
        redistribute(x.larray, x.layout, target, comm) for x, target in zip(operands + extra, plan.targets)
    ]
    mask = locals_.pop().to(torch.bool) if extra else None
    # Scalars became 0-d tensors of the wanted dtype, so torch's own (different) promotion never decides.
    locals_ = [_cast(x, dtype.torch) for x, dtype in zip(locals_, wanted)]
    if compute.torch in types.WIDE_UNSIGNED:
        value = on_host(row, locals_)
    elif (
        out is not None
        and mask is None
        and out.larray.dtype is result.torch
        and not _overlap(locals_, out.larray)
    ):
        value = row.kernel(*locals_, out=out.larray)
    else:
        value = row.kernel(*locals_)
    return _finish(value, result, plan.layout, comm, out, mask)


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


def _overlap(operands: list[torch.Tensor], out: torch.Tensor) -> bool:
    """Tell whether writing to `out` could change an operand that is still to be read: another view of its memory."""
    memory = out.untyped_storage().data_ptr()
    return any(
        x.untyped_storage().data_ptr() == memory
        and (x.data_ptr() != out.data_ptr() or x.shape != out.shape or x.stride() != out.stride())
        for x in operands
    )


def on_host(row: Row, locals_: list[torch.Tensor]) -> torch.Tensor:
    """Compute on uint16, uint32 or uint64, for which torch has no kernels, by NumPy's function of the same name."""
    device = locals_[0].device
    arrays = [x.cpu().numpy() for x in locals_]
    return torch.from_numpy(np.asarray(getattr(np, row.numpy)(*arrays))).to(device)


def _scalar(value, compute: types.dtype, device: torch.device, comm: Communicator, op: str) -> DNDarray:
    if compute.kind in "iu" and type(value) is int:
        limits = types.iinfo(compute)
        if not limits.min <= value <= limits.max:
            raise OverflowError(
                f"{op}: Python integer {value} is out of bounds for {compute}; cast the array first"
            )
    return DNDarray(torch.tensor(value, dtype=compute.torch, device=device), Layout((), None), comm)


def _kinds(letters: str) -> str:
    words = {
        "b": "bool",
        "i": "signed integer",
        "u": "unsigned integer",
        "f": "real floating",
        "c": "complex",
    }
    return ", ".join(words[k] for k in letters)


_DOC = """{summary}

{body}
*Distribution*: elementwise. Operands broadcast; operands of equal layout, replicated ones and scalars need no message.
Where layouts differ, the cheaper operand is moved to the other's layout by one redistribution.

Parameters
----------
{parameters}
out : DNDarray, optional
    Where the result is written; it keeps its layout and dtype.
where : array of bool, optional
    Compute only where True; elsewhere `out` keeps its values, and without `out` the result is 0.

Returns
-------
DNDarray
    {returns}

Raises
------
LayoutError
    If the shapes do not broadcast.
DTypeError
    If the promoted dtype is not {kinds}.
"""

_RETURNS = {
    "common": "Of the promoted dtype.",
    "bool": "Of dtype bool.",
    "real": "Of the promoted dtype, real where that is complex.",
}


def _document(function, row: Row, summary: str, body: str, names: tuple[str, ...]) -> None:
    function.__name__ = function.__qualname__ = row.name
    function.__module__ = "ht_core"
    function.__doc__ = _DOC.format(
        summary=summary,
        body=body + "\n" if body else "",
        parameters=", ".join(names) + " : array_like\n    Operands.",
        returns=_RETURNS[row.result],
        kinds=_kinds(row.accepts),
    )


def _direct(row: Row) -> frozenset[torch.dtype]:
    """Return the dtypes with which torch's kernel gives the declared result as it is."""
    kinds = row.accepts if row.compute == "common" else types.FLOATING
    fine = (d for d in types.DTYPES.values() if d.kind in kinds and d.kind in row.accepts)
    return frozenset(d.torch for d in fine if d.torch not in types.WIDE_UNSIGNED)


def unary(
    name: str,
    kernel: Callable[..., torch.Tensor],
    summary: str,
    *,
    accepts: str = types.ALL,
    compute: str = "common",
    result: str = "common",
    numpy: str | None = "",
    body: str = "",
    operators: tuple[str, ...] = (),
    aliases: tuple[str, ...] = (),
) -> Callable[..., DNDarray]:
    """Define an elementwise operation of one operand: the public function, its method and its operators."""
    row = Row(name, kernel, accepts, compute, result, name if numpy == "" else numpy)
    direct = _direct(row)

    def function(x: object, /, out: DNDarray | None = None, *, where: object = True) -> DNDarray:
        if out is None and where is True and type(x) is DNDarray and x.larray.dtype in direct:
            return DNDarray(kernel(x.larray), x.layout, x.comm)
        return execute(row, (x,), out, where)

    _document(function, row, summary, body, ("x",))
    return register(
        function, kind="elementwise", numpy=row.numpy, accepts=accepts, operators=operators, aliases=aliases
    )


def binary(
    name: str,
    kernel: Callable[..., torch.Tensor],
    summary: str,
    *,
    accepts: str = types.ALL,
    compute: str = "common",
    result: str = "common",
    numpy: str | None = "",
    body: str = "",
    operator: str | None = None,
    aliases: tuple[str, ...] = (),
) -> Callable[..., DNDarray]:
    """Define an elementwise operation of two operands.

    With `operator`, e.g. ``"add"``, also ``__add__``, ``__radd__`` and ``__iadd__``; in-place twins (``add_``) follow.
    """
    row = Row(name, kernel, accepts, compute, result, name if numpy == "" else numpy)
    direct = _direct(row)
    floating = frozenset(d for d in direct if d.is_floating_point)

    def function(x1: object, x2: object, /, out: DNDarray | None = None, *, where: object = True) -> DNDarray:
        if out is None and where is True and type(x1) is DNDarray:
            a = x1.larray
            if type(x2) is DNDarray:
                b = x2.larray
                if x1.layout is x2.layout and x1.comm is x2.comm and a.dtype is b.dtype and a.dtype in direct:
                    return DNDarray(kernel(a, b), x1.layout, x1.comm)
            elif type(x2) in (float, int) and a.dtype in floating:
                return DNDarray(kernel(a, x2), x1.layout, x1.comm)
        return execute(row, (x1, x2), out, where)

    _document(function, row, summary, body, ("x1", "x2"))
    operators = () if operator is None else (f"__{operator}__",)
    register(
        function,
        kind="elementwise",
        numpy=row.numpy,
        accepts=accepts,
        arity=2,
        operators=operators,
        aliases=aliases,
    )
    if operator is not None and result == "common":

        def reflected(self, other: object) -> DNDarray:
            return execute(row, (other, self), None, True)

        def inplace(self, other: object) -> DNDarray:
            return execute(row, (self, other), self, True)

        setattr(DNDarray, f"__r{operator}__", reflected)
        setattr(DNDarray, f"__i{operator}__", inplace)
        for alias in (name, *aliases):
            setattr(DNDarray, f"{alias}_", inplace)
    return function
