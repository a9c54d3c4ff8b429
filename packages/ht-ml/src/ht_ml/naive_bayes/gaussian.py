"""Gaussian naive Bayes: one message to learn, none to predict."""

from __future__ import annotations

import math
from typing import Any

import torch
from ht_core import DNDarray

from ..base import BaseEstimator, ClassifierMixin, check_is_fitted
from ..labels import Labels, as_classes, without_bool
from ..moments import class_moments, merge_classes, refuse_nonfinite, require_usable
from ..rows import Rows, as_rows, as_weights
from ..tiles import spans, tile_rows


class GaussianNB(ClassifierMixin, BaseEstimator):
    """Classify by normal densities with independent features, as ``sklearn.naive_bayes.GaussianNB``.

    Parameters
    ----------
    priors : array_like, shape (k,), optional
        Probabilities of the classes; by default their shares of the rows.
    var_smoothing : float
        This part of the largest variance of a feature is added to all variances.

    Attributes
    ----------
    classes_ : DNDarray, shape (k,), replicated
        The labels, ascending.
    class_count_, class_prior_ : DNDarray, shape (k,), float64, replicated
        Rows (or the sum of their weights) and probability of each class.
    theta_, var_ : DNDarray, shape (k, d), float64, replicated
        Mean and variance (smoothed) of each feature in each class.
    epsilon_ : float
        What was added to the variances.
    n_features_in_ : int

    Notes
    -----
    Moments of the classes are merged by the pairwise update of Chan, Golub and LeVeque, "Algorithms for computing
    the sample variance", The American Statistician 37 (1983), doi:10.1080/00031305.1983.10483115. Unlike
    scikit-learn's, `epsilon_` counts all rows seen and their weights, so that `partial_fit` over parts equals
    `fit` of the whole, and a weight of 2 a row that is there twice.

    Examples
    --------
    >>> import ht_core as ht
    >>> X = ht.array([[-2.0], [-1.0], [1.0], [2.0]], split=0)
    >>> GaussianNB().fit(X, [5, 5, 7, 7]).predict(ht.array([[-0.5], [9.0]], split=0)).numpy().tolist()
    [5, 7]
    """

    def __init__(self, *, priors: Any = None, var_smoothing: float = 1e-9) -> None:
        self.priors = priors
        self.var_smoothing = var_smoothing

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> GaussianNB:
        """Learn the densities of the classes, forgetting what was learned before.

        Parameters
        ----------
        X : DNDarray or array_like, shape (n, d)
        y : DNDarray or array_like, shape (n,)
            Labels: bool, integer or float.
        sample_weight : DNDarray or array_like, shape (n,), optional
            Non-negative weights of the rows.

        Returns
        -------
        GaussianNB
            The estimator itself.

        *Distribution*: rows: the labels (see ``ht_core.unique``), then one allreduce of k (2 d + 1) numbers.
        Features (split 1) are resplit first. Replicated: no message. Collective.

        Raises
        ------
        ValueError
            If `X` is not a table or holds NaN or infinity, labels or weights do not fit, or `priors` are no
            probabilities; the same on every rank.
        """
        op = "GaussianNB.fit"
        self._check_parameters(op)
        rows = as_rows(op, X)
        return self._learn(op, rows, as_classes(op, y, rows), sample_weight, None)

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> GaussianNB:
        """Learn from further rows; parameters and messages as of `fit`.

        Parameters
        ----------
        classes : array_like, shape (k,), optional
            All labels that will ever come; needed at the first call.

        Raises
        ------
        ValueError
            If a label is not one of `classes`, or these are missing at the first call or change later.
        """
        op = "GaussianNB.partial_fit"
        self._check_parameters(op)
        seen = getattr(self, "_moments", None)
        rows = as_rows(op, X, n_features=None if seen is None else self.n_features_in_)
        known = self._known_classes(op, classes, seen is not None)
        found = as_classes(op, y, rows)
        sought = without_bool(found.classes.to(known.dtype))
        where = torch.searchsorted(without_bool(known), sought).clamp_(max=len(known) - 1)
        strange = found.classes[known[where] != found.classes]
        if len(strange):
            raise ValueError(f"{op}: y must hold labels among {known.tolist()}, got {strange.tolist()}")
        labels = Labels(known, where.to(found.codes.device)[found.codes])
        return self._learn(op, rows, labels, sample_weight, seen)

    def predict(self, X: Any) -> DNDarray:
        """Return the most probable label of each row, shape (n,), dtype of the labels; no message for rows.

        Raises
        ------
        ValueError
            If the number of features differs, or a row of this rank holds NaN or infinity (the other ranks do not
            know of the latter).
        """
        op = "GaussianNB.predict"
        rows, likelihood = self._likelihood(op, X)
        most, best = likelihood.max(1)
        # Rows far from all classes may have no finite likelihood either.
        if not bool(most.isfinite().all()) and not bool(rows.local.isfinite().all()):
            refuse_nonfinite(op)
        return rows.column(self.classes_.larray.to(best.device)[best])

    def predict_joint_log_proba(self, X: Any) -> DNDarray:
        """Return ``log P(class) + log P(row | class)``, shape (n, k), float64; no message for rows."""
        rows, likelihood = self._likelihood("GaussianNB.predict_joint_log_proba", X)
        return rows.table(likelihood)

    def predict_log_proba(self, X: Any) -> DNDarray:
        """Return the logarithms of `predict_proba`, shape (n, k), float64; no message for rows."""
        rows, likelihood = self._likelihood("GaussianNB.predict_log_proba", X)
        return rows.table(torch.log_softmax(likelihood, 1))

    def predict_proba(self, X: Any) -> DNDarray:
        """Return the probability of each class for each row, shape (n, k), float64; no message for rows."""
        rows, likelihood = self._likelihood("GaussianNB.predict_proba", X)
        return rows.table(torch.softmax(likelihood, 1))

    def _check_parameters(self, op: str) -> None:
        if not self.var_smoothing >= 0.0:
            raise ValueError(f"{op}: var_smoothing must be at least 0, got {self.var_smoothing}")
        if self.priors is not None:
            priors = torch.as_tensor(_plain(self.priors), dtype=torch.float64)
            if not (bool((priors >= 0).all()) and math.isclose(float(priors.sum()), 1.0, rel_tol=1e-8)):
                raise ValueError(f"{op}: priors must be probabilities with sum 1, got {priors.tolist()}")

    def _known_classes(self, op: str, classes: Any, is_fitted: bool) -> torch.Tensor:
        given = None if classes is None else torch.as_tensor(_plain(classes)).unique()
        if not is_fitted:
            if given is None:
                raise ValueError(f"{op}: classes must be given at the first call, got None")
            return given
        known = self.classes_.larray
        if given is not None and not torch.equal(given.to(known.dtype), known.cpu()):
            raise ValueError(f"{op}: classes must stay {known.tolist()}, got {given.tolist()}")
        return known

    def _learn(self, op: str, rows: Rows, labels: Labels, sample_weight: Any, seen) -> GaussianNB:
        k, d = len(labels.classes), rows.d
        if self.priors is not None and len(_plain(self.priors)) != k:
            raise ValueError(
                f"{op}: priors must be {k} numbers, one per class, got {len(_plain(self.priors))}"
            )
        weights = as_weights(op, sample_weight, rows)
        packed = rows.comm.allreduce(class_moments(rows.local, labels.codes, k, weights), op="moments")
        require_usable(op, merge_classes(packed), weighted=weights is not None)
        if seen is not None:
            packed = _merge(seen.to(packed.device), packed)
        together = merge_classes(packed)
        self._moments = packed
        self.n_features_in_ = d
        self.epsilon_ = float(self.var_smoothing * (together[d + 1 :] / together[0]).max())
        counts = packed[:, 0]
        priors = counts / counts.sum()
        if self.priors is not None:
            priors = torch.as_tensor(_plain(self.priors), dtype=torch.float64, device=packed.device)
        variance = packed[:, d + 1 :] / counts.clamp(min=torch.finfo(torch.float64).tiny)[:, None]
        self.classes_ = rows.replicated(labels.classes)
        self.class_count_, self.class_prior_ = rows.replicated(counts.clone()), rows.replicated(priors)
        self.theta_ = rows.replicated(packed[:, 1 : d + 1].clone())
        self.var_ = rows.replicated(variance + self.epsilon_)
        return self

    def _likelihood(self, op: str, X: Any) -> tuple[Rows, torch.Tensor]:
        """Return the rows and their joint log likelihood, shape (local rows, k), float64."""
        check_is_fitted(self)
        rows = as_rows(op, X, n_features=self.n_features_in_)
        device = rows.local.device
        prior, mean, variance = (v.larray.to(device) for v in (self.class_prior_, self.theta_, self.var_))
        constant = prior.log() - 0.5 * (2.0 * math.pi * variance).log().sum(1)
        precision = variance.reciprocal().mul_(-0.5)
        out = torch.empty((rows.local.shape[0], len(prior)), dtype=torch.float64, device=device)
        step = tile_rows(rows.d, device)
        tile, offset = torch.empty((2, min(step, len(out)), rows.d), dtype=torch.float64, device=device)
        for span in spans(len(out), step):
            height = span.stop - span.start
            tile[:height] = rows.local[span]
            for j in range(len(prior)):
                # Subtract before squaring: the expanded square would lose what row and mean share.
                torch.sub(tile[:height], mean[j], out=offset[:height])
                torch.addmv(constant[j], offset[:height].square_(), precision[j], out=out[span, j])
        return rows, out


def _plain(values: Any) -> Any:
    """Return a replicated DNDarray's tensor, anything else as it is."""
    return values.resplit(None).larray.cpu() if isinstance(values, DNDarray) else values


def _merge(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the moments of two disjoint sets of rows, class by class, shape (k, 2 d + 1)."""
    pairs = torch.stack([first, second])
    return torch.stack([merge_classes(pairs[:, j]) for j in range(len(first))])
