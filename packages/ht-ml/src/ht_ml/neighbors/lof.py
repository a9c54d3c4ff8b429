"""Outliers by local density: `LocalOutlierFactor` on distributed rows, `local_outlier_factor` on one tensor."""

from __future__ import annotations

import warnings
from numbers import Real
from typing import Any

import torch
from ht_core import DNDarray, percentile

from ..base import MethodIf, check_is_fitted
from ..rows import as_rows
from .search import Found, NeighborSearch, is_count, require_near_zero

_SMALL = 1e-10  # added to mean distances, so that rows that are there many times have a density
_STRANGE = -1e7


class LocalOutlierFactor(NeighborSearch):
    """Find rows that lie less densely than their neighbours, as ``sklearn.neighbors.LocalOutlierFactor``.

    Parameters
    ----------
    n_neighbors : int
        How many neighbours a row is compared with; at most all other rows.
    metric : str or function
        As of `NearestNeighbors`.
    contamination : "auto" or float
        The share of outliers, in (0, 0.5]; "auto" calls a row an outlier where it lies less than two thirds as densely
        as its neighbours (factor above 1.5).
    novelty : bool
        True to judge new rows by `predict`, `decision_function` and `score_samples`; False for `fit_predict`.

    Attributes
    ----------
    negative_outlier_factor_ : DNDarray, shape (n,), float64
        About -1 for inliers, less for outliers; distributed as the rows.
    n_neighbors_ : int
        How many neighbours were used.
    offset_ : float
        Rows below are outliers.
    n_features_in_, n_samples_fit_ : int
    effective_metric_ : str or function

    Notes
    -----
    Of neighbours at the same distance those of lower index are taken, so that factors do not depend on the ranks. The
    learned rows are not copied where their dtype is float32 or float64: do not change them.

    References
    ----------
    M. M. Breunig, H.-P. Kriegel, R. T. Ng and J. Sander, "LOF: identifying density-based local outliers", Proceedings
    of the ACM SIGMOD International Conference on Management of Data, 2000, doi:10.1145/342009.335388.

    Examples
    --------
    >>> import ht_core as ht
    >>> X = ht.array([[-1.1], [0.2], [101.1], [0.3]], split=0)
    >>> LocalOutlierFactor(n_neighbors=2).fit_predict(X).numpy().tolist()
    [1, 1, -1, 1]
    """

    _estimator_type = "outlier_detector"

    def __init__(
        self,
        n_neighbors: int = 20,
        *,
        metric: Any = "euclidean",
        contamination: Any = "auto",
        novelty: bool = False,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.metric = metric
        self.contamination = contamination
        self.novelty = novelty

    def fit(self, X: Any, y: Any = None) -> LocalOutlierFactor:
        """Learn the densities of the rows.

        Parameters
        ----------
        X : DNDarray or array_like, shape (n, d)
            At least 2 rows.
        y : ignored

        Returns
        -------
        LocalOutlierFactor
            The estimator itself.

        *Distribution*: rows: an allreduce of one number (whether they are finite); p - 1 messages of a block of rows,
        sent while distances are computed; one exchange each of p integers, of 8 bytes, of 8 bytes and again of 8 bytes
        for each row of another rank that is among the nearest of a rank's rows, at most 24 n k / p bytes from a
        rank; an allreduce of one number (duplicates); with a given `contamination` the messages of
        ``ht_core.percentile``. Features (split 1) are resplit first. Replicated: no message. Memory beyond the rows:
        that of `kneighbors` and about four tables of n k / p numbers. Collective.

        Raises
        ------
        ValueError
            If `X` is not a table or holds NaN or infinity, or a parameter is wrong; the same on every rank.

        Warns
        -----
        UserWarning
            If `n_neighbors` is greater than n, or, without `novelty`, rows that are there more than `n_neighbors`
            times spoil factors.
        """
        op = "LocalOutlierFactor.fit"
        self._check_parameters(op)
        _check_contamination(op, self.contamination)
        rows = as_rows(op, X, min_rows=2)
        require_near_zero(op, rows)
        if self.n_neighbors > rows.n:
            warnings.warn(
                f"{op}: n_neighbors ({self.n_neighbors}) is greater than the number of rows ({rows.n}); "
                f"{rows.n - 1} are used",
                stacklevel=2,
            )
        self._keep(rows)
        self.n_neighbors_ = max(1, min(int(self.n_neighbors), rows.n - 1))
        distances, indices = self._search(op, None, self.n_neighbors_)
        found = Found(indices, self._fit_X)
        reach, apart = distances.larray[:, -1].to(torch.float64), distances.larray.to(torch.float64)
        density = _densities(apart, found.fetch(reach)[found.indices])
        factors = found.fetch(density)[found.indices].div_(density.unsqueeze(1)).mean(1).neg_()
        self.negative_outlier_factor_ = rows.column(factors)
        # Of each learned row the distance of its last neighbour, and its density.
        self._learned = rows.table(torch.stack((reach, density), 1))
        self.offset_ = -1.5
        if self.contamination != "auto":
            self.offset_ = float(percentile(self.negative_outlier_factor_, 100.0 * self.contamination))
        if not self.novelty:
            least = factors.amin() if factors.shape[0] else factors.new_zeros(())
            if float(rows.comm.allreduce(least.reshape(1), op="min")) < _STRANGE:
                warnings.warn(
                    f"{op}: rows that are there more than n_neighbors times spoil factors; use more neighbours",
                    stacklevel=2,
                )
        return self

    def _there(self, method: str) -> None:
        self._require_novelty(method, method != "fit_predict")

    @MethodIf(_there)
    def fit_predict(self, X: Any, y: Any = None) -> DNDarray:
        """Learn the rows and return 1 for inliers and -1 for outliers, shape (n,), int64; messages of `fit`.

        Raises
        ------
        AttributeError
            With ``novelty=True``.
        ValueError
            As `fit`.
        """
        factors = self.fit(X).negative_outlier_factor_
        return _signs(factors, factors.larray < self.offset_)

    @MethodIf(_there)
    def score_samples(self, X: Any) -> DNDarray:
        """Return the negative outlier factors of new rows among the learned ones, shape (q,), float64.

        *Distribution*: the messages of `kneighbors`; where the learned rows are spread over ranks, one exchange each of
        p integers, of 8 bytes and of 16 bytes for each row of another rank that is among the nearest of a rank's
        rows: at most 24 q k / p bytes from a rank. Memory beyond `kneighbors`: about four tables of q k / p
        numbers. Collective.

        Raises
        ------
        AttributeError
            With ``novelty=False``.
        ValueError
            As `kneighbors`.
        """
        return self._score("score_samples", X)

    @MethodIf(_there)
    def decision_function(self, X: Any) -> DNDarray:
        """Return ``score_samples(X) - offset_``, negative for outliers; messages and errors as of `score_samples`."""
        scores = self._score("decision_function", X)
        scores.larray.sub_(self.offset_)
        return scores

    @MethodIf(_there)
    def predict(self, X: Any) -> DNDarray:
        """Return 1 for inliers and -1 for outliers among new rows, shape (q,), int64; messages and errors as of
        `score_samples`."""
        scores = self._score("predict", X)
        return _signs(scores, scores.larray - self.offset_ < 0.0)

    def _score(self, method: str, X: Any) -> DNDarray:
        check_is_fitted(self)
        op = f"LocalOutlierFactor.{method}"
        distances, indices = self._search(op, self._queries(op, X), self.n_neighbors_)
        found = Found(indices, self._learned)
        reach, density = found.fetch(self._learned.larray).unbind(1)
        own = _densities(distances.larray.to(torch.float64), reach[found.indices])
        scores = density[found.indices].div_(own.unsqueeze(1)).mean(1).neg_()
        return DNDarray(scores, distances.layout.drop((1,)), distances.comm)

    def _require_novelty(self, method: str, expected: bool) -> None:
        if bool(self.novelty) is not expected:
            remedy = "fit_predict" if expected else "fit and predict"
            raise AttributeError(
                f"LocalOutlierFactor.{method}: novelty must be {expected}, got {self.novelty!r}; use {remedy}"
            )


def local_outlier_factor(samples: torch.Tensor, n_neighbors: int = 20) -> torch.Tensor:
    """Return the local outlier factors of the rows of one tensor, a function that ``ht.vmap`` can map.

    Parameters
    ----------
    samples : torch.Tensor, shape (n, d), float32 or float64
    n_neighbors : int
        At most n - 1 are used.

    Returns
    -------
    torch.Tensor, shape (n,), dtype of the samples
        About 1 for inliers, more for outliers: minus `LocalOutlierFactor.negative_outlier_factor_`.

    Raises
    ------
    ValueError
        If there are not two rows, or `n_neighbors` is no positive integer.

    Notes
    -----
    Holds n x n distances of each set of samples that is mapped at a time: bound them with ``chunk_size`` of
    ``ht.vmap``. No message. See `LocalOutlierFactor` for the method.

    Examples
    --------
    >>> import ht_core as ht
    >>> places = ht.array([[[0.0], [1.0], [2.0], [9.0]], [[5.0], [0.0], [0.5], [1.0]]], split=0)
    >>> ht.vmap(local_outlier_factor)(places, n_neighbors=2).argmax(1).numpy().tolist()
    [3, 0]
    """
    op = "local_outlier_factor"
    if samples.ndim != 2 or samples.shape[0] < 2:
        raise ValueError(
            f"{op}: samples must be a table of at least 2 rows, got shape {tuple(samples.shape)}"
        )
    if not is_count(n_neighbors):
        raise ValueError(f"{op}: n_neighbors must be an integer of at least 1, got {n_neighbors!r}")
    n = samples.shape[0]
    # Differences, not products: near samples far from zero keep their digits.
    apart = torch.cdist(samples, samples, compute_mode="donot_use_mm_for_euclid_dist")
    itself = torch.eye(n, dtype=torch.bool, device=samples.device)
    apart, order = torch.where(itself, torch.inf, apart).sort(dim=1, stable=True)
    k = min(int(n_neighbors), n - 1)
    apart, near = apart[:, :k], order[:, :k].reshape(-1)
    density = _densities(apart, apart[:, -1].index_select(0, near).view(n, k))
    return density.index_select(0, near).view(n, k).mean(1) / density


def _densities(distances: torch.Tensor, reach: torch.Tensor) -> torch.Tensor:
    """Return inverse mean reachability distances, shape (n,), from distances to neighbours and theirs to their last."""
    return torch.maximum(distances, reach).mean(1).add(_SMALL).reciprocal()


def _signs(values: DNDarray, is_outlier: torch.Tensor) -> DNDarray:
    """Return -1 for outliers and 1 for the others, laid out as `values`."""
    return DNDarray(torch.where(is_outlier, -1, 1), values.layout, values.comm)


def _check_contamination(op: str, contamination: Any) -> None:
    if contamination == "auto":
        return
    is_share = isinstance(contamination, Real) and not isinstance(contamination, bool)
    if not is_share or not 0.0 < contamination <= 0.5:
        raise ValueError(f"{op}: contamination must be auto or in (0, 0.5], got {contamination!r}")
