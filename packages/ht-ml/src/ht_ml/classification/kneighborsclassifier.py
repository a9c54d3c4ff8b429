"""Another place of `KNeighborsClassifier`."""

from ..neighbors.classifier import KNeighborsClassifier

__all__ = ["KNeighborsClassifier"]
