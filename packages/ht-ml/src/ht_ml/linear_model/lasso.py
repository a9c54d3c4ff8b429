"""Linear regression with an l1 penalty."""

from __future__ import annotations

from typing import Any

from .elastic_net import ElasticNet
from .linear_regressor import checked_penalty


class Lasso(ElasticNet):
    """Linear regression with an l1 penalty, as ``sklearn.linear_model.Lasso``.

    Minimises ``1/(2n) |y - Xw - b|^2 + alpha |w|_1``.

    Parameters
    ----------
    alpha : float
        Weight of the penalty, >= 0.
    lam : float, optional
        Another name of `alpha`, for code written for Heat; used instead of `alpha` where given.
    fit_intercept, precompute, max_iter, tol, warm_start, positive
        As of :class:`ElasticNet`.

    Attributes
    ----------
    coef_, intercept_, n_iter_, dual_gap_, n_features_in_
        As of :class:`ElasticNet`.

    Examples
    --------
    >>> import ht_core as ht
    >>> X = ht.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]], split=0)
    >>> model = Lasso(alpha=0.1).fit(X, ht.array([0.0, 1.0, 2.0], split=0))
    >>> model.coef_.numpy().round(6).tolist(), round(model.intercept_, 6)
    ([0.85, 0.0], 0.15)
    """

    def __init__(
        self,
        alpha: float = 1.0,
        *,
        lam: float | None = None,
        fit_intercept: bool = True,
        precompute: Any = "auto",
        max_iter: int = 1000,
        tol: float = 1e-4,
        warm_start: bool = False,
        positive: bool = False,
    ) -> None:
        self.alpha = alpha
        self.lam = lam
        self.fit_intercept = fit_intercept
        self.precompute = precompute
        self.max_iter = max_iter
        self.tol = tol
        self.warm_start = warm_start
        self.positive = positive

    def _penalties(self, op: str) -> tuple[float, float]:
        name, alpha = ("alpha", self.alpha) if self.lam is None else ("lam", self.lam)
        return checked_penalty(op, name, alpha), 0.0
