"""Eigenvalues and eigenvectors of general matrices, which one rank computes."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from ht_core import DNDarray
from ht_core.layout import Layout

from .columns import as_stack, dealt, is_whole, map_matrices, moved
from .errors import LinAlgError
from .one_rank import alone, told
from .truncation import signs

_COMPLEX = {torch.float32: torch.complex64, torch.float64: torch.complex128}


class EigResult(NamedTuple):
    """Result of :func:`eig`: ``a @ eigenvectors = eigenvectors * eigenvalues``."""

    eigenvalues: DNDarray
    eigenvectors: DNDarray


def eig(a: object, /) -> EigResult:
    """Return the eigenvalues and eigenvectors of square matrices, which need not be Hermitian.

    Parameters
    ----------
    a : array_like, shape (..., n, n)

    Returns
    -------
    EigResult(eigenvalues, eigenvectors)
        Shapes (..., n) and (..., n, n), always complex (NumPy returns real ones where all eigenvalues are real, which
        is a matter of values), in no order. Columns have length one, and the first element of each that is at least
        half as large as its largest one is positive real.

    *Distribution*: eigenvectors are split as `a`, eigenvalues are replicated (a stack's are split as the stack).
    Stacks are split along a leading axis, and need no message if they are so already. **One rank decomposes a matrix
    that is split**: 25 n^3 flops on one rank, which holds about six n x n matrices for that time; n^2 words go there,
    2 (n^2 + n) come back. For Hermitian matrices :func:`ht_linalg.eigh` is faster and divides the work.

    Raises
    ------
    LayoutError
        If `a` is not square.
    LinAlgError
        If a matrix is not finite or the iteration does not converge; on every rank. (A matrix of a stack that is not
        finite gives NaN instead, without a message.)

    References
    ----------
    J. G. F. Francis, The QR transformation, part 2, 1962, doi:10.1093/comjnl/4.4.332 (as LAPACK's geev does it): the
    computed values are those of a matrix within rounding error of `a`; values of a matrix that is far from normal may
    be sensitive to that.

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> w, v = ht_linalg.eig(ht.array([[0.0, -1.0], [1.0, 0.0]], split=0))
    >>> sorted(w.imag.numpy().round(12).tolist())
    [-1.0, 1.0]
    """
    return EigResult(*_eigen("eig", a, True))


def eigvals(a: object, /) -> DNDarray:
    """Return the eigenvalues of square matrices, complex, in no order.

    Parameters
    ----------
    a : array_like, shape (..., n, n)

    *Distribution*: as :func:`eig`, without the vectors: 10 n^3 flops on one rank, 2 n words come back.

    Raises
    ------
    LayoutError, LinAlgError
        As :func:`eig`.

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> sorted(ht_linalg.eigvals(ht.array([[1.0, 2.0], [0.0, 3.0]], split=1)).real.numpy().tolist())
    [1.0, 3.0]
    """
    return _eigen("eigvals", a, False)[0]


def _eigen(op: str, a: object, vectors: bool) -> tuple[DNDarray, DNDarray | None]:
    a = as_stack(op, "a", a, square=True)
    if a.ndim > 2 and not is_whole(a):
        a = dealt(a)
    comm, failure = a.comm, LinAlgError(f"{op}: a must be finite, got NaN or infinity")
    if is_whole(a):
        values, found = _here(a.larray, vectors)
        if a.ndim == 2 and bool(torch.isnan(values.real).any()):
            raise failure
        layout = a.layout.drop((a.ndim - 2,)) if a.split is not None and a.split < a.ndim - 2 else None
        layout = layout or Layout(tuple(values.shape), None)
        return DNDarray(values, layout, comm), map_matrices(a, lambda _: found) if vectors else None
    there = alone(a.shape, 0, comm.size)
    local = moved(a, there).larray
    dtype = _COMPLEX.get(local.dtype, local.dtype)
    values, found = local.new_empty(a.shape[0], dtype=dtype), local.to(dtype)
    if comm.rank == 0:
        values, found = _here(local, vectors)
    values = told(values, 0, comm)
    if bool(torch.isnan(values.real).any()):
        raise failure
    values = DNDarray(values, Layout((a.shape[0],), None), comm)
    return values, moved(DNDarray(found, there, comm), a.layout) if vectors else None


def _here(x: torch.Tensor, vectors: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the eigenvalues and vectors of local matrices; NaN for those that are not finite."""
    bad = ~torch.isfinite(x).flatten(-2).all(-1)[..., None]
    x = torch.where(bad[..., None], 0, x) if bool(bad.any()) else x
    try:
        if not vectors:
            return torch.linalg.eigvals(x).masked_fill(bad, math.nan), None
        values, found = torch.linalg.eig(x)
    except torch.linalg.LinAlgError:
        dtype = _COMPLEX.get(x.dtype, x.dtype)
        return x.new_full(x.shape[:-1], math.nan, dtype=dtype), x.new_full(x.shape, math.nan, dtype=dtype)
    found = found / signs(found)[..., None, :]
    return values.masked_fill(bad, math.nan), found.masked_fill(bad[..., None], math.nan)
