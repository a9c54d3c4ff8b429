"""Linear regression with an l1 and an l2 penalty: checks and the choice of the solver."""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
import torch

from ..base import ConvergenceWarning
from ..covariance import covariance
from ..moments import checked_moments
from ..rows import Rows, as_column, as_rows, as_weights
from .coordinate_descent import GramLasso, Solution
from .fista import Fista
from .linear_regressor import GRAM_FEATURES, LinearRegressor, checked_penalty, refuse_unusable


class ElasticNet(LinearRegressor):
    """Linear regression with an l1 and an l2 penalty, as ``sklearn.linear_model.ElasticNet``.

    Minimises ``1/(2n) |y - Xw - b|^2 + alpha l1_ratio |w|_1 + alpha (1 - l1_ratio) / 2 |w|^2``.

    Parameters
    ----------
    alpha : float
        Weight of the penalties, >= 0.
    l1_ratio : float
        Share of the l1 penalty, 0 to 1.
    fit_intercept : bool
        Whether to fit b; otherwise it is 0.
    precompute : "auto" or bool
        True forms the products of all pairs of features (d^2 numbers); False takes gradient steps with
        one message each. "auto" forms them up to 2000 features.
    max_iter : int
        Most sweeps (or gradient steps).
    tol : float
        Stop when the duality gap is at most ``tol |y|^2`` (y centred); a negative value does not stop early.
    warm_start : bool
        Start from the coefficients of the last fit.
    positive : bool
        Allow no negative coefficients.

    Attributes
    ----------
    coef_ : DNDarray, shape (d,), dtype of `X`, replicated
    intercept_ : float
    n_iter_ : int
        Sweeps (or gradient steps) that were needed.
    dual_gap_ : float
        Upper bound on how far the objective is from its minimum.
    n_features_in_ : int

    Notes
    -----
    The l2 penalty adds d rows ``sqrt(n alpha (1 - l1_ratio)) I`` with targets 0 to the data of a Lasso: its solvers
    see them as a diagonal added to the products. With products: they are accumulated in float64 and centred without
    cancellation, and the rest needs no message (see ``coordinate_descent``). Without: ``fista``.

    Examples
    --------
    >>> import ht_core as ht
    >>> X = ht.array([[0.0], [1.0], [2.0]], split=0)
    >>> model = ElasticNet(alpha=0.1, l1_ratio=0.5).fit(X, ht.array([0.0, 1.0, 2.0], split=0))
    >>> model.coef_.numpy().round(6).tolist(), round(model.intercept_, 6)
    ([0.860465], 0.139535)
    """

    def __init__(
        self,
        alpha: float = 1.0,
        *,
        l1_ratio: float = 0.5,
        fit_intercept: bool = True,
        precompute: Any = "auto",
        max_iter: int = 1000,
        tol: float = 1e-4,
        warm_start: bool = False,
        positive: bool = False,
    ) -> None:
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.precompute = precompute
        self.max_iter = max_iter
        self.tol = tol
        self.warm_start = warm_start
        self.positive = positive

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Find the coefficients.

        Parameters
        ----------
        X : DNDarray or array_like, shape (n, d)
        y : DNDarray or array_like, shape (n,) or (n, 1)
        sample_weight : DNDarray or array_like, shape (n,), optional
            Non-negative weights of the rows.

        Returns
        -------
        ElasticNet
            The estimator itself.

        *Distribution*: split 0 or None; split 1 is brought to split 0 first. `y` that lies as the rows
        do, or is replicated, is used where it is. With products: one allreduce of about d^2 / 2 numbers
        in all. Without: 9 allreduces and one of d + 3 numbers per step. A replicated table sends nothing.
        Collective.

        Raises
        ------
        ValueError
            If a parameter is out of range, shapes do not fit, or the data hold NaN or infinity; the same
            on every rank.
        """
        op = f"{type(self).__name__}.fit"
        self._check_parameters(op)
        penalties = self._penalties(op)
        rows = as_rows(op, X)
        target = as_column(op, "y", y, rows)
        weights = as_weights(op, sample_weight, rows)
        start = np.zeros(rows.d)
        if self.warm_start and getattr(self, "n_features_in_", None) == rows.d:
            start = self.coef_.numpy().astype(np.float64)
        use_products = rows.d <= GRAM_FEATURES if self.precompute == "auto" else self.precompute
        solve = self._solve_products if use_products else self._solve_gradients
        solution, n, mean = solve(op, rows, target, weights, penalties, start)
        if not solution.has_converged and self.tol >= 0 and rows.home.rank == 0:
            warnings.warn(
                f"{op}: the duality gap is {solution.gap / n:.3g} after {self.max_iter} iterations; raise max_iter",
                ConvergenceWarning,
                stacklevel=2,
            )
        coefficients = torch.from_numpy(solution.coefficients)
        self.coef_ = rows.replicated(coefficients.to(device=rows.local.device, dtype=rows.local.dtype))
        self.intercept_ = float(mean[-1] - mean[:-1] @ solution.coefficients) if self.fit_intercept else 0.0
        self.n_iter_ = solution.n_iter
        self.dual_gap_ = max(solution.gap, 0.0) / n
        self.n_features_in_ = rows.d
        return self

    def _penalties(self, op: str) -> tuple[float, float]:
        """Return the weights of |w|_1 and of |w|^2 / 2, per row."""
        alpha = checked_penalty(op, "alpha", self.alpha)
        if not isinstance(self.l1_ratio, Real) or not 0 <= self.l1_ratio <= 1:
            raise ValueError(f"{op}: l1_ratio must be a number in [0, 1], got {self.l1_ratio!r}")
        return alpha * self.l1_ratio, alpha * (1.0 - self.l1_ratio)

    def _check_parameters(self, op: str) -> None:
        if isinstance(self.max_iter, bool) or not isinstance(self.max_iter, Integral) or self.max_iter < 1:
            raise ValueError(f"{op}: max_iter must be an int >= 1, got {self.max_iter!r}")
        if not isinstance(self.tol, Real) or np.isnan(self.tol):
            raise ValueError(f"{op}: tol must be a number, got {self.tol!r}")
        if self.precompute not in ("auto", True, False):
            raise ValueError(f"{op}: precompute must be 'auto', True or False, got {self.precompute!r}")

    def _solve_products(
        self, op: str, rows: Rows, target, weights, penalties: tuple[float, float], start: np.ndarray
    ) -> tuple[Solution, float, np.ndarray]:
        merged = covariance(rows, target, weights)
        if not merged.is_finite or merged.n <= 0.0:
            refuse_unusable(op, merged.n, weights)
        products, mean, n = merged.products, merged.mean, merged.n
        if not self.fit_intercept:
            products = products + n * np.outer(mean, mean)
        gram, moment, square = (
            np.ascontiguousarray(products[:-1, :-1]),
            products[:-1, -1].copy(),
            products[-1, -1],
        )
        l1, l2 = penalties
        gram.flat[:: rows.d + 1] += n * l2
        solver = GramLasso(gram, moment, float(square), n * l1, self.positive)
        return solver.solve(start, int(self.max_iter), float(self.tol)), n, mean

    def _solve_gradients(
        self, op: str, rows: Rows, target, weights, penalties: tuple[float, float], start: np.ndarray
    ) -> tuple[Solution, float, np.ndarray]:
        features = checked_moments(rows.local, weights)
        own = checked_moments(target.unsqueeze(1), weights)
        d = rows.d
        packed = torch.cat([features[: d + 1], own[1:2], features[d + 1 :], own[2:]])
        packed = rows.comm.allreduce(packed, op="moments").cpu().numpy()
        n, mean = float(packed[0]), packed[1 : d + 2]
        if not np.isfinite(packed).all() or n <= 0.0:
            refuse_unusable(op, n, weights)
        square = float(packed[-1]) + (0.0 if self.fit_intercept else n * float(mean[-1]) ** 2)
        centre = mean if self.fit_intercept else np.zeros_like(mean)
        l1, l2 = penalties
        solver = Fista(rows, target, weights, centre, square, n * l1, n * l2, self.positive)
        return solver.solve(start, int(self.max_iter), float(self.tol)), n, mean
