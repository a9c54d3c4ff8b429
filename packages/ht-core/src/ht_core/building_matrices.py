"""Matrices given by a rule: each rank computes its own part from global indices."""

from __future__ import annotations

import torch

from . import types
from .dndarray import DNDarray
from .engines.creation import create, creates, normalize_split
from .engines.elementwise import Row, execute
from .errors import LayoutError
from .registry import register


@creates
def eye(N, M=None, k=0, dtype=None, *, split=None, device=None, comm=None) -> DNDarray:
    """Make a matrix with ones on diagonal `k` and zeros elsewhere. No message.

    Parameters
    ----------
    N, M : int
        Numbers of rows and columns; M is N by default. ``eye((N, M))`` is accepted too.
    k : int
        The diagonal: 0 is the main one, positive ones are above it.
    dtype : dtype
        float64 by default.
    {common}

    Examples
    --------
    >>> ht.eye(2, 3, 1, split=0).numpy().tolist()
    [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    shape = tuple(N) if isinstance(N, (tuple, list)) else (N, N if M is None else M)
    if len(shape) == 1:
        shape *= 2
    axis = normalize_split(split, 2, "eye")

    def fill(lshape, offset, kind, device):
        diagonal = _local_diagonal(k, axis, offset)
        part = torch.zeros(lshape, dtype=kind, device=device)
        if -lshape[0] < diagonal < lshape[1]:
            part.diagonal(diagonal).fill_(1)
        return part

    return create("eye", shape, dtype, split, device, comm, fill)


def _local_diagonal(k: int, axis: int | None, offset: int) -> int:
    """Return which diagonal of the part lies on diagonal `k` of the matrix."""
    return int(k) + (offset if axis == 0 else 0) - (offset if axis == 1 else 0)


@creates
def identity(n, dtype=None, *, split=None, device=None, comm=None) -> DNDarray:
    """Make the identity matrix of `n` rows and columns. No message.

    Parameters
    ----------
    n : int
        Number of rows and columns.
    dtype : dtype
        float64 by default.
    {common}

    Examples
    --------
    >>> ht.identity(2, split=1).numpy().tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    return eye(n, dtype=dtype, split=split, device=device, comm=comm)


@creates
def tri(N, M=None, k=0, dtype=None, *, split=None, device=None, comm=None) -> DNDarray:
    """Make a matrix with ones on and below diagonal `k` and zeros above. No message.

    Parameters
    ----------
    N, M : int
        Numbers of rows and columns; M is N by default.
    k : int
        The diagonal: 0 is the main one, positive ones are above it.
    dtype : dtype
        float64 by default.
    {common}

    Examples
    --------
    >>> ht.tri(2, 3, split=0).numpy().tolist()
    [[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]]
    """
    axis = normalize_split(split, 2, "tri")

    def fill(lshape, offset, kind, device):
        rows = torch.arange(lshape[0], device=device).unsqueeze(1)
        columns = torch.arange(lshape[1], device=device)
        return (columns <= rows + _local_diagonal(k, axis, offset)).to(kind)

    return create("tri", (N, N if M is None else M), dtype, split, device, comm, fill)


def vander(x: object, /, N: int | None = None, increasing: bool = False) -> DNDarray:
    """Return the Vandermonde matrix: its columns are powers of `x`.

    *Distribution*: the rows lie where the elements of `x` do. No message.

    Parameters
    ----------
    x : array_like
        Shape (n,).
    N : int, optional
        Number of columns; n by default.
    increasing : bool
        Let the powers grow from left to right, from 0; otherwise they fall to 0.

    Returns
    -------
    DNDarray
        Shape (n, N), of the dtype of `x`; int64 for integers of at most 64 bits and bool.

    Raises
    ------
    LayoutError
        If `x` is not one-dimensional or `N` is negative.

    Examples
    --------
    >>> ht.vander(ht.array([1, 2, 3], split=0), 3).numpy().tolist()
    [[1, 1, 1], [4, 2, 1], [9, 3, 1]]
    """
    x = x if isinstance(x, DNDarray) else execute(_AS_IT_IS, (x,))
    n = x.size if N is None else int(N)
    if x.ndim != 1 or n < 0:
        raise LayoutError(
            f"vander: x must be one-dimensional and N non-negative, got shape {x.shape} and N={N}"
        )
    kind = types.result_type(x, types.int64)
    column = DNDarray(x.larray.unsqueeze(1), x.layout.insert(1), x.comm)
    powers = torch.arange(n, device=x.larray.device)
    return execute(_POWERS, (column, powers if increasing else powers.flip(0)), dtype=kind)


def _powers(x: torch.Tensor, n: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    value = torch.pow(x, n)
    return value if out is None else out.copy_(value)


_AS_IT_IS = Row("vander", lambda x, out=None: x, types.ALL, "common", "common", None, wide="bits")
_POWERS = Row("vander", _powers, types.ALL, "common", "common", "power", exponents=1)
register(vander, kind="creation", numpy="vander", arity=1, method=False)
