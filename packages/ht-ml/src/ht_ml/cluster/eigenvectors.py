"""The smallest eigenvectors of a Laplacian that only multiplies."""

from __future__ import annotations

import torch
from ht_core import DNDarray
from ht_core.random import default_rng
from ht_linalg import lanczos, lobpcg

from ..graph import LaplacianOperator

_ITERATIONS = 1000
#: Fewer nodes (or nodes per eigenvector): all eigenvectors at once.
_FEW, _FEW_EACH = 64, 6


def smallest_eigenvectors(
    operator: LaplacianOperator, m: int, seed: int, solver: str, tol: float, n_lanczos: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the m smallest eigenvalues, ascending and not negative, and this rank's rows of the eigenvectors.

    *Distribution*: the products and messages of ``ht_linalg.lobpcg`` or ``lanczos``. For few nodes one product with n
    vectors, one allgather of n^2 numbers and one broadcast.
    """
    n = operator.shape[0]
    if n <= max(_FEW, _FEW_EACH * m):
        values, vectors = _all_at_once(operator, m)
    elif solver == "lanczos":
        values, vectors = _by_lanczos(operator, m, seed, max(m, min(n, n_lanczos)))
    else:
        start = _start(operator, m, seed)
        values, found = lobpcg(operator, start, largest=False, tol=tol, maxiter=_ITERATIONS)
        values, vectors = values.larray, found.larray
    return values.clamp(min=0.0), vectors


def _start(operator: LaplacianOperator, m: int, seed: int) -> DNDarray:
    """Return normal numbers that belong to rows, behind the eigenvector of the eigenvalue 0."""
    vectors = operator.layout.drop((1,))
    like = operator.scale.larray
    block = DNDarray(like.new_empty((like.shape[0], m)), vectors.insert(1, m), operator.comm)
    block = default_rng(seed, comm=operator.comm).standard_normal(block.shape, out=block)
    has_edges = operator.degrees.larray > 0
    block.larray[:, 0] = torch.where(has_edges, like.reciprocal(), 0)
    return block


def _all_at_once(operator: LaplacianOperator, m: int) -> tuple[torch.Tensor, torch.Tensor]:
    like, layout, comm = operator.scale.larray, operator.layout, operator.comm
    local = torch.zeros((like.shape[0], layout.shape[1]), dtype=like.dtype, device=like.device)
    start = layout.offset(comm.rank)
    if local.shape[0]:
        local.diagonal(start).fill_(1.0)
    matrix = (operator @ DNDarray(local, layout, comm)).resplit(None).larray.to(torch.float64)
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    both = torch.cat([values[:m].unsqueeze(0), vectors[:, :m]])
    both = _of_rank_0(operator, both)
    return both[0].to(like.dtype), both[1 + start : 1 + start + like.shape[0]].to(like.dtype)


def _by_lanczos(
    operator: LaplacianOperator, m: int, seed: int, steps: int
) -> tuple[torch.Tensor, torch.Tensor]:
    start = _start(operator, 2, seed)
    first = DNDarray(start.larray[:, 1].contiguous(), start.layout.drop((1,)), start.comm)
    basis, small = lanczos(operator, steps, first)
    values, vectors = torch.linalg.eigh(small.larray.to(torch.float64))
    both = _of_rank_0(operator, torch.cat([values[:m].unsqueeze(0), vectors[:, :m]]))
    both = both.to(basis.larray.dtype)
    return both[0], basis.larray @ both[1:]


def _of_rank_0(operator: LaplacianOperator, values: torch.Tensor) -> torch.Tensor:
    """Return the numbers of rank 0: signs and bases of eigenvectors differ between processors."""
    is_alone = operator.layout.split is None or operator.comm.size == 1
    return values if is_alone else operator.comm.bcast(values.contiguous(), root=0)


#: Names of `eigen_solver`; "randomized" is Heat's.
SOLVERS = {"lobpcg": "lobpcg", "randomized": "lobpcg", "lanczos": "lanczos"}
