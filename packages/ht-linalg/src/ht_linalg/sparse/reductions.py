"""Sums, diagonals and norms of sparse matrices."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from ht_core import DNDarray
from ht_core.layout import Layout, normalize_axis

from .pattern import SUMS, add_up

if TYPE_CHECKING:
    from .matrix import SparseMatrix


def sum_over(a: SparseMatrix, axis: int | None, values: torch.Tensor | None = None) -> DNDarray:
    """Return sums along an axis or of all; of `values` in place of those stored, if given."""
    major, minor, stored = a.block.expand()
    values = stored if values is None else values
    if values.dtype in SUMS or not (values.is_floating_point() or values.is_complex()):
        values = values.to({torch.bool: torch.int64}.get(values.dtype, SUMS.get(values.dtype, torch.int64)))
    if axis is None:
        total = values.sum()
        return _replicated(a, _allreduce(a, total))
    if normalize_axis(axis, 2, "sum") == a.major:
        sums = add_up(minor, values, a.shape[1 - a.major])
        return _replicated(a, _allreduce(a, sums))
    sums = add_up(major, values, a.block.n_major)
    return DNDarray(sums, a.layout.drop((1 - a.major,)), a.comm)


def diagonal(a: SparseMatrix) -> DNDarray:
    """Return the main diagonal, split as the matrix."""
    major, minor, values = a.block.expand()
    start, n = a.layout.offset(a.comm.rank), min(a.shape)
    hit = major + start == minor
    length = max(min(start + a.block.n_major, n) - start, 0)
    found = values.new_zeros(length)
    found[major[hit]] = values[hit]
    if a.split is None:
        return _replicated(a, found)
    counts = tuple(
        max(min(first + extent, n) - first, 0) for first, extent in zip(a.layout.displs, a.layout.counts)
    )
    return DNDarray(found, Layout((n,), 0, counts), a.comm)


def norm(a: SparseMatrix, ord: object) -> DNDarray:
    """Return a norm of the matrix."""
    values = a.block.values
    size = (values if values.is_floating_point() or values.is_complex() else values.double()).abs()
    if ord in (None, "fro"):
        # Scaled, so that squares neither overflow nor vanish: the largest is needed everywhere first.
        largest = _allreduce(a, size.amax() if size.numel() else size.new_zeros(()), "max")
        scaled = torch.where(largest > 0, size / largest, size) if size.numel() else size
        return _replicated(a, largest * _allreduce(a, scaled.square().sum()).sqrt())
    if ord in (1, math.inf):
        sums = sum_over(a, 0 if ord == 1 else 1, size)
        return sums.max() if sums.shape[0] else _replicated(a, size.new_zeros(()))
    raise ValueError(f"norm: ord must be fro, 1 or inf, got {ord!r}")


def _allreduce(a: SparseMatrix, x: torch.Tensor, op: str = "sum") -> torch.Tensor:
    return x if a.split is None else a.comm.allreduce(x, op)


def _replicated(a: SparseMatrix, x: torch.Tensor) -> DNDarray:
    return DNDarray(x, Layout.replicated(tuple(x.shape)), a.comm)
