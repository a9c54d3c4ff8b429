"""LU decomposition with partial pivoting, and determinants by it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from ht_comm import self_
from ht_core import DNDarray
from ht_core.engines.recording import record_rule
from ht_core.engines.tracking import is_tracked, untracked
from ht_core.errors import LayoutError
from ht_core.layout import Layout

from .columns import as_stack, cut_by_columns, dealt, is_whole, map_matrices, moved
from .elimination import factor
from .factor_derivatives import det_derivative, logabsdet_derivative, phase_derivative


class LU(NamedTuple):
    """Result of :func:`lu`: ``a = L[P] @ U``."""

    P: DNDarray
    L: DNDarray
    U: DNDarray


class SlogdetResult(NamedTuple):
    """Result of :func:`slogdet`."""

    sign: DNDarray
    logabsdet: DNDarray


def lu(a: object) -> LU:
    """Return the decomposition ``a = L[P] @ U`` with partial pivoting (SciPy's ``lu`` with ``p_indices=True``).

    Parameters
    ----------
    a : array_like, shape (m, n)

    Returns
    -------
    LU(P, L, U)
        Row indices of L, int64 of shape (m,), on every rank; L (m, k) with ones on its diagonal; U (k, n);
        k = min(m, n).

    *Distribution*: L and U are split as `a`. A matrix split along its rows is resplit and the factors are resplit back;
    every panel of 64 columns of L is broadcast once. See :func:`ht_linalg.elimination.factor`.

    Raises
    ------
    LayoutError
        If `a` is not 2-D.

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> P, L, U = ht_linalg.lu(ht.array([[1.0, 2.0], [4.0, 6.0]], split=0))
    >>> P.tolist(), L.tolist(), U.tolist()
    ([1, 0], [[1.0, 0.0], [0.25, 1.0]], [[4.0, 6.0], [0.0, 0.5]])
    """
    a = as_stack("lu", "a", a)
    if a.ndim != 2:
        raise LayoutError(f"lu: a must be 2-D, got shape {a.shape}")
    m, n = a.shape
    k = min(m, n)
    if a.split is None:
        local, displ = a.larray.clone(), 0
        factors = factor(local, (n,), self_())
    else:
        local, layout = cut_by_columns(a)
        factors = factor(local, layout.counts, a.comm)
        displ = layout.displs[a.comm.rank]
    upper = torch.triu(local[:k], diagonal=-displ)
    lower = torch.tril(local, diagonal=-displ - 1)
    inside = max(0, min(k - displ, local.shape[1]))
    lower = lower[:, :inside].contiguous()
    lower.diagonal(-displ).fill_(1)
    if a.split is None:
        layouts = Layout((m, k), None), Layout((k, n), None)
    else:
        cut = [max(0, min(k - d, c)) for d, c in zip(layout.displs, layout.counts)]
        layouts = Layout((m, k), 1, cut), Layout((k, n), 1, layout.counts)
    factors_of = [DNDarray(x, y, a.comm) for x, y in zip((lower, upper), layouts)]
    if a.split == 0:
        factors_of = [moved(x, Layout.even(x.shape, 0, a.comm.size)) for x in factors_of]
    inverse = torch.empty_like(factors.order)
    inverse[factors.order] = torch.arange(m, device=inverse.device)
    return LU(DNDarray(inverse, Layout((m,), None), a.comm), *factors_of)


def det(a: object) -> DNDarray:
    """Return the determinant.

    Parameters
    ----------
    a : array_like, shape (..., n, n)

    *Distribution*: of a matrix that is split, an elimination (:func:`lu`) and one allreduce of one number; the result
    is replicated. Of a stack that is split along a leading axis no message; split otherwise, it is dealt to the ranks.

    Raises
    ------
    LayoutError
        If `a` is not square.

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> round(ht_linalg.det(ht.array([[1.0, 2.0], [3.0, 4.0]], split=0)).item(), 12)
    -2.0
    """
    if is_tracked(a):
        return record_rule("det", det, (a,), det_derivative)
    a = as_stack("det", "a", a, square=True)
    if not is_whole(a) and a.ndim > 2:
        a = dealt(a)
    if is_whole(a):
        return map_matrices(a, torch.linalg.det, 0)
    diagonal, odd = _pivots(a)
    product = a.comm.allreduce(diagonal.prod().reshape(1), "prod").reshape(())
    return DNDarray(-product if odd else product, Layout((), None), a.comm)


def slogdet(a: object) -> SlogdetResult:
    """Return sign and logarithm of the absolute value of the determinant, which neither overflow nor underflow.

    *Distribution*: as :func:`det`, with two numbers.

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> sign, logabsdet = ht_linalg.slogdet(ht.diag(ht.full((400,), 10.0, split=0)))
    >>> sign.item(), round(logabsdet.item(), 6)
    (1.0, 921.034037)
    """
    if is_tracked(a):
        found = slogdet(untracked(a))
        rules = phase_derivative, logabsdet_derivative
        parts = (record_rule("slogdet", lambda _, x=x: x, (a,), rule) for x, rule in zip(found, rules))
        return SlogdetResult(*parts)
    a = as_stack("slogdet", "a", a, square=True)
    if not is_whole(a) and a.ndim > 2:
        a = dealt(a)
    if is_whole(a):
        parts = torch.linalg.slogdet(a.larray)
        return SlogdetResult(*(map_matrices(a, lambda _, x=x: x, 0) for x in parts))
    diagonal, odd = _pivots(a)
    size = diagonal.abs()
    zero = size == 0
    sign = torch.where(zero, torch.zeros_like(diagonal), diagonal / torch.where(zero, 1, size)).prod()
    sign = a.comm.allreduce((-sign if odd and a.comm.rank == 0 else sign).reshape(1), "prod").reshape(())
    logarithm = a.comm.allreduce(size.log().sum().reshape(1), "sum").reshape(())
    layout = Layout((), None)
    return SlogdetResult(DNDarray(sign, layout, a.comm), DNDarray(logarithm, layout, a.comm))


def _pivots(a: DNDarray) -> tuple[torch.Tensor, bool]:
    """Return this rank's part of the diagonal of U, and whether the rows were permuted oddly."""
    local, layout = cut_by_columns(a)
    factors = factor(local, layout.counts, a.comm)
    return local.diagonal(-layout.displs[a.comm.rank])[: local.shape[1]], factors.odd
