"""Clustering of each rank's rows on its own, and of the centres found: three messages, however many iterations."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import torch
from ht_comm import SerialComm
from ht_core import DNDarray, array

from ..base import BaseEstimator, ClusterMixin, check_is_fitted
from ..draws import resolve_seed
from ..moments import checked_moments, require_usable
from ..rows import Rows, as_rows, as_table
from .centres import CentreClusterer
from .kmeans import KMeans
from .kmedians import KMedians


class BatchParallelClusterer(ClusterMixin, BaseEstimator):
    """What both estimators share; `_single` makes the estimator that clusters one batch."""

    def __init__(
        self,
        n_clusters: int = 8,
        init: str = "k-means++",
        max_iter: int = 300,
        tol: float = 1e-4,
        random_state: Any = None,
        n_procs_to_merge: int | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state
        self.n_procs_to_merge = n_procs_to_merge

    _single: type[CentreClusterer]
    _is_weighted: bool

    def fit(self, X: Any, y: Any = None):
        """Find the centres.

        Parameters
        ----------
        X : DNDarray or array_like, shape (n, d)
        y : ignored

        Returns
        -------
        self

        *Distribution*: split 0 or None; split 1 is brought to split 0 first. One allreduce of 2 d + 1 numbers, one
        allgather of (k + 1) (d + 1) numbers per rank, one allreduce of one number. A replicated table is one batch and
        sends nothing. Collective.

        Raises
        ------
        ValueError
            If a parameter is out of range, there are fewer rows than clusters, or `X` holds NaN or infinity; the same
            on every rank.
        """
        op = f"{type(self).__name__}.fit"
        model = self._model(op, self.n_clusters, 0)
        X = as_table(op, X)
        if self.n_clusters > X.shape[0]:
            raise ValueError(
                f"{op}: n_clusters must be in [1, {X.shape[0]}] for {X.shape[0]} rows, got {self.n_clusters}; use fewer"
            )
        seed = resolve_seed(op, self.random_state)
        rows = as_rows(op, X)
        moments = rows.comm.allreduce(checked_moments(rows.local, None), op="moments")
        require_usable(op, moments, weighted=False)
        gathered = rows.comm.allgather(self._cluster_batch(op, rows, seed).unsqueeze(0))
        n_iter, batches = int(gathered[:, -1, 0].max()), list(gathered[:, :-1])
        step = len(batches) if self.n_procs_to_merge is None else int(self.n_procs_to_merge)
        while len(batches) > 1:
            batches = [
                self._merge(op, torch.cat(batches[at : at + step]), seed)
                for at in range(0, len(batches), step)
            ]
        model.n_features_in_ = rows.d
        model.cluster_centers_ = rows.replicated(batches[0][:, 1:].to(rows.local.dtype))
        self._fitted = model
        self.n_features_in_, self.n_iter_ = rows.d, n_iter
        self.cluster_centers_ = model.cluster_centers_
        table = rows.table(rows.local)
        self.labels_ = model.predict(table)
        self.functional_value_ = -model.score(table)
        return self

    def predict(self, X: Any) -> DNDarray:
        """Return the index of the nearest centre of each row, shape (n,), int64, split as the rows; no message."""
        check_is_fitted(self)
        as_table(f"{type(self).__name__}.predict", X, n_features=self.n_features_in_)
        return self._fitted.predict(X)

    @property
    def inertia_(self) -> float:
        """`functional_value_`."""
        return self.functional_value_

    def _model(self, op: str, k: int, seed: int) -> CentreClusterer:
        merge = self.n_procs_to_merge
        if not isinstance(self.init, str):
            raise ValueError(f"{op}: init must be the name of a start, got {type(self.init).__name__}")
        if merge is not None and (isinstance(merge, bool) or not isinstance(merge, Integral) or merge < 2):
            raise ValueError(f"{op}: n_procs_to_merge must be None or an int >= 2, got {merge!r}")
        model = self._single(
            k, init=self.init, n_init=1, max_iter=self.max_iter, tol=self.tol, random_state=seed
        )
        model._check_parameters(op)
        return model

    def _cluster_batch(self, op: str, rows: Rows, seed: int) -> torch.Tensor:
        """Return the centres of this rank's rows behind the weights of their clusters, shape (k + 1, 1 + d), float64.

        The last record begins with the number of iterations.
        """
        found = torch.zeros((self.n_clusters + 1, 1 + rows.d), dtype=torch.float64, device=rows.local.device)
        k = min(self.n_clusters, rows.local.shape[0])
        if k:
            table = array(rows.local, copy=False, comm=SerialComm())
            model = self._model(op, k, seed).fit(table)
            found[:k, 0] = torch.bincount(model.labels_.larray, minlength=k)
            found[:k, 1:] = model.cluster_centers_.larray
            found[-1, 0] = model.n_iter_
        return found

    def _merge(self, op: str, found: torch.Tensor, seed: int) -> torch.Tensor:
        """Return k centres of many, with their weights; every rank computes the same."""
        found = found[found[:, 0] > 0]
        if len(found) <= self.n_clusters:
            missing = found.new_zeros((self.n_clusters - len(found), found.shape[1]))
            return torch.cat([found, missing])
        table = array(found[:, 1:].contiguous(), comm=SerialComm())
        model = self._model(op, self.n_clusters, seed)
        weights = array(found[:, 0].contiguous(), comm=SerialComm())
        model = model.fit(table, sample_weight=weights) if self._is_weighted else model.fit(table)
        labels = model.labels_.larray
        merged = found.new_zeros((self.n_clusters, found.shape[1]))
        merged[:, 0].index_add_(0, labels, found[:, 0])
        merged[:, 1:] = model.cluster_centers_.larray
        return merged


class BatchParallelKMeans(BatchParallelClusterer):
    """K-means of each rank's rows, and of the centres found, as Heat's; the cheapest clustering of many ranks' rows.

    Parameters
    ----------
    n_clusters : int
        Number of clusters k.
    init : {"k-means++", "k-means||", "random", "batchparallel"}
        Start of each k-means.
    max_iter, tol, random_state
        As for `KMeans`.
    n_procs_to_merge : int, optional
        Merge the centres of so many ranks at a time, in rounds; by default those of all at once. No message either way.

    Attributes
    ----------
    cluster_centers_ : DNDarray, shape (k, d), dtype of `X`, replicated
    labels_ : DNDarray, shape (n,), int64, distributed as the rows of `X`
    functional_value_, inertia_ : float
        Sum of squared distances of the rows to their centres.
    n_iter_ : int
        Most iterations that a rank's rows have needed.
    n_features_in_ : int

    Notes
    -----
    Centres are merged by k-means weighted by the rows of their clusters. The batches are the ranks' rows: **the result
    depends on the number of ranks and on how rows are dealt to them**, and is at most as good as that of `KMeans`,
    which sends one message per iteration. Where rows are sorted by cluster, deal them at random first. ``KMeans(init=
    "batchparallel")`` does not depend on the ranks.

    Examples
    --------
    >>> import ht_core as ht
    >>> from ht_ml.cluster import BatchParallelKMeans
    >>> X = ht.array([[0.0], [9.0], [0.2], [9.2], [0.1], [9.1]], split=0)
    >>> sorted(BatchParallelKMeans(2, random_state=0).fit(X).cluster_centers_.numpy().round(3).ravel().tolist())
    [0.1, 9.1]
    """

    _single, _is_weighted = KMeans, True


class BatchParallelKMedians(BatchParallelClusterer):
    """K-medians of each rank's rows, and of the centres found, as Heat's.

    Parameters
    ----------
    n_clusters, init, max_iter, tol, random_state, n_procs_to_merge
        As for `BatchParallelKMeans`.

    Attributes
    ----------
    cluster_centers_, labels_, n_iter_, n_features_in_
        As of `BatchParallelKMeans`.
    functional_value_, inertia_ : float
        Sum of the Manhattan distances of the rows to their centres.

    Notes
    -----
    Centres are merged by k-medians of the centres, each counted once. The result depends on the number of ranks, see
    `BatchParallelKMeans`; medians of medians are not the medians of all rows, which `KMedians` finds.

    Examples
    --------
    >>> import ht_core as ht
    >>> from ht_ml.cluster import BatchParallelKMedians
    >>> X = ht.array([[0.0], [9.0], [0.0], [9.0], [0.0], [9.0]], split=0)
    >>> sorted(BatchParallelKMedians(2, random_state=0).fit(X).cluster_centers_.numpy().ravel().tolist())
    [0.0, 9.0]
    """

    _single, _is_weighted = KMedians, False
