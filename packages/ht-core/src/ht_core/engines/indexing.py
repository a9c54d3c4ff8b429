"""Engine of indexing with integers, slices, ellipsis and newaxis, get and set.

`plan_index` decides from the layout and the key alone where the result lies; it is pure and cached. Rows stay on the
rank that holds them: a slice sends nothing. Two keys send data: an integer on the split axis (its owner broadcasts one
row) and a negative step along the split axis, which reverses the order of the ranks.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from ht_comm import CommError, plan_redistribution

from .. import types
from ..dndarray import DNDarray, _cast
from ..errors import DTypeError, LayoutError
from ..layout import Box, Layout
from .elementwise import as_operand
from .index_key import check_index, expand_ellipsis

if TYPE_CHECKING:
    from ht_comm import Communicator

_SIGNED = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}


@dataclass(frozen=True, slots=True)
class Plan:
    """Where a basic key leads.

    Attributes
    ----------
    layout : Layout
        The result's.
    region : Layout
        The same shape before reversed axes are flipped: what each rank's local slice (positive steps) holds of it.
    flips : tuple of int
        Axes of the result that run backwards.
    owner : int or None
        The only rank that holds the result, where an integer stands on the split axis.
    moves : bool
        The split axis runs backwards and more than one rank has rows: data must travel.
    template : tuple
        The local key, with a hole at `hole` for the slice of the split axis.
    hole : tuple or None
        Place in `template`, first global index, step.
    """

    layout: Layout
    region: Layout
    flips: tuple[int, ...]
    owner: int | None
    moves: bool
    template: tuple
    hole: tuple[int, int, int] | None

    def local_key(self, source: Layout, rank: int) -> tuple | None:
        """Return the key into `rank`'s local tensor; None where another rank holds everything."""
        if self.owner is not None and rank != self.owner:
            return None
        if self.hole is None:
            return self.template
        at, start, step = self.hole
        count = self.region.counts[rank]
        first = start + self.region.displs[rank] * step - source.displs[rank]
        here = slice(first, first + (count - 1) * step + 1, step) if count else slice(0, 0)
        return (*self.template[:at], here, *self.template[at + 1 :])


@lru_cache(maxsize=4096)
def plan_index(layout: Layout, items: tuple) -> Plan:
    """Plan a basic key. Pure.

    Parameters
    ----------
    layout : Layout
        Of the array that is indexed.
    items : tuple
        int, (start, stop, step), None or Ellipsis, at most one of the last.

    Raises
    ------
    IndexError
        If there are too many items or an integer is out of range.
    ValueError
        If a step is zero.

    Examples
    --------
    >>> plan_index(Layout((6, 2), 0, (3, 3)), ((1, None, 2), None)).layout
    Layout(shape=(3, 1, 2), split=0, counts=(1, 2))
    """
    used = sum(item is not None and item is not Ellipsis for item in items)
    shape: list[int] = []
    template: list = []
    flips: list[int] = []
    split, counts, owner, hole, axis = None, (), None, None, 0
    for item in expand_ellipsis(items, used, layout.ndim):
        if item is None:
            shape.append(1)
            template.append(None)
            continue
        extent = layout.shape[axis]
        if type(item) is int:
            index = check_index(item, axis, extent)
            if axis == layout.split:
                owner = layout.owner(index)
                index -= layout.displs[owner]
            template.append(index)
        else:
            start, step, count, is_reversed = _forward(item, extent)
            if is_reversed:
                flips.append(len(shape))
            if axis == layout.split:
                hole = (len(template), start, step)
                split, counts = len(shape), _selected(layout, start, step, count)
            whole = count == extent and step == 1
            template.append(
                slice(None) if whole else slice(start, start + max(count - 1, -1) * step + 1, step)
            )
            if count == 0:
                template[-1] = slice(0, 0)
            shape.append(count)
        axis += 1
    region = Layout(shape, split, counts)
    moves = split in flips and sum(n > 0 for n in counts) > 1
    result = Layout.even(shape, split, len(counts)) if moves else region
    return Plan(result, region, tuple(flips), owner, moves, tuple(template), hole)


def _forward(item: tuple, extent: int) -> tuple[int, int, int, bool]:
    """Return start, step (positive) and count of a slice, and whether it runs backwards."""
    if item[2] == 0:
        raise ValueError("index: step of a slice must not be zero, got 0")
    start, stop, step = slice(*item).indices(extent)
    count = len(range(start, stop, step))
    if step > 0:
        return start, step, count, False
    return (start + (count - 1) * step if count else 0), -step, count, count > 1


