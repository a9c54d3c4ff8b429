"""Estimators for distributed arrays, with scikit-learn's conventions; training of torch modules on all ranks."""

from . import (
    base,
    callbacks,
    classification,
    cluster,
    data,
    decomposition,
    graph,
    linear_model,
    metrics,
    model_selection,
    naive_bayes,
    neighbors,
    nn,
    optim,
    preprocessing,
    progress,
    regression,
    scores,
    utils,
)
from ._version import __version__
from .base import BaseEstimator, NotFittedError, clone
from .cluster import KMeans, Spectral
from .decomposition import DMD, PCA, DMDc, IncrementalPCA, TruncatedSVD
from .linear_model import Lasso
from .preprocessing import StandardScaler

__all__ = [
    "DMD",
    "PCA",
    "BaseEstimator",
    "DMDc",
    "IncrementalPCA",
    "KMeans",
    "Lasso",
    "NotFittedError",
    "Spectral",
    "StandardScaler",
    "TruncatedSVD",
    "__version__",
    "base",
    "callbacks",
    "classification",
    "clone",
    "cluster",
    "data",
    "decomposition",
    "graph",
    "linear_model",
    "metrics",
    "model_selection",
    "naive_bayes",
    "neighbors",
    "nn",
    "optim",
    "preprocessing",
    "progress",
    "regression",
    "scores",
    "utils",
]
