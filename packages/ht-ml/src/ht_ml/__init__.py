"""Estimators for distributed arrays, with scikit-learn's conventions."""

from . import base, cluster, preprocessing, progress
from ._version import __version__
from .base import BaseEstimator, NotFittedError, clone
from .cluster import KMeans
from .preprocessing import StandardScaler

__all__ = [
    "BaseEstimator",
    "KMeans",
    "NotFittedError",
    "StandardScaler",
    "__version__",
    "base",
    "clone",
    "cluster",
    "preprocessing",
    "progress",
]
