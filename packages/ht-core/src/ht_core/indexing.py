"""Indexing: ``x[key]``, ``x[key] = value``, take, nonzero and its relatives."""

from __future__ import annotations

from .dndarray import DNDarray
from .engines.indexing import getitem, setitem

DNDarray.__getitem__ = getitem
DNDarray.__setitem__ = setitem
