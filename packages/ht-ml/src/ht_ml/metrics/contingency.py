"""How often each pair of labels occurs: one table of counts, the same on every rank."""

from __future__ import annotations

from typing import Any

import torch

from ..labels import as_labels, rows_of_labels
from ..rows import Rows


def contingency(
    op: str, names: tuple[str, str], first: Any, second: Any, weights: Any = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the counts (or summed weights) of pairs of labels, shape (k, l), and both lists of classes.

    *Distribution*: the messages of ``ht_core.unique`` for each column of labels, and one allreduce of k l numbers.

    Raises
    ------
    LayoutError
        If the columns differ in length.
    ValueError
        If a label is NaN; the same on every rank.
    """
    rows = rows_of_labels(op, names[0], first, second)
    a = as_labels(op, first, rows, argument=names[0])
    b = as_labels(op, second, rows, argument=names[1])
    counts = counted(rows, a.codes, len(a.classes), b.codes, len(b.classes), weights)
    return counts, a.classes, b.classes


def counted(rows: Rows, first, k: int, second, length: int, weights: torch.Tensor | None) -> torch.Tensor:
    """Return the counts of pairs of codes of all rows, shape (k, length); one allreduce."""
    found = torch.bincount(first * length + second, weights=weights, minlength=k * length)
    if weights is not None:
        found = found.to(torch.float64)  # of no rows it is int64
    return rows.comm.allreduce(found, out=found).view(k, length)
