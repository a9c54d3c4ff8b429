"""How estimators see their input: the rows this rank holds, and where they lie among all rows.

Everything here is decided from layouts and dtypes, before any message; only a split along the features,
or weights and targets that lie elsewhere than the rows, cause one (a documented resplit).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ht_comm import Communicator, SerialComm
from ht_core import DNDarray, array
from ht_core.engines.redistribution import redistribute
from ht_core.errors import DTypeError, LayoutError
from ht_core.layout import Layout

_SERIAL = SerialComm()


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The rows of a table that this rank works on.

    Attributes
    ----------
    local : torch.Tensor, shape (local rows, d), float32 or float64
        This rank's rows; the input's own memory wherever its dtype allows.
    comm : Communicator
        The ranks that share the work: one rank where the table is replicated, so that no message is sent.
    start : int
        Global index of the first local row.
    n : int
        Global number of rows.
    home : Communicator
        The communicator of the input.
    layout : Layout
        The layout of one value per row.
    """

    local: torch.Tensor
    comm: Communicator
    start: int
    n: int
    home: Communicator
    layout: Layout

    @property
    def d(self) -> int:
        """Number of features."""
        return self.local.shape[1]

    def column(self, values: torch.Tensor) -> DNDarray:
        """Wrap one value per local row, shape (local rows,), in the layout of the rows."""
        return DNDarray(values, self.layout, self.home)

    def table(self, values: torch.Tensor) -> DNDarray:
        """Wrap a table with as many rows, shape (local rows, m), in the layout of the rows."""
        return DNDarray(values, self.layout.insert(1, values.shape[1]), self.home)

    def replicated(self, values: torch.Tensor) -> DNDarray:
        """Wrap values that every rank holds."""
        return DNDarray(values, Layout.replicated(tuple(values.shape)), self.home)


def replicated(values: torch.Tensor, like: DNDarray) -> DNDarray:
    """Wrap values that every rank of `like` holds."""
    return DNDarray(values, Layout.replicated(tuple(values.shape)), like.comm)


def serial_rows(local: torch.Tensor) -> Rows:
    """Return rows that this rank works on alone."""
    n = local.shape[0]
    return Rows(local, _SERIAL, 0, n, _SERIAL, Layout.replicated((n,)))


def given(op: str, argument: str, values: Any, comm: Communicator | None = None) -> DNDarray:
    """Return an argument as an array: a DNDarray as it is, anything else as replicated; no message.

    Python objects that are numbers, as in columns of mixed tables, become float64.

    Raises
    ------
    ValueError
        If there is None.
    DTypeError
        If it is a sparse matrix, or holds anything but numbers.
    """
    if isinstance(values, DNDarray):
        return values
    if values is None:
        raise ValueError(f"{op}: {argument} must be given, got None")
    if hasattr(values, "nnz"):
        raise DTypeError(
            f"{op}: {argument} must be a dense array, got a sparse {type(values).__name__}; make it dense first"
        )
    if not isinstance(values, torch.Tensor):
        values = np.asarray(values)
        if values.dtype == object:
            try:
                values = values.astype(np.float64)
            except (TypeError, ValueError) as error:
                raise DTypeError(f"{op}: {argument} must hold numbers, got an object: {error}") from None
        elif values.dtype.kind not in "biufc":
            raise DTypeError(
                f"{op}: {argument} must hold numbers, got {values.dtype}; number the labels, as "
                "numpy.unique(..., return_inverse=True) does"
            )
    return array(values, comm=comm)


def as_table(op: str, X: Any, *, n_features: int | None = None, min_rows: int = 1) -> DNDarray:
    """Return `X` as a two-dimensional real array, refusing other shapes and types; no message.

    Parameters
    ----------
    op : str
        The caller, for error texts, e.g. ``"KMeans.fit"``.
    X : DNDarray or array_like, shape (n, d)
        Anything but a DNDarray is taken as replicated.
    n_features : int, optional
        The number of features that the estimator was fitted with.
    min_rows : int
        The least number of rows.

    Raises
    ------
    LayoutError
        If `X` is not two-dimensional, has too few rows, no feature, or another number of features.
    DTypeError
        If `X` is complex.
    """
    X = given(op, "X", X)
    if X.ndim != 2:
        raise LayoutError(
            f"{op}: X must be two-dimensional (rows, features), got shape {X.shape}; "
            "reshape one feature to (n, 1)"
        )
    if X.larray.is_complex():
        raise DTypeError(f"{op}: X must be real, got {X.dtype}; pass real and imaginary parts as features")
    n, d = X.shape
    if n < min_rows or d < 1:
        raise LayoutError(
            f"{op}: X must be a table of at least {min_rows} row(s) and 1 feature, got shape {X.shape}"
        )
    if n_features is not None and d != n_features:
        raise LayoutError(f"{op}: X must have the {n_features} features it was fitted with, got {d}")
    return X


def as_rows(op: str, X: Any, *, n_features: int | None = None, min_rows: int = 1) -> Rows:
    """Return the rows of `X` that this rank works on, as floating-point numbers.

    float32 and float64 are used in place; half precision becomes float32, integers become float64 (a copy).

    *Distribution*: split 0 and None send nothing. Split 1 is brought to split 0 (each rank sends its n d
    / p values once).
    """
    X = as_table(op, X, n_features=n_features, min_rows=min_rows)
    if X.split == 1:
        is_alone = X.comm.size == 1  # then only the name of the split changes
        X = DNDarray(X.larray, Layout.even(X.shape, 0, 1), X.comm) if is_alone else X.resplit(0)
    local = floating(X.larray)
    n = X.shape[0]
    if X.split == 0:
        return Rows(local, X.comm, X.layout.displs[X.comm.rank], n, X.comm, X.layout.drop((1,)))
    return Rows(local, _SERIAL, 0, n, X.comm, Layout.replicated((n,)))


