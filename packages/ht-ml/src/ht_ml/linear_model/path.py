"""Solutions for many penalties: the products of the features are formed once."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ht_core import DNDarray

from ..covariance import covariance
from ..rows import as_column, as_rows, as_weights
from .coordinate_descent import GramLasso
from .linear_regressor import checked_penalty, refuse_unusable


def enet_path(
    X: Any,
    y: Any,
    *,
    l1_ratio: float = 0.5,
    eps: float = 1e-3,
    n_alphas: int = 100,
    alphas: Any = None,
    sample_weight: Any = None,
    fit_intercept: bool = True,
    positive: bool = False,
    max_iter: int = 1000,
    tol: float = 1e-4,
) -> tuple[np.ndarray, DNDarray, np.ndarray]:
    """Return the elastic net's coefficients for decreasing penalties, as ``sklearn.linear_model.enet_path``.

    Unlike scikit-learn's the data are centred here, unless ``fit_intercept=False``.

    Parameters
    ----------
    X : DNDarray or array_like, shape (n, d)
    y : DNDarray or array_like, shape (n,) or (n, 1)
    l1_ratio : float
        Share of the l1 penalty, 0 to 1; more than 0 unless `alphas` are given.
    eps : float
        Smallest penalty as a share of the largest, the least for which all coefficients are 0.
    n_alphas : int
        Number of penalties, evenly spaced in their logarithms.
    alphas : array_like, shape (m,), optional
        Penalties to use instead.
    sample_weight : DNDarray or array_like, shape (n,), optional
        Non-negative weights of the rows.
    fit_intercept, positive, max_iter, tol
        As of :class:`ElasticNet`.

    Returns
    -------
    alphas : numpy.ndarray, shape (m,)
        Penalties, decreasing.
    coefs : DNDarray, shape (d, m), dtype of `X`, replicated
    dual_gaps : numpy.ndarray, shape (m,)

    *Distribution*: one allreduce of about d^2 / 2 numbers in all, whatever the number of penalties. Split 1 is brought
    to split 0 first; a replicated table sends nothing. Collective.

    Raises
    ------
    ValueError
        If a parameter is out of range, shapes do not fit, or the data hold NaN or infinity; the same on every rank.

    Examples
    --------
    >>> import ht_core as ht
    >>> from ht_ml.linear_model import lasso_path
    >>> X = ht.array([[0.0], [1.0], [2.0]], split=0)
    >>> alphas, coefs, gaps = lasso_path(X, [0.0, 1.0, 2.0], n_alphas=3, eps=0.01)
    >>> alphas.round(6).tolist(), coefs.numpy().round(6).tolist()
    ([0.666667, 0.066667, 0.006667], [[0.0, 0.9, 0.99]])
    """
    op = "enet_path"
    if not 0 <= l1_ratio <= 1 or (l1_ratio == 0 and alphas is None):
        raise ValueError(f"{op}: l1_ratio must be in (0, 1], or 0 with given alphas, got {l1_ratio!r}")
    if alphas is None and not (n_alphas >= 1 and 0 < eps < 1):
        raise ValueError(f"{op}: n_alphas must be >= 1 and eps in (0, 1), got {n_alphas!r} and {eps!r}")
    if alphas is not None:
        alphas = np.sort(np.asarray([checked_penalty(op, "alphas", a) for a in np.ravel(alphas).tolist()]))[
            ::-1
        ]
    rows = as_rows(op, X)
    weights = as_weights(op, sample_weight, rows)
    merged = covariance(rows, as_column(op, "y", y, rows), weights)
    if not merged.is_finite or merged.n <= 0.0:
        refuse_unusable(op, merged.n, weights)
    n, products = merged.n, merged.products
    if not fit_intercept:
        products = products + n * np.outer(merged.mean, merged.mean)
    gram, moment, square = products[:-1, :-1], products[:-1, -1].copy(), float(products[-1, -1])
    if alphas is None:
        largest = float((moment if positive else np.abs(moment)).max(initial=0.0)) / (n * l1_ratio)
        largest = max(largest, float(np.finfo(np.float64).tiny))
        alphas = np.geomspace(largest, largest * eps, n_alphas)
    coefficients, gaps, w = np.zeros((rows.d, len(alphas))), np.zeros(len(alphas)), np.zeros(rows.d)
    for j, alpha in enumerate(alphas.tolist()):
        ridge = n * alpha * (1.0 - l1_ratio)
        solver = GramLasso(gram + ridge * np.eye(rows.d), moment, square, n * alpha * l1_ratio, positive)
        solution = solver.solve(w, max_iter, tol)
        w = coefficients[:, j] = solution.coefficients
        gaps[j] = max(solution.gap, 0.0) / n
    found = torch.from_numpy(coefficients).to(device=rows.local.device, dtype=rows.local.dtype)
    return np.ascontiguousarray(alphas), rows.replicated(found), gaps


def lasso_path(
    X: Any,
    y: Any,
    *,
    eps: float = 1e-3,
    n_alphas: int = 100,
    alphas: Any = None,
    sample_weight: Any = None,
    fit_intercept: bool = True,
    positive: bool = False,
    max_iter: int = 1000,
    tol: float = 1e-4,
) -> tuple[np.ndarray, DNDarray, np.ndarray]:
    """Return the Lasso's coefficients for decreasing penalties: :func:`enet_path` with ``l1_ratio=1``."""
    return enet_path(
        X,
        y,
        l1_ratio=1.0,
        eps=eps,
        n_alphas=n_alphas,
        alphas=alphas,
        sample_weight=sample_weight,
        fit_intercept=fit_intercept,
        positive=positive,
        max_iter=max_iter,
        tol=tol,
    )
