"""Scale features by median and quantile range, which outliers do not move."""

from __future__ import annotations

import math
from typing import Any

import torch
from ht_core import DNDarray, percentile

from ..rows import as_table, floating, replicated
from .feature_ranges import merged_range, nonzero
from .feature_scaler import FeatureScaler


class RobustScaler(FeatureScaler):
    """Subtract the median and divide by a range of quantiles, as ``sklearn.preprocessing.RobustScaler``.

    Parameters
    ----------
    with_centering : bool
        Subtract the median.
    with_scaling : bool
        Divide by the range of quantiles.
    quantile_range : tuple (low, high)
        Percentiles, ``0 <= low <= high <= 100``.
    copy : bool
        False transforms in place, tile by tile, without a temporary; the dtype must then be float32 or
        float64.
    unit_variance : bool
        Divide the range by that of a standard normal variable, so that a normal feature gets variance 1.

    Attributes
    ----------
    center_, scale_ : DNDarray, shape (d,), float64, replicated
        None where the parameters do not need them. A feature whose range is 0 has ``scale_`` 1.
    n_features_in_ : int

    Examples
    --------
    >>> import ht_core as ht
    >>> X = ht.array([[1.0], [2.0], [3.0], [4.0], [100.0]], split=0)
    >>> RobustScaler().fit_transform(X).numpy().ravel().tolist()
    [-1.0, -0.5, 0.0, 0.5, 48.5]
    """

    def __init__(
        self,
        *,
        with_centering: bool = True,
        with_scaling: bool = True,
        quantile_range: tuple[float, float] = (25.0, 75.0),
        copy: bool = True,
        unit_variance: bool = False,
    ) -> None:
        self.with_centering = with_centering
        self.with_scaling = with_scaling
        self.quantile_range = quantile_range
        self.copy = copy
        self.unit_variance = unit_variance

    def fit(self, X: Any, y: Any = None) -> RobustScaler:
        """Learn median and quantile range of each feature, forgetting what was learned before.

        Parameters
        ----------
        X : DNDarray or array_like, shape (n, d)
        y : ignored

        Returns
        -------
        RobustScaler
            The estimator itself.

        *Distribution*: split 0: one allreduce of 2 d numbers and the messages of ``ht_core.percentile``: columns of
        up to 2^21 rows are dealt to the ranks, which moves each number once; taller ones are searched. Split 1
        (features): two allgathers of O(d) numbers. Replicated: no message. Collective.

        Raises
        ------
        ValueError
            If `X` is not a table or holds NaN or infinity, or `quantile_range` is not within 0 and 100; the same
            on every rank.
        """
        op = "RobustScaler.fit"
        low, high = self.quantile_range
        if not 0 <= low <= high <= 100:
            raise ValueError(
                f"{op}: quantile_range must be (low, high) with 0 <= low <= high <= 100, got {self.quantile_range}"
            )
        X = as_table(op, X)
        merged_range(op, X)  # infinity would pass the median unseen
        table = DNDarray(floating(X.larray), X.layout, X.comm)
        low, center, high = percentile(table, [low, 50.0, high], axis=0).resplit(None).larray.double()
        scale = nonzero(high - low)
        if self.unit_variance:
            scale = scale / _normal_range(*self.quantile_range)
        self.n_features_in_ = X.shape[1]
        self.center_ = replicated(center.clone(), X) if self.with_centering else None
        self.scale_ = replicated(scale, X) if self.with_scaling else None
        return self

    def _map(self) -> tuple[DNDarray | None, DNDarray | None]:
        return self.center_, self.scale_


def _normal_range(low: float, high: float) -> float:
    """Return the distance of two percentiles of the standard normal distribution."""
    low, high = torch.special.ndtri(torch.tensor([low, high], dtype=torch.float64) / 100.0).tolist()
    return high - low if math.isfinite(high - low) and high > low else 1.0
