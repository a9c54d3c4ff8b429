"""The namespace in which Heat's scripts look for data sets: ``ht.utils.data`` is `ht_ml.data`."""

from .. import data

__all__ = ["data"]
