"""Engine of choosing: elements of one tensor or another, by a condition, at the speed of memory.

A branch for each element costs ten times the copy where the condition is irregular. A condition made a mask of bits
costs the same everywhere, and what was not chosen never enters an arithmetic operation. This file sends nothing.
"""

from __future__ import annotations

import numpy as np
import torch

#: Elements of a tile: masks and values stay in the second-level cache. Smaller tensors are left to torch.
TILE = 1 << 15
#: With more threads than that, torch's kernel is as fast.
_THREADS = 4
#: One element in so many, or fewer, is written by its place.
_RARE = 32
_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def choose(condition: torch.Tensor, x: torch.Tensor, y: torch.Tensor, out: torch.Tensor | None = None):
    """Return `x` where `condition`, bool, is true and `y` elsewhere; they broadcast, and x and y have one dtype."""
    if out is not None:
        return torch.where(condition, x, y, out=out)
    if condition.numel() < TILE or not _is_plain(condition, x, y):
        return torch.where(condition, x, y)
    kind = _INTEGERS[x.element_size()]
    made = torch.empty(condition.shape, dtype=x.dtype)
    chosen, mask = _flat(made, kind), condition.view(torch.int8).reshape(-1).numpy()
    x, y = _flat(x, kind), _flat(y, kind)
    narrow, wide = np.empty(TILE, np.int8), np.empty(TILE, chosen.dtype)
    for start in range(0, len(chosen), TILE):
        part = slice(start, start + TILE)
        here = chosen[part]
        bits, same = narrow[: len(here)], wide[: len(here)]
        np.negative(mask[part], out=bits)
        same[...] = bits  # all bits where true, none elsewhere
        a, b = (v[part] if len(v) > 1 else v for v in (x, y))
        here[...] = a
        here ^= b
        here &= same
        here ^= b
    return made


def fill(x: torch.Tensor, condition: torch.Tensor, value: torch.Tensor) -> None:
    """Write `value`, one number of the dtype of `x`, where `condition`, bool, is true; it broadcasts to `x`."""
    if x.numel() < TILE or condition.shape != x.shape or not _is_plain(condition, x, value):
        x.masked_fill_(condition, value)
        return
    kind = _INTEGERS[x.element_size()]
    target, mask, number = _flat(x, kind), condition.reshape(-1).numpy(), _flat(value, kind)
    narrow, wide, changed = (
        np.empty(TILE, np.int8),
        np.empty(TILE, target.dtype),
        np.empty(TILE, target.dtype),
    )
    for start in range(0, len(target), TILE):
        here, some = target[start : start + TILE], mask[start : start + TILE]
        found = np.count_nonzero(some)
        first = int(some.argmax())
        if some[first : first + found].all():  # none, all, or one run of them
            here[first : first + found] = number
        elif found * _RARE < len(here):
            here[np.flatnonzero(some)] = number
        else:
            bits, same, other = narrow[: len(here)], wide[: len(here)], changed[: len(here)]
            np.negative(some.view(np.int8), out=bits)
            same[...] = bits
            np.bitwise_xor(here, number, out=other)
            other &= same
            here ^= other
    torch.autograd.graph.increment_version(x)  # as every write by torch does


def _flat(x: torch.Tensor, kind: torch.dtype) -> np.ndarray:
    return x.reshape(-1).view(kind).numpy()


def _is_plain(condition: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> bool:
    """Tell whether the tensors are memory on the CPU, whole or of one element, that nothing records."""
    if torch.get_num_threads() > _THREADS or x.element_size() not in _INTEGERS or x.dtype is not y.dtype:
        return False
    if torch._C._functorch.maybe_current_level() is not None:  # inside vmap or a transform of torch.func
        return False
    for v in (condition, x, y):
        whole = v.shape == condition.shape and v.is_contiguous()
        if not (whole or (v.numel() == 1 and v.ndim <= condition.ndim)) or v.device.type != "cpu":
            return False
        if v.requires_grad or v.is_conj() or v.is_neg():
            return False
    return True
