"""Sorting: sort, argsort, lexsort, partition, topk.

Elements are sorted through integer keys (``engines/sort_keys.py``); along the split axis by ``engines/sort.py``, with
one exchange of the data. Everything is stable, on any number of ranks, and the result has the layout of the input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from . import types
from .dndarray import DNDarray
from .engines.elementwise import as_operand, common_comm
from .engines.indexing import bits
from .engines.redistribution import redistribute
from .engines.sort import (
    argsort_rows,
    carry_by_words,
    is_on_host,
    lexicographic_order,
    sort_rows,
)
from .engines.sort_by_parts import order_over_ranks, sort_over_ranks
from .engines.sort_keys import decode, encode, encode_words
from .errors import DTypeError, LayoutError
from .layout import Layout, normalize_axis
from .order_gradients import partition_recorded, sort_recorded, topk_recorded
from .registry import register

#: Columns along the split axis of up to so many elements per rank are sorted after cutting another axis instead.
_SHORT = 64
#: Elements looked at at a time.
_TILE = 1 << 16


class TopK(NamedTuple):
    """What :func:`topk` returns."""

    values: DNDarray
    indices: DNDarray


def sort(
    x: object,
    /,
    axis: int | None = -1,
    kind: str | None = None,
    order: None = None,
    *,
    descending: bool = False,
    stable: bool | None = None,
    out: DNDarray | None = None,
    return_sort_indices: bool = False,
) -> DNDarray | tuple[DNDarray, DNDarray]:
    """Sort along an axis.

    NaN is greater than all numbers; complex numbers are ordered by their real, then by their imaginary parts. Equal
    elements (zeros of either sign) keep their order, also with `descending`.

    *Distribution*: the layout stays. Along another axis than the split, no message. Along the split axis, for all
    columns together: at most 11 allreduces of counts (for more than 256 columns times ranks more, up to one for each
    bit of an element) and one alltoallv, which sends each element at most once; another one where zeros of both signs
    or complex numbers have to keep their order. Vectors of 65536 elements per rank or more send a sample of 64 KiB
    first, move by one alltoallv for each 8 MiB of the longest part, and are sorted only once, after that. Columns of up
    to 64 elements per rank, if there are at least as many as ranks, are sorted by two redistributions instead. Memory
    along the split axis, besides input and result: for such vectors a few percent of the input and twice 8 MiB; the
    result once for shorter ones, twice for several columns.

    Parameters
    ----------
    x : array_like
        Any shape and dtype.
    axis : int or None
        None sorts the flattened array.
    kind : {"quicksort", "mergesort", "heapsort", "stable"}, optional
        Accepted for NumPy's sake.
    order : None
        Accepted for NumPy's sake: there are no fields.
    descending : bool
        Sort from the greatest (NaN first) to the least.
    stable : bool, optional
        Sorting is stable always.
    out : DNDarray, optional
        Where the result is written; it keeps its layout.
    return_sort_indices : bool
        Return also the indices, as :func:`argsort` does.

    Returns
    -------
    DNDarray
        Of the shape and dtype of `x`.

    Raises
    ------
    LayoutError
        If the axis is out of range.
    DTypeError
        If `kind` is unknown.

    Examples
    --------
    >>> ht.sort(ht.array([3, 1, 2], split=0)).numpy().tolist()
    [1, 2, 3]
    """
    x, axis = _checked("sort", x, axis, kind, order)
    _check_out("sort", out, x)
    result = _wrapped(_sorted(x, axis, bool(descending)), x, out)
    if return_sort_indices:
        return result, _wrapped(_argsorted(x, axis, bool(descending)), x)
    return result


def argsort(
    x: object,
    /,
    axis: int | None = -1,
    kind: str | None = None,
    order: None = None,
    *,
    descending: bool = False,
    stable: bool | None = None,
) -> DNDarray:
    """Return the indices that sort an array along an axis; see :func:`sort` for the order.

    *Distribution*: as :func:`sort`, with words of 8 bytes where the key of an element and its index fit into 63 bits.
    Where not, a vector of 65536 elements per rank or more moves so with the leading bits of its keys, if a sample of
    8 KiB says that these tell most apart; then, if elements have these in common, two alltoallv fetch their whole keys,
    and unless they are in order (equal ones are) their keys and indices are exchanged. Otherwise all keys and indices
    are, by one alltoallv each (two for each of the two parts of complex128).
    Memory along the split axis, besides input and result: a copy of the keys, a few percent, and twice 8 MiB where
    words are exchanged; 60 bytes per element where most elements have equal ones, 100 where most are in small groups
    that only their last bits tell apart; up to 60 where keys and indices are exchanged, as they are held before and
    after they move, and an order with them.

    Returns
    -------
    DNDarray
        int64, of the shape of `x`.

    Examples
    --------
    >>> ht.argsort(ht.array([3, 1, 1], split=0)).numpy().tolist()
    [1, 2, 0]
    """
    x, axis = _checked("argsort", x, axis, kind, order)
    return _wrapped(_argsorted(x, axis, bool(descending)), x)


def lexsort(keys: object, axis: int = -1) -> DNDarray:
    """Return the indices that sort by several keys, the last one first.

    *Distribution*: the keys are brought to the layout of the first that is split, which the result has, too. Along
    another axis than the split nothing more is sent; along it, the cost of :func:`argsort` for each key, which takes
    the others with it.

    Parameters
    ----------
    keys : sequence of array_like of one shape, or an array whose axis 0 counts the keys
        The last is the primary key.
    axis : int
        The axis to sort along.

    Returns
    -------
    DNDarray
        int64, of the shape of one key.

    Raises
    ------
    LayoutError
        If there is no key, or their shapes differ.

    Examples
    --------
    >>> ht.lexsort((ht.array([9, 4, 0]), ht.array([1, 5, 1]))).numpy().tolist()
    [2, 0, 1]
    """
    keys = _sort_keys(keys)
    axis = normalize_axis(axis, keys[0].ndim, "lexsort")
    model = next((x for x in keys if x.split is not None), keys[0])
    parts = [redistribute(x.larray, x.layout, model.layout, x.comm) for x in reversed(keys)]

    def run(x: DNDarray) -> torch.Tensor:
        words = [word for part in parts for word in encode_words(_rows(part, axis))]
        return _back(_ordered(words, model, axis), axis)

    return _wrapped(run(model), model)


def partition(
    x: object, /, kth: object, axis: int | None = -1, kind: str = "introselect", order: None = None
) -> DNDarray:
    """Put the elements at places `kth` where sorting would put them, smaller ones in front, greater ones behind.

    *Distribution*: as :func:`sort`; along the split axis the result is sorted: every rank's part has to be filled with
    its elements in any case, which is the greater part of the cost of sorting them.

    Parameters
    ----------
    kth : int or sequence of int
        Places; negative ones count from the end.
    axis : int or None
        None works on the flattened array.
    kind, order
        Accepted for NumPy's sake.

    Raises
    ------
    LayoutError
        If the axis or a place is out of range.

    Examples
    --------
    >>> int(ht.partition(ht.array([7, 1, 5], split=0), 1)[1])
    5
    """
    x, axis, places = _checked_places("partition", x, kth, axis, kind, order)
    rows = _rows(x.larray, axis)
    if _is_across(x, axis) or rows.is_complex() or not is_on_host(rows) or not places or not rows.numel():
        return _wrapped(_sorted(x, axis, False), x)
    keys = encode(rows, join_zeros=False)
    keys.numpy().partition(places, axis=-1)
    return _wrapped(decode(_back(keys, axis), rows.dtype), x)


def argpartition(
    x: object, /, kth: object, axis: int | None = -1, kind: str = "introselect", order: None = None
) -> DNDarray:
    """Return indices that partition an array, here those that sort it. See :func:`partition`, :func:`argsort`."""
    x, axis, _ = _checked_places("argpartition", x, kth, axis, kind, order)
    return _wrapped(_argsorted(x, axis, False), x)


def topk(
    a: object, k: int, dim: int = -1, largest: bool = True, sorted: bool = True, out: tuple | None = None
) -> TopK:
    """Return the k greatest (or least) elements along an axis, the best first, and their indices.

    NaN is greater than all numbers, and 0.0 than -0.0. Of equal elements the one with the lowest index comes first.

    *Distribution*: the split stays; along it the result is dealt evenly. Along another axis than the split no message.
    Along the split axis each rank finds its k best, and one allreduce of 16 k bytes per column merges these; where
    k p exceeds the extent (and for complex numbers), as :func:`argsort`.

    Parameters
    ----------
    a : array_like
        Any shape and dtype.
    k : int
        In [0, extent].
    dim : int
        The axis.
    largest : bool
        False for the least elements.
    sorted : bool
        Accepted for torch's sake: results are sorted always.
    out : (DNDarray, DNDarray), optional
        Where values and indices are written.

    Returns
    -------
    TopK
        ``values``, of the dtype of `a`, and ``indices``, int64.

    Raises
    ------
    LayoutError
        If `k` or `dim` is out of range.

    Examples
    --------
    >>> ht.topk(ht.array([5, 8, 1], split=0), 2).values.numpy().tolist()
    [8, 5]
    """
    x, axis = _checked("topk", a, dim, None, None)
    if not hasattr(k, "__index__") or not 0 <= k.__index__() <= x.shape[axis]:
        raise LayoutError(f"topk: k must be in [0, {x.shape[axis]}], got {k!r}")
    k, shape = k.__index__(), x.shape
    target = Layout.even((*shape[:axis], k, *shape[axis + 1 :]), x.split, x.comm.size)
    if x.split != axis and x.split is not None:
        target = x.layout.with_axis(axis, k)
    for part in out or ():
        _check_out("topk", part, DNDarray(x.larray, target, x.comm))
    values, indices = _top(x, k, axis, bool(largest), target)
    results = (DNDarray(values, target, x.comm), DNDarray(indices, target, x.comm))
    return TopK(*(_delivered(r, o) for r, o in zip(results, out or (None, None))))


def sort_complex(a: object) -> DNDarray:
    """Return the array as a complex one, sorted along its last axis. See :func:`sort`.

    Narrow integers become complex64, other real dtypes complex128, as in NumPy.
    """
    x = _as_array(a, "sort_complex")
    narrow = x.dtype in (types.int8, types.int16, types.uint8, types.uint16)
    if x.dtype.kind != "c":
        x = x.astype(types.complex64 if narrow else types.complex128)
    return sort(x)


# -- arguments ----------------------------------------------------------------------------------------------------


def _as_array(x: object, op: str) -> DNDarray:
    return x if isinstance(x, DNDarray) else as_operand(x, common_comm([], op), torch.device("cpu"), op)


def _checked(op: str, x: object, axis: int | None, kind: object, order: object) -> tuple[DNDarray, int]:
    if kind not in (None, "quicksort", "mergesort", "heapsort", "stable"):
        raise DTypeError(f"{op}: kind must be quicksort, mergesort, heapsort, stable or None, got {kind!r}")
    return _checked_axis(op, x, axis, order)


def _checked_axis(op: str, x: object, axis: int | None, order: object) -> tuple[DNDarray, int]:
    if order is not None:
        raise DTypeError(f"{op}: order must be None, as no dtype has fields, got {order!r}")
    x = _as_array(x, op)
    if axis is None:
        return x.ravel(), 0
    return x, normalize_axis(axis, x.ndim, op)


def _checked_places(op: str, x: object, kth: object, axis: int | None, kind: object, order: object):
    if kind != "introselect":
        raise DTypeError(f"{op}: kind must be introselect, got {kind!r}")
    x, axis = _checked_axis(op, x, axis, order)
    wanted = [kth] if hasattr(kth, "__index__") else list(kth)
    extent = x.shape[axis]
    if not all(hasattr(place, "__index__") and -extent <= place.__index__() < extent for place in wanted):
        raise LayoutError(f"{op}: kth must be in [{-extent}, {extent}), got {kth!r}")
    return x, axis, [place.__index__() % extent for place in wanted]


def _check_out(op: str, out: object, like: DNDarray) -> None:
    if out is None:
        return
    if not isinstance(out, DNDarray) or out.shape != like.shape:
        got = out.shape if isinstance(out, DNDarray) else type(out).__name__
        raise LayoutError(f"{op}: out must be a DNDarray of shape {like.shape}, got {got}")
    common_comm([out, like], op)


def _sort_keys(keys: object) -> list[DNDarray]:
    if isinstance(keys, DNDarray):
        if not keys.ndim:
            raise LayoutError("lexsort: keys must have at least one axis, got a 0-D array")
        layout = keys.layout
        if keys.split == 0:  # the keys would be on different ranks
            layout = Layout.even(keys.shape, 1 if keys.ndim > 1 else None, keys.comm.size)
        rows = redistribute(keys.larray, keys.layout, layout, keys.comm)
        made = [DNDarray(row, layout.drop((0,)), keys.comm) for row in rows]
    else:
        comm = common_comm([x for x in keys if isinstance(x, DNDarray)], "lexsort")
        device = next((x.larray.device for x in keys if isinstance(x, DNDarray)), torch.device("cpu"))
        made = [as_operand(x, comm, device, "lexsort") for x in keys]
    if not made:
        raise LayoutError("lexsort: keys must contain at least one key, got none")
    if len({x.shape for x in made}) != 1:
        raise LayoutError(f"lexsort: keys must have one shape, got {[x.shape for x in made]}")
    return made


# -- results --------------------------------------------------------------------------------------------------------


def _wrapped(local: torch.Tensor, like: DNDarray, out: DNDarray | None = None) -> DNDarray:
    return _delivered(DNDarray(local, like.layout, like.comm), out)


def _delivered(result: DNDarray, out: DNDarray | None) -> DNDarray:
    if out is None:
        return result
    out.larray.copy_(redistribute(result.larray, result.layout, out.layout, out.comm))
    return out


# -- rows: the axis to sort along comes last ------------------------------------------------------------------------


def _rows(local: torch.Tensor, axis: int) -> torch.Tensor:
    return local.resolve_conj().resolve_neg().movedim(axis, -1)


def _back(rows: torch.Tensor, axis: int) -> torch.Tensor:
    return rows.movedim(-1, axis).contiguous()


def _is_across(x: DNDarray, axis: int) -> bool:
    """Tell whether columns are cut over ranks (and there is something to sort)."""
    return x.split == axis and x.comm.size > 1 and x.size > 0


def _other_cut(x: DNDarray, axis: int) -> Layout | None:
    """Return a layout in which short columns are whole; None where they are not short or too few."""
    extents = [0 if a == axis else n for a, n in enumerate(x.shape)]
    other = max(range(x.ndim), key=extents.__getitem__)
    if x.shape[axis] > _SHORT * x.comm.size or extents[other] < x.comm.size:
        return None
    return Layout.even(x.shape, other, x.comm.size)


def _sorted(x: DNDarray, axis: int, descending: bool) -> torch.Tensor:
    """Return this rank's part of the array sorted along `axis`, in the layout of `x`."""
    if not _is_across(x, axis):
        return _sorted_rows(_rows(x.larray, axis), axis, descending)
    other = _other_cut(x, axis)
    if other is not None:
        local = redistribute(x.larray, x.layout, other, x.comm)
        return redistribute(_sorted_rows(_rows(local, axis), axis, descending), other, x.layout, x.comm)
    rows = _rows(x.larray, axis)
    if not rows.is_complex():
        keys = encode(rows, descending, join_zeros=False)
        if not (rows.is_floating_point() and _has_both_zeros(keys, x.comm)):
            keys = sort_over_ranks(_columns(keys), x.layout.counts, x.comm)
            return decode(_back(keys.view(rows.shape), axis), rows.dtype, descending)
    words = [_columns(word) for word in encode_words(rows, descending)]
    (values,) = carry_by_words(words, [_columns(rows)], x.layout.counts, x.comm)
    return _back(values.view(rows.shape), axis)


