"""Preparing features."""

from .max_abs_scaler import MaxAbsScaler
from .min_max_scaler import MinMaxScaler
from .normalizer import Normalizer
from .robust_scaler import RobustScaler
from .standard_scaler import StandardScaler

__all__ = ["MaxAbsScaler", "MinMaxScaler", "Normalizer", "RobustScaler", "StandardScaler"]
