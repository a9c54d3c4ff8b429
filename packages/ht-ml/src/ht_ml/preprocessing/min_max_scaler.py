"""Scale features to a given range: one message to learn it, none to apply."""

from __future__ import annotations

from typing import Any

import torch
from ht_core import DNDarray

from ..rows import as_table, replicated
from .feature_ranges import merged_range, nonzero
from .feature_scaler import FeatureScaler


class MinMaxScaler(FeatureScaler):
    """Scale each feature to a range, as ``sklearn.preprocessing.MinMaxScaler``.

    Parameters
    ----------
    feature_range : tuple (low, high)
        The range of the transformed features, ``low < high``.
    copy : bool
        False transforms in place, tile by tile, without a temporary; the dtype must then be float32 or
        float64.
    clip : bool
        Clip transformed values of new rows to `feature_range`.

    Attributes
    ----------
    data_min_, data_max_, data_range_ : DNDarray, shape (d,), float64, replicated
    scale_, min_ : DNDarray, shape (d,), float64, replicated
        A value x becomes ``x * scale_ + min_``. A constant feature has the scale of one of range 1.
    n_samples_seen_ : int
    n_features_in_ : int

    Examples
    --------
    >>> import ht_core as ht
    >>> X = ht.array([[0.0, 5.0], [4.0, 7.0], [1.0, 6.0]], split=0)
    >>> MinMaxScaler().fit_transform(X).numpy().tolist()
    [[0.0, 0.0], [1.0, 1.0], [0.25, 0.5]]
    """

    def __init__(
        self, feature_range: tuple[float, float] = (0, 1), *, copy: bool = True, clip: bool = False
    ) -> None:
        self.feature_range = feature_range
        self.copy = copy
        self.clip = clip

    def fit(self, X: Any, y: Any = None) -> MinMaxScaler:
        """Learn the range of each feature, forgetting what was learned before.

        Parameters
        ----------
        X : DNDarray or array_like, shape (n, d)
        y : ignored

        Returns
        -------
        MinMaxScaler
            The estimator itself.

        *Distribution*: split 0: one allreduce of 2 d numbers. Split 1 (features): one allgather of as many.
        Replicated: no message. Collective.

        Raises
        ------
        ValueError
            If `X` is not a table or holds NaN or infinity, or `feature_range` is not increasing; the same on
            every rank.
        """
        return self._learn("MinMaxScaler.fit", X, None)

    def partial_fit(self, X: Any, y: Any = None) -> MinMaxScaler:
        """Learn from further rows; the same parameters and messages as `fit`."""
        return self._learn("MinMaxScaler.partial_fit", X, getattr(self, "_range", None))

    def _learn(self, op: str, X: Any, seen: torch.Tensor | None) -> MinMaxScaler:
        low, high = self._feature_range(op)
        X = as_table(op, X, n_features=None if seen is None else self.n_features_in_)
        found = merged_range(op, X)
        if seen is not None:
            found = torch.maximum(found, seen.to(found.device))
        smallest, largest = -found[0], found[1].clone()
        scale = (high - low) / nonzero(largest - smallest)
        self.n_samples_seen_ = X.shape[0] + (0 if seen is None else self.n_samples_seen_)
        self._range = found
        self.n_features_in_ = X.shape[1]
        self.data_min_, self.data_max_ = replicated(smallest, X), replicated(largest, X)
        self.data_range_ = replicated(largest - smallest, X)
        self.scale_, self.min_ = replicated(scale, X), replicated(low - smallest * scale, X)
        return self

    def _feature_range(self, op: str) -> tuple[float, float]:
        low, high = self.feature_range
        if not low < high:
            raise ValueError(
                f"{op}: feature_range must be (low, high) with low < high, got {self.feature_range}"
            )
        return low, high

    def _map(self) -> tuple[DNDarray, DNDarray]:
        # x * scale_ + min_ as (x - offset) / scale: exact at the smallest value, which low = 0 maps to 0.
        low, _ = self.feature_range
        scale = self.scale_.larray
        return (
            replicated(self.data_min_.larray - low / scale, self.scale_),
            replicated(scale.reciprocal(), self.scale_),
        )

    def _limits(self) -> tuple[float, float] | None:
        return tuple(self.feature_range) if self.clip else None
