"""`DataParallel`: a torch module whose gradients are those of the batches of all ranks together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from ht_comm import Communicator, get_comm
from torch.autograd import Variable

from .buckets import MEBI, plan_buckets
from .same_everywhere import broadcast_tensors, check_same_module


class DataParallel(torch.nn.Module):
    """Train a module on all ranks as on one: each rank brings its part of the batch.

    After ``loss.backward()`` every rank holds the same gradients, those of the mean loss over the samples of all
    ranks; any optimizer, scheduler, clipping or gradient scaler then does the same everywhere. The module is
    used as it is: rank 0's weights and buffers are broadcast, nothing is initialised anew.

    Parameters
    ----------
    module : torch.nn.Module
        The same architecture on every rank, on any device.
    comm : Communicator, optional
        The ranks that train together; the current communicator by default.
    optimizer : torch.optim.Optimizer, optional
        As in Heat; it is only checked to hold parameters of `module`.
    blocking_parameter_updates : bool
        Start the messages after the backward pass instead of within it.
    bucket_mb : float
        Most MiB of gradients in one message.
    batch_axis : int or None
        Axis of the first tensor argument that counts the samples, by which the ranks' gradients are weighted: right for
        losses that are a mean over the samples, with any uneven batches. None weights all ranks equally.
    reduction : "mean" or "sum"
        "sum" adds the gradients, for losses that are sums over the samples.
    sync_buffers : bool
        Average the buffers (running means of BatchNorm) with the gradients, in the same message; of integer
        buffers, the changes.

    Raises
    ------
    ValueError
        On every rank, if the modules differ between ranks, or an argument is out of range.

    Notes
    -----
    *Distribution*: collective. Made with one broadcast per dtype of the weights. Each synchronised backward pass: one
    non-blocking allreduce per bucket, of its gradients plus one number per parameter, started as soon as the bucket is
    complete, in the same order on every rank. ``forward`` sends nothing. Other collectives must not be started
    between the beginning and the end of a backward pass.

    A parameter that a rank does not use counts as zero there; one that no rank uses keeps no gradient. A rank with
    no sample adds nothing, even if its loss is NaN. A batch that goes to the inner module past this wrapper counts as
    one sample.

    Examples
    --------
    >>> model = ht.nn.DataParallel(torch.nn.Linear(3, 1))
    >>> model(torch.ones(4, 3)).mean().backward()
    >>> model.module.weight.grad.tolist()
    [[1.0, 1.0, 1.0]]
    >>> sorted(model.state_dict())
    ['bias', 'weight']
    """

    def __init__(
        self,
        module: torch.nn.Module,
        comm: Communicator | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        blocking_parameter_updates: bool = False,
        *,
        bucket_mb: float = 25,
        batch_axis: int | None = 0,
        reduction: str = "mean",
        sync_buffers: bool = True,
    ) -> None:
        super().__init__()
        if not isinstance(module, torch.nn.Module):
            raise TypeError(f"DataParallel: module must be a torch.nn.Module, got {type(module).__name__}")
        if not bucket_mb > 0:
            raise ValueError(f"DataParallel: bucket_mb must be positive, got {bucket_mb!r}")
        if reduction not in ("mean", "sum"):
            raise ValueError(f"DataParallel: reduction must be 'mean' or 'sum', got {reduction!r}")
        self.module = module
        self.comm = get_comm() if comm is None else comm
        self.batch_axis, self.reduction = batch_axis, reduction
        self._overlaps = not blocking_parameter_updates
        self._is_syncing, self._is_queued = True, False
        self._weight, self._is_counted, self._launched = 0.0, False, 0
        if optimizer is not None:
            _check_optimizer(module, optimizer)
        check_same_module("DataParallel", module, self.comm)
        broadcast_tensors([*module.parameters(), *module.buffers()], self.comm)
        trained = [p for p in module.parameters() if p.requires_grad]
        self.buckets = plan_buckets(trained, list(module.buffers()) if sync_buffers else [], bucket_mb * MEBI)
        self._hooks = [
            p.register_post_accumulate_grad_hook(partial(self._ready, number))
            for number, bucket in enumerate(self.buckets)
            for p in bucket.parameters
        ]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the module returns; count its samples once backward gets there. No message."""
        out = self.module(*args, **kwargs)
        if torch.is_grad_enabled():
            count, is_counted = self._samples((*args, *kwargs.values())), []
            for tensor in _tensors(out):
                if tensor.grad_fn is not None:
                    tensor.register_hook(partial(self._count, count, is_counted))
        return out

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Accumulate gradients in this rank alone; the next backward pass outside sends them all. No message."""
        before, self._is_syncing = self._is_syncing, False
        try:
            yield
        finally:
            self._is_syncing = before

    @contextmanager
    def join(self, step: torch.optim.Optimizer | Callable[[], Any]) -> Iterator[None]:
        """Let ranks run out of data at different times: who leaves the block early goes on with no samples.

        Parameters
        ----------
        step : torch.optim.Optimizer or callable
            What follows a backward pass: called after each one that the others still make. For an optimizer,
            ``step()`` and ``zero_grad()``; pass a function if there is more to do (a scheduler, a scaler).

        Notes
        -----
        *Distribution*: collective. The sum of the weights in each message tells all ranks whether anybody had data: no
        message more per step, one more round at the end.

        Examples
        --------
        >>> model = ht.nn.DataParallel(torch.nn.Linear(2, 1))
        >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> with model.join(sgd):
        ...     for step in range(1 + model.comm.rank):
        ...         sgd.zero_grad()
        ...         model(torch.ones(4, 2)).mean().backward()
        ...         sgd.step()
        """
        yield
        if isinstance(step, torch.optim.Optimizer):
            optimizer = step

            def step() -> None:
                optimizer.step()
                optimizer.zero_grad()

        while True:
            for p in self.module.parameters():
                p.grad = None
            if self.sync_gradients() == 0:
                return
            step()

    def sync_gradients(self) -> float:
        """Exchange the gradients now: for a rank that skips a backward pass, or after `no_sync`. Collective.

        Returns
        -------
        float
            The number of samples behind the gradients, over all ranks.
        """
        return self._finish()

    def unwrap(self) -> torch.nn.Module:
        """Return the module, trained by this rank alone from now on. No message."""
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._is_syncing = [], False
        return self.module

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the state of the module itself: it loads without this wrapper, and on any number of ranks."""
        return self.module.state_dict(*args, **kwargs)

    def load_state_dict(self, state_dict: Any, *args: Any, **kwargs: Any) -> Any:
        """Load a state of the module, the same on every rank. No message."""
        loaded = self.module.load_state_dict(state_dict, *args, **kwargs)
        for bucket in self.buckets:
            bucket.forget_changes()
        return loaded

    # -- within a backward pass ---------------------------------------------------------------------------------------

    def _samples(self, arguments: tuple) -> float:
        first = next(_tensors(arguments), None)
        if self.batch_axis is None or first is None or first.ndim == 0:
            return 1.0
        return float(first.shape[self.batch_axis])

    def _count(self, count: float, is_counted: list, grad: torch.Tensor) -> None:
        """Hook of an output. The first one of a backward pass to be reached counts the samples."""
        if not is_counted:
            is_counted.append(True)
            self._weight += count
            self._is_counted = True
            self._queue()

    def _queue(self) -> None:
        if self._is_syncing and not self._is_queued:
            self._is_queued = True
            Variable._execution_engine.queue_callback(self._finish)

    def _ready(self, number: int, _: torch.Tensor) -> None:
        """Hook of a parameter: its gradient is complete. Starts the buckets whose turn it is."""
        if not self._is_syncing:
            return
        self._queue()
        self.buckets[number].missing -= 1
        while (
            self._overlaps
            and self._launched < len(self.buckets)
            and self.buckets[self._launched].parameters
            and self.buckets[self._launched].missing <= 0
        ):
            self._launch()

    def _launch(self) -> None:
        # A backward pass that no output of this wrapper took part in counts as one sample.
        weight = self._weight if self._is_counted or not self._is_queued else 1.0
        self.buckets[self._launched].start(self.comm, weight, self.reduction == "mean")
        self._launched += 1

    def _finish(self) -> float:
        """Start what could not start, wait for all; the gradients are those of all ranks afterwards."""
        while self._launched < len(self.buckets):
            self._launch()
        totals = [bucket.finish(self.reduction == "mean") for bucket in self.buckets]
        self._weight, self._is_counted, self._launched, self._is_queued = 0.0, False, 0, False
        return totals[0] if totals else 0.0


def _tensors(tree: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors in nested tuples, lists and dicts."""
    if isinstance(tree, torch.Tensor):
        yield tree
    elif isinstance(tree, dict):
        yield from _tensors(tuple(tree.values()))
    elif isinstance(tree, (tuple, list)):
        for item in tree:
            yield from _tensors(item)


def _check_optimizer(module: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    own = set(map(id, module.parameters()))
    if any(id(p) not in own for group in optimizer.param_groups for p in group["params"]):
        raise ValueError(
            "DataParallel: optimizer must hold parameters of module, got others; make it from module.parameters()"
        )


def DataParallelMultiGPU(
    module: torch.nn.Module, optimizer: Any, comm: Communicator | None = None
) -> DataParallel:
    """Return `module` for training with DASO, as Heat's class of this name: ``optimizer.set_model(module)``.

    Parameters
    ----------
    module : torch.nn.Module
    optimizer : DASO
    comm : Communicator, optional
        Must be that of the optimizer, if given.

    Notes
    -----
    *Distribution*: collective; one broadcast per dtype over all ranks.
    """
    if comm is not None and comm is not optimizer.comm:
        raise ValueError("DataParallelMultiGPU: comm must be that of optimizer, got another one")
    return optimizer.set_model(module)
