"""Bytes between ranks: communicators, collectives and redistribution for NumPy arrays and torch tensors."""

from ._version import __version__

__all__ = ["__version__"]
