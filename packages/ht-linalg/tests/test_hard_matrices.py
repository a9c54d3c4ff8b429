"""Eliminations and decompositions on matrices that are hard: tiny pivots, growth, condition numbers up to 1e14."""

import sys

import ht_core as ht
import ht_linalg as la
import numpy as np
import pytest
import scipy.linalg
from ht_comm import spmd
from ht_core.testing import spread, whole

RNG = np.random.default_rng(7)
N = 24


def turned(values, dtype="float64"):
    q = [np.linalg.qr(RNG.standard_normal((N, N)) + 1j * RNG.standard_normal((N, N)))[0] for _ in range(2)]
    if np.dtype(dtype).kind != "c":
        q = [np.linalg.qr(x.real)[0] for x in q]
    return ((q[0] * values) @ q[1]).astype(dtype)


def wilkinson():
    """Partial pivoting exchanges nothing, and the last column doubles in each step."""
    a = np.eye(N) - np.tril(np.ones((N, N)), -1)
    a[:, -1] = 1
    return a


#: name -> (matrix, growth of the elements that partial pivoting may show)
HARD = {
    "tiny pivots": (np.where(np.eye(N) > 0, 1e-6, RNG.standard_normal((N, N))).astype("float32"), 10),
    "tiny complex pivots": (
        np.where(np.eye(N) > 0, 1e-6j, turned(np.ones(N), "complex64")).astype("complex64"),
        10,
    ),
    "wilkinson": (wilkinson(), 2.0 ** (N - 1)),
    "hilbert": (scipy.linalg.hilbert(N), 10),
    "graded rows": (RNG.permutation(np.logspace(0, -12, N)[:, None] * RNG.standard_normal((N, N))), 10),
    "graded columns": (RNG.standard_normal((N, N)) * RNG.permutation(np.logspace(0, -12, N)), 10),
    **{f"condition {c:.0e}": (turned(np.geomspace(1, 1 / c, N)), 10) for c in (1, 1e4, 1e8, 1e14)},
    "complex condition 1e14": (turned(np.geomspace(1, 1e-14, N), "complex128"), 10),
    "reversed": (np.eye(N)[::-1].astype("complex64") * 1j, 1),
}
PLACES = ((None, ()), (0, (10, 0, 14)), (1, (3, 21, 0)))


@pytest.mark.parametrize("name", HARD)
def test_elimination(name):
    a, growth = HARD[name]
    eps, norm = np.finfo(a.dtype).eps, np.linalg.norm(a)
    b = RNG.standard_normal((N, 2)).astype(a.dtype)

    def run(comm):
        found = []
        for place in PLACES:
            x = spread(a, *place, comm)
            P, L, U = la.lu(x)
            sign, log = la.slogdet(x)
            found.append(
                [P.numpy(), whole(L), whole(U), whole(la.solve(x, ht.array(b))), sign.item(), log.item()]
            )
        return found

    exact_sign, exact_log = np.linalg.slogdet(a.astype("complex128" if a.dtype.kind == "c" else "float64"))
    condition = np.linalg.cond(a.astype("complex128"))
    for found in spmd(3, run):
        for P, L, U, x, sign, log in found:
            assert np.linalg.norm(L[P] @ U - a) <= 10 * growth * eps * norm
            assert np.linalg.norm(a @ x - b) <= 20 * growth * eps * norm * np.linalg.norm(x)
            if N * eps * growth * condition < 0.1:
                assert abs(sign - exact_sign) <= N * eps * growth * condition
                assert abs(log - exact_log) <= N * eps * growth * condition
                assert np.isclose(np.exp(log) * sign, np.linalg.det(a), rtol=1e-3)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("condition", [1, 1e3, 1e6, 1e12])
def test_inverse_and_cholesky(condition, dtype):
    eps = np.finfo(dtype).eps
    if condition * N * eps > 0.05:
        condition = 0.05 / (N * eps)
    a = turned(np.geomspace(1, condition**-0.5, N), dtype)
    positive = (a @ a.conj().T).astype(dtype)
    positive = (positive + positive.conj().T) / 2

    def run(comm):
        return [[whole(f(spread(positive, *place, comm))) for f in (la.inv, la.cholesky)] for place in PLACES]

    for found in spmd(3, run):
        for inverse, lower in found:
            assert np.linalg.norm(lower @ lower.conj().T - positive) <= 10 * eps * np.linalg.norm(positive)
            size = np.linalg.norm(positive) * np.linalg.norm(inverse)
            assert np.linalg.norm(positive @ inverse - np.eye(N)) <= 20 * eps * size


@pytest.fixture
def nothing_whole(monkeypatch):
    """Treat 24 rows as a matrix that no rank may hold."""
    for module, name in (
        ("qr", "SMALL_FACTOR"),
        ("svd", "WHOLE_ON_ONE_RANK"),
        ("polar", "SMALL_POLAR"),
        ("polar", "SMALL_POLAR_ON_FEW"),
        ("eigh", "WHOLE_ON_ONE_RANK"),
        ("eigh", "SMALL_EIGH"),
    ):
        monkeypatch.setattr(sys.modules[f"ht_linalg.{module}"], name, 10)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(
    ("name", "shape"),
    [("condition 1e+14", (N, N)), ("complex condition 1e14", (N, 15)), ("hilbert", (14, N))],
)
def test_svd_of_large_matrices(nothing_whole, name, shape, full):
    a = HARD[name][0][: shape[0], : shape[1]]
    k, eps, norm = min(shape), np.finfo(a.dtype).eps, np.linalg.norm(a)

    def run(comm):
        x = ht.array(a, split=0)
        return [*(whole(y) for y in la.svd(x, full_matrices=full)), whole(la.svdvals(x))]

    for u, s, vh, values in spmd(2, run):
        assert (np.diff(s) <= 0).all()
        assert (s >= 0).all()
        np.testing.assert_allclose(s, np.linalg.svd(a, compute_uv=False), rtol=0, atol=60 * eps * norm)
        np.testing.assert_allclose(values, s, rtol=0, atol=60 * eps * norm)
        assert np.linalg.norm((u[:, :k] * s) @ vh[:k] - a) <= 100 * eps * norm
        for v in (u.conj().T @ u, vh @ vh.conj().T):
            assert np.linalg.norm(v - np.eye(len(v))) <= 20 * N * eps
