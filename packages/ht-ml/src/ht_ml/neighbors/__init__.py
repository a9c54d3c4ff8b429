"""Neighbours: searches, classification, regression and outliers by the nearest rows."""

from .classifier import KNeighborsClassifier
from .lof import LocalOutlierFactor, local_outlier_factor
from .regressor import KNeighborsRegressor
from .unsupervised import NearestNeighbors

__all__ = [
    "KNeighborsClassifier",
    "KNeighborsRegressor",
    "LocalOutlierFactor",
    "NearestNeighbors",
    "local_outlier_factor",
]
