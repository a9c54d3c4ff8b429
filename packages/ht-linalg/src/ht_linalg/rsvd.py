"""Truncated SVD by random sketches."""

from __future__ import annotations

from numbers import Integral
from typing import NamedTuple

import torch
from ht_core import DNDarray, random
from ht_core.errors import LayoutError
from ht_core.layout import Layout

from .arguments import as_matrix
from .columns import adjoint
from .matmul import matmul
from .qr import computing_dtype, qr
from .svd import svd


class RSVD(NamedTuple):
    """Result of :func:`rsvd` and :func:`isvd`; the matrix is about ``U @ diag(S) @ V.conj().T``."""

    U: DNDarray
    S: DNDarray
    V: DNDarray


def rsvd(
    A: object,
    svd_rank: int,
    n_oversamples: int = 10,
    power_iter: int = 0,
    qr_procs_to_merge: int = 2,
    *,
    random_state: int | random.Generator | None = None,
) -> RSVD:
    """Return the leading singular triplets of a matrix, found in the range of random combinations of its columns.

    Parameters
    ----------
    A : array_like, shape (m, n)
    svd_rank : int
        Number of triplets r, at least 1; min(m, n) at most are returned.
    n_oversamples : int
        How many more columns the sketch has: l = svd_rank + n_oversamples.
    power_iter : int
        Passes with ``A @ A^H`` that sharpen the sketch; 1 or 2 where singular values fall slowly.
    qr_procs_to_merge : int
        Accepted for scripts written for Heat; the tree of :func:`ht_linalg.qr` merges pairs.
    random_state : int, Generator or None
        Seed of the sketch; None takes ``ht.random``'s generator.

    Returns
    -------
    RSVD(U, S, V)
        U (m, r) and V (n, r) with orthonormal columns (V, not its transpose), S (r,) descending, replicated. They do
        not depend on the number of ranks, beyond rounding.

    *Distribution* (collective where `A` is split): U is split along 0 where `A` is, V where `A` is split along 1; a
    factor that is not is replicated up to 2^18 elements, else split along 0. Every pass over `A` is a product with l
    columns (m l or n l words, see :func:`ht_linalg.matmul`) and a tall QR (4 l^2 words): 2 + 2 power_iter of them.
    Flops: 2 m n l / p each. Memory per rank: the sketches, (m + n) l / p where they are split.

    Raises
    ------
    LayoutError
        If `A` is not 2-D, or empty.
    ValueError
        If a parameter is out of range.
    LinAlgError
        If `A` holds NaN or infinity; on every rank.

    Notes
    -----
    With k = svd_rank and o = n_oversamples >= 2, the expected error in the spectral norm is at most
    ``(1 + sqrt(k / (o - 1))) s[k+1] + e sqrt(k + o) / o * (s[k+1]^2 + s[k+2]^2 + ...)^(1/2)``; power iterations
    raise the ratios of singular values to the power 2 power_iter + 1. Bases are made orthogonal between all products.

    References
    ----------
    N. Halko, P. G. Martinsson, J. A. Tropp, Finding structure with randomness: probabilistic algorithms for
    constructing approximate matrix decompositions, 2011, doi:10.1137/090771806.

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> A = ht.diag(ht.array([1.0, 5.0, 3.0], split=0))
    >>> ht_linalg.rsvd(A, 2).S.numpy().round(6)
    array([5., 3.])
    """
    A = as_matrix("rsvd", "A", A)
    if 0 in A.shape:
        raise LayoutError(f"rsvd: A must not be empty, got shape {A.shape}")
    for name, value, least in (
        ("svd_rank", svd_rank, 1),
        ("n_oversamples", n_oversamples, 0),
        ("power_iter", power_iter, 0),
        ("qr_procs_to_merge", qr_procs_to_merge, 2),
    ):
        if not isinstance(value, Integral) or value < least:
            raise ValueError(f"rsvd: {name} must be an integer of at least {least}, got {value!r}")
    dtype = computing_dtype("rsvd", A.larray.dtype)
    A = A if A.larray.dtype == dtype else DNDarray(A.larray.to(dtype), A.layout, A.comm)
    columns = min(int(svd_rank) + int(n_oversamples), *A.shape)
    q = qr(matmul(A, sketch(A, columns, random_state))).Q
    for _ in range(power_iter):
        z = qr(matmul(adjoint(A), q)).Q
        q = qr(matmul(A, z)).Q
    # A is about Q Q'A; with A'Q = W S Z' that is (Q Z) S W'
    w, s, zh = svd(matmul(adjoint(A), q), full_matrices=False)
    rank = min(int(svd_rank), columns)
    u = matmul(q, adjoint(zh)[:, :rank])
    return RSVD(_stood(u, A, 0), s[:rank], _stood(w[:, :rank], A, 1))


def sketch(A: DNDarray, columns: int, random_state: object) -> DNDarray:
    """Return a normal matrix with as many rows as `A` has columns, cut as they are. No message."""
    if A.split == 1:
        layout = Layout((A.shape[1], columns), 0, A.layout.counts)
    else:
        layout = Layout.even((A.shape[1], columns), A.split, A.comm.size)
    generator = random.get_generator() if random_state is None else random.default_rng(random_state)
    real = torch.empty(layout.lshape(A.comm.rank), dtype=A.larray.real.dtype, device=A.larray.device)
    omega = DNDarray(real, layout, A.comm)
    generator.standard_normal(out=omega)
    return DNDarray(omega.larray.to(A.larray.dtype), layout, A.comm)


def _stood(factor: DNDarray, A: DNDarray, axis: int) -> DNDarray:
    """Return a factor split as the axis of `A` to which it belongs, where that is split."""
    if A.split != axis or factor.split == 0:
        return factor
    layout = Layout(factor.shape, 0, A.layout.counts)
    return DNDarray(factor.larray[layout.slices(A.comm.rank)[0]].contiguous(), layout, A.comm)
