"""Naive Bayes."""

from .gaussian import GaussianNB

__all__ = ["GaussianNB"]
