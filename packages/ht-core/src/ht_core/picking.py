"""Picking elements: along an axis by position, by a condition, or among several arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from . import types
from .dndarray import DNDarray, _cast
from .engines.elementwise import as_operand, plan_elementwise
from .engines.indexing import bits
from .engines.operands import as_arrays
from .engines.redistribution import redistribute
from .errors import DTypeError, LayoutError
from .indexing import check_mode, flatnonzero, getitem, setitem, take, within
from .layout import Layout, normalize_axis
from .registry import register

#: Elements of a result that are computed at once where several operands meet.
BLOCK = 1 << 20


# -- along an axis ------------------------------------------------------------------------------------------------


def along_axis(x: DNDarray, indices: object, axis: object, op: str) -> tuple[DNDarray, int, tuple[int, ...]]:
    """Return checked positions along an axis, the axis, and the shape to which they and the array broadcast.

    Raises
    ------
    DTypeError
        If the positions are not integers.
    LayoutError
        If the numbers of axes differ, shapes do not broadcast or `axis` is out of range.
    IndexError
        If a position is out of bounds, on every rank: one check where `indices` are split.
    """
    indices = as_operand(indices, x.comm, x.larray.device, op)
    if indices.dtype.kind not in "iu":
        raise DTypeError(f"{op}: indices must be integers, got {indices.dtype}; cast with astype first")
    if indices.ndim != x.ndim:
        raise LayoutError(f"{op}: indices must have {x.ndim} axes as the array has, got {indices.ndim}")
    axis = normalize_axis(axis, x.ndim, op)
    pairs = [(n, m) for a, (n, m) in enumerate(zip(x.shape, indices.shape)) if a != axis]
    if any(n != m and 1 not in (n, m) for n, m in pairs):
        raise LayoutError(
            f"{op}: indices must broadcast to the array beside axis {axis}, got shapes {indices.shape} and {x.shape}"
        )
    both = zip(x.shape, indices.shape)
    shape = tuple(m if a == axis else m if n == 1 else n for a, (n, m) in enumerate(both))
    return within(indices, x.shape[axis], "raise", op), axis, shape


def mesh(where: DNDarray, axis: int, shape: tuple[int, ...]) -> tuple:
    """Return positions along `axis`, and each other axis's own positions, as a key of index arrays."""
    device = where.larray.device
    key = []
    for a, n in enumerate(shape):
        own = torch.arange(n, device=device).reshape(*(n if b == a else 1 for b in range(len(shape))))
        key.append(where if a == axis else DNDarray(own, Layout(tuple(own.shape), None), where.comm))
    return tuple(key)


def plan_along(x: Layout, indices: Layout, axis: int, shape: tuple[int, ...]) -> Layout:
    """Return the layout of the result where no row along `axis` is cut: as the array, else as the positions. Pure."""
    for layout in (x, indices):
        split = layout.split
        if split is not None and layout.shape[split] == shape[split]:
            return Layout(shape, split, layout.counts)
    return Layout(shape, None)


def meeting(x: DNDarray, layout: Layout, axis: int | None = None) -> torch.Tensor:
    """Return this rank's part of an operand as it broadcasts to `layout` beside `axis`. One redistribution at most."""
    split = layout.split
    if split is None or split == axis or x.shape[split] != layout.shape[split]:
        target = Layout(x.shape, None)
    else:
        target = Layout(x.shape, split, layout.counts)
    return redistribute(x.larray, x.layout, target, x.comm)


