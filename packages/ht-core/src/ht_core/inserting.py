"""Rows that come and go: insert, delete, trim_zeros. The others stay on their ranks, so that results are uneven."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from .dndarray import DNDarray, _cast
from .engines.indexing import bits, get_basic
from .engines.operands import as_arrays
from .engines.redistribution import redistribute
from .errors import DTypeError, LayoutError
from .layout import Layout, normalize_axes, normalize_axis
from .manipulation import broadcast_to, expand_dims, moveaxis
from .registry import register
from .reshaping import ravel

_FEW = 128  # up to so many new rows, joining the runs between them is faster than writing row by row


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of an axis, known to all ranks: sorted numbers, or a range with a positive step."""

    numbers: np.ndarray | range

    def below(self, mark: int) -> int:
        """Return how many of the rows are less than `mark`."""
        if isinstance(self.numbers, range):
            rows = self.numbers
            return min(max(-((rows.start - mark) // rows.step), 0), len(rows))
        return int(np.searchsorted(self.numbers, mark))

    def within(self, start: int, stop: int) -> np.ndarray:
        """Return the rows in ``[start, stop)``, counted from `start`."""
        part = self.numbers[self.below(start) : self.below(stop)]
        return np.asarray(part, dtype=np.int64) - start


def delete(x: DNDarray, obj: object, axis: int | None = None) -> DNDarray:
    """Return the array without some of its rows along an axis; without `axis` it is flattened first.

    *Distribution*: the other rows stay on their ranks; no message. A split mask is brought to the layout of the
    rows, which costs nothing where it has it, and one allgather of p integers; split row numbers are gathered.

    Parameters
    ----------
    obj : int, slice, array_like of int, or mask of bool
        The rows, negative numbers counting from the end; equal on all ranks unless it is a split array.

    Returns
    -------
    DNDarray
        Memory of its own.

    Raises
    ------
    IndexError
        If a row is out of range.
    LayoutError
        If a mask has another length, or `axis` is out of range.
    DTypeError
        If the rows are no integers.

    Examples
    --------
    >>> ht.delete(ht.arange(5, split=0), [0, -1]).numpy().tolist()
    [1, 2, 3]
    """
    x, axis = (ravel(x), 0) if axis is None else (x, normalize_axis(axis, x.ndim, "delete"))
    n, layout, comm = x.shape[axis], x.layout, x.comm
    start, stop = (0, n) if layout.split != axis else layout.box(comm.rank)[axis]
    if isinstance(obj, DNDarray) and obj.split is not None and obj.dtype.kind == "b" and layout.split == axis:
        if obj.shape != (n,):
            raise LayoutError(f"delete: a mask must have shape ({n},), got {obj.shape}")
        aligned = Layout((n,), 0, layout.counts)
        kept = ~redistribute(obj.larray, obj.layout, aligned, comm).to(x.larray.device)
        local = bits(x.larray)[(slice(None),) * axis + (kept,)].view(x.larray.dtype)
        mine = torch.tensor([local.shape[axis]])
        counts = comm.allgather(mine).tolist() if comm.size > 1 else mine.tolist()
        return DNDarray(local, layout.with_counts(counts), comm)
    gone = _Rows(_rows(obj, n, "delete"))
    local = _without(x.larray, axis, gone.within(start, stop))
    if layout.split != axis:
        return DNDarray(local, layout.with_axis(axis, local.shape[axis]), comm)
    counts = [
        count - gone.below(displ + count) + gone.below(displ)
        for displ, count in zip(layout.displs, layout.counts)
    ]
    return DNDarray(local, layout.with_counts(counts), comm)


def _rows(obj: object, n: int, op: str) -> np.ndarray | range:
    """Return the rows that `obj` names, sorted and each once."""
    if isinstance(obj, slice):
        rows = range(*obj.indices(n))
        return rows if rows.step > 0 else rows[::-1]
    return np.unique(_numbers(obj, n, n, op))


def _numbers(obj: object, n: int, limit: int, op: str) -> np.ndarray:
    """Return row numbers in [0, limit) of an index, list or mask."""
    if isinstance(obj, slice):
        return np.arange(n)[obj]
    rows = obj.numpy() if isinstance(obj, DNDarray) else np.asarray(obj)
    if rows.size == 0 and rows.dtype.kind == "f":
        rows = rows.astype(np.int64)
    if rows.dtype.kind == "b" and rows.ndim:
        if rows.shape != (n,):
            raise LayoutError(f"{op}: a mask must have shape ({n},), got {rows.shape}")
        return np.flatnonzero(rows)
    if rows.dtype.kind not in "biu" or rows.ndim > 1:
        raise DTypeError(
            f"{op}: obj must be an integer, a slice, or a vector of integers or bool, got {obj!r}"
        )
    rows = rows.astype(np.int64)
    bad = (rows < -n) | (rows >= limit)
    if bad.any():
        raise IndexError(f"{op}: obj must be in [{-n}, {limit}), got {int(rows[bad].flat[0])}")
    return np.where(rows < 0, rows + n, rows)


def _without(local: torch.Tensor, axis: int, rows: np.ndarray) -> torch.Tensor:
    n = local.shape[axis]
    if not rows.size:
        return local.clone()
    first, last = int(rows[0]), int(rows[-1]) + 1
    if last - first == rows.size:  # one gap
        return torch.cat([local.narrow(axis, 0, first), local.narrow(axis, last, n - last)], dim=axis)
    kept = torch.ones(n, dtype=torch.bool)
    kept[torch.from_numpy(rows)] = False
    return _select(local, axis, kept.nonzero().view(-1))


def _select(local: torch.Tensor, axis: int, rows: torch.Tensor) -> torch.Tensor:
    return bits(local).index_select(axis, rows.to(local.device)).view(local.dtype)


def insert(x: DNDarray, obj: object, values: object, axis: int | None = None) -> DNDarray:
    """Return the array with rows inserted along an axis; without `axis` it is flattened first.

    *Distribution*: the rows of the array stay on their ranks and new rows go to the rank that holds the row behind
    them; no message for replicated values. Split values are sent there by one redistribution.

    Parameters
    ----------
    obj : int, slice, array_like of int, or mask of bool
        The rows of `x` in front of which values are inserted, in [-n, n]; equal on all ranks. Several values go in
        front of a single row, in their order; otherwise there is one for each.
    values : array_like
        Broadcasts to the new rows; cast to the dtype of the array.

    Raises
    ------
    IndexError
        If a row is out of range.
    LayoutError
        If the values do not fit.

    Examples
    --------
    >>> ht.insert(ht.arange(4, split=0), [1, 3], [7, 8]).numpy().tolist()
    [0, 7, 1, 2, 8, 3]
    """
    x, axis = (ravel(x), 0) if axis is None else (x, normalize_axis(axis, x.ndim, "insert"))
    n, comm = x.shape[axis], x.comm
    _, values = as_arrays((x, values), "insert")
    values = expand_dims(values, tuple(range(x.ndim - values.ndim))) if values.ndim < x.ndim else values
    at = _numbers(obj, n, n + 1, "insert")
    if at.size == 1:
        if at.ndim == 0:  # as NumPy, which takes the first axis of the values for the new rows
            values = moveaxis(values, 0, axis)
        at = np.repeat(at.reshape(-1), values.shape[axis] if values.ndim == x.ndim else 1)
    order = np.argsort(at, kind="stable")
    at = at[order]
    shape = (*x.shape[:axis], at.size, *x.shape[axis + 1 :])
    layout, counts = x.layout, [at.size]
    if layout.split == axis:
        held = [rank for rank, count in enumerate(layout.counts) if count] or [0]
        marks = [0] * (held[0] + 1) + [
            int(np.searchsorted(at, d)) for d in layout.displs[held[0] + 1 : held[-1] + 1]
        ]
        marks += [at.size] * (comm.size - held[-1])
        counts = [b - a for a, b in pairwise(marks)]
        first = marks[comm.rank]
        new = Layout(shape, axis, counts)
        result = layout.with_counts([a + b for a, b in zip(layout.counts, counts)])
    else:
        first, new = 0, Layout(shape, layout.split, layout.counts)
        result = layout.with_axis(axis, n + at.size)
    rows = _new_rows(values, new, order, axis)
    count = new.lshape(comm.rank)[axis]
    begin = layout.displs[comm.rank] if layout.split == axis else 0
    places = at[first : first + count] - begin + np.arange(count)
    return DNDarray(_with_rows(x.larray, axis, places, _cast(rows, x.larray.dtype)), result, comm)


def _new_rows(values: DNDarray, new: Layout, order: np.ndarray, axis: int) -> torch.Tensor:
    """Return this rank's part of the new rows, in the order in which they are inserted."""
    comm = values.comm
    if values.split is None:
        local = values.larray.broadcast_to(new.shape)
        if values.shape[axis] != 1 and (np.diff(order) != 1).any():
            if new.split == axis:
                order = order[new.slices(comm.rank)[axis]]
                return _select(local, axis, torch.from_numpy(order))
            local = _select(local, axis, torch.from_numpy(order))
        return local[new.slices(comm.rank)]
    if values.shape[axis] != 1 and (np.diff(order) != 1).any():
        values = values[(slice(None),) * axis + (order,)]
    values = broadcast_to(values, new.shape)
    return redistribute(values.larray, values.layout, new, comm)


def _with_rows(local: torch.Tensor, axis: int, places: np.ndarray, rows: torch.Tensor) -> torch.Tensor:
    """Return `local` with `rows` in between, at ascending `places` of the result."""
    count = places.size
    if not count:
        return local.clone()
    n = local.shape[axis]
    if int(places[-1]) - int(places[0]) + 1 == count:  # one block
        first = int(places[0])
        return torch.cat([local.narrow(axis, 0, first), rows, local.narrow(axis, first, n - first)], dim=axis)
    if count <= _FEW:
        olds = local.tensor_split((places - np.arange(count)).tolist(), axis)
        news = rows.split(1, axis)
        return torch.cat([x for pair in zip(olds, news) for x in pair] + [olds[-1]], dim=axis)
    shape = (*local.shape[:axis], n + count, *local.shape[axis + 1 :])
    out = torch.empty(shape, dtype=local.dtype, device=local.device)
    is_old = torch.ones(n + count, dtype=torch.bool)
    is_old[torch.from_numpy(places)] = False
    where = torch.from_numpy(places).to(local.device)
    bits(out).index_copy_(axis, where, bits(rows))
    bits(out).index_copy_(axis, is_old.nonzero().view(-1).to(local.device), bits(local))
    return out


def trim_zeros(x: object, trim: str = "fb", axis: int | tuple[int, ...] | None = None) -> DNDarray:
    """Return the array without the zeros around its elements that are not zero.

    *Distribution*: a view; rows stay on their ranks. Collective where the array is split: one allreduce of two
    integers for each axis.

    Parameters
    ----------
    trim : {"fb", "f", "b"}
        Whether to trim at the front, at the back, or both.
    axis : int or tuple of int, optional
        The axes that are trimmed; all by default.

    Raises
    ------
    LayoutError
        If `trim` is something else, or an axis is out of range.

    Examples
    --------
    >>> ht.trim_zeros(ht.array([0, 1, 0, 2, 0], split=0)).numpy().tolist()
    [1, 0, 2]
    """
    (x,) = as_arrays([x], "trim_zeros")
    ends = trim.lower() if isinstance(trim, str) else ""
    if not ends or set(ends) - set("fb"):
        raise LayoutError(f"trim_zeros: trim must consist of the letters f and b, got {trim!r}")
    axes = normalize_axes(axis, x.ndim, "trim_zeros")
    is_set = bits(x.larray) != 0
    # The first index, and minus the one after the last, of each axis: the minimum over ranks is that of the array.
    extremes = torch.tensor([*x.shape, *[0] * x.ndim], dtype=torch.int64)
    for a in axes:
        others = [b for b in range(x.ndim) if b != a]
        found = (is_set.any(dim=others) if others else is_set).nonzero().view(-1)
        if found.numel():
            offset = x.layout.offset(x.comm.rank) if a == x.split else 0
            extremes[a], extremes[x.ndim + a] = int(found[0]) + offset, -(int(found[-1]) + 1 + offset)
    if x.split is not None and x.comm.size > 1:
        extremes = x.comm.allreduce(extremes, "min")
    items = []
    for a, n in enumerate(x.shape):
        first, stop = int(extremes[a]), -int(extremes[x.ndim + a])
        if a not in axes:
            items.append((None, None, None))
        elif first > stop:  # nothing but zeros, whichever end they are taken from
            items.append((0, 0, None))
        else:
            items.append((first if "f" in ends else 0, stop if "b" in ends else n, None))
    return get_basic(x, tuple(items))


for _function in (delete, insert):
    register(
        _function,
        kind="manipulation",
        numpy=_function.__name__,
        method=False,
        cost="None for replicated arguments.",
    )
register(
    trim_zeros,
    kind="manipulation",
    numpy="trim_zeros",
    method=False,
    cost="One allreduce of two integers per axis.",
)
