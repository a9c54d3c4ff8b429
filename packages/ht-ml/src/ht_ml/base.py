"""What every estimator shares: parameters, cloning, mixins. Follows scikit-learn's conventions without
needing it.

Parameters are the arguments of ``__init__``, stored unchanged under their own names; nothing is checked
before ``fit``. What ``fit`` learns ends with an underscore. This module sends nothing and knows no array.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable
from typing import Any

__all__ = [
    "BaseEstimator",
    "ClassifierMixin",
    "ClusterMixin",
    "ConvergenceWarning",
    "NotFittedError",
    "RegressorMixin",
    "TransformerMixin",
    "check_is_fitted",
    "clone",
]


class NotFittedError(ValueError, AttributeError):
    """The estimator has to be fitted first."""


class ConvergenceWarning(UserWarning):
    """An iteration ended at its limit."""


class BaseEstimator:
    """Parameters as attributes: ``get_params``, ``set_params``, ``repr``.

    A subclass takes every parameter as an explicit keyword of ``__init__`` and stores it unchanged under
    the same name.
    """

    @classmethod
    def _parameters(cls) -> dict[str, Any]:
        """Return the parameters and their defaults, in the order of the signature."""
        signature = inspect.signature(cls.__init__)
        found = list(signature.parameters.values())[1:]
        for parameter in found:
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise TypeError(f"{cls.__name__}: parameters must be named in __init__, got {parameter}")
        return {parameter.name: parameter.default for parameter in found}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters by name; with `deep` those of nested estimators too, as
        ``name__parameter``."""
        values: dict[str, Any] = {}
        for name in self._parameters():
            value = values[name] = getattr(self, name)
            if deep and hasattr(value, "get_params") and not isinstance(value, type):
                values.update({f"{name}__{key}": item for key, item in value.get_params().items()})
        return values

    def set_params(self, **parameters: Any) -> BaseEstimator:
        """Set parameters by name (``name__parameter`` for a nested estimator) and return self.

        Raises
        ------
        ValueError
            If a name is not a parameter; nothing is set then.
        """
        known = self._parameters()
        for name in parameters:
            if name.partition("__")[0] not in known:
                raise ValueError(
                    f"{type(self).__name__}.set_params: name must be one of {', '.join(known)}, got {name!r}"
                )
        for name, value in parameters.items():
            outer, nested, inner = name.partition("__")
            if nested:
                getattr(self, outer).set_params(**{inner: value})
            else:
                setattr(self, name, value)
        return self

    def __sklearn_tags__(self) -> Any:
        """Return what scikit-learn asks about an estimator; it alone calls this, so it is there to be imported."""
        from .scikit_learn import tags

        return tags(self)

    def __repr__(self) -> str:
        changed = []
        for name, default in self._parameters().items():
            value = getattr(self, name, default)
            if value is not default and repr(value) != repr(default):
                text = repr(value)
                changed.append(f"{name}={text if len(text) <= 60 else f'<{type(value).__name__}>'}")
        return f"{type(self).__name__}({', '.join(changed)})"


class MethodIf:
    """A method that an estimator has or not, by its parameters: ``hasattr`` tells.

    Parameters
    ----------
    check : callable
        ``check(estimator, name)`` raises AttributeError where there is no such method.

    Used as a decorator: ``@MethodIf(check)``.
    """

    def __init__(self, check: Callable[[Any, str], None]) -> None:
        self._check = check

    def __call__(self, method: Callable) -> MethodIf:
        self._method = method
        functools.update_wrapper(self, method)
        return self

    def __get__(self, estimator: Any, owner: type) -> Callable:
        if estimator is not None:
            self._check(estimator, self._method.__name__)
        return self._method.__get__(estimator, owner)


class TransformerMixin:
    """``fit_transform`` for estimators that map rows to rows."""

    def fit_transform(self, X, y=None, **fit_parameters):
        """Fit to `X` and return the transformed `X`; the same as ``fit(X).transform(X)``."""
        if y is None:
            return self.fit(X, **fit_parameters).transform(X)
        return self.fit(X, y, **fit_parameters).transform(X)


class ClusterMixin:
    """``fit_predict`` for clusterers."""

    _estimator_type = "clusterer"

    def fit_predict(self, X, y=None, **fit_parameters):
        """Fit to `X` and return ``labels_``."""
        return self.fit(X, **fit_parameters).labels_


class ClassifierMixin:
    """``score`` for estimators that predict classes."""

    _estimator_type = "classifier"

    def score(self, X, y, sample_weight=None) -> float:
        """Return the fraction of rows whose class is predicted right.

        *Distribution*: one allreduce of 2 numbers beyond the messages of ``predict``.
        """
        from .scores import accuracy

        return accuracy(f"{type(self).__name__}.score", self.predict(X), y, sample_weight)


class RegressorMixin:
    """``score`` for estimators that predict numbers."""

    _estimator_type = "regressor"

    def score(self, X, y, sample_weight=None) -> float:
        """Return the coefficient of determination ``1 - sum (y - predicted)^2 / sum (y - mean)^2``.

        *Distribution*: one allreduce of 5 numbers beyond the messages of ``predict``.
        """
        from .scores import determination

        return determination(f"{type(self).__name__}.score", self.predict(X), y, sample_weight)


def check_is_fitted(estimator: Any) -> None:
    """Raise NotFittedError unless the estimator has learned something, i.e. has an attribute ``name_``.

    Raises
    ------
    NotFittedError
    """
    if not any(name.endswith("_") and not name.startswith("_") for name in vars(estimator)):
        from .scikit_learn import both_errors

        raise both_errors(NotFittedError)(
            f"{type(estimator).__name__}: the estimator must be fitted first, got none; call fit(X)"
        )


def clone(estimator: Any) -> Any:
    """Return an unfitted estimator with the same parameters (nested estimators are cloned, other values
    deep-copied).

    Raises
    ------
    TypeError
        If `estimator` has no ``get_params``.
    """
    if not hasattr(estimator, "get_params") or isinstance(estimator, type):
        raise TypeError(f"clone: estimator must be an instance with get_params, got {estimator!r}")
    parameters = {
        name: clone(value)
        if hasattr(value, "get_params") and not isinstance(value, type)
        else copy.deepcopy(value)
        for name, value in estimator.get_params(deep=False).items()
    }
    return type(estimator)(**parameters)
