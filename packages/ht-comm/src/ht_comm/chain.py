"""The chain of collectives that a backward pass runs through: what is behind `ht_comm.autograd.Tape`.

Each recorded collective is a `_Node` of torch's graph with two operands and two results: the tensor, and a token
that comes from the node before it and goes to the next one. Whoever starts a backward pass at the last token
reaches every node, in reverse order, whatever has become of the tensors.

The chain holds the graph until the backward pass is over; nodes hold it weakly, so that a tape that is dropped
takes everything with it.
"""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .adjoints import TABLE
from .communicator import Communicator


class _Step(NamedTuple):
    """What a node knows: the adjoint it has to run, and the chain it belongs to."""

    chain: "weakref.ref[Chain]"  # weak: the chain holds the graph, and the graph holds this
    generation: int
    comm: Communicator
    adjoint: str
    facts: dict[str, Any]


class _Node(torch.autograd.Function):
    """One collective in torch's graph. Its value has been computed already; it saves no tensor."""

    @staticmethod
    def forward(ctx, x: Tensor, token: Tensor, value: tuple[Tensor], step: _Step) -> tuple[Tensor, Tensor]:
        ctx.step = step
        return value[0], torch.empty_like(token)

    @staticmethod
    def backward(ctx, grad: Tensor, token_grad: Tensor) -> tuple[Tensor | None, ...]:
        step = ctx.step
        chain = step.chain()
        if chain is None or not chain.is_running:
            raise RuntimeError(
                "Tape.backward: the backward pass must be started by the tape, got torch's own; "
                "call tape.backward(loss) instead of loss.backward(), so that no rank is left waiting"
            )
        if step.generation != chain.generation:
            raise RuntimeError(
                "Tape.backward: each recorded collective must be used by one backward pass, got a second one; "
                "add the losses up, or give the first pass retain_graph=True"
            )
        return chain.apply(step.comm, step.adjoint, grad, step.facts), token_grad, None, None


class Logged(NamedTuple):
    """The result of a call in a checkpointed function."""

    where: str
    value: Tensor | None
    version: int


Log = list[Logged]


class Chain:
    """What all views of a tape share: the chain of nodes, and what is being done with it."""

    def __init__(self) -> None:
        self.is_open = True
        self.is_running = False
        self.generation = 0
        self.logs: tuple[Log, ...] = ()  # of the checkpointed functions that run, outermost first
        self.replay: Iterator[Logged] | None = None  # of the one that is run again
        self.clear()

    def clear(self) -> None:
        """Let go of all nodes."""
        self.generation += 1
        self.first = self.last = torch.zeros((), requires_grad=True)

    def check(self, where: str) -> None:
        if not self.is_open:
            raise RuntimeError(f"{where}: the tape must be open, got a closed one; make a new one")
        if self.is_running and self.replay is None:
            raise RuntimeError(
                f"{where}: the tape must not be in its backward pass; "
                "give torch.utils.checkpoint use_reentrant=False and context_fn=tape.replay"
            )

    def result(self, where: str, call: Callable[[], Tensor | None]) -> Tensor | None:
        """Return the result of a call that sends messages; in a function that is run again, the former one."""
        self.check(where)
        if self.replay is not None:
            logged = next(self.replay, None)
            if logged is None or logged.where != where:
                raise RuntimeError(
                    f"{where}: a checkpointed function must make the same calls when it is run again, got "
                    f"{where} in place of {'nothing' if logged is None else logged.where}"
                )
            if logged.value is not None and logged.value._version != logged.version:
                raise RuntimeError(
                    f"{where}: the result must not be changed in place in a checkpointed function; copy it"
                )
            value = logged.value
        elif torch.is_grad_enabled():
            with torch.no_grad():
                value = call()
        else:  # the same without the cost of changing the mode
            value = call()
        if self.logs:
            kept = None if value is None else value.detach()
            logged = Logged(where, kept, 0 if kept is None else kept._version)
            for log in self.logs:
                log.append(logged)
        return value

    def attach(self, comm: Communicator, name: str, x: Tensor, value: Tensor, facts: dict) -> Tensor:
        """Return `value` as the result of row `name` on `x`, in the graph and on the chain."""
        if self.replay is not None:
            # Whoever runs a checkpointed function again only wants the tensors that its operations save.
            return value.detach().requires_grad_()
        row = TABLE[name]
        step = _Step(weakref.ref(self), self.generation, comm, row.adjoint, row.turned(facts, tuple(x.shape)))
        result, self.last = _Node.apply(x, self.last, (value,), step)
        return result

    def apply(self, comm: Communicator, name: str, x: Tensor, facts: dict) -> Tensor:
        """Run a row in the backward pass; with ``create_graph=True`` this makes nodes, too."""
        with torch.no_grad():
            value = TABLE[name].run(comm, x, **facts)
        return self.attach(comm, name, x, value, facts) if torch.is_grad_enabled() else value

    @contextmanager
    def running(self, keeps: bool) -> Iterator[None]:
        """Mark the backward pass; afterwards the nodes are let go of, unless they are kept for another one."""
        self.check("Tape.backward")
        self.is_running, is_done = True, False
        try:
            yield
            is_done = True
        finally:
            self.is_running = False
            if not (keeps and is_done):
                self.clear()


class Replay:
    """A context of a checkpointed function: the first time results are logged, later taken from the log."""

    def __init__(self, chain: Chain, log: Log, is_first: bool) -> None:
        self._chain = weakref.ref(chain)
        self._log = log
        self._is_first = is_first
        self._outer: list[tuple] = []

    def __enter__(self) -> None:
        chain = self._chain()
        self._outer.append((chain.logs, chain.replay))
        if self._is_first:
            chain.logs += (self._log,)
        else:
            chain.logs, chain.replay = (), iter(self._log)

    def __exit__(self, *exc_info: object) -> None:
        chain = self._chain()
        chain.logs, chain.replay = self._outer.pop()