def _sorted_rows(rows: torch.Tensor, axis: int, descending: bool) -> torch.Tensor:
    if rows.is_complex():
        order = _order_rows(encode_words(rows, descending))
        return _back(torch.take_along_dim(rows, order, -1), axis)
    keys = sort_rows(encode(rows, descending, join_zeros=False))
    is_mixed = rows.is_floating_point() and bool(_zeros(keys).all())
    values = decode(_back(keys, axis), rows.dtype, descending)
    if is_mixed:  # the zeros of a row in their order; there are as many before and after
        aligned = values.movedim(axis, -1)
        aligned[aligned == 0] = rows[rows == 0]
    return values


def _zeros(keys: torch.Tensor) -> torch.Tensor:
    """Return whether there is any -0.0, and any 0.0, among keys with distinct zeros (either order), sorted in rows."""
    if not keys.numel():
        return torch.zeros(2, dtype=torch.bool, device=keys.device)
    probes = torch.tensor([-1, 0, 1], dtype=keys.dtype, device=keys.device)
    places = torch.searchsorted(keys, probes.expand(*keys.shape[:-1], 3).contiguous())
    return (places.diff(dim=-1) > 0).reshape(-1, 2).any(0)


def _has_both_zeros(keys: torch.Tensor, comm) -> bool:
    """Tell, of keys with distinct zeros in any order, whether the ranks have zeros of both signs."""
    flat = keys.view(-1)
    if is_on_host(keys):  # NumPy compares five times faster than torch
        tiles = np.split(flat.numpy(), range(_TILE, len(flat), _TILE))
        found = torch.tensor([any((tile == zero).any() for tile in tiles) for zero in (-1, 0)])
    else:
        found = torch.stack([(flat == -1).any(), (flat == 0).any()])
    return bool(comm.allreduce(found, "lor").all())


