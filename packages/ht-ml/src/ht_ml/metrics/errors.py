"""Errors of predicted numbers."""

from __future__ import annotations

from typing import Any

import torch
from ht_core import DNDarray

from ..rows import replicated
from ..scores import residual_moments, shares_of_spread

_AVERAGES = ("raw_values", "uniform_average", "variance_weighted")


def mean_squared_error(
    y_true: Any, y_pred: Any, *, sample_weight: Any = None, multioutput: Any = "uniform_average"
) -> float | DNDarray:
    """Return the (weighted) mean of the squared differences.

    Parameters
    ----------
    y_true, y_pred : DNDarray or array_like, shape (n,) or (n, m), real
    sample_weight : DNDarray or array_like, shape (n,), optional
        Non-negative weights of the rows.
    multioutput : {"uniform_average", "raw_values"} or array_like of shape (m,)
        The mean over the outputs, one value for each, or weights of the outputs.

    Returns
    -------
    float, or DNDarray of shape (m,) for "raw_values"

    *Distribution*: both split alike (the others are redistributed): one allreduce of 4 m + 1 numbers. Replicated
    operands send nothing. Collective.

    Raises
    ------
    LayoutError
        If the shapes differ.
    ValueError
        If values or weights are not finite, or `multioutput` is not known; the same on every rank.

    Examples
    --------
    >>> import ht_core as ht
    >>> from ht_ml.metrics import mean_squared_error
    >>> mean_squared_error(ht.array([1.0, 2.0, 3.0], split=0), ht.array([1.0, 2.0, 6.0], split=0))
    3.0
    """
    op = "mean_squared_error"
    if isinstance(multioutput, str) and multioutput not in _AVERAGES[:2]:
        raise ValueError(
            f"{op}: multioutput must be 'raw_values', 'uniform_average' or weights, got {multioutput!r}"
        )
    found = residual_moments(op, y_true, y_pred, sample_weight, names=("y_true", "y_pred"))
    return _average(op, found.squares / found.n, multioutput, found)


def r2_score(
    y_true: Any,
    y_pred: Any,
    *,
    sample_weight: Any = None,
    multioutput: Any = "uniform_average",
    force_finite: bool = True,
) -> float | DNDarray:
    """Return the coefficient of determination ``1 - sum (y - predicted)^2 / sum (y - mean)^2``.

    Parameters
    ----------
    y_true, y_pred : DNDarray or array_like, shape (n,) or (n, m), real
    sample_weight : DNDarray or array_like, shape (n,), optional
        Non-negative weights of the rows.
    multioutput : {"uniform_average", "raw_values", "variance_weighted"} or array_like of shape (m,)
        The mean over the outputs, one value for each, a mean by their variances, or weights of the outputs.
    force_finite : bool
        Where `y_true` is constant: 1 if it is met and 0 otherwise; with False NaN and -inf.

    Returns
    -------
    float, or DNDarray of shape (m,) for "raw_values"
        NaN for a single row.

    *Distribution*: as `mean_squared_error`.

    Raises
    ------
    LayoutError
        If the shapes differ.
    ValueError
        If values or weights are not finite, or `multioutput` is not known; the same on every rank.

    Examples
    --------
    >>> import ht_core as ht
    >>> from ht_ml.metrics import r2_score
    >>> r2_score(ht.array([1.0, 2.0, 3.0], split=0), ht.array([1.0, 2.0, 4.0], split=0))
    0.5
    """
    op = "r2_score"
    if isinstance(multioutput, str) and multioutput not in _AVERAGES:
        raise ValueError(
            f"{op}: multioutput must be one of {', '.join(map(repr, _AVERAGES))} or weights, got {multioutput!r}"
        )
    found = residual_moments(op, y_true, y_pred, sample_weight, names=("y_true", "y_pred"))
    if found.rows < 2:
        return float("nan")
    scores = shares_of_spread(found) if force_finite else 1.0 - found.squares / found.spread
    if isinstance(multioutput, str) and multioutput == "variance_weighted":
        constant = not bool((found.spread > 0).any())
        multioutput = "uniform_average" if constant else found.spread
    return _average(op, scores, multioutput, found)


def _average(op: str, values: torch.Tensor, multioutput: Any, found) -> float | DNDarray:
    if isinstance(multioutput, str):
        return replicated(values, found.like) if multioutput == "raw_values" else float(values.mean())
    weights = torch.as_tensor(multioutput, dtype=values.dtype, device=values.device)
    if weights.shape != values.shape or not float(weights.sum()) > 0.0:
        raise ValueError(
            f"{op}: multioutput must be {values.shape[0]} weights of positive sum, got {weights.tolist()}"
        )
    return float((values * weights).sum() / weights.sum())
