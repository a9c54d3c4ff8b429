"""Move the blocks of an array from one placement to another: resplit, balance, halo, gather and the rest.

A *box* is the part of the global array a rank holds: a tuple of ``(start, stop)``, one for each axis. A
*placement* is a tuple of boxes, one for each rank. `plan_redistribution` compares two placements (pure,
cached, the same on all ranks), `execute` sends what has to move: between every two ranks the common part of
one's old and the other's new box, cut into chunks, in ring order (rank + 1, rank + 2, ...), with bounded
scratch. Every element of the result is written once.

The window of each direction is counted in bytes: two long chunks (one travels while the next is packed), or all
messages at once where the traffic is small, one for each pair of ranks that exchange anything.

The size of the chunks depends on shapes, the item size and `config.chunk_bytes` only; strides decide
whether a rank packs a chunk or hands its memory to the transport, which its peer neither sees nor needs to
know.

Two plans go another way. Where every rank gets the whole array one allgatherv does it, as long as that needs no long
scratch. Where much moves between ranks of one node, and the system permits, each reads what it needs from the memory of
the others (`ht_comm.cma`).
"""

import functools
from bisect import bisect_right
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from . import config
from .boxes import Box, chunk_limit, cut_box, intersect, shape_of, subtract, volume
from .buffers import Array, check_target, check_writable, inspect, is_leading
from .cma import Block, Peers, block_of, find_runs, is_worth_reading
from .dtypes import find_dtype
from .pieces import Engine, Part

Placement = tuple[Box, ...]
Piece = tuple[int, Box]  # the other rank, and what is exchanged with it


_UNKNOWN = -1


class Plan:
    """What moves between two placements. Made by `plan_redistribution`; the same on every rank.

    Attributes
    ----------
    src, dst : tuple over ranks of boxes
        Placement before and after.
    size : int
        Number of ranks.
    """

    __slots__ = (
        "_assigned",
        "_gather_axis",
        "_moved",
        "_partition",
        "_receives",
        "_sends",
        "dst",
        "size",
        "src",
    )

    def __init__(self, src: Placement, dst: Placement) -> None:
        _check_placements(src, dst)
        self.src = src
        self.dst = dst
        self.size = len(src)
        self._moved: int | None = None
        self._gather_axis: int | None = _UNKNOWN
        self._sends: dict[int, list[Piece]] = {}
        self._receives: dict[int, list[Piece]] = {}
        # Placements made by a layout need O(p) work per rank and never the table of all pairs.
        self._partition = _find_partition(src)
        self._assigned: dict[int, list[Piece]] | None = None
        if self._partition is None:
            self._assigned = _assign_owners(src, dst)
        else:
            _check_covered(self._partition, dst)

    def own(self, rank: int) -> Box | None:
        """Return the box that stays on a rank, None if there is none."""
        return intersect(self.src[rank], self.dst[rank])

    def receives(self, rank: int) -> list[Piece]:
        """Return ``[(source, box), ...]``: what a rank gets from others, in ring order."""
        pieces = self._receives.get(rank)
        if pieces is None:
            if self._assigned is not None:
                pieces = self._assigned.get(rank, [])
            else:
                pieces = [
                    (source, box)
                    for source, box in _find_owners(self._partition, self.dst[rank])
                    if source != rank
                ]
            pieces = sorted(pieces, key=lambda piece: (rank - piece[0]) % self.size)
            self._receives[rank] = pieces
        return pieces

    def sends(self, rank: int) -> list[Piece]:
        """Return ``[(destination, box), ...]``: what a rank gives to others, in ring order."""
        pieces = self._sends.get(rank)
        if pieces is None:
            if self._assigned is not None:
                pieces = [
                    (dest, box)
                    for dest, received in self._assigned.items()
                    for source, box in received
                    if source == rank
                ]
            else:
                boxes = ((dest, intersect(self.src[rank], box)) for dest, box in enumerate(self.dst))
                pieces = [(dest, box) for dest, box in boxes if box is not None and dest != rank]
            pieces = sorted(pieces, key=lambda piece: (piece[0] - rank) % self.size)
            self._sends[rank] = pieces
        return pieces

    def messages(self, rank: int, itemsize: int | None = None) -> int:
        """Return the number of messages a rank sends.

        Parameters
        ----------
        rank : int
            The sender.
        itemsize : int, optional
            Bytes per element. With it long messages are counted as the chunks they are sent in; without it
            each box for each peer counts as one.
        """
        if itemsize is None:
            return len(self.sends(rank))
        if self.gathers(itemsize):
            return 1
        limit = chunk_limit(itemsize)
        return sum(sum(1 for _ in cut_box(box, limit)) for _, box in self.sends(rank))

    def bytes(self, rank: int, itemsize: int) -> int:
        """Return the bytes a rank contributes to messages, for elements of `itemsize` bytes."""
        if self.gathers(itemsize):
            return itemsize * volume(self.src[rank])
        return itemsize * sum(volume(box) for _, box in self.sends(rank))

    @property
    def gather_axis(self) -> int | None:
        """The axis along which blocks in rank order become one array that every rank gets; None if they do not."""
        if self._gather_axis is _UNKNOWN:
            found = None  # assigned once: the ranks of a ThreadComm share the plan
            if self._partition is not None and self.size > 1:
                axis, whole, _, filled = self._partition
                ranks = [rank for rank, _ in filled]
                # Empty blocks, too, must be blocks along the axis.
                is_plain = all(
                    (*box[:axis], *box[axis + 1 :]) == (*whole[:axis], *whole[axis + 1 :])
                    and (volume(box) or box[axis][0] == box[axis][1])
                    for box in self.src
                )
                if is_plain and ranks == sorted(ranks) and all(box == whole for box in self.dst):
                    found = axis
            self._gather_axis = found
        return self._gather_axis

    def gathers(self, itemsize: int) -> bool:
        """Tell whether one allgatherv does it: all ranks get all, and the blocks need no long scratch."""
        if self.gather_axis is None:
            return False
        nbytes = volume(self.dst[0]) * itemsize
        is_short = nbytes <= config.chunk_bytes or is_leading(shape_of(self.dst[0]), self.gather_axis)
        return is_short and nbytes <= config.slice_bytes

    def moved(self) -> int:
        """Return the number of elements that some rank sends to another."""
        if self._moved is None:
            ranks = range(self.size)
            kept = sum(volume(own) for rank in ranks if (own := self.own(rank)) is not None)
            self._moved = sum(map(volume, self.dst)) - kept
        return self._moved

    def __repr__(self) -> str:
        return f"Plan(src={self.src}, dst={self.dst})"


