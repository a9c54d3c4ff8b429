"""Where the elements of a distributed array are: shape, split axis and extent per rank.

A :class:`Layout` is a value. It is equal on every rank, asking it anything never communicates, and its algebra
(drop, insert, permute axes) is pure. This module knows nothing of tensors, communicators or operations.
"""

from __future__ import annotations

import math
import threading
import weakref
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from operator import index

from .errors import AxisError, LayoutError

Box = tuple[tuple[int, int], ...]

_INTERNED: weakref.WeakValueDictionary[tuple, Layout] = weakref.WeakValueDictionary()
_LOCK = threading.Lock()


def even_counts(extent: int, p: int) -> tuple[int, ...]:
    """Return the extents of `extent` rows dealt to `p` ranks as evenly as possible, the longer ones first.

    >>> even_counts(10, 4)
    (3, 3, 2, 2)
    """
    small, more = divmod(extent, p)
    return (small + 1,) * more + (small,) * (p - more)


def normalize_axis(axis: int, ndim: int, op: str, argument: str = "axis") -> int:
    """Return `axis` in [0, ndim).

    Raises
    ------
    AxisError
        If `axis` is out of range.
    LayoutError
        If it is not an integer.
    """
    try:
        number = index(axis)
    except TypeError:
        raise LayoutError(f"{op}: {argument} must be an integer, got {axis!r}") from None
    if not -ndim <= number < ndim:
        raise AxisError(f"{op}: {argument} must be in [{-ndim}, {ndim}) for a {ndim}-D array, got {axis}")
    return number + ndim if number < 0 else number


def normalize_axes(axis: int | Iterable[int] | None, ndim: int, op: str) -> tuple[int, ...]:
    """Return the axes as a sorted tuple without repetition; None means all of them."""
    if axis is None:
        return tuple(range(ndim))
    if not isinstance(axis, (tuple, list)):
        return (normalize_axis(axis, ndim, op),)
    axes = sorted(normalize_axis(a, ndim, op) for a in axis)
    if len(set(axes)) != len(axes):
        raise LayoutError(f"{op}: axis must name each axis once, got {tuple(axis)}")
    return tuple(axes)


