"""Optimizers for training on all ranks; every other name is torch.optim's."""

import importlib
from typing import Any

import torch

from .daso import DASO
from .data_parallel_optimizer import DataParallelOptimizer
from .plateau import DetectMetricPlateau

__all__ = ["DASO", "DataParallelOptimizer", "DetectMetricPlateau"]


def __getattr__(name: str) -> Any:
    if name == "utils":  # where Heat has the detector
        return importlib.import_module(".plateau", __name__)
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(torch.optim, name)
