"""Sorting and sets along the split axis: python benchmarks/sorting.py --heat-python PYTHON_WITH_HEAT.

10^7 elements in one process of NumPy and torch and on two ranks of ours. Heat takes minutes for as many elements; it
gets 10^6, on which ours is timed for it, too. `core.py` has these cases in its list.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from harness import Case, Env, Run, Setup, main

MANY, FEW = 10_000_000, 1_000_000


def values(kind: str, n: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    if kind == "float32":
        return rng.random(n, dtype=np.float32)
    return rng.integers(0, 1000 if kind == "repeated int64" else 2**62, n)


def spmd(action: Callable[[Any, Any], Any], kind: str, n: int) -> Setup:
    def setup(env: Env) -> Run:
        x = env.lib.array(values(kind, n), split=0)
        return lambda: action(env.lib, x)

    return setup


def numpy(action: Callable[[Any, Any], Any], kind: str) -> Setup:
    def setup(env: Env) -> Run:
        x = values(kind, MANY)
        return lambda: action(np, x)

    return setup


def torch(action: Callable[[Any, Any], Any], kind: str) -> Setup:
    def setup(env: Env) -> Run:
        import torch as library

        x = library.from_numpy(values(kind, MANY))
        return lambda: action(library, x)

    return setup


def cases(name: str, action, kinds: tuple[str, ...], numpy_action=None, torch_action=None) -> list[Case]:
    """At full size beside NumPy and torch, held to 1.5 times the time of the faster; at a tenth beside Heat."""
    found = []
    for kind in kinds:
        peers = {"NumPy": numpy(numpy_action or action, kind)}
        if torch_action is not None:
            peers["torch"] = torch(torch_action, kind)
        found.append(
            Case(
                f"{name}, {kind}",
                "10^7",
                ours=spmd(action, kind, MANY),
                peers=peers,
                peer_target=1 / 1.5,
                reps=5,
            )
        )
        found.append(
            Case(f"{name}, {kind}, fewer", "10^6", spmd=spmd(action, kind, FEW), heat_target=1.0, reps=5)
        )
    return found


CASES = [
    *cases("sort", lambda m, x: m.sort(x), ("float32", "int64"), torch_action=lambda m, x: m.sort(x)),
    *cases(
        "argsort, stable",
        lambda m, x: m.argsort(x),
        ("float32", "int64"),
        numpy_action=lambda m, x: m.argsort(x, kind="stable"),
        torch_action=lambda m, x: m.argsort(x, stable=True),
    ),
    *cases(
        "unique",
        lambda m, x: m.unique(x),
        ("float32", "int64", "repeated int64"),
        torch_action=lambda m, x: m.unique(x),
    ),
    *cases(
        "unique with inverse",
        lambda m, x: m.unique(x, return_inverse=True),
        ("repeated int64",),
        torch_action=lambda m, x: m.unique(x, return_inverse=True),
    ),
]

if __name__ == "__main__":
    main(CASES, __file__)