def plan_redistribution(src: Placement, dst: Placement) -> Plan:
    """Plan the way from one placement of an array to another.

    Parameters
    ----------
    src, dst : tuple over ranks of boxes
        The box of every rank before and after; a box is a tuple over axes of ``(start, stop)`` in the
        global array. Boxes may be uneven or empty. Boxes of `dst` may overlap (each rank gets its copy);
        boxes of `src` may overlap, where equal elements are held by several ranks (a rank uses its own copy
        if it has one, else that of the owner with the least to send).

    Returns
    -------
    Plan
        To be given to `Communicator.redistribute`. Equal arguments give the same object.

    Distribution
    ------------
    Not collective: no message. All ranks must give equal arguments.

    Raises
    ------
    ValueError
        If the placements differ in ranks or axes, a box ends before it begins, or `dst` has elements `src`
        lacks.

    Examples
    --------
    >>> from ht_comm.redistribute import plan_redistribution
    >>> rows = (((0, 2), (0, 4)), ((2, 4), (0, 4)))
    >>> columns = (((0, 4), (0, 2)), ((0, 4), (2, 4)))
    >>> plan = plan_redistribution(rows, columns)
    >>> plan.sends(0), plan.bytes(0, 8)
    ([(1, ((0, 2), (2, 4)))], 32)
    """
    try:
        return _plan_cached(src, dst)
    except TypeError:  # lists, perhaps: not hashable
        return _plan_cached(_as_placement("src", src), _as_placement("dst", dst))


@functools.lru_cache(maxsize=512)
def _plan_cached(src: Placement, dst: Placement) -> Plan:
    return Plan(src, dst)


def _as_placement(argument: str, boxes: Any) -> Placement:
    try:
        return tuple(tuple((int(start), int(stop)) for start, stop in box) for box in boxes)
    except (TypeError, ValueError):
        raise TypeError(
            f"plan_redistribution: {argument} must be a tuple over ranks of boxes, each a tuple over axes of "
            f"(start, stop), got {boxes!r}"
        ) from None


# ----- planning


def _check_placements(src: Placement, dst: Placement) -> None:
    if len(src) != len(dst) or not src:
        raise ValueError(
            f"plan_redistribution: src and dst must have one box for each rank, got {len(src)} and {len(dst)}"
        )
    ndim = len(src[0])
    for argument, boxes in (("src", src), ("dst", dst)):
        for rank, box in enumerate(boxes):
            if len(box) != ndim or any(not 0 <= start <= stop for start, stop in box):
                raise ValueError(
                    f"plan_redistribution: {argument} must have {ndim} intervals 0 <= start <= stop for each "
                    f"rank, got {box} for rank {rank}"
                )


Partition = tuple[
    int, Box, list[int], list[Piece]
]  # axis, box of the whole, starts along axis, [(rank, box)]


