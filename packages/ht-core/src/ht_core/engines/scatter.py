"""Engine of indexing with index arrays, writing: ``x[idx] = value``, ``x[mask] = value`` and mixtures.

The rules of ``gather`` decide which rank answers for which key; values are brought to those ranks, keys and values go
to the owners of the rows. Where a key names an element more than once, the last value in C order of the key wins.
"""

from __future__ import annotations

import math

import torch

from ..dndarray import DNDarray, _cast
from ..layout import Layout
from .choosing import fill
from .gather import (
    Index,
    Route,
    align,
    as_indices,
    check_known,
    checked_keys,
    common_shape,
    keys_of,
    local_keys,
    owners_of_keys,
    plan_rounds,
    replicate,
    result_layout,
    route_across,
    shifted,
    tell_owners,
)
from .index_key import Entry
from .index_local import true_places
from .indexing import bits, fit, local_part, overlaps, value_piece
from .redistribution import redistribute


class Target:
    """The elements that are written: the array's local view, index arrays, and the value that fits them.

    Attributes
    ----------
    view : torch.Tensor
        What the basic part of the key leaves of the local tensor; shares its memory.
    source : Layout
        Of `view`.
    axes : tuple of int
        Indexed axes of `view`.
    shape : tuple of int
        B, to which the index arrays broadcast.
    is_constant : bool
        The value does not vary along B, so neither the order of keys nor their repetition matters.
    """

    def __init__(self, x, plan, view, indices, shape, position, value, is_unique):
        self.comm, self.view, self.source = x.comm, view, plan.region
        self.axes, self.shape, self.position = tuple(index.axis for index in indices), shape, position
        rest = [axis for axis in range(view.ndim) if axis not in self.axes]
        places = {axis: k + (len(shape) if k >= position else 0) for k, axis in enumerate(rest)}
        self.flips = tuple(places[axis] for axis in plan.flips)  # an indexed axis is taken whole and forwards
        self.value = fit(value, self.region(Layout(shape, None)).shape)
        lead = len(self.region(Layout(shape, None)).shape) - self.value.ndim
        along = range(position - lead, position - lead + len(shape))
        self.is_constant = all(self.value.shape[a] == 1 for a in along if a >= 0)
        self.is_unique = is_unique or self.is_constant

    def region(self, broadcast: Layout) -> Layout:
        """Return the layout of the selection when the keys lie as `broadcast` says."""
        return result_layout(self.source, self.axes, broadcast, self.position)

    def front(self, broadcast: Layout) -> torch.Tensor:
        """Return this rank's values, (*B, *rest); without the axes of B where the value is constant along them.

        *Distribution*: as ``value_piece``.
        """
        region = self.region(Layout(broadcast.shape, None) if self.is_constant else broadcast)
        piece = _cast(value_piece(self.value, region, self.flips, None), self.view.dtype)
        shape = list(region.lshape(self.comm.rank))
        ndim = len(self.shape)
        if self.is_constant:
            shape[self.position : self.position + ndim] = [1] * ndim
        values = piece.expand(shape).movedim(
            tuple(range(self.position, self.position + ndim)), tuple(range(ndim))
        )
        return values.reshape(values.shape[ndim:]) if self.is_constant else values

    def put(self, keys: list[torch.Tensor], rows: torch.Tensor) -> None:
        """Write rows (n, *rest), or (*rest) for all, at n local positions along the indexed axes."""
        front = bits(self.view).movedim(self.axes, tuple(range(len(self.axes))))
        repeats = not self.is_unique and keys[0].numel() > 1
        if (repeats or front.ndim == 1) and _write_in_order(front, keys, rows):
            return
        if repeats:
            last = _last_of_each(keys, front.shape)
            if last is not None:
                keys, rows = [key[last] for key in keys], bits(rows)[last].view(rows.dtype)
        if overlaps(rows, self.view):
            rows = rows.clone()
        rows = bits(rows)
        if front.is_contiguous() and front.numel():  # index_copy_ is several times faster where it applies
            flat = front.flatten(0, len(keys) - 1)
            flat.index_copy_(0, _linear(keys, front.shape), rows.expand(keys[0].numel(), *flat.shape[1:]))
        else:
            front.index_put_(tuple(keys), rows)


