"""Engine of indexing with index arrays, reading: ``x[idx]``, ``x[mask]`` and every mixture with basic keys.

The basic part of the key has been applied when this starts; index arrays I_1, ..., I_m of a common broadcast shape B
then select along axes a_1, ..., a_m. Key order is kept. The rules, functions of layouts and key only:

1. Array not split along an indexed axis: each rank selects in its own rows; no data moves. Index arrays that are split
   are replicated first, unless the array is replicated: then the result is split as the index arrays are.
2. Array split along an indexed axis, index arrays replicated: where the key visits the ranks in their order (sorted
   keys, masks) the rows stay where they are and the counts may be uneven; otherwise the result is spread evenly along
   the first axis of B on which the split axis's index varies. One exchange of the selected rows.
3. Array and index arrays split: the result is split as the index arrays are. One exchange of counts, one of requests
   (8 bytes per key), one of rows. Masks split as the array is need only the exchange of counts.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..dndarray import DNDarray
from ..errors import LayoutError
from ..layout import Layout
from .elementwise import broadcast_shapes, plan_elementwise
from .index_key import Entry
from .index_local import rows_where, select, take_rows, true_places
from .indexing import bits, get_basic, plan_index
from .redistribution import redistribute

if TYPE_CHECKING:
    from ht_comm import Communicator


#: Bytes that a round of an exchange of rows may hold besides its operands and the result, and what a key takes of it.
SCRATCH, KEY_BYTES = 24 << 20, 64
#: Ranks up to which keys are compared with the bounds of each.
FEW_RANKS = 16
#: Keys that tell, nearly always, that the ranks are not visited in their order.
_GLANCE = 1 << 10


@dataclass(frozen=True, slots=True)
class Index:
    """One integer index array.

    Attributes
    ----------
    axis : int
        The axis that it indexes.
    local : torch.Tensor
        int64.
    layout : Layout
    checked : bool
        No entry can be out of bounds or negative.
    owned : bool
        Each rank's entries name its own rows (masks split as the array is).
    """

    axis: int
    local: torch.Tensor
    layout: Layout
    checked: bool = False
    owned: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """How index arrays meet the array.

    Attributes
    ----------
    layout : Layout
        Of the broadcast index arrays: which keys this rank answers for.
    indices : tuple of Index
        This rank's part of each, in that layout.
    is_local : bool
        Every key of this rank names rows of this rank.
    """

    layout: Layout
    indices: tuple[Index, ...]
    is_local: bool


def get_advanced(x: DNDarray, items: tuple, entries: tuple[Entry, ...], position: int) -> DNDarray:
    """Return the elements of `x` that a key in normal form with index arrays names."""
    source = plan_index(x.layout, items).layout
    if len(entries) == 1 and entries[0].is_mask:
        aligned = _aligned_mask(entries[0], source, x.comm)
        if aligned is not None:
            return _get_masked(get_basic(x, items), entries[0], aligned, position)
    indices = as_indices(entries, source, x.comm)
    shape = common_shape(indices)
    check_known(indices, source, shape, x.comm)
    y = get_basic(x, items)
    axes = tuple(index.axis for index in indices)
    if not math.prod(shape):
        return _empty(y, indices, shape, axes, position)
    if source.split not in axes:
        route = _route_beside(y, indices, shape)
        local = select(y.larray, axes, [index.local for index in route.indices], len(shape), position)
        return DNDarray(local, result_layout(source, axes, route.layout, position), x.comm)
    route = route_across(source, indices, shape, x.comm)
    layout = result_layout(source, axes, route.layout, position)
    if route.is_local:
        local = [shifted(index, source, x.comm.rank) for index in route.indices]
        return DNDarray(select(y.larray, axes, local, len(shape), position), layout, x.comm)
    if all(index.layout.split is None for index in indices):
        rows = _exchange_known(y, indices, route)
    else:
        rows = _exchange_asked(y, route)
    return DNDarray(place(rows, route.layout, x.comm.rank, position), layout, x.comm)


def _aligned_mask(entry: Entry, source: Layout, comm: Communicator) -> Layout | None:
    """Return the layout in which a mask meets the array and selected rows stay in place; None if there is none."""
    mask = entry.array.layout
    if source.split is None:
        return None if mask.split is not None else mask
    along = source.split - entry.axis
    if source.split not in entry.axes:
        return Layout(mask.shape, None)
    return Layout(mask.shape, along, source.counts) if is_c_ordered(mask.shape, along) else None


def _get_masked(y: DNDarray, entry: Entry, aligned: Layout, position: int) -> DNDarray:
    """Select by one mask, without index arrays for each of its axes. At most one exchange of counts."""
    comm, array = y.comm, entry.array
    axes = tuple(entry.axes)
    mask = redistribute(array.larray, array.layout, aligned, comm)
    front = bits(y.larray).movedim(axes, tuple(range(len(axes))))
    if front.is_contiguous() and front.numel():
        rows = rows_where(front.flatten(0, len(axes) - 1), mask.reshape(-1))
    else:
        rows = front[mask]
    if aligned.split is None:
        found = Layout((rows.shape[0],), None)
    else:
        if array.split is None:
            counts = _counts_of(array.larray, aligned)
        else:
            counts = exchange_counts(rows.shape[0], comm, rows.device)
        found = Layout((sum(counts),), 0, counts)
    local = rows.movedim(0, position).view(y.larray.dtype)
    return DNDarray(local, result_layout(y.layout, axes, found, position), comm)


def _counts_of(mask: torch.Tensor, layout: Layout) -> tuple[int, ...]:
    """Return how many elements of a mask known to all ranks are true in each rank's part of `layout`."""
    per_row = mask.movedim(layout.split, 0).flatten(1).sum(1) if mask.ndim > 1 else mask.to(torch.int64)
    below = torch.cat([per_row.new_zeros(1), per_row.cumsum(0)])
    edges = torch.tensor((*layout.displs, layout.shape[layout.split]), device=mask.device)
    return tuple(below[edges].diff().tolist())


