"""Solvers, decompositions, transforms, contractions: python benchmarks/linalg_dense.py --heat-python PYTHON_WITH_HEAT.

Float32 matrices of 1000 to 2000 rows, transforms of 2^24 points and of images of 4096 x 4096, convolutions and sums of
products. What Heat has no function for is compared with NumPy, SciPy and torch alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from harness import Case, Env, Run, Setup, main

N = 1000
LSTSQ = (100_000, 64)
LINE = 2**24
IMAGE = 4096
SIGNAL, KERNEL = 2**22, 129


def _normal(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def _matrix(n: int) -> np.ndarray:
    """A random matrix that Heat can invert, which does not pivot by size: its diagonal dominates a little."""
    return _normal((n, n), 1) + 2 * np.sqrt(np.float32(n)) * np.eye(n, dtype=np.float32)


def _positive(n: int) -> np.ndarray:
    x = _normal((n, n), 1)
    return x @ x.T / n + np.eye(n, dtype=np.float32)


def spmd(call: Callable[..., Any], *inputs: Callable[[], np.ndarray], splits: tuple = ()) -> Setup:
    """Set-up of ``call(lib, *arrays)`` in ours and in Heat, the arrays split as `splits` says."""

    def setup(env: Env) -> Run:
        arrays = [env.lib.array(make(), split=split) for make, split in zip(inputs, splits)]
        return lambda: call(env.lib, *arrays)

    return setup


def in_numpy(call: Callable[..., Any], *inputs: Callable[[], np.ndarray]) -> Setup:
    def setup(env: Env) -> Run:
        arrays = [make() for make in inputs]
        return lambda: call(*arrays)

    return setup


def in_torch(call: Callable[..., Any], *inputs: Callable[[], np.ndarray]) -> Setup:
    def setup(env: Env) -> Run:
        import torch

        arrays = [torch.from_numpy(make()) for make in inputs]
        return lambda: call(torch, *arrays)

    return setup


def case(
    title: str, size: str, call, splits: tuple, inputs, *, numpy=None, torch=None, heat=True, **options
) -> Case:
    """One operation for every contender that has it."""
    peers = {"NumPy": in_numpy(numpy, *inputs)} if numpy else {}
    peers |= {"torch": in_torch(torch, *inputs)} if torch else {}
    return Case(
        title,
        size,
        spmd=spmd(call, *inputs, splits=splits) if heat else None,
        ours=spmd(call, *inputs, splits=splits),
        peers=peers,
        heat_target=1 if heat else None,
        **options,
    )


def _side(n: int = N) -> Callable[[], np.ndarray]:
    return lambda: _matrix(n)


def _of(*shape: int, seed: int = 2) -> Callable[[], np.ndarray]:
    return lambda: _normal(shape, seed)


def _convolve_torch(torch, a, v):
    return torch.nn.functional.conv1d(a[None, None], v.flip(0)[None, None], padding=len(v) // 2)


SQUARE = f"{N} x {N}"
DENSE = [
    *(
        case(
            f"solve, split {split}",
            f"{SQUARE}, one side",
            lambda ht, a, b: ht.linalg.solve(a, b),
            (split, split),
            (_side(), _of(N, 1)),
            torch=lambda torch, a, b: torch.linalg.solve(a, b),
            heat=split == 0,
            flops=2 / 3 * N**3,
            reps=5,
        )
        for split in (0, 1)
    ),
    *(
        case(
            f"{name}, split {split}",
            SQUARE,
            lambda ht, a, name=name: getattr(ht.linalg, name)(a),
            (split,),
            (_side(),),
            torch=lambda torch, a, name=name: getattr(torch.linalg, name)(a),
            flops=flops * N**3,
            reps=5,
        )
        for name, flops in (("inv", 2), ("det", 2 / 3))
        for split in (0, 1)
    ),
    case(
        "cholesky, split 0",
        SQUARE,
        lambda ht, a: ht.linalg.cholesky(a),
        (0,),
        (lambda: _positive(N),),
        torch=lambda torch, a: torch.linalg.cholesky(a),
        heat=False,
        flops=1 / 3 * N**3,
        reps=5,
    ),
    case(
        "lstsq, split 0",
        f"{LSTSQ[0]:,} x {LSTSQ[1]}",
        lambda ht, a, b: ht.linalg.lstsq(a, b),
        (0, 0),
        (_of(*LSTSQ), _of(LSTSQ[0], 1, seed=3)),
        torch=lambda torch, a, b: torch.linalg.lstsq(a, b, driver="gelsd"),
        heat=False,
        flops=2 * LSTSQ[0] * LSTSQ[1] ** 2,
        reps=5,
    ),
    case(
        "svd, tall, split 0",
        f"{LSTSQ[0]:,} x {LSTSQ[1]}",
        lambda ht, a: ht.linalg.svd(a, full_matrices=False),
        (0,),
        (_of(*LSTSQ),),
        numpy=lambda a: np.linalg.svd(a, full_matrices=False),
        torch=lambda torch, a: torch.linalg.svd(a, full_matrices=False),
        heat=False,
        flops=6 * LSTSQ[0] * LSTSQ[1] ** 2,
        reps=5,
    ),
    case(
        "svd, split 0",
        "600 x 600",
        lambda ht, a: ht.linalg.svd(a),
        (0,),
        (_side(600),),
        torch=lambda torch, a: torch.linalg.svd(a),
        heat=False,
        flops=22 * 600**3,
        reps=5,
    ),
    case(
        "qr, square, split 1",
        SQUARE,
        lambda ht, a: ht.linalg.qr(a),
        (1,),
        (_side(),),
        torch=lambda torch, a: torch.linalg.qr(a),
        flops=8 / 3 * N**3,
        reps=5,
    ),
]
TRANSFORMS = [
    case(
        "fft along the split",
        "2^24",
        lambda ht, a: ht.fft.fft(a),
        (0,),
        (_of(LINE),),
        numpy=lambda a: np.fft.fft(a),
        torch=lambda torch, a: torch.fft.fft(a),
        traffic=LINE * (4 + 8),
        reps=5,
    ),
    case(
        "rfft along the split",
        "2^24",
        lambda ht, a: ht.fft.rfft(a),
        (0,),
        (_of(LINE),),
        numpy=lambda a: np.fft.rfft(a),
        torch=lambda torch, a: torch.fft.rfft(a),
        traffic=LINE * (4 + 4),
        reps=5,
    ),
    *(
        case(
            f"{name}, split {split}",
            f"{IMAGE} x {IMAGE}",
            lambda ht, a, name=name: getattr(ht.fft, name)(a),
            (split,),
            (_of(IMAGE, IMAGE),),
            numpy=lambda a, name=name: getattr(np.fft, name)(a),
            torch=lambda torch, a, name=name: getattr(torch.fft, name)(a),
            traffic=IMAGE**2 * (4 + width),
            reps=5,
        )
        for name, width in (("fft2", 8), ("rfft2", 4))
        for split in (0, 1)
    ),
]
CONTRACTIONS = [
    *(
        case(
            f"convolve, {k} taps",
            f"{SIGNAL:,}",
            lambda ht, a, v: ht.convolve(a, v, mode="same"),
            (0, None),
            (_of(SIGNAL), _of(k, seed=3)),
            numpy=lambda a, v: np.convolve(a, v, mode="same"),
            torch=_convolve_torch,
            flops=2 * SIGNAL * k,
            traffic=8 * SIGNAL,
            reps=5,
        )
        for k in (9, KERNEL)
    ),
    case(
        "tensordot",
        "1000 x 40 x 50 by 40 x 50 x 300",
        lambda ht, a, b: ht.linalg.tensordot(a, b, 2),
        (0, None),
        (_of(1000, 40, 50), _of(40, 50, 300, seed=3)),
        numpy=lambda a, b: np.tensordot(a, b, 2),
        torch=lambda torch, a, b: torch.tensordot(a, b, 2),
        heat=False,
        flops=2 * 1000 * 2000 * 300,
    ),
    case(
        "einsum abc,abd->cd",
        "2000 x 50 x 64",
        lambda ht, a, b: ht.linalg.einsum("abc,abd->cd", a, b),
        (0, 0),
        (_of(2000, 50, 64), _of(2000, 50, 64, seed=3)),
        numpy=lambda a, b: np.einsum("abc,abd->cd", a, b, optimize=True),
        torch=lambda torch, a, b: torch.einsum("abc,abd->cd", a, b),
        heat=False,
        flops=2 * 100_000 * 64**2,
    ),
    case(
        "einsum bij,bjk->bik",
        "64 x 200 x 200",
        lambda ht, a, b: ht.linalg.einsum("bij,bjk->bik", a, b),
        (0, 0),
        (_of(64, 200, 200), _of(64, 200, 200, seed=3)),
        numpy=lambda a, b: np.matmul(a, b),
        torch=lambda torch, a, b: torch.einsum("bij,bjk->bik", a, b),
        heat=False,
        flops=2 * 64 * 200**3,
    ),
    case(
        "vdot",
        "2^23",
        lambda ht, a, b: ht.linalg.vdot(a, b),
        (0, 0),
        (_of(2**23), _of(2**23, seed=3)),
        numpy=np.vdot,
        torch=lambda torch, a, b: torch.vdot(a, b),
        traffic=8 * 2**23,
    ),
    case(
        "outer",
        "4000 x 4000",
        lambda ht, a, b: ht.linalg.outer(a, b),
        (0, 0),
        (_of(4000), _of(4000, seed=3)),
        numpy=np.outer,
        torch=lambda torch, a, b: torch.outer(a, b),
        traffic=4 * 4000**2,
    ),
]
CASES = [*DENSE, *TRANSFORMS, *CONTRACTIONS]

if __name__ == "__main__":
    main(CASES, __file__)
