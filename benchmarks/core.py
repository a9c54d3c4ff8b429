"""Speed of ht-core beside Heat, NumPy and torch, in groups; ``--only reductions`` runs one.

Each row names the operation, the arrays it takes and how each library does it. A new operation is a new row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import drawing
import indexing
import numpy as np
from harness import Case, Env, Run, main

SIZE = 1_000_000
ROWS, COLUMNS = 200_000, 32


def _values(shape: int | tuple[int, ...], dtype: str) -> np.ndarray:
    return np.random.default_rng(5).standard_normal(shape).astype(dtype)


def _in_stack(
    call: Callable[[Any, Any], Any], shape: Any, dtype: str, split: int | None
) -> Callable[[Env], Run]:
    def setup(env: Env) -> Run:
        x = env.lib.array(_values(shape, dtype), split=split)
        return lambda: call(env.lib, x)

    return setup


def _in_numpy(call: Callable[[Any, Any], Any], shape: Any, dtype: str) -> Callable[[Env], Run]:
    def setup(env: Env) -> Run:
        x = _values(shape, dtype)
        return lambda: call(np, x)

    return setup


def _in_torch(call: Callable[[Any, Any], Any], shape: Any, dtype: str) -> Callable[[Env], Run]:
    def setup(env: Env) -> Run:
        import torch

        x = torch.from_numpy(_values(shape, dtype))
        return lambda: call(torch, x)

    return setup


def row(
    group: str,
    name: str,
    call: Callable[[Any, Any], Any],
    *,
    shape: Any = (ROWS, COLUMNS),
    dtype: str = "float32",
    split: int | None = 0,
    heat: Callable[[Any, Any], Any] | bool | None = None,
    numpy: Callable[[Any, Any], Any] | None = None,
    torch: Callable[[Any, Any], Any] | None = None,
    **targets: Any,
) -> Case:
    """Make a case of one array: ``call(library, x)``, with other spellings where a library needs them.

    ``heat=False`` leaves Heat out, where it would take minutes.
    """
    peers = {"NumPy": _in_numpy(numpy or call, shape, dtype)}
    if torch is not None:
        peers["torch"] = _in_torch(torch, shape, dtype)
    return Case(
        f"{group}: {name}",
        f"{shape} {dtype}",
        ours=_in_stack(call, shape, dtype, split),
        heat=None if heat is False else _in_stack(heat or call, shape, dtype, split),
        peers=peers,
        **targets,
    )


CASES = [
    row("reductions", "sum", lambda lib, x: lib.sum(x), torch=lambda t, x: t.sum(x)),
    row("reductions", "sum axis 0", lambda lib, x: lib.sum(x, axis=0), torch=lambda t, x: t.sum(x, 0)),
    row("reductions", "sum axis 1", lambda lib, x: lib.sum(x, axis=1), torch=lambda t, x: t.sum(x, 1)),
    row("reductions", "max axis 0", lambda lib, x: lib.max(x, axis=0), torch=lambda t, x: t.amax(x, 0)),
    row(
        "reductions", "argmax axis 0", lambda lib, x: lib.argmax(x, axis=0), torch=lambda t, x: t.argmax(x, 0)
    ),
    row(
        "reductions", "cumsum axis 0", lambda lib, x: lib.cumsum(x, axis=0), torch=lambda t, x: t.cumsum(x, 0)
    ),
    row("moments", "mean axis 0", lambda lib, x: lib.mean(x, axis=0), torch=lambda t, x: t.mean(x, 0)),
    row("moments", "var axis 0", lambda lib, x: lib.var(x, axis=0), torch=lambda t, x: t.var(x, 0)),
    row("moments", "std", lambda lib, x: lib.std(x), torch=lambda t, x: t.std(x)),
    row("percentiles", "median axis 0", lambda lib, x: lib.median(x, axis=0), shape=(4000, COLUMNS)),
    row(
        "percentiles",
        "percentile axis 0",
        lambda lib, x: lib.percentile(x, 25.0, axis=0),
        shape=(4000, COLUMNS),
    ),
    row(
        "percentiles",
        "long median axis 0",
        lambda lib, x: lib.median(x, axis=0),
        heat=lambda lib, x: None,
        reps=3,
    ),
    row(
        "histograms",
        "histogram",
        lambda lib, x: lib.histogram(x, bins=100),
        shape=SIZE,
        heat=lambda lib, x: lib.histc(x, 100),
    ),
    *(replace(case, name=f"random: {case.name}") for case in drawing.CASES),
    *(replace(case, name=f"indexing: {case.name}") for case in indexing.CASES),
]

if __name__ == "__main__":
    main(CASES, __file__)
