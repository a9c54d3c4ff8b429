"""Linear models."""

from .lasso import Lasso

__all__ = ["Lasso"]
