"""Sparse graphs of near rows: edges to the k nearest, or to all within a threshold; never n x n."""

from __future__ import annotations

import torch
from ht_core import DNDarray
from ht_linalg.sparse import DCSR_matrix, sparse_csr_matrix
from ht_linalg.spatial import cdist_topk
from ht_linalg.spatial.metrics import bind
from ht_linalg.spatial.operands import as_tables
from ht_linalg.spatial.reductions import tiles


def nearest_graph(X: DNDarray, k: int, gamma: float | None) -> DCSR_matrix:
    """Return the mean of the graph of edges to the k nearest rows and its transpose.

    Parameters
    ----------
    X : DNDarray, shape (n, d), split 0 or None
    k : int
        Neighbours of each row, itself not among them.
    gamma : float or None
        Weights ``exp(-gamma |x - y|^2)``; None for 1.

    *Distribution*: the ring of ``cdist_topk``; the transpose, one exchange of the n k edges.
    """
    squares, indices = (part.larray for part in cdist_topk(X, k=k, metric="sqeuclidean", exclude_self=True))
    weights = torch.ones_like(squares) if gamma is None else squares.mul(-gamma).exp_()
    starts = torch.arange(0, indices.numel() + 1, k, device=indices.device)
    order = indices.argsort(1)
    graph = _matrix(X, starts, indices.gather(1, order).reshape(-1), weights.gather(1, order).reshape(-1))
    return (graph + graph.T.asformat("csr")) * 0.5


def threshold_graph(
    X: DNDarray, metric: str, gamma: float, value: float, keeps_above: bool, is_weighted: bool
) -> DCSR_matrix:
    """Return the graph of edges between rows whose similarity is above, or below, a value.

    *Distribution*: a ring, p - 1 messages of one block of rows, and one allgather of 3 p integers.
    """
    tables = as_tables("Laplacian", X, None)
    bound = bind(metric, tables.x, gamma)
    found: list[tuple[torch.Tensor, ...]] = []
    for start, block in tables.blocks():
        never = -torch.inf if keeps_above else torch.inf
        for rows, columns, tile in tiles(bound, tables, block, start, never):
            i, j = (tile > value if keeps_above else tile < value).nonzero(as_tuple=True)
            found.append((i + rows.start, j + (start + columns.start), tile[i, j]))
    n = tables.x.shape[0]
    if found:
        i, j, weights = (torch.cat(part) for part in zip(*found))
    else:
        i = j = torch.zeros(0, dtype=torch.int64, device=tables.x.device)
        weights = tables.x.new_zeros(0)
    order = (i * X.shape[0] + j).argsort()
    starts = torch.zeros(n + 1, dtype=torch.int64, device=i.device)
    starts[1:] = torch.bincount(i, minlength=n).cumsum(0)
    weights = weights[order] if is_weighted else torch.ones_like(weights)
    return _matrix(X, starts, j[order], weights)


def _matrix(X: DNDarray, starts, columns, weights) -> DCSR_matrix:
    """Return the square matrix whose local rows are given in compressed form; rows lie as those of `X`."""
    n = X.shape[0]
    local = torch.sparse_csr_tensor(
        starts, columns, weights, size=(len(starts) - 1, n), check_invariants=False
    )
    return sparse_csr_matrix(local, is_split=None if X.split is None else 0, comm=X.comm)
