"""Differences, gradients, integrals and interpolation along an axis: what needs a few rows of the neighbours."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch

from . import types
from .dndarray import DNDarray, _cast
from .engines.elementwise import as_operand, common_comm
from .engines.monoid import by
from .engines.redistribution import redistribute
from .engines.reduction import Row, execute, first, same, wide_accumulator
from .engines.reduction_kernels import over
from .engines.scan import SUM, scan_local
from .errors import DTypeError, LayoutError
from .layout import Layout, normalize_axes, normalize_axis
from .registry import register

#: Elements handled at a time where an intermediate would have the size of the data.
_TILE = 1 << 16


def _array(x: object, op: str) -> DNDarray:
    return x if isinstance(x, DNDarray) else as_operand(x, common_comm([], op), torch.device("cpu"), op)


def _with_neighbours(x: DNDarray, axis: int, before: int, after: int) -> tuple[torch.Tensor, int]:
    """Return this rank's rows with those around it, and the global index of the first of them."""
    if x.split != axis or x.comm.size == 1:
        return x.larray, 0
    wide = x.comm.halo(x.larray, before, after, x.layout.counts, axis=axis)
    return wide, max(x.layout.displs[x.comm.rank] - before, 0)


def _shortened(layout: Layout, axis: int, n: int) -> Layout:
    """Return the layout without the last `n` rows along `axis`."""
    rows = max(layout.shape[axis] - n, 0)
    if layout.split != axis:
        return layout.with_axis(axis, rows)
    return layout.with_counts([min(max(rows - d, 0), c) for d, c in zip(layout.displs, layout.counts)])


# -- differences ------------------------------------------------------------------------------------------------


def diff(x: object, /, n: int = 1, axis: int = -1, prepend: object = None, append: object = None) -> DNDarray:
    """Return the n-th differences along an axis: ``x[i + 1] - x[i]``, `n` times.

    Bool gives "differs"; unsigned integers wrap.

    *Distribution*: the split stays. Along the split axis each rank gets the `n` rows after its own, one message between
    neighbours; along other axes nothing is sent. `prepend` and `append` go to the first and the last rank, which copy
    their parts.

    Parameters
    ----------
    x : array_like
        At least 1-D, of any layout.
    n : int
        How many times; 0 returns `x`.
    axis : int
        The axis.
    prepend, append : scalar or array_like, optional
        Put before or behind `x` first; scalars as one row.

    Returns
    -------
    DNDarray
        Of the dtype of `x`; `n` shorter along the axis.

    Raises
    ------
    LayoutError
        If `x` is 0-D, `n` is negative, or what is put before or behind does not fit.

    Examples
    --------
    >>> ht.diff(ht.array([1, 4, 9, 16], split=0)).numpy().tolist()
    [3, 5, 7]
    """
    x = _array(x, "diff")
    if n < 0:
        raise LayoutError(f"diff: n must not be negative, got {n}")
    if x.ndim == 0:
        raise LayoutError("diff: the array must have at least one dimension, got shape ()")
    axis = normalize_axis(axis, x.ndim, "diff")
    if n == 0:
        return x
    ends = [_end(e, x, axis, name) for e, name in ((prepend, "prepend"), (append, "append"))]
    x = _joined(x, ends, axis)
    block, _ = _with_neighbours(x, axis, 0, n)
    layout = _shortened(x.layout, axis, n)
    kept = layout.lshape(x.comm.rank)[axis] + n
    wide = x.larray.dtype in types.WIDE_UNSIGNED
    block = block.view(_signed(block.dtype)) if wide else block
    value = torch.diff(block.narrow(axis, 0, min(kept, block.shape[axis])), n=n, dim=axis)
    value = value.narrow(axis, 0, layout.lshape(x.comm.rank)[axis])
    return DNDarray(value.view(x.larray.dtype) if wide else value, layout, x.comm)


def _signed(dtype: torch.dtype) -> torch.dtype:
    return {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}[dtype]


