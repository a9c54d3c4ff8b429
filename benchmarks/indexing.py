"""Indexing along the split axis: python benchmarks/indexing.py --heat-python PYTHON_WITH_HEAT.

10^7 rows in one process of NumPy and torch and on two ranks of ours; small keys on 100 elements at one rank, held to
20 microseconds over torch (10 for an integer). Heat gathers masks and may reorder keys: it gets what it does right.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from harness import Case, Env, Run, Setup, main

ROWS, FEW = 10_000_000, 100
KEYS = np.random.default_rng(1).integers(0, ROWS, ROWS // 10)
SMALL = [5, 3, 90, 3]

Action = Callable[[Any, Any], Any]


def ours(action: Action, n: int = ROWS) -> Setup:
    def setup(env: Env) -> Run:
        x = env.lib.arange(n, dtype=env.lib.float64, split=0)
        return lambda: action(env.lib, x)

    return setup


def numpy(action: Action, n: int = ROWS) -> Setup:
    def setup(env: Env) -> Run:
        x = np.arange(float(n))
        return lambda: action(np, x)

    return setup


def torch(action: Action, n: int = ROWS) -> Setup:
    def setup(env: Env) -> Run:
        import torch as library

        x = library.arange(float(n), dtype=library.float64)
        return lambda: action(library, x)

    return setup


def large(name: str, action: Action, heat: bool = False) -> Case:
    mine = {"spmd": ours(action), "heat_target": 1.0} if heat else {"ours": ours(action)}
    peers = {"NumPy": numpy(action), "torch": torch(action)}
    return Case(name, "10^7 float64", peers=peers, peer_target=0.9, reps=5, **mine)


def small(name: str, action: Action, over: float) -> Case:
    return Case(
        name, "100 float64", single=ours(action, FEW), peers={"torch": torch(action, FEW)}, over_us=over
    )


def assign(key: Any, value: Any) -> Action:
    return lambda m, x: x.__setitem__(key, value)


CASES = [
    large("x[2:-2:3]", lambda m, x: x[2:-2:3], heat=True),
    large("x[x > n / 2], mask aligned", lambda m, x: x[x > ROWS / 2], heat=True),
    large("x[x % 3 == 0], mask aligned", lambda m, x: x[x % 3 == 0]),
    large("nonzero(x > n / 2)", lambda m, x: m.nonzero(x > ROWS / 2)),
    large("x[10^6 keys], replicated", lambda m, x: x[KEYS]),
    large("x[mask] = 0", lambda m, x: x.__setitem__(x > ROWS / 2, 0.0)),
    large("x[10^6 keys] = 0", assign(KEYS, 0.0)),
    small("x[5]", lambda m, x: x[5], 10.0),
    small("x[2:50]", lambda m, x: x[2:50], 10.0),
    small("x[list of 4]", lambda m, x: x[SMALL], 20.0),
    small("x[mask]", lambda m, x: x[x > 50], 20.0),
    small("x[list of 4] = 1", assign(SMALL, 1.0), 20.0),
]

if __name__ == "__main__":
    main(CASES, __file__)
