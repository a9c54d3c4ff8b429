"""Estimators for distributed arrays, with scikit-learn's conventions."""

from ._version import __version__

__all__ = ["__version__"]
