"""What linear models share: prediction, and how bad input is refused."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
import torch
from ht_core import DNDarray

from ..base import BaseEstimator, RegressorMixin, check_is_fitted
from ..moments import refuse_nonfinite
from ..rows import Rows, as_rows

#: Up to this number of features the products of all pairs are formed: they fit, and one message carries them.
GRAM_FEATURES = 2000


class LinearRegressor(RegressorMixin, BaseEstimator):
    """Base of the linear models that predict numbers: ``coef_``, of shape (d,) or (t, d), and ``intercept_``."""

    coef_: DNDarray
    intercept_: Any
    n_features_in_: int

    def predict(self, X: Any) -> DNDarray:
        """Return ``X @ coef_.T + intercept_``, shape (n,) or (n, t), dtype of `X`, distributed as the rows.

        *Distribution*: split 0 or None: no message. Split 1 is brought to split 0 first.
        """
        check_is_fitted(self)
        rows = as_rows(f"{type(self).__name__}.predict", X, n_features=self.n_features_in_)
        options = {"device": rows.local.device, "dtype": rows.local.dtype}
        coefficients = self.coef_.larray.to(**options)
        intercept = self.intercept_
        if coefficients.ndim == 1:
            return rows.column(torch.mv(rows.local, coefficients).add_(intercept))
        intercept = intercept.larray.to(**options) if isinstance(intercept, DNDarray) else intercept
        return rows.table(torch.mm(rows.local, coefficients.T).add_(intercept))

    def _store(self, rows: Rows, coefficients: np.ndarray, intercepts: np.ndarray, is_single: bool) -> None:
        """Set what was learned from coefficients (d, t) and intercepts (t,)."""
        values = torch.from_numpy(np.ascontiguousarray(coefficients.T))
        options = {"device": rows.local.device, "dtype": rows.local.dtype}
        self.coef_ = rows.replicated((values[0] if is_single else values).to(**options))
        self.intercept_ = (
            float(intercepts[0]) if is_single else rows.replicated(torch.from_numpy(intercepts).to(**options))
        )
        self.n_features_in_ = rows.d


def checked_penalty(op: str, argument: str, value: Any) -> float:
    """Return a penalty's weight, refusing what is not a number >= 0."""
    if not isinstance(value, Real) or not 0 <= value < np.inf:
        raise ValueError(f"{op}: {argument} must be a number in [0, inf), got {value!r}")
    return float(value)


def refuse_unusable(op: str, n: float, weights: torch.Tensor | None) -> None:
    """Raise the error for data, weighing `n` in all, that cannot be fitted to; every rank holds the same."""
    if n <= 0.0:
        raise ValueError(f"{op}: sample_weight must have a positive sum, got {n}")
    refuse_nonfinite(op, "X and y" if weights is None else "X, y and sample_weight (not negative)")
