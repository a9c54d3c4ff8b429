"""Weighted order statistics: the least element at which the weights so far reach a share of all weights.

Each rank sorts its part of every column once; then eight bits of the answer per round, all columns and shares together.
"""

from __future__ import annotations

import torch

from .selection import from_key, to_key
from .selection_pass import comparable

_BITS = 8


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
    Temporary memory: about four times this rank's part.
    """
    whole = slice(0, columns.m)
    values = comparable(columns.chunk(whole)).contiguous()
    mass = weights.chunk(whole).to(torch.float64).contiguous()
    comm, dtype = columns.comm, values.dtype
    nan = values != values
    if skips_nan:
        mass = torch.where(nan, 0.0, mass)
    is_bad = ~mass.isfinite().all(1) | (mass < 0).any(1)
    keys, order = to_key(values + 0 if values.is_floating_point() else values).to(torch.int64).sort(dim=1)
    mass = mass.gather(1, order).cumsum(1)
    mass = torch.cat([mass.new_zeros(columns.m, 1), mass], dim=1)
    head = torch.stack([mass[:, -1], nan.any(1).double(), is_bad.double()], dim=1)
    total, has_nan, is_bad = comm.allreduce(head).unbind(1)
    is_bad = (is_bad > 0) | ~(total > 0)
    if skips_nan:  # a column of NaN alone is NaN, not an error
        has_nan, is_bad = (total == 0).double(), is_bad & (total != 0)
    found = torch.full((columns.m, q.numel()), torch.iinfo(torch.int64).min, device=q.device)
    steps = torch.arange(1, 1 << _BITS, device=q.device)
    for shift in range(64 - _BITS, -1, -_BITS):
        probes = found[..., None] + (steps << shift)
        flat = probes.reshape(columns.m, q.numel() * steps.numel())
        below = mass.gather(1, torch.searchsorted(keys, flat))
        below = comm.allreduce(below).reshape(probes.shape)
        reached = (below > 0) & (below / total[:, None, None] >= q.reshape(1, -1, 1))
        found += (~reached).sum(-1) << shift
    return from_key(found.to(_key_dtype(dtype)), dtype), has_nan > 0, bool(is_bad.any())


def _key_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.int32 if dtype is torch.float32 else torch.int64
