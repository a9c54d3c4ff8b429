"""Indexing: ``x[key]``, ``x[key] = value``, take, nonzero and its relatives.

Keys and results are NumPy's, for every layout: integers, slices with any step, ``...``, None, masks, index arrays in
any order with repetitions, and mixtures. Keys and values that are not DNDarrays must be equal on all ranks.

Where the result lies, and what it costs:

================================================ =================================== ==============================
key                                              layout of the result                messages
================================================ =================================== ==============================
slice, None, ``...``, integer on another axis    rows stay where they are            none
integer on the split axis                        replicated                          one broadcast of the row
negative step along the split axis               even                                one redistribution
mask split as the array is                       rows stay where they are            allgather of p integers
mask or index array beside the split axis        rows stay where they are            none (replicates a split key)
replicated key that visits ranks in their order  rows stay where they are            none
other replicated key                             even, where the indexed axis was    one exchange of the rows
split key                                        as the key                          counts, keys (8 bytes), rows
any key on a replicated array                    as the key                          at most a check of the bounds
================================================ =================================== ==============================

*Memory*: a result shares memory with its array where a key of slices with positive steps, None, ``...`` and integers
off the split axis names it; every other result is a copy. This depends on the key and the split axis only, never on
the number of ranks. Rows travel in rounds, so that a get holds its operands, its result and 64 MiB at most.

A few elements of an array that one rank holds are read and written by NumPy (``engines.index_small``).

Assignment changes the named elements only. Scalars, replicated values and values that lie as the elements do need no
message with basic keys, masks and replicated keys; other values are brought to the elements by one redistribution. The
last value wins where a key names an element twice.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from .dndarray import DNDarray
from .engines.elementwise import as_operand
from .engines.gather import Index, checked, get_advanced, is_c_ordered, true_positions
from .engines.index_key import Entry, normalize
from .engines.index_small import find_small, get_small, set_small
from .engines.indexing import as_value, bits, get_basic, is_repeated, set_basic
from .engines.recording import record
from .engines.redistribution import redistribute
from .engines.scatter import set_advanced
from .engines.tracking import become, is_tracked, watch
from .errors import DTypeError, LayoutError
from .layout import Layout, normalize_axis
from .registry import register

_WHOLE = (None, None, None)


def getitem(x: DNDarray, key: object) -> DNDarray:
    """Return ``x[key]``; the module's docstring has keys, layouts and costs."""
    if type(x) is not DNDarray and is_tracked(x):
        return record(getitem, (x, key), {})
    if type(key) is int:
        return get_basic(x, (key,))
    small = find_small(x, key)
    if small is not None:
        result = get_small(x, small)
        if result is not None:
            return result
    items, entries, position = normalize(key, x.layout, x.comm, x.larray.device)
    if not entries:
        return get_basic(x, items)
    return get_advanced(x, items, entries, position)


def setitem(x: DNDarray, key: object, value: object) -> None:
    """Do ``x[key] = value``; the module's docstring has keys and costs."""
    if watch.is_on and is_tracked(x, value):
        become(x, record(_with_values, (x, key, value), {}), "setitem")
        return
    is_plain, ready = type(key) is int, False
    if not is_plain and not is_repeated(x.larray):
        small = find_small(x, key)
        if small is not None:
            value, ready = as_value(value, x), True
            if set_small(x, small, value):
                return
    items, entries, position = (
        ((key,), (), 0) if is_plain else normalize(key, x.layout, x.comm, x.larray.device)
    )
    if is_repeated(x.larray):
        raise LayoutError(
            "setitem: the array must be writable, got a view made by broadcasting; copy it first"
        )
    value = value if ready else as_value(value, x)
    if not entries:
        set_basic(x, items, value)
        return
    set_advanced(x, items, entries, position, value)


def _with_values(x: DNDarray, key: object, value: object) -> DNDarray:
    """Return a copy with other values at `key`: assignment while gradients are recorded changes no memory in use."""
    changed = x.copy()
    setitem(changed, key, value)
    return changed


DNDarray.__getitem__ = getitem
DNDarray.__setitem__ = setitem


