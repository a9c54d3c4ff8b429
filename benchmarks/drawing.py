"""Random arrays: python benchmarks/drawing.py --heat-python PYTHON_WITH_HEAT.

10^7 numbers in one process of NumPy and torch (two threads) and on two ranks of ours. torch's generator fills with one
thread whatever it is given. `random_numbers.py` compares single cores more finely.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from harness import Case, Env, Run, Setup, main

N = 10_000_000

Action = Callable[[Any], Any]


def spmd(action: Action) -> Setup:
    def setup(env: Env) -> Run:
        return lambda: action(env.lib)

    return setup


def numpy(action: Action) -> Setup:
    def setup(env: Env) -> Run:
        rng = np.random.default_rng(0)
        return lambda: action(rng)

    return setup


def torch(action: Action) -> Setup:
    def setup(env: Env) -> Run:
        import torch as library

        return lambda: action(library)

    return setup


def case(name: str, mine: Action, numpys: Action, torchs: Action | None, target: float, heat: bool) -> Case:
    peers = {"NumPy": numpy(numpys)}
    if torchs is not None:
        peers["torch"] = torch(torchs)
    own = {"spmd": spmd(mine), "heat_target": 1.0} if heat else {"ours": spmd(mine)}
    return Case(name, "10^7", peers=peers, peer_target=target, reps=5, **own)


CASES = [
    case(
        "uniform float64",
        lambda m: m.random.rand(N, dtype=m.float64, split=0),
        lambda g: g.random(N),
        lambda t: t.rand(N, dtype=t.float64),
        0.9,
        True,
    ),
    case(
        "uniform float32",
        lambda m: m.random.rand(N, dtype=m.float32, split=0),
        lambda g: g.random(N, dtype=np.float32),
        lambda t: t.rand(N),
        0.9,
        True,
    ),
    case(
        "normal float64",
        lambda m: m.random.randn(N, dtype=m.float64, split=0),
        lambda g: g.standard_normal(N),
        lambda t: t.randn(N, dtype=t.float64),
        0.5,
        True,
    ),
    case(
        "normal float32",
        lambda m: m.random.randn(N, dtype=m.float32, split=0),
        lambda g: g.standard_normal(N, dtype=np.float32),
        lambda t: t.randn(N),
        0.5,
        True,
    ),
    case(
        "integers",
        lambda m: m.random.randint(0, 100, N, dtype=m.int64, split=0),
        lambda g: g.integers(0, 100, N),
        lambda t: t.randint(0, 100, (N,)),
        0.9,
        False,
    ),
    case(
        "permutation",
        lambda m: m.random.randperm(N, split=0),
        lambda g: g.permutation(N),
        lambda t: t.randperm(N),
        0.9,
        False,
    ),
    case(
        "gamma(2.5)",
        lambda m: m.random.standard_gamma(2.5, N, split=0),
        lambda g: g.standard_gamma(2.5, N),
        None,
        0.5,
        False,
    ),
    case(
        "poisson(30)",
        lambda m: m.random.poisson(30.0, N, split=0),
        lambda g: g.poisson(30.0, N),
        None,
        0.5,
        False,
    ),
    case(
        "binomial(100, 0.3)",
        lambda m: m.random.binomial(100, 0.3, N, split=0),
        lambda g: g.binomial(100, 0.3, N),
        None,
        0.5,
        False,
    ),
]

if __name__ == "__main__":
    main(CASES, __file__)