def set_advanced(x: DNDarray, items: tuple, entries: tuple[Entry, ...], position: int, value: object) -> None:
    """Write `value` (from ``as_value``) to the elements that a key in normal form with index arrays names."""
    comm = x.comm
    plan, view = local_part(x, items)
    if not isinstance(value, DNDarray):
        value = DNDarray(
            torch.tensor(value, dtype=x.larray.dtype, device=x.larray.device), Layout((), None), comm
        )
    if len(entries) == 1 and entries[0].is_mask and value.size == 1 and value.split is None:
        _fill_where(view, plan.region, entries[0], value)
        return
    indices = as_indices(entries, plan.region, comm)
    shape = common_shape(indices)
    check_known(indices, plan.region, shape, comm)
    masked = {axis for entry in entries if entry.is_mask for axis in entry.axes}
    is_unique = any(index.axis in masked and index.layout.shape == shape for index in indices)
    target = Target(x, plan, view, indices, shape, position, value, is_unique)
    if not math.prod(shape):
        return
    if plan.region.split not in target.axes:
        everywhere = Layout(shape, None)
        if any(index.layout.split is not None for index in indices):
            indices = replicate(indices, plan.region, shape, comm)
        _put_local(target, Route(everywhere, tuple(indices), True))
        return
    is_known = all(index.layout.split is None for index in indices)
    if is_known and comm.size > 1 and (target.is_constant or target.value.split is None):
        _put_mine(target, tuple(indices))
        return
    route = route_across(plan.region, indices, shape, comm)
    if route.is_local:
        _put_local(target, route)
    elif not is_known:
        _send(target, _along_first(route, shape, comm))
    else:
        layout = _layout_of_keys(target, shape, comm.size)
        _send(target, _along_first(Route(Layout(shape, None), tuple(indices), False), shape, comm, layout))


def _fill_where(view: torch.Tensor, source: Layout, entry: Entry, value: DNDarray) -> None:
    """Write one number where a mask is true. No message where the mask lies as the array does, or is replicated."""
    mask, comm = entry.array, value.comm
    along = None if source.split is None else source.split - entry.axis
    is_cut = along is not None and 0 <= along < mask.ndim
    target = Layout(mask.shape, along, source.counts) if is_cut else Layout(mask.shape, None)
    local = redistribute(mask.larray, mask.layout, target, comm)
    local = local.reshape(*local.shape, *(1,) * (view.ndim - entry.axis - mask.ndim))
    number = _cast(value.larray.reshape(()), view.dtype)
    if overlaps(number, view):
        number = number.clone()
    fill(bits(view), local, bits(number))


def _put_local(target: Target, route: Route) -> None:
    """Write where every rank's keys name its own rows (or everybody's)."""
    comm = target.comm
    rows = target.front(route.layout)
    if not target.is_constant:
        rows = rows.flatten(0, len(target.shape) - 1)
    shape = route.layout.lshape(comm.rank)
    keys = [shifted(index, target.source, comm.rank) for index in route.indices]
    if target.source.split not in target.axes:
        keys = [index.local for index in route.indices]
    target.put([key.expand(shape).reshape(-1) for key in keys], rows)


def _put_mine(target: Target, indices: tuple[Index, ...]) -> None:
    """Write where every rank knows all keys and all values: each takes those of its own rows. No message."""
    comm, source = target.comm, target.source
    keys = keys_of(indices, source, target.shape, 0)
    mine = true_places(owners_of_keys(keys, indices, source) == comm.rank)
    rows = target.front(Layout(target.shape, None))
    if not target.is_constant:
        rows = bits(rows)[torch.unravel_index(mine, target.shape)].view(rows.dtype)
    target.put(local_keys(keys.index_select(0, mine), indices, source, comm.rank), rows)


