"""Padding: all of NumPy's modes, for every layout.

Rows stay where they are: the ranks with the first and the last row get the borders along the split axis, as long as
these are no longer than the part of a rank; otherwise the result is cut evenly. Every element of the result is
written once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
import torch

from .borders import as_element, edge_row, make_odd, pad_by_function, set_ramp, set_statistic
from .dndarray import DNDarray
from .engines.indexing import fill, flip, get_basic
from .engines.pieces import along, assemble, plan_pieces
from .errors import LayoutError
from .layout import Layout
from .registry import register

Widths = tuple[tuple[int, int], ...]
Span = tuple[int, tuple[int, int], tuple[int, int], bool]

_OPTIONS = {
    "constant": ("constant_values",),
    "empty": (),
    "edge": (),
    "wrap": (),
    "reflect": ("reflect_type",),
    "symmetric": ("reflect_type",),
    "linear_ramp": ("end_values",),
    "maximum": ("stat_length",),
    "minimum": ("stat_length",),
    "mean": ("stat_length",),
    "median": ("stat_length",),
}
_COPIES = ("edge", "wrap", "reflect", "symmetric")


def pad(
    x: DNDarray,
    pad_width: object,
    mode: str | Callable = "constant",
    constant_values: object = None,
    **options: object,
) -> DNDarray:
    """Return the array with borders of given widths around it.

    *Distribution*: the split stays. Along the split axis, "constant" and "empty" send nothing where the widths are at
    most the even part of a rank, "edge", "wrap", "reflect" and "symmetric" send the rows that the borders consist of,
    "linear_ramp" two rows to all ranks, and statistics reduce over the split axis (see the reduction). Wider
    borders cost one redistribution to an even layout besides. Borders along other axes send nothing. A callable
    for the split axis needs whole vectors: two redistributions.

    Parameters
    ----------
    pad_width : int, (int, int), sequence of (before, after) or dict
        Widths for each axis; one number or pair holds for all of them; a dict names axes.
    mode : str or callable
        "constant", "edge", "linear_ramp", "maximum", "mean", "median", "minimum", "reflect", "symmetric", "wrap",
        "empty", or ``function(vector, (before, after), axis, options)``, which sets the borders of a NumPy vector
        in place.
    constant_values, end_values : number or pairs of numbers
        For "constant" and "linear_ramp"; 0 by default.
    stat_length : int or pairs of int, optional
        How many elements next to a border the statistics are of; all of them by default.
    reflect_type : {"even", "odd"}
        "odd": twice the value at the edge minus the reflected ones.

    Returns
    -------
    DNDarray
        Memory of its own.

    Raises
    ------
    LayoutError
        If the widths are negative or do not fit, the mode or an option is unknown, or an empty axis would have to be
        continued.

    Notes
    -----
    A callable is called on different vectors by different ranks; it must not communicate.

    Examples
    --------
    >>> ht.pad(ht.arange(3, split=0), (1, 2), "reflect").numpy().tolist()
    [1, 0, 1, 2, 1, 0]
    """
    widths = _pairs(pad_width, x.ndim, "pad_width", int)
    if constant_values is not None:
        options["constant_values"] = constant_values
    if callable(mode):
        frame = pad(x, widths, constant_values=0)
        return pad_by_function(frame, widths, mode, options)
    _check(x, widths, mode, options)
    out, done = _framed(x, widths, mode), set()
    axes = list(range(x.ndim))
    if mode in _COPIES and x.split is not None:  # the same in any order, and that of the split axis is done
        axes.remove(x.split)
        done.add(x.split)
    for axis in axes:
        inner = _part(out, widths, done)
        done.add(axis)
        if sum(widths[axis]) and mode != "empty":
            _set_borders(_part(out, widths, done), inner, axis, widths[axis], mode, options)
    if options.get("reflect_type") == "odd":
        make_odd(out, widths, mode == "symmetric")
    return out


def _part(out: DNDarray, widths: Widths, done: set[int]) -> DNDarray:
    """Return the view of the padded array that is whole along the axes in `done`, without borders along the others."""
    items = (
        (None, None, None) if axis in done else (before, n - after, None)
        for axis, (n, (before, after)) in enumerate(zip(out.shape, widths))
    )
    return get_basic(out, tuple(items))


def _set_borders(
    region: DNDarray, inner: DNDarray, axis: int, width: tuple[int, int], mode: str, options: dict
) -> None:
    """Set the borders of `region` along an axis; `inner` is the part between them."""
    n, (before, after) = inner.shape[axis], width
    if mode in _COPIES:
        for _, source, target, is_reversed in _spans(mode, n, before, after):
            if target[0] < target[1] and target != (before, before + n):
                rows = inner.larray.narrow(axis, source[0], source[1] - source[0])
                place = region.larray.narrow(axis, target[0], target[1] - target[0])
                place.copy_(flip(rows, (axis,)) if is_reversed else rows)
        return
    whole = ((None, None, None),) * axis
    sides = (
        get_basic(region, (*whole, (0, before, None))),
        get_basic(region, (*whole, (before + n, None, None))),
    )
    for side, border in enumerate(sides):
        if not width[side]:
            continue
        if mode == "constant":
            value = options.get("constant_values", ((0, 0),) * region.ndim)[axis][side]
            fill(border.larray, as_element(value, region.dtype))
        elif mode == "linear_ramp":
            value = options.get("end_values", ((0, 0),) * region.ndim)[axis][side]
            set_ramp(border, axis, value, edge_row(inner, axis, side), side == 1)
        else:
            lengths = options.get("stat_length")
            length = n if lengths is None else min(lengths[axis][side], n)
            set_statistic(border, inner, axis, mode, length, side)


def _pairs(value: object, ndim: int, argument: str, kind: type | None = None) -> tuple[tuple, ...]:
    """Return a (before, after) for each axis."""
    if isinstance(value, dict):
        given, value = value, [(0, 0)] * ndim
        for axis, width in given.items():
            value[axis] = (width, width) if np.ndim(width) == 0 else tuple(width)
    try:
        array = np.broadcast_to(np.asarray(value), (ndim, 2))
    except ValueError:
        raise LayoutError(
            f"pad: {argument} must be a number, a pair or a pair for each of the {ndim} axes, got {value!r}"
        ) from None
    if kind is int and (array.dtype.kind not in "iu" or (array < 0).any()) and array.size:
        raise LayoutError(f"pad: {argument} must consist of integers >= 0, got {value!r}")
    return tuple((pair[0], pair[1]) for pair in array.tolist())


def _check(x: DNDarray, widths: Widths, mode: str, options: dict) -> None:
    if mode not in _OPTIONS:
        raise LayoutError(f"pad: mode must be one of {', '.join(_OPTIONS)} or a callable, got {mode!r}")
    unknown = set(options) - set(_OPTIONS[mode])
    if unknown:
        raise LayoutError(f"pad: mode {mode!r} must not have the options {sorted(unknown)}")
    if options.get("reflect_type", "even") not in ("even", "odd"):
        raise LayoutError(f"pad: reflect_type must be even or odd, got {options['reflect_type']!r}")
    if options.get("stat_length") is not None:
        lengths = _pairs(options["stat_length"], x.ndim, "stat_length", int)
        if any(0 in pair for pair in lengths):
            raise LayoutError("pad: stat_length must be at least 1, got 0")
        options["stat_length"] = lengths
    for name in ("constant_values", "end_values"):
        if name in options:
            options[name] = _pairs(options[name], x.ndim, name)
    for axis, (n, pair) in enumerate(zip(x.shape, widths)):
        if not n and sum(pair) and mode not in ("constant", "empty"):
            raise LayoutError(f"pad: x must have elements along axis {axis} for mode {mode!r}, got {x.shape}")


# -- where the result lies --------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def plan_pad(layout: Layout, widths: Widths) -> Layout:
    """Return the layout of a padded array. Pure."""
    shape = tuple(n + before + after for n, (before, after) in zip(layout.shape, widths))
    split, counts = layout.split, list(layout.counts)
    if split is None:
        return Layout(shape, None)
    p, n, (before, after) = len(counts), layout.shape[split], widths[split]
    if max(before, after) > -(-n // p):
        return Layout.even(shape, split, p)
    held = [rank for rank, count in enumerate(counts) if count] or [0]
    counts[held[0]] += before
    counts[held[-1]] += after
    return Layout(shape, split, counts)


def _framed(x: DNDarray, widths: Widths, mode: str) -> DNDarray:
    """Return the padded array with its inner part set, and what is copied along the split axis."""
    comm, split = x.comm, x.split
    layout = plan_pad(x.layout, widths)
    out = torch.empty(layout.lshape(comm.rank), dtype=x.larray.dtype, device=x.larray.device)
    inner = out
    for axis, (n, (before, _)) in enumerate(zip(x.shape, widths)):
        if axis != split:
            inner = inner.narrow(axis, before, n)
    if split is None:
        inner.copy_(x.larray)
    elif x.size:
        n, (before, after) = x.shape[split], widths[split]
        spans = (
            _spans(mode, n, before, after) if mode in _COPIES else [(0, (0, n), (before, before + n), False)]
        )
        shape = (*x.shape[:split], layout.shape[split], *x.shape[split + 1 :])
        plan = plan_pieces(
            (x.layout,), Layout(shape, split, layout.counts), along(split, shape, spans), comm.size
        )
        assemble([x.larray], plan, inner, comm)
    return DNDarray(out, layout, comm)


def _spans(mode: str, n: int, before: int, after: int) -> list[Span]:
    """Return which rows make up the result along an axis of `n` rows."""
    if mode == "edge":
        return [
            (0, (0, 1), (0, before), False),
            (0, (0, n), (before, before + n), False),
            (0, (n - 1, n), (before + n, before + n + after), False),
        ]
    return [
        (0, source, (start + before, stop + before), is_reversed)
        for source, (start, stop), is_reversed in _periods(mode, n, -before, n + after)
    ]


def _periods(mode: str, n: int, start: int, stop: int) -> Iterator[tuple]:
    """Yield (rows of the array, rows of the result, reversed) of its continuation from row `start` to `stop`.

    Reflected at the edge rows ("reflect") or behind them ("symmetric"), an array has a period of ``2 (n - 1)`` or
    ``2 n``.
    """
    if mode == "reflect" and n == 1:
        mode = "wrap"
    period = {"wrap": n, "reflect": 2 * (n - 1), "symmetric": 2 * n}[mode]
    base = start - start % period
    while base < stop:
        parts = [(0, n, False)]
        if mode == "reflect":
            parts.append((1, n - 1, True))
        elif mode == "symmetric":
            parts.append((0, n, True))
        at = base
        for first, last, is_reversed in parts:
            low, high = max(start, at), min(stop, at + last - first)
            if low < high:
                rows = (low - at + first, high - at + first)
                yield (
                    (first + last - rows[1], first + last - rows[0]) if is_reversed else rows,
                    (low, high),
                    is_reversed,
                )
            at += last - first
        base += period


register(
    pad, kind="manipulation", numpy="pad", cost="None for constants; copied rows once; see its documentation."
)
