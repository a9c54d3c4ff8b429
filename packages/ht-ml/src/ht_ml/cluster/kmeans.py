"""The k-means estimator."""

from __future__ import annotations

import math
from typing import Any

import torch
from ht_core import DNDarray

from ..moments import refuse_nonfinite
from ..rows import as_weights
from ..tiles import spans, tile_rows
from .assignment import Assigner
from .centres import CentreClusterer
from .lloyd import Lloyd, total_inertia


class KMeans(CentreClusterer):
    """K-means clustering of the rows of a table, as ``sklearn.cluster.KMeans``.

    Labels and centres have the same bits for any number of ranks and any distribution of the rows.

    Parameters
    ----------
    n_clusters : int
        Number of clusters k.
    init : {"k-means++", "k-means||", "random", "batchparallel"} or array_like of shape (k, d)
        How to start: greedy k-means++ (also spelt "kmeans++" and "probability_based"); k-means|| (few messages
        for many clusters); k different rows; centres merged from k-means on batches of rows (the cheapest good
        start for many rows); or given centres.
    n_init : "auto" or int
        Number of starts, of which the one with the least inertia is kept. "auto": 10 for "random", else
        1. Given centres are used once.
    max_iter : int
        Most iterations per start.
    tol : float
        Stop when the sum of squared movements of the centres is at most `tol` times the mean variance of the
        features. With a value below 0 only labels that have settled, or `max_iter`, end the run.
    verbose : int
        With a positive value rank 0 shows a progress bar.
    random_state : int, None or generator
        Seed; None draws one from ht-core's global stream, the same on all ranks.

    Attributes
    ----------
    cluster_centers_ : DNDarray, shape (k, d), dtype of `X`, replicated
    labels_ : DNDarray, shape (n,), int64, distributed as the rows of `X`
    inertia_ : float
        (Weighted) sum of squared distances of the rows to their centres.
    n_iter_ : int
    n_features_in_ : int

    Notes
    -----
    Lloyd's algorithm. Distances are computed in tiles, never n x k at full size, in the data's dtype with
    a bound on their error; rows for which two centres are closer than that are decided in float64. Sums
    are exact: see ``ht_ml.exact_sums``. An empty cluster takes the row farthest from its centre.

    Examples
    --------
    >>> import ht_core as ht
    >>> X = ht.array([[0.0], [0.2], [9.0], [9.2]], split=0)
    >>> model = KMeans(2, init=[[0.0], [9.0]]).fit(X)
    >>> model.cluster_centers_.numpy().round(3).tolist()
    [[0.1], [9.1]]
    >>> model.labels_.numpy().tolist()
    [0, 0, 1, 1]
    """

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> KMeans:
        """Find the centres.

        Parameters
        ----------
        X : DNDarray or array_like, shape (n, d)
        y : ignored
        sample_weight : DNDarray or array_like, shape (n,), optional
            Non-negative weights of the rows. A weight of 2 means what repeating the row means.

        Returns
        -------
        KMeans
            The estimator itself.

        *Distribution*: split 0 or None; split 1 is brought to split 0 first (each rank sends its values
        once). One allreduce of 2 d + 1 numbers; the start: "random" one allreduce, "k-means++" k + 1
        small allgathers, "k-means||" six of at most 2 k (d + 2) numbers and an allreduce, "batchparallel"
        two allreduces, given centres none; then one allreduce of k (d + 1) + 1 numbers per iteration and
        at most one more. A replicated table sends nothing. Collective.

        Raises
        ------
        ValueError
            If a parameter is out of range, there are fewer rows than clusters, or `X` holds NaN or
            infinity; the same on every rank.
        """
        return self._learn(f"{type(self).__name__}.fit", X, sample_weight)

    def _alternation(self, rows, weights, seen, moments, k) -> Lloyd:
        return Lloyd(rows, weights, seen, moments, k)

    def predict(self, X: Any) -> DNDarray:
        """Return the index of the nearest centre of each row, shape (n,), int64, distributed as the rows.

        *Distribution*: split 0 or None: no message. Split 1 is brought to split 0 first.

        Raises
        ------
        ValueError
            If the number of features differs, or a row of this rank holds NaN or infinity. As nothing is
            sent, the other ranks cannot know of the latter: uncaught, it ends the job.
        """
        rows = self._rows(f"{type(self).__name__}.predict", X)
        centres = self._centres(rows)
        assigner = Assigner(rows.local, centres.shape[0])
        labels = assigner.assign(centres)
        if not assigner.is_finite:
            refuse_nonfinite(f"{type(self).__name__}.predict")
        return rows.column(labels)

    def transform(self, X: Any) -> DNDarray:
        """Return the distances of all rows to all centres, shape (n, k), dtype of `X`, distributed as the
        rows.

        *Distribution*: split 0 or None: no message. Split 1 is brought to split 0 first.
        """
        rows = self._rows(f"{type(self).__name__}.transform", X)
        centres = self._centres(rows)
        shift = centres.mean(0)
        offsets = centres - shift
        own = offsets.square().sum(1)
        n, d = rows.local.shape
        out = torch.empty((n, centres.shape[0]), dtype=rows.local.dtype, device=rows.local.device)
        for span in spans(n, tile_rows(d, out.device)):
            tile = rows.local[span].to(torch.float64) - shift
            squared = torch.addmm(own, tile, offsets.T, alpha=-2.0).add_(tile.square().sum(1, keepdim=True))
            out[span] = squared.clamp_(min=0.0).sqrt_()
        return rows.table(out)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return minus the (weighted) sum of squared distances of the rows to their nearest centres.

        *Distribution*: one allreduce of one number.
        """
        op = f"{type(self).__name__}.score"
        rows = self._rows(op, X)
        weights = as_weights(op, sample_weight, rows)
        centres = self._centres(rows)
        labels = Assigner(rows.local, centres.shape[0]).assign(centres)
        inertia = total_inertia(rows, labels, centres, weights)
        if not math.isfinite(inertia):
            refuse_nonfinite(op)
        return -inertia
