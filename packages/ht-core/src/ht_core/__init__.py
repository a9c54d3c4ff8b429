"""Distributed arrays that feel like NumPy: one torch tensor per process, one split axis."""

from ._version import __version__

__all__ = ["__version__"]
