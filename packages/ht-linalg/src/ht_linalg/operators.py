"""Matrices as iterative methods see them: a function of vectors, and how these vectors are spread over the ranks.

A solver works on this rank's parts of its vectors, as tensors; what it must know of the matrix is in :class:`Operator`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING

import torch
from ht_core import DNDarray, types
from ht_core.devices import sanitize_device
from ht_core.engines.redistribution import redistribute
from ht_core.errors import DTypeError, LayoutError
from ht_core.layout import Layout

from .arguments import as_dndarray
from .gram import WIDE, times
from .qr import computing_dtype

if TYPE_CHECKING:
    from ht_comm import Communicator


@dataclass(frozen=True, slots=True)
class Operator:
    """A square matrix and the space it acts on.

    Attributes
    ----------
    layout : Layout, of shape (n,)
        How vectors are spread; blocks of k vectors are (n, k), cut alike.
    comm : Communicator
    dtype : torch.dtype
        Of vectors: float32, float64, complex64 or complex128.
    device : torch.device
    apply : callable
        This rank's part of a vector (n_i,) or block (n_i, k) to that of the product.
    is_tied : bool
        Vectors are replicated, and yet applying the matrix may send messages: the numbers of rank 0 must then decide on
        all ranks.
    """

    layout: Layout
    comm: Communicator
    dtype: torch.dtype
    device: torch.device
    apply: Callable[[torch.Tensor], torch.Tensor]
    is_tied: bool = False

    @property
    def wide(self) -> torch.dtype:
        """The dtype of sums over ranks: float64 or complex128."""
        return WIDE[self.dtype]

    @property
    def eps(self) -> float:
        """The rounding unit of vectors."""
        return torch.finfo(self.dtype).eps

    def total(self, partial: torch.Tensor) -> torch.Tensor:
        """Return the sum over ranks of what each has of an inner product; the same bits on every rank.

        *Distribution*: one allreduce where vectors are split, a broadcast where they are replicated but products are
        not, else nothing.
        """
        partial = partial.to(self.wide)
        if self.comm.size == 1:
            return partial
        if self.layout.split is not None:
            return self.comm.allreduce(partial, "sum", out=partial)
        return self.comm.bcast(partial, root=0) if self.is_tied else partial

    def dots(self, *pairs: tuple[torch.Tensor, torch.Tensor]) -> list[complex]:
        """Return the inner products of pairs of vectors, the first of each conjugated; one :meth:`total` for all."""
        return self.total(torch.stack([torch.vdot(x, y) for x, y in pairs])).tolist()

    def local(self, x: DNDarray) -> torch.Tensor:
        """Return this rank's part of a vector, or block of vectors, in memory of its own; it may have to travel."""
        target = self.of_block(x.shape[1]) if x.ndim == 2 else self.layout
        local = redistribute(x.larray, x.layout, target, x.comm)
        return local.to(device=self.device, dtype=self.dtype, copy=local is x.larray)

    def of_block(self, k: int) -> Layout:
        """Return the layout of a block of k vectors."""
        return self.layout.insert(1, k)

    def array(self, local: torch.Tensor) -> DNDarray:
        """Return the vector or block of which `local` is this rank's part; the memory is shared."""
        layout = self.layout if local.dim() == 1 else self.of_block(local.shape[1])
        return DNDarray(local, layout, self.comm)

    def empty(self, *columns: int) -> torch.Tensor:
        """Return memory for this rank's part of a vector, or of a block of k vectors."""
        shape = (*self.layout.lshape(self.comm.rank), *columns)
        return torch.empty(shape, dtype=self.dtype, device=self.device)


def tied(space: Operator, *others: object) -> Operator:
    """Return the operator, with decisions left to rank 0 where another matrix is applied to replicated vectors.

    That matrix may send messages, and numbers that every rank computes for itself may differ in their last bits.
    """
    alone = space.layout.split is not None or all(other is None for other in others)
    return space if alone else replace(space, is_tied=True)


def vector_dtype(op: str, *operands: object) -> torch.dtype:
    """Return the dtype in which all operands that have one are computed together; float64 where none has."""
    known = [computing_dtype(op, _torch(x.dtype)) for x in operands if getattr(x, "dtype", None) is not None]
    return reduce(torch.promote_types, known) if known else torch.float64


def _torch(dtype: object) -> torch.dtype:
    return dtype if isinstance(dtype, torch.dtype) else types.canonical(dtype).torch


def as_operator(
    op: str, name: str, A: object, dtype: torch.dtype | None = None, near: DNDarray | None = None
) -> Operator:
    """Return a square matrix, given in any form, as an operator.

    Parameters
    ----------
    op, name : str
        The public function and its argument, for messages.
    A : DNDarray, array_like, sparse matrix, object or function
        A dense matrix of any split; a distributed sparse matrix (``A @ x`` with a DNDarray x split along 0); an object
        with `matvec` or `matmat` (and `shape`), or a function: they map a DNDarray to a DNDarray of its shape, and
        every rank must call them alike.
    dtype : torch.dtype, optional
        Of vectors; that of `A` by default.
    near : DNDarray, optional
        A vector, or block, of the problem. Its layout is that of all vectors where `A` has none of its own.

    *Distribution*: vectors are split as the rows or columns of `A`, and replicated only where `A` and `near` are.
    Every product costs, for a dense matrix split along 0, one allgather of the vector, split along 1, one
    reduce-scatter of n words per vector. Only metadata is read here: no message.

    Raises
    ------
    LayoutError
        If `A` is not square, or does not fit `near`.
    DTypeError
        If `A` is none of these.
    """
    comm = None if near is None else near.comm
    if not isinstance(A, DNDarray) and (hasattr(A, "matvec") or hasattr(A, "matmat") or _is_product(A)):
        return _opaque(op, name, A, dtype, near)
    if not isinstance(A, DNDarray) and callable(A):
        return _opaque(op, name, A, dtype, near)
    A = as_dndarray(op, name, A, comm)
    if A.ndim != 2 or A.shape[0] != A.shape[1]:
        raise LayoutError(f"{op}: {name} must be a square matrix, got shape {A.shape}")
    if near is not None and (A.comm is not near.comm):
        raise LayoutError(f"{op}: all operands must live on one communicator, got {A.comm} and {near.comm}")
    _check_fit(op, name, A.shape, near)
    return _dense(A, vector_dtype(op, A) if dtype is None else dtype, near)