def _find_partition(src: Placement) -> Partition | None:
    """Return how the boxes divide one box along one axis, with neither gap nor overlap; else None."""
    filled = [(rank, box) for rank, box in enumerate(src) if volume(box)]
    if not filled or not src[0]:
        return None
    first = filled[0][1]
    axes = {axis for _, box in filled for axis in range(len(first)) if box[axis] != first[axis]}
    if len(axes) > 1 or (not axes and len(filled) > 1):
        return None
    axis = axes.pop() if axes else 0
    filled.sort(key=lambda piece: piece[1][axis])
    if any(left[1][axis][1] != right[1][axis][0] for left, right in pairwise(filled)):
        return None
    whole = (*first[:axis], (filled[0][1][axis][0], filled[-1][1][axis][1]), *first[axis + 1 :])
    return axis, whole, [box[axis][0] for _, box in filled], filled


def _check_covered(partition: Partition, dst: Placement) -> None:
    for rank, box in enumerate(dst):
        if volume(box) and intersect(box, partition[1]) != box:
            raise _not_covered(rank, box)


def _not_covered(rank: int, box: Box) -> ValueError:
    return ValueError(f"plan_redistribution: dst must lie within what src covers, got {box} for rank {rank}")


def _find_owners(partition: Partition, box: Box) -> list[Piece]:
    """Return the owners of a box and what of it they hold."""
    axis, _, starts, filled = partition
    if not volume(box):
        return []
    pieces = []
    for rank, held in filled[bisect_right(starts, box[axis][0]) - 1 :]:
        common = intersect(held, box)
        if common is None:
            break
        pieces.append((rank, common))
    return pieces


def _assign_owners(src: Placement, dst: Placement) -> dict[int, list[Piece]]:
    """Return ``{rank: [(source, box)]}`` for boxes that may overlap: every element from one source."""
    load = [0] * len(src)
    assigned: dict[int, list[Piece]] = {}
    for rank, wanted in enumerate(dst):
        if not volume(wanted):
            continue
        missing = subtract(wanted, intersect(src[rank], wanted))
        while missing:
            box = missing.pop()
            owners = [(owner, common) for owner, held in enumerate(src) if (common := intersect(held, box))]
            if not owners:
                raise _not_covered(rank, box)
            # The owner of most of it; of equals the one with least to send; of these the next in the ring.
            owner, common = min(
                owners,
                key=lambda piece: (-volume(piece[1]), load[piece[0]], (rank - piece[0]) % len(src)),
            )
            load[owner] += volume(common)
            assigned.setdefault(rank, []).append((owner, common))
            missing += subtract(box, common)
    return assigned


# ----- execution


def execute(comm: Any, x: Array, plan: Plan, out: Array | None = None) -> Array:
    """Carry out a plan; the body of `Communicator.redistribute`.

    Parameters
    ----------
    comm : Communicator
        Of ``plan.size`` ranks.
    x : torch.Tensor or numpy.ndarray, shape of ``plan.src[rank]``
        This rank's block before; any strides.
    plan : Plan
        The same on all ranks.
    out : array, shape of ``plan.dst[rank]``, optional
        Receives the result; any strides, no memory in common with `x`.

    Returns
    -------
    array
        This rank's block after; never memory of `x`.

    Distribution
    ------------
    Collective. ``plan.messages(rank, itemsize)`` messages of together ``plan.bytes(rank, itemsize)`` bytes;
    none where nothing moves. Scratch of at most two times `config.chunk_bytes`. What is read from the memory of other
    ranks is counted as the messages it replaces.

    Raises
    ------
    ValueError
        If the plan is for another number of ranks, or `x` or `out` has another shape than planned.
    TypeError
        If `x` and `out` are not arrays of one kind and dtype that can travel.
    """
    kind, dtype = inspect("redistribute", "x", x)
    if plan.size != comm.size:
        raise ValueError(f"redistribute: plan must be for {comm.size} ranks, got one for {plan.size}")
    src, dst = plan.src[comm.rank], plan.dst[comm.rank]
    if tuple(x.shape) != shape_of(src):
        raise ValueError(
            f"redistribute: x must have shape {shape_of(src)} on rank {comm.rank}, got {tuple(x.shape)}"
        )
    if out is None:
        out = kind.empty(shape_of(dst), x)
    else:
        check_target("redistribute", "out", out, kind, dtype, shape_of(dst))
    x, target, rank = _without_graph(x), _without_graph(out), comm.rank
    peers = None
    if plan.moved() * dtype.itemsize >= config.read_bytes * comm.size:
        peers = comm._find_peers()
    if peers is None and plan.gathers(dtype.itemsize):
        axis = plan.gather_axis
        comm._allgather_into("redistribute", x, tuple(shape_of(box)[axis] for box in plan.src), axis, target)
        return out
    outgoing = [Part(dest, _view(x, src, box), kind, dtype) for dest, box in plan.sends(rank)]
    incoming = [Part(source, _view(target, dst, box), kind, dtype) for source, box in plan.receives(rank)]
    own = plan.own(rank)
    kept = [] if own is None else [(_view(x, src, own), Part(rank, _view(target, dst, own), kind, dtype))]
    if peers is None:
        Engine(comm).run(incoming, outgoing, kept)
    else:
        _read(comm, peers, x, plan, incoming, outgoing, kept)
    return out


