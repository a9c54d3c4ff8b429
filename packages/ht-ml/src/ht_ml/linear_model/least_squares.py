"""Ordinary least squares."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..rows import as_rows, as_targets, as_weights
from .linear_regressor import LinearRegressor
from .normal_equations import Problem


class LinearRegression(LinearRegressor):
    """Least squares, as ``sklearn.linear_model.LinearRegression``; of all solutions the one of smallest norm.

    Minimises ``|y - Xw - b|^2``.

    Parameters
    ----------
    fit_intercept : bool
        Whether to fit b; otherwise it is 0.
    positive : bool
        Allow no negative coefficients.
    tol : float
        Relative tolerance of the descent with `positive`.

    Attributes
    ----------
    coef_ : DNDarray, shape (d,), or (t, d) for t targets, dtype of `X`, replicated
    intercept_ : float, or DNDarray of shape (t,), replicated
    n_features_in_ : int

    Notes
    -----
    The normal equations in float64, corrected by residuals of the rows where features are nearly dependent; a
    singular value decomposition where they are dependent (see ``normal_equations``).

    Examples
    --------
    >>> import ht_core as ht
    >>> X = ht.array([[0.0], [1.0], [2.0]], split=0)
    >>> model = LinearRegression().fit(X, [1.0, 3.0, 5.0])
    >>> model.coef_.numpy().round(9).tolist(), round(model.intercept_, 9)
    ([2.0], 1.0)
    """

    _takes_targets = True

    def __init__(self, *, fit_intercept: bool = True, positive: bool = False, tol: float = 1e-10) -> None:
        self.fit_intercept = fit_intercept
        self.positive = positive
        self.tol = tol

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> LinearRegression:
        """Find the coefficients.

        Parameters
        ----------
        X : DNDarray or array_like, shape (n, d)
        y : DNDarray or array_like, shape (n,) or (n, t)
        sample_weight : DNDarray or array_like, shape (n,), optional
            Non-negative weights of the rows.

        Returns
        -------
        LinearRegression
            The estimator itself.

        *Distribution*: one allreduce of about (d + t)^2 / 2 numbers, two more of d t where features are nearly
        dependent; dependent features and more than 2000: see ``ht_linalg.lstsq``, with a float64 copy of the rows.
        Split 1 is brought to split 0 first; a replicated table sends nothing. Collective.

        Raises
        ------
        ValueError
            If shapes do not fit, or the data hold NaN or infinity; the same on every rank.
        """
        op = "LinearRegression.fit"
        rows = as_rows(op, X)
        targets, is_single = as_targets(op, y, rows)
        weights = as_weights(op, sample_weight, rows)
        problem = Problem(op, rows, targets, weights, np.zeros(targets.shape[1]), self.fit_intercept)
        solution = problem.solve(positive=self.positive, max_iter=10 * rows.d + 100, tol=self.tol)
        self._store(rows, *solution, is_single)
        return self
