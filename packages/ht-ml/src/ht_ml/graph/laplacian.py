"""Laplacian matrices of graphs of similar rows: dense, sparse, or as an operator that recomputes them."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import torch
from ht_core import DNDarray
from ht_core.errors import LayoutError
from ht_core.layout import Layout
from ht_linalg.sparse import DCSR_matrix, sparse_csr_matrix
from ht_linalg.spatial import cdist, kernel_matmul, rbf

from ..rows import as_rows
from .neighbourhoods import nearest_graph, threshold_graph
from .operator import LaplacianOperator

_DEFINITIONS = ("norm_sym", "simple")
_MODES = ("fully_connected", "eNeighbour", "kNN")
_STORAGES = ("auto", "dense", "sparse", "operator")


class Laplacian:
    """The Laplacian of the graph whose nodes are the rows of a table and whose edges say how alike they are.

    Parameters
    ----------
    similarity : {"rbf", "euclidean"} or callable
        "rbf" is ``exp(-gamma |x - y|^2)``; "euclidean" is the distance, which only thresholds and nearest
        neighbours can use sensibly. A function maps a table (n, d) to its dense (n, n) similarities, e.g. ``lambda x:
        ht.spatial.rbf(x, sigma=2.0)``.
    weighted : bool
        Weigh edges by the similarity; with False by 1 (not for "fully_connected"). Edges of "euclidean" graphs of
        nearest neighbours always weigh 1.
    definition : {"norm_sym", "simple"}
        ``D^-1/2 (D - W) D^-1/2`` or ``D - W``, with weights W and degrees D.
    mode : {"fully_connected", "eNeighbour", "kNN"}
        Edges between all rows; those whose similarity is on the right side of a threshold; or to the nearest rows,
        made symmetric by ``(W + W^T) / 2``.
    threshold_key : {"upper", "lower"}
        Of "eNeighbour": the threshold is the upper bound (distances), or the lower bound (similarities), of edges.
    threshold_value : float
    neighbours : int
        Of "kNN".
    gamma : float
        Of "rbf".
    storage : {"auto", "dense", "sparse", "operator"}
        What `construct` returns: a DNDarray (n, n); a ``ht_linalg.sparse.DCSR_matrix``; or a `LaplacianOperator`,
        which holds one number per row and recomputes (or keeps sparse) the weights. "auto": dense for
        "fully_connected" graphs and for functions, else sparse.

    Notes
    -----
    Nodes have no edge to themselves. The row of a node without edges is 0. U. von Luxburg, "A tutorial on spectral
    clustering", Statistics and Computing 17 (2007), doi:10.1007/s11222-007-9033-z.

    Examples
    --------
    >>> import ht_core as ht
    >>> from ht_ml.graph import Laplacian
    >>> X = ht.array([[0.0], [1.0], [3.0]], split=0)
    >>> L = Laplacian("euclidean", weighted=False, definition="simple", mode="eNeighbour", threshold_value=2.5)
    >>> L.construct(X).to_dense().numpy()
    array([[ 1., -1.,  0.],
           [-1.,  2., -1.],
           [ 0., -1.,  1.]])
    """

    def __init__(
        self,
        similarity: str | Callable[[DNDarray], DNDarray] = "rbf",
        weighted: bool = True,
        definition: str = "norm_sym",
        mode: str = "fully_connected",
        threshold_key: str = "upper",
        threshold_value: float = 1.0,
        neighbours: int = 10,
        *,
        gamma: float = 1.0,
        storage: str = "auto",
    ) -> None:
        self.similarity, self.weighted, self.definition, self.mode = similarity, weighted, definition, mode
        self.threshold_key, self.threshold_value, self.neighbours = threshold_key, threshold_value, neighbours
        self.gamma, self.storage = gamma, storage

    def construct(self, X: Any) -> DNDarray | DCSR_matrix | LaplacianOperator:
        """Return the Laplacian of the rows of `X`.

        Parameters
        ----------
        X : DNDarray or array_like, shape (n, d)
            A split along the features is redistributed first.

        *Distribution*: rows as those of `X`. "fully_connected" and thresholds: a ring, p - 1 messages of one block of
        rows; "kNN": the ring of ``cdist_topk`` and one exchange of edges. An operator: one product for the degrees,
        which for "fully_connected" graphs is a ring, too. A dense "norm_sym" result: one allgather of n numbers; a
        sparse one: a product of sparse matrices. Memory beyond the result: two blocks of rows and tiles. Collective.

        Raises
        ------
        ValueError
            If a parameter is out of range or the combination has no meaning; before any message.
        """
        op = "Laplacian.construct"
        storage = self.check(op)
        rows = as_rows(op, X)
        if self.mode == "kNN" and not self.neighbours < rows.n:
            raise ValueError(f"{op}: neighbours must be in [1, {rows.n - 1}], got {self.neighbours}")
        table = rows.table(rows.local)
        if storage == "dense":
            return self._dense(op, table)
        operator = self._operator(table)
        return operator if storage == "operator" else _sparse(operator)

    def check(self, op: str) -> str:
        """Refuse parameters that are out of range, and return how the result is stored; no message."""
        for name, known in (("definition", _DEFINITIONS), ("mode", _MODES), ("storage", _STORAGES)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{op}: {name} must be one of {', '.join(map(repr, known))}, got {getattr(self, name)!r}"
                )
        if not callable(self.similarity) and self.similarity not in ("rbf", "euclidean"):
            raise ValueError(
                f"{op}: similarity must be 'rbf', 'euclidean' or a function, got {self.similarity!r}"
            )
        if self.threshold_key not in ("upper", "lower"):
            raise ValueError(f"{op}: threshold_key must be 'upper' or 'lower', got {self.threshold_key!r}")
        if not isinstance(self.gamma, Real) or not self.gamma > 0:
            raise ValueError(f"{op}: gamma must be a positive number, got {self.gamma!r}")
        neighbours = self.neighbours
        if isinstance(neighbours, bool) or not isinstance(neighbours, Integral) or neighbours < 1:
            raise ValueError(f"{op}: neighbours must be an int >= 1, got {neighbours!r}")
        usual = "dense" if self.mode == "fully_connected" or callable(self.similarity) else "sparse"
        storage = usual if self.storage == "auto" else self.storage
        if callable(self.similarity) and storage != "dense":
            raise ValueError(
                f"{op}: similarity must be 'rbf' or 'euclidean' for storage {storage!r}, got a function"
            )
        if callable(self.similarity) and self.mode == "kNN":
            raise ValueError(f"{op}: similarity must be 'rbf' or 'euclidean' for mode 'kNN', got a function")
        if self.mode == "fully_connected" and storage == "sparse":
            raise ValueError(
                f"{op}: storage must be 'dense' or 'operator' for mode 'fully_connected', got 'sparse'"
            )
        return storage

    def _operator(self, table: DNDarray) -> LaplacianOperator:
        if self.mode == "fully_connected":

            def weights(v: DNDarray) -> DNDarray:
                return kernel_matmul(table, None, v, self.similarity, gamma=self.gamma, exclude_self=True)

            return LaplacianOperator(weights, table, self.definition)
        matrix = self._graph(table)
        made = LaplacianOperator(matrix.__matmul__, table, self.definition)
        made.weights = matrix
        return made

    def _graph(self, table: DNDarray) -> DCSR_matrix:
        if self.mode == "kNN":
            is_weighted = self.weighted and self.similarity == "rbf"
            return nearest_graph(table, int(self.neighbours), float(self.gamma) if is_weighted else None)
        return threshold_graph(
            table,
            self.similarity,
            float(self.gamma),
            float(self.threshold_value),
            self.threshold_key == "lower",
            self.weighted,
        )

    def _dense(self, op: str, table: DNDarray) -> DNDarray:
        if self.mode == "kNN":
            return _sparse(self._operator(table)).to_dense()
        if callable(self.similarity):
            weights = self.similarity(table)
            if not isinstance(weights, DNDarray) or weights.shape != (table.shape[0],) * 2:
                raise LayoutError(
                    f"{op}: similarity must return a DNDarray of shape {(table.shape[0],) * 2}, "
                    f"got {getattr(weights, 'shape', type(weights).__name__)}"
                )
            weights = weights.resplit(table.split) if weights.split != table.split else weights
        else:
            weights = (
                cdist(table)
                if self.similarity == "euclidean"
                else rbf(table, sigma=(0.5 / self.gamma) ** 0.5)
            )
        local, start = weights.larray.clone(), weights.layout.offset(table.comm.rank)
        if self.mode == "eNeighbour":
            keep = (
                local > self.threshold_value
                if self.threshold_key == "lower"
                else local < self.threshold_value
            )
            local = torch.where(keep, local if self.weighted else torch.ones_like(local), 0)
        local.diagonal(start).zero_() if local.shape[0] else None
        operator = LaplacianOperator(
            lambda v: DNDarray(local.sum(1), v.layout, v.comm), table, self.definition
        )
        return DNDarray(_from_weights(local, start, operator), weights.layout, table.comm)


def _from_weights(local: torch.Tensor, start: int, operator: LaplacianOperator) -> torch.Tensor:
    """Turn the local rows of the weights into those of the Laplacian, in place; an allgather of n numbers."""
    if operator.definition == "simple":
        local.neg_()
        local.diagonal(start).copy_(operator.degrees.larray) if local.shape[0] else None
        return local
    everywhere = operator.scale.resplit(None).larray
    local.mul_(operator.scale.larray[:, None]).mul_(-everywhere)
    if local.shape[0]:
        local.diagonal(start).copy_((operator.degrees.larray > 0).to(local.dtype))
    return local


def _sparse(operator: LaplacianOperator) -> DCSR_matrix:
    """Return the Laplacian as a sparse matrix: scaled columns by a product, scaled rows in place."""
    matrix = operator.weights
    if operator.definition == "simple":
        return _diagonal(operator, operator.degrees.larray) - matrix
    scaled = matrix @ _diagonal(operator, operator.scale.larray)
    entries = scaled.block.expand()
    scaled = scaled.with_values(entries.values * operator.scale.larray[entries.major])
    ones = (operator.degrees.larray > 0).to(scaled.block.values.dtype)
    return _diagonal(operator, ones) - scaled


def _diagonal(operator: LaplacianOperator, local: torch.Tensor) -> DCSR_matrix:
    n = local.shape[0]
    layout: Layout = operator.layout
    starts = torch.arange(n + 1, device=local.device)
    columns = starts[:-1] + layout.offset(operator.comm.rank)
    matrix = torch.sparse_csr_tensor(
        starts, columns, local, size=(n, layout.shape[1]), check_invariants=False
    )
    return sparse_csr_matrix(matrix, is_split=None if layout.split is None else 0, comm=operator.comm)
