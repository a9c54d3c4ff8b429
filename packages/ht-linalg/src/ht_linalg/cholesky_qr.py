"""CholeskyQR2: the QR decomposition of a tall matrix by two Gram matrices, with detection of breakdown.

References
----------
T. Fukaya, Y. Nakatsukasa, Y. Yanagisawa, Y. Yamamoto, CholeskyQR2: a simple and communication-avoiding
algorithm for computing a tall-skinny QR factorization on a large-scale parallel system, 2014,
doi:10.1109/ScalA.2014.11. I. Yamazaki, S. Tomov, J. Dongarra, Mixed-precision Cholesky QR factorization and
its case studies on multicore CPU with multiple GPUs, 2015, doi:10.1137/14M0973773 (the Gram matrix in higher
precision).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from .consensus import pack, solve_sum, unpack
from .gram import WIDE, gram, multiply_in_place, solve_with_gram

if TYPE_CHECKING:
    from ht_comm import Communicator

#: Status words of rank 0's answers.
BREAKDOWN, DONE, AGAIN = 0, 1, 2


def cholesky_qr2(
    x: torch.Tensor, comm: Communicator, want_q: bool = True, wide: bool | None = None
) -> tuple[torch.Tensor | None, torch.Tensor] | None:
    """Return Q and R of a matrix whose rows are spread over the ranks, or None where the method breaks down.

    Parameters
    ----------
    x : torch.Tensor, shape (n_i, d)
        This rank's rows; d is the same everywhere, the n_i may be 0.
    want_q : bool
        Whether Q is formed; without it no memory of the size of `x` is used.
    wide : bool, optional
        Whether single-precision data are multiplied in double precision in the first Gram matrix; by default
        only where that saves the second pass, that is without Q.

    Returns
    -------
    q : torch.Tensor, shape (n_i, d)
        Orthonormal columns to rounding error.
    r : torch.Tensor, shape (d, d)
        Upper triangular with positive diagonal, on every rank.

    None is returned, on all ranks alike, where the columns are numerically dependent for this method (a
    condition number, after scaling the columns to unit length, above about 1e7 in double precision), or not
    finite.

    *Distribution*: collective. At most two rounds of a reduction of d^2 words and a broadcast of d^2 + 1.

    Notes
    -----
    Pass one: G = X'X, R1 = chol(G). Pass two: Q1 = X inv(R1), H = Q1'Q1, R2 = chol(H), Q = Q1 inv(R2), R = R2
    R1. The first factor is trusted while its condition number k satisfies k^2 eps <= 1/8 for the eps of the
    Gram matrix, and the second confirms it: ||H - I|| must not exceed 1/2. Where H is the identity to
    rounding error, Q1 is the answer.
    """
    d, wide = x.shape[1], (not want_q if wide is None else wide)
    wide_eps = torch.finfo(WIDE[x.dtype]).eps
    eps_data = torch.finfo(x.dtype).eps
    eps = wide_eps if wide else eps_data
    target = 1 if want_q else 0  # without Q a first factor that is accurate to the data's precision is final

    def first(total: torch.Tensor) -> torch.Tensor:
        r, kappa = _scaled_cholesky(total)
        status = DONE if not target and kappa**2 * eps <= eps_data else AGAIN
        return pack(status if kappa**2 * eps <= 0.125 else BREAKDOWN, r, like=total)

    status, r1 = unpack(solve_sum(gram(x, wide), comm, first, 1 + d * d), (), (d, d))
    if _code(status) == BREAKDOWN:
        return None
    if _code(status) == DONE:
        return None, r1.to(x.dtype)

    def second(total: torch.Tensor) -> torch.Tensor:
        defect = (total - torch.eye(d, dtype=total.dtype, device=total.device)).norm().item()
        r, _ = torch.linalg.cholesky_ex(total, upper=True)
        status = BREAKDOWN if not defect <= 0.5 else AGAIN if defect > 4 * eps_data * d**0.5 else DONE
        return pack(status, r, like=total)

    q, h = solve_with_gram(x, r1.to(x.dtype), keep=want_q)
    status, r2 = unpack(solve_sum(h, comm, second, 1 + d * d), (), (d, d))
    if _code(status) == BREAKDOWN:
        return None
    if q is not None and _code(status) == AGAIN:
        identity = torch.eye(d, dtype=r2.dtype, device=r2.device)
        # r2 is nearly the identity, so its inverse is safe to form
        inverse = torch.linalg.solve_triangular(r2, identity, upper=True)
        multiply_in_place(q, inverse.to(x.dtype))
    return q, (r2 @ r1).to(x.dtype)


def _scaled_cholesky(total: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Return R with R'R = total, and the condition number of its factor with columns of unit length (inf if
    none).
    """
    diagonal = total.diagonal().real
    scale = diagonal.sqrt()
    if not (scale > 0).all() or not scale.isfinite().all():
        return total, float("inf")
    unit = total / (scale[:, None] * scale)
    r, info = torch.linalg.cholesky_ex(unit, upper=True)
    if info.item():
        return total, float("inf")
    identity = torch.eye(total.shape[0], dtype=r.dtype, device=r.device)
    inverse = torch.linalg.solve_triangular(r, identity, upper=True)
    # An upper bound of ||inv(R)||_2, and ||R||_2 lies between 1 and sqrt(d)
    kappa = torch.linalg.matrix_norm(inverse).item() if r.numel() else 1.0
    return r * scale, kappa if kappa == kappa else float("inf")


def _code(status: torch.Tensor) -> int:
    return round(status.real.item())
