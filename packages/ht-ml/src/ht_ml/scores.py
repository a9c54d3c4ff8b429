"""Scores of predictions against truth."""

from __future__ import annotations

from typing import Any

import torch
from ht_core import DNDarray

from .labels import label_column
from .moments import checked_moments, require_usable
from .rows import as_column, as_rows, as_weights


def determination(op: str, predicted: DNDarray, y: Any, sample_weight: Any = None) -> float:
    """Return the coefficient of determination; 0 where `y` is constant and not met, 1 where it is met.

    *Distribution*: one allreduce of 5 numbers.
    """
    rows = as_rows(op, DNDarray(predicted.larray.unsqueeze(1), predicted.layout.insert(1, 1), predicted.comm))
    target = as_column(op, "y", y, rows)
    weights = as_weights(op, sample_weight, rows)
    residual = target - rows.local[:, 0].to(torch.float64)
    packed = checked_moments(torch.stack([target, residual], 1), weights)
    packed = rows.comm.allreduce(packed, op="moments")
    require_usable(op, packed, weighted=weights is not None)
    n, _, offset, total, spread = packed.tolist()
    left = spread + n * offset * offset
    if total <= 0.0:
        return 1.0 if left <= 0.0 else 0.0
    return 1.0 - left / total


def accuracy(op: str, predicted: DNDarray, y: Any, sample_weight: Any = None) -> float:
    """Return the share of rows, by weight, whose predicted label is the true one.

    *Distribution*: one allreduce of 2 numbers.

    Raises
    ------
    ValueError
        If a weight is negative or not finite, or all are zero; the same on every rank.
    """
    rows = as_rows(op, DNDarray(predicted.larray.unsqueeze(1), predicted.layout.insert(1, 1), predicted.comm))
    right = label_column(op, predicted, rows, argument="predicted") == label_column(op, y, rows)
    weights = as_weights(op, sample_weight, rows)
    if weights is None:
        weights = torch.ones_like(right, dtype=torch.float64)
    elif bool((weights < 0).any()):
        weights = torch.full_like(weights, torch.nan)
    found = torch.stack([(weights * right).sum(), weights.sum()])
    met, total = rows.comm.allreduce(found).tolist()
    if not 0.0 < total < float("inf"):
        raise ValueError(
            f"{op}: sample_weight must be finite, not negative and of positive sum, got sum {total}"
        )
    return met / total
