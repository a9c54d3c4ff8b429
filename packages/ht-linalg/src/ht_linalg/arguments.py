"""Checks of arguments that all functions of this wheel share. Replicated facts only: no message."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from ht_comm import get_comm
from ht_core import DNDarray
from ht_core.errors import DTypeError, LayoutError
from ht_core.layout import Layout

if TYPE_CHECKING:
    from ht_comm import Communicator


def as_dndarray(op: str, name: str, x: object, comm: Communicator | None = None) -> DNDarray:
    """Return `x` itself, or an array of NumPy or torch (or nested lists) as a replicated one.

    Raises
    ------
    DTypeError
        If `x` is not an array.
    """
    if isinstance(x, DNDarray):
        return x
    try:
        local = x if isinstance(x, torch.Tensor) else torch.from_numpy(np.asarray(x))
    except (TypeError, ValueError):
        raise DTypeError(f"{op}: {name} must be an array, got {type(x).__name__}") from None
    return DNDarray(local, Layout.replicated(tuple(local.shape)), comm or get_comm())


def as_matrix(op: str, name: str, x: object) -> DNDarray:
    """Return `x` as a 2-D array.

    Raises
    ------
    DTypeError
        If `x` is not an array.
    LayoutError
        If `x` does not have two axes.
    """
    x = as_dndarray(op, name, x)
    if x.ndim != 2:
        raise LayoutError(f"{op}: {name} must be 2-D, got shape {x.shape}")
    return x
