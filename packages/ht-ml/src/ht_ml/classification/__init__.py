"""Another name of the classifiers of ``neighbors``."""

from . import kneighborsclassifier
from .kneighborsclassifier import KNeighborsClassifier

__all__ = ["KNeighborsClassifier", "kneighborsclassifier"]