# -- index arrays ---------------------------------------------------------------------------------------------


def as_indices(entries: tuple[Entry, ...], source: Layout, comm: Communicator) -> list[Index]:
    """Return the index arrays of a key on an array of layout `source`; a mask becomes one per axis that it spans."""
    covered = {axis for entry in entries for axis in entry.axes}
    indices = []
    for entry in entries:
        if entry.is_mask:
            indices += _from_mask(entry, source, covered, comm)
        else:
            indices.append(Index(entry.axis, entry.array.larray, entry.array.layout))
    return indices


def _from_mask(entry: Entry, source: Layout, covered: set[int], comm: Communicator) -> list[Index]:
    """Turn a mask into index arrays in C order. One exchange of counts where the mask is split."""
    layout, owned = entry.array.layout, False
    along = None if source.split is None else source.split - entry.axis
    if layout.split is None:
        target = layout
    elif source.split is not None and source.split not in covered:
        target = Layout(layout.shape, None)
    elif along is not None and 0 <= along < layout.ndim and is_c_ordered(layout.shape, along):
        target, owned = Layout(layout.shape, along, source.counts), True
    else:
        target = (
            layout if is_c_ordered(layout.shape, layout.split) else Layout.even(layout.shape, 0, comm.size)
        )
    mask = redistribute(entry.array.larray, layout, target, comm)
    places, found = true_positions(mask, target, comm)
    return [Index(entry.axis + k, column, found, True, owned) for k, column in enumerate(places.unbind(1))]


def is_c_ordered(shape: tuple[int, ...], split: int) -> bool:
    """Tell whether cutting `shape` along `split` cuts its elements in C order into one run per rank."""
    return math.prod(shape[:split]) <= 1


def true_positions(mask: torch.Tensor, layout: Layout, comm: Communicator) -> tuple[torch.Tensor, Layout]:
    """Return this rank's part of the global positions, int64 of shape (n, mask.ndim), and the layout of its rows.

    *Distribution*: no message where `layout` is replicated; otherwise one allgather of p integers.
    """
    found = true_places(mask)[:, None] if mask.ndim == 1 else mask.nonzero()
    n = found.shape[0]
    if layout.split is None:
        return found, Layout((n,), None)
    found[:, layout.split] += layout.displs[comm.rank]
    counts = exchange_counts(n, comm, mask.device)
    return found, Layout((sum(counts),), 0, counts)


