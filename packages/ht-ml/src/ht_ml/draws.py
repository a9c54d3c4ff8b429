"""Random numbers that belong to global row indices, and seeds that all ranks agree on; sends nothing.

Value i of stream (seed, number) is a function of (seed, number, i) alone: a rank draws those of its own
rows, wherever they start, and every choice made from them is the same for any number of ranks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ht_comm import Communicator
from ht_core.draws import exponential, fill
from ht_core.random import default_rng

_SEEDS = 1 << 63


def exponentials(seed: int, stream: int, start: int, count: int, device: torch.device) -> torch.Tensor:
    """Return the exponential variates start, ..., start + count - 1 of a stream, shape (count,), float64."""
    out = torch.empty(count, dtype=torch.float64, device=device)
    fill(out, exponential(torch.float64), (seed, stream), start)
    return out


def different_rows(seed: int, n: int, size: int, comm: Communicator) -> list[int]:
    """Return `size` different indices below `n`, each set equally likely, the same on every rank."""
    return default_rng(seed, comm=comm).choice(n, size, replace=False).larray.tolist()


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

        random_state = random.get_generator()
    draw = getattr(random_state, "integers", None)
    if draw is None:
        raise ValueError(f"{op}: random_state must be an int, a generator or None, got {random_state!r}")
    value = draw(0, 2**62, 1)
    return int(getattr(value, "larray", value)[0])