def _argsorted(x: DNDarray, axis: int, descending: bool) -> torch.Tensor:
    if _is_across(x, axis):
        other = _other_cut(x, axis)
        if other is not None:
            local = redistribute(x.larray, x.layout, other, x.comm)
            order = _order_rows(encode_words(_rows(local, axis), descending))
            return redistribute(_back(order, axis), other, x.layout, x.comm)
    return _back(_ordered(encode_words(_rows(x.larray, axis), descending), x, axis), axis)


def _ordered(words: list[torch.Tensor], x: DNDarray, axis: int) -> torch.Tensor:
    """Return, in rows, the order of words that are laid out as `x`; `words` may be emptied."""
    if not _is_across(x, axis):
        return _order_rows(words)
    shape = words[0].shape
    columns = [_columns(word) for word in words]
    words.clear()
    return order_over_ranks(columns, x.layout.counts, x.comm).view(shape)


def _order_rows(words: Sequence[torch.Tensor]) -> torch.Tensor:
    if len(words) == 1:
        return argsort_rows(words[0])
    if words[0].ndim == 1:
        return lexicographic_order(words)
    order = argsort_rows(words[-1])
    for word in words[-2::-1]:
        order = torch.take_along_dim(order, argsort_rows(torch.take_along_dim(word, order, -1)), -1)
    return order


