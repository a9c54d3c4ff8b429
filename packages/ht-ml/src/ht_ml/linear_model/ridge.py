"""Least squares with an l2 penalty."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..rows import as_rows, as_targets, as_weights
from .linear_regressor import LinearRegressor, checked_penalty
from .normal_equations import Problem


class Ridge(LinearRegressor):
    """Least squares with an l2 penalty, as ``sklearn.linear_model.Ridge``.

    Minimises ``|y - Xw - b|^2 + alpha |w|^2``.

    Parameters
    ----------
    alpha : float or array_like, shape (t,)
        Weight of the penalty, >= 0; one for all targets or one each.
    fit_intercept : bool
        Whether to fit b, which is not penalised; otherwise it is 0.
    max_iter : int, optional
        Most steps of the iterative ways; 10 d + 100 by default.
    tol : float
        Relative tolerance of the iterative ways.
    positive : bool
        Allow no negative coefficients.

    Attributes
    ----------
    coef_ : DNDarray, shape (d,), or (t, d) for t targets, dtype of `X`, replicated
    intercept_ : float, or DNDarray of shape (t,), replicated
    n_iter_ : int
        Most steps that a target has needed; 1 where the equations were solved.
    n_features_in_ : int

    Notes
    -----
    Up to 2000 features: the normal equations in float64, corrected by residuals of the rows where needed. Beyond, or
    where the penalty is too small to make them solvable: conjugate gradients, d numbers at a time (see
    ``normal_equations``).

    Examples
    --------
    >>> import ht_core as ht
    >>> X = ht.array([[0.0], [1.0], [2.0]], split=0)
    >>> model = Ridge(alpha=2.0).fit(X, [0.0, 1.0, 2.0])
    >>> model.coef_.numpy().round(9).tolist(), round(model.intercept_, 9)
    ([0.5], 0.5)
    """

    _takes_targets = True

    def __init__(
        self,
        alpha: Any = 1.0,
        *,
        fit_intercept: bool = True,
        max_iter: int | None = None,
        tol: float = 1e-10,
        positive: bool = False,
    ) -> None:
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.tol = tol
        self.positive = positive

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Ridge:
        """Find the coefficients.

        Parameters
        ----------
        X : DNDarray or array_like, shape (n, d)
        y : DNDarray or array_like, shape (n,) or (n, t)
        sample_weight : DNDarray or array_like, shape (n,), optional
            Non-negative weights of the rows.

        Returns
        -------
        Ridge
            The estimator itself.

        *Distribution*: one allreduce of about (d + t)^2 / 2 numbers, two more of d t where features are nearly
        dependent. More than 2000 features: one of 2 (d + t) + 1 numbers, and one of d numbers per step. Split 1 is
        brought to split 0 first; a replicated table sends nothing. Collective.

        Raises
        ------
        ValueError
            If `alpha` is out of range, shapes do not fit, or the data hold NaN or infinity; the same on every rank.
        """
        op = "Ridge.fit"
        alphas = np.atleast_1d(np.asarray(self.alpha))
        for value in alphas.ravel().tolist():
            checked_penalty(op, "alpha", value)
        rows = as_rows(op, X)
        targets, is_single = as_targets(op, y, rows)
        t = targets.shape[1]
        if alphas.shape not in ((1,), (t,)):
            raise ValueError(
                f"{op}: alpha must be one number or {t}, one per target, got shape {alphas.shape}"
            )
        weights = as_weights(op, sample_weight, rows)
        penalties = np.broadcast_to(alphas.astype(np.float64), (t,))
        problem = Problem(op, rows, targets, weights, penalties, self.fit_intercept)
        max_iter = 10 * rows.d + 100 if self.max_iter is None else self.max_iter
        self._store(rows, *problem.solve(positive=self.positive, max_iter=max_iter, tol=self.tol), is_single)
        self.n_iter_ = problem.n_iter
        return self
