"""Searches for the nearest rows."""

from __future__ import annotations

from typing import Any

from ..rows import as_rows
from .search import NeighborSearch, require_near_zero


class NearestNeighbors(NeighborSearch):
    """Search for the nearest of many rows, as ``sklearn.neighbors.NearestNeighbors`` with ``algorithm="brute"``.

    Parameters
    ----------
    n_neighbors : int
        How many rows a search returns by default.
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

    def __init__(self, n_neighbors: int = 5, *, metric: Any = "euclidean") -> None:
        self.n_neighbors = n_neighbors
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
