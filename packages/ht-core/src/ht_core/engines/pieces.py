"""Engine of rearrangement: results that are made of boxes of their operands.

Joining, rolling, flipping, padding and tiling along the split axis are descriptions of one thing: which box of which
operand goes where. `plan_pieces` turns such a description and the layouts into what each rank sends and receives (pure,
cached); `assemble` carries it out in one exchange that writes every element of the result once, in its place. No other
memory is touched than operands, result and the bounded scratch of the exchange.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, NamedTuple

import torch

from ..layout import Box, Layout
from .indexing import bits
from .taped import exchange, landing

if TYPE_CHECKING:
    from ht_comm import Communicator


class Piece(NamedTuple):
    """A box of the result and the box of an operand that fills it.

    Attributes
    ----------
    operand : int
        Number of the operand.
    source, target : Box
        Boxes of the operand and of the result, in global indices, of equal extents; along an axis where `source` has
        extent 1 and `target` another one, the row is repeated.
    flip : tuple of int
        Axes along which the box is written in reverse order.
    """

    operand: int
    source: Box
    target: Box
    flip: tuple[int, ...] = ()

    def to_source(self, box: Box) -> Box:
        """Return what fills `box`, a part of the target."""
        return tuple(
            (s0, s1)
            if s1 - s0 != t1 - t0
            else ((s1 - (b - t0), s1 - (a - t0)) if axis in self.flip else (s0 + a - t0, s0 + b - t0))
            for axis, ((s0, s1), (t0, t1), (a, b)) in enumerate(zip(self.source, self.target, box))
        )

    def to_target(self, box: Box) -> Box:
        """Return what `box`, a part of the source, fills."""
        return tuple(
            (t0, t1)
            if s1 - s0 != t1 - t0
            else ((t0 + s1 - b, t0 + s1 - a) if axis in self.flip else (t0 + a - s0, t0 + b - s0))
            for axis, ((s0, s1), (t0, t1), (a, b)) in enumerate(zip(self.source, self.target, box))
        )


class Link(NamedTuple):
    """What one rank gives to another: a part of a piece."""

    peer: int
    piece: Piece
    source: Box
    target: Box


class Plan:
    """What moves where; the same on every rank.

    Parameters
    ----------
    layouts : tuple of Layout
        Of the operands.
    result : Layout
    pieces : tuple of Piece
        Disjoint in their targets; they need not fill the result.
    p : int
        Number of ranks.
    """

    def __init__(
        self, layouts: tuple[Layout, ...], result: Layout, pieces: tuple[Piece, ...], p: int
    ) -> None:
        self.layouts, self.result, self.pieces, self.p = layouts, result, pieces, p
        self._receives: dict[int, tuple[Link, ...]] = {}
        self._sends: dict[int, tuple[Link, ...]] = {}

    def receives(self, rank: int) -> tuple[Link, ...]:
        """Return what makes up the part of `rank`, what it holds itself included, in the order of the pieces."""
        if rank not in self._receives:
            self._receives[rank] = tuple(self._find_receives(rank))
        return self._receives[rank]

    def sends(self, rank: int) -> tuple[Link, ...]:
        """Return what `rank` gives to others, in the order of the pieces."""
        if rank not in self._sends:
            self._sends[rank] = tuple(self._find_sends(rank))
        return self._sends[rank]

    @cached_property
    def moves(self) -> bool:
        """Whether any rank sends anything: the same answer on every rank."""
        return any(link.peer != rank for rank in range(self.p) for link in self.receives(rank))

    def _find_receives(self, rank: int) -> Iterator[Link]:
        here = self.result.box(rank)
        for piece in self.pieces:
            target = _common(piece.target, here)
            if target is None:
                continue
            source = piece.to_source(target)
            for owner, part in _holders(self.layouts[piece.operand], source, self.p, rank):
                yield Link(owner, piece, part, _common(piece.to_target(part), target))

    def _find_sends(self, rank: int) -> Iterator[Link]:
        for piece in self.pieces:
            layout = self.layouts[piece.operand]
            source = _common(piece.source, layout.box(rank))
            if layout.split is None or source is None:
                continue
            for dest, part in _holders(self.result, piece.to_target(source), self.p):
                if dest != rank:
                    yield Link(dest, piece, _common(piece.to_source(part), source), part)


def _common(a: Box, b: Box) -> Box | None:
    both = tuple((max(p[0], q[0]), min(p[1], q[1])) for p, q in zip(a, b))
    return None if any(start >= stop for start, stop in both) else both


def _holders(layout: Layout, box: Box, p: int, rank: int | None = None) -> Iterator[tuple[int, Box]]:
    """Yield the ranks that hold a part of `box`, and which; of a replicated array `rank`, or all of them."""
    if layout.split is None:
        for owner in range(p) if rank is None else (rank,):
            yield owner, box
        return
    axis, displs, counts = layout.split, layout.displs, layout.counts
    start, stop = box[axis]
    for owner in range(bisect_right(displs, start) - 1, bisect_left(displs, stop)):
        interval = max(start, displs[owner]), min(stop, displs[owner] + counts[owner])
        if interval[0] < interval[1]:
            yield owner, (*box[:axis], interval, *box[axis + 1 :])


@lru_cache(maxsize=1024)
def plan_pieces(layouts: tuple[Layout, ...], result: Layout, pieces: tuple[Piece, ...], p: int) -> Plan:
    """Plan how a result is made of boxes of its operands. Pure; equal arguments give the same object.

    >>> halves = Layout((4,), 0, (2, 2))
    >>> plan_pieces((halves,), halves, (Piece(0, ((0, 3),), ((1, 4),)),), 2).sends(0)[0].target
    ((2, 3),)
    """
    return Plan(layouts, result, pieces, p)


def along(
    axis: int,
    shape: Sequence[int],
    spans: Iterable[tuple[int, tuple[int, int], tuple[int, int], bool]],
) -> tuple[Piece, ...]:
    """Return pieces that are whole in all axes but one.

    Parameters
    ----------
    axis : int
        That axis.
    shape : sequence of int
        Extents, of which that of `axis` does not matter.
    spans : iterable of (operand, source, target, flip)
        Rows (start, stop) of operand and result, and whether they are reversed. Empty ones are dropped.
    """
    whole = tuple((0, n) for n in shape)
    return tuple(
        Piece(
            operand,
            (*whole[:axis], source, *whole[axis + 1 :]),
            (*whole[:axis], target, *whole[axis + 1 :]),
            (axis,) if flip else (),
        )
        for operand, source, target, flip in spans
        if target[0] < target[1]
    )


def assemble(locals_: Sequence[torch.Tensor], plan: Plan, out: torch.Tensor, comm: Communicator) -> None:
    """Write this rank's part of the result to `out`.

    Parameters
    ----------
    locals_ : sequence of torch.Tensor
        This rank's parts of the operands. They travel in their own dtype and are converted where they arrive.
    out : torch.Tensor
        This rank's part of the result, of any strides; it shares no memory with the operands. What no piece fills is
        left alone.

    *Distribution*: one exchange; none where ``plan.moves`` is false.
    """
    rank = comm.rank
    if all(x.dtype is out.dtype for x in locals_):  # as integers that torch can reverse, if need be
        locals_, out = [bits(x) for x in locals_], bits(out)
    out = landing(out, comm)
    mine, links = plan.result.box(rank), plan.receives(rank)
    held = [layout.box(rank) for layout in plan.layouts]
    sends = [
        (link.peer, _view(locals_[link.piece.operand], held[link.piece.operand], link.source))
        for link in plan.sends(rank)
    ]
    receives, repeats = [], []
    for link in links:
        x, view = locals_[link.piece.operand], _view(out, mine, link.target)
        for axis, (a, b) in enumerate(link.source):
            if b - a != view.shape[axis]:
                repeats.append((view, axis))
                view = view.narrow(axis, 0, 1)
        if link.peer == rank:
            kept = _view(x, held[link.piece.operand], link.source)
            if not plan.moves:
                view.copy_(kept.flip(link.piece.flip) if link.piece.flip else kept)
                continue
            sends.append((rank, kept))
        receives.append((link.peer, view, link.piece.flip, x.dtype))
    if plan.moves:
        exchange(comm, sends, receives, out)
    for view, axis in reversed(repeats):
        first = view.narrow(axis, 0, 1)
        view.narrow(axis, 1, view.shape[axis] - 1).copy_(first)


def _view(x: torch.Tensor, held: Box, box: Box) -> torch.Tensor:
    if box == held:
        return x
    return x[tuple(slice(start - origin, stop - origin) for (start, stop), (origin, _) in zip(box, held))]
