"""Clustering around medians, and around rows near to them, by Manhattan distance."""

from __future__ import annotations

import math
from typing import Any

import torch
from ht_core import DNDarray

from ..moments import refuse_nonfinite
from ..rows import Rows
from ..tiles import spans, tile_rows
from .centres import CentreClusterer
from .medians import Medians, Medoids, nearest_by_manhattan


class KMedians(CentreClusterer):
    """Clustering of the rows of a table around component-wise medians, by sums of Manhattan distances.

    Parameters
    ----------
    n_clusters : int
        Number of clusters k.
    init, n_init, max_iter, tol, verbose, random_state
        As for `KMeans`.

    Attributes
    ----------
    cluster_centers_ : DNDarray, shape (k, d), dtype of `X`, replicated
        Exact medians; of an even number of rows the mean of the middle two.
    labels_ : DNDarray, shape (n,), int64, distributed as the rows of `X`
    inertia_, functional_value_ : float
        Sum of the Manhattan distances of the rows to their centres.
    n_iter_ : int
    n_features_in_ : int

    Notes
    -----
    Alternates between assignment and medians, neither of which lets the sum of distances grow. Distances are computed
    in tiles, never n x k at full size. All medians are selected together by counting, without sorting or moving rows.
    An empty cluster takes the row farthest from its centre. P. S. Bradley, O. L. Mangasarian and W. N. Street,
    "Clustering via concave minimization", NIPS 9 (1996).

    Examples
    --------
    >>> import ht_core as ht
    >>> from ht_ml.cluster import KMedians
    >>> X = ht.array([[0.0], [1.0], [5.0], [90.0], [92.0]], split=0)
    >>> model = KMedians(2, init=[[0.0], [90.0]]).fit(X)
    >>> model.cluster_centers_.numpy().tolist(), model.functional_value_
    ([[1.0], [91.0]], 7.0)
    """

    def fit(self, X: Any, y: Any = None):
        """Find the centres.

        Parameters
        ----------
        X : DNDarray or array_like, shape (n, d)
        y : ignored

        Returns
        -------
        self

        *Distribution*: split 0 or None; split 1 is brought to split 0 first. One allreduce of 2 d + 1 numbers; the
        start, as for `KMeans`; then per iteration one allreduce of k + 2 numbers and one selection of all k d medians:
        two messages in each of 2 to 4 rounds and 2 or 3 at the end, of at most 2 MiB in all (`KMedoids`: one
        allgather of k (d + 2) numbers more). A replicated table sends nothing. Collective.

        Raises
        ------
        ValueError
            If a parameter is out of range, there are fewer rows than clusters, or `X` holds NaN or infinity; the same
            on every rank.
        """
        return self._learn(f"{type(self).__name__}.fit", X, None)

    def _alternation(self, rows: Rows, weights, seen, moments, k: int) -> Medians:
        return Medians(rows, k)

    def predict(self, X: Any) -> DNDarray:
        """Return the index of the nearest centre of each row, shape (n,), int64, distributed as the rows; no message.

        Raises
        ------
        ValueError
            If the number of features differs, or a row of this rank holds NaN or infinity (the other ranks do not
            know of the latter).
        """
        op = f"{type(self).__name__}.predict"
        rows = self._rows(op, X)
        found, total = self._assigned(rows)
        if not math.isfinite(total):
            refuse_nonfinite(op)
        return rows.column(found)

    def transform(self, X: Any) -> DNDarray:
        """Return the Manhattan distances of all rows to all centres, shape (n, k), split as the rows; no message."""
        rows = self._rows(f"{type(self).__name__}.transform", X)
        local, centres = rows.local, self._centres(rows).to(rows.local.dtype)
        out = local.new_empty((local.shape[0], centres.shape[0]))
        for span in spans(local.shape[0], tile_rows(centres.shape[0], local.device)):
            out[span] = torch.cdist(local[span], centres, p=1.0)
        return rows.table(out)

    def score(self, X: Any, y: Any = None) -> float:
        """Return minus the sum of the Manhattan distances of the rows to their nearest centres; one allreduce."""
        op = f"{type(self).__name__}.score"
        rows = self._rows(op, X)
        total = torch.tensor([self._assigned(rows)[1]], dtype=torch.float64, device=rows.local.device)
        total = float(rows.comm.allreduce(total))
        if not math.isfinite(total):
            refuse_nonfinite(op)
        return -total

    def _assigned(self, rows: Rows) -> tuple[torch.Tensor, float]:
        """Return the labels of the local rows and the sum of their distances."""
        labels = torch.empty(rows.local.shape[0], dtype=torch.int64, device=rows.local.device)
        total = 0.0
        for span, found, distances in nearest_by_manhattan(rows.local, self._centres(rows)):
            labels[span] = found
            total += float(distances.sum(dtype=torch.float64))
        return labels, total


class KMedoids(KMedians):
    """Clustering of the rows of a table around some of these rows, by sums of Manhattan distances.

    Parameters
    ----------
    n_clusters : int
        Number of clusters k.
    init, n_init, max_iter, tol, verbose, random_state
        As for `KMeans`; given centres are moved to the nearest rows.

    Attributes
    ----------
    cluster_centers_ : DNDarray, shape (k, d), dtype of `X`, replicated
        Rows of `X`.
    labels_, inertia_, functional_value_, n_iter_, n_features_in_
        As of `KMedians`.

    Notes
    -----
    A cluster's medoid is that of its rows which is nearest to the component-wise median (of equals the first), as in
    Heat: a pass over the data, where the row with the least sum of distances to the others would cost their square.
    So this is neither PAM, which swaps medoids for other rows, nor the alternation over exact medoids: the value found
    may be above theirs. The sum of distances may grow in an iteration; the run ends when the labels settle, or after
    `max_iter`.

    Examples
    --------
    >>> import ht_core as ht
    >>> from ht_ml.cluster import KMedoids
    >>> X = ht.array([[0.0], [1.0], [5.0], [90.0], [92.0]], split=0)
    >>> KMedoids(2, init=[[0.0], [90.0]]).fit(X).cluster_centers_.numpy().tolist()
    [[1.0], [90.0]]
    """

    def _alternation(self, rows: Rows, weights, seen, moments, k: int) -> Medoids:
        return Medoids(rows, k)
