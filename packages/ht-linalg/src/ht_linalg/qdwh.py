"""QDWH: the unitary polar factor of a square distributed matrix by products, QR and Cholesky decompositions.

References
----------
Y. Nakatsukasa, Z. Bai, F. Gygi, Optimizing Halley's iteration for computing the matrix polar decomposition, 2010,
doi:10.1137/090774999. Y. Nakatsukasa, N. J. Higham, Backward stability of iterations for computing the polar
decomposition, 2012, doi:10.1137/110857544.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from ht_core import DNDarray
from ht_core.layout import Layout

from .columns import adjoint, moved
from .consensus import pack, solve_sum
from .elimination import factor_positive, substitute
from .gram import WIDE
from .householder import block_householder
from .matmul import matmul

if TYPE_CHECKING:
    from ht_comm import Communicator

#: The inverse in the iteration is taken by Cholesky where it is this well conditioned at least, else by QR.
CHOLESKY_BELOW = 100.0
#: Steps beyond the planned ones, each of which triples the smallest singular value.
EXTRA_STEPS = 12


def plan_weights(low: float, eps: float) -> list[tuple[float, float, float]]:
    """Return the weights (a, b, c) of the steps that map singular values in [low, 1] to 1. Pure.

    A step maps x to ``x (a + b x^2) / (1 + c x^2)`` with the a, b, c that raise the lower end most; six steps do for
    low = 1e-16.
    """
    steps = []
    while abs(1 - low) > 10 * eps and len(steps) < 12:
        d = (4 * (1 - low**2) / low**4) ** (1 / 3)
        a = math.sqrt(1 + d) + 0.5 * math.sqrt(8 - 4 * d + 8 * (2 - low**2) / (low**2 * math.sqrt(1 + d)))
        b = (a - 1) ** 2 / 4
        c = a + b - 1
        steps.append((a, b, c))
        low = min(low * (a + b * low**2) / (1 + c * low**2), 1.0)
    return steps or [(3.0, 1.0, 3.0)]


def qdwh(x: DNDarray, low: float) -> DNDarray | None:
    """Return the unitary polar factor of a square matrix, or None where it is too close to a singular one.

    Parameters
    ----------
    x : DNDarray, shape (n, n), split 0
        With singular values of at most 1, floating or complex.
    low : float
        A lower bound of the singular values; smaller ones cost more steps.

    *Distribution*: collective; the result is split as `x`. A step by QR takes 4 p broadcasts of panels (4 n^2 words
    in all, received by each rank), two redistributions and p - 1 blocks of partial sums; a step by Cholesky p - 1
    blocks of partial sums, three broadcasts per 64 columns (1.5 n^2 words) and a redistribution. From low = 1e-16 two
    of the first and four of the second kind are taken, 38 n^3 / p flops. Scratch: six blocks of the size of `x`'s.

    Notes
    -----
    The factor U is unitary to rounding error, and so is the backward error of ``x = U H`` with H the Hermitian part of
    ``U^H x``, for any condition number (Nakatsukasa and Higham, 2012).
    """
    eps = torch.finfo(x.larray.dtype).eps
    planned = plan_weights(low, eps)
    close = (5 * eps) ** (1 / 3)  # convergence is cubic: a change as small as this was the last but one
    for step in range(len(planned) + EXTRA_STEPS):
        a, b, c = planned[step] if step < len(planned) else (3.0, 1.0, 3.0)
        following = (_by_qr if c > CHOLESKY_BELOW else _by_cholesky)(x, a, b, c)
        if following is None:
            return None
        if step >= len(planned) - 1 and global_norm(following.larray - x.larray, x.comm) <= close:
            # What was zero stays zero
            return following if abs(global_norm(following.larray, x.comm) ** 2 - x.shape[0]) < 0.5 else None
        x = following
    return None


def _by_cholesky(x: DNDarray, a: float, b: float, c: float) -> DNDarray | None:
    """Return b/c X + (a - b/c) X inv(I + c X^H X)."""
    comm, n = x.comm, x.shape[0]
    rows = Layout.even((n, n), 0, comm.size)
    columns = Layout.even((n, n), 1, comm.size)
    gram = moved(matmul(adjoint(x), x), rows)
    # The matrix is Hermitian: the adjoint of this rank's rows are its columns
    lower = (gram.larray * c).mH.contiguous().resolve_conj()
    lower.diagonal(-columns.displs[comm.rank])[: lower.shape[1]] += 1
    if not factor_positive(lower, columns.counts, comm):
        return None
    solved = x.larray.mH.contiguous().resolve_conj()
    substitute(lower, columns.counts, comm, solved, upper=False)
    upper = moved(DNDarray(lower.mH, rows, comm), columns).larray.resolve_conj()
    substitute(upper, columns.counts, comm, solved, upper=True)
    local = solved.mH.mul(a - b / c).add_(x.larray, alpha=b / c)
    return DNDarray(local.contiguous(), x.layout, comm)


def _by_qr(x: DNDarray, a: float, b: float, c: float) -> DNDarray:
    """The same with ``Q1 Q2^H / sqrt(c)`` for ``X inv(I + c X^H X)``, where Q1, Q2 are the halves of the Q of
    ``[sqrt(c) X; I]``: that matrix is squared nowhere.
    """
    comm, n = x.comm, x.shape[0]
    columns = Layout.even((n, n), 1, comm.size)
    mine = moved(x, columns).larray
    stacked = mine.new_zeros((2 * n, mine.shape[1]))
    torch.mul(mine, math.sqrt(c), out=stacked[:n])
    stacked[n:].diagonal(-columns.displs[comm.rank])[: mine.shape[1]] = 1
    q, _, _ = block_householder(stacked, Layout((2 * n, n), 1, columns.counts), comm, n, want_q=True)
    del stacked, mine
    above, below = DNDarray(q[:n], columns, comm), DNDarray(q[n:], columns, comm)
    product = moved(matmul(above, adjoint(below)), x.layout)
    local = product.larray.mul((a - b / c) / math.sqrt(c)).add_(x.larray, alpha=b / c)
    return DNDarray(local, x.layout, comm)


def global_norm(x: torch.Tensor, comm: Communicator) -> float:
    """Return the Frobenius norm of a matrix in pieces, the same number on every rank; NaN and infinity as infinity."""
    square = torch.linalg.vector_norm(x, dtype=WIDE[x.dtype]) ** 2

    def root(total: torch.Tensor) -> torch.Tensor:
        return pack(total.sqrt().nan_to_num(nan=math.inf, posinf=math.inf), like=total)

    return solve_sum(square.reshape(1).double(), comm, root, 1).item()
