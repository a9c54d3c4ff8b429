"""Weighted order statistics: the least element at which the weights so far reach a share of all weights.

Each rank sorts its part of every column once; then eight bits of the answer per round, all columns and shares together.
"""

from __future__ import annotations

import math

import torch

from .selection import from_key, to_key
from .selection_pass import comparable

_BITS = 8
#: Elements of the columns that are sorted at a time.
_CHUNK = 1 << 20


def select_weighted(columns, weights, q: torch.Tensor, skips_nan: bool) -> tuple:
    """Return the least elements v of each column with W(<= v) / W >= q, and W(<= v) > 0.

    Parameters
    ----------
    columns, weights : Columns
        The elements and their weights, in the same order.
    q : torch.Tensor
        float64 of shape (1, wanted).
    skips_nan : bool
        NaN has no weight; otherwise columns with NaN are reported.

    Returns
    -------
    value : torch.Tensor
        Of shape (m, wanted), in the dtype of the ordered image.
    nan : torch.Tensor
        bool of shape (m,): the result is NaN.
    is_bad : bool
        Weights are not finite, negative, or all zero.

    *Distribution*: collective over the ranks of ``columns.comm``: 9 allreduces; 2040 bytes per element of `value` each.
    Temporary memory: a key and a float64 weight for each of this rank's elements (three times float32 data, twice
    float64), and what sorting a chunk of columns takes (five times the chunk; a column is not divided).
    """
    comm, dtype = columns.comm, columns.dtype
    keys, mass, head = _ranked(columns, weights, skips_nan)
    limits = torch.iinfo(keys.dtype)
    total, has_nan, is_bad = comm.allreduce(head).unbind(1)
    is_bad = (is_bad > 0) | ~(total > 0)
    if skips_nan:  # a column of NaN alone is NaN, not an error
        has_nan, is_bad = (total == 0).double(), is_bad & (total != 0)
    found = torch.full((columns.m, q.numel()), torch.iinfo(torch.int64).min, device=q.device)
    steps = torch.arange(1, 1 << _BITS, device=q.device)
    for shift in range(64 - _BITS, -1, -_BITS):
        probes = found[..., None] + (steps << shift)
        flat = probes.reshape(columns.m, q.numel() * steps.numel())
        flat = flat.clamp_(limits.min, limits.max).to(keys.dtype)  # the greatest int32 is the key of a NaN
        below = mass.gather(1, torch.searchsorted(keys, flat))
        below = comm.allreduce(below).reshape(probes.shape)
        reached = (below > 0) & (below / total[:, None, None] >= q.reshape(1, -1, 1))
        found += (~reached).sum(-1) << shift
    return from_key(found.to(_key_dtype(dtype)), dtype), has_nan > 0, bool(is_bad.any())


def _ranked(columns, weights, skips_nan: bool) -> tuple:
    """Return the sorted keys of each column, (m, n), the weights of the first 0 .. n of them, and their sums.

    The sums, of shape (m, 3): of the weights; how many chunks of the column hold NaN, and wrong weights.
    """
    rows, device = math.prod(columns.view.shape[: columns.reduced]), columns.view.device
    keys = torch.empty(columns.m, rows, dtype=_key_dtype(columns.dtype), device=device)
    mass = torch.zeros(columns.m, rows + 1, dtype=torch.float64, device=device)
    head = torch.zeros(columns.m, 3, dtype=torch.float64, device=device)
    step = max(_CHUNK // max(rows, 1), 1)
    for at in range(0, columns.m, step):
        part = slice(at, min(at + step, columns.m))
        values = comparable(columns.chunk(part)).contiguous()
        own = weights.chunk(part).to(torch.float64)
        nan = values != values
        if skips_nan:
            own = torch.where(nan, 0.0, own)
        wrong = ~own.isfinite().all(1) | (own < 0).any(1)
        ranked = to_key(values + 0 if values.is_floating_point() else values).to(keys.dtype)
        keys[part], order = ranked.sort(dim=1)
        torch.cumsum(own.gather(1, order), 1, out=mass[part, 1:])
        head[part] = torch.stack([mass[part, -1], nan.any(1).double(), wrong.double()], dim=1)
    return keys, mass, head


def _key_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.int32 if dtype is torch.float32 else torch.int64
