"""Axes of arrays: permuted, moved, added, dropped, repeated. Views; nothing is sent but a split axis that goes."""

from __future__ import annotations

from collections.abc import Sequence

from .dndarray import DNDarray
from .engines import elementwise
from .engines.creation import normalize_shape
from .engines.operands import as_arrays
from .engines.redistribution import redistribute
from .errors import LayoutError
from .layout import Layout, normalize_axes, normalize_axis
from .registry import register


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


def transpose(x: DNDarray, *args: int | Sequence[int], axes: Sequence[int] | None = None) -> DNDarray:
    """Return a view with permuted axes, reversed by default. The split follows its axis; no message.

    The axes are one sequence, or as many integers: ``x.transpose(1, 0)``.
    """
    if args:
        axes = args if hasattr(args[0], "__index__") else args[0]
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


def moveaxis(x: DNDarray, source: int | Sequence[int], destination: int | Sequence[int]) -> DNDarray:
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


def rollaxis(x: DNDarray, axis: int, start: int = 0) -> DNDarray:
    """Return a view with one axis moved in front of the axis that is now at `start`. No message.

    Raises
    ------
    LayoutError
        If `axis` or `start` is out of range.
    """
    axis = normalize_axis(axis, x.ndim, "rollaxis")
    start = x.ndim if start == x.ndim else normalize_axis(start, x.ndim, "rollaxis", "start")
    axes = [a for a in range(x.ndim) if a != axis]
    axes.insert(start - (axis < start), axis)
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
    (x,) = as_arrays([x], "broadcast_to")
    shape = normalize_shape(shape, "broadcast_to")
    if elementwise.broadcast_shapes(x.shape, shape, op="broadcast_to") != shape:
        raise LayoutError(f"broadcast_to: shape must be one that {x.shape} broadcasts to, got {shape}")
    axis = None if x.split is None else x.split + len(shape) - x.ndim
    if axis is None or shape[axis] != x.shape[x.split]:
        source, layout = Layout.replicated(x.shape), Layout.replicated(shape)
    else:
        source, layout = x.layout, Layout(shape, axis, x.layout.counts)
    local = redistribute(x.larray, x.layout, source, x.comm)
    return DNDarray(local.expand(layout.lshape(x.comm.rank)), layout, x.comm)


def broadcast_arrays(*arrays: object) -> list[DNDarray]:
    """Return read-only views of the shape to which all arrays broadcast. See :func:`broadcast_to`.

    Raises
    ------
    LayoutError
        If the shapes do not broadcast.
    """
    made = as_arrays(arrays, "broadcast_arrays")
    shape = elementwise.broadcast_shapes(*(x.shape for x in made), op="broadcast_arrays")
    return [x if x.shape == shape else broadcast_to(x, shape) for x in made]


def broadcast_shapes(*shapes: int | Sequence[int]) -> tuple[int, ...]:
    """Return the shape to which all shapes broadcast. No message.

    Raises
    ------
    LayoutError
        If they do not.

    Examples
    --------
    >>> ht.broadcast_shapes((3, 1), (2,))
    (3, 2)
    """
    return elementwise.broadcast_shapes(*(normalize_shape(s, "broadcast_shapes") for s in shapes))


def _at_least(arrays: tuple, op: str, view) -> DNDarray | tuple[DNDarray, ...]:
    made = tuple(view(x) for x in as_arrays(arrays, op))
    return made[0] if len(made) == 1 else made


def atleast_1d(*arrays: object) -> DNDarray | tuple[DNDarray, ...]:
    """Return 0-D arrays as arrays of one element, others as they are; a tuple for several. No message."""
    return _at_least(arrays, "atleast_1d", lambda x: x if x.ndim else expand_dims(x, 0))


def atleast_2d(*arrays: object) -> DNDarray | tuple[DNDarray, ...]:
    """Return arrays with new axes in front, so that they have two or more; a tuple for several. No message."""
    return _at_least(arrays, "atleast_2d", lambda x: expand_dims(x, tuple(range(max(2 - x.ndim, 0)))))


def atleast_3d(*arrays: object) -> DNDarray | tuple[DNDarray, ...]:
    """Return arrays with three or more axes: n elements are (1, n, 1), m x n are (m, n, 1). No message."""
    new = {0: (0, 1, 2), 1: (0, 2), 2: (2,)}
    return _at_least(arrays, "atleast_3d", lambda x: expand_dims(x, new.get(x.ndim, ())))


for _function in (
    permute_dims,
    transpose,
    matrix_transpose,
    swapaxes,
    moveaxis,
    rollaxis,
    expand_dims,
    squeeze,
):
    register(_function, kind="manipulation", numpy=_function.__name__)
for _function in (broadcast_to, broadcast_arrays, broadcast_shapes, atleast_1d, atleast_2d, atleast_3d):
    register(_function, kind="manipulation", numpy=_function.__name__, method=False)

DNDarray.T = property(permute_dims, doc="The array with its axes reversed, as a view. No message.")
DNDarray.mT = property(
    matrix_transpose, doc="The array with its last two axes swapped, as a view. No message."
)
