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
import rearranging
import sorting
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
        group=group,
        ours=_in_stack(call, shape, dtype, split),
        heat=None if heat is False else _in_stack(heat or call, shape, dtype, split),
        peers=peers,
        **targets,
    )


def make(name: str, ours: Callable[[Any], Any], numpy: Callable[[Any], Any]) -> Case:
    """Make a case of one creation function: ``ours(library)`` for Heat, too."""

    def setup(call: Callable[[Any], Any], lib: Any = None) -> Callable[[Env], Run]:
        return lambda env: lambda: call(lib or env.lib)

    return Case(
        f"creation: {name}",
        f"{SIZE} float32",
        group="creation",
        spmd=setup(ours),
        peers={"NumPy": setup(numpy, np)},
        heat_target=1.0,
    )


def small(
    name: str, call: Callable[[Any, Any], Any], torch: Callable[[Any, Any], Any] | None = None
) -> list[Case]:
    """Make the two cases of an operation on 100 numbers: over torch at one rank, and beside Heat on two."""
    shape, dtype = (100,), "float32"
    alone = Case(
        f"small, one rank: {name}",
        "100 float32",
        single=_in_stack(call, shape, dtype, 0),
        peers={"torch": _in_torch(torch or call, shape, dtype)},
        over_us=10.0,
    )
    return [
        alone,
        Case(
            f"small: {name}",
            "100 float32",
            group="small",
            spmd=_in_stack(call, shape, dtype, 0),
            heat_target=1.0,
        ),
    ]


def part(group: str, cases: list[Case]) -> list[Case]:
    """Make the cases of another script a group of this one."""
    return [replace(case, name=f"{group}: {case.name}", group=group) for case in cases]


CASES = [
    make(
        "ones",
        lambda lib: lib.ones(SIZE, dtype=lib.float32, split=0),
        lambda lib: lib.ones(SIZE, dtype=lib.float32),
    ),
    make(
        "arange",
        lambda lib: lib.arange(SIZE, dtype=lib.float32, split=0),
        lambda lib: lib.arange(SIZE, dtype=lib.float32),
    ),
    make(
        "linspace",
        lambda lib: lib.linspace(0, 1, SIZE, dtype=lib.float32, split=0),
        lambda lib: lib.linspace(0, 1, SIZE, dtype=lib.float32),
    ),
    row("elementwise", "exp", lambda lib, x: lib.exp(x), torch=lambda t, x: t.exp(x)),
    row("elementwise", "2 x + x", lambda lib, x: 2 * x + x, torch=lambda t, x: 2 * x + x),
    row(
        "elementwise",
        "sqrt(|x|) - sin(x)",
        lambda lib, x: lib.sqrt(lib.abs(x)) - lib.sin(x),
        torch=lambda t, x: t.sqrt(t.abs(x)) - t.sin(x),
    ),
    row(
        "elementwise",
        "where",
        lambda lib, x: lib.where(x > 0, x, 0.0),
        torch=lambda t, x: t.where(x > 0, x, 0.0),
    ),
    row("elementwise", "x - mean(x)", lambda lib, x: x - x.mean(axis=0), torch=lambda t, x: x - x.mean(0)),
    *small("a + b", lambda lib, x: x + x),
    *small("sum", lambda lib, x: x.sum()),
    *small("mean", lambda lib, x: x.mean(axis=0), lambda t, x: x.mean(0)),
    *small("a[5]", lambda lib, x: x[5]),
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
        heat=False,
        reps=3,
    ),
    row(
        "reductions",
        "histogram",
        lambda lib, x: lib.histogram(x, bins=100),
        shape=SIZE,
        heat=lambda lib, x: lib.histc(x, 100),
    ),
    *part("random", drawing.CASES),
    *part("indexing", indexing.CASES),
    *part("rearranging", rearranging.CASES),
    *part("sorting", sorting.CASES),
]

if __name__ == "__main__":
    main(CASES, __file__)
