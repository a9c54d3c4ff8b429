"""Reversing and rotating arrays: one exchange where the split axis is reversed, no message otherwise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from .dndarray import DNDarray
from .engines.indexing import bits
from .engines.indexing import flip as flip_local
from .engines.pieces import Piece, assemble, plan_pieces
from .errors import LayoutError
from .layout import normalize_axes, normalize_axis
from .manipulation import swapaxes
from .registry import register

_LONG_ROW = 64  # from this many elements on, picking whole rows is up to three times faster than torch.flip


def flip(x: DNDarray, /, axis: int | Sequence[int] | None = None) -> DNDarray:
    """Return the array with its elements in reverse order along axes.

    *Distribution*: the layout stays. No message where the split axis is not reversed; otherwise one exchange, in
    which each element is sent once at most.

    Parameters
    ----------
    axis : int or sequence of int, optional
        All axes by default.

    Returns
    -------
    DNDarray
        Memory of its own.

    Raises
    ------
    LayoutError
        If an axis is out of range or named twice.

    Examples
    --------
    >>> ht.flip(ht.arange(3, split=0)).numpy().tolist()
    [2, 1, 0]
    """
    return _flip(x, normalize_axes(axis, x.ndim, "flip"))


def _flip(x: DNDarray, axes: tuple[int, ...]) -> DNDarray:
    if x.comm.size == 1 or x.split not in axes:
        return DNDarray(_reversed(x.larray, axes), x.layout, x.comm)
    box = tuple((0, n) for n in x.shape)
    plan = plan_pieces((x.layout,), x.layout, (Piece(0, box, box, axes),), x.comm.size)
    out = torch.empty(x.lshape, dtype=x.larray.dtype, device=x.larray.device)
    assemble([x.larray], plan, out, x.comm)
    return DNDarray(out, x.layout, x.comm)


def _reversed(local: torch.Tensor, axes: tuple[int, ...]) -> torch.Tensor:
    """Return a reversed copy of a local tensor."""
    if not axes:
        return local.clone()
    if len(axes) == 1 and local.is_contiguous() and math.prod(local.shape[axes[0] + 1 :]) >= _LONG_ROW:
        rows = torch.arange(local.shape[axes[0]] - 1, -1, -1, device=local.device)
        return bits(local).index_select(axes[0], rows).view(local.dtype)
    return flip_local(local, axes)


def fliplr(x: DNDarray) -> DNDarray:
    """Return the array with axis 1 reversed. See :func:`flip`.

    Raises
    ------
    LayoutError
        If the array has fewer than two axes.
    """
    if x.ndim < 2:
        raise LayoutError(f"fliplr: x must have two axes or more, got shape {x.shape}; use flip")
    return _flip(x, (1,))


def flipud(x: DNDarray) -> DNDarray:
    """Return the array with axis 0 reversed. See :func:`flip`.

    Raises
    ------
    LayoutError
        If the array is 0-D.
    """
    if not x.ndim:
        raise LayoutError("flipud: x must have an axis, got a 0-D array")
    return _flip(x, (0,))


def rot90(x: DNDarray, k: int = 1, axes: Sequence[int] = (0, 1)) -> DNDarray:
    """Return the array rotated by `k` times 90 degrees in the plane of two axes, from the first towards the second.

    *Distribution*: the split follows its axis. One exchange where the split axis is reversed, as by :func:`flip`;
    otherwise no message.

    Raises
    ------
    LayoutError
        If `axes` are not two different axes of the array.

    Examples
    --------
    >>> ht.rot90(ht.array([[1, 2], [3, 4]], split=0)).numpy().tolist()
    [[2, 4], [1, 3]]
    """
    plane = [normalize_axis(a, x.ndim, "rot90", "axes") for a in axes]
    if len(plane) != 2 or plane[0] == plane[1]:
        raise LayoutError(f"rot90: axes must be two different axes, got {tuple(axes)}")
    first, second = plane
    turns = k % 4
    if turns == 0:
        return x.copy()
    if turns == 2:
        return _flip(x, (first, second))
    if turns == 1:
        return swapaxes(_flip(x, (second,)), first, second)
    return swapaxes(_flip(x, (first,)), first, second)


for _function in (flip, fliplr, flipud, rot90):
    register(
        _function,
        kind="manipulation",
        numpy=_function.__name__,
        cost="None where the split axis is not reversed; else one exchange.",
    )
