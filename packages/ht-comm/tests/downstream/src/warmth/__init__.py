"""The heat equation on a plane, rows divided over ranks."""

from .plane import Plane

__all__ = ["Plane"]
