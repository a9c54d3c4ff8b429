"""Differentiable collectives: `Tape`.

>>> import torch, ht_comm
>>> from ht_comm.autograd import Tape
>>> comm = ht_comm.get_comm()
>>> x = torch.ones(3, requires_grad=True)
>>> with Tape(comm) as tape:
...     total = tape.allreduce(x, replicated=True)
...     tape.backward((total * total).sum())
>>> bool((x.grad == 2 * comm.size).all())
True

A tape has the collectives of a communicator, for torch tensors, and the backward pass. Each call becomes one node
of torch's graph, which on the way back calls the adjoint collective (`ht_comm.adjoints` has the table).

A backward pass sends messages, so all ranks must run through the same nodes in the same order, although their
graphs may differ: a rank may not use a result, detach it, use results in another order, or have an operand that
needs no gradient. Therefore every node is also strung on a chain that the loss is joined to: `Tape.backward`
reaches all nodes on all ranks, last made first, with zeros where nothing came. Whether a call makes a node
depends on the grad mode and the dtype alone, which all ranks share, never on ``x.requires_grad``.

This module needs torch; `ht_comm` does not import it.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from .adjoints import NOTHING, TABLE
from .buffers import inspect
from .chain import Chain, Log, Replay
from .communicator import Communicator
from .operators import find_reduction
from .redistribute import Plan, plan_redistribution


class Tape:
    """The differentiable collectives of a communicator.

    Parameters
    ----------
    comm : Communicator
        The ranks that take part. All of them make the tape, make the same calls on it in the same order, in the
        same grad mode, and start the backward pass.

    Notes
    -----
    *What is differentiated.* With `loss` a scalar on each rank, the gradient is that of the **sum over ranks** of
    these: every rank's part counts. A value every rank has a copy of, such as an allreduce's result, is by default
    p values: a loss computed from it on p ranks counts p times. With ``replicated=True`` the result is **one
    logical value** instead: what is computed from it alike on all ranks counts once, and its gradient is the same
    on every rank. A replicated value that is used together with rank-local values goes through `to_local` first
    (its ranks' gradients are added up there), or through `block` if each rank wants its part only.

    *Dtypes.* Nodes are made for floating-point and complex tensors; bool and integer ones pass through.
    Gradients of complex tensors follow torch: the derivative by the real part plus i times that by the imaginary
    part.

    *Cost.* Under ``torch.no_grad()`` a call is the communicator's own. The tape holds the graph of all that was
    recorded since the last backward pass: evaluate under ``torch.no_grad()``, or call `clear`.

    *Order.* `on` gives the tape of another communicator on the same chain: for programs that use several, of
    which some ranks are in one and some in another.

    *Threads.* On the CPU torch runs the backward pass in the calling thread, so ranks may be threads. On a GPU it
    has one thread for each device, so ranks must be processes.
    """

    def __init__(self, comm: Communicator, *, _chain: Chain | None = None) -> None:
        self.comm = comm
        self._chain = _chain or Chain()

    def on(self, comm: Communicator) -> "Tape":
        """Return the tape of another communicator, say one that was split off, on the same chain."""
        return Tape(comm, _chain=self._chain)

    def __enter__(self) -> "Tape":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def clear(self) -> None:
        """Forget what has been recorded. No message."""
        self._chain.clear()

    def close(self) -> None:
        """Forget what has been recorded and record no more. No message."""
        self._chain.clear()
        self._chain.is_open = False

    def replay(self) -> tuple[Replay, Replay]:
        """Return the contexts for a checkpointed function.

        ``torch.utils.checkpoint.checkpoint(f, x, use_reentrant=False, context_fn=tape.replay)`` keeps the results
        of the collectives in `f` and nothing else. When `f` is run again in the backward pass, which may happen
        on some ranks only, it sends nothing. All communication in `f` must be on the tape.
        """
        log: Log = []
        return Replay(self._chain, log, True), Replay(self._chain, log, False)

    # ----- backward passes

    def backward(
        self,
        loss: Tensor | Sequence[Tensor] | None,
        gradient: Tensor | Sequence[Tensor] | None = None,
        *,
        retain_graph: bool = False,
        create_graph: bool = False,
    ) -> None:
        """Add the gradient of the loss to the `grad` of every leaf it depends on, on any rank.

        Parameters
        ----------
        loss : Tensor or sequence of Tensor or None
            This rank's part of the loss. It may depend on nothing, or be None: the other ranks' may still depend
            on this rank's tensors.
        gradient : Tensor or sequence of Tensor, optional
            As in `torch.Tensor.backward`: what to start with where a loss is no scalar.
        retain_graph, create_graph : bool
            As in `torch.Tensor.backward`; the same on all ranks. Without them the tape is empty afterwards.

        Distribution
        ------------
        Collective. The adjoint of each recorded collective, last one first.
        """
        roots, seeds = _roots(loss, gradient)
        keeps = retain_graph or create_graph
        with self._chain.running(keeps):
            last = self._chain.last
            if last is not self._chain.first:
                roots, seeds = [*roots, last], [*seeds, torch.zeros_like(last)]
            if roots:
                torch.autograd.backward(roots, seeds, retain_graph=keeps, create_graph=create_graph)

    def grad(
        self,
        loss: Tensor | Sequence[Tensor] | None,
        inputs: Sequence[Tensor],
        gradient: Tensor | Sequence[Tensor] | None = None,
        *,
        retain_graph: bool = False,
        create_graph: bool = False,
    ) -> tuple[Tensor, ...]:
        """Return the gradients of the loss by some tensors of this rank; zeros where it does not depend on them.

        Parameters as for `backward`, and:

        inputs : sequence of Tensor
            May differ between ranks in number and in what they are. Those that need no gradient get zeros.

        Distribution
        ------------
        Collective. As `backward`.
        """
        roots, seeds = _roots(loss, gradient)
        wanted = [x for x in inputs if x.requires_grad]
        keeps = retain_graph or create_graph
        with self._chain.running(keeps):
            first, last = self._chain.first, self._chain.last
            # torch only runs what leads to an input: every node of the chain leads to its first link.
            found = torch.autograd.grad(
                [*roots, last],
                [*wanted, first],
                [*seeds, torch.zeros_like(last)],
                retain_graph=keeps,
                create_graph=create_graph,
                allow_unused=True,
            )
        gradients = iter(found)
        result = [next(gradients) if x.requires_grad else None for x in inputs]
        return tuple(torch.zeros_like(x) if g is None else g for x, g in zip(inputs, result))

    # ----- collectives on rank-local values

    def allreduce(self, x: Tensor, op: str = "sum", *, replicated: bool = False) -> Tensor:
        """Combine the tensors of all ranks; every rank gets the result. See `Communicator.allreduce`.

        Parameters
        ----------
        x : Tensor, the same shape and dtype on all ranks
            This rank's contribution.
        op : str
            ``sum``, ``max`` and ``min`` (the gradient is shared evenly between equal elements), ``prod`` or
            ``moments``; any on integers.
        replicated : bool
            The result is one logical value.

        Distribution
        ------------
        Collective. Forward: one message of ``x.nbytes``; two for ``max``, ``min`` and ``moments``; one allgather
        for ``prod``, so that zeros and higher derivatives are right. Backward: one message for each forward one
        that depends on `x`; none if `replicated`, but for ``moments``.
        """
        if not self._is_recorded("allreduce", x):
            return self._plain(x, op)
        if op == "sum":
            return self._call("allreduce_replicated" if replicated else "allreduce", x)
        if op in ("max", "min"):
            return self._extremum(x, op, replicated)
        if op == "prod":
            return self.allgather(x[None], replicated=replicated).prod(0)
        if op == "moments":
            return self._moments(x, replicated)
        raise ValueError(
            "Tape.allreduce: op must be sum, max, min, prod or moments to be differentiated, "
            f"got {op!r}; use torch.no_grad()"
        )

    def _extremum(self, x: Tensor, op: str, replicated: bool) -> Tensor:
        value = self._plain(x, op)
        with torch.no_grad():
            is_equal = (x == value) | (x.isnan() & value.isnan())
            count_type = torch.float64 if x.dtype == torch.float64 else torch.float32
            weight = is_equal.to(count_type)
        ties = self._chain.result("Tape.allreduce", lambda: self.comm.allreduce(weight))
        # Near x the result is this linear function of x; its value is known already.
        share = (weight / ties).to(x.dtype) * x
        name = "allreduce_replicated" if replicated else "allreduce"
        return self._chain.attach(self.comm, name, share, value, {})

    def _moments(self, x: Tensor, replicated: bool) -> Tensor:
        find_reduction("allreduce", "moments", inspect("allreduce", "x", x)[1], x.shape)  # or raises
        d = x.shape[-1] // 2
        n, mean, squares = x[..., :1], x[..., 1 : d + 1], x[..., d + 1 :]
        is_empty = n == 0  # then the rest may hold anything
        mean, squares = mean.masked_fill(is_empty, 0.0), squares.masked_fill(is_empty, 0.0)
        sums = self.allreduce(torch.cat([n, n * mean], -1), replicated=replicated)
        total = sums[..., :1]
        center = sums[..., 1:] / total.masked_fill(total == 0, 1.0)
        delta = mean - (self.to_local(center) if replicated else center)
        spread = self.allreduce(squares + n * delta * delta, replicated=replicated)
        return torch.cat([total, center, spread], -1)

    def reduce(self, x: Tensor, op: str = "sum", *, root: int = 0) -> Tensor | None:
        """Sum the tensors of all ranks; one rank gets the result. See `Communicator.reduce`.

        Distribution
        ------------
        Collective. Forward as `Communicator.reduce`. Backward: one broadcast.
        """
        if not self._is_linear("reduce", x, op):
            return self._result("reduce", x, lambda: self.comm.reduce(x, op, root=root))
        return self._at(root, self._call("reduce", x, root=root, shape=NOTHING))

    def bcast(self, x: Tensor, root: int = 0, *, replicated: bool = False) -> Tensor:
        """Return the root's tensor on every rank. See `Communicator.bcast`.

        Parameters
        ----------
        x : Tensor, the same shape and dtype on all ranks
            The root's is sent. On the other ranks only shape and dtype matter: unlike with a communicator it is
            not overwritten, and its gradient is zero.
        root : int
            The rank whose values are sent.
        replicated : bool
            The result is one logical value.

        Returns
        -------
        Tensor
            A new one.

        Distribution
        ------------
        Collective. Forward: one broadcast. Backward: one reduction to the root, none if `replicated`.
        """
        name = "bcast_replicated" if replicated else "bcast"
        return self._call(name, x, root=root, shape=tuple(_shape("bcast", x)))

    def allgather(self, x: Tensor, *, axis: int = 0, replicated: bool = False) -> Tensor:
        """Concatenate the tensors of all ranks, of equal shape; every rank gets the result. See `allgatherv`."""
        return self.allgatherv(x, self._extents("allgather", x, axis), axis=axis, replicated=replicated)

    def allgatherv(
        self, x: Tensor, counts: tuple[int, ...], *, axis: int = 0, replicated: bool = False
    ) -> Tensor:
        """Concatenate the tensors of all ranks; every rank gets the result. See `Communicator.allgatherv`.

        Distribution
        ------------
        Collective. Forward: one allgather. Backward: one reduce-scatter, nothing if `replicated`.
        """
        name = "allgatherv_replicated" if replicated else "allgatherv"
        return self._call(name, x, counts=counts, axis=axis)

    def reduce_scatterv(
        self, x: Tensor, counts: tuple[int, ...], op: str = "sum", *, axis: int = 0
    ) -> Tensor:
        """Sum the tensors of all ranks; each gets its block. See `Communicator.reduce_scatterv`.

        Distribution
        ------------
        Collective. Forward: one reduce-scatter. Backward: one allgather.
        """
        if not self._is_linear("reduce_scatterv", x, op):
            return self._result(
                "reduce_scatterv", x, lambda: self.comm.reduce_scatterv(x, counts, op, axis=axis)
            )
        return self._call("reduce_scatterv", x, counts=counts, axis=axis)

    def reduce_scatter(self, x: Tensor, op: str = "sum", *, axis: int = 0) -> Tensor:
        """Sum the tensors of all ranks; each gets an equal block. See `reduce_scatterv`."""
        return self.reduce_scatterv(x, self._equal("reduce_scatter", x, axis), op, axis=axis)

    def gatherv(self, x: Tensor, counts: tuple[int, ...], *, axis: int = 0, root: int = 0) -> Tensor | None:
        """Concatenate the tensors of all ranks; one rank gets the result. See `Communicator.gatherv`.

        Distribution
        ------------
        Collective. Forward: one message from each rank. Backward: one to each rank.
        """
        return self._at(root, self._call("gatherv", x, counts=counts, axis=axis, root=root, shape=NOTHING))

    def gather(self, x: Tensor, *, axis: int = 0, root: int = 0) -> Tensor | None:
        """Concatenate the tensors of all ranks, of equal shape; one rank gets the result. See `gatherv`."""
        return self.gatherv(x, self._extents("gather", x, axis), axis=axis, root=root)

    def scatterv(
        self,
        x: Tensor | None,
        counts: tuple[int, ...],
        *,
        axis: int = 0,
        root: int = 0,
        like: Tensor | None = None,
    ) -> Tensor:
        """Give each rank its block of the root's tensor. See `Communicator.scatterv`.

        Distribution
        ------------
        Collective. Forward: one message to each rank, after a small broadcast where `like` is not given.
        Backward: one from each rank.
        """
        x = x if self.comm.rank == root else None
        value = self._chain.result(
            "Tape.scatterv", lambda: self.comm.scatterv(x, counts, axis=axis, root=root, like=like)
        )
        return self._scattered(x, value, tuple(counts), axis, root)

    def scatter(
        self, x: Tensor | None, *, axis: int = 0, root: int = 0, like: Tensor | None = None
    ) -> Tensor:
        """Divide the root's tensor into equal blocks. See `scatterv` and `Communicator.scatter`."""
        x = x if self.comm.rank == root else None
        value = self._chain.result(
            "Tape.scatter", lambda: self.comm.scatter(x, axis=axis, root=root, like=like)
        )
        return self._scattered(x, value, (value.shape[axis],) * self.comm.size, axis, root)

    def _scattered(
        self, x: Tensor | None, value: Tensor, counts: tuple[int, ...], axis: int, root: int
    ) -> Tensor:
        # Only now do all ranks know the dtype, and with it whether there is anything to record.
        if not self._is_recorded("scatterv", value):
            return value
        facts = {"counts": counts, "axis": axis, "root": root, "shape": tuple(value.shape)}
        operand = value.new_zeros(NOTHING) if x is None else x
        return self._chain.attach(self.comm, "scatterv", operand, value, facts)

    def alltoallv(
        self, x: Tensor, send_counts: tuple[int, ...], recv_counts: tuple[int, ...], *, axis: int = 0
    ) -> Tensor:
        """Send a block to each rank and join the blocks received. See `Communicator.alltoallv`.

        Distribution
        ------------
        Collective. Forward: one message for each non-empty block. Backward: the same the other way.
        """
        return self._call("alltoallv", x, send_counts=send_counts, recv_counts=recv_counts, axis=axis)

    def alltoall(self, x: Tensor, *, axis: int = 0) -> Tensor:
        """Send one of equal blocks to each rank. See `alltoallv` and `Communicator.alltoall`."""
        counts = self._equal("alltoall", x, axis)
        return self.alltoallv(x, counts, counts, axis=axis)

    def redistribute(self, x: Tensor, plan: Plan, *, replicated: bool = False) -> Tensor:
        """Move the blocks of an array to another placement. See `Communicator.redistribute`.

        Parameters
        ----------
        x : Tensor
            This rank's block before.
        plan : Plan
            The same on all ranks.
        replicated : bool
            What several ranks hold, before or after, is one logical value. Without it each copy is a value of its
            own, as the halos of a stencil are, and the gradients of all copies are added up where the element
            came from.

        Distribution
        ------------
        Collective. Forward: as planned. Backward: the reversed plan if `replicated`, or where neither placement
        has an element twice and none is dropped; else one alltoallv.

        Raises
        ------
        ValueError
            If `replicated` and the plan drops elements.
        """
        if not replicated:
            return self._call("redistribute", x, plan=plan)
        try:
            back = plan_redistribution(plan.dst, plan.src)
        except ValueError as error:
            raise ValueError(
                "Tape.redistribute: plan must keep every element if replicated, got one whose dst lacks some of src; "
                "use replicated=False"
            ) from error
        return self._call("redistribute_replicated", x, plan=plan, back=back)

    def scan(self, x: Tensor, op: str = "sum") -> Tensor:
        """Sum the tensors of ranks ``0 .. rank``. See `Communicator.scan`.

        Distribution
        ------------
        Collective. Forward: one scan. Backward: one scan from the last rank to the first, between two exchanges
        of each rank with its mirror image.
        """
        if not self._is_linear("scan", x, op):
            return self._result("scan", x, lambda: self.comm.scan(x, op))
        return self._call("scan", x)

    def exscan(self, x: Tensor, op: str = "sum") -> Tensor:
        """Sum the tensors of ranks ``0 .. rank - 1``; zeros on rank 0. See `scan` and `Communicator.exscan`."""
        if not self._is_linear("exscan", x, op):
            return self._result("exscan", x, lambda: self.comm.exscan(x, op))
        return self._call("exscan", x)

    # ----- messages between two ranks

    def send(self, x: Tensor, dest: int, tag: int = 0) -> None:
        """Send a tensor to one rank. Backward: receives its gradient."""
        self._call("sendrecv", x, dest=dest, source=None, shape=NOTHING, tag=tag)

    def recv(self, like: Tensor, source: int, tag: int = 0) -> Tensor:
        """Return a new tensor received from one rank, of shape and dtype of `like`. Backward: sends its gradient."""
        shape = tuple(_shape("recv", like))
        return self._call("sendrecv", like.new_zeros(NOTHING), dest=None, source=source, shape=shape, tag=tag)

    def sendrecv(self, x: Tensor, dest: int | None, like: Tensor, source: int | None, tag: int = 0) -> Tensor:
        """Send a tensor to one rank and return one received from another.

        Parameters
        ----------
        x : Tensor
            What is sent.
        like : Tensor
            Shape and dtype of what is received. Not overwritten.
        dest, source : int or None
            None at an open end: nothing is sent; zeros are returned.
        tag : int
            Tag of both messages.

        Distribution
        ------------
        Forward: at most one message. Backward: the gradient the other way.
        """
        return self._call(
            "sendrecv", x, dest=dest, source=source, shape=tuple(_shape("sendrecv", like)), tag=tag
        )

    # ----- from replicated to rank-local

    def to_local(self, x: Tensor) -> Tensor:
        """Return a replicated value as this rank's own, to be used together with rank-local values.

        Distribution
        ------------
        Collective. Forward: nothing is sent; the result is `x`. Backward: one allreduce.
        """
        return self._call("to_local", x)

    def block(self, x: Tensor, counts: tuple[int, ...], *, axis: int = 0) -> Tensor:
        """Return this rank's block of a replicated value.

        Parameters
        ----------
        x : Tensor, the same on all ranks
            ``x.shape[axis] == sum(counts)``.
        counts : tuple of int
            Extent of every rank's block along `axis`.
        axis : int
            The axis that is divided.

        Distribution
        ------------
        Collective. Forward: nothing is sent. Backward: one allgather.
        """
        shape = _shape("block", x)
        axis = self.comm._check_axis("block", axis, len(shape))
        counts = self.comm._check_counts("block", "counts", counts, shape[axis])
        return self._call("block", x, counts=counts, axis=axis)

    # ----- how all of them are made

    def _call(self, name: str, x: Tensor, **facts: Any) -> Tensor:
        value = self._result(name, x, lambda: TABLE[name].run(self.comm, x, **facts))
        return self._chain.attach(self.comm, name, x, value, facts) if self._is_recorded(name, x) else value

    def _extents(self, where: str, x: Tensor, axis: int) -> tuple[int, ...]:
        """Return the counts of blocks that are all like `x`."""
        shape = _shape(where, x)
        return (shape[self.comm._check_axis(where, axis, len(shape))],) * self.comm.size

    def _equal(self, where: str, x: Tensor, axis: int) -> tuple[int, ...]:
        """Return the counts of equal blocks that make up `x`."""
        axis = self.comm._check_axis(where, axis, len(_shape(where, x)))
        return (self.comm._check_divisible(where, x, axis),) * self.comm.size

    def _plain(self, x: Tensor, op: str) -> Tensor:
        return self._result("allreduce", x, lambda: self.comm.allreduce(x, op))

    def _result(self, name: str, x: Tensor, call: Callable[[], Tensor | None]) -> Tensor | None:
        _shape(name, x)
        return self._chain.result(f"Tape.{name}", call)

    def _is_recorded(self, where: str, x: Tensor) -> bool:
        _shape(where, x)
        return torch.is_grad_enabled() and (x.dtype.is_floating_point or x.dtype.is_complex)

    def _is_linear(self, where: str, x: Tensor, op: str) -> bool:
        """Tell whether a sum is to be recorded; refuse other operators where they would have to be."""
        is_recorded = self._is_recorded(where, x)
        if is_recorded and op != "sum":
            raise ValueError(
                f"Tape.{where}: op must be 'sum' to be differentiated, got {op!r}; "
                "use Tape.allreduce, or torch.no_grad()"
            )
        return op == "sum"

    def _at(self, root: int, x: Tensor | None) -> Tensor | None:
        return x if self.comm.rank == root else None


def _shape(where: str, x: Any) -> tuple[int, ...]:
    if not isinstance(x, Tensor):
        raise TypeError(f"Tape.{where}: x must be a torch tensor, got {type(x).__name__}")
    return x.shape


def _roots(loss: Any, gradient: Any) -> tuple[list[Tensor], list[Tensor]]:
    """Return the losses that depend on anything, and what to start with."""
    losses = _as_list(loss)
    seeds = [None] * len(losses) if gradient is None else _as_list(gradient)
    if len(seeds) != len(losses):
        raise ValueError(
            f"Tape.backward: gradient must have one entry for each loss, got {len(seeds)} for {len(losses)}"
        )
    pairs = [
        (x, _ones_like(x) if seed is None else seed)
        for x, seed in zip(losses, seeds)
        if x is not None  # nothing else is asked before all are checked: a rank may have detached its loss
    ]
    return [x for x, _ in pairs if x.requires_grad], [seed for x, seed in pairs if x.requires_grad]


def _ones_like(loss: Tensor) -> Tensor:
    if loss.numel() != 1 or loss.is_complex():
        raise ValueError(
            "Tape.backward: loss must be one real number where no gradient is given, "
            f"got {loss.dtype} of shape {tuple(loss.shape)}"
        )
    return torch.ones_like(loss)


def _as_list(x: Any) -> list:
    if x is None:
        return []
    return list(x) if isinstance(x, Iterable) and not isinstance(x, Tensor) else [x]
