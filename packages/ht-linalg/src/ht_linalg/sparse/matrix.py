"""Sparse matrices in pieces: `DCSR_matrix`, cut along rows, and `DCSC_matrix`, cut along columns.

What is computed with them is in ``products``, ``arithmetic`` and ``reductions``; how they are made in ``creation``.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from ht_core import DNDarray, devices, types
from ht_core.errors import LayoutError
from ht_core.layout import Layout, even_counts

from . import arithmetic, products, reductions
from .assembly import exchange_counts, route
from .pattern import Compressed, Entries, compress, transpose

if TYPE_CHECKING:
    from ht_comm import Communicator


class SparseMatrix:
    """What the two formats have in common. The constructor trusts its arguments; see :func:`sparse_csr_matrix`.

    Parameters
    ----------
    block : Compressed
        This rank's part of the major axis; sorted, without duplicates. Not to be changed.
    layout : Layout
        Of the dense matrix: split along the major axis or None.
    comm : Communicator
    nnz : tuple of int
        Stored entries of each rank, one number if replicated.
    """

    major: ClassVar[int]
    format: ClassVar[str]
    ndim = 2

    def __init__(self, block: Compressed, layout: Layout, comm: Communicator, nnz: tuple[int, ...]) -> None:
        self.block, self.layout, self.comm, self._nnz = block, layout, comm, nnz
        self._plans: dict[object, Any] = {}

    def like(self, block: Compressed, layout: Layout) -> SparseMatrix:
        """Return a matrix of this format. One allgather of p integers where it is split: how many entries each has."""
        n = block.values.shape[0]
        nnz = (n,) if layout.split is None else exchange_counts(n, self.comm, block.values.device)
        return type(self)(block, layout, self.comm, nnz)

    def with_values(self, values: torch.Tensor) -> SparseMatrix:
        """Return a matrix with other values, shape (lnnz,), in the same places. No message."""
        return type(self)(self.block._replace(values=values), self.layout, self.comm, self._nnz)

    def plan(self, key: object, make: Callable[[], Any]) -> Any:
        """Return what a product needs, kept under a key that is the same on all ranks."""
        if key not in self._plans:
            self._plans[key] = make()
        return self._plans[key]

    # -- metadata: no message ----------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, int]:
        """Global shape."""
        return self.layout.shape

    gshape = shape

    @property
    def lshape(self) -> tuple[int, int]:
        """Shape of this rank's part."""
        return self.layout.lshape(self.comm.rank)

    @property
    def split(self) -> int | None:
        """The compressed axis, or None where every rank holds all."""
        return self.layout.split

    @property
    def dtype(self) -> types.dtype:
        """Data type of the values."""
        return types.of(self.block.values)

    @property
    def device(self) -> devices.Device:
        """The device of this rank's part."""
        return devices.of(self.block.values)

    @property
    def nnz(self) -> int:
        """Number of stored entries of the global matrix."""
        return sum(self._nnz)

    gnnz = nnz

    @property
    def lnnz(self) -> int:
        """Number of stored entries of this rank's part."""
        return self.block.values.shape[0]

    @property
    def balanced(self) -> bool:
        """True when replicated or the compressed axis is cut as evenly as possible."""
        return self.layout.is_even

    def is_distributed(self) -> bool:
        """Tell whether the matrix is cut over more than one rank."""
        return self.split is not None and self.comm.size > 1

    @property
    def nnz_counts(self) -> tuple[int, ...]:
        """Stored entries of each rank; one number where replicated."""
        return self._nnz

    def counts_displs_nnz(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return each rank's number of stored entries, and how many come before them. No message.

        Raises
        ------
        LayoutError
            If the matrix is not split.
        """
        if self.split is None:
            raise LayoutError("counts_displs_nnz: the matrix must be split, got split=None; use resplit")
        return self._nnz, Layout((self.nnz,), 0, self._nnz).displs

    # -- the three arrays: local as tensors, global as split arrays; no message --------------------------------

    @property
    def lindptr(self) -> torch.Tensor:
        """Where the local rows (CSC: columns) start in ``lindices``, int64, from 0."""
        return self.block.indptr

    @property
    def lindices(self) -> torch.Tensor:
        """Columns (CSC: rows) of the local entries, int64."""
        return self.block.indices

    @property
    def ldata(self) -> torch.Tensor:
        """Values of the local entries."""
        return self.block.values

    @property
    def larray(self) -> torch.Tensor:
        """This rank's part as a sparse tensor of torch."""
        make = torch.sparse_csr_tensor if self.major == 0 else torch.sparse_csc_tensor
        return make(*self.block, size=self.lshape, check_invariants=False)

    def _entries(self, local: torch.Tensor) -> DNDarray:
        counts = () if self.split is None else self._nnz
        return DNDarray(local, Layout((self.nnz,), None if self.split is None else 0, counts), self.comm)

    @property
    def data(self) -> DNDarray:
        """Values of all entries, shape (nnz,), split as the matrix."""
        return self._entries(self.block.values)

    @property
    def indices(self) -> DNDarray:
        """Columns (CSC: rows) of all entries, int64, shape (nnz,), split as the matrix."""
        return self._entries(self.block.indices)

    @property
    def indptr(self) -> DNDarray:
        """Where rows (CSC: columns) start in ``indices``, int64, shape (n + 1,); the last rank holds one more."""
        n = self.shape[self.major]
        if self.split is None:
            return DNDarray(self.block.indptr, Layout((n + 1,), None), self.comm)
        rank, last = self.comm.rank, self.comm.size - 1
        counts = (*self.layout.counts[:-1], self.layout.counts[-1] + 1)
        local = self.block.indptr + sum(self._nnz[:rank])
        return DNDarray(local if rank == last else local[:-1], Layout((n + 1,), 0, counts), self.comm)

    gdata, gindices, gindptr = data, indices, indptr

    def global_indptr(self) -> DNDarray:
        """Return :attr:`indptr`. No message."""
        return self.indptr

    # -- conversions -------------------------------------------------------------------------------------------

    def astype(self, dtype: object, copy: bool = True) -> SparseMatrix:
        """Return the matrix with values of another dtype. No message."""
        target = types.canonical(dtype).torch
        if not copy and target == self.block.values.dtype:
            return self
        return self.with_values(self.block.values.to(target, copy=copy))

    def copy(self) -> SparseMatrix:
        """Return a copy. No message."""
        return self.with_values(self.block.values.clone())

    @property
    def T(self) -> SparseMatrix:
        """The transposed matrix in the other format; the same memory, no message."""
        other = _FORMATS["csc" if self.format == "csr" else "csr"]
        return other(self.block, self.layout.permute((1, 0)), self.comm, self._nnz)

    def transpose(self) -> SparseMatrix:
        """Return :attr:`T`. No message."""
        return self.T

    def conj(self) -> SparseMatrix:
        """Return the complex conjugate. No message."""
        return self.with_values(self.block.values.conj().resolve_conj())

    def asformat(self, format: str) -> SparseMatrix:
        """Return the matrix as "csr" or "csc".

        *Distribution*: a split matrix becomes one that is cut evenly along the other axis; one exchange, 16 bytes and a
        value for each entry that moves. No message if it has the format already or is replicated.
        """
        if format not in _FORMATS:
            raise ValueError(f"asformat: format must be csr or csc, got {format!r}")
        if format == self.format:
            return self
        cls, n_minor = _FORMATS[format], self.shape[1 - self.major]
        if self.split is None:
            return cls(transpose(self.block, n_minor), self.layout, self.comm, self._nnz)
        layout = Layout.even(self.shape, cls.major, self.comm.size)
        major, minor, values = self._global_entries()
        block = route("asformat", Entries(minor, major, values), layout, self.comm)
        nnz = exchange_counts(block.values.shape[0], self.comm, values.device)
        return cls(block, layout, self.comm, nnz)

    def tocsr(self) -> SparseMatrix:
        """Return the matrix as a DCSR_matrix; see :meth:`asformat`."""
        return self.asformat("csr")

    def tocsc(self) -> SparseMatrix:
        """Return the matrix as a DCSC_matrix; see :meth:`asformat`."""
        return self.asformat("csc")

    def _global_entries(self) -> Entries:
        entries = self.block.expand()
        return entries._replace(major=entries.major + self.layout.offset(self.comm.rank))

    def resplit(self, split: int | None = None, counts: Sequence[int] | None = None) -> SparseMatrix:
        """Return the matrix cut along its compressed axis, or replicated.

        Parameters
        ----------
        split : int or None
            The compressed axis, or None.
        counts : sequence of int, optional
            Extent of each rank; even by default.

        *Distribution*: from replicated no message; to replicated three allgathers of the entries; between
        different counts one exchange of the entries that move.

        Raises
        ------
        LayoutError
            If `split` is the other axis.
        """
        if split not in (None, self.major):
            other = "tocsc" if self.format == "csr" else "tocsr"
            raise LayoutError(
                f"resplit: split must be {self.major} or None for {self.format}, got {split}; use {other}()"
            )
        if split is None:
            return self if self.split is None else self._replicated()
        if counts is None:
            counts = even_counts(self.shape[self.major], self.comm.size)
        layout = Layout(self.shape, split, counts)
        if layout is self.layout:
            return self
        if self.split is None:
            edges = self.block.indptr[torch.tensor((*layout.displs, layout.shape[split]))]
            start = layout.offset(self.comm.rank)
            block = self.block.cut(start, start + layout.counts[self.comm.rank])
            return type(self)(block, layout, self.comm, tuple(edges.diff().tolist()))
        return self.like(route("resplit", self._global_entries(), layout, self.comm), layout)

    def _replicated(self) -> SparseMatrix:
        entries = (self.comm.allgatherv(part, self._nnz) for part in self._global_entries())
        block = compress(Entries(*entries), self.shape[self.major], self.shape[1 - self.major])
        return type(self)(block, Layout.replicated(self.shape), self.comm, (self.nnz,))

    def to_dense(self, order: str = "C", out: DNDarray | None = None) -> DNDarray:
        """Return the dense matrix, split as this one. No message.

        Raises
        ------
        LayoutError
            If `out` has another layout.
        """
        if order not in ("C", "F"):
            raise ValueError(f"to_dense: order must be C or F, got {order!r}")
        if out is not None and out.layout is not self.layout:
            raise LayoutError(f"to_dense: out must have the layout {self.layout}, got {out.layout}")
        entries = self.block.expand()
        if out is None:
            shape = self.lshape if order == "C" else self.lshape[::-1]
            dense = self.block.values.new_zeros(shape)
            out = DNDarray(dense if order == "C" else dense.T, self.layout, self.comm)
        else:
            out.larray.zero_()
        places = entries[:2] if self.major == 0 else entries[1::-1]
        out.larray[places] = entries.values.to(out.larray.dtype)
        return out

    todense = to_dense

    # -- rows and columns --------------------------------------------------------------------------------------

    def __getitem__(self, key: object) -> SparseMatrix:
        """Return rows and columns of a range as a matrix; a number is a range of one.

        *Distribution*: what is kept stays where it is, so counts become uneven. One allgather of p integers.

        Raises
        ------
        IndexError
            If a number is out of range, or the key is no number and no slice of step 1.
        """
        keys = key if isinstance(key, tuple) else (key,)
        if len(keys) > 2:
            raise IndexError(f"getitem: a matrix must be indexed along two axes at most, got {len(keys)}")
        keys = (*keys, *(slice(None),) * (2 - len(keys)))
        ranges = [_range(k, n) for k, n in zip(keys, self.shape)]
        (low, high), (first, last) = ranges[self.major], ranges[1 - self.major]
        shape = tuple(stop - start for start, stop in ranges)
        if self.split is None:
            layout, start, stop = Layout(shape, None), low, high
        else:
            bounds = [
                (min(max(low - at, 0), n), min(max(high - at, 0), n))
                for at, n in zip(self.layout.displs, self.layout.counts)
            ]
            layout = Layout(shape, self.major, tuple(b - a for a, b in bounds))
            start, stop = bounds[self.comm.rank]
        block = self.block.cut(start, stop)
        if (first, last) != (0, self.shape[1 - self.major]):
            entries = block.expand()
            entries = entries.pick((entries.minor >= first) & (entries.minor < last))
            block = compress(entries._replace(minor=entries.minor - first), stop - start, last - first)
        return self.like(block, layout)

    # -- operators ---------------------------------------------------------------------------------------------

    def __matmul__(self, other: object) -> DNDarray | SparseMatrix:
        """Return the product with a vector, a dense or a sparse matrix.

        Parameters
        ----------
        other : SparseMatrix, or array_like of shape (n,) or (n, r)

        Returns
        -------
        DNDarray, shape (m,) or (m, r); SparseMatrix of the format of this one for a sparse operand
            Of the promoted dtype.

        *Distribution*, A being (m, n), x dense:

        ==============  ===========  ============  =================================================
        A               x.split      result split  messages
        ==============  ===========  ============  =================================================
        None            None, 1      as x          none
        CSR, split 0    None         0             none
        CSR, split 0    0            0             the entries of x that rows of other ranks name
        CSC, split 1    0, None      0             the sums that belong to rows of other ranks
        None            0            0             as a split matrix, after a cut without a message
        ==============  ===========  ============  =================================================

        Rows of the product are cut as those of a DCSR_matrix, as the columns of a square DCSC_matrix, else evenly. Who
        needs which entries is asked in the first product and kept: two small exchanges, 8 bytes per entry. A dense
        matrix of split 1 is redistributed where A is split; x is too where its counts are not those of the columns of a
        DCSC_matrix. A sparse operand: the rows of it that are named and lie on other ranks, in three exchanges.

        Raises
        ------
        LayoutError
            If the shapes do not fit, or the communicators differ.
        """
        if isinstance(other, SparseMatrix):
            return products.multiply(self, other)
        return products.matmul(self, other)

    def _combined(self, op: str, other: object) -> SparseMatrix:
        if not isinstance(other, SparseMatrix):
            raise TypeError(
                f"{op}: the other operand must be a sparse matrix, got {type(other).__name__}; use to_dense()"
            )
        return arithmetic.combine(op, self, other)

    def __add__(self, other: object) -> SparseMatrix:
        return self._combined("add", other)

    def __sub__(self, other: object) -> SparseMatrix:
        return self._combined("sub", other)

    def __mul__(self, other: object) -> SparseMatrix:
        if isinstance(other, SparseMatrix):
            return arithmetic.combine("mul", self, other)
        return arithmetic.scale("mul", self, other)

    __rmul__ = __mul__

    def __truediv__(self, other: object) -> SparseMatrix:
        floating = self.astype(types.to_floating(self.dtype), copy=False)
        return arithmetic.scale("div", floating, other, operator.truediv)

    def __neg__(self) -> SparseMatrix:
        return self.with_values(-self.block.values)

    def __abs__(self) -> SparseMatrix:
        return self.with_values(self.block.values.abs())

    # -- reductions --------------------------------------------------------------------------------------------

    def sum(self, axis: int | None = None) -> DNDarray:
        """Return the sum of all entries, or those along an axis; integers and bool in int64.

        *Distribution*: across the compressed axis, as of the columns of a DCSR_matrix, one allreduce of the result,
        which is replicated; along the other axis no message, split as the matrix.
        """
        return reductions.sum_over(self, axis)

    def mean(self, axis: int | None = None) -> DNDarray:
        """Return the mean of all entries, stored or not, or those along an axis. Messages as :meth:`sum`."""
        n = self.layout.size if axis is None else self.shape[axis]
        return self.sum(axis) / n

    def diagonal(self) -> DNDarray:
        """Return the main diagonal, split as the matrix. No message."""
        return reductions.diagonal(self)

    def trace(self) -> DNDarray:
        """Return the sum of the main diagonal. One allreduce of a number."""
        return reductions.diagonal(self).sum()

    def norm(self, ord: object = "fro") -> DNDarray:
        """Return Frobenius' norm, or the largest sum of absolute values of a column (1) or row (inf).

        *Distribution*: two allreduces of a number; otherwise as :meth:`sum` and one of a number.
        """
        return reductions.norm(self, ord)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={self.shape}, nnz={self.nnz}, dtype={self.dtype}, split={self.split})"

    __hash__ = None


class DCSR_matrix(SparseMatrix):
    """A sparse matrix whose rows are compressed, and cut over the ranks (split 0) or held by each (None)."""

    major, format = 0, "csr"


class DCSC_matrix(SparseMatrix):
    """A sparse matrix whose columns are compressed, and cut over the ranks (split 1) or held by each (None)."""

    major, format = 1, "csc"


_FORMATS: dict[str, type[SparseMatrix]] = {"csr": DCSR_matrix, "csc": DCSC_matrix}


def _range(key: object, n: int) -> tuple[int, int]:
    """Return start and stop of a number or slice."""
    if isinstance(key, slice):
        start, stop, step = key.indices(n)
        if step != 1:
            raise IndexError(f"getitem: slices of a sparse matrix must have step 1, got {step}")
        return start, max(start, stop)
    try:
        at = operator.index(key)
    except TypeError:
        raise IndexError(
            f"getitem: a sparse matrix must be indexed by numbers and slices, got {type(key).__name__}"
        ) from None
    if not -n <= at < n:
        raise IndexError(f"getitem: index must be in [{-n}, {n}), got {at}")
    return at % n, at % n + 1