def exchange_counts(n: int, comm: Communicator, device: torch.device) -> tuple[int, ...]:
    """Return every rank's `n`, in rank order. One allgather of p integers."""
    if comm.size == 1:
        return (n,)
    return tuple(comm.allgather(torch.tensor([n], dtype=torch.int64, device=device)).tolist())


def common_shape(indices: list[Index]) -> tuple[int, ...]:
    """Return the shape to which the index arrays broadcast.

    Raises
    ------
    IndexError
        If they do not.
    """
    shapes = tuple(index.layout.shape for index in indices)
    try:
        return broadcast_shapes(*shapes)
    except LayoutError:
        texts = ", ".join(map(str, shapes))
        raise IndexError(f"index: index arrays must broadcast to one shape, got shapes {texts}") from None


def check_known(indices: list[Index], source: Layout, shape: tuple[int, ...], comm: Communicator) -> None:
    """Check in place the index arrays that every rank holds whole; negative entries come to count from the front.

    As in NumPy, nothing is checked where no element is selected.

    Raises
    ------
    IndexError
        If an entry is out of bounds.
    """
    for at, index in enumerate(indices):
        if index.layout.split is None or comm.size == 1:
            bad, indices[at] = checked(index, source, shape)
            if bad is not None:
                raise _out_of_bounds(index.axis, source, bad)


def checked(index: Index, source: Layout, shape: tuple[int, ...]) -> tuple[int | None, Index]:
    """Return an entry of this rank that is out of bounds, or None, and the index array with entries in [0, extent)."""
    local, extent = index.local, source.shape[index.axis]
    if index.checked or not math.prod(shape):
        return None, index
    if local.numel():
        least, most = torch.stack(torch.aminmax(local)).tolist()
        if least < -extent or most >= extent:
            return (most if most >= extent else least), index
        if least < 0:
            local = torch.where(local < 0, local + extent, local)
    return None, Index(index.axis, local, index.layout, True, index.owned)


def _out_of_bounds(axis: int, source: Layout, value: int) -> IndexError:
    extent = source.shape[axis]
    return IndexError(f"index: key must be in [{-extent}, {extent}) on axis {axis}, got {value}")


# -- rule 1: the split axis is not indexed --------------------------------------------------------------------


def _route_beside(y: DNDarray, indices: list[Index], shape: tuple[int, ...]) -> Route:
    if all(index.layout.split is None for index in indices):
        return Route(Layout(shape, None), tuple(indices), True)
    if y.split is not None:
        return Route(Layout(shape, None), tuple(replicate(indices, y.layout, shape, y.comm)), True)
    layout, indices = align(indices, y.comm)
    if all(index.checked for index in indices):
        return Route(layout, tuple(indices), True)
    error = None
    for at, index in enumerate(indices):
        bad, indices[at] = checked(index, y.layout, shape)
        if bad is not None and error is None:
            error = _out_of_bounds(index.axis, y.layout, bad)
    y.comm.agree(error)
    return Route(layout, tuple(indices), True)


def _empty(
    y: DNDarray, indices: list[Index], shape: tuple[int, ...], axes: tuple[int, ...], position: int
) -> DNDarray:
    """Return the result of a key that selects nothing; split as other keys of its kind would leave it."""
    comm, broadcast = y.comm, Layout(shape, None)
    if y.split is None:
        broadcast = plan_elementwise(
            tuple(index.layout for index in indices), comm.size, None, "index"
        ).layout
    elif y.split in axes:
        across = next(index for index in indices if index.axis == y.split)
        broadcast = Layout.even(shape, varying_axis(across.layout.shape, len(shape)), comm.size)
    layout = result_layout(y.layout, axes, broadcast, position)
    local = torch.empty(layout.lshape(comm.rank), dtype=y.larray.dtype, device=y.larray.device)
    return DNDarray(local, layout, comm)


def replicate(
    indices: list[Index], source: Layout, shape: tuple[int, ...], comm: Communicator
) -> list[Index]:
    """Return the index arrays whole on every rank, checked. One redistribution for each that is split."""
    whole = []
    for index in indices:
        target = Layout(index.layout.shape, None)
        local = redistribute(index.local, index.layout, target, comm)
        whole.append(Index(index.axis, local, target, index.checked))
    check_known(whole, source, shape, comm)
    return whole


