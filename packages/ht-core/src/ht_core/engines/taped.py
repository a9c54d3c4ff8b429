"""The communicator that operations see while they are recorded: collectives that can be differentiated.

Two readings of the same code, see ``ht_comm.autograd``:

* *local* (the default, right for any code): every rank's tensors are its own values, and what is differentiated is
  the sum over ranks. The recorder divides the gradient of a replicated result by p and adds up the ranks' gradients
  of a replicated operand.
* *logical* (engines that say so): a replicated tensor is one value. A reduction to replicated hands its gradient
  back as it is, a slice of a replicated operand gathers, and an operand that every rank uses whole to compute
  its own rows passes `to_local`, whose way back is one allreduce.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ht_comm import plan_redistribution
from ht_comm.autograd import Tape
from ht_comm.neighbours import plan_halo

from ..errors import GradientError
from .monoid import merge_central

if TYPE_CHECKING:
    from ht_comm import Communicator

Tensor = torch.Tensor
#: Calls that send values and have no adjoint here.
_REFUSED = frozenset(
    [
        "isend",
        "irecv",
        "send",
        "recv",
        "sendrecv",
        "reduce",
        "ring",
        "gather",
        "scatter",
        "gatherv",
        "scatterv",
        "iallreduce",
        "ireduce",
        "ibcast",
        "iallgather",
        "iallgatherv",
        "igather",
        "igatherv",
        "iscatterv",
        "iscatter",
        "ialltoall",
        "ialltoallv",
        "ireduce_scatter",
        "ireduce_scatterv",
        "iscan",
        "iexscan",
        "allreduce_pairs",
    ]
)


class TapedComm:
    """A communicator whose collectives are recorded; anything that carries no values is the original's."""

    def __init__(self, comm: Communicator, is_logical: bool) -> None:
        self.origin, self.is_logical = comm, is_logical
        self.size, self.rank = comm.size, comm.rank
        self._tape: Tape | None = None

    @property
    def is_used(self) -> bool:
        """Whether a collective has been recorded. The same on all ranks."""
        return self._tape is not None

    @property
    def tape(self) -> Tape:
        """The tape, made when it is first needed."""
        if self._tape is None:
            self._tape = Tape(self.origin)
        return self._tape

    def __getattr__(self, name: str) -> Any:  # reached for what is not defined here
        found = getattr(self.origin, name)
        return _refusing(name, found) if name in _REFUSED else found

    def allreduce(self, x: Tensor, op: Any = "sum", *, out: Tensor | None = None) -> Tensor:
        """See `Communicator.allreduce`; `out` is not overwritten where it is `x`, which may be needed for gradients."""
        if _is_constant(x):
            return self.origin.allreduce(x, op, out=out)
        merge = _merge_of(op)
        if merge is None:
            result = self.tape.allreduce(x, op, replicated=self.is_logical)
        else:
            parts = self.tape.allgather(x[None], replicated=self.is_logical)
            result = functools.reduce(merge, parts.unbind(0))
        return result if out is None or out is x else out.copy_(result)

    def bcast(self, x: Tensor, root: int = 0) -> Tensor:
        """See `Communicator.bcast`."""
        if _is_constant(x):
            return self.origin.bcast(x, root)
        return x.copy_(self.tape.bcast(x, root, replicated=self.is_logical))

    def allgather(self, x: Tensor, *, axis: int = 0, out: Tensor | None = None) -> Tensor:
        """See `Communicator.allgather`."""
        if _is_constant(x):
            return self.origin.allgather(x, axis=axis, out=out)
        return _into(out, self.tape.allgather(x, axis=axis, replicated=self.is_logical))

    def allgatherv(
        self, x: Tensor, counts: tuple[int, ...], *, axis: int = 0, out: Tensor | None = None
    ) -> Tensor:
        """See `Communicator.allgatherv`."""
        if _is_constant(x):
            return self.origin.allgatherv(x, counts, axis=axis, out=out)
        return _into(out, self.tape.allgatherv(x, counts, axis=axis, replicated=self.is_logical))

    def reduce_scatterv(
        self, x: Tensor, counts: tuple[int, ...], op: Any = "sum", *, axis: int = 0, out: Tensor | None = None
    ) -> Tensor:
        """See `Communicator.reduce_scatterv`."""
        if _is_constant(x):
            return self.origin.reduce_scatterv(x, counts, op, axis=axis, out=out)
        return _into(out, self.tape.reduce_scatterv(x, counts, op, axis=axis))

    def alltoallv(
        self,
        x: Tensor,
        send_counts: tuple[int, ...],
        recv_counts: tuple[int, ...],
        *,
        axis: int = 0,
        out: Tensor | None = None,
    ) -> Tensor:
        """See `Communicator.alltoallv`."""
        if _is_constant(x):
            return self.origin.alltoallv(x, send_counts, recv_counts, axis=axis, out=out)
        return _into(out, self.tape.alltoallv(x, send_counts, recv_counts, axis=axis))

    def alltoall(self, x: Tensor, *, axis: int = 0, out: Tensor | None = None) -> Tensor:
        """See `Communicator.alltoall`."""
        if _is_constant(x):
            return self.origin.alltoall(x, axis=axis, out=out)
        return _into(out, self.tape.alltoall(x, axis=axis))

    def redistribute(self, x: Tensor, plan: Any, *, out: Tensor | None = None) -> Tensor:
        """See `Communicator.redistribute`."""
        # In logical code an operand that needs no gradient is known as such on every rank.
        if _is_constant(x) or (self.is_logical and not x.requires_grad):
            return self.origin.redistribute(x, plan, out=out)
        return _into(out, self.tape.redistribute(x, plan, replicated=self.is_logical))

    def halo(
        self,
        x: Tensor,
        before: int,
        after: int,
        counts: tuple[int, ...],
        *,
        axis: int = 0,
        periodic: bool = False,
        out: Tensor | None = None,
    ) -> Tensor:
        """See `Communicator.halo`: every rank's rows and their surroundings are boxes that overlap."""
        if _is_constant(x):
            return self.origin.halo(x, before, after, counts, axis=axis, periodic=periodic, out=out)
        if periodic:
            return _into(out, self._periodic_halo(x, axis % x.ndim, (tuple(counts), before, after, True)))
        axis, n = axis % x.ndim, sum(counts)
        starts = [sum(counts[:rank]) for rank in range(self.size)]
        held = [(start, start + count) for start, count in zip(starts, counts)]
        wide = [(max(start - before, 0), min(stop + after, n)) for start, stop in held]
        whole = [(0, extent) for extent in x.shape]
        source, target = (
            tuple((*whole[:axis], rows, *whole[axis + 1 :]) for rows in each) for each in (held, wide)
        )
        return _into(out, self.tape.redistribute(x, plan_redistribution(source, target)))

    def _periodic_halo(self, x: Tensor, axis: int, facts: tuple) -> Tensor:
        """Return this rank's rows and their surroundings; what comes, also from the rank itself, in one alltoallv."""
        plans = plan_halo(*facts)
        mine = [
            piece for rank in range(self.size) for piece in plans[self.rank].receives if piece.source == rank
        ]
        asked = [
            (rank, piece)
            for rank, plan in enumerate(plans)
            for piece in plan.receives
            if piece.source == self.rank
        ]
        sends, counts = [0] * self.size, [0] * self.size
        for rank, piece in asked:
            sends[rank] += piece.count
        for piece in mine:
            counts[piece.source] += piece.count
        rows = [x.narrow(axis, 0, 0), *(x.narrow(axis, piece.start, piece.count) for _, piece in asked)]
        got = self.tape.alltoallv(torch.cat(rows, dim=axis), tuple(sends), tuple(counts), axis=axis)
        pieces = got.split([piece.count for piece in mine], dim=axis)
        placed = sorted(zip((piece.target for piece in mine), range(len(mine))))
        before = [pieces[i] for target, i in placed if target < plans[self.rank].before]
        after = [pieces[i] for target, i in placed if target >= plans[self.rank].before]
        return torch.cat([*before, x, *after], dim=axis)

    def exchange(self, sends: object, receives: object) -> None:
        """Refuse: a rank without pieces does not know what the others differentiate. See `exchange` below."""
        raise GradientError(
            "exchange: the operation must communicate by collectives that have an adjoint, got exchange; "
            "use engines.taped.exchange"
        )

    def scan(self, x: Tensor, op: Any = "sum", *, out: Tensor | None = None) -> Tensor:
        """See `Communicator.scan`."""
        if _is_constant(x):
            return self.origin.scan(x, op, out=out)
        if op == "prod":
            return _into(out, self._product(x, self.rank + 1))
        return _into(out, self.tape.scan(x, op))

    def exscan(self, x: Tensor, op: Any = "sum", *, out: Tensor | None = None) -> Tensor:
        """See `Communicator.exscan`."""
        if _is_constant(x):
            return self.origin.exscan(x, op, out=out)
        if op == "prod":
            return _into(out, self._product(x, self.rank))
        return _into(out, self.tape.exscan(x, op))

    def _product(self, x: Tensor, n: int) -> Tensor:
        """Return the product of the first `n` ranks; from all factors, for a quotient would be wrong at zeros."""
        return self.tape.allgather(x[None])[:n].prod(0)


