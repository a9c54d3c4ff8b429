"""Searches for the nearest rows."""

from __future__ import annotations

from numbers import Real
from typing import Any

import torch
from ht_linalg.sparse import DCSR_matrix
from ht_linalg.spatial import cdist_within

from ..rows import as_rows
from .search import NeighborSearch, require_near_zero


class NearestNeighbors(NeighborSearch):
    """Search for the nearest of many rows, as ``sklearn.neighbors.NearestNeighbors`` with ``algorithm="brute"``.

    Parameters
    ----------
    n_neighbors : int
        How many rows a search returns by default.
    radius : float
        Up to which distance `radius_neighbors_graph` searches by default.
    metric : {"euclidean", "minkowski", "l2", "sqeuclidean", "manhattan", "l1", "cityblock", "cosine"} or function
        "minkowski" is "euclidean". A function takes tensors of shapes (a, d) and (b, d) and returns distances of
        shape (a, b).

    Attributes
    ----------
    n_features_in_, n_samples_fit_ : int
        Features and rows learned.
    effective_metric_ : str or function

    Notes
    -----
    The learned rows are not copied where their dtype is float32 or float64: do not change them. All distances are
    worked out, in matrix products; see ``ht_linalg.spatial.cdist_topk``.

    Examples
    --------
    >>> import ht_core as ht
    >>> X = ht.array([[0.0], [1.0], [3.0], [7.0]], split=0)
    >>> distances, indices = NearestNeighbors(n_neighbors=2).fit(X).kneighbors(ht.array([[2.9], [6.0]], split=0))
    >>> indices.numpy().tolist()
    [[2, 1], [3, 2]]
    """

    def __init__(self, n_neighbors: int = 5, radius: float = 1.0, *, metric: Any = "euclidean") -> None:
        self.n_neighbors = n_neighbors
        self.radius = radius
        self.metric = metric

    def fit(self, X: Any, y: Any = None) -> NearestNeighbors:
        """Keep the rows to be found.

        Parameters
        ----------
        X : DNDarray or array_like, shape (n, d)
        y : ignored

        Returns
        -------
        NearestNeighbors
            The estimator itself.

        *Distribution*: rows: one allreduce of one number (whether they are finite). Features (split 1) are resplit
        first. Replicated: no message. Collective.

        Raises
        ------
        ValueError
            If `X` is not a table or holds NaN or infinity, or a parameter is wrong; the same on every rank.
        """
        op = "NearestNeighbors.fit"
        self._check_parameters(op)
        rows = as_rows(op, X)
        require_near_zero(op, rows)
        self._keep(rows)
        return self

    def radius_neighbors_graph(
        self, X: Any = None, radius: float | None = None, mode: str = "connectivity"
    ) -> DCSR_matrix:
        """Return a sparse matrix with an entry for each row of `X` and each learned row within a distance of it.

        Parameters
        ----------
        X : DNDarray or array_like, shape (q, d), optional
            By default the learned rows, each without itself.
        radius : float, optional
            The distance, by default the parameter; rows exactly so far away count.
        mode : {"connectivity", "distance"}
            Entries are 1 or the distances.

        Returns
        -------
        DCSR_matrix, shape (q, n)
            Split as the rows of `X`.

        *Distribution*: rows of `X` spread over ranks: one allreduce of one number (whether they are finite). Then the
        messages of ``ht_linalg.spatial.cdist_within``: a ring of blocks of learned rows where these are spread, and an
        allgather of p integers; where only they are, one allgatherv of what was found too. Collective.

        Raises
        ------
        ValueError
            If `X` does not fit, holds NaN or infinity, `radius` is negative or `mode` is another; on every rank.
        """
        op = "NearestNeighbors.radius_neighbors_graph"
        if mode not in ("connectivity", "distance"):
            raise ValueError(f"{op}: mode must be connectivity or distance, got {mode!r}")
        radius = self.radius if radius is None else radius
        if not isinstance(radius, Real) or not 0 <= radius < float("inf"):
            raise ValueError(f"{op}: radius must be a number in [0, inf), got {radius!r}")
        rows = self._queries(op, X)
        if rows is None:
            graph = cdist_within(self._fit_X, None, radius, metric=self.effective_metric_, exclude_self=True)
        else:
            graph = cdist_within(rows, self._fit_X, radius, metric=self.effective_metric_)
        return graph if mode == "distance" else graph.with_values(torch.ones_like(graph.ldata))