def _read(
    comm: Any,
    peers: Peers,
    x: Array,
    plan: Plan,
    incoming: list[Part],
    outgoing: list[Part],
    kept: list[tuple[Array, Part]],
) -> None:
    """Carry out a plan by reading the memory of other ranks where that is worth it, else by messages.

    Both ends decide alike, from the sender's address and strides. Should a read fail on any rank, all learn of it and
    messages follow: nothing that is read has been changed.
    """
    rank, engine, ledger = comm.rank, Engine(comm), comm._ledger
    kind, dtype = inspect("redistribute", "x", x)
    before = ledger.bytes, ledger.messages
    blocks = peers.describe(block_of(x, kind, dtype.itemsize), x.ndim)

    def lie(source: int, box: Box) -> Block | None:
        """Return where the elements of a box lie in the memory of a rank, if they can be read there."""
        whole = blocks[source]
        if whole is None:
            return None
        start = tuple(a - origin for (a, _), (origin, _) in zip(box, plan.src[source]))
        runs = find_runs(whole, start, shape_of(box), dtype.itemsize)
        return Block(runs.address, whole.strides) if is_worth_reading(runs) else None

    reads = [(part, lie(source, box)) for part, (source, box) in zip(incoming, plan.receives(rank))]
    gives = [(part, lie(rank, box)) for part, (_, box) in zip(outgoing, plan.sends(rank))]
    engine.run([part for part, at in reads if not at], [part for part, at in gives if not at], kept)
    is_done = True
    try:
        for part, at in reads:
            if at:
                part.take(peers.pids[part.peer], at)
    except OSError:
        is_done = False
    if not peers.agree(is_done):
        comm._peers = (None,)
        engine.run([part for part, at in reads if at], [part for part, at in gives if at], [])
    if ledger.traces:  # whichever way each part went, the plan's messages count
        ledger.bytes = before[0] + plan.bytes(rank, dtype.itemsize)
        ledger.messages = before[1] + plan.messages(rank, dtype.itemsize)


def exchange(comm: Any, sends: Iterable[tuple], receives: Iterable[tuple]) -> None:
    """Exchange pieces of arrays between ranks; the body of `Communicator.exchange`, which has the parameters."""
    outgoing = [_make_part("sends", comm, *each) for each in sends]
    incoming = [_make_part("receives", comm, *each) for each in receives]
    for part in incoming:
        check_writable("exchange", "receives", part.view, part.kind)
    incoming.sort(key=lambda part: (comm.rank - part.peer) % comm.size)
    outgoing.sort(key=lambda part: (part.peer - comm.rank) % comm.size)
    own = [part.view for part in outgoing if part.peer == comm.rank]
    kept = [part for part in incoming if part.peer == comm.rank]
    if [tuple(x.shape) for x in own] != [tuple(part.view.shape) for part in kept]:
        raise ValueError(
            f"exchange: sends must have what receives expects from rank {comm.rank} itself, got shapes "
            f"{[tuple(x.shape) for x in own]} for {[tuple(part.view.shape) for part in kept]}"
        )
    Engine(comm).run(incoming[len(kept) :], outgoing[len(own) :], list(zip(own, kept)))


def _make_part(
    argument: str, comm: Any, peer: int, x: Array, flip: tuple[int, ...] = (), dtype: Any = None
) -> Part:
    kind, own = inspect("exchange", argument, x)
    if not 0 <= peer < comm.size:
        raise ValueError(f"exchange: {argument} must name ranks in [0, {comm.size}), got {peer!r}")
    travels = own if dtype is None else find_dtype(dtype)
    if travels is None:
        raise TypeError(f"exchange: {argument} must have a dtype that travels, got {dtype!r}")
    return Part(peer, _without_graph(x), kind, travels, tuple(flip), travels is not own)


def _without_graph(x: Array) -> Array:
    return x.detach() if getattr(x, "requires_grad", False) else x


def _view(x: Array, held: Box, box: Box) -> Array:
    """Return the part `box` of an array that is the block `held`."""
    if box == held:
        return x
    index = tuple(slice(start - origin, stop - origin) for (start, stop), (origin, _) in zip(box, held))
    return x[index]
