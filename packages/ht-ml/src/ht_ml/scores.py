"""Scores of predictions against truth: what estimators and `ht_ml.metrics` share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from ht_core import DNDarray
from ht_core.engines.redistribution import redistribute
from ht_core.errors import DTypeError, LayoutError

from .labels import label_column, rows_of_labels
from .moments import checked_moments, merge_moments, require_usable
from .rows import Rows, as_weights, given, rows_of
from .tiles import spans, tile_rows


@dataclass(frozen=True, slots=True)
class Residuals:
    """Merged sums over all rows, the same on every rank.

    Attributes
    ----------
    n : float
        Weight of all rows.
    rows : int
        Their number.
    squares : torch.Tensor, shape (m,), float64
        Sums of squares of the differences.
    spread : torch.Tensor, shape (m,), float64
        Sums of squares of the truth about its means.
    like : DNDarray
        An operand, for the communicator of results.
    """

    n: float
    rows: int
    squares: torch.Tensor
    spread: torch.Tensor
    like: DNDarray


def residual_moments(
    op: str, y: Any, predicted: Any, sample_weight: Any, *, names: tuple[str, str] = ("y", "predicted")
) -> Residuals:
    """Return the sums of squares of truth and residuals of all rows, from one pass in tiles.

    *Distribution*: one allreduce of 4 m + 1 numbers for m outputs.

    Raises
    ------
    LayoutError, DTypeError
        If the shapes differ, or values are complex.
    ValueError
        If values or weights are not finite, or a weight is negative; the same on every rank.
    """
    y, predicted = (given(op, name, v) for name, v in zip(names, (y, predicted)))
    if y.ndim not in (1, 2) or not y.shape[0] or 0 in y.shape:
        raise LayoutError(f"{op}: {names[0]} must have shape (n,) or (n, m), got {y.shape}")
    rows = rows_of(predicted if predicted.split is not None and predicted.shape[:1] == y.shape[:1] else y)
    m = 1 if y.ndim == 1 else y.shape[1]
    truth, guess = (_values(op, name, v, rows, m) for name, v in zip(names, (y, predicted)))
    weights = as_weights(op, sample_weight, rows)
    packed = checked_moments(rows.local.new_empty((0, 2 * m)), None)
    for span in spans(truth.shape[0], tile_rows(2 * m, truth.device)):
        t = truth[span].to(torch.float64)
        both = torch.cat([t, t - guess[span]], 1)
        part = checked_moments(both, None if weights is None else weights[span])
        packed = merge_moments(packed, part) if bool(part.isfinite().all()) else part.fill_(torch.nan)
        if not bool(packed[0].isfinite()):
            break
    packed = rows.comm.allreduce(packed, op="moments")
    require_usable(op, packed, weighted=weights is not None)
    mean, spread = packed[1 : 2 * m + 1], packed[2 * m + 1 :]
    squares = spread[m:] + packed[0] * mean[m:].square()
    return Residuals(float(packed[0]), rows.n, squares, spread[:m], y)


def _values(op: str, name: str, values: DNDarray, rows: Rows, m: int) -> torch.Tensor:
    """Return the local rows of (n,) or (n, m) values, shape (local rows, m)."""
    if values.shape != (rows.n, m) and not (m == 1 and values.shape == (rows.n,)):
        shape = f"({rows.n},)" if m == 1 else f"({rows.n}, {m})"
        raise LayoutError(
            f"{op}: {name} must have one value per row, shape {shape}, got shape {values.shape}"
        )
    if values.larray.is_complex():
        raise DTypeError(f"{op}: {name} must be real, got {values.dtype}")
    if values.split is not None and values.comm.size != rows.home.size:
        raise LayoutError(
            f"{op}: {name} must lie on the {rows.home.size} ranks of the rows, got {values.comm.size}"
        )
    target = rows.layout if values.ndim == 1 else rows.layout.insert(1, m)
    local = redistribute(values.larray, values.layout, target, rows.home)
    return local.detach().reshape(-1, m).to(rows.local.device)


def shares_of_spread(found: Residuals) -> torch.Tensor:
    """Return ``1 - squares / spread``; 0 where the truth is constant and not met, 1 where it is met."""
    constant = torch.where(found.squares > 0.0, 0.0, 1.0).to(torch.float64)
    spread = torch.where(found.spread > 0.0, found.spread, 1.0)
    return torch.where(found.spread > 0.0, 1.0 - found.squares / spread, constant)


def determination(op: str, predicted: DNDarray, y: Any, sample_weight: Any = None) -> float:
    """Return the coefficient of determination; 0 where `y` is constant and not met, 1 where it is met.

    *Distribution*: one allreduce of 5 numbers for one output.
    """
    return float(shares_of_spread(residual_moments(op, y, predicted, sample_weight)).mean())


def accuracy(
    op: str,
    predicted: Any,
    y: Any,
    sample_weight: Any = None,
    *,
    normalize: bool = True,
    names: tuple[str, str] = ("predicted", "y"),
) -> float:
    """Return the share of rows, by weight, whose predicted label is the true one; without `normalize` their weight.

    *Distribution*: one allreduce of 2 numbers.

    Raises
    ------
    ValueError
        If a weight is negative or not finite, or all are zero; the same on every rank.
    """
    rows = rows_of_labels(op, names[0], predicted, y)
    right = label_column(op, predicted, rows, argument=names[0]) == label_column(
        op, y, rows, argument=names[1]
    )
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
    return met / total if normalize else met
