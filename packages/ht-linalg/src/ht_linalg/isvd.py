"""Incremental SVD: new columns join a decomposition that is known."""

from __future__ import annotations

import math
from numbers import Integral

import torch
from ht_core import DNDarray, concatenate
from ht_core.errors import LayoutError
from ht_core.layout import Layout

from .arguments import as_matrix
from .columns import moved
from .consensus import pack, tell, unpack
from .errors import LinAlgError
from .matmul import matmul
from .operators import vector_dtype
from .qr import qr
from .rsvd import RSVD


def isvd(
    new_data: object,
    U_old: object,
    S_old: object,
    V_old: object = None,
    maxrank: int | None = None,
) -> RSVD | tuple[DNDarray, DNDarray]:
    """Return the SVD of a matrix whose SVD is known, with new columns appended: of ``[U diag(S) V^H, new_data]``.

    Parameters
    ----------
    new_data : array_like, shape (m, c)
    U_old : array_like, shape (m, r)
        Orthonormal columns.
    S_old : array_like, shape (r,)
    V_old : array_like, shape (n, r), optional
        Orthonormal columns (V, as :func:`ht_linalg.hsvd_rank` returns it, not its transpose).
    maxrank : int, optional
        Most triplets that are kept; min(m, r + c) by default.

    Returns
    -------
    RSVD(U, S, V), or (U, S) without `V_old`
        U (m, k), S (k,) descending and replicated, V (n + c, k).

    *Distribution* (collective where an operand is split): U is split along 0, as `U_old` or else as `new_data` is, and
    replicated where neither is split; V is split along 0 where `V_old` is. A QR of m x (r + c) numbers (4 (r + c)^2
    words), and one broadcast of the small factors, 2 (r + c)^2 words; `new_data` moves where it is not cut as `U_old`
    is. Flops per rank: 4 m (r + c)^2 / p.

    Raises
    ------
    LayoutError
        If the shapes do not fit.
    ValueError
        If `maxrank` is not a positive integer.
    LinAlgError
        If the data are not finite; on every rank.

    Notes
    -----
    The update is exact to rounding: what is lost is only what `maxrank` cuts off, the smallest singular values of the
    extended matrix. Brand's update projects the new columns onto U and orthogonalises the rest; here the QR
    decomposition of ``[U_old, new_data]`` does both, so that U stays orthonormal to rounding however many updates
    follow each other, and where new columns lie in the span of the old.

    References
    ----------
    M. Brand, Fast low-rank modifications of the thin singular value decomposition, 2006,
    doi:10.1016/j.laa.2005.07.021.

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> U, S, V = ht_linalg.rsvd(ht.array([[3.0], [0.0]], split=0), 1)
    >>> ht_linalg.isvd(ht.array([[0.0], [4.0]], split=0), U, S, V).S.numpy().round(6)
    array([4., 3.])
    """
    if maxrank is not None and (not isinstance(maxrank, Integral) or maxrank < 1):
        raise ValueError(f"isvd: maxrank must be an integer of at least 1, got {maxrank!r}")
    N, U, S, V = _operands(new_data, U_old, S_old, V_old)
    layout = _rows(U, N)
    U, N = moved(U, layout), moved(N, layout.with_axis(1, N.shape[1]))
    both = layout.with_axis(1, U.shape[1] + N.shape[1])
    q, r = qr(DNDarray(torch.cat((U.larray, N.larray), 1), both, U.comm))
    r = moved(r, Layout(r.shape, None))
    middle = torch.cat((r.larray[:, : len(S)] * S, r.larray[:, len(S) :]), 1)
    rank = min(*middle.shape, middle.shape[0] if maxrank is None else int(maxrank))
    left, values, right = _decomposed(middle, rank, U.comm, layout.split is not None)
    whole = Layout(tuple(left.shape), None)
    u = moved(matmul(q, DNDarray(left, whole, U.comm)), layout.with_axis(1, rank))
    s = DNDarray(values, Layout((rank,), None), U.comm)
    if V is None:
        return u, s
    above = matmul(V, DNDarray(right[: len(S)], Layout((len(S), rank), None), U.comm))
    below = DNDarray(right[len(S) :], Layout((N.shape[1], rank), None), U.comm)
    return RSVD(u, s, concatenate([above, below], axis=0))


def _rows(U: DNDarray, N: DNDarray) -> Layout:
    """Return the layout in which both are decomposed, of the shape of U: by rows where one of them is split."""
    if U.split is None and N.split is None:
        return U.layout
    counts = next((x.layout.counts for x in (U, N) if x.split == 0), None)
    return Layout.even(U.shape, 0, U.comm.size) if counts is None else Layout(U.shape, 0, counts)


def _operands(
    new_data: object, U_old: object, S_old: object, V_old: object
) -> tuple[DNDarray, DNDarray, torch.Tensor, DNDarray | None]:
    """Return the operands in one dtype, S on every rank."""
    N, U = as_matrix("isvd", "new_data", new_data), as_matrix("isvd", "U_old", U_old)
    V = None if V_old is None else as_matrix("isvd", "V_old", V_old)
    dtype = vector_dtype("isvd", *(x for x in (N, U, V) if x is not None))
    if N.shape[0] != U.shape[0]:
        raise LayoutError(f"isvd: new_data must have {U.shape[0]} rows as U_old has, got shape {N.shape}")
    S = S_old if isinstance(S_old, DNDarray) else torch.as_tensor(S_old)
    if tuple(S.shape) != U.shape[1:] or (V is not None and V.shape[1] != U.shape[1]):
        got = tuple(S.shape), None if V is None else V.shape
        raise LayoutError(
            f"isvd: S_old and V_old must have {U.shape[1]} entries and columns, got shapes {got}"
        )
    S = moved(S, Layout(S.shape, None)).larray if isinstance(S, DNDarray) else S
    S = S.to(device=U.larray.device, dtype=dtype)
    N, U, V = (None if x is None else DNDarray(x.larray.to(dtype), x.layout, x.comm) for x in (N, U, V))
    return N, U, S, V


def _decomposed(middle: torch.Tensor, rank: int, comm, is_split: bool) -> tuple[torch.Tensor, ...]:
    """Return the leading singular triplets of a small matrix; decided by rank 0 where factors are split."""
    k, n = middle.shape
    shapes = (k, rank), (rank,), (n, rank)

    def solve() -> torch.Tensor:
        if not bool(torch.isfinite(middle).all()):
            raise LinAlgError("isvd: the data must be finite")
        left, values, right = torch.linalg.svd(middle, full_matrices=False)
        right = right[:rank].mH
        at = right.abs().argmax(0)
        sign = torch.sgn(right.gather(0, at[None])[0])
        sign = torch.where(sign == 0, torch.ones_like(sign), sign)
        return pack(1, left[:, :rank] / sign, values[:rank], right / sign, like=middle)

    if is_split:
        answer = tell(comm, solve, middle.new_empty(1 + sum(map(math.prod, shapes))))
    else:
        answer = solve()
    left, values, right = unpack(answer[1:], *shapes)
    return left, values.real.contiguous(), right
