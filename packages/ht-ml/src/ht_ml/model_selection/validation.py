"""Scores of an estimator on rows that it was not fitted to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from numbers import Integral
from typing import Any

import numpy as np
from ht_core import DNDarray, take

from ..base import clone
from ..rows import given
from .splitting import KFold, StratifiedKFold


def cross_val_score(
    estimator: Any, X: Any, y: Any = None, *, cv: Any = None, scoring: Callable | None = None
) -> np.ndarray:
    """Return the score of an estimator on each fold, fitted to the other folds.

    Parameters
    ----------
    estimator : estimator
        Is cloned for each fold, and not changed.
    X : DNDarray or array_like, shape (n, d)
    y : DNDarray or array_like, shape (n,), optional
    cv : int, splitter, iterable or None
        The number of folds, 5 where None (`StratifiedKFold` for classifiers, else `KFold`); or what has a method
        ``split(X, y)``; or pairs of train and test indices.
    scoring : callable, optional
        ``scoring(estimator, X, y)`` returns a number; the default is the estimator's ``score``.

    Returns
    -------
    numpy.ndarray, shape (folds,), float64
        Equal on every rank.

    *Distribution*: for each fold, one exchange of the rows that move (``take``), and the messages of ``fit`` and
    ``score``. Collective.

    Raises
    ------
    ValueError
        If `cv` is none of these, or the estimator has no ``score``; before any message.

    Examples
    --------
    >>> import ht_core as ht
    >>> from ht_ml.linear_model import LinearRegression
    >>> X = ht.arange(20, dtype="float64", split=0).reshape((20, 1))
    >>> cross_val_score(LinearRegression(), X, 3.0 * X[:, 0] + 1.0, cv=4).round(6).tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    op = "cross_val_score"
    X = given(op, "X", X)
    y = None if y is None else given(op, "y", y, X.comm)
    if scoring is None and not hasattr(estimator, "score"):
        raise ValueError(f"{op}: estimator must have a method score, got {estimator!r}; pass scoring")
    scores = []
    for train, test in _pairs(op, cv, estimator, X, y):
        model = clone(estimator)
        args = (take(X, train, axis=0),) if y is None else (take(X, train, axis=0), take(y, train, axis=0))
        model.fit(*args)
        rows = take(X, test, axis=0)
        target = None if y is None else take(y, test, axis=0)
        if scoring is not None:
            scores.append(float(scoring(model, rows, target)))
        else:
            scores.append(float(model.score(rows) if y is None else model.score(rows, target)))
    return np.array(scores)


def _pairs(op: str, cv: Any, estimator: Any, X: DNDarray, y: Any) -> Iterable[tuple[Any, Any]]:
    if cv is None or (isinstance(cv, Integral) and not isinstance(cv, bool)):
        is_classifier = getattr(estimator, "_estimator_type", None) == "classifier" and y is not None
        cv = (StratifiedKFold if is_classifier else KFold)(5 if cv is None else int(cv))
    if hasattr(cv, "split") and not isinstance(cv, str):
        return cv.split(X, y)
    if not isinstance(cv, Iterable) or isinstance(cv, str):
        raise ValueError(f"{op}: cv must be an int, a splitter or pairs of indices, got {cv!r}")
    return ((_indices(train, X), _indices(test, X)) for train, test in cv)


def _indices(values: Any, X: DNDarray) -> DNDarray:
    return given("cross_val_score", "cv", values, X.comm)
