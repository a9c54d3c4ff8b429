"""Smallest and largest value of every feature: one pass over the local rows, one message."""

from __future__ import annotations

import torch
from ht_core import DNDarray

from ..moments import refuse_nonfinite
from ..rows import as_rows, floating
from ..tiles import spans, tile_rows


def merged_range(op: str, X: DNDarray) -> torch.Tensor:
    """Return ``[-min_0.., max_0..]`` of all rows on every rank, shape (2, d), float64; refuse what is not finite.

    *Distribution*: split 0: one allreduce of 2 d numbers; split 1: one allgather of as many; None: no message.

    Raises
    ------
    ValueError
        If `X` holds NaN or infinity; the same on every rank.
    """
    if X.split != 1 or X.comm.size == 1:
        rows = as_rows(op, X)
        found = rows.comm.allreduce(_local_range(rows.local), op="max")
    else:
        found = X.comm.allgatherv(_local_range(floating(X.larray)), X.layout.counts, axis=1)
    if not bool(torch.isfinite(found).all()):
        refuse_nonfinite(op)
    return found


def _local_range(local: torch.Tensor) -> torch.Tensor:
    """Return ``[-min, max]`` of the local rows, -infinity where there are none; NaN stays NaN."""
    n, d = local.shape
    found = torch.full((2, d), -torch.inf, dtype=torch.float64, device=local.device)
    if d == 0:
        return found
    for span in spans(n, tile_rows(d, local.device)):
        low, high = torch.aminmax(local[span], dim=0)
        torch.maximum(found, torch.stack([low.neg_(), high]).double(), out=found)
    return found


def nonzero(scale: torch.Tensor) -> torch.Tensor:
    """Return the scale with 1 in place of 0: a constant feature is shifted only."""
    return torch.where(scale == 0.0, 1.0, scale)
