"""Scale features by their largest absolute value: one message to learn it, none to apply."""

from __future__ import annotations

from typing import Any

import torch
from ht_core import DNDarray

from ..rows import as_table, replicated
from .feature_ranges import merged_range, nonzero
from .feature_scaler import FeatureScaler


class MaxAbsScaler(FeatureScaler):
    """Divide each feature by its largest absolute value, as ``sklearn.preprocessing.MaxAbsScaler``; zeros stay.

    Parameters
    ----------
    copy : bool
        False transforms in place, tile by tile, without a temporary; the dtype must then be float32 or
        float64.

    Attributes
    ----------
    max_abs_ : DNDarray, shape (d,), float64, replicated
    scale_ : DNDarray, shape (d,), float64, replicated
        `max_abs_`, 1 for a feature of zeros.
    n_samples_seen_ : int
    n_features_in_ : int

    Examples
    --------
    >>> import ht_core as ht
    >>> X = ht.array([[0.0, -5.0], [4.0, 2.5]], split=0)
    >>> MaxAbsScaler().fit_transform(X).numpy().tolist()
    [[0.0, -1.0], [1.0, 0.5]]
    """

    def __init__(self, *, copy: bool = True) -> None:
        self.copy = copy

    def fit(self, X: Any, y: Any = None) -> MaxAbsScaler:
        """Learn the largest absolute value of each feature, forgetting what was learned before.

        Parameters
        ----------
        X : DNDarray or array_like, shape (n, d)
        y : ignored

        Returns
        -------
        MaxAbsScaler
            The estimator itself.

        *Distribution*: split 0: one allreduce of 2 d numbers. Split 1 (features): one allgather of as many.
        Replicated: no message. Collective.

        Raises
        ------
        ValueError
            If `X` is not a table or holds NaN or infinity; the same on every rank.
        """
        return self._learn("MaxAbsScaler.fit", X, None)

    def partial_fit(self, X: Any, y: Any = None) -> MaxAbsScaler:
        """Learn from further rows; the same parameters and messages as `fit`."""
        return self._learn("MaxAbsScaler.partial_fit", X, getattr(self, "max_abs_", None))

    def _learn(self, op: str, X: Any, seen: DNDarray | None) -> MaxAbsScaler:
        X = as_table(op, X, n_features=None if seen is None else self.n_features_in_)
        largest = merged_range(op, X).amax(0)
        if seen is not None:
            largest = torch.maximum(largest, seen.larray.to(largest.device))
        self.n_samples_seen_ = X.shape[0] + (0 if seen is None else self.n_samples_seen_)
        self.n_features_in_ = X.shape[1]
        self.max_abs_, self.scale_ = replicated(largest, X), replicated(nonzero(largest), X)
        return self

    def _map(self) -> tuple[None, DNDarray]:
        return None, self.scale_
