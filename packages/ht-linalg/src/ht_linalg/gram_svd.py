"""Truncated SVD of a tall matrix, rows spread over the ranks: Gram matrix and eigenvectors, TSQR where that
is blind.

A Gram matrix squares the singular values, so it cannot see those below sqrt(eps) of the largest. Rank 0
judges each attempt by the eigenvalues found: where the tolerance or a wanted singular value is out of sight,
all ranks go on to the next, more exact attempt: products in single precision, then in double precision, then
TSQR.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from .consensus import pack, solve_sum, tell, unpack
from .gram import WIDE, gram, multiply_in_place, product, tiles
from .truncation import Truncation, signs, tails
from .tsqr import tsqr

if TYPE_CHECKING:
    from ht_comm import Communicator

#: Columns of U are made orthogonal once more where their inner products may exceed this many eps of the data.
ORTHOGONALITY = 1000

#: Status words of rank 0's answers.
UNRESOLVED, DONE, REFINE, NOT_FINITE = 0, 1, 2, 3


class Triplets(NamedTuple):
    """Singular triplets of a matrix X, rows spread: X is about ``u * s @ v.mH``."""

    u: torch.Tensor | None  # (n_i, r), this rank's rows, dtype of X; None where not wanted
    s: torch.Tensor  # (r,), float64, on every rank
    v: torch.Tensor  # (d, r), float64 or complex128, on every rank
    error: float  # relative error in the Frobenius norm


def svd_tall(
    x: torch.Tensor, counts: tuple[int, ...], comm: Communicator, want: Truncation, want_u: bool = True
) -> Triplets:
    """Return the leading singular triplets of a matrix X with more rows than columns.

    Parameters
    ----------
    x : torch.Tensor, shape (n_i, d), floating or complex
        This rank's rows; the n_i may be 0, their sum is at least d.
    counts : tuple of int
        Rows of every rank.
    want : Truncation
    want_u : bool
        Whether left vectors are formed.

    *Distribution*: collective. A reduction of d^2 words and a broadcast of d^2 + d + 4; where the columns of
    U must be made orthogonal once more, a reduction of r^2 and a broadcast of r^2 + d r + r + 1 words. An
    attempt that fails costs one or two of these; TSQR costs 2 log2 p steps of at most d^2 words.

    Raises
    ------
    ValueError
        If X holds NaN or infinity: the same on every rank, learnt from the broadcast.
    """
    count = sum(len(tiles(rows, x.device)) for rows in counts)
    for wide in _attempts(x.dtype, want, count if want_u else None):
        found = _by_gram(x, counts, comm, want, want_u, wide)
        if found is not None:
            return found
    return _by_tsqr(x, counts, comm, want, want_u)


def _attempts(dtype: torch.dtype, want: Truncation, count: int | None) -> list[bool]:
    """Return which Gram matrices to try: in the data's precision (False), in double precision (True).

    Where U is wanted from `count` tiles and singular values down to `rtol` of the largest would make it necessary
    to refine it, double precision from the start is the cheaper way to the same orthogonality.
    """
    precisions = [(False, torch.finfo(dtype).eps), (True, torch.finfo(WIDE[dtype]).eps)]
    refines = count and want.rtol is not None and want.rtol**-2 > ORTHOGONALITY * count**0.5
    if WIDE[dtype] == dtype or refines:
        precisions = precisions[1:]
    return [wide for wide, eps in precisions if want.rtol is None or want.rtol**2 >= 64 * eps]


def _by_gram(
    x: torch.Tensor, counts: tuple[int, ...], comm: Communicator, want: Truncation, want_u: bool, wide: bool
) -> Triplets | None:
    """One attempt with a Gram matrix; None where it cannot resolve what is wanted."""
    count = sum(len(tiles(rows, x.device)) for rows in counts)
    d, eps_data = x.shape[1], torch.finfo(x.dtype).eps
    eps = torch.finfo(WIDE[x.dtype] if wide else x.dtype).eps
    tiny = torch.finfo(WIDE[x.dtype] if wide else x.dtype).tiny / eps**2

    def judge(total: torch.Tensor) -> torch.Tensor:
        status, rank, error, values, vectors = UNRESOLVED, 0, 0.0, total[0].real, total
        energy = total.diagonal().real.sum().item()
        if not torch.isfinite(total).all():
            status = NOT_FINITE
        elif energy > tiny and (solved := _eigh(total)) is not None:
            values, vectors = solved
            energies = values / energy
            rank = want.rank(energies, 4 * eps)
            error = tails(energies)[rank].sqrt().item()
            ratio = (values[0] / values[rank - 1].clamp_min(0)).sqrt().item()  # of singular values, inf at 0
            if 16 * eps * ratio**2 <= 1 and 32 * eps_data * ratio <= 1:
                # How far from orthogonal the columns of X V inv(S) are: by the error of V, with the rounding
                # of the tiles' Gram matrices averaged over the tiles, and by the rounding of X V
                defect = max(eps * ratio**2 / count**0.5, eps_data * ratio)
                status = REFINE if want_u and defect > ORTHOGONALITY * eps_data else DONE
        return pack(status, rank, error, values, vectors, like=total)

    answer = solve_sum(gram(x, wide), comm, judge, 3 + d + d * d)
    status, rank, error, values, v = unpack(answer, (), (), (), (d,), (d, d))
    status, rank = round(status.real.item()), round(rank.real.item())
    if status == NOT_FINITE:
        require_finite(x, comm, want.op)  # returns where squares overflowed
    if status in (UNRESOLVED, NOT_FINITE):
        return None
    s, v = values.real[:rank].sqrt(), v[:, :rank]
    scaled = (v / s).to(x.dtype)
    if status == REFINE:
        return _refined(x, scaled, s, v, error.real.item(), comm)
    return Triplets(product(x, scaled, with_gram=False)[0] if want_u else None, s, v, error.real.item())


def _eigh(total: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return eigenvalues, largest first, and eigenvectors with fixed signs; None where LAPACK fails."""
    try:
        values, vectors = torch.linalg.eigh(total)
    except torch.linalg.LinAlgError:
        return None
    vectors = vectors.flip(1)
    return values.flip(0), vectors / signs(vectors)


