"""Smallest and largest value of every feature: one pass over the local rows, one message."""

from __future__ import annotations

import torch
from ht_core import DNDarray

from ..moments import refuse_nonfinite
from ..rows import as_rows, floating

_BLOCK = 1 << 15  # numbers: the two running blocks and the next one stay near the core


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
    if n == 0 or d == 0:
        return torch.full((2, d), -torch.inf, dtype=torch.float64, device=local.device)
    if local.device.type != "cpu":
        low, high = local.amin(0), local.amax(0)
    else:
        low, high = _extreme_rows(local)
    return torch.stack([low.double().neg_(), high.double()])


def _extreme_rows(local: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the smallest and the largest value of each column, from long loops over blocks of rows.

    A reduction along the rows runs one short loop per row and takes up to twenty times as long.
    """
    n, d = local.shape
    step = max(1, min(n, _BLOCK // d))
    low = local[:step].clone()
    high = low.clone()
    for start in range(step, n, step):
        block = local[min(start, n - step) :][:step]  # the last one overlaps: extremes may be seen twice
        torch.minimum(low, block, out=low)
        torch.maximum(high, block, out=high)
    while low.shape[0] > 1:
        half = (low.shape[0] + 1) // 2
        low = torch.minimum(low[:half], low[-half:])
        high = torch.maximum(high[:half], high[-half:])
    return low[0], high[0]


def nonzero(scale: torch.Tensor) -> torch.Tensor:
    """Return the scale with 1 in place of 0: a constant feature is shifted only."""
    return torch.where(scale == 0.0, 1.0, scale)
