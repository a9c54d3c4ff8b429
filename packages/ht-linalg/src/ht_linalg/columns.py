"""Matrices brought to the form in which factorisations work: whole on a rank, or cut by columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from ht_core import DNDarray
from ht_core.engines.redistribution import redistribute
from ht_core.errors import LayoutError
from ht_core.layout import Layout

from .arguments import as_dndarray
from .qr import computing_dtype

if TYPE_CHECKING:
    from collections.abc import Callable


def as_stack(op: str, name: str, x: object, *, square: bool = False) -> DNDarray:
    """Return `x` as an array of matrices, in the dtype in which factorisations are computed.

    Raises
    ------
    LayoutError
        If `x` has fewer than two axes, or is not square where it must be.
    """
    x = as_dndarray(op, name, x)
    if x.ndim < 2:
        raise LayoutError(f"{op}: {name} must have at least two axes, got shape {x.shape}")
    if square and x.shape[-1] != x.shape[-2]:
        raise LayoutError(f"{op}: {name} must be square, got shape {x.shape}")
    dtype = computing_dtype(op, x.larray.dtype)
    return x if x.larray.dtype == dtype else DNDarray(x.larray.to(dtype), x.layout, x.comm)


def is_whole(x: DNDarray) -> bool:
    """Tell whether every rank's matrices are whole: nothing or a leading axis is split, or there is one rank."""
    return x.split is None or x.split < x.ndim - 2 or x.comm.size == 1


def moved(x: DNDarray, target: Layout) -> DNDarray:
    """Return `x` in the layout `target`; one redistribution unless it is there already."""
    if x.layout is target:
        return x
    return DNDarray(redistribute(x.larray, x.layout, target, x.comm), target, x.comm)


def adjoint(x: DNDarray) -> DNDarray:
    """Return the conjugate transposes of a stack of matrices, as a view."""
    axes = (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2)
    return DNDarray(x.larray.mH, x.layout.permute(axes), x.comm)


def dealt(x: DNDarray) -> DNDarray:
    """Return a stack of which whole matrices are dealt to the ranks, along its longest leading axis."""
    axis = max(range(x.ndim - 2), key=lambda i: x.shape[i])
    return moved(x, Layout.even(x.shape, axis, x.comm.size))


def cut_by_columns(x: DNDarray) -> tuple[torch.Tensor, Layout]:
    """Return this rank's columns of a matrix, in memory of its own, and the layout."""
    layout = x.layout if x.split == 1 else Layout.even(x.shape, 1, x.comm.size)
    local = redistribute(x.larray, x.layout, layout, x.comm)
    return local.clone(memory_format=torch.contiguous_format), layout


def map_matrices(x: DNDarray, kernel: Callable[[torch.Tensor], torch.Tensor], keep: int = 2) -> DNDarray:
    """Return `kernel` of all matrices of a stack that are whole on their ranks; `keep` axes of each are left."""
    local = kernel(x.larray)
    if tuple(local.shape) == x.lshape:
        return DNDarray(local, x.layout, x.comm)
    layout = x.layout.drop((x.ndim - 2, x.ndim - 1))
    for extent in local.shape[local.dim() - keep :] if keep else ():
        layout = layout.insert(layout.ndim, extent)
    return DNDarray(local, layout, x.comm)
