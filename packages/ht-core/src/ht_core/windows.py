"""Window functions: each rank computes its own part from global indices."""

from __future__ import annotations

from collections.abc import Callable

import torch

from . import types
from .dndarray import DNDarray
from .engines.creation import create, creates


def _window(op: str, M: int, shape: Callable, split, device, comm) -> DNDarray:
    """Make ``shape(t)`` for t evenly spaced in [-1, 1]; the single point of M = 1 is the middle, as NumPy's is."""
    n = max(int(M), 0)

    def fill(lshape, offset, kind, device):
        index = torch.arange(offset, offset + lshape[0], dtype=torch.float64, device=device)
        twice = index.mul_(2).sub_(n - 1)  # exact, and symmetric about the middle
        return shape(twice.div_(max(n - 1, 1))).to(kind)

    return create(op, (n,), types.float64, split, device, comm, fill)


@creates
def bartlett(M, *, split=None, device=None, comm=None) -> DNDarray:
    """Make the Bartlett window: a triangle that is 0 at both ends. No message.

    Parameters
    ----------
    M : int
        Number of points.
    {common}

    Examples
    --------
    >>> ht.bartlett(5, split=0).numpy().tolist()
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    return _window("bartlett", M, lambda t: 1 - t.abs(), split, device, comm)


@creates
def hanning(M, *, split=None, device=None, comm=None) -> DNDarray:
    """Make the Hann window: a raised cosine that is 0 at both ends. No message.

    Parameters
    ----------
    M : int
        Number of points.
    {common}

    Examples
    --------
    >>> ht.hanning(5, split=0).numpy().round(9).tolist()
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    return _window("hanning", M, lambda t: 0.5 + 0.5 * torch.cos(torch.pi * t), split, device, comm)


@creates
def hamming(M, *, split=None, device=None, comm=None) -> DNDarray:
    """Make the Hamming window: a raised cosine that is 0.08 at both ends. No message.

    Parameters
    ----------
    M : int
        Number of points.
    {common}

    Examples
    --------
    >>> ht.hamming(3, split=0).numpy().round(9).tolist()
    [0.08, 1.0, 0.08]
    """
    return _window("hamming", M, lambda t: 0.54 + 0.46 * torch.cos(torch.pi * t), split, device, comm)


@creates
def blackman(M, *, split=None, device=None, comm=None) -> DNDarray:
    """Make the Blackman window: two cosines that are nearly 0 at both ends. No message.

    Parameters
    ----------
    M : int
        Number of points.
    {common}

    Examples
    --------
    >>> abs(ht.blackman(3, split=0).numpy().round(9)).tolist()
    [0.0, 1.0, 0.0]
    """

    def shape(t):
        return 0.42 + 0.5 * torch.cos(torch.pi * t) + 0.08 * torch.cos(2 * torch.pi * t)

    return _window("blackman", M, shape, split, device, comm)


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

    return _window("kaiser", M, shape, split, device, comm)
