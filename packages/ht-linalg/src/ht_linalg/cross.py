"""Cross products of vectors of two or three components."""

from __future__ import annotations

import torch
from ht_core import DNDarray, moveaxis
from ht_core.errors import DTypeError, LayoutError
from ht_core.layout import normalize_axis

from .arguments import as_pair
from .products import aligned

_SIGNED = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}


def cross(
    a: object, b: object, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None
) -> DNDarray:
    """Return the cross product of vectors of two or three components; other axes broadcast.

    Parameters
    ----------
    a, b : array_like
    axisa, axisb, axisc : int
        The axes of the components in `a`, `b` and the result.
    axis : int, optional
        All three at once.

    Returns
    -------
    DNDarray
        Without the axis of components where both have two: the third component.

    *Distribution*: no message unless the layouts differ; an operand that is split along its components is resplit.

    Raises
    ------
    LayoutError
        If the components are not two or three, or the shapes do not broadcast.

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> ht_linalg.cross(ht.array([[1, 0, 0], [0, 1, 0]], split=0), ht.array([0, 0, 1])).numpy()
    array([[ 0, -1,  0],
           [ 1,  0,  0]])
    """
    a, b = as_pair("cross", a, b)
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = _components_last(a, axisa), _components_last(b, axisb)
    flat = a.shape[-1] == b.shape[-1] == 2
    x, y, layout = aligned("cross", _three(a), _three(b))
    if x.dtype is torch.bool:
        raise DTypeError("cross: arrays must be numeric, got bool; cast with astype first")
    x, y = torch.broadcast_tensors(x, y)
    kind = x.dtype
    if kind in _SIGNED:  # torch has no products of these; signed integers give the same bits
        x, y = x.view(_SIGNED[kind]), y.view(_SIGNED[kind])
    if flat:
        local = x[..., 0] * y[..., 1] - x[..., 1] * y[..., 0]
        return DNDarray(local.view(kind), layout.drop((layout.ndim - 1,)), a.comm)
    result = DNDarray(torch.linalg.cross(x, y, dim=-1).view(kind), layout, a.comm)
    axisc = normalize_axis(axisc, result.ndim, "cross", "axisc")
    return moveaxis(result, -1, axisc)


def _components_last(x: DNDarray, axis: int) -> DNDarray:
    """Return `x` with the components of its vectors along the last axis, which is not split."""
    if x.ndim == 0:
        raise LayoutError("cross: arrays must have at least one axis, got a 0-D array")
    axis = normalize_axis(axis, x.ndim, "cross", "axis")
    if x.shape[axis] not in (2, 3):
        raise LayoutError(
            f"cross: vectors must have 2 or 3 components, got {x.shape[axis]} along axis {axis}"
        )
    if x.split == axis:
        others = [other for other in range(x.ndim) if other != axis]
        x = x.resplit(max(others, key=lambda other: x.shape[other], default=None))
    return moveaxis(x, axis, -1)


def _three(x: DNDarray) -> DNDarray:
    """Return vectors of two components with a third one, zero."""
    if x.shape[-1] == 3:
        return x
    local = torch.nn.functional.pad(x.larray, (0, 1))
    return DNDarray(local, x.layout.with_axis(x.ndim - 1, 3), x.comm)