def take_along_axis(x: DNDarray, indices: object, axis: int | None = -1) -> DNDarray:
    """Return, for each slice of `x` along an axis, the elements at positions of its own.

    *Distribution*: no message where `x` is not split along `axis` and `indices` are replicated or lie as `x` does;
    otherwise these are moved to `x` (8 bytes each). Along the split axis as ``x[idx]``: a constant number of words per
    element of the result. Split `indices` cost one check of their bounds besides.

    Parameters
    ----------
    x : DNDarray
    indices : array_like of int
        As many axes as `x`; broadcasts to it beside `axis`.
    axis : int or None
        None flattens `x` in C order; `indices` are then a vector.

    Returns
    -------
    DNDarray
        Of the shape of `indices` broadcast to `x` beside `axis`.

    Raises
    ------
    IndexError
        If a position is out of bounds, on every rank.
    LayoutError, DTypeError
        If shapes, `axis` or the dtype of `indices` do not fit.

    Examples
    --------
    >>> x = ht.array([[3, 1, 2], [6, 5, 4]], split=0)
    >>> ht.take_along_axis(x, ht.argsort(x, axis=1), axis=1).numpy().tolist()
    [[1, 2, 3], [4, 5, 6]]
    """
    if axis is None:
        if np.ndim(indices) != 1:
            raise LayoutError("take_along_axis: indices must be a vector without axis, got another shape")
        return take(x, indices)
    where, axis, shape = along_axis(x, indices, axis, "take_along_axis")
    if x.split == axis:
        return getitem(x, mesh(where, axis, x.shape))
    layout = plan_along(x.layout, where.layout, axis, shape)
    local, places = meeting(x, layout, axis), meeting(where, layout)
    lshape = layout.lshape(x.comm.rank)
    extents = (*lshape[:axis], x.shape[axis], *lshape[axis + 1 :])
    found = bits(local).expand(extents).gather(axis, places.expand(lshape))
    return DNDarray(found.view(x.larray.dtype), layout, x.comm)


# -- by a condition -----------------------------------------------------------------------------------------------


def _as_bool(condition: object, x: DNDarray, op: str) -> DNDarray:
    condition = as_operand(condition, x.comm, x.larray.device, op)
    local = condition.larray
    return condition if local.dtype is torch.bool else DNDarray(bits(local) != 0, condition.layout, x.comm)


def compress(condition: object, x: DNDarray, axis: int | None = None) -> DNDarray:
    """Return the slices of `x` along an axis for which a condition holds.

    *Distribution*: as ``x[condition]``: rows stay where they are; one exchange of counts where a split condition lies
    as `x` does along `axis`, none where the condition is replicated.

    Parameters
    ----------
    condition : array_like of bool, shape (m,)
        May be shorter than the axis, and longer where the rest is false.
    x : array_like
    axis : int, optional
        Without it, `x` is flattened in C order.

    Returns
    -------
    DNDarray

    Raises
    ------
    LayoutError
        If the condition is no vector or `axis` is out of range.
    IndexError
        If the condition holds beyond the axis, on every rank.

    Examples
    --------
    >>> ht.compress([True, False, True], ht.arange(4, split=0)).numpy().tolist()
    [0, 2]
    """
    (x,) = (
        as_arrays([x], "compress")
        if not isinstance(condition, DNDarray)
        else as_arrays([condition, x], "compress")[1:]
    )
    condition = _as_bool(condition, x, "compress")
    if condition.ndim != 1:
        raise LayoutError(f"compress: condition must be a vector, got shape {condition.shape}")
    axis = normalize_axis(axis, x.ndim, "compress") if axis is not None else 0 if x.ndim == 1 else None
    if axis is None or condition.size > x.shape[axis]:
        return take(x, flatnonzero(condition), axis)
    before = (slice(None),) * axis
    return getitem(getitem(x, (*before, slice(condition.size))), (*before, condition))


def extract(condition: object, x: DNDarray) -> DNDarray:
    """Return the elements of `x`, in C order, where a condition of the same size holds.

    *Distribution*: as ``x[condition]`` where the shapes are equal, as :func:`compress` otherwise.

    Parameters
    ----------
    condition : array_like
        Nonzero means true.
    x : array_like

    Returns
    -------
    DNDarray
        Of shape (n,).

    Raises
    ------
    IndexError
        If the condition holds beyond the end of `x`, on every rank.

    Examples
    --------
    >>> x = ht.arange(6, split=0)
    >>> ht.extract(x % 2 == 1, x).numpy().tolist()
    [1, 3, 5]
    """
    condition, x = as_arrays([condition, x], "extract")
    condition = _as_bool(condition, x, "extract")
    if condition.shape == x.shape and x.ndim:
        return getitem(x, condition)
    return take(x, flatnonzero(condition))


# -- among several arrays -----------------------------------------------------------------------------------------


def meet(arrays: Sequence[DNDarray], op: str) -> tuple[Layout, list[torch.Tensor]]:
    """Return the common layout of arrays that broadcast, and this rank's parts expanded to it.

    *Distribution*: elementwise. No message where layouts are equal or operands replicated, else the cheaper move.
    """
    comm = arrays[0].comm
    plan = plan_elementwise(tuple(x.layout for x in arrays), comm.size, None, op)
    lshape = plan.layout.lshape(comm.rank)
    parts = [redistribute(x.larray, x.layout, t, comm).expand(lshape) for x, t in zip(arrays, plan.targets)]
    return plan.layout, parts


