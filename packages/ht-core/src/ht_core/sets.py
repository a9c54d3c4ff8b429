"""Sets: distinct elements, membership, unions and differences.

One exchange of each rank's own distinct elements (``engines/distinct.py``); nothing is gathered. Results of split
operands are split: sorted, each rank holding a range of the values, with as many on each rank as the data say.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from ht_comm import Communicator

from . import types
from .distribution import resplit
from .dndarray import DNDarray
from .engines.distinct import NOWHERE, Groups, Mask, group, merge, positions
from .engines.elementwise import as_operand, common_comm
from .engines.gather import exchange_counts
from .engines.redistribution import redistribute
from .engines.sort_keys import decode_words, encode_words, first_nan_key
from .layout import Layout, even_counts, normalize_axis
from .registry import register


class UniqueAll(NamedTuple):
    """What :func:`unique_all` returns."""

    values: DNDarray
    indices: DNDarray
    inverse_indices: DNDarray
    counts: DNDarray


class UniqueCounts(NamedTuple):
    """What :func:`unique_counts` returns."""

    values: DNDarray
    counts: DNDarray


class UniqueInverse(NamedTuple):
    """What :func:`unique_inverse` returns."""

    values: DNDarray
    inverse_indices: DNDarray


def unique(
    x: object,
    /,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: int | None = None,
    *,
    equal_nan: bool = True,
    sorted: bool = True,
) -> DNDarray | tuple[DNDarray, ...]:
    """Return the distinct elements (or slices along an axis) in ascending order.

    The two zeros are one element, returned as 0.0; complex numbers with NaN are one element, nan + nan j, if
    `equal_nan`.

    *Distribution*: replicated -> replicated, without a message. Split -> split along 0 (along `axis`), sorted over the
    ranks, with data-dependent extents. Each rank sends its own distinct elements once: one allgather of a sample, one
    alltoall and one allgather of counts, one alltoallv (a second one for indices and counts); the inverse comes back by
    one more and has the layout of `x`. An array that is split along another axis than `axis` is first redistributed.
    Memory, besides input and result: three times the distinct elements, which are held sorted here, as they arrive,
    and merged.

    Parameters
    ----------
    x : array_like
        Any shape and dtype.
    return_index : bool
        Return also where each element occurs first, in the flattened array (along `axis`).
    return_inverse : bool
        Return also, for each element of `x`, where it is among the distinct ones.
    return_counts : bool
        Return also how often each occurs.
    axis : int or None
        None looks at elements; otherwise slices along `axis`, in lexicographic order.
    equal_nan : bool
        Every NaN is one value; otherwise each NaN is distinct.
    sorted : bool
        Accepted for NumPy's sake: the result is sorted always.

    Returns
    -------
    DNDarray or tuple
        The distinct elements; then int64 arrays: indices, inverse (of the shape of `x`; 1-D with `axis`), counts.

    Raises
    ------
    LayoutError
        If the axis is out of range.

    Examples
    --------
    >>> values, counts = ht.unique(ht.array([3, 1, 3], split=0), return_counts=True)
    >>> values.numpy().tolist(), counts.numpy().tolist()
    ([1, 3], [1, 2])
    """
    x = _as_array(x, "unique")
    flags = (bool(return_index), bool(return_inverse), bool(return_counts))
    if axis is None:
        results = _unique(x, None, *flags, bool(equal_nan))
    else:
        axis = normalize_axis(axis, x.ndim, "unique")
        results = _unique(_cut_along(x, axis), axis, *flags, bool(equal_nan))
    chosen = [r for r, wanted in zip(results, (True, *flags)) if wanted]
    return tuple(chosen) if len(chosen) > 1 else chosen[0]


def unique_all(x: object, /) -> UniqueAll:
    """Return distinct elements, first indices, inverse and counts; each NaN is distinct. See :func:`unique`."""
    return UniqueAll(*_unique(_as_array(x, "unique_all"), None, True, True, True, False))


def unique_counts(x: object, /) -> UniqueCounts:
    """Return distinct elements and how often each occurs; each NaN is distinct. See :func:`unique`."""
    values, _, _, counts = _unique(_as_array(x, "unique_counts"), None, False, False, True, False)
    return UniqueCounts(values, counts)


def unique_inverse(x: object, /) -> UniqueInverse:
    """Return distinct elements and where each element of `x` is among them. See :func:`unique`, :func:`unique_all`."""
    values, _, inverse, _ = _unique(_as_array(x, "unique_inverse"), None, False, True, False, False)
    return UniqueInverse(values, inverse)


def unique_values(x: object, /) -> DNDarray:
    """Return the distinct elements; each NaN is distinct. See :func:`unique`."""
    return _unique(_as_array(x, "unique_values"), None, False, False, False, False)[0]


def isin(
    element: object,
    test_elements: object,
    assume_unique: bool = False,
    invert: bool = False,
    *,
    kind: str | None = None,
) -> DNDarray:
    """Tell for each element whether it is among others. NaN is never.

    *Distribution*: the layout of `element`. No message where `test_elements` is replicated; one allreduce of the result
    where only `element` is; otherwise one exchange of each rank's distinct elements of both, and one answer.

    Parameters
    ----------
    element : array_like
        What is looked for.
    test_elements : array_like
        Where; of any shape.
    assume_unique : bool
        Accepted for NumPy's sake.
    invert : bool
        Tell whether it is not.
    kind : {"sort", "table"}, optional
        Accepted for NumPy's sake.

    Returns
    -------
    DNDarray
        bool, of the shape of `element`.

    Examples
    --------
    >>> ht.isin(ht.arange(4, split=0), [1, 3]).numpy().tolist()
    [False, True, False, True]
    """
    if kind not in (None, "sort", "table"):
        raise types.DTypeError(f"isin: kind must be sort, table or None, got {kind!r}")
    x, y = _operands("isin", element, test_elements)
    comm = x.comm
    if x.size == 0 or y.size == 0:
        found = torch.zeros(x.lshape, dtype=torch.bool, device=x.larray.device)
    elif x.split is None or y.split is None or comm.size == 1:
        found = _is_among(_keys(x, False), _keys(y, False), _nan_mask(x)).view(x.lshape)
        if y.split is not None and comm.size > 1:
            found = comm.allreduce(found, "lor")
    else:
        n = x.larray.numel()
        groups = group(torch.cat([_keys(x, False), _keys(y, False)]), _nan_mask(x))
        is_other = (groups.first_of_two(n)[1] != NOWHERE).to(torch.int64)
        merged = merge(groups.keys, [is_other], ["amax"], _nan_mask(x), comm)
        known = merged.answer(merged.carried[0].to(torch.bool))
        known = known[groups.inverse()[:n]]
        apart = _nan_mask(x)
        if apart is not None:
            known &= ~apart(_keys(x, False))
        found = known.view(x.lshape)
    return DNDarray(found.logical_not_() if invert else found, x.layout, comm)


def intersect1d(
    ar1: object, ar2: object, assume_unique: bool = False, return_indices: bool = False
) -> DNDarray | tuple[DNDarray, DNDarray, DNDarray]:
    """Return the distinct elements that two arrays share, sorted.

    *Distribution*: replicated where both are; otherwise split along 0. The cost of :func:`unique` of both together.

    Parameters
    ----------
    ar1, ar2 : array_like
        Of any shapes.
    assume_unique : bool
        Accepted for NumPy's sake.
    return_indices : bool
        Return also where each element occurs first in the two flattened arrays.

    Examples
    --------
    >>> ht.intersect1d(ht.array([3, 1, 2], split=0), [2, 3, 5]).numpy().tolist()
    [2, 3]
    """
    return _combined("intersect1d", ar1, ar2, lambda one, other: one * other, _none, bool(return_indices))


def union1d(ar1: object, ar2: object) -> DNDarray:
    """Return the distinct elements of two arrays, sorted. See :func:`intersect1d` for the distribution.

    >>> ht.union1d(ht.array([3, 1], split=0), [2, 3]).numpy().tolist()
    [1, 2, 3]
    """
    return _combined("union1d", ar1, ar2, torch.maximum, torch.maximum)


def setdiff1d(ar1: object, ar2: object, assume_unique: bool = False) -> DNDarray:
    """Return the distinct elements of the first array that are not in the second. See :func:`intersect1d`.

    With `assume_unique` the elements stay in their order, and where they are, as with ``ar1[~isin(ar1, ar2)]``.

    >>> ht.setdiff1d(ht.array([3, 1, 2], split=0), [2]).numpy().tolist()
    [1, 3]
    """
    if assume_unique:
        x = _as_array(ar1, "setdiff1d", ar2).ravel()
        return x[isin(x, ar2, invert=True)]
    x, y = _as_array(ar1, "setdiff1d", ar2), _as_array(ar2, "setdiff1d", ar1)
    if types.result_type(x, y) is not x.dtype:  # the common dtype may not hold what is left of `x`
        values = unique(x)
        left = values[isin(values, y, invert=True)]
        return resplit(left, 0) if left.split is None and y.split is not None else left
    return _combined("setdiff1d", x, ar2, lambda one, other: one * (1 - other), lambda one, other: one)


def setxor1d(ar1: object, ar2: object, assume_unique: bool = False) -> DNDarray:
    """Return the distinct elements that are in exactly one of two arrays, sorted. See :func:`intersect1d`.

    >>> ht.setxor1d(ht.array([3, 1], split=0), [2, 3]).numpy().tolist()
    [1, 2]
    """
    return _combined("setxor1d", ar1, ar2, torch.ne, torch.add)


# -- operands -----------------------------------------------------------------------------------------------------


def _as_array(x: object, op: str, *others: object) -> DNDarray:
    arrays = [v for v in (x, *others) if isinstance(v, DNDarray)]
    device = arrays[0].larray.device if arrays else torch.device("cpu")
    return as_operand(x, common_comm(arrays, op), device, op)


def _operands(op: str, x: object, y: object) -> tuple[DNDarray, DNDarray]:
    """Return both as arrays of their promoted dtype."""
    x, y = _as_array(x, op, y), _as_array(y, op, x)
    common = types.result_type(x, y)
    return x.astype(common, copy=False), y.astype(common, copy=False)


def _cut_along(x: DNDarray, axis: int) -> DNDarray:
    if x.split in (None, axis):
        return x
    target = Layout.even(x.shape, axis, x.comm.size)
    return DNDarray(redistribute(x.larray, x.layout, target, x.comm), target, x.comm)


def _keys(x: DNDarray, equal_nan: bool) -> torch.Tensor:
    """Return the keys of this rank's elements, of shape (n, w), in C order."""
    return _keys_of(x.larray.resolve_conj().resolve_neg().reshape(-1, 1), equal_nan)


