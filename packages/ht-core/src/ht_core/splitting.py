"""Splitting arrays into parts: views that stay where their rows are. No message."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from .dndarray import DNDarray
from .engines.indexing import get_basic
from .engines.redistribution import redistribute
from .errors import DTypeError, LayoutError
from .layout import Layout, normalize_axis
from .registry import register


def array_split(x: DNDarray, indices_or_sections: object, axis: int = 0) -> list[DNDarray]:
    """Split an array into parts along an axis, as evenly as possible.

    *Distribution*: no message; each part is a view and its rows stay on the ranks that hold them, so that a part
    of an array that is split along `axis` lies on few ranks. ``balance`` spreads it.

    Parameters
    ----------
    indices_or_sections : int or sequence of int
        The number of parts, or the rows at which to cut, as in slices.
    axis : int

    Returns
    -------
    list of DNDarray

    Raises
    ------
    LayoutError
        If there are less than one part or the axis is out of range.

    Examples
    --------
    >>> [part.shape for part in ht.array_split(ht.arange(7, split=0), 3)]
    [(3,), (2,), (2,)]
    """
    return _parts(x, indices_or_sections, axis, "array_split", False)


def split(x: DNDarray, indices_or_sections: object, axis: int = 0) -> list[DNDarray]:
    """Split an array into equal parts, or at given rows, along an axis. See :func:`array_split`.

    *Distribution*: no message; views.

    Raises
    ------
    LayoutError
        If a number of parts does not divide the extent.
    """
    return _parts(x, indices_or_sections, axis, "split", True)


def hsplit(x: DNDarray, indices_or_sections: object) -> list[DNDarray]:
    """Split along axis 1, 1-D arrays along axis 0. See :func:`split`. No message."""
    _need_axes(x, 1, "hsplit")
    return _parts(x, indices_or_sections, 1 if x.ndim > 1 else 0, "hsplit", True)


def vsplit(x: DNDarray, indices_or_sections: object) -> list[DNDarray]:
    """Split along axis 0, which must not be the only one. See :func:`split`. No message."""
    _need_axes(x, 2, "vsplit")
    return _parts(x, indices_or_sections, 0, "vsplit", True)


def dsplit(x: DNDarray, indices_or_sections: object) -> list[DNDarray]:
    """Split along axis 2. See :func:`split`. No message."""
    _need_axes(x, 3, "dsplit")
    return _parts(x, indices_or_sections, 2, "dsplit", True)


def _need_axes(x: DNDarray, ndim: int, op: str) -> None:
    if x.ndim < ndim:
        raise LayoutError(f"{op}: x must have {ndim} axes or more, got shape {x.shape}")


def _parts(x: DNDarray, where: object, axis: int, op: str, equal: bool) -> list[DNDarray]:
    axis = normalize_axis(axis, x.ndim, op)
    extent = x.shape[axis]
    if np.ndim(where) == 0 and hasattr(where, "__index__"):
        sections = where.__index__()
        if sections <= 0:
            raise LayoutError(f"{op}: indices_or_sections must be at least 1, got {sections}")
        if equal and extent % sections:
            raise LayoutError(
                f"{op}: indices_or_sections must divide the extent {extent} of axis {axis}, got {sections}; "
                "use array_split"
            )
        small, more = divmod(extent, sections)
        marks = [i * small + min(i, more) for i in range(sections + 1)]
    else:
        rows = np.asarray(where)
        if rows.ndim != 1 or (rows.dtype.kind not in "iu" and rows.size):
            raise DTypeError(f"{op}: indices_or_sections must be an integer or a list of them, got {where!r}")
        marks = [0, *(int(row) for row in rows), extent]
    before = ((None, None, None),) * axis
    # As slices, so that rows beyond the end or before their predecessor give empty parts.
    return [
        get_basic(x, (*before, (a, b if i < len(marks) - 2 else None, None)))
        for i, (a, b) in enumerate(pairwise(marks))
    ]


def unstack(x: DNDarray, /, *, axis: int = 0) -> tuple[DNDarray, ...]:
    """Return the rows along an axis, in order.

    *Distribution*: no message, and views, where `axis` is not split. Along the split axis each row is replicated: one
    redistribution sends all of them to all ranks.

    Returns
    -------
    tuple of DNDarray
        ``x.shape[axis]`` arrays of one axis less.

    Raises
    ------
    LayoutError
        If the array is 0-D or `axis` out of range.

    Examples
    --------
    >>> [row.tolist() for row in ht.unstack(ht.arange(4, split=0).reshape(2, 2))]
    [[0, 1], [2, 3]]
    """
    axis = normalize_axis(axis, x.ndim, "unstack")
    local, layout = x.larray, x.layout
    if layout.split == axis:
        local = redistribute(local, layout, Layout.replicated(x.shape), x.comm)
    layout = layout.drop((axis,))
    return tuple(DNDarray(row, layout, x.comm) for row in local.unbind(axis))


for _function in (array_split, split, hsplit, vsplit, dsplit):
    register(_function, kind="manipulation", numpy=_function.__name__, method=False)
register(
    unstack,
    kind="manipulation",
    numpy="unstack",
    method=False,
    cost="None where the axis is not split; else one redistribution to all ranks.",
)
