"""Blocks of other ranks: `halo`, the rows around a block, and `ring`, all blocks in turn.

Who sends what follows from the counts alone (`plan_halo` is pure and cached), so no rank asks another.
"""

import functools
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from typing import Any, NamedTuple

from . import config
from .buffers import Array, Kind, check_target, inspect, landing, pack
from .dtypes import DType
from .point_to_point import MAX_TAG, Request, wait_all
from .trace import traced

TAG_HALO, TAG_RING = MAX_TAG + 16, MAX_TAG + 17


class Piece(NamedTuple):
    """Rows that one rank gets from one other."""

    source: int
    start: int  # first row within the source's block
    count: int
    target: int  # first row within the block with halos of the rank that gets them


class HaloPlan(NamedTuple):
    """The block with halos of one rank: ``before`` rows, its own, ``after`` rows."""

    before: int
    after: int
    receives: tuple[Piece, ...]  # in order of rows; those from the rank itself (periodic) included


@functools.lru_cache(maxsize=512)
def plan_halo(counts: tuple[int, ...], before: int, after: int, periodic: bool) -> tuple[HaloPlan, ...]:
    """Plan what each rank gets.

    Parameters
    ----------
    counts : tuple of int
        Rows of each rank; zeros are allowed.
    before, after : int
        Rows wanted before and after each block, wherever they lie.
    periodic : bool
        Row ``n`` is row 0 again, as often as needed; otherwise halos end where the rows end.

    Returns
    -------
    tuple over ranks of HaloPlan
    """
    starts = tuple(accumulate(counts, initial=0))
    n = starts[-1]
    plans = []
    for rank, count in enumerate(counts):
        first, stop = starts[rank] - before, starts[rank] + count + after
        if n == 0 or not periodic:
            first, stop = max(first, 0), min(stop, n)
        own = starts[rank], starts[rank] + count
        pieces = [
            *_find_pieces(starts, first, own[0], first),
            *_find_pieces(starts, own[1], stop, first),
        ]
        plans.append(HaloPlan(own[0] - first, stop - own[1], tuple(pieces)))
    return tuple(plans)


def _find_pieces(starts: tuple[int, ...], row: int, stop: int, first: int) -> Iterator[Piece]:
    """Yield who holds rows ``row .. stop``, which may lie outside ``0 .. n`` and wrap around."""
    n = starts[-1]
    while row < stop:
        wrapped = row % n
        source = bisect_right(starts, wrapped) - 1  # the last of those that start here: not an empty one
        count = min(starts[source + 1] - wrapped, stop - row)
        yield Piece(source, wrapped - starts[source], count, row - first)
        row += count


@functools.lru_cache(maxsize=512)
def _find_sends(
    counts: tuple[int, ...], before: int, after: int, periodic: bool, rank: int
) -> tuple[tuple[int, Piece], ...]:
    plans = plan_halo(counts, before, after, periodic)
    return tuple(
        (dest, piece)
        for dest, plan in enumerate(plans)
        if dest != rank
        for piece in plan.receives
        if piece.source == rank
    )


