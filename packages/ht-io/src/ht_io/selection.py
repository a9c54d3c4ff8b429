"""Which part of a data set, and in which pieces: pure planning. Knows no file, tensor or communicator."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ht_core.errors import LayoutError
from ht_core.layout import Box

#: Bytes of a scratch block in which data is cast, gathered or staged: stays near the cache, bounds memory.
BLOCK_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Selection:
    """A rectangular selection with steps of a stored array.

    Attributes
    ----------
    starts, counts, steps : tuple of int
        First index, number of indices and distance between them, per stored axis.
    dropped : tuple of int
        Stored axes selected by an integer; they are not axes of the result.
    """

    starts: tuple[int, ...]
    counts: tuple[int, ...]
    steps: tuple[int, ...]
    dropped: tuple[int, ...] = ()

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
        Selection(starts=(4, 2), counts=(2, 1), steps=(3, 1), dropped=(1,))
        """
        ranges = iter(box)
        starts, counts = [], []
        for axis, (start, count, step) in enumerate(zip(self.starts, self.counts, self.steps)):
            low, high = (0, count) if axis in self.dropped else next(ranges)
            starts.append(start + low * step)
            counts.append(high - low)
        return Selection(tuple(starts), tuple(counts), self.steps, self.dropped)

    def rows(self, low: int, high: int) -> Selection:
        """Return the selection of indices [low, high) of the first stored axis."""
        return Selection(
            (self.starts[0] + low * self.steps[0], *self.starts[1:]),
            (high - low, *self.counts[1:]),
            self.steps,
            self.dropped,
        )


def plan_selection(shape: tuple[int, ...], slices: object, op: str = "load_hdf5") -> Selection:
    """Return the selection that `slices` means on an array of `shape`.

    Parameters
    ----------
    shape : tuple of int
    slices : None, int, slice, Ellipsis or tuple of these
        As in basic indexing, with positive steps. None (also as an entry) means the whole axis, trailing
        axes may be left out, an integer removes its axis.

    Raises
    ------
    LayoutError
        If there are too many entries, an integer is out of range or a step is not positive.

    Examples
    --------
    >>> plan_selection((10, 4), slice(2, 8)).shape
    (6, 4)
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
    starts, counts, steps, dropped = [], [], [], []
    for axis, (entry, extent) in enumerate(zip(entries, shape)):
        start, count, step = _axis_range(entry, extent, axis, op)
        starts.append(start)
        counts.append(count)
        steps.append(step)
        if entry is not None and not isinstance(entry, slice):
            dropped.append(axis)
    return Selection(tuple(starts), tuple(counts), tuple(steps), tuple(dropped))


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