def align(
    indices: list[Index], comm: Communicator, fixed: Layout | None = None
) -> tuple[Layout, list[Index]]:
    """Bring index arrays of different layouts to a common one, `fixed` if given; return it and this rank's parts."""
    plan = plan_elementwise(tuple(index.layout for index in indices), comm.size, fixed, "index")
    return plan.layout, [_moved(index, target, comm) for index, target in zip(indices, plan.targets)]


def _moved(index: Index, target: Layout, comm: Communicator) -> Index:
    owned = index.owned and target is index.layout
    return Index(
        index.axis, redistribute(index.local, index.layout, target, comm), target, index.checked, owned
    )


# -- rules 2 and 3: the split axis is indexed -----------------------------------------------------------------


def route_across(source: Layout, indices: list[Index], shape: tuple[int, ...], comm: Communicator) -> Route:
    """Decide which rank answers for which keys. May move index arrays; never rows."""
    across = next(index for index in indices if index.axis == source.split)
    if any(index.layout.split is not None for index in indices):
        layout, moved = align(indices, comm)
        if layout.split is not None:
            owned = next(index for index in moved if index.axis == source.split).owned
            is_local = comm.size == 1 or (owned and all(index.checked for index in moved))
            return Route(layout, tuple(moved), is_local)
        indices[:] = moved  # all of them broadcast along their split: they are replicated now
        check_known(indices, source, shape, comm)
        across = next(index for index in indices if index.axis == source.split)
    axis = varying_axis(across.layout.shape, len(shape))
    counts = kept_counts(across.local, axis, shape, source)
    target = Layout.even(shape, axis, comm.size) if counts is None else Layout(shape, axis, counts)
    return Route(target, tuple(align(indices, comm, target)[1]), counts is not None)


def varying_axis(shape: tuple[int, ...], ndim: int) -> int:
    """Return the first axis, of `ndim` broadcast ones, on which an index array of `shape` varies; 0 if on none."""
    return next((ndim - len(shape) + a for a, n in enumerate(shape) if n > 1), 0)


def owners(rows: torch.Tensor, source: Layout) -> torch.Tensor:
    """Return the rank that holds each row of the split axis, uint8 on few ranks."""
    stops = [d + n for d, n in zip(source.displs, source.counts)]
    if len(stops) > FEW_RANKS:
        return torch.searchsorted(torch.tensor(stops, device=rows.device), rows.contiguous(), right=True)
    holder = torch.zeros(rows.shape, dtype=torch.uint8, device=rows.device)
    for stop in stops[:-1]:  # a comparison costs a twentieth of a search
        holder += (rows >= stop).view(torch.uint8)
    return holder


def kept_counts(
    across: torch.Tensor, axis: int, shape: tuple[int, ...], source: Layout
) -> tuple[int, ...] | None:
    """Return the counts along `axis` of B with which no row leaves its rank; None where there are none.

    They exist where all keys at one place of `axis` have one owner and the owners do not decrease along `axis`.
    """
    p = len(source.counts)
    if p == 1:
        return (shape[axis],)
    if not math.prod(shape):
        return None
    if across.ndim == 1 and _decreases(owners(across[:_GLANCE], source)):
        return None
    holder = owners(across, source)
    at = axis - (len(shape) - holder.ndim)
    if at < 0:  # the same rows for every place of `axis`
        holder = holder.reshape(1, -1).expand(shape[axis], -1)
    else:
        holder = holder.movedim(at, 0).reshape(holder.shape[at], -1)
        holder = holder.expand(shape[axis], -1)
    first = holder[:, 0]
    if (holder.shape[1] > 1 and bool((holder != first[:, None]).any())) or _decreases(first):
        return None
    return tuple(torch.bincount(first, minlength=p).tolist())


def _decreases(holder: torch.Tensor) -> bool:
    return bool((holder[1:] < holder[:-1]).any())


def shifted(index: Index, source: Layout, rank: int) -> torch.Tensor:
    """Return the entries of an index array as positions in `rank`'s local tensor, which holds all of them."""
    if index.axis != source.split or not source.displs[rank]:
        return index.local
    return index.local - source.displs[rank]


def keys_of(indices: tuple[Index, ...], source: Layout, shape: tuple[int, ...], split: int) -> torch.Tensor:
    """Return index arrays that broadcast to `shape` as one int64 vector of linear positions over the indexed axes.

    The order is C order with axis `split` first: if B is split there, the ranks' keys follow one another.
    """
    linear = indices[0].local
    for index in indices[1:]:
        linear = linear * source.shape[index.axis] + index.local
    return linear.expand(shape).movedim(split, 0).reshape(-1)