def _end(end: object, x: DNDarray, axis: int, name: str) -> DNDarray | None:
    """Return what is put before or behind `x`, whole on every rank."""
    if end is None:
        return None
    end = as_operand(end, x.comm, x.larray.device, "diff")
    local = redistribute(end.larray, end.layout, Layout.replicated(end.shape), x.comm)
    if end.ndim == 0:
        local = local.expand([1 if a == axis else s for a, s in enumerate(x.shape)])
    others = [s for a, s in enumerate(x.shape) if a != axis]
    if local.ndim != x.ndim or [s for a, s in enumerate(local.shape) if a != axis] != others:
        raise LayoutError(
            f"diff: {name} must have shape {x.shape} but for axis {axis}, got {tuple(local.shape)}"
        )
    return DNDarray(local, Layout(tuple(local.shape), None), x.comm)


def _joined(x: DNDarray, ends: Sequence[DNDarray | None], axis: int) -> DNDarray:
    """Return `x` between two replicated arrays; nothing is sent."""
    before, after = ends
    if before is None and after is None:
        return x
    dtype = types.result_type(*(a for a in (before, x, after) if a is not None)).torch
    rank, last = x.comm.rank, x.comm.size - 1
    is_cut = x.split == axis
    parts = [_cast(x.larray, dtype)]
    counts = list(x.layout.counts)
    extra = 0
    for end, owner in ((before, 0), (after, last)):
        if end is None:
            continue
        rows = end.larray
        extra += rows.shape[axis]
        if is_cut:
            counts[owner] += rows.shape[axis]
        elif x.split is not None:
            rows = rows.narrow(x.split, x.layout.displs[rank], x.layout.counts[rank])
        if not is_cut or rank == owner:
            parts.insert(0 if end is before else len(parts), _cast(rows, dtype))
    layout = x.layout.with_counts(counts) if is_cut else x.layout.with_axis(axis, x.shape[axis] + extra)
    return DNDarray(torch.cat(parts, dim=axis), layout, x.comm)


def ediff1d(x: object, /, to_end: object = None, to_begin: object = None) -> DNDarray:
    """Return the differences of consecutive elements of the flattened array, between given ends.

    *Distribution*: as :func:`diff`; see :func:`ravel` for what flattening costs. `to_begin` and `to_end` go to the
    first and the last rank.

    Parameters
    ----------
    x : array_like
        Of any layout.
    to_end, to_begin : array_like, optional
        Put behind and before the differences; of a dtype that casts to that of `x`.

    Returns
    -------
    DNDarray
        1-D, of the dtype of `x`.

    Raises
    ------
    DTypeError
        If an end does not cast to the dtype of `x`.

    Examples
    --------
    >>> ht.ediff1d(ht.array([1, 2, 4], split=0), to_begin=-99).numpy().tolist()
    [-99, 1, 2]
    """
    from .reshaping import ravel

    x = _array(x, "ediff1d")
    result = diff(ravel(x))
    ends = []
    for end, name in ((to_begin, "to_begin"), (to_end, "to_end")):
        if end is None:
            ends.append(None)
            continue
        end = as_operand(end, x.comm, x.larray.device, "ediff1d")
        if not types.can_cast(end.dtype, x.dtype, "same_kind"):
            raise DTypeError(f"ediff1d: {name} must be of a dtype that casts to {x.dtype}, got {end.dtype}")
        local = redistribute(end.larray, end.layout, Layout.replicated(end.shape), x.comm)
        local = _cast(local.reshape(-1), x.larray.dtype)
        ends.append(DNDarray(local, Layout(tuple(local.shape), None), x.comm))
    return _joined(result, ends, 0)


