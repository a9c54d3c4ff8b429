"""Cholesky decomposition."""

from __future__ import annotations

import torch
from ht_core import DNDarray
from ht_core.engines.recording import record_rule
from ht_core.engines.tracking import is_tracked

from .columns import adjoint, as_stack, cut_by_columns, dealt, is_whole, map_matrices, moved
from .elimination import factor_positive
from .errors import LinAlgError
from .factor_derivatives import cholesky_derivative
from .matmul_derivative import adjoint as recorded_adjoint


def cholesky(a: object, /, *, upper: bool = False) -> DNDarray:
    """Return the lower triangular L with ``a = L @ L.conj().T`` (or the upper triangular one, its adjoint).

    Parameters
    ----------
    a : array_like, shape (..., n, n)
        Hermitian and positive definite; only its lower triangle is read (its upper one with `upper`).
    upper : bool

    *Distribution*: split as `a`. Every panel of 64 columns is broadcast once, n^2 / 2 words received by each rank; a
    matrix split along its rows is resplit and the factor is resplit back. A stack split along a leading axis needs no
    message.

    Raises
    ------
    LinAlgError
        If `a` is not positive definite; on every rank.
    LayoutError
        If `a` is not square.

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> ht_linalg.cholesky(ht.array([[4.0, 2.0], [2.0, 5.0]], split=0)).numpy()
    array([[2., 0.],
           [1., 2.]])
    """
    if is_tracked(a):
        if upper:
            return recorded_adjoint(cholesky(recorded_adjoint(a)))
        return record_rule("cholesky", cholesky, (a,), cholesky_derivative)
    a = as_stack("cholesky", "a", a, square=True)
    if upper:
        return adjoint(cholesky(adjoint(a)))
    if not is_whole(a) and a.ndim > 2:
        a = dealt(a)
    if is_whole(a):
        return _local(a)
    local, layout = cut_by_columns(a)
    if not factor_positive(local, layout.counts, a.comm):
        raise LinAlgError("cholesky: a must be positive definite")
    return moved(DNDarray(local, layout, a.comm), a.layout)


def _local(a: DNDarray) -> DNDarray:
    """Factor matrices that are whole; where one of some rank is not positive definite all ranks raise."""
    local, info = torch.linalg.cholesky_ex(a.larray)
    failure = LinAlgError("cholesky: a must be positive definite")
    bad = bool(info.any()) or not bool(torch.isfinite(local).all())
    if a.split is None:
        if bad:
            raise failure
    else:
        a.comm.agree(failure if bad else None)
    return map_matrices(a, lambda _: local)