def in_blocks(kernel: Callable[..., torch.Tensor], parts: list[torch.Tensor]) -> torch.Tensor:
    """Return ``kernel(*parts)`` of an elementwise kernel, block by block along the first axis where parts are large."""
    shape = parts[0].shape
    if parts[0].numel() <= BLOCK or shape[0] == 1 or any(p.requires_grad for p in parts):
        return kernel(*parts)
    step, out = max(1, BLOCK * shape[0] // parts[0].numel()), None
    for at in range(0, shape[0], step):
        made = kernel(*(p[at : at + step] for p in parts))
        if out is None:
            out = torch.empty(shape, dtype=made.dtype, device=made.device)
        out[at : at + step] = made
    return out


def choose(x: object, choices: Sequence[object], mode: str = "raise") -> DNDarray:
    """Return, element by element, the value of the choice that `x` names.

    *Distribution*: elementwise. No message where layouts are equal or operands replicated; the bounds of a split `x`
    cost one check with ``mode="raise"``.

    Parameters
    ----------
    x : array_like of int
        Numbers of choices.
    choices : sequence of array_like, or DNDarray
        They broadcast with `x`; an array is a sequence along its first axis, which must not be split.
    mode : {"raise", "wrap", "clip"}
        What happens to numbers outside [0, n): an error; modulo n; 0 or n - 1.

    Returns
    -------
    DNDarray
        Of the promoted dtype of the choices.

    Raises
    ------
    ValueError
        If a number is out of bounds, on every rank.
    LayoutError, DTypeError
        If there are no choices, shapes do not broadcast or `x` does not consist of integers.

    Examples
    --------
    >>> ht.choose(ht.array([2, 0, 1], split=0), [[0, 1, 2], [10, 11, 12], [20, 21, 22]]).numpy().tolist()
    [20, 1, 12]
    """
    check_mode(mode, "choose")
    if isinstance(choices, DNDarray) and choices.split == 0:
        raise LayoutError(
            "choose: choices must not be split along their first axis; use resplit(choices, None)"
        )
    x, *arrays = as_arrays([x, *choices], "choose")
    n = len(arrays)
    if x.dtype.kind not in "biu":
        raise DTypeError(f"choose: x must consist of integers, got {x.dtype}; cast with astype first")
    if not n:
        raise LayoutError("choose: choices must be one or more, got none")
    numbers = x.larray.to(torch.int64)
    if mode == "wrap":
        numbers = numbers % n
    elif mode == "clip":
        numbers = numbers.clamp(0, n - 1)
    else:
        bad = numbers[(numbers < 0) | (numbers >= n)]
        error = ValueError(f"choose: x must be in [0, {n}), got {int(bad[0])}") if len(bad) else None
        if x.split is not None:
            x.comm.agree(error)
        elif error is not None:
            raise error
    kind = types.result_type(*arrays).torch
    layout, parts = meet([DNDarray(numbers, x.layout, x.comm), *arrays], "choose")

    def kernel(numbers: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        out = bits(_cast(values[0], kind))
        for k, value in enumerate(values[1:], start=1):
            out = torch.where(numbers == k, bits(_cast(value, kind)), out)
        return out

    return DNDarray(in_blocks(kernel, parts).contiguous().view(kind), layout, x.comm)


def select(condlist: Sequence[object], choicelist: Sequence[object], default: object = 0) -> DNDarray:
    """Return, element by element, the value of the first choice whose condition holds.

    *Distribution*: elementwise. No message where layouts are equal or operands replicated.

    Parameters
    ----------
    condlist : sequence of array_like of bool
    choicelist : sequence of array_like
        As many; all of them broadcast.
    default : array_like
        Where no condition holds.

    Returns
    -------
    DNDarray
        Of the promoted dtype of the choices and the default.

    Raises
    ------
    LayoutError
        If the lists are empty or differ in length, or shapes do not broadcast.
    DTypeError
        If a condition is not of dtype bool.

    Examples
    --------
    >>> x = ht.arange(6, split=0)
    >>> ht.select([x < 2, x > 3], [x, x * 10], -1).numpy().tolist()
    [0, 1, -1, -1, 40, 50]
    """
    n = len(condlist)
    if n != len(choicelist) or not n:
        raise LayoutError(
            f"select: condlist and choicelist must be of one length above 0, got {n} and {len(choicelist)}"
        )
    arrays = as_arrays([*condlist, *choicelist, default], "select")
    for condition in arrays[:n]:
        if condition.dtype is not types.bool_:
            raise DTypeError(f"select: conditions must be of dtype bool, got {condition.dtype}")
    weak = [
        v if type(v) in (bool, int, float, complex) else a for v, a in zip((*choicelist, default), arrays[n:])
    ]
    kind = types.result_type(*weak).torch
    layout, parts = meet(arrays, "select")

    def kernel(*parts: torch.Tensor) -> torch.Tensor:
        out = bits(_cast(parts[-1], kind))
        for condition, value in reversed(list(zip(parts[:n], parts[n:-1]))):
            out = torch.where(condition, bits(_cast(value, kind)), out)
        return out

    return DNDarray(in_blocks(kernel, parts).contiguous().view(kind), layout, arrays[0].comm)


def piecewise(
    x: object, condlist: object, funclist: Sequence[object], *args: object, **kw: object
) -> DNDarray:
    """Evaluate a function that is defined piece by piece: each function on the elements of its condition only.

    *Distribution*: conditions that lie as `x` does cost two exchanges of counts for each function; constants none.
    The functions are called on all ranks, also where a rank has no such element.

    Parameters
    ----------
    x : array_like
    condlist : sequence of array_like of bool, or one of them
        Of the shape of `x`; where several hold, the last one counts.
    funclist : sequence of callable or number
        ``f(x[condition], *args, **kw)``, or a constant; one more than conditions is for the elements where none holds,
        which are 0 otherwise.

    Returns
    -------
    DNDarray
        Of the shape and dtype of `x`.

    Raises
    ------
    LayoutError
        If the numbers of functions and conditions do not fit, or a condition has another shape.

    Examples
    --------
    >>> x = ht.arange(-2, 3, split=0)
    >>> ht.piecewise(x, [x < 0, x > 1], [lambda v: -v, 10]).numpy().tolist()
    [2, 1, 0, 0, 10]
    """
    is_single = isinstance(condlist, (bool, np.bool_)) or (
        np.ndim(condlist) == 0 if isinstance(condlist, np.ndarray) else isinstance(condlist, DNDarray)
    )
    is_single = is_single or (not isinstance(condlist, DNDarray) and len(condlist) and _is_flat(condlist, x))
    x, *conditions = as_arrays([x, *([condlist] if is_single else condlist)], "piecewise")
    conditions = [_as_bool(c, x, "piecewise") for c in conditions]
    if any(c.shape != x.shape for c in conditions):
        raise LayoutError(f"piecewise: conditions must have the shape {x.shape} of x")
    if len(funclist) == len(conditions) + 1:
        rest = select(conditions, [False] * len(conditions), True)
        conditions.append(DNDarray(rest.larray.to(torch.bool), rest.layout, x.comm))
    if len(funclist) != len(conditions):
        raise LayoutError(
            f"piecewise: funclist must have as many entries as condlist or one more, got {len(funclist)} for "
            f"{len(conditions)}"
        )
    y = DNDarray(torch.zeros_like(x.larray), x.layout, x.comm)
    for condition, function in zip(conditions, funclist):
        setitem(
            y, condition, function(getitem(x, condition), *args, **kw) if callable(function) else function
        )
    return y


def _is_flat(condlist: object, x: object) -> bool:
    """Tell whether a sequence is one condition rather than several: its entries are single values, and `x` is not."""
    first = condlist[0]
    return not isinstance(first, (DNDarray, list, tuple)) and np.ndim(first) == 0 and np.ndim(x) > 0


register(
    take_along_axis, kind="indexing", numpy="take_along_axis", arity=2, cost="None beside the split axis."
)
register(compress, kind="indexing", numpy="compress", arity=2, method=False, cost="As x[condition].")
register(extract, kind="indexing", numpy="extract", arity=2, method=False, cost="As x[condition].")
register(choose, kind="indexing", numpy="choose", arity=2)
register(select, kind="indexing", numpy="select", arity=2, method=False)
register(piecewise, kind="indexing", numpy="piecewise", arity=2, method=False, cost="Exchanges of counts.")


def _compress(self: DNDarray, condition: object, axis: int | None = None) -> DNDarray:
    """Return the slices along an axis for which a condition holds; see :func:`compress`."""
    return compress(condition, self, axis)


DNDarray.compress = _compress
