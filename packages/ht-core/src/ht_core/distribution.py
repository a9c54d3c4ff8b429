"""Moving data between ranks: resplit, balance, redistribute, collect. The only operations that exist to communicate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .dndarray import DNDarray
from .engines.creation import normalize_split
from .engines.redistribution import redistribute as _move
from .errors import LayoutError
from .layout import Layout
from .registry import register


def resplit(x: DNDarray, axis: int | None = None) -> DNDarray:
    """Return the array cut along another axis, or whole on every rank.

    *Distribution*: any split -> split `axis`, balanced. Each element is sent at most once to each rank that needs it;
    no message where the layout is the same already, or `x` is replicated. Scratch memory is bounded.

    Parameters
    ----------
    x : DNDarray
        Input of any layout. Not changed.
    axis : int or None
        The new split axis; None gathers the whole array on every rank.

    Raises
    ------
    LayoutError
        If `axis` is out of range.

    Examples
    --------
    >>> ht.resplit(ht.zeros((4, 6), split=0), 1).split
    1
    """
    target = Layout.even(x.shape, normalize_split(axis, x.ndim, "resplit"), x.comm.size)
    return DNDarray(_move(x.larray, x.layout, target, x.comm, copy=True), target, x.comm)


def resplit_(x: DNDarray, axis: int | None = None) -> DNDarray:
    """Cut the array along another axis, in place; return it. See :func:`resplit`."""
    target = Layout.even(x.shape, normalize_split(axis, x.ndim, "resplit_"), x.comm.size)
    return _become(x, target)


def balance(x: DNDarray, copy: bool = False) -> DNDarray:
    """Return the array with its rows dealt evenly to the ranks; the array itself where it is balanced, unless `copy`.

    *Distribution*: the split stays. No message where the array is balanced.
    """
    target = x.layout.balanced()
    if target is x.layout and not copy:
        return x
    return DNDarray(_move(x.larray, x.layout, target, x.comm, copy=copy), target, x.comm)


def balance_(x: DNDarray) -> DNDarray:
    """Deal the rows evenly to the ranks, in place; return the array. No message where it is balanced."""
    return _become(x, x.layout.balanced())


def redistribute(x: DNDarray, lshape_map: object = None, target_map: object = None) -> DNDarray:
    """Return the array with given numbers of rows per rank.

    *Distribution*: the split stays. Only the elements whose rank changes are sent.

    Parameters
    ----------
    x : DNDarray
        A split array. Not changed.
    lshape_map : ignored
        The layout is known without it.
    target_map : sequence of int, or array of shape (p, ndim)
        Extent of each rank along the split axis, or the local shapes; balanced where left out.

    Raises
    ------
    LayoutError
        If `x` is replicated or the extents do not add up.
    """
    target = _target("redistribute", x, target_map)
    return DNDarray(_move(x.larray, x.layout, target, x.comm, copy=True), target, x.comm)


def redistribute_(x: DNDarray, lshape_map: object = None, target_map: object = None) -> DNDarray:
    """Give each rank a given number of rows, in place; return the array. See :func:`redistribute`."""
    return _become(x, _target("redistribute_", x, target_map))


def collect(x: DNDarray, target_rank: int = 0) -> DNDarray:
    """Return the array with all of its rows on one rank and none on the others.

    *Distribution*: the split stays (0 for a replicated array). Every element that is not on `target_rank` is sent once.

    Raises
    ------
    LayoutError
        If `target_rank` is not a rank, or the array is 0-D and replicated.
    """
    target = _collected("collect", x, target_rank)
    return DNDarray(_move(x.larray, x.layout, target, x.comm, copy=True), target, x.comm)


def collect_(x: DNDarray, target_rank: int = 0) -> DNDarray:
    """Put all rows on one rank, in place; return the array. See :func:`collect`."""
    return _become(x, _collected("collect_", x, target_rank))


def _become(x: DNDarray, target: Layout) -> DNDarray:
    if target is not x.layout:
        x.larray, x.layout = _move(x.larray, x.layout, target, x.comm, copy=True), target
    return x


def _target(op: str, x: DNDarray, target_map: object) -> Layout:
    if x.split is None:
        raise LayoutError(f"{op}: the array must be split, got split=None; use resplit(x, axis)")
    if target_map is None:
        return x.layout.balanced()
    wanted = np.asarray(target_map)
    counts: Sequence[int] = (wanted[:, x.split] if wanted.ndim == 2 else wanted).tolist()
    if len(counts) != x.comm.size or sum(counts) != x.shape[x.split]:
        raise LayoutError(
            f"{op}: target_map must give {x.comm.size} extents that add up to {x.shape[x.split]}, got {counts}"
        )
    return x.layout.with_counts(counts)


def _collected(op: str, x: DNDarray, target_rank: int) -> Layout:
    if not 0 <= target_rank < x.comm.size:
        raise LayoutError(f"{op}: target_rank must be in [0, {x.comm.size}), got {target_rank}")
    if not x.ndim:
        raise LayoutError(
            f"{op}: the array must have at least one axis, got a 0-D one, which every rank holds"
        )
    split = 0 if x.split is None else x.split
    counts = [x.shape[split] * (rank == target_rank) for rank in range(x.comm.size)]
    return Layout(x.shape, split, counts)


for _function in (resplit, resplit_, balance, balance_, redistribute, redistribute_, collect, collect_):
    register(_function, kind="redistribution", cost="Each moved element once to each rank that needs it.")
