"""Random numbers that belong to global row indices, and seeds that all ranks agree on; sends nothing.

Value i of stream (seed, number) is a function of (seed, number, i) alone: a rank draws those of its own
rows, wherever they start, and every choice made from them is the same for any number of ranks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

_WORDS_PER_BLOCK = 4
_SEEDS = 1 << 63


def exponentials(seed: int, stream: int, start: int, count: int, device: torch.device) -> torch.Tensor:
    """Return the exponential variates number start, ..., start + count - 1 of a stream, shape (count,),
    float64."""
    bits = np.random.Philox(key=np.array([seed, stream], dtype=np.uint64))
    bits.advance(start // _WORDS_PER_BLOCK)
    generator = np.random.Generator(bits)
    generator.random(start % _WORDS_PER_BLOCK)
    values = generator.random(count)
    np.negative(values, out=values)
    np.log1p(values, out=values)
    np.negative(values, out=values)
    return torch.from_numpy(values).to(device)


def replicated_generator(seed: int, stream: int) -> np.random.Generator:
    """Return a generator for choices that every rank makes alike."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, stream], dtype=np.uint64)))


def resolve_seed(op: str, random_state: Any) -> int:
    """Return the seed that `random_state` stands for, the same on every rank and without a message.

    Parameters
    ----------
    random_state : int, None, ht_core.random.Generator or numpy.random.Generator
        None and a generator of ht-core draw the next number from a stream that all ranks share; a NumPy
        generator must be in the same state on every rank.

    Raises
    ------
    ValueError
        If it is none of these, or negative.
    """
    if isinstance(random_state, (int, np.integer)) and not isinstance(random_state, bool):
        if not 0 <= random_state < _SEEDS:
            raise ValueError(f"{op}: random_state must be in [0, 2**63), got {random_state}")
        return int(random_state)
    if random_state is None:
        from ht_core import random

        return int(random.randint(0, 2**62, (1,)).larray[0])
    for name in ("randint", "integers"):
        draw = getattr(random_state, name, None)
        if draw is not None:
            value = draw(0, 2**62, 1)
            return int(getattr(value, "larray", value)[0])
    raise ValueError(f"{op}: random_state must be an int, a generator or None, got {random_state!r}")