def local_keys(
    linear: torch.Tensor, indices: tuple[Index, ...], source: Layout, rank: int
) -> list[torch.Tensor]:
    """Return linear positions as one position per indexed axis in `rank`'s local tensor."""
    found = []
    for index in reversed(indices):
        extent = source.shape[index.axis]
        here = linear % extent if index is not indices[0] else linear
        linear = linear // extent if index is not indices[0] else linear
        found.append(here - source.displs[rank] if index.axis == source.split else here)
    return found[::-1]


def owners_of_keys(linear: torch.Tensor, indices: tuple[Index, ...], source: Layout) -> torch.Tensor:
    """Return the rank that holds each linear position."""
    inner = 1
    for index in reversed(indices):
        if index.axis == source.split:
            rows = linear // inner if inner > 1 else linear
            return owners(rows % source.shape[index.axis] if index is not indices[0] else rows, source)
        inner *= source.shape[index.axis]
    raise LayoutError("index: the split axis must be among the indexed ones")


def plan_rounds(
    source: Layout, itemsize: int, indices: tuple[Index, ...], layout: Layout, p: int
) -> tuple[int, int]:
    """Return how many keys of each rank one round of an exchange serves, and the number of rounds.

    What a round holds besides the result stays within :data:`SCRATCH`, also where one rank has all the rows. A function
    of shapes, dtype and layouts: the same on every rank.
    """
    axes = {index.axis for index in indices}
    row = itemsize * math.prod(n for a, n in enumerate(source.shape) if a not in axes)
    step = max(1, SCRATCH // (p * (2 * row + KEY_BYTES)))
    inner = math.prod(layout.shape) // max(layout.shape[layout.split], 1)
    return step, max(1, -(-max(layout.counts) * inner // step))


def _exchange_known(y: DNDarray, indices: list[Index], route: Route) -> torch.Tensor:
    """Send each rank the rows of its keys; all keys are known to all ranks, so nobody needs to ask."""
    comm, source, target = y.comm, y.layout, route.layout
    keys = keys_of(tuple(indices), source, target.shape, target.split)
    inner = keys.numel() // target.shape[target.split]
    step, rounds = plan_rounds(source, y.larray.element_size(), tuple(indices), target, comm.size)
    spans = [(d * inner, n * inner) for d, n in zip(target.displs, target.counts)]
    out = None
    for first in range(0, rounds * step, step):
        # what each rank receives in this round, rank after rank
        bounds = [(d + min(first, n), d + min(first + step, n)) for d, n in spans]
        some = keys if rounds == 1 else torch.cat([keys[a:b] for a, b in bounds])
        edges = [0, *itertools.accumulate(b - a for a, b in bounds)]
        holder = owners_of_keys(some, tuple(indices), source)
        mine = true_places(holder == comm.rank)
        places = torch.searchsorted(mine, torch.tensor(edges, device=mine.device))
        send_counts = tuple((places[1:] - places[:-1]).tolist())
        rows = take_rows(
            y.larray,
            [index.axis for index in indices],
            local_keys(some.index_select(0, mine), tuple(indices), source, comm.rank),
        )
        order, recv_counts = by_owner(holder[edges[comm.rank] : edges[comm.rank + 1]], comm.size)
        out = _filed(out, comm.alltoallv(rows, send_counts, recv_counts), order, first, spans[comm.rank][1])
    return out


def _exchange_asked(y: DNDarray, route: Route) -> torch.Tensor:
    """Ask the owners for rows: counts, then keys, then rows."""
    comm, source, layout = y.comm, y.layout, route.layout
    step, rounds = plan_rounds(source, y.larray.element_size(), route.indices, layout, comm.size)
    keys, error = checked_keys(source, route, comm)
    axes = [index.axis for index in route.indices]
    out, count = None, math.prod(layout.lshape(comm.rank))
    for first in range(0, rounds * step, step):
        some = keys if rounds == 1 else keys[first : first + step]
        order, ask_counts, answer_counts = tell_owners(some, error, source, route, comm)
        asked = comm.alltoallv(some.index_select(0, order), ask_counts, answer_counts)
        rows = take_rows(y.larray, axes, local_keys(asked, route.indices, source, comm.rank))
        out = _filed(out, comm.alltoallv(rows, answer_counts, ask_counts), order, first, count)
    return out


def _filed(
    out: torch.Tensor | None, rows: torch.Tensor, order: torch.Tensor, first: int, count: int
) -> torch.Tensor:
    """Put rows that arrived sorted by owner into their places ``first + order`` of the `count` rows of the result."""
    if out is None:
        out = torch.empty(count, *rows.shape[1:], dtype=rows.dtype, device=rows.device)
    bits(out).index_copy_(0, order + first if first else order, bits(rows))
    return out


def checked_keys(source: Layout, route: Route, comm: Communicator) -> tuple[torch.Tensor, tuple[int, int]]:
    """Return this rank's keys, linear, and (0, 0); no keys and (axis + 1, entry) where an entry is out of bounds."""
    indices, error = [], (0, 0)
    for index in route.indices:
        bad, index = checked(index, source, route.layout.shape)
        indices.append(index)
        if bad is not None and not error[0]:
            error = (index.axis + 1, bad)
    if error[0]:
        return torch.empty(0, dtype=torch.int64, device=indices[0].local.device), error
    return keys_of(tuple(indices), source, route.layout.lshape(comm.rank), route.layout.split), error


def tell_owners(
    keys: torch.Tensor, error: tuple[int, int], source: Layout, route: Route, comm: Communicator
) -> tuple[torch.Tensor, tuple[int, ...], tuple[int, ...]]:
    """Tell each owner how many of some keys of this rank it will be sent.

    Returns
    -------
    order : torch.Tensor
        The stable permutation that sorts the keys by owner.
    send_counts, recv_counts : tuple of int
        How many go to and come from each rank.

    Raises
    ------
    IndexError
        On every rank, where an index is out of bounds on any: `error` is what :func:`checked_keys` returns.

    *Distribution*: one alltoallv of three integers per pair of ranks.
    """
    order, send_counts = by_owner(owners_of_keys(keys, route.indices, source), comm.size)
    ones = (1,) * comm.size
    header = torch.tensor([(n, *error) for n in send_counts], dtype=torch.int64, device=keys.device)
    heard = comm.alltoallv(header, ones, ones).tolist()
    for _, axis, value in heard:
        if axis:
            raise _out_of_bounds(axis - 1, source, value)
    return order, send_counts, tuple(n for n, _, _ in heard)


def by_owner(holder: torch.Tensor, p: int) -> tuple[torch.Tensor, tuple[int, ...]]:
    """Return the stable permutation that sorts by owner, and how many each of `p` ranks owns."""
    if p <= FEW_RANKS:
        places = [true_places(holder == rank) for rank in range(p)]
        return torch.cat(places), tuple(map(len, places))
    counts = tuple(torch.bincount(holder, minlength=p).tolist())
    if holder.device.type == "cpu" and p < 1 << 15:  # NumPy counts keys of 16 bits instead of comparing them
        order = np.argsort(holder.to(torch.int16).numpy(), kind="stable")
        return torch.from_numpy(order), counts
    return torch.argsort(holder, stable=True), counts


def place(rows: torch.Tensor, layout: Layout, rank: int, position: int) -> torch.Tensor:
    """Return rows (n, *rest), in the order of :func:`keys_of`, with the axes of B restored at `position`."""
    split, shape = layout.split, layout.lshape(rank)
    others = (*shape[:split], *shape[split + 1 :])
    rows = rows.reshape(shape[split], *others, *rows.shape[1:]).movedim(0, split)
    ndim = layout.ndim
    return rows.movedim(tuple(range(ndim)), tuple(range(position, position + ndim)))


def result_layout(source: Layout, axes: tuple[int, ...], broadcast: Layout, position: int) -> Layout:
    """Return the layout of the result: the axes of `broadcast` in front of axis `position` of the others."""
    rest = source.drop(axes)
    shape = (*rest.shape[:position], *broadcast.shape, *rest.shape[position:])
    if broadcast.split is not None:
        return Layout(shape, position + broadcast.split, broadcast.counts)
    if rest.split is None:
        return Layout(shape, None)
    return Layout(shape, rest.split + (broadcast.ndim if rest.split >= position else 0), rest.counts)