def _is_constant(x: object) -> bool:
    """Tell whether values of this kind have no gradient: a function of the dtype, which all ranks share."""
    return not isinstance(x, Tensor) or not (x.dtype.is_floating_point or x.dtype.is_complex)


def _merge_of(op: Any) -> Callable[[Tensor, Tensor], Tensor] | None:
    """Return how two operands of an operator of our own merge, in terms of torch; None for ht-comm's operators."""
    name = getattr(op, "name", "")
    if name in ("fmax", "fmin"):
        return getattr(torch, name)
    if name.startswith("moments"):
        return lambda a, b: torch.stack(merge_central(a.unbind(-1), b.unbind(-1)), -1)
    return None


def _into(out: Tensor | None, result: Tensor) -> Tensor:
    return result if out is None else out.copy_(result)


def _refusing(name: str, method: Callable) -> Callable:
    def call(*args: object, **kwargs: object) -> object:
        for value in (*args, *kwargs.values()):
            is_array = isinstance(value, (Tensor, np.ndarray))
            if is_array and (
                value.dtype.is_floating_point if isinstance(value, Tensor) else value.dtype.kind in "fc"
            ):
                raise GradientError(
                    f"{name}: the operation must communicate by collectives that have an adjoint, got {name}: "
                    "it has no derivative; use x.detach() or ht.no_grad()"
                )
        return method(*args, **kwargs)

    return call


