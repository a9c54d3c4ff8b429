"""Boxes: parts of a global array, as a tuple of ``(start, stop)``, one for each axis. Pure; the same on all ranks."""

import math
from collections.abc import Iterator
from itertools import pairwise

from . import config

Box = tuple[tuple[int, int], ...]


def shape_of(box: Box) -> tuple[int, ...]:
    """Return the extents of a box."""
    return tuple(stop - start for start, stop in box)


def volume(box: Box) -> int:
    """Return the number of elements of a box."""
    return math.prod(stop - start for start, stop in box)


def intersect(a: Box, b: Box) -> Box | None:
    """Return the common part of two boxes, None if it is empty."""
    common = []
    for (a_start, a_stop), (b_start, b_stop) in zip(a, b):
        start = a_start if a_start > b_start else b_start
        stop = a_stop if a_stop < b_stop else b_stop
        if start >= stop:
            return None
        common.append((start, stop))
    return tuple(common)


def subtract(box: Box, hole: Box | None) -> list[Box]:
    """Return disjoint boxes that make up `box` without `hole`, which lies within it (None: nothing)."""
    if hole is None:
        return [box]
    rest = []
    for axis, ((start, stop), (hole_start, hole_stop)) in enumerate(zip(box, hole)):
        # Axes before this one are already narrowed to the hole, so the slabs do not overlap.
        for slab in ((start, hole_start), (hole_stop, stop)):
            if slab[0] < slab[1]:
                rest.append((*hole[:axis], slab, *box[axis + 1 :]))
    return rest


def cut_box(box: Box, limit: int) -> Iterator[Box]:
    """Cut a box into boxes of at most `limit` elements (at least one), in C order.

    The cut is along the first axis whose rows fit, so that a piece has the longest possible runs of memory on
    both sides; pieces along it are equally long, hence at least half full.
    """
    total = volume(box)
    if total == 0:
        return
    if total <= limit:
        yield box
        return
    row, axis = total, -1
    while row > limit:
        axis += 1
        row //= box[axis][1] - box[axis][0]
    start, stop = box[axis]
    parts = -(-(stop - start) // max(limit // row, 1))
    marks = [start + (stop - start) * i // parts for i in range(parts + 1)]
    for lead in _indices(box[:axis]):
        for a, b in pairwise(marks):
            yield (*lead, (a, b), *box[axis + 1 :])


def _indices(box: Box) -> Iterator[Box]:
    """Yield the boxes of one element each that make up a box, in C order."""
    if not box:
        yield ()
        return
    for lead in _indices(box[:-1]):
        for i in range(*box[-1]):
            yield (*lead, (i, i + 1))


def chunk_limit(itemsize: int) -> int:
    """Return the most elements of a chunk: half a window, so that one travels while one is packed."""
    return max(config.chunk_bytes // 2 // itemsize, 1)
