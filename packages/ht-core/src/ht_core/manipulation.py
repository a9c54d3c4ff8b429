"""Rearranging arrays. Nothing is sent where the split axis is untouched; otherwise one redistribution.

Results that need no data to move may share memory with their input, as NumPy's do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from . import types
from .dndarray import DNDarray, _cast
from .engines.creation import normalize_shape, normalize_split
from .engines.elementwise import as_operand, broadcast_shapes, common_comm
from .engines.redistribution import move_boxes, redistribute
from .errors import LayoutError
from .layout import Layout, even_counts, normalize_axes, normalize_axis
from .registry import register

# -- reshape --------------------------------------------------------------------------------------------------


def plan_reshape(layout: Layout, shape: tuple[int, ...]) -> Layout | None:
    """Return the layout of `shape` under which no element changes its rank, or None if there is none. Pure."""
    if layout.split is None:
        return Layout(shape, None)
    before = math.prod(layout.shape[: layout.split])
    for axis, extent in enumerate(shape):
        if math.prod(shape[:axis]) == before and extent == layout.shape[layout.split]:
            return Layout(shape, axis, layout.counts)
    if before == 1 and shape:
        # Parts are runs of the flattened array; they may be cut at other rows if these start where the runs do.
        row, inner = math.prod(layout.shape[layout.split + 1 :]), math.prod(shape[1:])
        if inner and all(count * row % inner == 0 for count in layout.counts):
            return Layout(shape, 0, [count * row // inner for count in layout.counts])
    return None


def reshape(
    x: DNDarray, /, *shape: object, copy: bool | None = None, new_split: int | None = None
) -> DNDarray:
    """Return the array with another shape and the same elements in C order.

    *Distribution*: no message where the split axis keeps its extent and what is in front of it, or parts end at rows of
    the new shape; the split follows. Otherwise the result is split along axis 0, by at most two redistributions; with
    `new_split` one more where it is another axis.

    Parameters
    ----------
    shape : int or tuple of int
        The new shape; one extent may be -1.
    copy : bool, optional
        True copies always; False refuses where data has to move.
    new_split : int, optional
        The axis along which the result is cut, evenly.

    Raises
    ------
    LayoutError
        If the sizes differ, `new_split` is out of range, or `copy` is False and data has to move.

    Examples
    --------
    >>> ht.arange(6, split=0).reshape(2, 3).numpy().tolist()
    [[0, 1, 2], [3, 4, 5]]
    """
    shape = _infer(shape[0] if len(shape) == 1 else shape, x.size)
    wanted = normalize_split(new_split, len(shape), "reshape")
    stay = plan_reshape(x.layout, shape)
    moves = stay is None or (wanted is not None and Layout.even(shape, wanted, x.comm.size) is not stay)
    if copy is False and moves and x.is_distributed():
        raise LayoutError("reshape: copy must not be False where elements change their rank; leave it out")
    if stay is not None:
        local, layout = x.larray.reshape(stay.lshape(x.comm.rank)), stay
    else:
        local, layout = _through_runs(x, shape)
    if wanted is not None:
        target = Layout.even(shape, wanted, x.comm.size)
        local, layout = redistribute(local, layout, target, x.comm), target
    if copy and local.untyped_storage().data_ptr() == x.larray.untyped_storage().data_ptr():
        local = local.clone()
    return DNDarray(local, layout, x.comm)


def _through_runs(x: DNDarray, shape: tuple[int, ...]) -> tuple[torch.Tensor, Layout]:
    """Move parts that are runs of the flattened array, which is one-dimensional redistribution."""
    if not shape:
        return redistribute(x.larray, x.layout, Layout.replicated(x.shape), x.comm).reshape(()), Layout(
            (), None
        )
    rows = x.layout if x.split == 0 else Layout.even(x.shape, 0, x.comm.size)
    local = redistribute(x.larray, x.layout, rows, x.comm)
    layout = Layout.even(shape, 0, x.comm.size)
    row, inner = math.prod(x.shape[1:]), math.prod(shape[1:])
    source = Layout((x.size,), 0, [count * row for count in rows.counts])
    target = Layout((x.size,), 0, [count * inner for count in layout.counts])
    flat = redistribute(local.reshape(-1), source, target, x.comm)
    return flat.reshape(layout.lshape(x.comm.rank)), layout


def _infer(shape: object, size: int) -> tuple[int, ...]:
    items = [n.__index__() for n in ((shape,) if hasattr(shape, "__index__") else shape)]
    if items.count(-1) == 1:
        rest = math.prod(n for n in items if n != -1)
        items[items.index(-1)] = size // rest if rest else 0
    result = normalize_shape(items, "reshape")
    if math.prod(result) != size:
        raise LayoutError(f"reshape: shape must have {size} elements, got {shape}")
    return result


def flatten(x: DNDarray) -> DNDarray:
    """Return a 1-D copy in C order. No message where the array is split along axis 0 or replicated."""
    return reshape(x, -1, copy=True)


def ravel(x: DNDarray) -> DNDarray:
    """Return a 1-D array in C order. No message where the array is split along axis 0 or replicated."""
    return reshape(x, -1)


# -- axes: no message ------------------------------------------------------------------------------------------


def permute_dims(x: DNDarray, /, axes: Sequence[int] | None = None) -> DNDarray:
    """Return a view with permuted axes, reversed by default. The split follows its axis; no message.

    Raises
    ------
    LayoutError
        If `axes` is not a permutation.
    """
    axes = (
        tuple(range(x.ndim))[::-1]
        if axes is None
        else tuple(normalize_axis(a, x.ndim, "permute_dims") for a in axes)
    )
    if sorted(axes) != list(range(x.ndim)):
        raise LayoutError(f"permute_dims: axes must be a permutation of the {x.ndim} axes, got {axes}")
    return DNDarray(x.larray.permute(axes), x.layout.permute(axes), x.comm)


def transpose(x: DNDarray, axes: Sequence[int] | None = None) -> DNDarray:
    """Return a view with permuted axes, reversed by default. The split follows its axis; no message."""
    return permute_dims(x, axes)


def matrix_transpose(x: DNDarray, /) -> DNDarray:
    """Return a view with the last two axes swapped. No message.

    Raises
    ------
    LayoutError
        If the array has fewer than two axes.
    """
    if x.ndim < 2:
        raise LayoutError(f"matrix_transpose: the array must have at least two axes, got shape {x.shape}")
    return swapaxes(x, -2, -1)


def swapaxes(x: DNDarray, axis1: int, axis2: int) -> DNDarray:
    """Return a view with two axes swapped. No message."""
    axes = list(range(x.ndim))
    a, b = normalize_axis(axis1, x.ndim, "swapaxes"), normalize_axis(axis2, x.ndim, "swapaxes")
    axes[a], axes[b] = b, a
    return permute_dims(x, axes)


def moveaxis(x: DNDarray, source: int | Sequence[int], destination: int | Sequence[int], /) -> DNDarray:
    """Return a view with axes moved to new positions, the others in their order. No message."""
    source, destination = (
        [normalize_axis(a, x.ndim, "moveaxis") for a in ((v,) if hasattr(v, "__index__") else v)]
        for v in (source, destination)
    )
    if (
        len(source) != len(destination)
        or len(set(source)) != len(source)
        or len(set(destination)) != len(source)
    ):
        raise LayoutError(
            f"moveaxis: source and destination must pair up distinct axes, got {source}, {destination}"
        )
    axes = [a for a in range(x.ndim) if a not in source]
    for to, axis in sorted(zip(destination, source)):
        axes.insert(to, axis)
    return permute_dims(x, axes)


def expand_dims(x: DNDarray, /, axis: int | Sequence[int] = 0) -> DNDarray:
    """Return a view with new axes of extent 1 at the given positions of the result. No message.

    Raises
    ------
    LayoutError
        If a position is out of range or named twice.
    """
    axes = (axis,) if hasattr(axis, "__index__") else tuple(axis)
    local, layout = x.larray, x.layout
    for a in normalize_axes(axes, x.ndim + len(axes), "expand_dims"):
        local, layout = local.unsqueeze(a), layout.insert(a)
    return DNDarray(local, layout, x.comm)


def squeeze(x: DNDarray, /, axis: int | Sequence[int] | None = None) -> DNDarray:
    """Return a view without the given axes of extent 1, all of them by default.

    *Distribution*: no message, unless the split axis itself is dropped: then its single row is sent to every rank.

    Raises
    ------
    LayoutError
        If a named axis has another extent.
    """
    if axis is None:
        axes = tuple(a for a, n in enumerate(x.shape) if n == 1)
    else:
        axes = normalize_axes(axis, x.ndim, "squeeze")
    if any(x.shape[a] != 1 for a in axes):
        raise LayoutError(f"squeeze: axis must name axes of extent 1, got {axes} for shape {x.shape}")
    whole = Layout.replicated(x.shape) if x.split in axes else x.layout
    local = redistribute(x.larray, x.layout, whole, x.comm)
    layout = whole.drop(axes)
    return DNDarray(local.reshape(layout.lshape(x.comm.rank)), layout, x.comm)


def broadcast_to(x: object, /, shape: Sequence[int]) -> DNDarray:
    """Return a read-only view with the given shape, repeating axes of extent 1.

    *Distribution*: no message, unless the split axis is repeated: then its single row is sent to every rank.

    Raises
    ------
    LayoutError
        If the array does not broadcast to `shape`.
    """
    x = (
        x
        if isinstance(x, DNDarray)
        else as_operand(x, common_comm([], "broadcast_to"), torch.device("cpu"), "broadcast_to")
    )
    shape = normalize_shape(shape, "broadcast_to")
    if broadcast_shapes(x.shape, shape, op="broadcast_to") != shape:
        raise LayoutError(f"broadcast_to: shape must be one that {x.shape} broadcasts to, got {shape}")
    axis = None if x.split is None else x.split + len(shape) - x.ndim
    if axis is None or shape[axis] != x.shape[x.split]:
        source, layout = Layout.replicated(x.shape), Layout.replicated(shape)
    else:
        source, layout = x.layout, Layout(shape, axis, x.layout.counts)
    local = redistribute(x.larray, x.layout, source, x.comm)
    return DNDarray(local.expand(layout.lshape(x.comm.rank)), layout, x.comm)


# -- joining ----------------------------------------------------------------------------------------------------


def concatenate(arrays: Sequence[object], /, axis: int | None = 0, *, dtype: object = None) -> DNDarray:
    """Join arrays along an existing axis.

    *Distribution*: along an axis that is not split, nothing is sent where the layouts agree (otherwise the smaller
    operands move to the largest one's); along the split axis the result is balanced and each element is sent at most
    once. Replicated operands send nothing.

    Parameters
    ----------
    arrays : sequence of array_like
        Arrays that agree in all axes but `axis`.
    axis : int or None
        None joins the flattened arrays.
    dtype : dtype, optional
        The promoted dtype by default.

    Raises
    ------
    LayoutError
        If there is no array or the shapes do not agree.

    Examples
    --------
    >>> ht.concatenate([ht.ones((2, 3), split=0), ht.zeros((2, 1), split=0)], axis=1).shape
    (2, 4)
    """
    arrays = _arrays(arrays, "concatenate")
    if axis is None:
        arrays, axis = [ravel(x) for x in arrays], 0
    axis = normalize_axis(axis, arrays[0].ndim, "concatenate")
    if len({x.shape[:axis] + x.shape[axis + 1 :] for x in arrays}) != 1 or len({x.ndim for x in arrays}) != 1:
        raise LayoutError(
            f"concatenate: arrays must agree in all axes but {axis}, got {[x.shape for x in arrays]}"
        )
    kind = (types.result_type(*arrays) if dtype is None else types.canonical(dtype)).torch
    largest = max((x for x in arrays if x.split is not None), key=lambda x: x.size, default=arrays[0])
    join = _along_split if largest.split == axis else _along_other
    return join(arrays, axis, kind, largest)


def _along_other(arrays: list[DNDarray], axis: int, kind: torch.dtype, largest: DNDarray) -> DNDarray:
    split, counts, comm = largest.split, largest.layout.counts, largest.comm
    parts = [
        _cast(redistribute(x.larray, x.layout, Layout(x.shape, split, counts), comm), kind) for x in arrays
    ]
    extent = sum(x.shape[axis] for x in arrays)
    shape = (*largest.shape[:axis], extent, *largest.shape[axis + 1 :])
    return DNDarray(torch.cat(parts, dim=axis), Layout(shape, split, counts), comm)


def _along_split(arrays: list[DNDarray], axis: int, kind: torch.dtype, largest: DNDarray) -> DNDarray:
    comm = largest.comm
    extent = sum(x.shape[axis] for x in arrays)
    layout = Layout(
        (*largest.shape[:axis], extent, *largest.shape[axis + 1 :]), axis, even_counts(extent, comm.size)
    )
    result = torch.empty(layout.lshape(comm.rank), dtype=kind, device=largest.larray.device)
    start, mine = 0, layout.displs[comm.rank]
    for x in arrays:
        n = x.shape[axis]
        # What each rank's part of the result takes from x, as a range of x's own rows.
        ranges = [
            (min(max(d - start, 0), n), min(max(d + c - start, 0), n))
            for d, c in zip(layout.displs, layout.counts)
        ]
        low, high = ranges[comm.rank]
        place = result.narrow(axis, max(start - mine, 0) if high > low else 0, high - low)
        move_boxes(_cast(x.larray, kind), x.layout, ranges, axis, comm, place)
        start += n
    return DNDarray(result, layout, comm)


def _arrays(arrays: Sequence[object], op: str) -> list[DNDarray]:
    comm = common_comm([x for x in arrays if isinstance(x, DNDarray)], op)
    devices = [x.larray.device for x in arrays if isinstance(x, DNDarray)] or [torch.device("cpu")]
    made = [as_operand(x, comm, devices[0], op) for x in arrays]
    if not made:
        raise LayoutError(f"{op}: arrays must contain at least one array, got none")
    return made


def stack(arrays: Sequence[object], /, axis: int = 0) -> DNDarray:
    """Join arrays of one shape along a new axis. Nothing is sent where the layouts agree."""
    made = _arrays(arrays, "stack")
    axis = normalize_axis(axis, made[0].ndim + 1, "stack")
    if len({x.shape for x in made}) != 1:
        raise LayoutError(f"stack: arrays must have one shape, got {[x.shape for x in made]}")
    return concatenate([expand_dims(x, axis) for x in made], axis)


def hstack(arrays: Sequence[object], /) -> DNDarray:
    """Join arrays along axis 1, 1-D ones along axis 0. Nothing is sent where that is not split and layouts agree."""
    made = [x if x.ndim else reshape(x, 1) for x in _arrays(arrays, "hstack")]
    return concatenate(made, 0 if made[0].ndim == 1 else 1)


def vstack(arrays: Sequence[object], /) -> DNDarray:
    """Join arrays along axis 0; 1-D arrays are rows. See :func:`concatenate`."""
    return concatenate([x if x.ndim > 1 else reshape(x, 1, -1) for x in _arrays(arrays, "vstack")], 0)


def column_stack(arrays: Sequence[object], /) -> DNDarray:
    """Join 1-D arrays as columns and 2-D arrays along axis 1. Nothing is sent where the layouts agree."""
    return concatenate([x if x.ndim > 1 else reshape(x, -1, 1) for x in _arrays(arrays, "column_stack")], 1)


for _function in (
    permute_dims,
    transpose,
    matrix_transpose,
    swapaxes,
    moveaxis,
    expand_dims,
    squeeze,
    flatten,
    ravel,
):
    register(_function, kind="manipulation", numpy=_function.__name__)
register(reshape, kind="manipulation", numpy="reshape", cost="None where the split axis is untouched.")
register(broadcast_to, kind="manipulation", numpy="broadcast_to", method=False)
register(concatenate, kind="manipulation", numpy="concatenate", method=False, aliases=("concat",))
for _function in (stack, hstack, vstack, column_stack):
    register(_function, kind="manipulation", numpy=_function.__name__, method=False)

DNDarray.T = property(permute_dims, doc="The array with its axes reversed, as a view. No message.")
DNDarray.mT = property(
    matrix_transpose, doc="The array with its last two axes swapped, as a view. No message."
)