# -- what engines of logical code call where no message is sent ----------------------------------------------------


def is_logical(comm: object) -> bool:
    """Tell whether an operation is being recorded in the logical reading."""
    return type(comm) is TapedComm and comm.is_logical


def use_whole(local: Tensor, comm: Communicator) -> Tensor:
    """Return a replicated operand for use with this rank's rows. The way back is one allreduce."""
    if local.requires_grad and is_logical(comm):
        return comm.tape.to_local(local)
    return local


def cut(local: Tensor, counts: tuple[int, ...], axis: int, comm: Communicator) -> Tensor:
    """Return this rank's rows of a replicated operand. The way back is one allgather."""
    if local.requires_grad and is_logical(comm):
        return comm.tape.block(local, counts, axis=axis)
    return local.narrow(axis, sum(counts[: comm.rank]), counts[comm.rank])


def landing(out: Tensor, comm: Communicator) -> Tensor:
    """Return `out`, new memory that is to be filled piece by piece; call it before views of it are made.

    torch lets no view be written to that was made before its base was part of a graph.
    """
    if type(comm) is TapedComm and not _is_constant(out):
        out.add_(torch.zeros((), dtype=out.dtype, device=out.device, requires_grad=True))
    return out


def exchange(comm: Communicator, sends: list[tuple], receives: list[tuple], like: Tensor) -> None:
    """Do ``comm.exchange(sends, receives)``, recorded where values of the dtype of `like` have gradients.

    A recorded exchange is one alltoallv, which has an adjoint, and all pieces have the dtype of `like`: every rank
    takes part, whether or not it has a piece.
    """
    if type(comm) is not TapedComm:
        comm.exchange(sends, receives)
        return
    if _is_constant(like):
        comm.origin.exchange(sends, receives)
        return
    sends = sorted(sends, key=lambda piece: piece[0])
    receives = sorted(receives, key=lambda piece: piece[0])
    counts = [[0] * comm.size, [0] * comm.size]
    for each, pieces in zip(counts, (sends, receives)):
        for peer, x, *_ in pieces:
            each[peer] += x.numel()
    flat = torch.cat([like.new_empty(0), *(x.reshape(-1) for _, x in sends)])
    got = comm.tape.alltoallv(flat, tuple(counts[0]), tuple(counts[1]))
    start = 0
    for _, view, *flip in receives:
        part = got[start : start + view.numel()].reshape(view.shape)
        # A new view: torch refuses to write to one made before its array first got a gradient.
        view.view_as(view).copy_(part.flip(flip[0]) if flip and flip[0] else part)
        start += view.numel()
    if not start:  # nothing arrives, yet the result comes of the exchange
        like[..., :0].copy_(got.reshape(*like.shape[:-1], 0))
