"""Linear models."""

from .elastic_net import ElasticNet
from .lasso import Lasso
from .least_squares import LinearRegression
from .logistic import LogisticRegression
from .path import enet_path, lasso_path
from .ridge import Ridge

__all__ = [
    "ElasticNet",
    "Lasso",
    "LinearRegression",
    "LogisticRegression",
    "Ridge",
    "enet_path",
    "lasso_path",
]
