"""Products of sparse matrices with dense vectors and matrices, and with each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from ht_core import DNDarray
from ht_core.engines.redistribution import redistribute
from ht_core.errors import LayoutError
from ht_core.layout import Layout, even_counts

from ..arguments import as_dndarray
from .halo import Halo
from .kernels import narrow, product
from .pattern import Compressed, Entries, compress, transpose

if TYPE_CHECKING:
    from .matrix import SparseMatrix


class Plan(NamedTuple):
    """What a product needs of the matrix: its rows on this rank, columns counted as in the halo."""

    block: Compressed
    width: int
    halo: Halo | None


def matmul(a: SparseMatrix, x: object) -> DNDarray:
    """Return ``a @ x`` for a dense x; the body of ``SparseMatrix.__matmul__``, which has the parameters."""
    x = as_dndarray("matmul", "x", x, a.comm)
    if x.ndim not in (1, 2) or x.shape[0] != a.shape[1]:
        raise LayoutError(
            f"matmul: x must have the {a.shape[1]} columns of the matrix as rows, got shape {x.shape}"
        )
    if x.comm is not a.comm and (x.comm.size, x.comm.rank) != (a.comm.size, a.comm.rank):
        raise LayoutError(f"matmul: x must live on the communicator of the matrix ({a.comm}), got {x.comm}")
    if a.split is None and x.split == 0:
        counts = x.layout.counts if a.major == 1 else None
        a = a.plan(("cut", counts), lambda: a.resplit(a.major, counts))
    if a.split is None:
        plan = a.plan("whole", lambda: _whole(a))
        layout = Layout((a.shape[0], *x.shape[1:]), x.split, x.layout.counts)
        return DNDarray(product(plan.block, plan.width, x.larray), layout, x.comm)
    return _by_rows(a, x) if a.major == 0 else _by_columns(a, x)


def _whole(a: SparseMatrix) -> Plan:
    rows = a.block if a.major == 0 else transpose(a.block, a.shape[0])
    return Plan(narrow(rows), a.shape[1], None)


def _by_rows(a: SparseMatrix, x: DNDarray) -> DNDarray:
    """Rows of the matrix meet the entries of x that they name."""
    layout = Layout((a.shape[0], *x.shape[1:]), 0, a.layout.counts)
    if x.split is None:
        plan = a.plan("whole", lambda: Plan(narrow(a.block), a.shape[1], None))
        return DNDarray(product(plan.block, plan.width, x.larray), layout, a.comm)
    if x.split == 1:
        x = x.resplit(0)
    plan = a.plan(x.layout.counts, lambda: _rows_plan(a, x.layout.counts))
    return DNDarray(product(plan.block, plan.width, plan.halo.gather(x.larray)), layout, a.comm)


def _rows_plan(a: SparseMatrix, counts: tuple[int, ...]) -> Plan:
    halo = Halo(a.block.indices, counts, a.comm)
    return Plan(narrow(a.block._replace(indices=halo.indices)), halo.n, halo)


def _by_columns(a: SparseMatrix, x: DNDarray) -> DNDarray:
    """Columns of the matrix times this rank's part of x: sums for rows of this rank and of others."""
    n, m = a.shape
    counts = a.layout.counts if n == m else even_counts(n, a.comm.size)
    layout = Layout((a.shape[0], *x.shape[1:]), 0, counts)
    local = redistribute(x.larray, x.layout, Layout(x.shape, 0, a.layout.counts), a.comm)
    plan = a.plan(counts, lambda: _columns_plan(a, counts))
    return DNDarray(plan.halo.add_back(product(plan.block, plan.width, local)), layout, a.comm)


def _columns_plan(a: SparseMatrix, counts: tuple[int, ...]) -> Plan:
    halo = Halo(a.block.indices, counts, a.comm)
    block = transpose(a.block._replace(indices=halo.indices), halo.n)
    return Plan(narrow(block), a.block.n_major, halo)


def multiply(a: SparseMatrix, b: SparseMatrix) -> SparseMatrix:
    """Return the sparse product of two sparse matrices, in the format of a.

    Row i of the product is the sum over the entries (i, k) of a of their value times row k of b: each rank asks for the
    rows of b that its rows of a name.
    """
    if a.shape[1] != b.shape[0]:
        raise LayoutError(f"matmul: b must have the {a.shape[1]} columns of a as rows, got shape {b.shape}")
    if a.major == 1:  # (a b)^T = b^T a^T, whose rows are the columns of b
        return multiply(b.asformat("csc").T, a.T).T
    b = b.asformat("csr")
    if a.split is None and b.split is not None:
        a = a.resplit(0)
    rows = b.block if b.split is None else None
    indices = a.block.indices
    if rows is None:
        halo = Halo(indices, b.layout.counts, a.comm)
        rows, indices = _gather_rows(halo, b.block), halo.indices
    major, _, values = a.block.expand()
    counts = rows.indptr.diff()[indices]
    total = int(counts.sum())
    entry = torch.arange(counts.shape[0], device=counts.device).repeat_interleave(counts, output_size=total)
    first = rows.indptr[indices] - (counts.cumsum(0) - counts)
    at = first[entry] + torch.arange(total, device=counts.device)
    dtype = torch.promote_types(values.dtype, rows.values.dtype)
    terms = values.to(dtype)[entry] * rows.values.to(dtype)[at]
    made = compress(Entries(major[entry], rows.indices[at], terms), a.block.n_major, b.shape[1])
    layout = Layout((a.shape[0], b.shape[1]), a.split, a.layout.counts)
    return a.like(made, layout)


def _gather_rows(halo: Halo, block: Compressed) -> Compressed:
    """Return this rank's rows and those of others that the halo names. Two exchanges."""
    counts = halo.gather(block.indptr.diff())
    indptr = torch.cat((counts.new_zeros(1), counts.cumsum(0)))
    return Compressed(
        indptr, *(halo.gather_runs(part, block.indptr, counts) for part in (block.indices, block.values))
    )
