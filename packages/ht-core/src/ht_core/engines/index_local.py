"""Reading rows of a local tensor by index arrays: the kernels of the indexing engines. No message, no layout."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from .indexing import bits

#: Elements of a mask that are looked at at once.
MASKED = 1 << 18


def take_rows(local: torch.Tensor, axes: Sequence[int], keys: list[torch.Tensor]) -> torch.Tensor:
    """Return the rows (n, *rest) of `local` at n positions along `axes`."""
    return _lookup(bits(local).movedim(tuple(axes), tuple(range(len(axes)))), keys).view(local.dtype)


def _lookup(front: torch.Tensor, keys: list[torch.Tensor]) -> torch.Tensor:
    """Return ``front[keys]`` for keys of one dimension; index_select is several times faster where it applies."""
    if len(keys) > 1 and front.is_contiguous() and front.numel():
        linear = keys[0]
        for extent, key in zip(front.shape[1:], keys[1:]):
            linear = linear * extent + key
        front, keys = front.reshape(-1, *front.shape[len(keys) :]), [linear]
    return front.index_select(0, keys[0]) if len(keys) == 1 else front[tuple(keys)]


def select(
    local: torch.Tensor, axes: tuple[int, ...], keys: list[torch.Tensor], ndim: int, position: int
) -> torch.Tensor:
    """Return ``local`` indexed along `axes` by keys that broadcast to `ndim` axes, which go to `position`."""
    plain = bits(local)
    if ndim == 1 and len(keys) == 1 and position == axes[0]:
        return plain.index_select(position, keys[0]).view(local.dtype)
    front = plain.movedim(axes, tuple(range(len(axes))))
    if all(key.ndim == 1 and key.shape == keys[0].shape for key in keys):
        result = _lookup(front, keys)
    else:
        # Broadcast here: where no key is left, torch would still check single ones against an empty local axis.
        result = front[torch.broadcast_tensors(*keys)]
    return result.movedim(tuple(range(ndim)), tuple(range(position, position + ndim))).view(local.dtype)


def true_places(mask: torch.Tensor) -> torch.Tensor:
    """Return the int64 places where a mask of one dimension is true."""
    if mask.device.type == "cpu":  # NumPy is three to ten times faster than torch
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.nonzero().reshape(-1)


def _count(mask: torch.Tensor) -> int:
    return np.count_nonzero(mask.numpy()) if mask.device.type == "cpu" else int(mask.count_nonzero())


def rows_where(rows: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the rows (n, *rest) of a contiguous tensor where a mask is true, piece by piece if there are many."""
    total = mask.numel()
    if total <= MASKED or rows.requires_grad:
        return rows.index_select(0, true_places(mask))
    out = torch.empty(_count(mask), *rows.shape[1:], dtype=rows.dtype, device=rows.device)
    done = 0
    for at in range(0, total, MASKED):
        here, some = mask[at : at + MASKED], rows[at : at + MASKED]
        found = _count(here)
        if found == here.numel():
            out[done : done + found] = some
        elif found:
            torch.index_select(some, 0, true_places(here), out=out[done : done + found])
        done += found
    return out