def gradient(f: object, *varargs: object, axis: int | Sequence[int] | None = None, edge_order: int = 1):
    """Return the gradient by central differences, one-sided at the ends.

    *Distribution*: the split stays. Along the split axis each rank gets two rows from each side, one message between
    neighbours (one more for coordinates); along other axes nothing is sent.

    Parameters
    ----------
    f : array_like
        Of any layout; integers are taken as float64.
    *varargs : scalar or array_like
        Spacing: one scalar for all axes, or for each axis a scalar or the 1-D coordinates.
    axis : int or sequence of int, optional
        The axes; all of them by default.
    edge_order : int
        Order of accuracy at the ends, 1 or 2.

    Returns
    -------
    DNDarray or tuple of DNDarray
        One of the shape of `f` per axis.

    Raises
    ------
    TypeError
        If the number of spacings is neither 0, 1 nor that of the axes.
    LayoutError
        If an extent is smaller than ``edge_order + 1``, or coordinates do not fit.

    Notes
    -----
    The three-point formula for uneven spacing: B. Fornberg, Generation of finite difference formulas on arbitrarily
    spaced grids, Mathematics of Computation 51, 1988, doi:10.1090/S0025-5718-1988-0935077-0.

    Examples
    --------
    >>> ht.gradient(ht.array([1.0, 2.0, 4.0, 7.0], split=0)).numpy().tolist()
    [1.0, 1.5, 2.5, 3.0]
    """
    f = _array(f, "gradient")
    axes = normalize_axes(axis, f.ndim, "gradient") if axis is None or np.ndim(axis) == 0 else None
    axes = axes or tuple(normalize_axis(a, f.ndim, "gradient") for a in axis or ())
    if len(varargs) not in (0, 1, len(axes)) or (len(varargs) == 1 != len(axes) and np.ndim(varargs[0])):
        raise TypeError(f"gradient: spacings must be none, one scalar or {len(axes)}, got {len(varargs)}")
    if edge_order not in (1, 2):
        raise ValueError(f"gradient: edge_order must be 1 or 2, got {edge_order}")
    steps = [1.0] * len(axes) if not varargs else list(varargs) * (len(axes) if len(varargs) == 1 else 1)
    for a in axes:
        if f.shape[a] <= edge_order:
            raise LayoutError(
                f"gradient: extent of axis {a} must be at least {edge_order + 1}, got {f.shape[a]}"
            )
    f = f if f.dtype.kind in types.FLOATING else f.astype(types.float64)
    found = tuple(_slope(f, a, h, edge_order) for a, h in zip(axes, steps))
    return found[0] if len(found) == 1 else found


def _slope(f: DNDarray, axis: int, spacing: object, order: int) -> DNDarray:
    x, step = None, None
    if isinstance(spacing, DNDarray) or np.ndim(spacing):
        x = as_operand(spacing, f.comm, f.larray.device, "gradient")
        if x.shape != (f.shape[axis],):
            raise LayoutError(f"gradient: coordinates must have shape ({f.shape[axis]},), got {x.shape}")
        cut = f.split == axis
        target = Layout(x.shape, 0 if cut else None, f.layout.counts if cut else ())
        x = DNDarray(redistribute(x.larray, x.layout, target, f.comm).to(torch.float64), target, f.comm)
        x, _ = _with_neighbours(x, 0, 2, 2)
    else:
        step = float(spacing)
    block, start = _with_neighbours(f, axis, 2, 2)
    mine = range(*f.layout.box(f.comm.rank)[axis])
    result = torch.empty_like(f.larray, memory_format=torch.contiguous_format)
    n = f.shape[axis]
    inner = range(max(mine.start, 1), min(mine.stop, n - 1))
    if len(inner):
        rows = (block.narrow(axis, inner.start - start + s, len(inner)) for s in (-1, 0, 1))
        target = result.narrow(axis, inner.start - mine.start, len(inner))
        if x is None:
            before, _, after = rows
            _put(target, torch.sub, after, before).div_(2 * step)
        else:
            _uneven(*rows, x[inner.start - start - 1 : inner.stop - start + 1], axis, target)
    for row, sign in ((0, 1), (n - 1, -1)):
        if row in mine:
            at = [block.select(axis, row - start + sign * i) for i in range(order + 1)]
            if x is None:
                h1 = h2 = sign * step
            else:
                points = [x[row - start + sign * i] for i in range(order + 1)]
                h1, h2 = points[1] - points[0], points[-1] - points[-2]
            result.select(axis, row - mine.start).copy_(_edge(at, h1, h2))
    return DNDarray(result, f.layout, f.comm)


