"""Window functions: each rank computes its own part from global indices."""

from __future__ import annotations

from collections.abc import Callable

import torch

from . import types
from .dndarray import DNDarray
from .engines.creation import create, creates

_DOC = """Make the {name} window: {what}. No message.

    Parameters
    ----------
    M : int
        Number of points.
    {{common}}

    Examples
    --------
    >>> ht.{example}.numpy().round(9).tolist()
    {output}
    """


def _make(op: str, M: int, shape: Callable, split, device, comm) -> DNDarray:
    """Make ``shape(t)`` for t evenly spaced in [-1, 1]; the single point of M = 1 is the middle, as NumPy's is."""
    n = max(int(M), 0)

    def fill(lshape, offset, kind, device):
        index = torch.arange(offset, offset + lshape[0], dtype=torch.float64, device=device)
        twice = index.mul_(2).sub_(n - 1)  # exact, and symmetric about the middle
        return shape(twice.div_(max(n - 1, 1))).to(kind)

    return create(op, (n,), types.float64, split, device, comm, fill)


def _window(op: str, shape: Callable, name: str, what: str, example: str, output: str) -> Callable:
    """Define a window that has no parameter but its length."""

    def function(M, *, split=None, device=None, comm=None) -> DNDarray:
        return _make(op, M, shape, split, device, comm)

    function.__name__ = function.__qualname__ = op
    function.__module__ = "ht_core"
    function.__doc__ = _DOC.format(name=name, what=what, example=example, output=output)
    return creates(function)


def _cosines(*weights: float) -> Callable:
    """Return the shape that is a sum of cosines of 0, 1, 2, ... half turns."""

    def shape(t: torch.Tensor) -> torch.Tensor:
        total = weights[0] + weights[1] * torch.cos(torch.pi * t)
        for k, weight in enumerate(weights[2:], start=2):
            total += weight * torch.cos(k * torch.pi * t)
        return total

    return shape


bartlett = _window(
    "bartlett",
    lambda t: 1 - t.abs(),
    "Bartlett",
    "a triangle that is 0 at both ends",
    "bartlett(5, split=0)",
    "[0.0, 0.5, 1.0, 0.5, 0.0]",
)
hanning = _window(
    "hanning",
    _cosines(0.5, 0.5),
    "Hann",
    "a raised cosine that is 0 at both ends",
    "hanning(5, split=0)",
    "[0.0, 0.5, 1.0, 0.5, 0.0]",
)
hamming = _window(
    "hamming",
    _cosines(0.54, 0.46),
    "Hamming",
    "a raised cosine that is 0.08 at both ends",
    "hamming(3, split=0)",
    "[0.08, 1.0, 0.08]",
)
blackman = _window(
    "blackman",
    _cosines(0.42, 0.5, 0.08),
    "Blackman",
    "two cosines that are nearly 0 at both ends",
    "blackman(3, split=0)",
    "[0.0, 1.0, 0.0]",
)


@creates
def kaiser(M, beta, *, split=None, device=None, comm=None) -> DNDarray:
    """Make the Kaiser window, a ratio of Bessel functions. No message.

    Parameters
    ----------
    M : int
        Number of points.
    beta : float
        Shape: 0 is a rectangle; the larger, the narrower.
    {common}

    Examples
    --------
    >>> ht.kaiser(3, 0.0, split=0).numpy().tolist()
    [1.0, 1.0, 1.0]
    """
    beta = float(beta)

    def shape(t):
        whole = torch.full((), beta, dtype=torch.float64, device=t.device)
        return torch.i0(beta * torch.sqrt(1 - t * t)) / torch.i0(whole)

    return _make("kaiser", M, shape, split, device, comm)