def _columns(rows: torch.Tensor) -> torch.Tensor:
    return rows.reshape(math.prod(rows.shape[:-1]), rows.shape[-1])


# -- topk -----------------------------------------------------------------------------------------------------------


def _top(x: DNDarray, k: int, axis: int, largest: bool, target: Layout) -> tuple[torch.Tensor, torch.Tensor]:
    """Return this rank's part, in layout `target`, of the k best values and their indices."""
    if not target.size:
        shape = target.lshape(x.comm.rank)
        return x.larray.new_empty(shape), x.larray.new_empty(shape, dtype=torch.int64)
    rows = _rows(x.larray, axis)
    is_across = _is_across(x, axis)
    if rows.is_complex() or (is_across and k * x.comm.size > x.shape[axis]):
        return _top_by_sorting(x, k, axis, largest, target)
    keys = encode(rows, largest, join_zeros=False)
    places = _best_places(keys, min(k, rows.shape[-1]))
    if not is_across:
        values = torch.take_along_dim(bits(rows), places, -1).view(rows.dtype)
        return _back(values, axis), _back(places, axis)
    best = torch.take_along_dim(keys, places, -1).to(torch.int64)
    absent = k - best.shape[-1]
    best = torch.nn.functional.pad(best, (0, absent))
    places = torch.nn.functional.pad(places + x.layout.displs[x.comm.rank], (0, absent), value=-1)
    best, places = x.comm.allreduce_pairs(best, places, "bottomk")
    whole = Layout.replicated(target.shape)
    best, places = (
        redistribute(_back(part, axis), whole, target, x.comm, copy=True) for part in (best, places)
    )
    return decode(best.to(keys.dtype), rows.dtype, largest), places


