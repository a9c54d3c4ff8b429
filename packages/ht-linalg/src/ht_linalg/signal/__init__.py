"""Signals: convolution by halos, and windows."""

from . import windows
from .convolution import convolve, convolve2d, correlate
from .windows import get_window

__all__ = ["convolve", "convolve2d", "correlate", "get_window", "windows"]
