"""Preparing features."""

from .standard_scaler import StandardScaler

__all__ = ["StandardScaler"]
