"""What watches a training: callbacks on rank 0, that show a bar or report to an experiment tracker.

Knows numbers and steps, nothing of models. Needs no message, unless metrics are to be averaged, and no other package.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from ht_comm import Communicator, get_comm

from .progress import ProgressBar

__all__ = ["Callback", "Callbacks", "Progress", "Tracker"]

Metrics = Mapping[str, Any]


class Callback:
    """Is told of steps and epochs; subclasses override what they need.

    Attributes
    ----------
    everywhere : bool
        False, the default: called on rank 0 only, so that a file is written or a server told once; it must not send
        messages. True: called on every rank, and may.
    """

    everywhere = False

    def on_step(self, step: int, metrics: dict[str, float]) -> None:
        """Take the metrics of a step (a batch), counted over all epochs."""

    def on_epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        """Take the metrics of an epoch."""

    def on_end(self) -> None:
        """The training has ended, also by an exception."""


class Callbacks:
    """Tells several callbacks of a training; a context manager that ends them.

    Parameters
    ----------
    callbacks : iterable of Callback
    every : int
        Steps between two calls of ``on_step``: metrics of the others are not even read, which would
        wait for a GPU.
    step : int
        Number of steps done before: to resume a training.
    comm : Communicator, optional
        The ranks that train together; the current communicator by default.

    Notes
    -----
    *Distribution*: `step` sends nothing; what rank 0's callbacks see are rank 0's metrics. `epoch` sends nothing,
    or, with ``average=True``, one allreduce of 8 bytes per metric, and is collective then.

    An exception of a callback on rank 0 ends the job as any other does.

    Examples
    --------
    >>> class History(ht.callbacks.Callback):
    ...     everywhere = True
    ...     def __init__(self):
    ...         self.losses = []
    ...     def on_epoch(self, epoch, metrics):
    ...         self.losses.append((epoch, metrics["loss"]))
    >>> history = History()
    >>> with ht.callbacks.Callbacks([history]) as watch:
    ...     for epoch in range(2):
    ...         for batch in range(3):
    ...             watch.step(loss=torch.tensor(1.0))
    ...         watch.epoch(epoch, loss=0.5 ** epoch, average=True)
    >>> history.losses, watch.steps
    ([(0, 1.0), (1, 0.5)], 6)
    """

    def __init__(
        self,
        callbacks: Iterable[Callback],
        *,
        every: int = 1,
        step: int = 0,
        comm: Communicator | None = None,
    ) -> None:
        if every < 1:
            raise ValueError(f"Callbacks: every must be at least 1, got {every!r}")
        self.comm = get_comm() if comm is None else comm
        given = tuple(callbacks)
        for callback in given:
            if not isinstance(callback, Callback):
                raise TypeError(
                    f"Callbacks: callbacks must be Callback objects, got {type(callback).__name__}; for an experiment "
                    "tracker use Tracker(client)"
                )
        self.callbacks = tuple(c for c in given if c.everywhere or self.comm.rank == 0)
        self.every, self.steps = every, step

    def step(self, **metrics: Any) -> None:
        """Count a step; tell of it if it is due. Numbers or 0-D tensors; no message."""
        self.steps += 1
        if self.callbacks and self.steps % self.every == 0:
            values = _numbers(metrics)
            for callback in self.callbacks:
                callback.on_step(self.steps, values)

    def epoch(self, epoch: int, *, average: bool = False, **metrics: Any) -> None:
        """Tell of the end of an epoch; with `average`, of the means over the ranks (collective)."""
        if average:
            mean = torch.tensor([*_numbers(metrics).values()], dtype=torch.float64)
            mean = self.comm.allreduce(mean) / self.comm.size
            metrics = dict(zip(metrics, mean.tolist()))
        if self.callbacks:
            values = _numbers(metrics)
            for callback in self.callbacks:
                callback.on_epoch(epoch, values)

    def __enter__(self) -> Callbacks:
        return self

    def __exit__(self, *exception: object) -> None:
        for callback in self.callbacks:
            callback.on_end()


class Tracker(Callback):
    """Reports to an experiment tracker, from rank 0 only.

    Parameters
    ----------
    client : object or callable
        What has ``log(metrics, step=...)`` (a run of wandb), ``log_metrics(metrics, step=...)`` (mlflow), or is
        called so itself. It may be None on the other ranks: make it where ``ht.get_comm().rank == 0``.
    prefix : str
        Written before the names of the metrics of epochs.

    Notes
    -----
    *Distribution*: no message. Steps are counted over all epochs; metrics of an epoch are reported at the last step
    before its end, with the number of the epoch as "epoch".

    Examples
    --------
    >>> class Client:
    ...     def log(self, metrics, step):
    ...         print(step, metrics)
    >>> client = Client() if ht.get_comm().rank == 0 else None
    >>> tracker = ht.callbacks.Tracker(client)
    """

    def __init__(self, client: Any, prefix: str = "") -> None:
        self._log = _find_log(client)
        self.prefix, self._step = prefix, 0

    def on_step(self, step: int, metrics: dict[str, float]) -> None:
        """Report the metrics of a step."""
        self._step = step
        self._report(metrics)

    def on_epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        """Report the metrics of an epoch."""
        named = {self.prefix + name: value for name, value in metrics.items()}
        self._report({**named, "epoch": epoch})

    def _report(self, metrics: dict[str, float]) -> None:
        if self._log is None:
            raise TypeError(
                "Tracker: client must have log(metrics, step) or log_metrics(metrics, step) on rank 0, got None"
            )
        self._log(dict(metrics), step=self._step)


class Progress(Callback):
    """Shows the steps of a training as a bar, on rank 0: tqdm's where it is installed, `ProgressBar` otherwise.

    Parameters
    ----------
    total : int or None
        Number of steps of the whole training, where it is known.
    title : str
        What is being done.
    **options
        Of `ProgressBar` or of tqdm, such as ``file``.

    Notes
    -----
    *Distribution*: no message. The bar moves with ``on_step``, by as many steps as have been done.
    """

    def __init__(self, total: int | None = None, title: str = "", **options: Any) -> None:
        self.total, self.title, self.options = total, title, options
        self._bar: Any = None
        self._done = 0

    def on_step(self, step: int, metrics: dict[str, float]) -> None:
        """Move the bar."""
        if self._bar is None:
            self._bar = _make_bar(self.total, self.title, self.options)
        note = " ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        if isinstance(self._bar, ProgressBar):
            self._bar.update(step - self._done, note)
        else:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(step - self._done)
        self._done = step

    def on_end(self) -> None:
        """End the line."""
        if self._bar is not None:
            self._bar.close()


def _make_bar(total: int | None, title: str, options: dict[str, Any]) -> Any:
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return ProgressBar(total, title, **options)
    return tqdm(total=total, desc=title, **{"file": sys.stderr, **options})


def _find_log(client: Any) -> Callable | None:
    """Return what reports metrics and a step; None for None, as on ranks that report nothing."""
    if client is None:
        return None
    for name in ("log", "log_metrics"):
        if callable(getattr(client, name, None)):
            return getattr(client, name)
    if callable(client):
        return client
    raise TypeError(
        "Tracker: client must have log(metrics, step) or log_metrics(metrics, step), or be callable, got "
        f"{type(client).__name__}"
    )


def _numbers(metrics: Metrics) -> dict[str, float]:
    """Return the metrics as floats."""
    return {
        name: float(value.detach() if isinstance(value, torch.Tensor) else value)
        for name, value in metrics.items()
    }
