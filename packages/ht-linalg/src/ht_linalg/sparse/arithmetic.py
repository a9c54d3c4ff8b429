"""Elementwise operations of sparse matrices: on the places that are stored, without a message where layouts agree."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from ht_core import types
from ht_core.errors import LayoutError

from .pattern import Compressed, Entries, compress, keys_of

if TYPE_CHECKING:
    from .matrix import SparseMatrix


def combine(op: str, a: SparseMatrix, b: SparseMatrix) -> SparseMatrix:
    """Return ``a + b``, ``a - b`` ("add", "sub": places of either) or ``a * b`` ("mul": places of both)."""
    if a.shape != b.shape:
        raise LayoutError(f"{op}: the matrices must have one shape, got {a.shape} and {b.shape}")
    if a.comm is not b.comm and (a.comm.size, a.comm.rank) != (b.comm.size, b.comm.rank):
        raise LayoutError(f"{op}: both matrices must live on one communicator, got {a.comm} and {b.comm}")
    b = b.asformat(a.format)
    if a.split is None and b.split is not None:
        a = a.resplit(b.split, b.layout.counts)
    b = b.resplit(a.split, a.layout.counts)
    n_minor = a.shape[1 - a.major]
    dtype = torch.promote_types(a.block.values.dtype, b.block.values.dtype)
    x, y = (block._replace(values=block.values.to(dtype)) for block in (a.block, b.block))
    made = _product(x, y, n_minor) if op == "mul" else _sum(x, y, n_minor, op == "sub")
    return a.like(made, a.layout)


def _sum(x: Compressed, y: Compressed, n_minor: int, negate: bool) -> Compressed:
    y = y._replace(values=-y.values) if negate else y
    both = Entries(*(torch.cat(parts) for parts in zip(x.expand(), y.expand())))
    return compress(both, x.n_major, n_minor)


def _product(x: Compressed, y: Compressed, n_minor: int) -> Compressed:
    keys, others = keys_of(x, n_minor), keys_of(y, n_minor)
    at = torch.searchsorted(others, keys).clamp(max=max(others.shape[0] - 1, 0))
    hit = others[at] == keys if others.shape[0] else torch.zeros_like(keys, dtype=torch.bool)
    entries = x.expand().pick(hit)
    return compress(entries._replace(values=entries.values * y.values[at[hit]]), x.n_major, n_minor)


def scale(op: str, a: SparseMatrix, number: object, function: Callable = operator.mul) -> SparseMatrix:
    """Return the matrix with a function of each stored value and a number. No message."""
    if isinstance(number, bool) or not isinstance(number, (int, float, complex)):
        raise TypeError(
            f"{op}: the other operand must be a number or a sparse matrix, got {type(number).__name__}"
        )
    dtype = types.with_scalar(a.dtype, type(number)).torch
    values = function(a.block.values.to(dtype), number)
    return a.with_values(values)
