"""Estimators for distributed arrays, with scikit-learn's conventions."""

from . import base, cluster, linear_model, preprocessing, progress, regression, scores
from ._version import __version__
from .base import BaseEstimator, NotFittedError, clone
from .cluster import KMeans
from .linear_model import Lasso
from .preprocessing import StandardScaler

__all__ = [
    "BaseEstimator",
    "KMeans",
    "Lasso",
    "NotFittedError",
    "StandardScaler",
    "__version__",
    "base",
    "clone",
    "cluster",
    "linear_model",
    "preprocessing",
    "progress",
    "regression",
    "scores",
]
