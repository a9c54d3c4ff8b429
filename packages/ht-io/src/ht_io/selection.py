"""Which part of a data set, and in which pieces: pure planning. Knows no file, tensor or communicator."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from ht_core.errors import LayoutError
from ht_core.layout import Box

#: Bytes of a scratch block in which data is cast, gathered or staged: stays near the cache, bounds memory.
BLOCK_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Selection:
    """A rectangular selection with steps of a stored array; along one axis it may be a list of indices.

    Attributes
    ----------
    starts, counts, steps : tuple of int
        First index, number of indices and distance between them, per stored axis.
    dropped : tuple of int
        Stored axes selected by an integer; they are not axes of the result.
    listed : int or None
        The axis whose indices are `indices`; its start is 0 and its step 1.
    indices : numpy.ndarray or None
        Those indices, int64 and not negative, in the order of the result; they may repeat.
    """

    starts: tuple[int, ...]
    counts: tuple[int, ...]
    steps: tuple[int, ...]
    dropped: tuple[int, ...] = ()
    listed: int | None = None
    indices: np.ndarray | None = field(default=None, compare=False, repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the selected array."""
        return tuple(n for axis, n in enumerate(self.counts) if axis not in self.dropped)

    @property
    def size(self) -> int:
        """Number of selected elements."""
        return math.prod(self.counts)

    def part(self, box: Box) -> Selection:
        """Return the selection of `box`, the index range of a part of the *selected* array.

        >>> plan_selection((10, 4), (slice(1, None, 3), 2)).part(((1, 3),))
        Selection(starts=(4, 2), counts=(2, 1), steps=(3, 1), dropped=(1,), listed=None)
        """
        ranges = iter(box)
        part = self
        for axis in range(len(self.counts)):
            if axis not in self.dropped:
                part = part.along(axis, *next(ranges))
        return part

    def along(self, axis: int, low: int, high: int) -> Selection:
        """Return the selection of indices [low, high) of the stored axis `axis`, counted in this selection."""
        counts = (*self.counts[:axis], high - low, *self.counts[axis + 1 :])
        if axis == self.listed:
            return replace(self, counts=counts, indices=self.indices[low:high])
        start = self.starts[axis] + low * self.steps[axis]
        return replace(self, starts=(*self.starts[:axis], start, *self.starts[axis + 1 :]), counts=counts)

    def rows(self, low: int, high: int) -> Selection:
        """Return the selection of indices [low, high) of the first stored axis."""
        return self.along(0, low, high)

    def hull(self, low: int, high: int) -> Selection:
        """Return the plain selection of all indices [low, high) of the listed axis."""
        axis = self.listed
        return replace(
            self,
            starts=(*self.starts[:axis], low, *self.starts[axis + 1 :]),
            counts=(*self.counts[:axis], high - low, *self.counts[axis + 1 :]),
            listed=None,
            indices=None,
        )

    def describe(self) -> str:
        """Return the selection as text that differs where selections do."""
        text = f"{self.counts} from {self.starts} by {self.steps} without {self.dropped}"
        if self.listed is None:
            return text
        return f"{text}, list {zlib.crc32(self.indices.tobytes())} along {self.listed}"


def plan_selection(shape: tuple[int, ...], slices: object, op: str = "load_hdf5") -> Selection:
    """Return the selection that `slices` means on an array of `shape`.

    Parameters
    ----------
    shape : tuple of int
    slices : None, int, slice, Ellipsis, list of int or tuple of these
        As in basic indexing, with positive steps. None (also as an entry) means the whole axis, trailing
        axes may be left out, an integer removes its axis. For one axis it may be a list or 1-D array of
        integers (any order, repetitions, negative ones) or of one bool per index.

    Raises
    ------
    LayoutError
        If there are too many entries, an integer is out of range, a step is not positive or there are two
        lists.

    Examples
    --------
    >>> plan_selection((10, 4), slice(2, 8)).shape
    (6, 4)
    >>> plan_selection((10, 4), ([7, 0, -1], slice(2))).shape
    (3, 2)
    """
    entries = () if slices is None else slices if isinstance(slices, tuple) else (slices,)
    if any(e is Ellipsis for e in entries):
        at = next(i for i, e in enumerate(entries) if e is Ellipsis)
        fill = len(shape) - (len(entries) - 1)
        entries = (*entries[:at], *(None,) * max(fill, 0), *entries[at + 1 :])
    if len(entries) > len(shape):
        raise LayoutError(
            f"{op}: slices must have at most {len(shape)} entries for shape {shape}, got {len(entries)}"
        )
    entries = (*entries, *(None,) * (len(shape) - len(entries)))
    lists = [
        axis for axis, entry in enumerate(entries) if isinstance(entry, (list, np.ndarray, torch.Tensor))
    ]
    if len(lists) > 1:
        raise LayoutError(f"{op}: slices must hold at most one list of indices, got them for axes {lists}")
    indices = None
    starts, counts, steps, dropped = [], [], [], []
    for axis, (entry, extent) in enumerate(zip(entries, shape)):
        if axis in lists:
            indices = _axis_list(entry, extent, axis, op)
            start, count, step = 0, len(indices), 1
        else:
            start, count, step = _axis_range(entry, extent, axis, op)
        starts.append(start)
        counts.append(count)
        steps.append(step)
        if entry is not None and not isinstance(entry, slice) and axis not in lists:
            dropped.append(axis)
    listed = lists[0] if lists else None
    return Selection(tuple(starts), tuple(counts), tuple(steps), tuple(dropped), listed, indices)


