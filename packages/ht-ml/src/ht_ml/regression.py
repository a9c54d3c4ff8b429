"""Another name of ``linear_model``."""

from .linear_model import Lasso

__all__ = ["Lasso"]