def _keys_of(rows: torch.Tensor, equal_nan: bool) -> torch.Tensor:
    """Return the keys of rows of shape (n, d): (n, d), or (n, 2 d) for complex128."""
    if equal_nan and rows.is_complex():
        rows = torch.where(torch.isnan(rows), complex(math.nan, math.nan), rows)
    words = encode_words(rows)
    return words[0] if len(words) == 1 else torch.stack(words, -1).flatten(1)


def _elements(keys: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return rows (n, d) of elements from their keys."""
    if dtype is torch.complex128:
        return decode_words(list(keys.view(len(keys), keys.shape[1] // 2, 2).unbind(-1)), dtype)
    return decode_words([keys.contiguous()], dtype)


def _nan_mask(x: DNDarray) -> Mask | None:
    """Return what tells of keys which of them have NaN; None where the dtype has none."""
    least = first_nan_key(x.larray.dtype)
    if least is None:
        return None
    step = 2 if x.larray.dtype is torch.complex128 else 1
    return lambda keys: (keys[:, ::step] >= least).any(1)


# -- unique ---------------------------------------------------------------------------------------------------------


def _unique(x: DNDarray, axis: int | None, index: bool, inverse: bool, count: bool, equal_nan: bool):
    """Return (values, indices, inverse, counts); those that were not asked for as None."""
    local, comm = x.larray.resolve_conj().resolve_neg(), x.comm
    shape = () if axis is None else (*x.shape[:axis], *x.shape[axis + 1 :])
    if axis is None:
        keys = _keys(x, equal_nan)
    else:
        n = local.shape[axis]
        keys = _keys_of(local.movedim(axis, 0).reshape(n, math.prod(shape)), equal_nan)
        if not keys.shape[1]:  # slices of no element are all equal
            keys = keys.new_zeros(n, 1)
    apart = None if equal_nan else _nan_mask(x)
    only_keys = not (index or inverse or count)
    groups = group(keys, apart, only_keys)
    del keys
    carried, combine = [], []
    if index:
        carried.append(_global_place(groups.first(), x, axis))
        combine.append("amin")
    if count:
        carried.append(groups.counts())
        combine.append("sum")
    merged = merge(groups.keys, carried, combine, apart, comm if x.split is not None else None, only_keys)
    here, counts = positions(merged)
    places = merged.answer(here)[groups.inverse()] if inverse else None
    layout = _result_layout(len(here), counts, (), 0)
    told = [DNDarray(values, layout, comm) for values in merged.carried]
    values = _values(merged.keys, x, axis, shape)
    return (
        DNDarray(values, _result_layout(len(here), counts, shape, axis or 0), comm),
        told[0] if index else None,
        None if places is None else _inverse(places, x, axis),
        told[-1] if count else None,
    )


def _values(keys: torch.Tensor, x: DNDarray, axis: int | None, shape: tuple[int, ...]) -> torch.Tensor:
    if axis is None:
        return _elements(keys, x.larray.dtype).reshape(-1)
    if not math.prod(shape):
        rows = x.larray.new_empty((len(keys), *shape))
    else:
        rows = _elements(keys, x.larray.dtype).view(len(keys), *shape)
    return rows.movedim(0, axis).contiguous()


def _inverse(places: torch.Tensor, x: DNDarray, axis: int | None) -> DNDarray:
    if axis is None:
        return DNDarray(places.view(x.lshape), x.layout, x.comm)
    split = None if x.split is None else 0
    return DNDarray(places, Layout((x.shape[axis],), split, x.layout.counts), x.comm)


def _result_layout(n: int, counts: tuple[int, ...] | None, shape: tuple[int, ...], axis: int) -> Layout:
    extent = n if counts is None else sum(counts)
    whole = (*shape[:axis], extent, *shape[axis:])
    if counts is None:
        return Layout(whole, None)
    return Layout(whole, axis, counts)


def _global_place(places: torch.Tensor, x: DNDarray, axis: int | None) -> torch.Tensor:
    """Turn places in this rank's flattened part (or along `axis`) into those in the whole array."""
    if x.split is None:
        return places
    offset = x.layout.offset(x.comm.rank)
    if axis is not None:
        return places + offset
    extent, inner = x.lshape[x.split], math.prod(x.shape[x.split + 1 :])
    if x.split == 0:
        return places + offset * inner
    block = extent * inner
    outer = places // max(block, 1)
    return (outer * x.shape[x.split] + offset) * inner + places % max(block, 1)


# -- two sets ---------------------------------------------------------------------------------------------------------


def _is_among(keys: torch.Tensor, others: torch.Tensor, apart: Mask | None) -> torch.Tensor:
    """Return which of `keys` (n, w) are among `others` (m, w), on this rank."""
    if keys.shape[1] == 1:
        known = group(others, only_keys=True).keys.reshape(-1)
        if not len(known):
            return torch.zeros(len(keys), dtype=torch.bool, device=keys.device)
        flat = keys.reshape(-1)
        found = known[torch.searchsorted(known, flat).clamp_(max=len(known) - 1)] == flat
    else:
        groups = group(torch.cat([keys, others]))
        is_other = groups.first_of_two(len(keys))[1] != NOWHERE
        found = is_other[groups.inverse()[: len(keys)]]
    return found if apart is None else found & ~apart(keys)


def _share(x: DNDarray, is_shared: bool) -> tuple[torch.Tensor, int]:
    """Return the flattened elements that this rank answers for, and the global place of the first.

    Each rank answers for its own part of a split array, and for an equal share of one that all ranks have.
    """
    flat = x.larray.reshape(-1)
    if x.split is not None or not is_shared:
        return flat, 0
    counts = even_counts(flat.numel(), x.comm.size)
    start = sum(counts[: x.comm.rank])
    return flat[start : start + counts[x.comm.rank]], start


def _none(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(one)


def _combined(op: str, ar1: object, ar2: object, copies, nan_copies, indices: bool = False):
    """Return each distinct element as often as ``copies(is in the first, is in the second)`` says, of zeros and ones.

    For NaN, which equals no other, `nan_copies` says it, of each array's NaN taken as one.
    """
    x, y = _operands(op, ar1, ar2)
    comm: Communicator = x.comm
    is_split = x.split is not None or y.split is not None
    (first, start), (second, offset) = _share(x, is_split), _share(y, is_split)
    n = first.numel()
    flat = torch.cat([first, second]).resolve_conj().resolve_neg()[:, None]
    groups: Groups = group(_keys_of(flat, True))
    carried = groups.first_of_two(n)
    for at, (operand, shift) in enumerate(((x, start), (y, offset))):
        known = carried[at] != NOWHERE
        places = carried[at] if operand.split is None else _global_place(carried[at], operand, None)
        carried[at] = torch.where(known, places + shift, NOWHERE)
    merged = merge(groups.keys, carried, ["amin", "amin"], None, comm if is_split else None)
    one, other = ((places != NOWHERE).to(torch.int64) for places in merged.carried)
    wanted = copies(one, other).to(torch.int64)
    apart = _nan_mask(x)
    if apart is not None:
        wanted = torch.where(apart(merged.keys), nan_copies(one, other), wanted)
    keys = merged.keys.repeat_interleave(wanted, dim=0)
    counts = exchange_counts(len(keys), comm, keys.device) if is_split else None
    layout = _result_layout(len(keys), counts, (), 0)
    values = DNDarray(_elements(keys, x.larray.dtype).reshape(-1), layout, comm)
    if not indices:
        return values
    return values, *(DNDarray(places[wanted > 0], layout, comm) for places in merged.carried)


_COST = "Split operands: one exchange of each rank's distinct elements and four small collectives; none otherwise."
register(unique, kind="set", numpy="unique", cost=_COST)
for _function in (unique_all, unique_counts, unique_inverse, unique_values):
    register(_function, kind="set", numpy=_function.__name__, cost=_COST, method=False)
register(isin, kind="set", numpy="isin", arity=2, cost=_COST, method=False)
for _function in (intersect1d, union1d, setdiff1d, setxor1d):
    register(_function, kind="set", numpy=_function.__name__, arity=2, cost=_COST, method=False)
