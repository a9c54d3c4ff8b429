"""Joining, reshaping and moving: python benchmarks/rearranging.py --heat-python PYTHON_WITH_HEAT.

One 64 MiB float32 matrix, split along its rows. `core.py` has these cases in its list.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from harness import Case, Env, Run, Setup, main

SHAPE = (16_384, 1024)
SIZE = "16384 x 1024 float32"


def matrix() -> np.ndarray:
    return np.random.default_rng(0).standard_normal(SHAPE, dtype=np.float32)


def spmd(action: Callable[[Any, Any], Any], split: int = 0) -> Setup:
    def setup(env: Env) -> Run:
        x = env.lib.array(matrix(), split=split)
        return lambda: action(env.lib, x)

    return setup


def numpy(action: Callable[[Any, Any], Any]) -> Setup:
    def setup(env: Env) -> Run:
        x = matrix()
        return lambda: action(np, x)

    return setup


def torch(action: Callable[[Any, Any], Any]) -> Setup:
    def setup(env: Env) -> Run:
        import torch as library

        x = library.from_numpy(matrix())
        return lambda: action(library, x)

    return setup


def case(
    name: str,
    action: Callable[[Any, Any], Any],
    numpy_action: Callable[[Any, Any], Any],
    torch_action: Callable[[Any, Any], Any],
    is_local: bool,
    heat: Callable[[Any, Any], Any] | None = None,
    split: int = 0,
) -> Case:
    """Where nothing moves, ours is held to 0.9 of the best peer; where rows move between processes, to Heat alone."""
    return Case(
        name,
        SIZE,
        spmd=spmd(action, split),
        heat=None if heat is None else spmd(heat, split),
        peers={"NumPy": numpy(numpy_action), "torch": torch(torch_action)},
        heat_target=1.0,
        peer_target=0.9 if is_local else None,
        reps=7,
    )


CASES = [
    case(
        "concatenate along the split",
        lambda m, x: m.concatenate([x, x], axis=0),
        lambda m, x: m.concatenate([x, x]),
        lambda m, x: m.cat([x, x]),
        False,
    ),
    case(
        "concatenate along the other axis",
        lambda m, x: m.concatenate([x, x], axis=1),
        lambda m, x: m.concatenate([x, x], axis=1),
        lambda m, x: m.cat([x, x], 1),
        True,
    ),
    case(
        "stack",
        lambda m, x: m.stack([x, x], axis=0),
        lambda m, x: m.stack([x, x]),
        lambda m, x: m.stack([x, x]),
        True,
    ),
    case(
        "reshape (rows stay whole)",
        lambda m, x: m.reshape(x, (SHAPE[0], 32, 32)),
        lambda m, x: m.reshape(x, (SHAPE[0], 32, 32)),
        lambda m, x: m.reshape(x, (SHAPE[0], 32, 32)),
        False,  # a view in microseconds everywhere
    ),
    case(
        "reshape of columns",
        lambda m, x: m.reshape(x, (SHAPE[1], SHAPE[0])),
        lambda m, x: m.reshape(x, (SHAPE[1], SHAPE[0])).copy(),
        lambda m, x: m.reshape(x, (SHAPE[1], SHAPE[0])).clone(),
        False,
        heat=lambda m, x: m.reshape(m.copy(x), (SHAPE[1], SHAPE[0])),  # which resplits its operand for good
        split=1,
    ),
    case(
        "resplit 0 to 1",
        lambda m, x: m.resplit(x, 1),
        lambda m, x: x.copy(),
        lambda m, x: x.clone(),
        False,
    ),
    case(
        "flip along the split",
        lambda m, x: m.flip(x, 0),
        lambda m, x: m.flip(x, 0).copy(),
        lambda m, x: m.flip(x, (0,)),
        False,
    ),
    case(
        "flip along the other axis",
        lambda m, x: m.flip(x, 1),
        lambda m, x: m.flip(x, 1).copy(),
        lambda m, x: m.flip(x, (1,)),
        True,
    ),
    case(
        "roll along the split",
        lambda m, x: m.roll(x, 100, 0),
        lambda m, x: m.roll(x, 100, 0),
        lambda m, x: m.roll(x, 100, 0),
        True,
    ),
    case(
        "pad",
        lambda m, x: m.pad(x, ((2, 2), (2, 2))),
        lambda m, x: m.pad(x, 2),
        lambda m, x: m.nn.functional.pad(x, (2, 2, 2, 2)),
        True,
    ),
    case(
        "tile along the other axis",
        lambda m, x: m.tile(x, (1, 3)),
        lambda m, x: m.tile(x, (1, 3)),
        lambda m, x: m.tile(x, (1, 3)),
        True,
    ),
    case(
        "tile along the split",
        lambda m, x: m.tile(x, (2, 1)),
        lambda m, x: m.tile(x, (2, 1)),
        lambda m, x: m.tile(x, (2, 1)),
        False,
    ),
    case(
        "repeat rows",
        lambda m, x: m.repeat(x, 2, axis=0),
        lambda m, x: m.repeat(x, 2, axis=0),
        lambda m, x: m.repeat_interleave(x, 2, 0),
        True,
        heat=lambda m, x: m.repeat(x, 2, 0),
    ),
]

if __name__ == "__main__":
    main(CASES, __file__)
