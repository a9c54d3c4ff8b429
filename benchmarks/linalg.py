"""Products and factorisations: python benchmarks/linalg.py --heat-python PYTHON_WITH_HEAT.

Square products of every pair of splits, a layer's forward pass, and tall factorisations in the sizes of the
applications. All data are float32.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from harness import Case, Env, Run, main

SIDE = 3000
TALL_QR = (1_000_000, 64)
HSVD = {
    "small": ((40_000, 64), 1e-2),
    "patches": ((250_000, 150), 2.5e-2),
    "large": ((2_000_000, 64), 1e-2),
}
Setup = Callable[[Env], Run]


def _normal(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def _decaying(shape: tuple[int, int]) -> np.ndarray:
    """Rows of a few strong directions in noise."""
    x = _normal((shape[0], shape[1] // 4), 1) @ _normal((shape[1] // 4, shape[1]), 2)
    return x + 0.05 * _normal(shape, 3)


def product(
    shape_a: tuple[int, int], shape_b: tuple[int, int], split_a: int | None, split_b: int | None
) -> Setup:
    """Set-up of ``matmul`` in ours and in Heat."""

    def setup(env: Env) -> Run:
        a = env.lib.array(_normal(shape_a, 1), split=split_a)
        b = env.lib.array(_normal(shape_b, 2), split=split_b)
        return lambda: env.lib.matmul(a, b)

    return setup


def product_peers(shape_a: tuple[int, int], shape_b: tuple[int, int]) -> dict[str, Setup]:
    """The same product in one process."""

    def by_numpy(env: Env) -> Run:
        a, b = _normal(shape_a, 1), _normal(shape_b, 2)
        return lambda: a @ b

    def by_torch(env: Env) -> Run:
        import torch

        a, b = torch.from_numpy(_normal(shape_a, 1)), torch.from_numpy(_normal(shape_b, 2))
        return lambda: a @ b

    return {"NumPy": by_numpy, "torch": by_torch}


def product_case(title: str, shape_a, shape_b, split_a, split_b) -> Case:
    return Case(
        title,
        f"{shape_a[0]:,} x {shape_a[1]:,} @ {shape_b[0]:,} x {shape_b[1]:,}",
        spmd=product(shape_a, shape_b, split_a, split_b),
        peers=product_peers(shape_a, shape_b),
        heat_target=1,
        peer_target=0.9,
        reps=10,
        flops=2 * shape_a[0] * shape_a[1] * shape_b[1],
        traffic=4 * (shape_a[0] * shape_a[1] + shape_b[0] * shape_b[1] + shape_a[0] * shape_b[1]),
    )


def qr_spmd(mode: str) -> Setup:
    def setup(env: Env) -> Run:
        x = env.lib.array(_normal(TALL_QR, 1), split=0)
        return lambda: env.lib.linalg.qr(x, mode=mode)

    return setup


def qr_torch(mode: str) -> Setup:
    def setup(env: Env) -> Run:
        import torch

        x = torch.from_numpy(_normal(TALL_QR, 1))
        return lambda: torch.linalg.qr(x, mode=mode)

    return setup


def cholesky_qr2_torch(env: Env) -> Run:
    """What a careful user writes: CholeskyQR2 without a safety net."""
    import torch

    x = torch.from_numpy(_normal(TALL_QR, 1))

    def once(y: torch.Tensor) -> torch.Tensor:
        r = torch.linalg.cholesky(y.T @ y, upper=True)
        return torch.linalg.solve_triangular(r, y, upper=True, left=False)

    return lambda: once(once(x))


def hsvd_spmd(size: str) -> Setup:
    def setup(env: Env) -> Run:
        shape, rtol = HSVD[size]
        x = env.lib.array(_decaying(shape), split=0)
        return lambda: env.lib.linalg.hsvd_rtol(x, rtol, compute_sv=True)

    return setup


def hsvd_numpy(size: str) -> Setup:
    """Gram matrix and eigenvectors, without orthogonality of U below the square root of eps."""

    def setup(env: Env) -> Run:
        shape, rtol = HSVD[size]
        x = _decaying(shape)

        def run() -> np.ndarray:
            values, vectors = np.linalg.eigh(x.T @ x)
            keep = np.cumsum(values) > rtol**2 * values.sum()
            return x @ (vectors[:, keep] / np.sqrt(values[keep]))

        return run

    return setup


def hsvd_sklearn(size: str) -> Setup:
    """scikit-learn's covariance_eigh wants to be told the rank: here a quarter of the columns."""

    def setup(env: Env) -> Run:
        from sklearn.decomposition import PCA

        shape, _ = HSVD[size]
        x = _decaying(shape)
        model = PCA(n_components=shape[1] // 4, svd_solver="covariance_eigh")
        return lambda: model.fit_transform(x)

    return setup


SQUARE = (SIDE, SIDE)
PAIRS = [(a, b) for a in (None, 0, 1) for b in (None, 0, 1) if (a, b) != (None, None)]
CASES = [
    *(product_case(f"matmul, splits {a} and {b}", SQUARE, SQUARE, a, b) for a, b in PAIRS),
    product_case("layer, X split 0, W whole", (100_000, 256), (256, 64), 0, None),
    product_case("layer, X split 1, W split 0", (100_000, 256), (256, 64), 1, 0),
    Case(
        "QR",
        f"{TALL_QR[0]:,} x {TALL_QR[1]}",
        spmd=qr_spmd("reduced"),
        peers={"torch Householder": qr_torch("reduced"), "torch CholeskyQR2": cholesky_qr2_torch},
        heat_target=1,
        peer_target=1,
        reps=5,
        flops=4 * TALL_QR[0] * TALL_QR[1] ** 2,
        traffic=8 * TALL_QR[0] * TALL_QR[1],
    ),
    Case(
        "R of QR",
        f"{TALL_QR[0]:,} x {TALL_QR[1]}",
        spmd=qr_spmd("r"),
        peers={"torch Householder": qr_torch("r")},
        heat_target=1,
        peer_target=1,
        reps=5,
        flops=TALL_QR[0] * TALL_QR[1] ** 2,
        traffic=4 * TALL_QR[0] * TALL_QR[1],
    ),
    *(
        Case(
            f"hSVD, rtol {rtol:g}, {size}",
            f"{shape[0]:,} x {shape[1]}",
            spmd=hsvd_spmd(size),
            peers={"NumPy Gram + eigh": hsvd_numpy(size), "scikit-learn": hsvd_sklearn(size)},
            heat_target=15,
            peer_target=1,
            reps=5,
            flops=2 * shape[0] * shape[1] ** 2,  # a symmetric Gram matrix, and about half of the columns of U
            traffic=4 * shape[0] * shape[1] * 1.5,
        )
        for size, (shape, rtol) in HSVD.items()
    ),
]

if __name__ == "__main__":
    main(CASES, __file__)