def _layout_of_keys(target: Target, shape: tuple[int, ...], p: int) -> Layout:
    """Return where keys known to all ranks are dealt with: where the value's rows are if it is split as they run."""
    layout = target.value.layout
    lead = target.region(Layout(shape, None)).ndim - layout.ndim
    if layout.split + lead == target.position and layout.shape[layout.split] == shape[0]:
        return Layout(shape, 0, layout.counts)
    return Layout.even(shape, 0, p)


def _along_first(route: Route, shape: tuple[int, ...], comm, layout: Layout | None = None) -> Route:
    """Return the route with B split along its first axis: ranks in order then hold the keys in C order."""
    if layout is None:
        if route.layout.split == 0:
            return route
        layout = Layout.even(shape, 0, comm.size)
    return Route(layout, tuple(align(list(route.indices), comm, layout)[1]), False)


def _send(target: Target, route: Route) -> None:
    """Send keys and values to the owners: counts, then keys, then values unless they are the same for all keys.

    Long keys go in rounds, so that no rank holds more than ``SCRATCH`` bytes of others' keys and values. Where the last
    value of a position has to win, the rounds follow the keys' C order over all ranks.
    """
    comm, source, layout = target.comm, target.source, route.layout
    keys, error = checked_keys(source, route, comm)
    rows = target.front(layout)
    if not target.is_constant:
        rows = rows.flatten(0, len(target.shape) - 1)
    step, rounds = plan_rounds(source, target.view.element_size(), route.indices, layout, comm.size)
    start = 0
    if not target.is_unique and rounds > 1:
        inner = math.prod(target.shape) // target.shape[0]
        start, step = layout.displs[comm.rank] * inner, step * comm.size
        rounds = -(-math.prod(target.shape) // step)
    for first in range(-start, rounds * step - start, step):
        here = slice(max(first, 0), max(first + step, 0))
        some = keys[here]
        order, send_counts, recv_counts = tell_owners(some, error, source, route, comm)
        asked = comm.alltoallv(some.index_select(0, order), send_counts, recv_counts)
        got = rows
        if not target.is_constant:
            sent = bits(rows)[here].index_select(0, order).view(rows.dtype)
            got = comm.alltoallv(sent, send_counts, recv_counts)
        target.put(local_keys(asked, route.indices, source, comm.rank), got)


def _write_in_order(front: torch.Tensor, keys: list[torch.Tensor], rows: torch.Tensor) -> bool:
    """Write rows one after the other, so that the last of a position wins; False where NumPy cannot do it."""
    tensors = (front, rows, *keys)
    if any(x.device.type != "cpu" or x.requires_grad or x.is_conj() or x.is_neg() for x in tensors):
        return False
    if overlaps(rows, front):
        rows = rows.clone()
    rows = bits(rows)
    if front.dtype is torch.bfloat16:
        front, rows = front.view(torch.int16), rows.view(torch.int16)
    front.numpy()[tuple(key.numpy() for key in keys)] = rows.numpy()
    torch.autograd.graph.increment_version(front)  # as every write by torch does
    return True


def _last_of_each(keys: list[torch.Tensor], shape: tuple[int, ...]) -> torch.Tensor | None:
    """Return the places of the last occurrence of each position; None where no position occurs twice."""
    ordered, places = torch.sort(_linear(keys, shape), stable=True)
    is_last = torch.ones_like(ordered, dtype=torch.bool)
    torch.ne(ordered[1:], ordered[:-1], out=is_last[:-1])
    return None if bool(is_last.all()) else places[is_last]


def _linear(keys: list[torch.Tensor], shape: tuple[int, ...]) -> torch.Tensor:
    """Return positions along the first axes of `shape` as positions in C order over these axes."""
    linear = keys[0]
    for key, extent in zip(keys[1:], shape[1:]):
        linear = linear * extent + key
    return linear
