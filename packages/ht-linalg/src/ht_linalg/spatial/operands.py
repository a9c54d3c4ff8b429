"""Two tables whose rows meet: which rank computes which pairs, and what travels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from ht_core import DNDarray
from ht_core.errors import DTypeError, LayoutError
from ht_core.layout import Layout

from ..arguments import as_matrix
from ..qr import computing_dtype

if TYPE_CHECKING:
    from ht_comm import Communicator


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """X and Y as the ranks work on them.

    Attributes
    ----------
    x, y : torch.Tensor, shape (local rows, d)
        This rank's rows, of one dtype, float32 or float64.
    X, Y : Layout
        Split 0 or None.
    comm : Communicator
    is_same : bool
        Whether Y is X.
    """

    x: torch.Tensor
    y: torch.Tensor
    X: Layout
    Y: Layout
    comm: Communicator
    is_same: bool

    @property
    def is_ring(self) -> bool:
        """Whether the rows of Y have to come by."""
        return self.X.split == self.Y.split == 0 and self.comm.size > 1

    @property
    def is_shared(self) -> bool:
        """Whether each rank meets its rows of Y with all of X: results of rows of X are combined."""
        return self.X.split is None and self.Y.split == 0 and self.comm.size > 1

    @property
    def first(self) -> int:
        """Number of this rank's first row of X."""
        return self.X.offset(self.comm.rank)

    def blocks(self, y: torch.Tensor | None = None) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield the number of its first row and a block of Y, until this rank's rows of X have met all they must.

        Parameters
        ----------
        y : torch.Tensor, optional
            What travels in place of this rank's rows of Y.

        *Distribution*: a ring where both are split, p - 1 messages of one block; no message otherwise. All ranks must
        iterate to the end.
        """
        y = self.y if y is None else y
        if not self.is_ring:
            yield self.Y.offset(self.comm.rank), y
            return
        for owner, block in self.comm.ring(y, self.Y.counts):
            yield self.Y.displs[owner], block

    def per_row(self, values: torch.Tensor) -> DNDarray:
        """Wrap one value, or one row of values, for each of this rank's rows of X."""
        layout = self.X.drop((1,))
        if values.dim() == 2:
            layout = layout.insert(1, values.shape[1])
        return DNDarray(values, layout, self.comm)


def as_tables(op: str, X: object, Y: object | None) -> Tables:
    """Return two tables as they meet; replicated facts only, and no message but for a split along the features.

    *Distribution*: an operand of split 1 is redistributed to split 0, each rank sends its part once.

    Raises
    ------
    LayoutError
        If an operand is not 2-D, the numbers of features differ, or the communicators do.
    DTypeError
        If an operand is complex.
    """
    is_same = Y is None or Y is X
    X = as_matrix(op, "X", X)
    Y = X if is_same else as_matrix(op, "Y", Y)
    for name, table in (("X", X), ("Y", Y)):
        if table.dtype.kind == "c":
            raise DTypeError(
                f"{op}: {name} must be real, got {table.dtype}; pass real and imaginary parts as features"
            )
    if X.shape[1] != Y.shape[1]:
        raise LayoutError(f"{op}: Y must have the {X.shape[1]} features of X, got {Y.shape[1]}")
    if X.comm is not Y.comm and (X.comm.size, X.comm.rank) != (Y.comm.size, Y.comm.rank):
        raise LayoutError(f"{op}: Y must live on the communicator of X ({X.comm}), got {Y.comm}")
    dtype = torch.promote_types(*(computing_dtype(op, table.larray.dtype) for table in (X, Y)))
    X = X.resplit(0) if X.split == 1 else X
    Y = X if is_same else Y.resplit(0) if Y.split == 1 else Y
    x = X.larray.to(dtype)
    return Tables(x, x if is_same else Y.larray.to(dtype), X.layout, Y.layout, X.comm, is_same)