def _selected(layout: Layout, start: int, step: int, count: int) -> tuple[int, ...]:
    """Return how many of the rows start, start + step, ... (`count` of them) each rank holds."""
    # Rows below a global index b: those k with start + k step < b, so ceil((b - start) / step) of them.
    below = [min(max(-((start - b) // step), 0), count) for b in (*layout.displs, layout.shape[layout.split])]
    return tuple(b - a for a, b in pairwise(below))


@lru_cache(maxsize=4096)
def _planned(layout: Layout, items: tuple, rank: int) -> tuple[Plan, tuple | None]:
    plan = plan_index(layout, items)
    return plan, plan.local_key(layout, rank)


def local_part(x: DNDarray, items: tuple) -> tuple[Plan, torch.Tensor]:
    """Return the plan of a basic key without an integer on the split axis, and its view of the local tensor."""
    plan, key = _planned(x.layout, items, x.comm.rank)
    return plan, x.larray[key]


# -- get ------------------------------------------------------------------------------------------------------


def get_basic(x: DNDarray, items: tuple) -> DNDarray:
    """Return the part of `x` that a basic key names: a view where nothing moves or turns round."""
    comm = x.comm
    plan, key = _planned(x.layout, items, comm.rank)
    if plan.owner is not None:
        return DNDarray(_broadcast_row(x.larray, key, plan, comm), plan.layout, comm)
    local = x.larray[key]
    if plan.flips:
        local = flip(local, plan.flips)
        if plan.moves:
            local = comm.redistribute(local, _reversing(plan.region, plan.layout, plan.flips, comm.size))
    return DNDarray(local, plan.layout, comm)


def _broadcast_row(local: torch.Tensor, key: tuple | None, plan: Plan, comm: Communicator) -> torch.Tensor:
    # A copy on the owner too, and on a single rank: whether a result shares memory must not depend on the rank.
    if key is None:
        row = torch.empty(plan.layout.shape, dtype=local.dtype, device=local.device)
    else:
        row = flip(local[key], plan.flips).clone(memory_format=torch.contiguous_format)
    if comm.size > 1 and plan.layout.size:
        comm.bcast(row, root=plan.owner)
    return row


@lru_cache(maxsize=512)
def _reversing(region: Layout, target: Layout, flips: tuple[int, ...], p: int):
    return plan_redistribution(region_boxes(region, flips, None, region.shape, p), target.boxes(p))


def flip(local: torch.Tensor, axes: tuple[int, ...]) -> torch.Tensor:
    """Return `local` reversed along `axes`, in memory of its own; `local` itself where there are none."""
    if not axes:
        return local
    return bits(local).flip(axes).view(local.dtype)


def bits(tensor: torch.Tensor) -> torch.Tensor:
    """Return `tensor` as signed integers of the same size where torch lacks kernels for its dtype. No copy."""
    signed = _SIGNED.get(tensor.dtype)
    return tensor if signed is None else tensor.view(signed)


# -- set ------------------------------------------------------------------------------------------------------


def is_repeated(local: torch.Tensor) -> bool:
    """Tell whether elements of a tensor share memory, as after broadcasting. Empty tensors may have any strides."""
    return (
        0 in local.stride()
        and local.numel() > 0
        and any(step == 0 and extent > 1 for step, extent in zip(local.stride(), local.shape))
    )


def set_basic(x: DNDarray, items: tuple, value: DNDarray | bool | int | float | complex) -> None:
    """Write `value` (from :func:`as_value`) to the elements that a basic key names."""
    plan, key = _planned(x.layout, items, x.comm.rank)
    if not isinstance(value, DNDarray):
        if key is not None:
            fill(x.larray[key], value)
        return
    value = fit(value, plan.region.shape)
    piece = value_piece(value, plan.region, plan.flips, plan.owner)
    if key is None:
        return
    target = x.larray[key]
    if is_same_memory(piece, target):
        return
    piece = _cast(piece, target.dtype)
    target.copy_(piece.clone() if overlaps(piece, target) else piece)


def as_value(value: object, x: DNDarray) -> DNDarray | bool | int | float | complex:
    """Return what is assigned to elements of `x`: a Python scalar that its dtype can hold, or an array.

    Raises
    ------
    DTypeError
        If the value is no number or array of numbers, or a complex scalar is assigned to a real array.
    OverflowError
        If a Python number is out of the bounds of an integer dtype.
    CommError
        If the value lives on another communicator.
    """
    target = x.dtype
    if type(value) in (bool, int, float, complex):
        return _fitting_scalar(value, target)
    value = as_operand(value, x.comm, x.larray.device, "setitem")
    if value.comm is not x.comm:
        raise CommError("setitem: value must live on the communicator of the array that is assigned to")
    if value.larray.device != x.larray.device:
        value = DNDarray(value.larray.to(x.larray.device), value.layout, value.comm)
    if value.dtype.kind == "c" and target.kind not in "cb":
        text = "setitem: casting complex values to real discards the imaginary part"
        warnings.warn(text, np.exceptions.ComplexWarning, stacklevel=4)
    return value


def _fitting_scalar(value: bool | int | float | complex, target: types.dtype) -> bool | int | float | complex:
    if target.kind == "b":
        return bool(value)
    if target.kind == "c":
        return value
    if type(value) is complex:
        raise DTypeError(f"setitem: value must be real for an array of {target}, got {value}; use value.real")
    if target.kind == "f":
        return float(value)
    whole = int(value)  # NaN and infinity raise here, as in NumPy
    limits = types.iinfo(target)
    if not limits.min <= whole <= limits.max:
        raise OverflowError(
            f"setitem: value must be in [{limits.min}, {limits.max}] for {target}, got {value}"
        )
    return whole


def fill(view: torch.Tensor, value: bool | int | float | complex) -> None:
    """Write a Python scalar to all elements of `view`."""
    if view.dtype in types.WIDE_UNSIGNED:  # fill_ refuses the upper half of uint64
        view.copy_(torch.tensor(value, dtype=view.dtype, device=view.device))
    else:
        view.fill_(value)


def fit(value: DNDarray, shape: tuple[int, ...]) -> DNDarray:
    """Return `value` without leading axes of extent 1 that `shape` lacks.

    Raises
    ------
    LayoutError
        If it does not broadcast to `shape`.
    """
    extra = max(value.ndim - len(shape), 0)
    rest = value.shape[extra:]
    fits = all(n in (1, m) for n, m in zip(rest, shape[len(shape) - len(rest) :]))
    if not fits or math.prod(value.shape[:extra]) != 1:
        raise LayoutError(
            f"setitem: value must broadcast to the shape {shape} of the elements, got {value.shape}"
        )
    if extra == 0:
        return value
    layout, local = value.layout, value.larray
    if layout.split is not None and layout.split < extra:  # one row, which only its owner has
        local, layout = value._gathered(), Layout(layout.shape, None)
    layout = layout.drop(range(extra))
    return DNDarray(local.reshape(layout.lshape(value.comm.rank)), layout, value.comm)


def value_piece(value: DNDarray, region: Layout, flips: tuple[int, ...], owner: int | None) -> torch.Tensor:
    """Return what this rank needs of `value` to write its part of `region`, in the order of the region.

    Parameters
    ----------
    value : DNDarray
        Broadcasts to ``region.shape``.
    region : Layout
        What each rank writes, reversed axes not yet flipped.
    flips : tuple of int
        The axes of `region` along which the value runs backwards.
    owner : int or None
        The only rank that writes.

    *Distribution*: no message where the value is replicated or lies as the region does; otherwise one redistribution.
    """
    comm, local = value.comm, value.larray
    lead = region.ndim - value.ndim
    if comm.size > 1:
        if value.layout.split is not None:
            moves = _piece_moves(value.layout, region, flips, owner, comm.size)
            local = local if moves is None else comm.redistribute(local, moves)
        else:
            box = region_boxes(region, flips, owner, value.shape, comm.size)[comm.rank]
            local = local[tuple(slice(*bounds) for bounds in box)]
    return flip(local, tuple(a - lead for a in flips if a >= lead and value.shape[a - lead] > 1))


@lru_cache(maxsize=1024)
def _piece_moves(value: Layout, region: Layout, flips: tuple[int, ...], owner: int | None, p: int):
    source, target = value.boxes(p), region_boxes(region, flips, owner, value.shape, p)
    return None if source == target else plan_redistribution(source, target)


def region_boxes(
    region: Layout, flips: tuple[int, ...], owner: int | None, shape: tuple[int, ...], p: int
) -> tuple[Box, ...]:
    """Return, per rank, which part of an array of `shape`, broadcast to `region`, meets the rank's part of the region.

    With the split axis among `flips`, rank r's rows a..b of the region are the rows n-b..n-a of the array.
    """
    lead = region.ndim - len(shape)
    axis = None if region.split is None else region.split - lead
    boxes = []
    for rank in range(p):
        box = [(0, n) for n in shape]
        if axis is not None and axis >= 0 and shape[axis] == region.shape[region.split]:
            start = region.displs[rank]
            stop = start + region.counts[rank]
            extent = shape[axis]
            box[axis] = (extent - stop, extent - start) if region.split in flips else (start, stop)
        elif owner is not None and rank != owner and box:
            box[0] = (0, 0)
        boxes.append(tuple(box))
    return tuple(boxes)


def overlaps(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Tell whether the address ranges of two tensors meet (two interleaved ones do, although they share no element)."""
    if a.device != b.device or not a.numel() or not b.numel():
        return False
    a_stop, b_stop = (
        t.data_ptr() + t.element_size() * (1 + sum((n - 1) * s for n, s in zip(t.shape, t.stride())))
        for t in (a, b)
    )
    return a.data_ptr() < b_stop and b.data_ptr() < a_stop


def is_same_memory(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Tell whether two tensors are the same elements in the same order, as after ``x[1:3] += 1``."""
    same = (
        a.data_ptr() == b.data_ptr()
        and a.dtype == b.dtype
        and a.shape == b.shape
        and a.stride() == b.stride()
    )
    return same and a.is_conj() == b.is_conj()
