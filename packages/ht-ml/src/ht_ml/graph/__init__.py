"""Graphs of similar rows and their Laplacians."""

from .laplacian import Laplacian
from .operator import LaplacianOperator

__all__ = ["Laplacian", "LaplacianOperator"]
