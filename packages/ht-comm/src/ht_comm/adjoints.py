"""The linear collectives and their adjoints: one table.

A collective is a linear map A between the values of all ranks; the gradient of its operand is the adjoint of A
applied to the gradient of its result. Every A here consists of zeros and ones, so conjugation does not matter.
Each row names its adjoint, which is a row too: derivatives of any order stay within the table. `ht_comm.autograd`
strings rows into graphs; nothing here knows of graphs.

Two kinds of value:

- *rank-local*: each rank has its own. The function that is differentiated is the sum over ranks of what each
  makes of its values, hence the adjoint of a broadcast is a sum.
- *replicated*: one logical value of which every rank holds a copy. Its gradient is one logical value as well,
  the same on every rank, and a loss computed from it counts once, not p times. Reduce to replicated: the adjoint
  hands the gradient to every rank as it is. Use a replicated value together with rank-local ones: the adjoint is
  an allreduce.

On ranks where a collective has no operand or no result (all but the root, say) an array of shape ``(0,)`` stands
for it.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from .redistribute import Box, Plan, _find_partition, plan_redistribution, volume

Tensor = torch.Tensor
NOTHING = (0,)  # shape of the stand-in for an operand or result a rank does not have


@dataclass(frozen=True, slots=True)
class Row:
    """A linear collective.

    Attributes
    ----------
    run : callable
        ``run(comm, x, **facts)`` -> this rank's result, which shares no memory with `x` (`to_local` and
        `at_root` excepted). `facts` are counts, axis, root, plan: what all ranks know, and `shape`, see
        `turned`.
    adjoint : str
        Name of the adjoint's row.
    swap : tuple of two str, or empty
        The facts that change places in the adjoint.
    """

    run: Callable[..., Tensor]
    adjoint: str
    swap: tuple[str, ...] = ()

    def turned(self, facts: dict[str, Any], shape: tuple[int, ...]) -> dict[str, Any]:
        """Return the facts of the adjoint of a call with these facts, whose operand had the given shape.

        The adjoint's result has the shape of the operand. Rows that cannot tell their result's shape from
        their operand, as it is a stand-in, have it as the fact `shape`.
        """
        turned = dict(facts)
        if self.swap:
            a, b = self.swap
            turned[a], turned[b] = facts[b], facts[a]
        if "shape" in facts:
            turned["shape"] = shape
        return turned


def _allreduce(comm: Any, x: Tensor) -> Tensor:
    return comm.allreduce(x)


def _reduce(comm: Any, x: Tensor, root: int, shape: tuple[int, ...]) -> Tensor:
    total = comm.reduce(x, root=root)
    return x.new_zeros(shape) if total is None else total


def _bcast(comm: Any, x: Tensor, root: int, shape: tuple[int, ...]) -> Tensor:
    out = x.resolve_conj().clone() if comm.rank == root else x.new_empty(shape)
    return comm.bcast(out, root)


def _allgatherv(comm: Any, x: Tensor, counts: tuple[int, ...], axis: int) -> Tensor:
    return comm.allgatherv(x, counts, axis=axis)


def _reduce_scatterv(comm: Any, x: Tensor, counts: tuple[int, ...], axis: int) -> Tensor:
    return comm.reduce_scatterv(x, counts, axis=axis)


def _gatherv(
    comm: Any, x: Tensor, counts: tuple[int, ...], axis: int, root: int, shape: tuple[int, ...]
) -> Tensor:
    whole = comm.gatherv(x, counts, axis=axis, root=root)
    return x.new_zeros(shape) if whole is None else whole


def _scatterv(
    comm: Any, x: Tensor, counts: tuple[int, ...], axis: int, root: int, shape: tuple[int, ...]
) -> Tensor:
    like = x.new_empty(()).expand(shape)  # costs no memory; its extent along `axis` does not matter
    return comm.scatterv(x if comm.rank == root else None, counts, axis=axis, root=root, like=like)


def _alltoallv(
    comm: Any, x: Tensor, send_counts: tuple[int, ...], recv_counts: tuple[int, ...], axis: int
) -> Tensor:
    return comm.alltoallv(x, send_counts, recv_counts, axis=axis)


def _sendrecv(
    comm: Any, x: Tensor, dest: int | None, source: int | None, shape: tuple[int, ...], tag: int
) -> Tensor:
    """Send where there is a destination, receive where there is a source, else zeros."""
    out = x.new_zeros(shape)
    incoming = None if source is None else comm.irecv(out, source, tag)
    if dest is not None:
        comm.send(x, dest, tag)
    return out if incoming is None else incoming.wait()


def _scan(comm: Any, x: Tensor) -> Tensor:
    return comm.scan(x)


def _exscan(comm: Any, x: Tensor) -> Tensor:
    return comm.exscan(x)


def _scan_back(comm: Any, x: Tensor) -> Tensor:
    return _mirror(comm, comm.scan(_mirror(comm, x)))


def _exscan_back(comm: Any, x: Tensor) -> Tensor:
    return _mirror(comm, comm.exscan(_mirror(comm, x)))


def _mirror(comm: Any, x: Tensor) -> Tensor:
    """Return the array of rank ``size - 1 - rank``.

    "Sum from the last rank down to this one" as "total minus sum up to this one" would lose digits.
    """
    if comm.size == 1:
        return x
    counts = [0] * comm.size
    counts[comm.size - 1 - comm.rank] = x.numel()
    return comm.alltoallv(x.reshape(-1), counts, counts).reshape(x.shape)


def _redistribute(comm: Any, x: Tensor, plan: Plan, back: Plan | None = None) -> Tensor:
    return comm.redistribute(x, plan)


def _redistribute_back(comm: Any, x: Tensor, plan: Plan) -> Tensor:
    """Bring every element back to where the plan took it from, and add up what was taken more than once."""
    if _moves_all_once(plan):
        return comm.redistribute(x, plan_redistribution(plan.dst, plan.src))
    src, dst = plan.src[comm.rank], plan.dst[comm.rank]
    out = x.new_zeros([stop - start for start, stop in src])
    own = plan.own(comm.rank)
    if own is not None:
        out[_index(src, own)] = x[_index(dst, own)]
    taken, given = _by_rank(plan.receives(comm.rank)), _by_rank(plan.sends(comm.rank))
    parts = [x.new_empty(0), *(x[_index(dst, box)].reshape(-1) for _, box in taken)]
    packed = comm.alltoallv(torch.cat(parts), _count(taken, comm.size), _count(given, comm.size))
    start = 0
    for _, box in given:
        part = out[_index(src, box)]
        part += packed[start : start + volume(box)].reshape(part.shape)
        start += volume(box)
    return out


@functools.lru_cache(maxsize=512)
def _moves_all_once(plan: Plan) -> bool:
    """Tell whether both placements divide the same array without overlap."""
    src, dst = _find_partition(plan.src), _find_partition(plan.dst)
    return src is not None and dst is not None and src[1] == dst[1]


def _by_rank(pieces: list[tuple[int, Box]]) -> list[tuple[int, Box]]:
    return sorted(pieces, key=lambda piece: piece[0])  # stable: the pieces of a pair keep their order


def _count(pieces: list[tuple[int, Box]], size: int) -> tuple[int, ...]:
    counts = [0] * size
    for rank, box in pieces:
        counts[rank] += volume(box)
    return tuple(counts)


def _index(held: Box, box: Box) -> tuple:
    """Return the index of the part `box` of an array that is the block `held`."""
    return (..., *(slice(a - origin, b - origin) for (a, b), (origin, _) in zip(box, held)))


def _to_local(comm: Any, x: Tensor) -> Tensor:
    return x


def _block(comm: Any, x: Tensor, counts: tuple[int, ...], axis: int) -> Tensor:
    return x.narrow(axis, sum(counts[: comm.rank]), counts[comm.rank]).clone()


def _at_root(comm: Any, x: Tensor, root: int, shape: tuple[int, ...]) -> Tensor:
    return x if comm.rank == root else x.new_zeros(shape)


TABLE: dict[str, Row] = {
    # rank-local -> rank-local
    "allreduce": Row(_allreduce, "allreduce"),
    "reduce": Row(_reduce, "bcast"),
    "bcast": Row(_bcast, "reduce"),
    "allgatherv": Row(_allgatherv, "reduce_scatterv"),
    "reduce_scatterv": Row(_reduce_scatterv, "allgatherv"),
    "gatherv": Row(_gatherv, "scatterv"),
    "scatterv": Row(_scatterv, "gatherv"),
    "alltoallv": Row(_alltoallv, "alltoallv", ("send_counts", "recv_counts")),
    "sendrecv": Row(_sendrecv, "sendrecv", ("dest", "source")),
    "scan": Row(_scan, "scan_back"),
    "scan_back": Row(_scan_back, "scan"),
    "exscan": Row(_exscan, "exscan_back"),
    "exscan_back": Row(_exscan_back, "exscan"),
    "redistribute": Row(_redistribute, "redistribute_back"),
    "redistribute_back": Row(_redistribute_back, "redistribute"),
    # rank-local -> replicated, and the other way
    "allreduce_replicated": Row(_allreduce, "to_local"),
    "to_local": Row(_to_local, "allreduce_replicated"),
    "allgatherv_replicated": Row(_allgatherv, "block"),
    "block": Row(_block, "allgatherv_replicated"),
    "bcast_replicated": Row(_bcast, "at_root"),
    "at_root": Row(_at_root, "bcast_replicated"),
    # split or replicated -> split or replicated
    "redistribute_replicated": Row(_redistribute, "redistribute_replicated", ("plan", "back")),
}