def take(x: DNDarray, indices: object, axis: int | None = None, mode: str = "raise") -> DNDarray:
    """Return the elements of `x` at `indices` along an axis, in the order of `indices`.

    *Distribution*: as ``x[..., indices, ...]``; see the table of :mod:`ht_core.indexing`. Without `axis` nothing is
    reshaped or moved but what is asked for.

    Parameters
    ----------
    x : DNDarray
        Of shape (A..., n, B...), `n` being the extent of `axis`.
    indices : array_like of int, shape (I...)
        Replicated or split.
    axis : int, optional
        Without it, positions are in C order of the whole array.
    mode : {"raise", "wrap", "clip"}
        What happens to positions outside [-n, n): an error; modulo n; 0 or n - 1 (all negative ones become 0).

    Returns
    -------
    DNDarray
        Of shape (A..., I..., B...), or (I...) without `axis`; a copy.

    Raises
    ------
    IndexError
        If a position is out of bounds, on every rank.
    DTypeError
        If `indices` are not integers.
    LayoutError
        If `axis` is out of range or `mode` unknown.

    Examples
    --------
    >>> ht.take(ht.arange(10, split=0), [9, 0, -5]).numpy().tolist()
    [9, 0, 5]
    """
    comm = x.comm
    if mode == "raise" and (axis is not None or x.ndim == 1) and type(axis) in (int, type(None)):
        small = find_small(x, (*(slice(None),) * ((axis or 0) % max(x.ndim, 1)), indices))
        if small is not None and not small.structure[-1][0]:
            found = get_small(x, small)
            if found is not None and (axis is None or -x.ndim <= axis < x.ndim):
                return found
    check_mode(mode, "take")
    if isinstance(indices, (list, tuple)) and np.size(indices) == 0:
        indices = np.asarray(indices, dtype=np.int64)
    indices = as_operand(indices, comm, x.larray.device, "take")
    if indices.dtype.kind not in "biu":
        raise DTypeError(f"take: indices must be integers, got {indices.dtype}; cast with astype first")
    if x.ndim == 0:
        x = DNDarray(x.larray.reshape(1), Layout((1,), None), comm)
    if axis is not None:
        axis = normalize_axis(axis, x.ndim, "take")
    extent = x.size if axis is None else x.shape[axis]
    where = within(indices, extent, mode, "take")
    axes = tuple(range(x.ndim)) if axis is None else (axis,)
    columns = columns_of(where.larray, tuple(x.shape[a] for a in axes)) if axis is None else [where.larray]
    if indices.ndim == 0:
        at = dict(zip(axes, (int(column) for column in columns)))
        part = get_basic(x, tuple(at.get(a, _WHOLE) for a in range(x.ndim)))
        return DNDarray(part.larray.clone(), part.layout, comm)
    entries = tuple(Entry(a, DNDarray(column, where.layout, comm)) for a, column in zip(axes, columns))
    return get_advanced(x, (_WHOLE,) * x.ndim, entries, axes[0])


def check_mode(mode: object, op: str) -> None:
    """Refuse what is no way to treat positions out of bounds."""
    if mode not in ("raise", "wrap", "clip"):
        raise LayoutError(f"{op}: mode must be raise, wrap or clip, got {mode!r}")


def within(indices: DNDarray, extent: int, mode: str, op: str) -> DNDarray:
    """Return int64 positions in [0, extent); collective where `indices` are split and may be out of bounds."""
    local, comm = indices.larray.to(torch.int64), indices.comm
    if indices.size and not extent:
        raise IndexError(f"{op}: indices must be empty for an axis of extent 0, got some")
    if mode == "wrap":
        local = local % max(extent, 1)
    elif mode == "clip":
        local = local.clamp(0, max(extent - 1, 0))
    else:
        bad, index = checked(Index(0, local, indices.layout), Layout((extent,), None), (1,))
        local = index.local
        text = f"{op}: indices must be in [{-extent}, {extent}), got {bad}"
        error = None if bad is None else IndexError(text)
        if indices.layout.split is not None:
            comm.agree(error)
        elif error is not None:
            raise error
    return DNDarray(local, indices.layout, comm)


