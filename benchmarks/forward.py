"""The forward pass of a layer, relu(X W): python benchmarks/forward.py --heat-python PYTHON_WITH_HEAT.

A short and fat X, float32, in all pairs of splits that spread the work.
"""

from __future__ import annotations

import numpy as np
from harness import Case, Env, Run, main

N, K, M = 512, 8192, 1024
SPLITS = [(0, None), (None, 1), (1, 0), (0, 0), (0, 1), (1, 1)]


def _arrays() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((N, K), dtype=np.float32), rng.standard_normal((K, M), dtype=np.float32)


def _layer(splits: tuple) -> Case:
    def ours(env: Env) -> Run:
        x, w = (env.lib.array(v, split=s) for v, s in zip(_arrays(), splits))
        return lambda: env.lib.nn.functional.relu(env.lib.matmul(x, w))

    def heat(env: Env) -> Run:
        x, w = (env.lib.array(v, split=s) for v, s in zip(_arrays(), splits))
        zero = env.lib.zeros(1)
        return lambda: env.lib.maximum(env.lib.matmul(x, w), zero)

    def in_torch(env: Env) -> Run:
        import torch

        x, w = (torch.from_numpy(v) for v in _arrays())
        return lambda: torch.relu(x @ w)

    return Case(
        f"relu(X W), X split {splits[0]}, W split {splits[1]}",
        f"{N} x {K} by {M}",
        ours=ours,
        heat=heat,
        peers={"torch": in_torch},
        heat_target=1.0,
        peer_target=0.8,
        flops=2.0 * N * K * M,
    )


CASES = [_layer(splits) for splits in SPLITS]

if __name__ == "__main__":
    main(CASES, __file__)