@dataclass(frozen=True, slots=True, eq=False, init=False, weakref_slot=True)
class Layout:
    """Global shape, split axis and the extent of each rank along it.

    Layouts are interned: equal layouts are the same object, so equality is an identity test and costs nothing.

    Parameters
    ----------
    shape : tuple of int
        Global shape.
    split : int or None
        The axis along which the array is cut; None means that every rank holds all of it (replicated).
    counts : tuple of int
        Extent of each rank along `split`, in rank order; uneven and zero are fine; ``()`` when replicated.

    Raises
    ------
    LayoutError
        If `split` is out of range or `counts` do not add up to the extent of the split axis.

    Examples
    --------
    >>> layout = Layout.even((5, 3), split=0, p=2)
    >>> layout
    Layout(shape=(5, 3), split=0, counts=(3, 2))
    >>> layout.lshape(1), layout.displs
    ((2, 3), (0, 3))
    >>> layout is Layout((5, 3), 0, (3, 2))
    True
    """

    shape: tuple[int, ...]
    split: int | None
    counts: tuple[int, ...]
    displs: tuple[int, ...] = field(repr=False)

    def __new__(cls, shape: Sequence[int], split: int | None, counts: Sequence[int] = ()) -> Layout:
        key = (tuple(shape), split, tuple(counts))
        found = _INTERNED.get(key)
        if found is not None:
            return found
        key = _checked(*key)
        made = object.__new__(cls)
        for name, value in zip(("shape", "split", "counts"), key):
            object.__setattr__(made, name, value)
        object.__setattr__(made, "displs", tuple(accumulate(key[2], initial=0))[:-1])
        with _LOCK:
            return _INTERNED.setdefault(key, made)

    def __reduce__(self):
        return Layout, (self.shape, self.split, self.counts)

    @classmethod
    def replicated(cls, shape: Sequence[int]) -> Layout:
        """Return the layout in which every rank holds the whole array."""
        return cls(shape, None)

    @classmethod
    def even(cls, shape: Sequence[int], split: int | None, p: int) -> Layout:
        """Return the balanced layout of `shape` over `p` ranks; `split` may be negative or None."""
        if split is None:
            return cls(shape, None)
        split = normalize_axis(split, len(shape), "Layout", "split")
        return cls(shape, split, even_counts(shape[split], p))

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements of the global array, as a Python integer (never overflows)."""
        return math.prod(self.shape)

    @property
    def is_even(self) -> bool:
        """True when replicated or dealt as :meth:`even` deals."""
        return self.split is None or self.counts == even_counts(self.shape[self.split], len(self.counts))

    def lshape(self, rank: int) -> tuple[int, ...]:
        """Return the shape of `rank`'s local tensor."""
        if self.split is None:
            return self.shape
        return (*self.shape[: self.split], self.counts[rank], *self.shape[self.split + 1 :])

    def offset(self, rank: int) -> int:
        """Return the global index along the split axis of `rank`'s first row (0 when replicated)."""
        return 0 if self.split is None else self.displs[rank]

    def slices(self, rank: int) -> tuple[slice, ...]:
        """Return the global index range of `rank`'s local tensor, one slice per axis."""
        return tuple(slice(start, stop) for start, stop in self.box(rank))

    def box(self, rank: int) -> Box:
        """Return the global index range of `rank`'s local tensor as (start, stop) per axis."""
        whole = tuple((0, n) for n in self.shape)
        if self.split is None:
            return whole
        start = self.displs[rank]
        return (*whole[: self.split], (start, start + self.counts[rank]), *whole[self.split + 1 :])

    def boxes(self, p: int) -> tuple[Box, ...]:
        """Return :meth:`box` of all `p` ranks."""
        return tuple(self.box(rank) for rank in range(p))

    def owner(self, row: int) -> int:
        """Return the rank that holds row `row`, in [0, extent), of the split axis; ranks without rows own nothing."""
        if self.split is None:
            raise LayoutError("Layout.owner: a replicated array is owned by every rank; ask a split one")
        if not 0 <= row < self.shape[self.split]:
            raise LayoutError(f"Layout.owner: row must be in [0, {self.shape[self.split]}), got {row}")
        # The last rank whose displacement is <= index; empty ranks share the displacement of the next non-empty one.
        return bisect_right(self.displs, row) - 1

    # -- algebra: how axes move; the rows of the split axis stay where they are ------------------------------

    def drop(self, axes: Iterable[int]) -> Layout:
        """Return the layout without `axes`; replicated when the split axis is among them."""
        gone = set(axes)
        kept = [a for a in range(self.ndim) if a not in gone]
        shape = tuple(self.shape[a] for a in kept)
        if self.split is None or self.split in gone:
            return Layout(shape, None)
        return Layout(shape, kept.index(self.split), self.counts)

    def keep(self, axes: Iterable[int]) -> Layout:
        """Return the layout with `axes` reduced to extent 1 (``keepdims``); replicated when the split is among them."""
        ones = set(axes)
        shape = tuple(1 if a in ones else n for a, n in enumerate(self.shape))
        if self.split is None or self.split in ones:
            return Layout(shape, None)
        return Layout(shape, self.split, self.counts)

    def insert(self, axis: int, extent: int = 1) -> Layout:
        """Return the layout with a new axis of `extent` in front of position `axis` (in [0, ndim])."""
        shape = (*self.shape[:axis], extent, *self.shape[axis:])
        if self.split is None:
            return Layout(shape, None)
        return Layout(shape, self.split + (axis <= self.split), self.counts)

    def permute(self, axes: Sequence[int]) -> Layout:
        """Return the layout whose axis i is this one's ``axes[i]``."""
        shape = tuple(self.shape[a] for a in axes)
        if self.split is None:
            return Layout(shape, None)
        return Layout(shape, list(axes).index(self.split), self.counts)

    def with_axis(self, axis: int, extent: int) -> Layout:
        """Return the layout with another extent along `axis`, which must not be the split axis."""
        if axis == self.split:
            raise LayoutError(
                "Layout.with_axis: axis must not be the split axis; give counts with with_counts"
            )
        return Layout((*self.shape[:axis], extent, *self.shape[axis + 1 :]), self.split, self.counts)

    def with_counts(self, counts: Sequence[int]) -> Layout:
        """Return the layout with other extents per rank along the split axis; the global extent is their sum."""
        if self.split is None:
            raise LayoutError("Layout.with_counts: a replicated array has no counts; resplit it first")
        shape = (*self.shape[: self.split], sum(counts), *self.shape[self.split + 1 :])
        return Layout(shape, self.split, counts)

    def balanced(self) -> Layout:
        """Return the even layout with the same shape and split."""
        return self if self.split is None else Layout.even(self.shape, self.split, len(self.counts))


def _checked(
    shape: tuple, split: object, counts: tuple
) -> tuple[tuple[int, ...], int | None, tuple[int, ...]]:
    """Return the three as plain Python integers, which alone never overflow."""
    shape = _integers(shape, "shape must consist of non-negative integers", shape)
    if split is None:
        if counts:
            raise LayoutError(f"Layout: counts must be () for a replicated array, got {counts}")
        return shape, None, ()
    if not (hasattr(split, "__index__") and 0 <= split < len(shape)):
        raise LayoutError(
            f"Layout: split must be in [0, {len(shape)}) or None for shape {shape}, got {split!r}"
        )
    split = index(split)
    rule = f"counts must be one non-negative integer per rank that add up to {shape[split]}"
    numbers = _integers(counts, rule, counts)
    if not numbers or sum(numbers) != shape[split]:
        raise LayoutError(f"Layout: {rule}, got {counts}")
    return shape, split, numbers


def _integers(values: tuple, rule: str, got: object) -> tuple[int, ...]:
    try:
        numbers = tuple(map(index, values))
    except TypeError:
        numbers = (-1,)
    if any(n < 0 for n in numbers):
        raise LayoutError(f"Layout: {rule}, got {got}")
    return numbers