def _refined(x, scaled, s, v, error: float, comm: Communicator) -> Triplets | None:
    """Return triplets with orthonormal U from approximate ones.

    Y = X V inv(S) is nearly orthonormal. With Y'Y = L'L, Y inv(L) has orthonormal columns, and X V V' = Y S
    V' = (Y inv(L)) (L S) V': the SVD of the small L S gives the exact triplets of X V V'. The Gram matrix of
    a nearly orthonormal Y is harmless to square.
    """
    d, r = v.shape

    def judge(h: torch.Tensor) -> torch.Tensor:
        defect = torch.linalg.matrix_norm(h - torch.eye(r, dtype=h.dtype, device=h.device)).item()
        upper, info = torch.linalg.cholesky_ex(h, upper=True)
        if info.item() or not defect <= 0.5:
            return pack(UNRESOLVED, s, h, v, like=h)
        left, values, right = torch.linalg.svd(upper * s)
        turned = v @ right.mH
        sign = signs(turned)
        correction = torch.linalg.solve_triangular(upper, left / sign, upper=True)
        return pack(DONE, values, correction, turned / sign, like=h)

    y, h = product(x, scaled, with_gram=True)
    status, s, c, v = unpack(solve_sum(h, comm, judge, 1 + r + r * r + d * r), (), (r,), (r, r), (d, r))
    if round(status.real.item()) == UNRESOLVED:
        return None
    return Triplets(multiply_in_place(y, c.to(y.dtype)), s.real.contiguous(), v, error)


def _by_tsqr(x, counts, comm: Communicator, want: Truncation, want_u: bool) -> Triplets:
    """SVD of R from TSQR: as accurate as a full SVD."""
    d = x.shape[1]
    tree = tsqr(x, counts, comm)
    answer, left = x.new_empty(3 + tree.k + d * tree.k, dtype=WIDE[x.dtype]), None

    def solve() -> torch.Tensor:
        nonlocal left
        found, left = _svd_of_triangle(tree.r.to(answer.dtype), want)
        return found

    answer = tell(comm, solve, answer)
    status, rank, error, s, v = unpack(answer, (), (), (), (tree.k,), (d, tree.k))
    rank = round(rank.real.item())
    if round(status.real.item()) == NOT_FINITE:
        require_finite(x, comm, want.op)
        raise ValueError(
            f"{want.op}: A must have a norm that its dtype can hold, got overflow; divide A by its maximum"
        )
    u = tree.apply(None if left is None else left[:, :rank].to(x.dtype), rank) if want_u else None
    return Triplets(u, s.real[:rank].contiguous(), v[:, :rank], error.real.item())


def _svd_of_triangle(r: torch.Tensor, want: Truncation) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return rank 0's answer and the left vectors of R."""
    if not torch.isfinite(r).all():
        return pack(NOT_FINITE, 0, 0.0, r.new_zeros(r.shape[0]), r.mH, like=r), None
    left, s, right = torch.linalg.svd(r, full_matrices=False)
    relative = s / s[0] if s[0] > 0 else s
    energies = relative**2 / (relative**2).sum().clamp_min(torch.finfo(s.dtype).tiny)
    rank = want.rank(energies)
    sign = signs(right.mH)
    return pack(DONE, rank, tails(energies)[rank].sqrt(), s, right.mH / sign, like=r), left / sign


def require_finite(x: torch.Tensor, comm: Communicator, op: str) -> None:
    """Raise on every rank if some rank's `x` holds NaN or infinity; one allreduce of one number.

    Raises
    ------
    ValueError
    """
    peak = x.abs().amax() if x.numel() else x.new_zeros((), dtype=x.real.dtype)
    if not torch.isfinite(comm.allreduce(peak.reshape(1).double(), "max")).all():
        raise ValueError(f"{op}: A must hold finite numbers only, got NaN or infinity")
