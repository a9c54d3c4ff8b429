"""Class labels of rows as numbers 0..k-1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from ht_core import DNDarray, unique
from ht_core.errors import DTypeError, LayoutError

from .rows import Rows, aligned, given, rows_of


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """The labels of the rows of this rank.

    Attributes
    ----------
    classes : torch.Tensor, shape (k,)
        The different labels of all rows, ascending, of their own dtype; the same on every rank.
    codes : torch.Tensor, shape (local rows,), int64
        The position in `classes` of each local row's label.
    """

    classes: torch.Tensor
    codes: torch.Tensor


def as_labels(op: str, y: Any, rows: Rows, *, argument: str = "y") -> Labels:
    """Return labels as positions in the sorted list of all classes.

    Parameters
    ----------
    op, argument : str
        The caller and the argument, for error texts.
    y : DNDarray or array_like, shape (n,) or (n, 1), bool, integer or float
        One label per row.
    rows : Rows
        The rows they belong to.

    *Distribution*: rows spread over ranks: the messages of ``ht_core.unique`` (one exchange of the labels that
    differ on each rank) and one that replicates k labels; labels that lie elsewhere than the rows are
    redistributed first.

    Raises
    ------
    LayoutError
        If there is not one label per row.
    DTypeError
        If the labels are complex.
    ValueError
        If a label is NaN; the same on every rank.
    """
    local = label_column(op, y, rows, argument=argument)
    plain = without_bool(local)
    found = unique(DNDarray(plain, rows.layout, rows.home)).resplit(None).larray
    if found.is_floating_point() and bool(found.isnan().any()):
        raise ValueError(f"{op}: {argument} must hold a label for every row, got NaN; drop these rows")
    return Labels(found.to(local.dtype), torch.searchsorted(found.to(plain.device), plain))


def as_classes(op: str, y: Any, rows: Rows) -> Labels:
    """Return what a classifier learns from: `as_labels`, refusing numbers that are measured, not labels.

    Raises
    ------
    ValueError
        Also if a label is infinite or not a whole number; the same on every rank.
    """
    labels = as_labels(op, y, rows)
    found = labels.classes
    if found.is_floating_point():
        strange = found[~(found.isfinite() & (found == found.trunc()))]
        if strange.numel():
            raise ValueError(
                f"{op}: y must hold labels, whole numbers, got {float(strange[0])}; use a regressor for a continuous y"
            )
    return labels


def without_bool(labels: torch.Tensor) -> torch.Tensor:
    """Return labels as numbers that torch can search."""
    return labels.view(torch.uint8) if labels.dtype == torch.bool else labels


def rows_of_labels(op: str, argument: str, *columns: Any) -> Rows:
    """Return rows as the first split one of some columns of labels lies, without features; no message.

    Raises
    ------
    LayoutError
        If the first column does not have one label for each of at least one row.
    """
    found = [given(op, argument, column) for column in columns]
    first = found[0]
    if first.ndim not in (1, 2) or (first.ndim == 2 and first.shape[1] != 1) or not first.shape[0]:
        raise LayoutError(
            f"{op}: {argument} must have one label per row, shape (n,) with n > 0, got shape {first.shape}"
        )
    return rows_of(next((column for column in found if column.split is not None), first))


def label_column(op: str, y: Any, rows: Rows, *, argument: str = "y") -> torch.Tensor:
    """Return the labels of the local rows, of their own dtype; see `as_labels`."""
    y = given(op, argument, y, rows.home)
    if y.shape not in ((rows.n,), (rows.n, 1)):
        raise LayoutError(
            f"{op}: {argument} must have one label per row, shape ({rows.n},), got shape {y.shape}"
        )
    if y.larray.is_complex():
        raise DTypeError(f"{op}: {argument} must be real labels, got {y.dtype}")
    return aligned(op, argument, y, rows)
