"""Repeating arrays: tile, repeat, resize."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from .dndarray import DNDarray
from .engines.creation import normalize_shape
from .engines.indexing import bits, get_basic
from .engines.operands import as_arrays
from .engines.pieces import along, assemble, plan_pieces
from .engines.redistribution import redistribute
from .errors import DTypeError, LayoutError
from .layout import Layout, normalize_axis
from .manipulation import atleast_1d, expand_dims
from .registry import register
from .reshaping import ravel


def tile(x: object, repetitions: int | Sequence[int], /) -> DNDarray:
    """Return the array repeated as a whole along each axis.

    *Distribution*: no message where the split axis is not tiled. Otherwise the result is cut evenly, and one exchange
    brings each rank the rows of the array its part consists of, each of them once.

    Parameters
    ----------
    x : array_like
        Of shape (n_1, ..., n_k).
    repetitions : int or sequence of int
        How often, for each axis; whichever of shape and repetitions is shorter gets leading ones.

    Returns
    -------
    DNDarray
        Memory of its own.

    Raises
    ------
    LayoutError
        If a number is negative.

    Examples
    --------
    >>> ht.tile(ht.arange(3, split=0), 2).numpy().tolist()
    [0, 1, 2, 0, 1, 2]
    """
    (x,) = as_arrays([x], "tile")
    times = normalize_shape(repetitions, "tile")
    times = (1,) * (x.ndim - len(times)) + times
    x = expand_dims(x, tuple(range(len(times) - x.ndim)))
    shape = tuple(n * r for n, r in zip(x.shape, times))
    split, comm = x.split, x.comm
    if split is None or times[split] == 1 or comm.size == 1:
        local = x.larray.repeat(times) if times else x.larray.clone()
        layout = Layout(
            shape, split, [n * times[split] for n in x.layout.counts] if split is not None else ()
        )
        return DNDarray(local, layout, comm)
    layout = Layout.even(shape, split, comm.size)
    out = torch.empty(layout.lshape(comm.rank), dtype=x.larray.dtype, device=x.larray.device)
    if not x.size or not layout.size:
        return DNDarray(out, layout, comm)
    first = out
    for axis, n in enumerate(x.shape):
        first = first if axis == split else first.narrow(axis, 0, n)
    _cycle(x, layout, first)
    for axis, n in enumerate(x.shape):
        if axis != split and times[axis] > 1:
            first = _widened(first, out, axis)
            _fill_periodic(first, axis, n)
    return DNDarray(out, layout, comm)


def _widened(view: torch.Tensor, out: torch.Tensor, axis: int) -> torch.Tensor:
    """Return the part of `out` that `view`, its corner, covers, with the whole of an axis."""
    shape = [*view.shape[:axis], out.shape[axis], *view.shape[axis + 1 :]]
    return out[tuple(slice(0, n) for n in shape)]


def _fill_periodic(view: torch.Tensor, axis: int, period: int) -> None:
    """Continue the first `period` rows along an axis to its end, by copies of doubling length."""
    done, extent = period, view.shape[axis]
    while done < extent:
        n = min(done, extent - done)
        view.narrow(axis, done, n).copy_(view.narrow(axis, 0, n))
        done += n


def _cycle(x: DNDarray, layout: Layout, out: torch.Tensor) -> None:
    """Fill `out` with the rows of `layout` that this rank holds, where row i is row ``i % n`` of `x` along the split.

    One exchange of at most n rows for each rank; the others are copies of these.
    """
    axis, n, comm = layout.split, x.shape[layout.split], x.comm
    # Rank r needs min(count, n) rows from displ % n on, which may run over the end once. They are laid out as parts of
    # an array of their own, so that ranks may need the same rows.
    needs = [min(count, n) for count in layout.counts]
    starts = [displ % n for displ in layout.displs]
    spans, place = [], 0
    for start, need in zip(starts, needs):
        head = min(need, n - start)
        spans.append((0, (start, start + head), (place, place + head), False))
        spans.append((0, (0, need - head), (place + head, place + need), False))
        place += need
    shape = (*x.shape[:axis], sum(needs), *x.shape[axis + 1 :])
    plan = plan_pieces((x.layout,), Layout(shape, axis, needs), along(axis, shape, spans), comm.size)
    need = needs[comm.rank]
    assemble([x.larray], plan, out.narrow(axis, 0, need), comm)
    if need:
        _fill_periodic(out, axis, need)


def repeat(x: DNDarray, repeats: object, /, axis: int | None = None) -> DNDarray:
    """Return the array with each row along an axis repeated, in place.

    *Distribution*: copies stay beside their row, so that nothing is sent and the result is uneven where the counts
    are. Split `repeats` cost one allgather of p integers along the split axis, after they have been brought to the
    layout of the rows if theirs is another; along another axis they are gathered. Without `axis` the array is
    flattened first.

    Parameters
    ----------
    repeats : int or array_like of int, shape (1,) or (n,)
        How often each row occurs; n is the extent of `axis`.
    axis : int, optional
        Without it, elements of the flattened array are repeated.

    Returns
    -------
    DNDarray
        Memory of its own.

    Raises
    ------
    LayoutError
        If a count is negative, their number does not fit, or `axis` is out of range.
    DTypeError
        If the counts are not integers.

    Examples
    --------
    >>> ht.repeat(ht.arange(3, split=0), [2, 0, 1]).numpy().tolist()
    [0, 0, 2]
    """
    x, axis = (ravel(x), 0) if axis is None else (x, normalize_axis(axis, x.ndim, "repeat"))
    if isinstance(repeats, (list, tuple)) and not repeats:
        repeats = np.zeros(0, np.int64)
    (counts,) = as_arrays([repeats], "repeat") if not isinstance(repeats, DNDarray) else (repeats,)
    if counts.dtype.kind not in "biu":
        raise DTypeError(f"repeat: repeats must be integers, got {counts.dtype}; cast with astype first")
    n = x.shape[axis]
    counts = atleast_1d(counts)
    if counts.ndim != 1 or counts.shape[0] not in (1, n):
        raise LayoutError(
            f"repeat: repeats must be a number or have shape (1,) or ({n},), got {counts.shape}"
        )
    if counts.shape[0] == 1:
        return _repeat_all(x, int(counts.item()), axis)
    return _repeat_each(x, counts, axis)


def _repeat_all(x: DNDarray, times: int, axis: int) -> DNDarray:
    if times < 0:
        raise LayoutError(f"repeat: repeats must not be negative, got {times}")
    layout, local = x.layout, x.larray
    shape = [*local.shape[: axis + 1], times, *local.shape[axis + 1 :]]
    wide = local.unsqueeze(axis + 1).expand(shape)
    local = wide.clone(memory_format=torch.contiguous_format).flatten(axis, axis + 1)
    if axis == layout.split:
        return DNDarray(local, layout.with_counts([count * times for count in layout.counts]), x.comm)
    return DNDarray(local, layout.with_axis(axis, layout.shape[axis] * times), x.comm)


def _repeat_each(x: DNDarray, counts: DNDarray, axis: int) -> DNDarray:
    layout, comm = x.layout, x.comm
    along_split = axis == layout.split
    rows = Layout(counts.shape, 0, layout.counts) if along_split else Layout(counts.shape, None)
    gathers = along_split and counts.split is not None
    mine = redistribute(counts.larray, counts.layout, rows, comm).to(x.larray.device, torch.int64)
    if gathers:  # a negative count travels with the sums, so that all ranks refuse it
        least = int(mine.min()) if mine.numel() else 0
        total = torch.tensor([-1 if least < 0 else int(mine.sum())], dtype=torch.int64)
        sums = comm.allgather(total).tolist() if comm.size > 1 else total.tolist()
    else:
        whole = counts.larray.to(torch.int64) if along_split else mine
        if along_split:
            edges = np.concatenate([[0], np.cumsum(whole.cpu().numpy())])
            sums = [int(edges[d + n] - edges[d]) for d, n in zip(layout.displs, layout.counts)]
        else:
            sums = [int(whole.sum())]
        least = int(whole.min()) if whole.numel() else 0
    if min(sums, default=0) < 0 or least < 0:
        raise LayoutError("repeat: repeats must not be negative, got some that are")
    local = bits(x.larray).repeat_interleave(mine, dim=axis).view(x.larray.dtype)
    result = layout.with_counts(sums) if along_split else layout.with_axis(axis, sums[0])
    return DNDarray(local, result, comm)


def resize(x: object, new_shape: int | Sequence[int]) -> DNDarray:
    """Return an array of another shape that holds the elements in C order, repeated as often as it takes.

    *Distribution*: a split array gives a result that is split along axis 0, evenly, by one exchange (two where the
    array is not split along axis 0); each rank receives the elements its part consists of, each of them once.

    Parameters
    ----------
    x : array_like
        Any shape.
    new_shape : int or sequence of int

    Returns
    -------
    DNDarray
        Of shape `new_shape`; zeros where `x` is empty.

    Raises
    ------
    LayoutError
        If an extent is negative.

    Examples
    --------
    >>> ht.resize(ht.arange(3, split=0), (2, 4)).numpy().tolist()
    [[0, 1, 2, 0], [1, 2, 0, 1]]
    """
    (x,) = as_arrays([x], "resize")
    shape, comm = normalize_shape(new_shape, "resize"), x.comm
    size = math.prod(shape)
    layout = Layout.even(shape, None if x.split is None or not shape else 0, comm.size)
    out = torch.empty(layout.lshape(comm.rank), dtype=x.larray.dtype, device=x.larray.device)
    if not x.size:
        return DNDarray(out.zero_(), layout, comm)
    if not shape:
        return DNDarray(get_basic(x, (0,) * x.ndim).larray.clone(), layout, comm)
    if not size:
        return DNDarray(out, layout, comm)
    flat, row = ravel(x), size // shape[0]
    if layout.split is None:
        n = min(size, x.size)
        out.view(-1)[:n] = flat.larray[:n]
        _fill_periodic(out.view(-1), 0, n)
    else:
        runs = Layout((size,), 0, [count * row for count in layout.counts])
        _cycle(flat, runs, out.view(-1))
    return DNDarray(out, layout, comm)


register(
    tile,
    kind="manipulation",
    numpy="tile",
    method=False,
    cost="None where the split axis is not tiled; else one exchange.",
)
register(repeat, kind="manipulation", numpy="repeat", cost="None; split counts: one allgather of p integers.")
register(resize, kind="manipulation", numpy="resize", method=False, cost="One exchange.")
