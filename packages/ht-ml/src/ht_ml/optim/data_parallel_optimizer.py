"""`DataParallelOptimizer`: a torch optimizer for a `DataParallel` model, under the name that Heat's scripts use."""

from __future__ import annotations

from typing import Any

import torch


class LocalOptimizer(torch.optim.Optimizer):
    """A torch optimizer around another one, whose groups and state it shows as its own.

    It is an `Optimizer` so that schedulers and scalers take it.
    """

    # The constructor of Optimizer is not called: there are no groups and no state beside the inner one's.
    def __init__(self, op: str, optimizer: torch.optim.Optimizer) -> None:
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TypeError(
                f"{op}: optimizer must be a torch.optim.Optimizer, got {type(optimizer).__name__}"
            )
        self.local_optimizer = optimizer

    def __getattr__(self, name: str) -> Any:
        if name == "local_optimizer":  # not there yet: while being copied or unpickled
            raise AttributeError(name)
        return getattr(self.local_optimizer, name)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.local_optimizer!r})"

    __getstate__, __setstate__ = object.__getstate__, lambda self, state: self.__dict__.update(state)

    def step(self, closure: Any = None) -> Any:
        """Step the inner optimizer."""
        return self.local_optimizer.step() if closure is None else self.local_optimizer.step(closure)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients, or set them to zero."""
        self.local_optimizer.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the inner optimizer."""
        return self.local_optimizer.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state of the inner optimizer."""
        self.local_optimizer.load_state_dict(state_dict)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the inner optimizer."""
        self.local_optimizer.add_param_group(param_group)


class DataParallelOptimizer(LocalOptimizer):
    """The optimizer of a `DataParallel` model: steps the same way on every rank, without a message.

    The gradients of the model are those of all ranks when its backward pass ends, so the torch optimizer may as well be
    used by itself; this class takes the place of Heat's.

    Parameters
    ----------
    torch_optimizer : torch.optim.Optimizer
        Any; schedulers and scalers accept this object in its place.
    blocking : bool
        As in Heat. Both give the same numbers: messages have ended before `step`.

    Examples
    --------
    >>> net = torch.nn.Linear(2, 1)
    >>> optimizer = ht.optim.DataParallelOptimizer(torch.optim.SGD(net.parameters(), lr=0.5))
    >>> scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    >>> optimizer.param_groups[0]["lr"]
    0.5
    """

    def __init__(self, torch_optimizer: torch.optim.Optimizer, blocking: bool = False) -> None:
        if not isinstance(blocking, bool):
            raise TypeError(f"DataParallelOptimizer: blocking must be a bool, got {blocking!r}")
        super().__init__("DataParallelOptimizer", torch_optimizer)
        self.blocking = blocking
