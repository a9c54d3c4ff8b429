"""Gradients compared with difference quotients, across ranks: `dist_gradcheck`."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .autograd import Tape
from .communicator import Communicator


def dist_gradcheck(
    fn: Callable[..., Tensor | None],
    comm: Communicator,
    inputs: Sequence[Tensor],
    *,
    eps: float = 1e-6,
    atol: float = 1e-6,
    replicated: Sequence[int] = (),
    is_loss_replicated: bool = False,
) -> float:
    """Compare the gradients a tape finds with central differences; return the largest deviation.

    One rank after the other changes one element of its inputs by `eps`, all ranks evaluate, and the losses are
    summed over ranks.

    Parameters
    ----------
    fn : callable
        ``fn(tape, *inputs)`` -> this rank's part of the loss, a real scalar. On a rank where it is None or
        detached it does not count.
    comm : Communicator
        The ranks that take part.
    inputs : sequence of Tensor
        This rank's; shapes may differ between ranks, their number may not. Not changed. Only those that require
        a gradient are checked.
    eps : float
        The step: 1e-6 suits float64.
    atol : float
        The largest deviation allowed, absolute.
    replicated : sequence of int
        The inputs, by position, that are one logical value: equal on all ranks, changed on all together.
    is_loss_replicated : bool
        The loss is one logical value, which counts once.

    Returns
    -------
    float
        The largest deviation on any rank; the same on all.

    Raises
    ------
    AssertionError
        On all ranks alike, if a deviation is larger than `atol`; names the rank and the element.
    ValueError
        On all ranks alike, if no rank has a loss that depends on anything, or the ranks disagree on the inputs.

    Distribution
    ------------
    Collective. Two evaluations for each element of each rank (two for each part of a complex one).
    """
    leaves = [x.detach().clone().requires_grad_(x.requires_grad) for x in inputs]
    with Tape(comm) as tape:
        loss = fn(tape, *leaves)
        counts = loss is not None and loss.requires_grad
        gradients = tape.grad(loss, leaves)

    def evaluate() -> float:
        with Tape(comm) as tape:
            part = fn(tape, *(x.detach().clone().requires_grad_(x.requires_grad) for x in leaves))
        own = np.array([float(part.detach()) if counts else 0.0])
        return float(comm.allreduce(own)[0]) / (comm.size if is_loss_replicated else 1)

    worst = (0.0, "")
    described = [(x.numel() * x.requires_grad, (1.0, 1j) if x.is_complex() else (1.0,)) for x in leaves]
    everywhere = comm.allgather_object((counts, described))
    _check_arguments(everywhere, replicated)
    for number, owner, index, unit in _elements([inputs for _, inputs in everywhere], replicated):
        changes = comm.rank == owner or number in replicated
        slope = _slope(evaluate, leaves[number], index, unit, eps, changes)
        if changes:
            found = complex(gradients[number].reshape(-1)[index])
            value = found.real if unit == 1.0 else found.imag
            deviation = abs(value - slope)
            if not deviation <= worst[0] and not np.isnan(worst[0]):  # NaN is the largest of all
                worst = (
                    deviation,
                    f"input {number}, element {index}, unit {unit}: gradient {value}, slope {slope}",
                )
    return _agree(comm, worst, atol)


def _check_arguments(everywhere: list[tuple[bool, list[tuple]]], replicated: Sequence[int]) -> None:
    """Raise unless there is something to check and the ranks agree on what it is; the same on all ranks."""
    if not any(counts for counts, _ in everywhere):
        # Everything would be zero, and equal.
        raise ValueError(
            "dist_gradcheck: fn must return a loss that requires a gradient on some rank, got none; "
            "was it computed under torch.no_grad()?"
        )
    numbers = [len(inputs) for _, inputs in everywhere]
    if len(set(numbers)) > 1:
        raise ValueError(f"dist_gradcheck: inputs must be equally many on all ranks, got {numbers}")
    for number in replicated:
        sizes = [inputs[number] for _, inputs in everywhere]
        if any(size != sizes[0] for size in sizes):
            raise ValueError(
                f"dist_gradcheck: replicated input {number} must be alike on all ranks, "
                f"got {[size for size, _ in sizes]} elements to check"
            )


def _elements(
    described: list[list[tuple]], replicated: Sequence[int]
) -> Iterator[tuple[int, int, int, complex]]:
    """Yield (input, rank, element, unit) of all that is to be changed; the same on all ranks."""
    for number in range(len(described[0])):
        for owner in range(1 if number in replicated else len(described)):
            count, units = described[owner][number]
            for index in range(count):
                for unit in units:
                    yield number, owner, index, unit


def _slope(
    evaluate: Callable[[], float], leaf: Tensor, index: int, unit: Any, eps: float, changes: bool
) -> float:
    """Return the central difference quotient by one element of one rank's leaf."""
    values = []
    before = leaf.detach().clone()
    for sign in (1.0, -1.0):
        if changes:
            with torch.no_grad():
                flat = before.reshape(-1).clone()
                flat[index] += sign * eps * unit
                leaf.copy_(flat.reshape(before.shape))
        values.append(evaluate())
    with torch.no_grad():
        leaf.copy_(before)
    return (values[0] - values[1]) / (2 * eps)


def _agree(comm: Communicator, worst: tuple[float, str], atol: float) -> float:
    everywhere = comm.allgather_object(worst)
    # NaN first: it compares as larger than nothing
    rank = max(range(comm.size), key=lambda r: (np.isnan(everywhere[r][0]), everywhere[r][0]))
    deviation, text = everywhere[rank]
    if not deviation <= atol:
        raise AssertionError(f"dist_gradcheck: the gradient must be right to {atol}, got rank {rank}, {text}")
    return deviation
