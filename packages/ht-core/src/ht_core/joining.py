"""Joining arrays: concatenate, stack, block and their relatives.

All of them are one operation: boxes of the result are operands. Nothing is sent where the arrays are joined along an
axis that is not split and their layouts agree; otherwise one exchange brings every element to its place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from . import types
from .dndarray import DNDarray, _cast
from .engines.operands import as_arrays
from .engines.pieces import Piece, assemble, plan_pieces
from .engines.redistribution import redistribute
from .errors import DTypeError, LayoutError
from .layout import Layout, normalize_axis
from .manipulation import atleast_1d, atleast_2d, atleast_3d, expand_dims
from .registry import register
from .reshaping import ravel


def concatenate(
    arrays: Sequence[object],
    /,
    axis: int | None = 0,
    out: DNDarray | None = None,
    *,
    dtype: object = None,
    casting: str = "same_kind",
) -> DNDarray:
    """Join arrays along an existing axis.

    *Distribution*: the result is split as the largest split operand is. Along an axis that is not split, nothing
    is sent where the layouts agree; otherwise the other operands move to the largest one's layout. Along the split
    axis the result is even and each element is sent at most once. One exchange in all; replicated operands send
    nothing.

    Parameters
    ----------
    arrays : sequence of array_like
        Arrays that agree in all axes but `axis`.
    axis : int or None
        None joins the flattened arrays.
    out : DNDarray, optional
        Where the result is written; it keeps its layout and dtype.
    dtype : dtype, optional
        The promoted dtype by default.
    casting : {"no", "equiv", "safe", "same_kind", "unsafe"}
        Which conversions to `dtype` or that of `out` are allowed.

    Returns
    -------
    DNDarray
        Memory of its own.

    Raises
    ------
    LayoutError
        If there is no array, the shapes do not agree, or `out` has another shape.
    DTypeError
        If `casting` forbids the conversion.

    Examples
    --------
    >>> ht.concatenate([ht.ones((2, 3), split=0), ht.zeros((2, 1), split=0)], axis=1).shape
    (2, 4)
    """
    arrays = list(arrays)
    if out is None and dtype is None and type(axis) is int and arrays and type(arrays[0]) is DNDarray:
        first = arrays[0]
        layout, comm, kind = first.layout, first.comm, first.larray.dtype
        if 0 <= axis < len(layout.shape) and (axis != layout.split or comm.size == 1):
            same = (type(x) is DNDarray and x.layout is layout and x.comm is comm for x in arrays)
            if all(same) and all(x.larray.dtype is kind for x in arrays):  # the short way of what follows
                n = layout.shape[axis] * len(arrays)
                joined = layout.with_counts((n,)) if axis == layout.split else layout.with_axis(axis, n)
                return DNDarray(torch.cat([x.larray for x in arrays], dim=axis), joined, comm)
    return _concatenate(arrays, axis, out, dtype, casting, "concatenate")


def _concatenate(arrays, axis, out, dtype, casting, op: str) -> DNDarray:
    arrays = _some(arrays, op)
    if axis is None:
        arrays, axis = [ravel(x) for x in arrays], 0
    first = arrays[0].shape
    if not first:
        raise LayoutError(f"{op}: arrays must have at least one axis, got a 0-D array; use stack")
    axis = normalize_axis(axis, len(first), op)
    start, offsets = 0, []
    for x in arrays:
        if len(x.shape) != len(first) or any(
            a != b for i, (a, b) in enumerate(zip(x.shape, first)) if i != axis
        ):
            raise LayoutError(
                f"{op}: arrays must agree in all axes but {axis}, got {[x.shape for x in arrays]}"
            )
        offsets.append((0,) * axis + (start,) + (0,) * (len(first) - axis - 1))
        start += x.shape[axis]
    shape = (*first[:axis], start, *first[axis + 1 :])
    return _join(arrays, offsets, shape, _Target(out, dtype, casting, op), axis)


class _Target:
    """Dtype and place of the result of joining."""

    def __init__(self, out: object, dtype: object, casting: str, op: str) -> None:
        if out is not None and dtype is not None:
            raise DTypeError(f"{op}: dtype must be left out where out is given, got {dtype}")
        if out is not None and not isinstance(out, DNDarray):
            raise DTypeError(f"{op}: out must be a DNDarray, got {type(out).__name__}")
        self.out, self.dtype, self.casting, self.op = out, dtype, casting, op

    def find_dtype(self, arrays: list[DNDarray]) -> types.dtype:
        promoted = types.result_type(*arrays)
        wanted = self.dtype if self.out is None else self.out.dtype
        if wanted is None:
            return promoted
        wanted = types.canonical(wanted)
        if not all(types.can_cast(x.dtype, wanted, self.casting) for x in arrays):
            raise DTypeError(
                f"{self.op}: dtype must be one that casting={self.casting!r} allows from {promoted}, got {wanted}"
            )
        return wanted


def _join(
    arrays: list[DNDarray],
    offsets: list[tuple[int, ...]],
    shape: tuple[int, ...],
    target: _Target,
    axis: int | None = None,
) -> DNDarray:
    """Return the array of `shape` that consists of `arrays` at their offsets.

    `axis` is the only one they are joined along, if there is only one.
    """
    kind = target.find_dtype(arrays).torch
    layout = _joined_layout(arrays, shape) if target.out is None else target.out.layout
    if layout.shape != shape:
        raise LayoutError(f"{target.op}: out must have shape {shape}, got {layout.shape}")
    comm, locals_ = arrays[0].comm, [x.larray for x in arrays]
    pieces = tuple(
        Piece(k, tuple((0, n) for n in x.shape), tuple((o, o + n) for o, n in zip(offset, x.shape)))
        for k, (x, offset) in enumerate(zip(arrays, offsets))
    )
    plan = plan_pieces(tuple(x.layout for x in arrays), layout, pieces, comm.size)
    if (
        target.out is None
        and not plan.moves
        and axis is not None
        and (axis != layout.split or comm.size == 1)
    ):
        parts = [_cast(_aligned(x, layout, axis), kind) for x in arrays]
        if all(x.dtype is kind for x in locals_) or any(x.requires_grad for x in locals_):
            return DNDarray(torch.cat(parts, dim=axis), layout, comm)
    device = locals_[0].device
    if target.out is None:
        local = torch.empty(layout.lshape(comm.rank), dtype=kind, device=device)
    else:
        local = target.out.larray
        memory = local.untyped_storage().data_ptr()
        if any(x.untyped_storage().data_ptr() == memory for x in locals_):
            local = torch.empty_like(local)
    if any(x.requires_grad for x in locals_):  # then one dtype travels, see `taped.exchange`
        locals_ = [_cast(x, kind) for x in locals_]
    assemble(locals_, plan, local, comm)
    if target.out is None:
        return DNDarray(local, layout, comm)
    if local is not target.out.larray:
        target.out.larray.copy_(local)
    return target.out


def _aligned(x: DNDarray, layout: Layout, axis: int) -> torch.Tensor:
    """Return the local part of `x` under the layout of a result, cut along another axis than `axis`."""
    if x.split is not None or layout.split is None or layout.split == axis:
        return x.larray
    return redistribute(x.larray, x.layout, Layout(x.shape, layout.split, layout.counts), x.comm)


def _joined_layout(arrays: list[DNDarray], shape: tuple[int, ...]) -> Layout:
    """Return the layout of the largest split operand, even where the arrays are joined along the split axis."""
    largest = max((x for x in arrays if x.split is not None), key=lambda x: x.size, default=None)
    if largest is None:
        return Layout(shape, None)
    split = largest.split
    if len(arrays) == 1 or all(x.shape[split] == shape[split] for x in arrays):
        return Layout(shape, split, largest.layout.counts)
    return Layout.even(shape, split, largest.comm.size)


def _some(arrays: Sequence[object], op: str) -> list[DNDarray]:
    made = as_arrays(arrays, op)
    if not made:
        raise LayoutError(f"{op}: arrays must contain at least one array, got none")
    return made


def stack(
    arrays: Sequence[object],
    /,
    axis: int = 0,
    out: DNDarray | None = None,
    *,
    dtype: object = None,
    casting: str = "same_kind",
) -> DNDarray:
    """Join arrays of one shape along a new axis.

    *Distribution*: as :func:`concatenate` along an axis that is not split: nothing is sent where the layouts agree.

    Parameters
    ----------
    arrays : sequence of array_like
        Arrays of one shape.
    axis : int
        Place of the new axis in the result, in [-(ndim + 1), ndim].
    out, dtype, casting
        As for :func:`concatenate`.

    Raises
    ------
    LayoutError
        If there is no array, or their shapes differ.

    Examples
    --------
    >>> ht.stack([ht.arange(3, split=0), ht.arange(3, split=0)], axis=1).shape
    (3, 2)
    """
    made = _some(arrays, "stack")
    axis = normalize_axis(axis, made[0].ndim + 1, "stack")
    if len({x.shape for x in made}) != 1:
        raise LayoutError(f"stack: arrays must have one shape, got {[x.shape for x in made]}")
    return _concatenate([expand_dims(x, axis) for x in made], axis, out, dtype, casting, "stack")


def hstack(arrays: Sequence[object], /, *, dtype: object = None, casting: str = "same_kind") -> DNDarray:
    """Join arrays along axis 1, 1-D ones along axis 0. Nothing is sent where that is not split and layouts agree."""
    made = [atleast_1d(x) for x in _some(arrays, "hstack")]
    return _concatenate(made, 0 if made[0].ndim == 1 else 1, None, dtype, casting, "hstack")


def vstack(arrays: Sequence[object], /, *, dtype: object = None, casting: str = "same_kind") -> DNDarray:
    """Join arrays along axis 0; 1-D arrays are rows. See :func:`concatenate`."""
    made = [atleast_2d(x) for x in _some(arrays, "vstack")]
    return _concatenate(made, 0, None, dtype, casting, "vstack")


def dstack(arrays: Sequence[object], /, *, dtype: object = None, casting: str = "same_kind") -> DNDarray:
    """Join arrays along axis 2; 1-D arrays of n elements count as (1, n, 1), 2-D ones get a third axis.

    Nothing is sent where the layouts agree and axis 2 is not split; see :func:`concatenate`.
    """
    made = [atleast_3d(x) for x in _some(arrays, "dstack")]
    return _concatenate(made, 2, None, dtype, casting, "dstack")


def column_stack(arrays: Sequence[object], /) -> DNDarray:
    """Join 1-D arrays as columns and 2-D arrays along axis 1. Nothing is sent where the layouts agree."""
    made = [x if x.ndim > 1 else expand_dims(atleast_1d(x), 1) for x in _some(arrays, "column_stack")]
    return _concatenate(made, 1, None, None, "same_kind", "column_stack")


def block(arrays: object) -> DNDarray:
    """Join nested lists of arrays: the innermost along the last axis, the next along the one before it, and so on.

    *Distribution*: one exchange as for :func:`concatenate`, whatever the depth; none where the result is not
    joined along the split axis and the layouts agree.

    Parameters
    ----------
    arrays : nested lists of array_like
        All lists of one depth; arrays of fewer axes get leading axes of extent 1.

    Raises
    ------
    LayoutError
        If a list is empty, the depths differ, or shapes do not fit.

    Examples
    --------
    >>> ht.block([[ht.eye(2), ht.zeros((2, 1))], [ht.ones((1, 3))]]).numpy().tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 1.0]]
    """
    leaves: list[tuple[tuple[int, ...], object]] = []
    depth = _collect_leaves(arrays, (), leaves)
    made = as_arrays([leaf for _, leaf in leaves], "block")
    ndim = max(depth, *(x.ndim for x in made))
    made = [expand_dims(x, tuple(range(ndim - x.ndim))) for x in made]
    offsets: list[tuple[int, ...]] = []
    shape = _place(arrays, iter(made), ndim - depth, ndim, (0,) * ndim, offsets)
    if len(made) == 1:
        return made[0].copy()
    return _join(made, offsets, shape, _Target(None, None, "same_kind", "block"))


def _collect_leaves(node: object, path: tuple[int, ...], leaves: list) -> int:
    """Append (path, leaf) of a nested list in order; return the depth of the lists."""
    if isinstance(node, tuple):
        raise LayoutError("block: arrays must be nested lists, got a tuple; use a list")
    if not isinstance(node, list):
        leaves.append((path, node))
        return 0
    depths = {_collect_leaves(child, (*path, i), leaves) for i, child in enumerate(node)}
    if len(depths) != 1:
        raise LayoutError(
            f"block: arrays must be nested lists of one depth without empty ones, got depths {sorted(depths)} at {path}"
        )
    return depths.pop() + 1


def _place(node, arrays, axis: int, ndim: int, origin: tuple[int, ...], offsets: list) -> tuple[int, ...]:
    """Append the offset of each array below `node`, which begins at `origin`; return the shape of the node."""
    if not isinstance(node, list):
        offsets.append(origin)
        return next(arrays).shape
    shape: tuple[int, ...] | None = None
    for child in node:
        here = (*origin[:axis], origin[axis] + (0 if shape is None else shape[axis]), *origin[axis + 1 :])
        got = _place(child, arrays, axis + 1, ndim, here, offsets)
        if shape is None:
            shape = got
        elif any(a != b for i, (a, b) in enumerate(zip(shape, got)) if i != axis):
            raise LayoutError(f"block: arrays must agree in all axes but {axis}, got {shape} and {got}")
        else:
            shape = (*shape[:axis], shape[axis] + got[axis], *shape[axis + 1 :])
    return shape


def append(x: object, values: object, axis: int | None = None) -> DNDarray:
    """Return the array with `values` behind its end along an axis; without `axis` both are flattened.

    *Distribution*: as :func:`concatenate`.

    Raises
    ------
    LayoutError
        If the shapes do not agree in the other axes.

    Examples
    --------
    >>> ht.append(ht.arange(3, split=0), [7]).numpy().tolist()
    [0, 1, 2, 7]
    """
    made = as_arrays((x, values), "append")
    if axis is None:
        made, axis = [ravel(each) for each in made], 0
    return _concatenate(made, axis, None, None, "same_kind", "append")


def _register(function: Callable, **options: object) -> None:
    register(
        function,
        kind="manipulation",
        numpy=function.__name__,
        method=False,
        cost="None where the split axis is untouched and layouts agree; else one exchange.",
        **options,
    )


_register(concatenate, aliases=("concat",))
_register(vstack, aliases=("row_stack",))
for _function in (stack, hstack, dstack, column_stack, block, append):
    _register(_function)