def _best_places(keys: torch.Tensor, k: int) -> torch.Tensor:
    """Return the indices of the k least keys of each row, in order; of equal keys the first."""
    if k == keys.shape[-1] or not keys.numel():
        return argsort_rows(keys)[..., :k]
    if is_on_host(keys):
        ranked = keys.clone()
        ranked.numpy().partition(k - 1, axis=-1)
        worst = ranked[..., k - 1 : k]
    else:
        worst = torch.kthvalue(keys, k, keepdim=True)[0]
    # What is at least as good as the last of the k best, row by row; few, unless many are equal to it.
    near = keys <= worst
    found = near.nonzero() if not is_on_host(keys) else torch.from_numpy(np.argwhere(near.numpy()))
    of_row = found[:, :-1].unbind(1)
    order = lexicographic_order([*of_row, keys[tuple(found.unbind(1))]])
    if not of_row:
        return found[order[:k], 0]
    counts = near.sum(-1).reshape(-1)
    first = (counts.cumsum(0) - counts)[:, None] + torch.arange(k, device=keys.device)
    return found[order[first.reshape(-1)], -1].view(*keys.shape[:-1], k)


def _top_by_sorting(
    x: DNDarray, k: int, axis: int, largest: bool, target: Layout
) -> tuple[torch.Tensor, torch.Tensor]:
    parts = _sorted(x, axis, largest), _argsorted(x, axis, largest)
    if x.split != axis:
        return tuple(part.narrow(axis, 0, k).contiguous() for part in parts)
    counts = [min(max(k - d, 0), n) for d, n in zip(x.layout.displs, x.layout.counts)]
    source = Layout(target.shape, axis, counts)
    kept = counts[x.comm.rank]
    return tuple(
        redistribute(part.narrow(axis, 0, kept), source, target, x.comm, copy=True) for part in parts
    )


