"""Data sets and layouts that the tests of this package share."""

import importlib
import inspect
import pkgutil
from functools import cache

import ht_ml
import numpy as np
from ht_core.testing import spread
from ht_ml.base import BaseEstimator


@cache
def digits(dtype="float32"):
    from sklearn.datasets import load_digits

    return load_digits().data.astype(dtype)


@cache
def cancer(dtype="float64"):
    from sklearn.datasets import load_breast_cancer

    return load_breast_cancer().data.astype(dtype)


@cache
def diabetes(dtype="float64"):
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    return x.astype(dtype), y.astype(dtype)


@cache
def blobs(n=600, d=5, centers=6, dtype="float64", std=1.0):
    from sklearn.datasets import make_blobs

    x, labels = make_blobs(n, d, centers=centers, cluster_std=std, random_state=3)
    return x.astype(dtype), labels


def layouts(n, p):
    """(split, counts) of a table with n rows: replicated, even, uneven, all rows on the last rank,
    features."""
    edges = np.linspace(0, 1, p + 1) ** 2 * n
    uneven = tuple(np.diff(edges.astype(int)).tolist())
    last = (0,) * (p - 1) + (n,)
    return {
        "none": (None, ()),
        "even": (0, None),
        "uneven": (0, uneven),
        "last": (0, last),
        "features": (1, None),
    }


def table(values, comm, kind="even"):
    """`values` as a distributed table in one of the layouts above."""
    from ht_core.layout import Layout

    split, counts = layouts(values.shape[0], comm.size)[kind]
    if split is not None and counts is None:
        counts = Layout.even(values.shape, split, comm.size).counts
    return spread(values, split, counts, comm)


KINDS = ("none", "even", "uneven", "last", "features")


def public_estimators():
    """Name -> class of everything with ``fit`` that a subpackage of ht_ml lists in ``__all__``."""
    modules = [
        importlib.import_module(f"ht_ml.{m.name}") for m in pkgutil.iter_modules(ht_ml.__path__) if m.ispkg
    ]
    named = {name: getattr(module, name) for module in modules for name in module.__all__}
    return {
        name: found
        for name, found in named.items()
        if inspect.isclass(found) and issubclass(found, BaseEstimator) and hasattr(found, "fit")
    }
