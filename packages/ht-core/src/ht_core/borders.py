"""Borders whose values are computed: statistics, ramps, odd reflections, a user's function. For `padding`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from . import types
from .dndarray import DNDarray, _cast
from .engines.indexing import bits, get_basic
from .engines.redistribution import redistribute
from .errors import DTypeError
from .layout import Layout
from .registry import OPERATIONS

Widths = tuple[tuple[int, int], ...]

_STATISTICS = {"maximum": "max", "minimum": "min", "mean": "mean", "median": "median"}


def as_element(value: object, dtype: types.dtype) -> bool | int | float | complex:
    """Return a number as NumPy casts it to `dtype`."""
    if dtype.numpy is None:
        return float(value)
    with np.errstate(all="ignore"):
        return np.asarray(value).astype(dtype.numpy).item()


def _slice(x: DNDarray, axis: int, start: int, stop: int) -> DNDarray:
    return get_basic(x, (*((None, None, None),) * axis, (start, stop, None)))


def edge_row(x: DNDarray, axis: int, side: int) -> torch.Tensor:
    """Return this rank's part of the first (`side` 0) or last row along an axis, which stays with extent 1.

    *Distribution*: a broadcast of the row where the axis is split.
    """
    index = 0 if side == 0 else x.shape[axis] - 1
    return get_basic(x, (*((None, None, None),) * axis, index)).larray.unsqueeze(axis)


def set_statistic(border: DNDarray, inner: DNDarray, axis: int, mode: str, length: int, side: int) -> None:
    """Set a border to a statistic of the `length` rows beside it."""
    n = inner.shape[axis]
    rows = _slice(inner, axis, *((0, length) if side == 0 else (n - length, n)))
    value = OPERATIONS[_STATISTICS[mode]].function(rows, axis=axis, keepdims=True).larray
    if border.dtype.kind in "iu" and value.is_floating_point():
        value = value.round()
    border.larray.copy_(_cast(value, border.larray.dtype))


def set_ramp(border: DNDarray, axis: int, end: complex, edge: torch.Tensor, is_reversed: bool) -> None:
    """Set a border to numbers that run from `end`, at the far side, to the row `edge`, which is not part of it."""
    width = border.shape[axis]
    start = border.layout.offset(border.comm.rank) if axis == border.split else 0
    count = border.larray.shape[axis]
    steps = torch.arange(start, start + count, device=edge.device)
    steps = width - 1 - steps if is_reversed else steps
    is_complex = border.dtype.kind == "c" or isinstance(end, complex)
    kind = torch.complex128 if is_complex else torch.float64
    shape = [-1 if a == axis else 1 for a in range(border.ndim)]
    values = steps.to(kind).reshape(shape) * ((edge.to(kind) - end) / width) + end
    if border.dtype.kind in "iu":
        values = values.floor()
    border.larray.copy_(_cast(values, border.larray.dtype))


def make_odd(out: DNDarray, widths: Widths, is_symmetric: bool) -> None:
    """Turn even reflections of an array, in place, into odd ones: point reflections at its edges.

    With the period P of the even continuation and D = last - first, the odd one is x(r) + 2 q D at ``q P + r``
    where r is a row of the array, and 2 last - x(r') + 2 q D where it is the image of a row r'. It is linear, so
    that axes commute.

    *Distribution*: two broadcasts of a row for the split axis, no other message.
    """
    if out.dtype.kind == "b":
        raise DTypeError("pad: x must not be bool for reflect_type='odd', got bool; cast with astype first")
    for axis, (before, after) in enumerate(widths):
        n = out.shape[axis] - before - after
        if n < 2 or not before + after:
            continue
        array = _slice(out, axis, before, before + n)
        first, last = (bits(edge_row(array, axis, side)) for side in (0, 1))
        period = 2 * n if is_symmetric else 2 * (n - 1)
        for start, stop in ((0, before), (before + n, before + n + after)):
            border = _slice(out, axis, start, stop)
            offset = border.layout.offset(out.comm.rank) if axis == out.split else 0
            rows = np.arange(border.larray.shape[axis]) + (start - before + offset)
            turns, rest = np.divmod(rows, period)
            is_image = rest >= n
            local = bits(border.larray)

            def column(values: np.ndarray, like: torch.Tensor = local, axis: int = axis) -> torch.Tensor:
                shape = [-1 if a == axis else 1 for a in range(like.ndim)]
                return torch.from_numpy(values).to(like.device, like.dtype).reshape(shape)

            local.mul_(column(np.where(is_image, -1, 1)))
            local.add_(column(-2 * turns) * first).add_(column(2 * turns + 2 * is_image) * last)


def pad_by_function(out: DNDarray, widths: Widths, function: Callable, options: dict) -> DNDarray:
    """Let a user's function set the borders of all vectors of an array that is framed by zeros, axis after axis."""
    if out.dtype.numpy is None:
        raise DTypeError("pad: x must have a dtype that NumPy knows for a callable, got bfloat16")
    comm = out.comm
    for axis in range(out.ndim):
        layout, local = out.layout, out.larray
        if layout.split == axis:  # whole vectors: along another axis, or all on the first rank
            rest = [a for a in range(out.ndim) if a != axis and out.shape[a] > 1]
            if rest:
                layout = Layout.even(out.shape, rest[0], comm.size)
            else:
                layout = layout.with_counts([out.shape[axis], *[0] * (comm.size - 1)])
            local = redistribute(local, out.layout, layout, comm)
        host = local.cpu()
        error = None
        if local.shape[axis] == out.shape[axis]:
            try:
                _apply(host.numpy(), axis, widths[axis], function, options)
            except Exception as caught:  # a user's function, on some ranks only
                error = caught
        if comm.size > 1:
            comm.agree(error)
        elif error is not None:
            raise error
        if local.device.type != "cpu":
            local.copy_(host)
        out = DNDarray(redistribute(local, layout, out.layout, comm), out.layout, comm)
    return out


def _apply(array: np.ndarray, axis: int, width: tuple[int, int], function: Callable, options: dict) -> None:
    vectors = np.moveaxis(array, axis, -1)
    for index in np.ndindex(vectors.shape[:-1]):
        function(vectors[index], width, axis, options)
