"""K-means on small batches of rows: one message per batch, a part of the data per step."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import torch
from ht_core.random import default_rng

from ..draws import resolve_seed
from ..exact_sums import RowSums, unpack
from ..moments import require_usable, squared_distances, survey
from ..rows import Rows, as_rows, as_table, as_weights, serial_rows, take
from .assignment import Assigner
from .centres import STARTS
from .kmeans import KMeans
from .lloyd import total_inertia


class MiniBatchKMeans(KMeans):
    """K-means by steps on small random batches, as ``sklearn.cluster.MiniBatchKMeans``; for more rows than time.

    Parameters
    ----------
    n_clusters : int
        Number of clusters k.
    init, tol, verbose, random_state
        As for `KMeans`; `tol` is 0 here, which means that only `max_no_improvement` ends a fit early.
    n_init : "auto" or int
        Starts on a sample of rows, of which the best is kept. "auto": 3 for "random", else 1.
    max_iter : int
        Passes over the data, at most: the number of batches is `max_iter` n / `batch_size`.
    batch_size : int
        Rows of all ranks in a step. They are drawn by their global index, alike for any number of ranks.
    max_no_improvement : int or None
        Stop after so many batches that did not better a running mean of the inertia; None: never.
    init_size : int or None
        Rows of the sample for the start; by default 3 `batch_size`, at least 3 k.
    reassignment_ratio : float
        Clusters that have seen fewer rows than this part of the largest are moved to rows of the batch now and then;
        those that have seen none always are. 0 for never.

    Attributes
    ----------
    cluster_centers_, labels_, inertia_, functional_value_, n_iter_, n_features_in_
        As of `KMeans`; after `partial_fit` labels and inertia are those of the last batch.
    n_steps_ : int
        Batches so far.
    counts_ : DNDarray, shape (k,), float64, replicated
        (Weight of the) rows that each centre is the mean of.

    Notes
    -----
    Each centre is the mean of all rows that were assigned to it so far, so that steps become shorter. D. Sculley,
    "Web-scale k-means clustering", WWW 2010, doi:10.1145/1772690.1772862. Sums of a batch are exact and do not depend
    on the number of ranks.

    Examples
    --------
    >>> import ht_core as ht
    >>> from ht_ml.cluster import MiniBatchKMeans
    >>> X = ht.array([[0.0], [0.2], [9.0], [9.2]], split=0)
    >>> model = MiniBatchKMeans(2, init=[[0.0], [9.0]]).partial_fit(X)
    >>> model.cluster_centers_.numpy().round(3).tolist()
    [[0.1], [9.1]]
    """

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: Any = "k-means++",
        n_init: Any = "auto",
        max_iter: int = 100,
        batch_size: int = 1024,
        tol: float = 0.0,
        max_no_improvement: int | None = 10,
        init_size: int | None = None,
        reassignment_ratio: float = 0.01,
        verbose: int = 0,
        random_state: Any = None,
    ) -> None:
        super().__init__(
            n_clusters,
            init=init,
            n_init=n_init,
            max_iter=max_iter,
            tol=tol,
            verbose=verbose,
            random_state=random_state,
        )
        self.batch_size = batch_size
        self.max_no_improvement = max_no_improvement
        self.init_size = init_size
        self.reassignment_ratio = reassignment_ratio

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> MiniBatchKMeans:
        """Find the centres by steps on random batches, and label all rows.

        Parameters
        ----------
        X : DNDarray or array_like, shape (n, d)
        y : ignored
        sample_weight : DNDarray or array_like, shape (n,), optional
            Non-negative weights of the rows.

        Returns
        -------
        MiniBatchKMeans
            The estimator itself.

        *Distribution*: split 0 or None; split 1 is brought to split 0 first. One allreduce of 2 d + 1 numbers, one of
        the sample for the start (`init_size` rows), one of k (d + 1) + 2 numbers per batch, one of at most k rows where
        clusters are moved, and one of one number at the end. A replicated table sends nothing. Collective.

        Raises
        ------
        ValueError
            If a parameter is out of range, there are fewer rows than clusters, or `X` holds NaN or infinity; the same
            on every rank.
        """
        op = "MiniBatchKMeans.fit"
        rows, weights, moments, seed, given = self._begin(op, X, sample_weight)
        centres = self._started(rows, weights, seed, given)
        step = _Steps(rows, weights, moments, centres, self.reassignment_ratio)
        size = min(int(self.batch_size), rows.n)
        scale = float(moments[rows.d + 1 :].mean() / moments[0])
        most = max(1, math.ceil(self.max_iter * rows.n / size))
        generator = default_rng(seed, comm=rows.comm)
        mean, best, worse = None, math.inf, 0
        for _ in range(most):
            drawn = generator.integers(0, rows.n, size).larray.to(rows.local.device)
            shift, inertia = step.take(drawn)
            inertia /= size
            share = min(1.0, 2.0 * size / (rows.n + 1))
            mean = inertia if mean is None else mean * (1.0 - share) + inertia * share
            best, worse = (mean, 0) if mean < best else (best, worse + 1)
            if self.tol > 0.0 and shift <= self.tol * scale:
                break
            if self.max_no_improvement is not None and worse >= self.max_no_improvement:
                break
        self._keep(rows, step)
        self.n_steps_, self.n_iter_ = step.number, math.ceil(step.number * size / rows.n)
        self._label(rows, weights)
        return self

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> MiniBatchKMeans:
        """Take one step on the rows of `X`; the first call chooses the centres among them.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`; at least k rows in the first call.

        *Distribution*: one allreduce of 2 d + 1 numbers and one of k (d + 1) + 2; the first call one more of the sample
        for the start; one of at most k rows where clusters are moved, and one of one number. Collective.

        Raises
        ------
        ValueError
            As `fit`, or if the number of features is not that of the calls before.
        """
        op = "MiniBatchKMeans.partial_fit"
        is_first = not hasattr(self, "counts_")
        rows, weights, moments, seed, given = self._begin(op, X, sample_weight, again=not is_first)
        centres = self._started(rows, weights, seed, given) if is_first else self._centres(rows)
        step = _Steps(rows, weights, moments, centres, self.reassignment_ratio)
        if not is_first:
            step.counts = self.counts_.larray.to(step.counts)
            step.number = self.n_steps_
        step.take(torch.arange(rows.n, device=rows.local.device))
        self._keep(rows, step)
        self.n_steps_ = self.n_iter_ = step.number
        self._label(rows, weights)
        return self

    def _begin(self, op: str, X: Any, sample_weight: Any, again: bool = False):
        """Check everything; return rows, weights, their moments, the seed and given centres."""
        k, _ = self._check_parameters(op)
        for name, value, least in (
            ("batch_size", self.batch_size, 1),
            ("max_no_improvement", self.max_no_improvement, 1),
            ("init_size", self.init_size, k),
        ):
            is_none = value is None and name != "batch_size"
            if not is_none and (isinstance(value, bool) or not isinstance(value, Integral) or value < least):
                raise ValueError(f"{op}: {name} must be an int >= {least}, got {value!r}")
        ratio = self.reassignment_ratio
        if not isinstance(ratio, Real) or not 0.0 <= ratio < 1.0:
            raise ValueError(f"{op}: reassignment_ratio must be in [0, 1), got {ratio!r}")
        X = as_table(op, X, n_features=self.n_features_in_ if again else None)
        if k > X.shape[0] and not again:
            raise ValueError(
                f"{op}: n_clusters must be in [1, {X.shape[0]}] for {X.shape[0]} rows, got {k}; use fewer"
            )
        given = None if isinstance(self.init, str) or again else self._given_centres(op, X, k)
        seed = resolve_seed(op, self.random_state)
        rows = as_rows(op, X)
        weights = as_weights(op, sample_weight, rows)
        moments = rows.comm.allreduce(survey(rows.local, weights).packed, op="moments")
        require_usable(op, moments, weighted=weights is not None)
        return rows, weights, moments, seed, given

    def _started(self, rows: Rows, weights: torch.Tensor | None, seed: int, given) -> torch.Tensor:
        """Return starting centres from a sample of rows; one allreduce of the sample (and one of its weights)."""
        if given is not None:
            return given.to(rows.local.dtype).to(torch.float64)
        usual = max(3 * int(self.batch_size), 3 * self.n_clusters)
        size = min(usual if self.init_size is None else int(self.init_size), rows.n)
        indices = default_rng(seed, comm=rows.comm).choice(rows.n, size, replace=False).larray.tolist()
        part = serial_rows(take(rows.local, rows, indices))
        weighing = None if weights is None else take(weights, rows, indices)
        if weighing is not None and not float(weighing.sum()) > 0.0:
            weighing = None  # nothing to learn from these weights
        n_init = (3 if self.init == "random" else 1) if self.n_init == "auto" else int(self.n_init)
        best, least = None, math.inf
        for run in range(n_init):
            centres = STARTS[self.init](part, self.n_clusters, seed + run, weighing)
            labels = Assigner(part.local, self.n_clusters).assign(centres)
            inertia = total_inertia(part, labels, centres, weighing)
            if best is None or inertia < least * (1.0 - 1e-10):
                best, least = centres, inertia
        return best

    def _keep(self, rows: Rows, step: _Steps) -> None:
        self.cluster_centers_ = rows.replicated(step.centres.to(rows.local.dtype))
        self.counts_ = rows.replicated(step.counts.clone())
        self.n_features_in_ = rows.d

    def _label(self, rows: Rows, weights: torch.Tensor | None) -> None:
        centres = self._centres(rows)
        labels = Assigner(rows.local, self.n_clusters).assign(centres)
        self.labels_ = rows.column(labels)
        self.inertia_ = total_inertia(rows, labels, centres, weights)


class _Steps:
    """The centres, and what each has seen."""

    def __init__(
        self, rows: Rows, weights, moments: torch.Tensor, centres: torch.Tensor, ratio: float
    ) -> None:
        self.rows, self.weights, self.moments, self.centres = rows, weights, moments, centres
        self.k, self.ratio, self.number = len(centres), ratio, 0
        self.counts = torch.zeros(self.k, dtype=torch.float64, device=centres.device)
        self._since = 0

    def take(self, drawn: torch.Tensor) -> tuple[float, float]:
        """Move the centres by the rows of these global indices; return the squared movement and their inertia.

        *Distribution*: one allreduce of k (d + 1) + 2 numbers; one of at most k rows where clusters are moved.
        """
        rows, k, d = self.rows, self.k, self.rows.d
        places = drawn - rows.start
        places = places[(places >= 0) & (places < rows.local.shape[0])]
        block = rows.local.index_select(0, places)
        weights = None if self.weights is None else self.weights[places]
        sums = RowSums(block, weights, self.moments, k)
        labels = Assigner(block, k).assign(self.centres)
        sums.update(labels)
        message = torch.cat([sums.packed, sums.packed.new_zeros(1)])
        for span, squares in squared_distances(block, labels, self.centres):
            message[-1] += squares.sum() if weights is None else squares @ weights[span]
        message = rows.comm.allreduce(message)
        added, totals, _ = unpack(message[:-1], k, d)
        before, self.counts = self.counts, self.counts + totals
        filled = (totals > 0).unsqueeze(1)
        means = (self.centres * before[:, None] + added) / self.counts.clamp(min=1e-300)[:, None]
        moved = torch.where(filled, means, self.centres)
        self.number += 1
        moved = self._reassigned(moved, drawn)
        moved = moved.to(rows.local.dtype).to(torch.float64)
        shift = float((moved - self.centres).square().sum())
        self.centres = moved
        return shift, float(message[-1])

    def _reassigned(self, centres: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        """Move clusters that have seen next to nothing to different rows of the batch."""
        self._since += len(drawn)
        largest = float(self.counts.max())
        if self.ratio == 0.0 or (self._since < 10 * self.k and float(self.counts.min()) > 0.0):
            return centres
        self._since = 0
        poor = (self.counts < self.ratio * largest).nonzero().squeeze(1)[: max(1, len(drawn) // 2)]
        if not poor.numel():
            return centres
        # Rows drawn alike for all ranks: every so many of the batch.
        chosen = drawn[
            torch.linspace(0, len(drawn) - 1, len(poor), device=drawn.device).round().to(torch.int64)
        ]
        centres = centres.clone()
        centres[poor] = take(self.rows.local, self.rows, chosen.tolist()).to(torch.float64)
        rest = torch.ones(self.k, dtype=torch.bool, device=centres.device)
        rest[poor] = False
        self.counts[poor] = self.counts[rest].min()
        return centres