# -- rows of the registry -------------------------------------------------------------------------------------------


def _sort_in_place(self: DNDarray, axis: int = -1, kind: str | None = None, order: None = None, **options):
    """Sort the array in place and return None, as NumPy's method does. See :func:`ht_core.sort`."""
    sort(self, axis, kind, order, out=self, **options)


def _partition_in_place(self: DNDarray, kth: object, axis: int = -1, kind: str = "introselect", order=None):
    """Partition the array in place and return None, as NumPy's method does. See :func:`ht_core.partition`."""
    _delivered(partition(self, kth, axis, kind, order), self)


_COST = (
    "Along the split axis at most 12 small collectives and one exchange of the data, of long vectors in rounds of "
    "8 MiB; none otherwise."
)
for _function, _recorded in ((sort, sort_recorded), (partition, partition_recorded)):
    register(_function, kind="sort", numpy=_function.__name__, cost=_COST, method=False, recorded=_recorded)
for _function in (argsort, argpartition):
    register(_function, kind="sort", numpy=_function.__name__, cost=_COST)
register(lexsort, kind="sort", numpy="lexsort", cost=_COST, method=False)
register(
    sort_complex, kind="sort", numpy="sort_complex", cost=_COST, method=False, recorded=sort_complex
)  # a cast and a sort, which record themselves
register(
    topk,
    kind="sort",
    cost="One allreduce of 16 k bytes per column along the split axis; none otherwise.",
    recorded=topk_recorded,
)
DNDarray.sort = _sort_in_place
DNDarray.partition = _partition_in_place
