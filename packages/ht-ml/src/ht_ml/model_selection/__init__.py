"""Splitting rows into parts that train and test, and scores by cross-validation."""

from .splitting import KFold, StratifiedKFold, train_test_split
from .validation import cross_val_score

__all__ = ["KFold", "StratifiedKFold", "cross_val_score", "train_test_split"]
