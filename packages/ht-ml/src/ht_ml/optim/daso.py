"""DASO: nodes synchronise within themselves at every batch, with each other now and then, without waiting."""

from __future__ import annotations

from typing import Any

import torch
from ht_comm import Communicator, get_comm

from ..nn.data_parallel import DataParallel
from ..nn.same_everywhere import broadcast_tensors
from .daso_schedule import DasoSchedule
from .data_parallel_optimizer import LocalOptimizer
from .global_exchange import GlobalExchange, NodeGroups

_TRANSPORTS = (None, torch.bfloat16, torch.float16)


class DASO(LocalOptimizer):
    """Distributed asynchronous and selective optimization of a torch module.

    Gradients are averaged within a node after every batch. In the warm-up and cool-down epochs they are averaged over
    the nodes, too, which is synchronous training. In the cycling epochs, every `global_skip` batches one rank of each
    node (another one each time) starts to sum the parameters over the nodes; the result is mixed into the parameters
    some batches later, weighted against what has been learned meanwhile. When the loss stops to improve, the skips are
    divided by `skip_reduction_factor`, until they start again from the largest.

    Parameters
    ----------
    local_optimizer : torch.optim.Optimizer
        Of the module's parameters.
    total_epochs : int
        Length of the training.
    comm : Communicator, optional
        All ranks; the current communicator by default.
    warmup_epochs, cooldown_epochs : int
        Synchronous epochs at the beginning and at the end.
    scheduler : torch.optim.lr_scheduler.LRScheduler, optional
        Stepped at the end of each epoch.
    stability_level : float
        Relative improvement of the loss below which an epoch does not count as one.
    max_global_skips : int
        Batches between global exchanges, at most.
    downcast_type : torch.bfloat16, torch.float16 or None
        What is sent between nodes; None sends parameters as they are. Of parameters it is their change since the last
        exchange that is rounded, not their value.
    skip_reduction_factor : int
        See above.
    wait_factor : int
        Batches between sending and mixing: ``global_skip // wait_factor``, at least one.
    ranks_per_node : int, optional
        Consecutive ranks that count as a node; by default those that share memory.

    Raises
    ------
    TypeError, ValueError
        On every rank, if an argument is out of range.

    Notes
    -----
    *Distribution*: `set_model` broadcasts the weights. `step`, collective: nothing within a node beyond what
    `DataParallel` sends, and a broadcast of each sum. Between nodes, for n parameters: while blocking, one sum of n
    numbers of `downcast_type` per batch; while cycling, one in `global_skip` batches, which overlaps with `wait`
    batches. Only one rank per node sends them. All ranks must make the same number of steps. Most MPI libraries move
    messages only while they are called, which is once per batch; MPICH also in between with
    ``MPIR_CVAR_ASYNC_PROGRESS=1``.

    Heat's `sending_chunk_size`, `use_mpi_groups`, `local_skip_factor` and `verbose` have no counterpart: vectors
    are sent whole, and nodes synchronise within themselves at every batch.

    After the paper: synchronous nodes, speakers that take turns, synchronous warm-up and cool-down, skips that shrink
    on a plateau and start again, and the weights of the mixing: with S batches between sending and mixing, and P
    nodes, parameters x of a rank and x_i of the nodes when they were sent, the new parameters are
    ``(2 S x + sum_i x_i) / (2 S + P)``.

    Choices of this implementation: sums in half precision are added in float32 and rounded once; of parameters their
    change since the last common point is rounded; floating buffers are mixed like parameters; before the cool-down and
    at the end, parameters, buffers and the optimizer's state are averaged in full precision, which makes all ranks
    equal. Give `epoch_loss_logic` the mean loss over the epoch: a noisy one looks like a plateau.

    References
    ----------
    D. Coquelin, C. Debus, M. Götz, F. von der Lehr, J. Kahn, M. Siggel, A. Streit, "Accelerating neural network
    training with distributed asynchronous and selective optimization (DASO)", Journal of Big Data 9 (2022),
    doi 10.1186/s40537-021-00556-1.

    Examples
    --------
    >>> net = torch.nn.Linear(2, 1)
    >>> daso = ht.optim.DASO(torch.optim.SGD(net.parameters(), lr=0.1), 3, warmup_epochs=1, cooldown_epochs=1)
    >>> model = daso.set_model(net)
    >>> for epoch in range(3):
    ...     for batch in range(4):
    ...         daso.zero_grad()
    ...         loss = model(torch.ones(4, 2)).square().mean()
    ...         loss.backward()
    ...         daso.step()
    ...     phase = daso.phase
    ...     mean = daso.epoch_loss_logic(loss)
    >>> phase, mean < 1e-3
    ('cool-down', True)
    """

    def __init__(
        self,
        local_optimizer: torch.optim.Optimizer,
        total_epochs: int,
        comm: Communicator | None = None,
        warmup_epochs: int = 4,
        cooldown_epochs: int = 4,
        scheduler: Any = None,
        stability_level: float = 0.05,
        max_global_skips: int = 8,
        downcast_type: torch.dtype | None = torch.bfloat16,
        skip_reduction_factor: int = 2,
        *,
        wait_factor: int = 4,
        ranks_per_node: int | None = None,
    ) -> None:
        super().__init__("DASO", local_optimizer)
        if downcast_type not in _TRANSPORTS:
            raise ValueError(
                f"DASO: downcast_type must be torch.bfloat16, torch.float16 or None, got {downcast_type!r}"
            )
        if ranks_per_node is not None and ranks_per_node < 1:
            raise ValueError(f"DASO: ranks_per_node must be at least 1, got {ranks_per_node!r}")
        self.schedule = DasoSchedule(
            total_epochs,
            warmup_epochs,
            cooldown_epochs,
            max_global_skips,
            skip_reduction_factor,
            wait_factor,
            stability_level,
        )
        self.comm = get_comm() if comm is None else comm
        self.scheduler = scheduler
        self._groups = NodeGroups(self.comm, ranks_per_node)
        self._exchange = GlobalExchange(self._groups, downcast_type)
        self._scaler: Any = None
        self._module: torch.nn.Module | None = None
        self._model: DataParallel | None = None
        self._since = 0  # batches since the last message was started

    @property
    def phase(self) -> str:
        """One of "warm-up", "cycling" and "cool-down"."""
        return self.schedule.phase

    @property
    def global_skip(self) -> int:
        """Batches between two exchanges of the nodes while cycling."""
        return self.schedule.global_skip

    @property
    def global_bytes(self) -> int:
        """Bytes that this rank has sent between nodes."""
        return self._exchange.bytes

    def set_model(self, module: torch.nn.Module, **options: Any) -> DataParallel:
        """Return `module` for training; its backward passes average the gradients within the node.

        Parameters
        ----------
        module : torch.nn.Module
            Its parameters are those of the optimizer.
        **options
            Of `DataParallel`.

        Notes
        -----
        *Distribution*: collective; one broadcast per dtype over all ranks.
        """
        broadcast_tensors([*module.parameters(), *module.buffers()], self.comm)
        if self._model is not None:
            self._model.unwrap()
        self._module = module
        self._model = model = DataParallel(module, self._groups.node, self.local_optimizer, **options)
        self._trained = [p for p in module.parameters() if p.requires_grad]
        self._mixed = [*self._trained, *(b for b in module.buffers() if b.is_floating_point())]
        self._remember()
        return model

    def add_scaler(self, scaler: torch.amp.GradScaler) -> None:
        """Use a gradient scaler: `step` then also steps and updates it."""
        self._scaler = scaler

    def step(self, closure: None = None) -> None:
        """Step the optimizer, and synchronise the nodes if it is time. Collective; after a backward pass.

        Raises
        ------
        ValueError
            If there is a closure, or no model.
        """
        if closure is not None or self._module is None:
            got = "no model; call set_model first" if closure is None else "a closure"
            raise ValueError(f"DASO.step: gradients must come from a model made by set_model, got {got}")
        is_blocking = self.schedule.is_blocking and self._groups.nodes > 1
        if is_blocking:
            self._average_gradients()
        if self._scaler is None:
            self.local_optimizer.step()
        else:
            self._scaler.step(self.local_optimizer)
            self._scaler.update()
        if not is_blocking and self._groups.nodes > 1:
            self._cycle()

    def epoch_loss_logic(self, loss: Any, loss_globally_averaged: bool = False) -> float:
        """End an epoch: choose phase and skips of the next, and step the scheduler. Collective.

        Parameters
        ----------
        loss : float or 0-D tensor
            This rank's mean loss of the epoch.
        loss_globally_averaged : bool
            It is already the mean over the ranks, bit for bit the same on all.

        Returns
        -------
        float
            The mean over the ranks.

        Notes
        -----
        *Distribution*: one allgather of 8 bytes; `finalise` before the cool-down and after the last epoch.
        """
        mean = float(loss.detach() if isinstance(loss, torch.Tensor) else loss)
        if not loss_globally_averaged:
            mean = float(self.comm.allgather(torch.tensor([mean], dtype=torch.float64)).mean())
        was_blocking = self.schedule.is_blocking
        self.schedule.end_epoch(mean)
        is_last = self.schedule.epoch == self.schedule.total
        if is_last or (self.schedule.is_blocking and not was_blocking):
            self.finalise()
        elif was_blocking and not self.schedule.is_blocking:
            self._remember()
        if self.scheduler is not None:
            self.scheduler.step()
        return mean

    def finalise(self) -> None:
        """Make all ranks equal, in full precision: parameters, buffers, the optimizer's state. Collective.

        Done before the cool-down and after the last epoch; call it before saving at any other time.
        """
        if self._exchange.is_pending:
            self._exchange.finish()
        self._since = 0
        with self._exchange.counted():
            state = self._common_state()
            if self._scaler is not None:
                self._scaler.load_state_dict(self.comm.bcast_object(self._scaler.state_dict()))
        self._exchange.average([*self._module.parameters(), *self._module.buffers(), *state])
        self._remember()

    def reset(self) -> None:
        """Start the schedule from the beginning, and count bytes from zero."""
        self.schedule.epoch, self.schedule.global_skip = 0, self.schedule.largest
        self.schedule.detector.reset()
        self._exchange.bytes = 0

    def free(self) -> None:
        """Free the groups of ranks; the model and the optimizer stay usable by themselves. Collective."""
        if self._exchange.is_pending:
            self._exchange.finish()
        self._groups.free()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the optimizer and of the schedule; no message. Equal on all ranks after `finalise`."""
        return {"local_optimizer": self.local_optimizer.state_dict(), "schedule": self.schedule.get_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` returned; call it after the model's own state was loaded. No message."""
        self.local_optimizer.load_state_dict(state_dict["local_optimizer"])
        self.schedule.set_state(state_dict["schedule"])
        if self._module is not None:
            self._remember()

    # -- between nodes ------------------------------------------------------------------------------------------------

    def _remember(self) -> None:
        """Keep what all ranks have in common now: exchanges send the difference to it."""
        self._common = self._parameters()

    def _parameters(self) -> torch.Tensor:
        kinds = [x.dtype for x in self._mixed]
        widest = torch.float64 if torch.float64 in kinds else torch.float32
        return torch.cat([x.detach().reshape(-1).to(widest) for x in self._mixed])

    def _average_gradients(self) -> None:
        """Average over the nodes; what a node does not use counts as zero, what none uses keeps no gradient."""
        flags = torch.tensor([float(p.grad is not None) for p in self._trained], dtype=torch.float32)
        parts = [(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in self._trained]
        # The mean is formed on the way, so that sums of scaled gradients do not overflow before it.
        flat = torch.cat([*parts, flags.to(parts[0])]) / self._groups.nodes
        self._exchange.start(flat)
        summed = self._exchange.finish().to(flat.dtype)
        *parts, used = summed.split([*(p.numel() for p in self._trained), len(self._trained)])
        for p, part, is_used in zip(self._trained, parts, used.tolist()):
            if is_used:
                p.grad = part.view(p.shape).to(p.dtype)

    def _cycle(self) -> None:
        """After a local step: mix in what has arrived, send what is due."""
        self._since += 1
        if self._exchange.is_pending and self._since >= self.schedule.wait:
            self._mix(self._since)
        self._exchange.poll()
        if not self._exchange.is_pending and self._since >= self.schedule.global_skip:
            self._exchange.start(self._parameters() - self._common)
            self._since = 0

    @torch.no_grad()
    def _mix(self, waited: int) -> None:
        """Take in the sum over the nodes: (2 S x + sum_i x_i) / (2 S + P)."""
        nodes = self._groups.nodes
        change = self._exchange.finish().to(self._common.dtype)
        own = self._parameters()
        # sum_i x_i = P common + sum_i (x_i - common); the common point moves to the mean, on all ranks alike.
        mixed = own.mul_(2 * waited).add_(self._common, alpha=nodes).add_(change).div_(2 * waited + nodes)
        self._common.add_(change, alpha=1 / nodes)
        for x, part in zip(self._mixed, mixed.split([x.numel() for x in self._mixed])):
            x.copy_(part.view(x.shape))

    def _common_state(self) -> list[torch.Tensor]:
        """Return the optimizer's floating state tensors; a state that not all ranks have is dropped."""
        state = self.local_optimizer.state
        has = torch.tensor([bool(state.get(p)) for p in self._trained], dtype=torch.int64)
        everywhere = self.comm.allreduce(has, "min").tolist()
        found = []
        for p, is_there in zip(self._trained, everywhere):
            if is_there:
                values = (value for _, value in sorted(state[p].items()))
                found += [x for x in values if isinstance(x, torch.Tensor) and x.is_floating_point()]
            else:
                state.pop(p, None)
        return found