def columns_of(linear: torch.Tensor, shape: tuple[int, ...]) -> list[torch.Tensor]:
    """Return positions in C order as one index per axis."""
    if not math.prod(shape):
        return [linear] * len(shape)  # there are none
    return list(torch.unravel_index(linear, shape))


def _true_positions(x: object, op: str) -> tuple[DNDarray, torch.Tensor, Layout]:
    if not isinstance(x, DNDarray):
        from ht_comm import get_comm

        x = as_operand(x, get_comm(), torch.device("cpu"), op)
    mask, layout = x.larray, x.layout
    if mask.dtype is not torch.bool:
        mask = bits(mask) != 0
    if layout.split is not None and not is_c_ordered(layout.shape, layout.split):
        target = Layout.even(layout.shape, 0, x.comm.size)
        mask, layout = redistribute(mask, layout, target, x.comm), target
    return x, *true_positions(mask, layout, x.comm)


def nonzero(x: DNDarray) -> tuple[DNDarray, ...]:
    """Return the positions of the elements that are not zero, one int64 vector per axis, in C order.

    *Distribution*: collective where `x` is split; the vectors are split along their axis, rows stay where they are
    (uneven). One allgather of p integers; a split along a later axis than the first costs one redistribution of one
    byte per element besides, because C order runs across the ranks.

    Parameters
    ----------
    x : DNDarray
        Of one axis or more. NaN is not zero.

    Returns
    -------
    tuple of DNDarray
        ``x.ndim`` vectors of shape (n,), dtype int64. ``x[nonzero(x)]`` are the elements.

    Raises
    ------
    LayoutError
        If `x` is 0-D.

    Examples
    --------
    >>> ht.nonzero(ht.array([3, 0, 5], split=0))[0].numpy().tolist()
    [0, 2]
    """
    if np.ndim(x) == 0 if not isinstance(x, DNDarray) else x.ndim == 0:
        raise LayoutError("nonzero: x must have one axis or more, got a 0-D array; use x[None]")
    x, places, layout = _true_positions(x, "nonzero")
    return tuple(DNDarray(column, layout, x.comm) for column in places.unbind(1))


def argwhere(x: DNDarray) -> DNDarray:
    """Return the positions of the elements that are not zero as the rows of a matrix, in C order.

    *Distribution*: as :func:`nonzero`; the result is split along its rows.

    Returns
    -------
    DNDarray
        Of shape (n, x.ndim), dtype int64; (0, 0) or (1, 0) for a 0-D array.

    Examples
    --------
    >>> ht.argwhere(ht.array([[3, 0], [0, 5]], split=1)).numpy().tolist()
    [[0, 0], [1, 1]]
    """
    if isinstance(x, DNDarray) and x.ndim == 0:
        shape = (int(bool(x.larray)), 0)
        return DNDarray(
            torch.empty(shape, dtype=torch.int64, device=x.larray.device), Layout(shape, None), x.comm
        )
    x, places, found = _true_positions(x, "argwhere")
    return DNDarray(places, found.insert(1, x.ndim), x.comm)


def flatnonzero(x: DNDarray) -> DNDarray:
    """Return the positions, in C order of the whole array, of the elements that are not zero.

    *Distribution*: as :func:`nonzero`.

    Returns
    -------
    DNDarray
        Of shape (n,), dtype int64.

    Examples
    --------
    >>> ht.flatnonzero(ht.array([[3, 0], [0, 5]], split=0)).numpy().tolist()
    [0, 3]
    """
    if isinstance(x, DNDarray) and x.ndim == 0:
        x = DNDarray(x.larray.reshape(1), Layout((1,), None), x.comm)
    x, places, layout = _true_positions(x, "flatnonzero")
    columns = places.unbind(1)
    linear = columns[0]
    for column, extent in zip(columns[1:], x.shape[1:]):
        linear = linear * extent + column
    return DNDarray(linear, layout, x.comm)


register(take, kind="indexing", numpy="take", arity=2, cost="As x[indices].")
register(nonzero, kind="indexing", numpy="nonzero", cost="One allgather of p integers.")
register(argwhere, kind="indexing", numpy="argwhere", cost="One allgather of p integers.")
register(flatnonzero, kind="indexing", numpy="flatnonzero", cost="One allgather of p integers.")
