"""Standardise features: one message to learn them, none to apply."""

from __future__ import annotations

from typing import Any

import torch
from ht_core import DNDarray

from ..moments import checked_moments, merge_moments, require_usable
from ..rows import as_rows, as_table, as_weights, floating, replicated, serial_rows
from .feature_scaler import FeatureScaler


class StandardScaler(FeatureScaler):
    """Remove the mean and scale to unit variance, feature by feature, as
    ``sklearn.preprocessing.StandardScaler``.

    Parameters
    ----------
    copy : bool
        False transforms in place, tile by tile, without a temporary; the dtype must then be float32 or
        float64.
    with_mean : bool
        Remove the mean.
    with_std : bool
        Divide by the standard deviation (of the population).

    Attributes
    ----------
    mean_, var_, scale_ : DNDarray, shape (d,), float64, replicated
        None where the parameters do not need them. A constant feature has ``scale_`` 1.
    n_samples_seen_ : int or float
        Number of rows, or the sum of the weights, so far.
    n_features_in_ : int

    Notes
    -----
    Mean and variance are accumulated in float64 around a near mean, so that neither the offset of a
    feature nor the number of ranks shows in the digits of float32 data.

    Examples
    --------
    >>> import ht_core as ht
    >>> X = ht.array([[0.0, 5.0], [2.0, 5.0]], split=0)
    >>> StandardScaler().fit_transform(X).numpy().tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
    """

    def __init__(self, *, copy: bool = True, with_mean: bool = True, with_std: bool = True) -> None:
        self.copy = copy
        self.with_mean = with_mean
        self.with_std = with_std

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> StandardScaler:
        """Learn the mean and the variance of each feature, forgetting what was learned before.

        Parameters
        ----------
        X : DNDarray or array_like, shape (n, d)
        y : ignored
        sample_weight : DNDarray or array_like, shape (n,), optional
            Non-negative weights of the rows.

        Returns
        -------
        StandardScaler
            The estimator itself.

        *Distribution*: split 0: one allreduce of 2 d + 1 numbers. Split 1 (features): one allgather of as
        many. Replicated: no message. Collective.

        Raises
        ------
        ValueError
            If `X` is not a table, or holds NaN or infinity; the same on every rank.
        """
        return self._learn("StandardScaler.fit", X, sample_weight, None)

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> StandardScaler:
        """Learn from further rows; the same parameters and messages as `fit`."""
        seen = getattr(self, "_moments", None)
        return self._learn("StandardScaler.partial_fit", X, sample_weight, seen)

    def fit_transform(self, X: Any, y: Any = None, sample_weight: Any = None) -> DNDarray:
        """Fit to `X` and return ``transform(X)``; the messages of `fit`."""
        return self.fit(X, sample_weight=sample_weight).transform(X)

    def _map(self) -> tuple[DNDarray | None, DNDarray | None]:
        return (self.mean_ if self.with_mean else None), self.scale_

    def _learn(self, op: str, X: Any, sample_weight: Any, seen: torch.Tensor | None) -> StandardScaler:
        X = as_table(op, X, n_features=None if seen is None else self.n_features_in_)
        merged = merged_moments(op, X, sample_weight)
        if seen is not None:
            merged = merge_moments(seen.to(merged.device), merged)
        d = X.shape[1]
        n, mean, variance = float(merged[0]), merged[1 : d + 1], merged[d + 1 :] / merged[0]
        self._moments = merged
        self.n_features_in_ = d
        self.n_samples_seen_ = int(n) if n == int(n) else n
        self.mean_ = replicated(mean.clone(), X) if self.with_mean or self.with_std else None
        self.var_ = replicated(variance, X) if self.with_std else None
        self.scale_ = replicated(_scale(mean, variance), X) if self.with_std else None
        return self


def merged_moments(op: str, X: DNDarray, sample_weight: Any) -> torch.Tensor:
    """Return the moments of all rows of a table on every rank, refusing data that are not finite.

    *Distribution*: split 0: one allreduce; split 1: one allgather; None: no message.
    """
    if X.split != 1 or X.comm.size == 1:
        rows = as_rows(op, X)
        weights = as_weights(op, sample_weight, rows)
        packed = rows.comm.allreduce(checked_moments(rows.local, weights), op="moments")
    else:
        weights = None
        if sample_weight is not None:  # every rank holds parts of all rows
            weights = as_weights(op, sample_weight, serial_rows(X.larray))
        local = checked_moments(floating(X.larray), weights)
        pairs = X.comm.allgatherv(local[1:].view(2, -1), X.layout.counts, axis=1)
        packed = torch.cat([local[:1], pairs.reshape(-1)])
    require_usable(op, packed, weighted=sample_weight is not None)
    return packed


def _scale(mean: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
    """Return the standard deviations, 1 for features whose variance is rounding error."""
    noise = (64.0 * torch.finfo(torch.float64).eps * mean).square()
    return torch.where(variance <= noise, 1.0, variance.sqrt())