def rows_of(values: DNDarray) -> Rows:
    """Return rows without features that lie as the rows of `values`, shape (n,) or (n, m); no message."""
    n, comm = values.shape[0], values.comm
    if values.split is None:
        layout, alone = Layout.replicated((n,)), True
    else:
        layout, alone = Layout.even((n,), 0, comm.size), False
        if values.split == 0:
            layout = Layout((n,), 0, values.layout.counts)
    count, start = layout.lshape(comm.rank)[0], layout.offset(comm.rank)
    local = torch.empty((count, 0), dtype=torch.float64, device=values.larray.device)
    return Rows(local, _SERIAL if alone else comm, start, n, comm, layout)


def floating(local: torch.Tensor) -> torch.Tensor:
    """Return a tensor of float32 or float64 values: the same memory where it already is one."""
    local = local.detach()
    if local.dtype in (torch.float32, torch.float64):
        return local
    return local.to(torch.float32 if local.dtype.is_floating_point else torch.float64)


def source_and_target(op: str, X: DNDarray, in_place: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the local values as floating-point numbers, and the tensor that takes what becomes of them.

    Raises
    ------
    DTypeError
        If they have to change in place but are neither float32 nor float64.
    """
    if in_place and X.larray.dtype not in (torch.float32, torch.float64):
        raise DTypeError(f"{op}: X must be float32 or float64 with copy=False, got {X.dtype}; use copy=True")
    local = floating(X.larray)
    is_own = in_place or local.dtype != X.larray.dtype  # what was converted is memory of our own
    return local, local if is_own else torch.empty_like(local)


def as_column(op: str, argument: str, values: Any, rows: Rows) -> torch.Tensor:
    """Return the values of one-per-row data (targets, weights) that belong to the local rows, as float64.

    *Distribution*: values that lie as the rows do, or are replicated, send nothing; others are redistributed.

    Raises
    ------
    LayoutError
        If there is not one value per row.
    """
    values = given(op, argument, values, rows.home)
    if values.shape not in ((rows.n,), (rows.n, 1)):
        raise LayoutError(
            f"{op}: {argument} must have one value per row, shape ({rows.n},), got shape {values.shape}"
        )
    if values.larray.is_complex():
        raise DTypeError(f"{op}: {argument} must be real, got {values.dtype}")
    return aligned(op, argument, values, rows).to(torch.float64)


def as_targets(op: str, y: Any, rows: Rows) -> tuple[torch.Tensor, bool]:
    """Return the targets of the local rows, shape (local rows, t), float64, and whether there is one, given as (n,).

    *Distribution*: as `as_column`.

    Raises
    ------
    LayoutError
        If `y` has not shape (n,) or (n, t).
    """
    y = given(op, "y", y, rows.home)
    if y.ndim != 2:
        return as_column(op, "y", y, rows).unsqueeze(1), True
    if y.shape[0] != rows.n or y.shape[1] < 1:
        raise LayoutError(f"{op}: y must have shape ({rows.n},) or ({rows.n}, t), got shape {y.shape}")
    if y.larray.is_complex():
        raise DTypeError(f"{op}: y must be real, got {y.dtype}")
    return aligned(op, "y", y, rows).to(torch.float64).reshape(-1, y.shape[1]), False


def aligned(op: str, argument: str, values: DNDarray, rows: Rows) -> torch.Tensor:
    """Return the part of one-per-row data that belongs to the local rows: (n,) or (n, 1) flat, (n, t) as a table."""
    if values.split is not None and values.comm.size != rows.home.size:
        raise LayoutError(
            f"{op}: {argument} must lie on the {rows.home.size} ranks of X, got {values.comm.size}; replicate it"
        )
    target = rows.layout if values.ndim == 1 else rows.layout.insert(1, values.shape[1])
    local = redistribute(values.larray, values.layout, target, rows.home).detach().to(rows.local.device)
    return local if values.ndim == 2 and values.shape[1] > 1 else local.reshape(-1)


def as_weights(op: str, values: Any, rows: Rows) -> torch.Tensor | None:
    """Return the weights of the local rows, float64, or None where there are none; see `as_column`."""
    return None if values is None else as_column(op, "sample_weight", values, rows)


def take(values: torch.Tensor, rows: Rows, indices: list[int]) -> torch.Tensor:
    """Return the entries with the given global indices on every rank, shape (m, ...), dtype of the values.

    Parameters
    ----------
    values : torch.Tensor, shape (local rows, ...)
        One entry per row.
    rows : Rows
    indices : list of int

    *Distribution*: one allreduce of m entries (each is filled in by its owner, so the sum is exact).
    """
    out = torch.zeros((len(indices), *values.shape[1:]), dtype=values.dtype, device=values.device)
    wanted = torch.as_tensor(indices, dtype=torch.int64, device=values.device) - rows.start
    mine = ((wanted >= 0) & (wanted < values.shape[0])).nonzero().squeeze(1)
    out[mine] = values[wanted[mine]]
    return rows.comm.allreduce(out, out=out)
