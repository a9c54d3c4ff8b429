"""Parallel files for distributed arrays, with stock wheels."""

from ._version import __version__

__all__ = ["__version__"]