def _is_product(A: object) -> bool:
    """Tell whether `A` multiplies distributed vectors itself."""
    return hasattr(A, "__matmul__") and hasattr(A, "comm")


def _check_fit(op: str, name: str, shape: tuple[int, ...], near: DNDarray | None) -> None:
    if len(shape) != 2 or shape[0] != shape[1]:
        raise LayoutError(f"{op}: {name} must be a square matrix, got shape {tuple(shape)}")
    if near is not None and near.shape[0] != shape[0]:
        raise LayoutError(
            f"{op}: {name} must be {near.shape[0]} x {near.shape[0]} as the vectors are, got {tuple(shape)}"
        )


def _vectors_near(near: DNDarray) -> Layout:
    """Return the layout of vectors that are spread as `near` is."""
    if near.split == 0:
        return Layout(near.shape[:1], 0, near.layout.counts)
    return Layout(near.shape[:1], None)


def _dense(A: DNDarray, dtype: torch.dtype, near: DNDarray | None) -> Operator:
    n, comm = A.shape[0], A.comm
    if A.split is not None:
        layout = Layout((n,), 0, A.layout.counts)
    else:
        layout = Layout((n,), None) if near is None else _vectors_near(near)
    local = A.larray.to(dtype)
    if A.split is None:
        local = local[layout.slices(comm.rank)[0]]
    is_alone = layout.split is None or comm.size == 1

    def by_rows(x: torch.Tensor) -> torch.Tensor:
        return times(local, x if is_alone else comm.allgatherv(x.contiguous(), layout.counts))

    def by_columns(x: torch.Tensor) -> torch.Tensor:
        partial = times(local, x)
        return partial if is_alone else comm.reduce_scatterv(partial.contiguous(), layout.counts)

    return Operator(layout, comm, dtype, local.device, by_columns if A.split == 1 else by_rows)


def _opaque(op: str, name: str, A: object, dtype: torch.dtype | None, near: DNDarray | None) -> Operator:
    """Return the operator of something that only multiplies."""
    shape = getattr(A, "shape", None)
    if shape is not None:
        _check_fit(op, name, tuple(shape), near)
    layout = _own_layout(A, near)
    if layout is None:
        if near is None:
            raise LayoutError(f"{op}: a start vector must be given where {name} is a function, got None")
        layout = _vectors_near(near)
    comm = getattr(A, "comm", None) or near.comm
    dtype = vector_dtype(op, A, near) if dtype is None else dtype
    device = sanitize_device(getattr(A, "device", "cpu")).torch_device if near is None else near.larray.device
    product = _product(A)

    def apply(x: torch.Tensor) -> torch.Tensor:
        target = layout if x.dim() == 1 else layout.insert(1, x.shape[1])
        y = product(DNDarray(x, target, comm))
        if not isinstance(y, DNDarray) or y.shape != target.shape:
            got = y.shape if isinstance(y, DNDarray) else type(y).__name__
            raise LayoutError(f"{op}: {name} must map to a DNDarray of shape {target.shape}, got {got}")
        if y.larray.is_complex() and not dtype.is_complex:
            raise DTypeError(f"{op}: {name} must map {dtype} to real numbers, got {y.dtype}; pass complex b")
        return redistribute(y.larray, y.layout, target, comm).to(dtype)

    return Operator(layout, comm, dtype, device, apply, is_tied=layout.split is None)


def _own_layout(A: object, near: DNDarray | None) -> Layout | None:
    """Return the layout of the vectors that a distributed matrix multiplies: cut as the matrix is."""
    if not _is_product(A):
        return None
    layout, rows = getattr(A, "layout", None), tuple(A.shape[:1])
    if not isinstance(layout, Layout):
        return Layout.even(rows, 0, A.comm.size)
    if layout.split is None and near is not None:
        return _vectors_near(near)
    return Layout(rows, None if layout.split is None else 0, layout.counts)


def _product(A: object) -> Callable[[DNDarray], DNDarray]:
    """Return how `A` maps a vector or a block."""
    if not (hasattr(A, "matvec") or hasattr(A, "matmat")):
        return A.__matmul__ if _is_product(A) else A

    def multiply(x: DNDarray) -> DNDarray:
        if x.ndim == 1 and hasattr(A, "matvec"):
            return A.matvec(x)
        if x.ndim == 1:
            y = A.matmat(DNDarray(x.larray[:, None], x.layout.insert(1, 1), x.comm))
            return DNDarray(y.larray[:, 0], y.layout.drop((1,)), y.comm)
        if hasattr(A, "matmat"):
            return A.matmat(x)
        one = x.layout.drop((1,))
        columns = [A.matvec(DNDarray(c.contiguous(), one, x.comm)) for c in x.larray.unbind(1)]
        parts = [redistribute(y.larray, y.layout, one, x.comm) for y in columns]
        return DNDarray(torch.stack(parts, 1) if parts else x.larray.clone(), x.layout, x.comm)

    return multiply
