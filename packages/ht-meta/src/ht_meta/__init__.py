"""The whole ht stack in one namespace, with a command line and a demo."""

from ._version import __version__

__all__ = ["__version__"]