class Neighbours:
    """The methods of a communicator that bring blocks of other ranks."""

    @traced
    def halo(
        self,
        x: Array,
        before: int,
        after: int,
        counts: tuple[int, ...],
        *,
        axis: int = 0,
        periodic: bool = False,
        out: Array | None = None,
    ) -> Array:
        """Return this rank's block with the rows before and after it, which other ranks hold.

        Parameters
        ----------
        x : torch.Tensor or numpy.ndarray
            This rank's block; ``x.shape[axis] == counts[rank]``.
        before, after : int
            Rows wanted on each side, the same on all ranks. They may reach over several ranks.
        counts : tuple of int
            Extent of every rank's block along `axis`, the same on all ranks; zeros are allowed. An empty block
            gets the rows around the place where it would be.
        axis : int
            The axis along which the blocks lie.
        periodic : bool
            The last row is followed by the first. Otherwise the halos end where the array ends: the first
            rank's has no rows before it.
        out : array, optional
            Receives the result. `x` may be the interior of `out` (the same memory), which then stays where it is:
            an iteration that keeps its array with halos copies nothing but them.

        Returns
        -------
        array
            Of the shape of `x` with ``before + counts[rank] + after`` rows, fewer at ends that are not periodic.

        Distribution
        ------------
        Collective. One message to each rank that wants rows of this one: two as a rule, of ``after`` and ``before``
        rows (one per `config.slice_bytes`).

        Raises
        ------
        ValueError
            If an extent is negative or `x` or `out` has another shape.

        Examples
        --------
        >>> import numpy as np, ht_comm
        >>> comm = ht_comm.get_comm()
        >>> block = np.full((2, 3), comm.rank)
        >>> wide = comm.halo(block, 1, 1, (2,) * comm.size, periodic=True)
        >>> wide.shape, int(wide[0, 0]) == (comm.rank - 1) % comm.size
        ((4, 3), True)
        """
        kind, dtype = inspect("halo", "x", x)
        axis = self._check_axis("halo", axis, x.ndim)
        counts = self._check_counts("halo", "counts", counts)
        self._check_extent("halo", x, axis, counts)
        for argument, rows in (("before", before), ("after", after)):
            if rows < 0:
                raise ValueError(f"halo: {argument} must be at least 0, got {rows!r}")
        facts = counts, int(before), int(after), bool(periodic)
        plan = plan_halo(*facts)[self.rank]
        shape = (*x.shape[:axis], plan.before + counts[self.rank] + plan.after, *x.shape[axis + 1 :])
        if out is None:
            out = kind.empty(shape, x)
        else:
            check_target("halo", "out", out, kind, dtype, shape)
        sends = _find_sends(*facts, self.rank)
        self._exchange_halos(x, out, axis, plan, sends, kind, dtype)
        return out

    def _exchange_halos(
        self,
        x: Array,
        out: Array,
        axis: int,
        plan: HaloPlan,
        sends: tuple[tuple[int, Piece], ...],
        kind: Kind,
        dtype: DType,
    ) -> None:
        # Pieces between two ranks are sent and expected in the same order: that of the receiver's rows.
        incoming = []
        for piece in plan.receives:
            if piece.source != self.rank:
                rows = kind.narrow(out, axis, piece.target, piece.count)
                buffer, finish = landing(rows, kind, dtype)
                if buffer.count:
                    handles = self._irecv_slices(buffer, piece.source, TAG_HALO)
                    incoming.append(Request(None, handles, finish))
        outgoing = []
        for dest, piece in sends:
            buffer = pack(kind.narrow(x, axis, piece.start, piece.count), kind, dtype)
            if buffer.count:
                outgoing += self._isend_slices(buffer, dest, TAG_HALO)
        values = kind.prepare(x)
        own = kind.narrow(out, axis, plan.before, x.shape[axis])
        if not kind.is_same_memory(own, x):
            kind.copy(own, values)
        for piece in plan.receives:
            if piece.source == self.rank:
                rows = kind.narrow(out, axis, piece.target, piece.count)
                kind.copy(rows, kind.narrow(values, axis, piece.start, piece.count))
        wait_all(outgoing)
        for request in incoming:
            request.wait()

    @traced
    def ring(self, x: Array, counts: tuple[int, ...], *, axis: int = 0) -> Iterator[tuple[int, Array]]:
        """Let the blocks of all ranks pass by, this rank's own first.

        Parameters
        ----------
        x : torch.Tensor or numpy.ndarray
            This rank's block; ``x.shape[axis] == counts[rank]``. Must not be changed before the iteration ends.
        counts : tuple of int
            Extent of every rank's block along `axis`, the same on all ranks; zeros are allowed.
        axis : int
            The axis along which the blocks lie.

        Yields
        ------
        owner : int
            ``rank, rank + 1, ...``, `size` times.
        block : array
            That rank's block: `x` itself, then arrays that must not be changed and hold good until the next
            step.

        Distribution
        ------------
        Collective, and so is each step: all ranks must iterate to the end. ``size - 1`` messages of one block each (one
        per `config.slice_bytes`), counted at the call. The transfer of the next block is started before a block is
        yielded, so it may go on while the block is used. Scratch of two blocks of the largest extent.

        Examples
        --------
        >>> import numpy as np, ht_comm
        >>> comm = ht_comm.get_comm()
        >>> own = np.full(2, comm.rank)
        >>> sum(int(block[0]) for owner, block in comm.ring(own, (2,) * comm.size)) == sum(range(comm.size))
        True
        """
        kind, dtype = inspect("ring", "x", x)
        axis = self._check_axis("ring", axis, x.ndim)
        counts = self._check_counts("ring", "counts", counts)
        self._check_extent("ring", x, axis, counts)
        lengths = self._lengths(x.shape, counts, axis)
        if self._ledger.traces:
            longest = max(config.slice_bytes // dtype.itemsize, 1)
            for step in range(self.size - 1):
                length = lengths[(self.rank + step) % self.size]
                self._ledger.add(length * dtype.itemsize, -(-length // longest))
        return self._turn(x, counts, axis, lengths, kind, dtype)

    def _turn(
        self,
        x: Array,
        counts: tuple[int, ...],
        axis: int,
        lengths: tuple[int, ...],
        kind: Kind,
        dtype: DType,
    ) -> Iterator[tuple[int, Array]]:
        rank, size = self.rank, self.size
        left, right = (rank - 1) % size, (rank + 1) % size
        flats = [kind.scratch((max(lengths),), dtype) for _ in range(min(size - 1, 2))]
        block, buffer = x, pack(x, kind, dtype) if size > 1 else None
        for step in range(size):
            owner = (rank + step) % size
            handles: list[Any] = []
            if step < size - 1:
                following = (owner + 1) % size
                flat = flats[step % 2]
                coming = kind.buffer(flat, dtype).part(0, lengths[following])
                if coming.count:
                    handles += [self._irecv(part, right, TAG_RING) for part in self._slices(coming)]
                if buffer.count:
                    handles += [self._isend(part, left, TAG_RING) for part in self._slices(buffer)]
            yield owner, block
            if step < size - 1:
                wait_all(handles)
                shape = (*x.shape[:axis], counts[following], *x.shape[axis + 1 :])
                block, buffer = kind.bring(flat[: coming.count].reshape(shape), x), coming
