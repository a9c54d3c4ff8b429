"""What estimators with one centre per cluster share: parameters, starts, and the best of several runs."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from numbers import Integral, Real
from typing import Any

import torch
from ht_core import DNDarray
from ht_core.errors import LayoutError

from ..base import BaseEstimator, ClusterMixin, TransformerMixin, check_is_fitted
from ..draws import resolve_seed
from ..moments import Survey, require_usable, survey
from ..progress import bar
from ..rows import Rows, as_rows, as_table, as_weights, given
from .lloyd import Alternation, Result
from .oversampling import oversampled
from .seeding import batch_parallel, plus_plus, random_rows

STARTS = {
    "random": random_rows,
    "k-means++": plus_plus,
    "kmeans++": plus_plus,
    "probability_based": plus_plus,
    "k-means||": oversampled,
    "batchparallel": batch_parallel,
}


class CentreClusterer(ClusterMixin, TransformerMixin, BaseEstimator, ABC):
    """Parameters and the fit of `KMeans` and its kin."""

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

    @abstractmethod
    def _alternation(
        self, rows: Rows, weights: torch.Tensor | None, seen: Survey, moments: torch.Tensor, k: int
    ) -> Alternation:
        """Return what moves the centres."""

    def _learn(self, op: str, X: Any, sample_weight: Any):
        """Run from every start and keep the best result."""
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
        alternation = self._alternation(rows, weights, seen, moments, k)
        best: Result | None = None
        for run in range(n_init):
            start = given if given is not None else STARTS[self.init](rows, k, seed + run, weights)
            with bar(
                self.max_iter,
                f"{type(self).__name__} {run + 1}/{n_init}",
                enabled=None if self.verbose else False,
                comm=rows.home,
            ) as progress:
                result = alternation.run(
                    start, self.max_iter, self.tol * scale, lambda done: progress.update()
                )
            # A later run must be better by more than rounding: runs that end alike differ in their last
            # bits only.
            if best is None or result.inertia < best.inertia * (1.0 - 1e-10):
                if run + 1 < n_init:  # the next run overwrites the labels
                    room = torch.empty_like(result.labels) if best is None else best.labels
                    result.labels = room.copy_(result.labels)
                best = result
        self.cluster_centers_ = rows.replicated(best.centres.to(rows.local.dtype))
        self.labels_ = rows.column(best.labels)
        self.inertia_ = best.inertia
        self.n_iter_ = best.n_iter
        self.n_features_in_ = rows.d
        return self

    @property
    def functional_value_(self) -> float:
        """The sum that the fit has made small: `inertia_`."""
        return self.inertia_

    def _check_parameters(self, op: str) -> tuple[int, int]:
        k, n_init = self.n_clusters, self.n_init
        if isinstance(k, bool) or not isinstance(k, Integral) or k < 1:
            raise ValueError(f"{op}: n_clusters must be an int >= 1, got {k!r}")
        if isinstance(self.max_iter, bool) or not isinstance(self.max_iter, Integral) or self.max_iter < 1:
            raise ValueError(f"{op}: max_iter must be an int >= 1, got {self.max_iter!r}")
        if not isinstance(self.tol, Real) or math.isnan(self.tol):
            raise ValueError(f"{op}: tol must be a number, got {self.tol!r}")
        if isinstance(self.init, str) and self.init not in STARTS:
            raise ValueError(
                f"{op}: init must be one of {', '.join(map(repr, STARTS))} or an array, got {self.init!r}"
            )
        if n_init == "auto":
            n_init = 10 if isinstance(self.init, str) and self.init == "random" else 1
        if isinstance(n_init, bool) or not isinstance(n_init, Integral) or n_init < 1:
            raise ValueError(f"{op}: n_init must be 'auto' or an int >= 1, got {n_init!r}")
        return int(k), int(n_init) if isinstance(self.init, str) else 1

    def _given_centres(self, op: str, X: DNDarray, k: int) -> torch.Tensor:
        """Return the given centres on every rank, float64; one allgather where they are split."""
        centres = given(op, "init", self.init)
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
