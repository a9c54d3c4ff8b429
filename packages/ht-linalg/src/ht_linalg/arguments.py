"""Checks of arguments that all functions of this wheel share. Replicated facts only: no message."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from ht_comm import get_comm
from ht_core import DNDarray, types
from ht_core.engines.redistribution import redistribute
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


def as_pair(op: str, a: object, b: object) -> tuple[DNDarray, DNDarray]:
    """Return both operands of a product as arrays on one communicator."""
    comm = next((x.comm for x in (a, b) if isinstance(x, DNDarray)), None)
    return as_dndarray(op, "a", a, comm), as_dndarray(op, "b", b, comm)


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


def deliver(op: str, x: DNDarray, out: DNDarray | None) -> DNDarray:
    """Return `x`, or `out` with the values of `x` in it; one redistribution where their layouts differ.

    Raises
    ------
    LayoutError, DTypeError
        If `out` has another shape, or a dtype that cannot hold the values.
    """
    if out is None:
        return x
    if not isinstance(out, DNDarray) or out.shape != x.shape:
        got = out.shape if isinstance(out, DNDarray) else type(out).__name__
        raise LayoutError(f"{op}: out must be a DNDarray of shape {x.shape}, got {got}")
    if not types.can_cast(x.dtype, out.dtype, "same_kind"):
        raise DTypeError(f"{op}: out must be able to hold {x.dtype}, got {out.dtype}")
    out.larray.copy_(redistribute(x.larray, x.layout, out.layout, x.comm))
    return out
