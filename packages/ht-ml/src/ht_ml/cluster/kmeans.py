"""The k-means estimator: checks, starts, and the best of several runs of Lloyd's algorithm."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import torch
from ht_core import DNDarray, array
from ht_core.errors import LayoutError

from ..base import BaseEstimator, ClusterMixin, TransformerMixin, check_is_fitted
from ..draws import resolve_seed
from ..moments import refuse_nonfinite, require_usable, survey
from ..progress import bar
from ..rows import Rows, as_rows, as_table, as_weights
from ..tiles import spans, tile_rows
from .assignment import Assigner
from .lloyd import Lloyd, Result, total_inertia
from .oversampling import oversampled
from .seeding import batch_parallel, plus_plus, random_rows

_STARTS = {
    "random": random_rows,
    "k-means++": plus_plus,
    "kmeans++": plus_plus,
    "k-means||": oversampled,
    "batchparallel": batch_parallel,
}


class KMeans(ClusterMixin, TransformerMixin, BaseEstimator):
    """K-means clustering of the rows of a table, as ``sklearn.cluster.KMeans``.

    Labels and centres have the same bits for any number of ranks and any distribution of the rows.

    Parameters
    ----------
    n_clusters : int
        Number of clusters k.
    init : {"k-means++", "k-means||", "random", "batchparallel"} or array_like of shape (k, d)
        How to start: greedy k-means++ (also spelt "kmeans++"); k-means|| (few messages for many clusters); k
        different rows; centres merged from k-means on batches of rows (the cheapest good start for many rows); or
        given centres.
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

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: Any = "k-means++",
        n_init: Any = "auto",
        max_iter: int = 300,
        tol: float = 1e-4,
        verbose: int = 0,
        random_state: Any = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.verbose = verbose
        self.random_state = random_state

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
        op = "KMeans.fit"
        k, n_init = self._check_parameters(op)
        X = as_table(op, X)
        n = X.shape[0]
        if k > n:
            raise ValueError(f"{op}: n_clusters must be in [1, {n}] for {n} rows, got {k}; use fewer")
        given = None if isinstance(self.init, str) else self._given_centres(op, X, k)
        seed = resolve_seed(op, self.random_state) if given is None else 0
        rows = as_rows(op, X)
        weights = as_weights(op, sample_weight, rows)
        seen = survey(rows.local, weights)
        moments = rows.comm.allreduce(seen.packed, op="moments")
        require_usable(op, moments, weighted=weights is not None)
        scale = float(moments[rows.d + 1 :].mean() / moments[0])
        lloyd = Lloyd(rows, weights, seen, moments, k)
        best: Result | None = None
        for run in range(n_init):
            start = given if given is not None else _STARTS[self.init](rows, k, seed + run, weights)
            with bar(
                self.max_iter,
                f"KMeans {run + 1}/{n_init}",
                enabled=None if self.verbose else False,
                comm=rows.home,
            ) as progress:
                result = lloyd.run(start, self.max_iter, self.tol * scale, lambda done: progress.update())
            # A later run must be better by more than rounding: runs that end alike differ in their last
            # bits only.
            if best is None or result.inertia < best.inertia * (1.0 - 1e-10):
                best = result
        self.cluster_centers_ = rows.replicated(best.centres.to(rows.local.dtype))
        self.labels_ = rows.column(best.labels)
        self.inertia_ = best.inertia
        self.n_iter_ = best.n_iter
        self.n_features_in_ = rows.d
        return self

    @property
    def functional_value_(self) -> float:
        """The value that the fit has made small: `inertia_`."""
        return self.inertia_

    def predict(self, X: Any) -> DNDarray:
        """Return the index of the nearest centre of each row, shape (n,), int64, distributed as the rows.

        *Distribution*: split 0 or None: no message. Split 1 is brought to split 0 first.

        Raises
        ------
        ValueError
            If the number of features differs, or a row of this rank holds NaN or infinity. As nothing is
            sent, the other ranks cannot know of the latter: uncaught, it ends the job.
        """
        rows = self._rows("KMeans.predict", X)
        centres = self._centres(rows)
        assigner = Assigner(rows.local, centres.shape[0])
        labels = assigner.assign(centres)
        if not assigner.is_finite:
            refuse_nonfinite("KMeans.predict")
        return rows.column(labels)

    def transform(self, X: Any) -> DNDarray:
        """Return the distances of all rows to all centres, shape (n, k), dtype of `X`, distributed as the
        rows.

        *Distribution*: split 0 or None: no message. Split 1 is brought to split 0 first.
        """
        rows = self._rows("KMeans.transform", X)
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
        op = "KMeans.score"
        rows = self._rows(op, X)
        weights = as_weights(op, sample_weight, rows)
        centres = self._centres(rows)
        labels = Assigner(rows.local, centres.shape[0]).assign(centres)
        inertia = total_inertia(rows, labels, centres, weights)
        if not math.isfinite(inertia):
            refuse_nonfinite(op)
        return -inertia

    def _check_parameters(self, op: str) -> tuple[int, int]:
        k, n_init = self.n_clusters, self.n_init
        if isinstance(k, bool) or not isinstance(k, Integral) or k < 1:
            raise ValueError(f"{op}: n_clusters must be an int >= 1, got {k!r}")
        if isinstance(self.max_iter, bool) or not isinstance(self.max_iter, Integral) or self.max_iter < 1:
            raise ValueError(f"{op}: max_iter must be an int >= 1, got {self.max_iter!r}")
        if not isinstance(self.tol, Real) or math.isnan(self.tol):
            raise ValueError(f"{op}: tol must be a number, got {self.tol!r}")
        if isinstance(self.init, str) and self.init not in _STARTS:
            raise ValueError(
                f"{op}: init must be one of {', '.join(map(repr, _STARTS))} or an array, got {self.init!r}"
            )
        if n_init == "auto":
            n_init = 10 if isinstance(self.init, str) and self.init == "random" else 1
        if isinstance(n_init, bool) or not isinstance(n_init, Integral) or n_init < 1:
            raise ValueError(f"{op}: n_init must be 'auto' or an int >= 1, got {n_init!r}")
        return int(k), int(n_init) if isinstance(self.init, str) else 1

    def _given_centres(self, op: str, X: DNDarray, k: int) -> torch.Tensor:
        """Return the given centres on every rank, float64; one allgather where they are split."""
        centres = self.init if isinstance(self.init, DNDarray) else array(self.init)
        if centres.shape != (k, X.shape[1]):
            raise LayoutError(
                f"{op}: init must have shape (n_clusters, n_features) = ({k}, {X.shape[1]}), got {centres.shape}"
            )
        local = (centres if centres.split is None else centres.resplit(None)).larray.detach()
        local = local.to(device=X.larray.device, dtype=torch.float64)
        if not bool(torch.isfinite(local).all()):
            raise ValueError(f"{op}: init must be finite, got NaN or infinity")
        return local

    def _rows(self, op: str, X: Any) -> Rows:
        check_is_fitted(self)
        return as_rows(op, X, n_features=self.n_features_in_)

    def _centres(self, rows: Rows) -> torch.Tensor:
        centres = self.cluster_centers_
        centres = centres if centres.split is None else centres.resplit(None)
        return centres.larray.to(device=rows.local.device, dtype=torch.float64)
