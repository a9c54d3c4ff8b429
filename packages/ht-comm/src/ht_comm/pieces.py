"""Pieces of arrays on their way between ranks: the engine below `redistribute` and `exchange`.

A `Part` is what one rank gives to another or gets from it. The `Engine` sends all parts in chunks, with bounded
scratch; it knows nothing of placements.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from . import config
from .boxes import Box, chunk_limit, cut_box, shape_of, volume
from .buffers import Array, Kind
from .cma import Block, block_of, find_runs, is_worth_reading, read
from .dtypes import DType
from .movement import TAG_REDISTRIBUTE
from .point_to_point import wait_all
from .pool import Scratch

TILE_BYTES = 2**20  # what stays on a rank is reversed in tiles that stay in its cache


class Part:
    """What one rank gives to another or gets from it: the elements of `view` in C order, as `dtype`.

    Elements that arrive are placed in reverse order along the axes `flip`, and converted if `view` has another type.
    """

    __slots__ = ("converts", "dtype", "flip", "kind", "peer", "view")

    def __init__(
        self,
        peer: int,
        view: Array,
        kind: Kind,
        dtype: DType,
        flip: tuple[int, ...] = (),
        converts: bool = False,
    ) -> None:
        self.peer = peer
        self.view = view
        self.kind = kind
        self.dtype = dtype
        self.flip = flip
        self.converts = converts

    @property
    def box(self) -> Box:
        return tuple((0, extent) for extent in self.view.shape)

    def cut(self, box: Box) -> Array:
        """Return the view of a box that counts from the far end along the axes `flip`."""
        index = [slice(*interval) for interval in box]
        for axis in self.flip:
            extent, (start, stop) = self.view.shape[axis], box[axis]
            index[axis] = slice(extent - stop, extent - start)
        return self.view[tuple(index)]

    def place(self, view: Array, x: Array) -> None:
        """Set a cut to elements that arrived."""
        self.kind.copy(view, self.kind.flip(x, self.flip) if self.flip else x)

    def take(self, pid: int, block: Block) -> None:
        """Read all elements from where they lie in the memory of another process."""
        itemsize, shape = self.dtype.itemsize, tuple(self.view.shape)
        origin = (0,) * len(shape)
        own = block_of(self.view, self.kind, itemsize)
        if own is not None:
            target = find_runs(own, origin, shape, itemsize)
            if is_worth_reading(target):
                read(pid, find_runs(block, origin, shape, itemsize), target)
                return
        for box in cut_box(self.box, chunk_limit(itemsize)):
            scratch = Scratch(shape_of(box), self.kind, self.dtype)
            start, extents = tuple(start for start, _ in box), shape_of(box)
            own = block_of(scratch.array, self.kind, itemsize)
            read(
                pid,
                find_runs(block, start, extents, itemsize),
                find_runs(own, (0,) * len(extents), extents, itemsize),
            )
            self.place(self.cut(box), scratch.array)
            scratch.release()

    def keep(self, x: Array) -> None:
        """Take all elements from an array of this rank; reversed ones by tiles, as reversing may need a copy."""
        if not self.flip:
            self.kind.copy(self.view, x)
            return
        for box in cut_box(self.box, max(TILE_BYTES // self.dtype.itemsize, 1)):
            self.place(self.cut(box), x[tuple(slice(*interval) for interval in box)])


class Engine:
    """One exchange, seen from one rank."""

    def __init__(self, comm: Any, tag: int = TAG_REDISTRIBUTE) -> None:
        self.comm = comm
        self.tag = tag

    def run(self, receives: list[Part], sends: list[Part], kept: list[tuple[Array, Part]]) -> None:
        """Exchange all parts, in ring order, keeping at most `config.chunk_bytes` under way in each direction.

        Chunks have keys (ring distance, number in the pair) that are the same at both ends. Each rank posts
        its chunks in the order of keys and waits for the smallest one posted. The smallest chunk that is
        unfinished anywhere is therefore posted at both ends and completes: no dead-lock, whatever the
        window.
        """
        rank, size = self.comm.rank, self.comm.size
        incoming = Lane(self.chunks(((rank - part.peer) % size, part) for part in receives), self._receive)
        outgoing = Lane(self.chunks(((part.peer - rank) % size, part) for part in sends), self._send)
        incoming.fill()
        outgoing.fill()
        for x, part in kept:  # while the first chunks travel
            part.keep(x)
        while incoming.flying or outgoing.flying:
            lane = incoming if incoming.key <= outgoing.key else outgoing
            lane.finish_first()
            lane.fill()

    @staticmethod
    def chunks(parts: Iterable[tuple[int, Part]]) -> Iterator[tuple[tuple, Part, Box, int]]:
        """Yield (key, part, box, bytes) of the chunks of (ring distance, part)."""
        number, last = 0, None  # counted for each pair, whose chunks come in the same order at both ends
        for distance, part in parts:
            itemsize = part.dtype.itemsize
            if distance != last:
                number, last = 0, distance
            for box in cut_box(part.box, chunk_limit(itemsize)):
                yield (distance, number), part, box, volume(box) * itemsize
                number += 1

    def _send(self, part: Part, box: Box) -> tuple[list[Any], Callable[[], None] | None]:
        view, kind = part.cut(box), part.kind
        if kind.is_direct(view):
            return self.comm._isend_slices(kind.buffer(view, part.dtype), part.peer, self.tag), None
        scratch = Scratch(shape_of(box), kind, part.dtype)
        kind.copy(scratch.array, view)
        buffer = kind.buffer(scratch.array, part.dtype)
        return self.comm._isend_slices(buffer, part.peer, self.tag), scratch.release

    def _receive(self, part: Part, box: Box) -> tuple[list[Any], Callable[[], None] | None]:
        view, kind = part.cut(box), part.kind
        if not part.flip and not part.converts and kind.is_direct(view):
            return self.comm._irecv_slices(kind.buffer(view, part.dtype), part.peer, self.tag), None
        scratch = Scratch(shape_of(box), kind, part.dtype)
        buffer = kind.buffer(scratch.array, part.dtype)

        def bring_home() -> None:
            part.place(view, scratch.array)
            scratch.release()

        return self.comm._irecv_slices(buffer, part.peer, self.tag), bring_home


class Lane:
    """The chunks of one direction: those under way, oldest first, and those still to be posted."""

    def __init__(self, chunks: Iterator, start: Callable) -> None:
        self.flying: deque = deque()
        self._chunks = chunks
        self._start = start
        self._next = next(chunks, None)
        self._load = 0

    @property
    def key(self) -> tuple:
        """Key of the oldest chunk under way; larger than any where there is none."""
        return self.flying[0][0] if self.flying else (math.inf,)

    def fill(self) -> None:
        """Post chunks while the window of `config.chunk_bytes` has room."""
        while self._next is not None:
            key, part, box, nbytes = self._next
            if self.flying and self._load + nbytes > config.chunk_bytes:
                return
            handles, finish = self._start(part, box)
            self.flying.append((key, nbytes, handles, finish))
            self._load += nbytes
            self._next = next(self._chunks, None)

    def finish_first(self) -> None:
        """Wait for the oldest chunk."""
        _, nbytes, handles, finish = self.flying.popleft()
        wait_all(handles)
        if finish is not None:
            finish()
        self._load -= nbytes