def _put(target: torch.Tensor, kernel: Callable, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Write ``kernel(x, y)`` to `target`; while gradients are recorded without ``out=``, which has no derivative."""
    return target.copy_(kernel(x, y)) if x.requires_grad else kernel(x, y, out=target)


def _edge(at: list[torch.Tensor], h1: float, h2: float) -> torch.Tensor:
    """Return the one-sided slope at the first of two or three points that lie `h1` and `h2` apart."""
    if len(at) == 2:
        return (at[1] - at[0]) / h1
    a, b, c = -(2 * h1 + h2) / (h1 * (h1 + h2)), (h1 + h2) / (h1 * h2), -h1 / (h2 * (h1 + h2))
    return a * at[0] + b * at[1] + c * at[2]


def _uneven(before, here, after, x: torch.Tensor, axis: int, target: torch.Tensor) -> None:
    h = torch.diff(x)
    shape = [-1 if a == axis else 1 for a in range(here.ndim)]
    h1, h2 = h[:-1].reshape(shape), h[1:].reshape(shape)
    weights = (-h2 / (h1 * (h1 + h2)), (h2 - h1) / (h1 * h2), h1 / (h2 * (h1 + h2)))
    _put(target, torch.mul, before, weights[0].to(before.dtype))
    target.addcmul_(here, weights[1].to(here.dtype)).addcmul_(after, weights[2].to(after.dtype))


# -- integrals --------------------------------------------------------------------------------------------------


def _weighted_sum(x: torch.Tensor, weights: torch.Tensor, domain) -> tuple:
    return over(torch.sum, 0)(x * weights.to(x.dtype), None, domain)


_TRAPEZOID = Row(
    "trapezoid",
    _weighted_sum,
    by("sum"),
    first,
    0,
    types.ALL,
    same,
    wide_accumulator,
    temporary=True,
    weighs=True,
)


def trapezoid(y: object, /, x: object = None, dx: float = 1.0, axis: int = -1) -> DNDarray:
    """Return the integral along an axis by the trapezoidal rule.

    Each element counts half the distance between its neighbours, so that one weighted sum is all there is to do.

    *Distribution*: where the axis is the split axis, the result is replicated and the ranks combine in one allreduce of
    its size (and one message between neighbours for `x`); otherwise the split stays and nothing is sent.

    Parameters
    ----------
    y : array_like
        Values, of any layout.
    x : array_like, optional
        Where they are: 1-D, of the extent of the axis, or of the shape of `y`.
    dx : scalar
        Their distance where `x` is not given.
    axis : int
        The axis.

    Returns
    -------
    DNDarray
        Without the axis; float64 for integers.

    Raises
    ------
    LayoutError
        If `x` does not fit.

    Examples
    --------
    >>> ht.trapezoid(ht.array([1.0, 2.0, 3.0], split=0)).item()
    4.0
    """
    y = _array(y, "trapezoid")
    axis = normalize_axis(axis, y.ndim, "trapezoid")
    weights = _even_weights(y, axis, dx) if x is None else _uneven_weights(y, axis, x)
    dtype = types.result_type(y.dtype, weights.dtype if x is not None else type(dx)(0))
    dtype = dtype if dtype.kind in types.FLOATING else types.float64
    return execute(_TRAPEZOID, y, axis, dtype, where=weights)


def _even_weights(y: DNDarray, axis: int, dx: float) -> DNDarray:
    n = y.shape[axis]
    start, stop = y.layout.box(y.comm.rank)[axis]
    local = torch.full((stop - start,), dx if n > 1 else 0, dtype=torch.float64, device=y.larray.device)
    for row in {0, n - 1} & set(range(start, stop)) if n > 1 else ():
        local[row - start] = dx / 2
    return _along(local, y, axis)


def _uneven_weights(y: DNDarray, axis: int, x: object) -> DNDarray:
    x = as_operand(x, y.comm, y.larray.device, "trapezoid")
    if x.shape not in ((y.shape[axis],), y.shape):
        raise LayoutError(f"trapezoid: x must have shape ({y.shape[axis]},) or {y.shape}, got {x.shape}")
    here = axis if x.ndim == y.ndim else 0
    if x.ndim == y.ndim:
        target = y.layout
    else:
        cut = y.split == axis
        target = Layout(x.shape, 0 if cut else None, y.layout.counts if cut else ())
    local = redistribute(x.larray, x.layout, target, y.comm)
    local = local if local.is_floating_point() else local.double()
    block, first_row = _with_neighbours(DNDarray(local, target, y.comm), here, 1, 1)
    start, stop = y.layout.box(y.comm.rank)[axis]
    last = block.shape[here] - 1
    index = torch.arange(start, stop, device=block.device) - first_row
    after = block.index_select(here, (index + 1).clamp(max=max(last, 0)))
    before = block.index_select(here, (index - 1).clamp(min=0))
    weights = (after - before) / 2
    return DNDarray(weights, target, y.comm) if x.ndim == y.ndim else _along(weights, y, axis)


def _along(local: torch.Tensor, y: DNDarray, axis: int) -> DNDarray:
    """Return 1-D weights as an array that broadcasts to `y` and is cut as it."""
    shape = tuple(n if a == axis else 1 for a, n in enumerate(y.shape))
    cut = y.split == axis
    layout = Layout(shape, axis if cut else None, y.layout.counts if cut else ())
    return DNDarray(local.reshape(layout.lshape(y.comm.rank)), layout, y.comm)


# -- interpolation ------------------------------------------------------------------------------------------------


def interp(
    x: object, xp: object, fp: object, left: object = None, right: object = None, period: float | None = None
) -> DNDarray:
    """Return the piecewise linear function through (xp, fp), evaluated at `x`.

    *Distribution*: the layout of `x` stays. The points are needed whole on every rank: where `xp` or `fp` are split,
    one allgather each of their size; otherwise nothing is sent.

    Parameters
    ----------
    x : array_like
        Where to evaluate, of any layout.
    xp, fp : array_like
        1-D, of equal length; `xp` increasing, unless there is a `period`. `fp` may be complex.
    left, right : scalar, optional
        Values outside; the first and the last of `fp` by default.
    period : float, optional
        `xp` and `x` are taken modulo `period`; `left` and `right` are ignored.

    Returns
    -------
    DNDarray
        float64, or complex128 where `fp` is complex.

    Raises
    ------
    LayoutError
        If `xp` and `fp` are not 1-D, of equal length and not empty.
    ValueError
        If the period is 0.

    Examples
    --------
    >>> ht.interp(ht.array([0.5, 2.5], split=0), [1.0, 2.0, 3.0], [3.0, 2.0, 0.0]).numpy().tolist()
    [3.0, 1.0]
    """
    x = _array(x, "interp")
    points = []
    for value, name in ((xp, "xp"), (fp, "fp")):
        value = as_operand(value, x.comm, x.larray.device, "interp")
        if value.ndim != 1 or value.size == 0:
            raise LayoutError(f"interp: {name} must be 1-D and not empty, got shape {value.shape}")
        points.append(value)
    if points[0].shape != points[1].shape:
        raise LayoutError(
            f"interp: xp and fp must be of equal length, got {points[0].shape} and {points[1].shape}"
        )
    if period is not None and period == 0:
        raise ValueError("interp: period must not be 0, got 0")
    xs, fs = (redistribute(v.larray, v.layout, Layout.replicated(v.shape), x.comm) for v in points)
    xs, fs = xs.double(), fs.to(torch.complex128 if fs.is_complex() else torch.float64)
    left, right = (fs[0] if left is None else left), (fs[-1] if right is None else right)
    if period is not None:
        period = abs(period)
        xs, order = (xs % period).sort(stable=True)
        fs = fs[order]
        xs = torch.cat([xs[-1:] - period, xs, xs[:1] + period])
        fs = torch.cat([fs[-1:], fs, fs[:1]])
    result = torch.empty(x.larray.shape, dtype=fs.dtype, device=fs.device)
    flat, source = result.view(-1), x.larray.reshape(-1)
    for start in range(0, flat.numel(), _TILE):
        here = source[start : start + _TILE].double()
        here = here if period is None else here % period
        flat[start : start + _TILE] = _interpolated(here, xs, fs, left, right)
    return DNDarray(result, x.layout, x.comm)


def _interpolated(x: torch.Tensor, xs: torch.Tensor, fs: torch.Tensor, left, right) -> torch.Tensor:
    j = (torch.searchsorted(xs, x, right=True) - 1).clamp(0, max(xs.numel() - 2, 0))
    k = (j + 1).clamp(max=xs.numel() - 1)
    run = xs[k] - xs[j]
    slope = torch.where(run == 0, 0.0, (fs[k] - fs[j]) / run)
    value = slope * (x - xs[j]) + fs[j]
    value = torch.where(x == xs[k], fs[k], value)
    value = torch.where(x == xs[j], fs[j], value)
    value = torch.where(x < xs[0], left, torch.where(x > xs[-1], right, value))
    return torch.where(x != x, torch.nan, value)


def unwrap(
    p: object, /, discont: float | None = None, axis: int = -1, *, period: float = 2 * math.pi
) -> DNDarray:
    """Return phases without jumps: steps of half a period or more become their complement.

    *Distribution*: the split stays. Along the split axis one message between neighbours (one row) and one exscan of one
    row; along other axes nothing is sent. Temporary memory: three times this rank's part.

    Parameters
    ----------
    p : array_like
        Real, of any layout.
    discont : float, optional
        Jumps of less than this are left; half a period by default.
    axis : int
        The axis.
    period : float
        The range over which phases wrap.

    Returns
    -------
    DNDarray
        Of the shape of `p`; integers stay integers where the period is one.

    Examples
    --------
    >>> ht.unwrap(ht.array([0, 1, 2, -1, 0], split=0), period=4).numpy().tolist()
    [0, 1, 2, 3, 4]
    """
    p = _array(p, "unwrap")
    axis = normalize_axis(axis, p.ndim, "unwrap")
    discont = period / 2 if discont is None else discont
    dtype = types.result_type(p, period)
    is_integer = dtype.kind in "iu"
    low, at_boundary = (-(period // 2), period % 2 == 0) if is_integer else (-period / 2, True)
    x = DNDarray(_cast(p.larray, dtype.torch), p.layout, p.comm)
    block, start = _with_neighbours(x, axis, 1, 0)
    first_row = x.layout.box(x.comm.rank)[axis][0]
    step = torch.diff(block, dim=axis)
    if first_row == start:  # the first row has no step
        zero = block.narrow(axis, 0, min(1, block.shape[axis]))
        step = torch.cat([torch.zeros_like(zero), step], dim=axis).narrow(axis, 0, x.larray.shape[axis])
    wrapped = torch.remainder(step - low, period) + low
    if at_boundary:
        wrapped = torch.where((wrapped == low) & (step > 0), -low, wrapped)
    correction = torch.where(step.abs() < discont, 0, wrapped - step)
    total = scan_local(SUM, correction, x.layout, axis, x.comm, dtype.torch)
    return DNDarray(total.add_(x.larray), x.layout, x.comm)


_HALO = "One message between neighbours along the split axis; none otherwise."
for _function, _cost in (
    (diff, _HALO),
    (ediff1d, _HALO),
    (gradient, _HALO),
    (
        trapezoid,
        "One allreduce of the size of the result where the split axis is integrated; none otherwise.",
    ),
    (interp, "None, unless the points are split: then they are gathered."),
    (
        unwrap,
        "One message between neighbours and one exscan of one row along the split axis; none otherwise.",
    ),
):
    register(_function, kind="calculus", numpy=_function.__name__, cost=_cost, method=_function in (diff,))
