"""Engine of reshaping: arrays as runs of the sequence of their elements in C order.

An array that is cut along its first axis holds one run of that sequence on each rank; every other cut holds many short
ones. `to_runs` brings any layout into given runs by one exchange, `from_runs` does the opposite: whatever two ranks
have in common is at most ``2 ndim - 1`` boxes of the array, each of which is a strided view of the run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

import torch

from ..layout import Box, Layout
from .taped import exchange, landing

if TYPE_CHECKING:
    from ht_comm import Communicator

Runs = tuple[tuple[int, int], ...]  # first element and the one after the last, for each rank


def c_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the distance in C order of neighbours along each axis.

    >>> c_strides((2, 3, 4))
    (12, 4, 1)
    """
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def run_boxes(shape: tuple[int, ...], start: int, stop: int) -> Iterator[Box]:
    """Yield disjoint boxes that make up the elements ``start .. stop`` of an array in C order.

    >>> list(run_boxes((3, 4), 2, 9))
    [((0, 1), (2, 4)), ((1, 2), (0, 4)), ((2, 3), (0, 1))]
    """
    if start >= stop:
        return
    if not shape:
        yield ()
        return
    row = math.prod(shape[1:])
    first, last = -(-start // row), stop // row  # whole rows
    if first > last:  # within one row
        for box in run_boxes(shape[1:], start - last * row, stop - last * row):
            yield ((last, last + 1), *box)
        return
    for box in run_boxes(shape[1:], start - (first - 1) * row, row) if start < first * row else ():
        yield ((first - 1, first), *box)
    if first < last:
        yield ((first, last), *((0, n) for n in shape[1:]))
    for box in run_boxes(shape[1:], 0, stop - last * row) if last * row < stop else ():
        yield ((last, last + 1), *box)


@lru_cache(maxsize=512)
def _links(layout: Layout, runs: Runs, rank: int, by_run: bool) -> tuple[tuple[int, Box], ...]:
    """Return what `rank` has in common with every rank: (peer, box).

    Whether `rank` holds the run and its peers hold parts of the array (`by_run`) or the other way round; the boxes of
    a pair have the same order in both.
    """
    p, found = len(runs), []
    for peer in range(p):
        run, held = (runs[rank], peer) if by_run else (runs[peer], rank)
        mine = layout.box(held)
        for box in run_boxes(layout.shape, *run):
            both = tuple((max(a, c), min(b, d)) for (a, b), (c, d) in zip(box, mine))
            if all(a < b for a, b in both):
                found.append((peer, both))
    return tuple(found)


def _in_run(flat: torch.Tensor, start: int, box: Box, shape: tuple[int, ...]) -> torch.Tensor:
    """Return the view of a box in a contiguous run that begins with element `start`."""
    strides = c_strides(shape)
    first = sum(a * stride for (a, _), stride in zip(box, strides)) - start
    return flat.as_strided([b - a for a, b in box], strides, flat.storage_offset() + first)


def _in_part(local: torch.Tensor, held: Box, box: Box) -> torch.Tensor:
    return local[tuple(slice(a - c, b - c) for (a, b), (c, _) in zip(box, held))]


def to_runs(local: torch.Tensor, layout: Layout, runs: Runs, out: torch.Tensor, comm: Communicator) -> None:
    """Write the elements ``runs[rank]`` of an array to `out`, contiguous and 1-D. One exchange.

    `local` is this rank's part under `layout`, split and of any strides. Runs may leave out elements or overlap.
    """
    rank, out = comm.rank, landing(out, comm)
    mine = layout.box(rank)
    sends = [(peer, _in_part(local, mine, box)) for peer, box in _links(layout, runs, rank, False)]
    receives = [
        (peer, _in_run(out, runs[rank][0], box, layout.shape))
        for peer, box in _links(layout, runs, rank, True)
    ]
    exchange(comm, sends, receives, out)


def from_runs(flat: torch.Tensor, runs: Runs, layout: Layout, out: torch.Tensor, comm: Communicator) -> None:
    """Fill `out`, this rank's part under `layout`, from runs that the ranks hold: the opposite of `to_runs`.

    Runs are disjoint; what they leave out is left alone. One exchange.
    """
    rank, out = comm.rank, landing(out, comm)
    mine = layout.box(rank)
    sends = [
        (peer, _in_run(flat, runs[rank][0], box, layout.shape))
        for peer, box in _links(layout, runs, rank, True)
    ]
    receives = [(peer, _in_part(out, mine, box)) for peer, box in _links(layout, runs, rank, False)]
    exchange(comm, sends, receives, out)