def _axis_list(entry: object, extent: int, axis: int, op: str) -> np.ndarray:
    found = np.asarray(entry)
    if found.ndim != 1 or (found.dtype.kind not in "biu" and found.size):
        what = f"{found.ndim}-D of {found.dtype}"
        raise LayoutError(
            f"{op}: slices must hold 1-D lists of integers or bools, got {what} for axis {axis}"
        )
    if found.dtype.kind == "b":
        if len(found) != extent:
            raise LayoutError(f"{op}: slices must hold {extent} bools for axis {axis}, got {len(found)}")
        return np.flatnonzero(found).astype(np.int64)
    found = found.astype(np.int64)
    wrong = found[(found < -extent) | (found >= extent)]
    if len(wrong):
        raise LayoutError(
            f"{op}: slices must be in [{-extent}, {extent}) along axis {axis}, got {int(wrong[0])}"
        )
    return np.where(found < 0, found + extent, found)


def _axis_range(entry: object, extent: int, axis: int, op: str) -> tuple[int, int, int]:
    if entry is None:
        return 0, extent, 1
    if isinstance(entry, slice):
        if entry.step is not None and (not hasattr(entry.step, "__index__") or entry.step < 1):
            raise LayoutError(
                f"{op}: slices must have positive steps, got {entry} on axis {axis}; load forwards, then flip"
            )
        try:
            found = range(*entry.indices(extent))
        except TypeError:
            raise LayoutError(f"{op}: slices must have integer bounds, got {entry} for axis {axis}") from None
        return (found.start if found else 0), len(found), found.step
    if not hasattr(entry, "__index__") or isinstance(entry, bool):
        raise LayoutError(
            f"{op}: slices must be integers, slices, None or Ellipsis, got {entry!r} for axis {axis}"
        )
    index = entry.__index__()
    if not -extent <= index < extent:
        raise LayoutError(f"{op}: slices must be in [{-extent}, {extent}) along axis {axis}, got {index}")
    return index % extent, 1, 1


def plan_blocks(
    extent: int, row_bytes: int, multiple: int = 1, budget: int = BLOCK_BYTES
) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of blocks of rows of at most `budget` bytes, but of at least `multiple` rows.

    Blocks begin at multiples of `multiple`, so that no storage chunk of that many rows is visited twice.

    >>> list(plan_blocks(10, row_bytes=4, multiple=3, budget=20))
    [(0, 3), (3, 6), (6, 9), (9, 10)]
    """
    rows = max(budget // max(row_bytes, 1) // multiple, 1) * multiple
    for start in range(0, extent, rows):
        yield start, min(start + rows, extent)


@dataclass(frozen=True, slots=True)
class Ranges:
    """Equally long, equally spaced ranges of a file, in the order of the memory they come from.

    Attributes
    ----------
    first : int
        Element offset of the first range.
    length, stride, number : int
        Elements per range, elements from one range's start to the next one's, number of ranges.
    """

    first: int
    length: int
    stride: int
    number: int


def plan_ranges(
    shape: tuple[int, ...], axis: int, start: int, stop: int, rows: tuple[int, int] | None = None
) -> Ranges:
    """Return the element ranges that ``[start, stop)`` of `axis` takes in a C-ordered array of `shape`.

    Parameters
    ----------
    rows : (int, int), optional
        Only these indices of axis 0; for ``axis == 0`` they count from `start`.

    Examples
    --------
    >>> plan_ranges((4, 10), axis=0, start=1, stop=3)
    Ranges(first=10, length=20, stride=20, number=1)
    >>> plan_ranges((4, 10), axis=1, start=2, stop=5)
    Ranges(first=2, length=3, stride=10, number=4)
    """
    inner = math.prod(shape[axis + 1 :])
    if axis == 0:
        low, high = rows or (0, stop - start)
        length = (high - low) * inner
        return Ranges((start + low) * inner, length, length, 1)
    low, high = rows or (0, shape[0])
    outer = math.prod(shape[1:axis])
    stride = shape[axis] * inner
    return Ranges(low * outer * stride + start * inner, (stop - start) * inner, stride, (high - low) * outer)


def plan_chunks(shape: tuple[int, ...], itemsize: int, budget: int = 1 << 20) -> tuple[int, ...]:
    """Return a chunk shape of about `budget` bytes: whole trailing axes, so that a slab of rows is few
    chunks.

    >>> plan_chunks((1_000_000, 64), 4)
    (4096, 64)
    """
    chunks = list(shape)
    for axis in range(len(shape)):
        row = math.prod(chunks[axis + 1 :]) * itemsize
        chunks[axis] = min(max(budget // max(row, 1), 1), shape[axis])
        if row <= budget:
            break
    return tuple(max(n, 1) for n in chunks)
