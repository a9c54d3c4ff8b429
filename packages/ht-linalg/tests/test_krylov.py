"""Iterative solvers and Lanczos: answers, info, breakdowns, layouts and messages."""

import ht_core as ht
import numpy as np
import pytest
import scipy.sparse.linalg
from ht_comm import spmd
from ht_core.layout import Layout
from ht_core.testing import spread, whole
from ht_linalg import cg, gmres, lanczos, minres

DTYPES = ["float32", "float64", "complex64", "complex128"]
SOLVERS = {"cg": cg, "minres": minres, "gmres": gmres}
#: Counts for n = 30 on p ranks: uneven, with an empty one.
COUNTS = {1: (30,), 2: (30, 0), 3: (4, 0, 26), 4: (7, 9, 0, 14), 5: (0, 1, 20, 9, 0)}
N = 30


def unitary(n, dtype, rng):
    x = rng.standard_normal((n, n))
    if np.dtype(dtype).kind == "c":
        x = x + 1j * rng.standard_normal((n, n))
    return np.linalg.qr(x)[0]


def problem(kind, dtype, n=N, kappa=50.0, seed=0):
    """A matrix of the kind, a right-hand side and the solution."""
    rng = np.random.default_rng(seed)
    values = np.geomspace(1, kappa, n)
    if kind == "indefinite":
        values = values * np.where(np.arange(n) % 3, 1, -1)
    left = unitary(n, dtype, rng)
    right = left if kind != "general" else left @ np.linalg.qr(np.eye(n) + 0.3 * unitary(n, dtype, rng))[0]
    a = ((left * values) @ right.conj().T).astype(dtype)
    a = a if kind == "general" else (a + a.conj().T) / 2
    x = (rng.standard_normal(n) + (1j * rng.standard_normal(n) if a.dtype.kind == "c" else 0)).astype(dtype)
    return a, a @ x, x


def spread_pair(a, b, split, p, comm, b_split=0):
    counts = COUNTS[p] if len(b) == N else Layout.even(b.shape, 0, p).counts
    return spread(a, split, counts, comm), spread(b, b_split, counts, comm)


KINDS = {"cg": "definite", "minres": "indefinite", "gmres": "general"}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("p", [1, 2, 3, 5])
def test_solution(name, dtype, p):
    a, b, x = problem(KINDS[name], dtype)
    rtol = 1e-5 if np.dtype(dtype).itemsize // (1 + (np.dtype(dtype).kind == "c")) == 4 else 1e-10
    options = {"restart": N} if name == "gmres" else {}

    def run(comm):
        for split in (None, 0, 1):
            for b_split in (None, 0):
                A, B = spread_pair(a, b, split, p, comm, b_split)
                found, info = SOLVERS[name](A, B, rtol=rtol, **options)
                assert info == 0
                assert found.layout is B.layout
                assert found.dtype == B.dtype
                result = whole(found)
                assert np.linalg.norm(a @ result - b) <= 1.5 * rtol * np.linalg.norm(b)
                np.testing.assert_allclose(result, x, rtol=0, atol=200 * rtol)
                np.testing.assert_array_equal(whole(A), a)
                np.testing.assert_array_equal(whole(B), b)

    spmd(p, run)


def test_steps_are_those_of_scipy():
    """As many iterations as the textbook method needs."""
    a, b, _ = problem("definite", "float64", 200, 100.0)
    count = []
    scipy.sparse.linalg.cg(a, b, rtol=1e-8, callback=lambda _: count.append(1))

    def run(comm):
        mine = []
        x, info = cg(ht.array(a, split=0, comm=comm), b, rtol=1e-8, callback=lambda y: mine.append(y.shape))
        assert info == 0
        assert abs(len(mine) - len(count)) <= 1
        assert set(mine) == {(200,)}
        assert np.linalg.norm(a @ x.numpy() - b) <= 1e-8 * np.linalg.norm(b)

    spmd(3, run)


class Stencil:
    """The Laplacian of a path, as an object that only multiplies."""

    def __init__(self, n):
        self.shape, self.dtype = (n, n), ht.float64

    def matvec(self, x):
        left = ht.concatenate([ht.zeros(1, dtype=x.dtype, comm=x.comm), x[:-1]])
        right = ht.concatenate([x[1:], ht.zeros(1, dtype=x.dtype, comm=x.comm)])
        return 2 * x - left - right


class Matrix:
    """A distributed matrix with the interface of a sparse one."""

    def __init__(self, dense):
        self.dense, self.shape, self.dtype, self.comm = dense, dense.shape, dense.dtype, dense.comm

    def __matmul__(self, x):
        assert x.split == 0
        return ht.resplit(self.dense @ x, 0)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("p", [1, 3])
def test_operators_of_any_form(name, p):
    n = 25
    a = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    b = np.arange(1.0, n + 1)
    options = {"restart": n} if name == "gmres" else {}

    def run(comm):
        dense = ht.array(a, split=0, comm=comm)
        for split in (None, 0):
            B = ht.array(b, split=split, comm=comm)
            forms = [Stencil(n), Stencil(n).matvec, Matrix(dense), a]
            for form in forms:
                x, info = SOLVERS[name](form, B, rtol=1e-10, **options)
                assert info == 0
                assert x.split == split
                np.testing.assert_allclose(a @ whole(x), b, atol=1e-8 * np.linalg.norm(b))

    spmd(p, run)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("split", [None, 0, 1])
def test_preconditioner(name, split):
    """A good one shortens the iteration; the residual that counts is the plain one."""
    rng = np.random.default_rng(0)
    scale = np.geomspace(1, 1e4, N)
    core, _, _ = problem("definite", "float64", kappa=3.0)
    a = core * np.sqrt(scale[:, None] * scale)
    b = rng.standard_normal(N)
    m = np.diag(1 / np.diag(a))

    def run(comm):
        A, B = spread_pair(a, b, 0, 3, comm)
        steps = {}
        for key, M in (
            ("none", None),
            ("matrix", ht.array(m, split=split, comm=comm)),
            ("function", lambda x: x / ht.array(np.diag(a), split=0, comm=comm)),
        ):
            seen = []
            options = {"restart": N, "callback_type": "pr_norm"} if name == "gmres" else {}
            x, info = SOLVERS[name](A, B, M=M, rtol=1e-8, callback=lambda _, s=seen: s.append(1), **options)
            assert info == 0
            assert np.linalg.norm(a @ whole(x) - b) <= 1.01e-8 * np.linalg.norm(b)
            steps[key] = len(seen)
        assert steps["matrix"] == steps["function"]
        assert steps["matrix"] < steps["none"]

    spmd(3, run)


@pytest.mark.parametrize("name", SOLVERS)
def test_ranks_that_round_differently_stay_together(name):
    """Replicated vectors, and a preconditioner that sends messages: one rank decides for all when to stop."""
    a, b, _ = problem(KINDS[name], "float64", kappa=1e4)

    def run(comm):
        def rounded(r):
            comm.barrier()
            return r * (1 + 1e-7 * comm.rank)

        steps = []
        A, B = ht.array(a, comm=comm), ht.array(b, comm=comm)
        SOLVERS[name](A, B, M=rounded, rtol=1e-6, callback=steps.append)
        return len(steps)

    assert len(set(spmd(3, run))) == 1


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("p", [1, 3])
def test_special_systems(name, p):
    """Nothing to do, one step, fewer rows than ranks, no rows."""
    solver = SOLVERS[name]

    def run(comm):
        eye = ht.eye(6, split=0, comm=comm) * 3.0
        zero = ht.zeros(6, split=0, comm=comm)
        start = ht.ones(6, split=0, comm=comm)
        for x0 in (None, start):
            x, info = solver(eye, zero, x0)
            assert info == 0
            np.testing.assert_array_equal(whole(x), np.zeros(6))
        seen = []
        x, info = solver(eye, start, rtol=1e-6, callback=seen.append)
        np.testing.assert_allclose(whole(x), np.full(6, 1 / 3), rtol=1e-6)
        assert (info, len(seen)) == (0, 1)
        x, info = solver(eye, start, start / 3.0, rtol=1e-6)
        assert info == 0
        x, info = solver(eye, start.reshape((6, 1)), rtol=1e-6)
        assert (info, x.shape) == (0, (6, 1))
        x, info = solver(ht.full((1, 1), 4.0, split=0, comm=comm), ht.full((1,), 2.0, split=0, comm=comm))
        assert (info, whole(x).tolist()) == (0, [0.5])
        x, info = solver(ht.empty((0, 0), split=0, comm=comm), ht.empty((0,), split=0, comm=comm))
        assert (info, x.shape) == (0, (0,))

    spmd(p, run)


@pytest.mark.parametrize("split", [None, 0, 1])
def test_failures_are_told(split):
    """No answer within the steps, no answer at all, the wrong method: info says so, and nothing hangs."""
    a, b, _ = problem("definite", "float64", kappa=1e6)
    singular = np.diag([1.0, 2.0, 3.0, 0.0, 0.0, 4.0])
    c = np.ones(6)

    def run(comm):
        A, B = spread_pair(a, b, split, 3, comm)
        for solver, options in ((cg, {}), (minres, {}), (gmres, {"restart": 2})):
            x, info = solver(A, B, rtol=1e-12, maxiter=3, **options)
            assert info == (6 if solver is gmres else 3)
            assert np.isfinite(whole(x)).all()
            x, info = solver(A, B, maxiter=0)
            assert info == 1
            S, C = ht.array(singular, split=split, comm=comm), ht.array(c, split=0, comm=comm)
            x, info = solver(S, C, rtol=1e-8)
            assert info != 0
            assert np.isfinite(whole(x)).all()
            x, info = solver(S, S @ C, rtol=1e-8)  # singular, but solvable
            assert info == 0
            np.testing.assert_allclose(singular @ whole(x), singular @ c, atol=1e-7)
            x, info = solver(S * 0.0, C)
            assert info != 0
            x, info = solver(A * float("nan"), B)
            assert info == -1
        assert cg(-A, B)[1] == -1
        # the least-squares solution of a system without one
        x, info = minres(S, C, rtol=1e-8)
        assert info < 30
        np.testing.assert_allclose(singular @ (singular @ whole(x) - c), 0, atol=1e-7)

    spmd(3, run)


def test_ill_conditioned_systems_are_not_called_singular():
    a, b, _ = problem("indefinite", "float64", kappa=1e8)

    def run(comm):
        x, info = minres(ht.array(a, split=0, comm=comm), b, rtol=1e-9, maxiter=2000)
        assert info == 0
        assert np.linalg.norm(a @ x.numpy() - b) <= 1e-9 * np.linalg.norm(b)

    spmd(2, run)


def test_drift_of_the_residual_is_caught():
    """The recurred residual of CG falls far below what is attained; only the true one may end the iteration."""
    a, b, _ = problem("definite", "float64", 60, 1e9)

    def run(comm):
        for rtol in (1e-8, 1e-10):
            x, info = cg(ht.array(a, split=0, comm=comm), b, rtol=rtol, maxiter=5000)
            reached = np.linalg.norm(a @ x.numpy() - b) / np.linalg.norm(b)
            assert (info == 0) == (reached <= 1.01 * rtol)

    spmd(2, run)


@pytest.mark.parametrize("name", SOLVERS)
def test_unattainable_tolerances_end(name):
    """Where rounding is all that is left, the iteration ends long before its most steps."""
    a, b, _ = problem(KINDS[name], "float64")

    def run(comm):
        seen = []
        options = {"restart": N, "callback_type": "pr_norm"} if name == "gmres" else {}
        A = ht.array(a, split=0, comm=comm)
        x, info = SOLVERS[name](A, b, rtol=0.0, maxiter=10**5, callback=lambda _: seen.append(1), **options)
        assert info > 0
        assert len(seen) <= 20 * N
        assert np.linalg.norm(a @ x.numpy() - b) <= 1e-13 * np.linalg.norm(b)

    spmd(2, run)


def test_rotations_of_a_matrix_without_progress():
    """GMRES on a cyclic shift stands still until the last step; shorter cycles never move."""
    n = 8
    a, b = np.roll(np.eye(n), 1, axis=0), np.eye(n)[0]

    def run(comm):
        A = ht.array(a, split=0, comm=comm)
        x, info = gmres(A, b, restart=n)
        assert info == 0
        np.testing.assert_allclose(a @ x.numpy(), b, atol=1e-12)
        x, info = gmres(A, b, restart=4)
        assert info == 4

    spmd(2, run)


def test_minres_shift_and_out():
    a, b, _ = problem("definite", "float64")

    def run(comm):
        A, B = spread_pair(a, b, 1, 3, comm)
        x, info = minres(A, B, shift=7.5, rtol=1e-10)
        assert info == 0
        np.testing.assert_allclose((a - 7.5 * np.eye(N)) @ whole(x), b, atol=1e-7)
        out = ht.zeros(N, dtype="float64", comm=comm)
        x, info = cg(A, B, None, out, rtol=1e-10)
        assert x is out
        np.testing.assert_allclose(a @ whole(out), b, atol=1e-7)

    spmd(3, run)


def calls_per_step(run):
    """Return the calls of each kind that one more step costs."""

    def count(steps):
        def body(comm):
            with comm.trace() as sent:
                run(comm, steps)
            return sent.by_op

        return spmd(3, body)[0]

    few, many = count(4), count(9)
    return {op: (n - few.get(op, (0,))[0]) / 5 for op, (n, *_) in many.items()}


@pytest.mark.parametrize("split", [0, 1])
@pytest.mark.parametrize(("name", "reductions"), [("cg", 1), ("minres", 2), ("gmres", 2), ("lanczos", 2)])
def test_messages_per_step(name, split, reductions):
    """One product and a fixed number of reductions, however many vectors there are."""
    a, b, _ = problem("definite", "float64", kappa=1e8)

    def run(comm, steps):
        A, B = spread_pair(a, b, split, 3, comm)
        if name == "lanczos":
            lanczos(A, steps)
        elif name == "gmres":
            gmres(A, B, rtol=1e-15, restart=steps, maxiter=1)
        else:
            SOLVERS[name](A, B, rtol=1e-15, maxiter=steps)

    product = "allgatherv" if split == 0 else "reduce_scatterv"
    assert calls_per_step(run) == {"allreduce": reductions, product: 1}


def test_words_do_not_grow_with_the_vectors():
    """With a product that sends nothing, only inner products travel: no vector is gathered."""
    n, m = 3001, 12

    def run(comm):
        d = ht.arange(1.0, n + 1.0, dtype="float64", split=0, comm=comm)
        with comm.trace() as sent:
            V, _ = lanczos(lambda x: d * x, m, d)
        assert V.lshape == (d.lshape[0], m)
        # the norm of v0, then j + 1 numbers twice for j = 1 .. m
        assert sent.bytes == 8 * (1 + sum(2 * (j + 1) for j in range(1, m + 1)))
        with comm.trace() as sent:
            gmres(lambda x: d * x, d, rtol=1e-14, restart=m, maxiter=1)
        assert sent.bytes == 8 * (2 + sum(2 * (j + 1) for j in range(1, m + 1)) + 1)
        with comm.trace() as sent:
            cg(lambda x: d * x, d, rtol=1e-14, maxiter=m)
        assert (sent.calls, sent.bytes) == (m + 1, 8 * (2 * (m + 1) + 1))

    spmd(3, run)


def test_replicated_systems_send_nothing():
    a, b, _ = problem("indefinite", "float64")

    def run(comm):
        A, B = ht.array(a, comm=comm), ht.array(b, comm=comm)
        with comm.trace() as sent:
            minres(A, B)
            gmres(A, B)
            lanczos(A, 5)
        assert sent.calls == 0

    spmd(3, run)


# -- Lanczos ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", [1, 2, 3, 5])
def test_lanczos(dtype, p):
    a, b, _ = problem("indefinite", dtype)
    eps = np.finfo(dtype).eps

    def run(comm):
        for split in (None, 0, 1):
            A, B = spread_pair(a, b, split, p, comm)
            for m in (1, 7, N):
                for v0 in (None, B):
                    V, T = lanczos(A, m, v0)
                    assert V.split == (None if split is None and v0 is None else 0)
                    assert T.split is None
                    assert T.dtype is ht.types.to_real(V.dtype)
                    v, t = whole(V), whole(T)
                    assert np.abs(v.conj().T @ v - np.eye(m)).max() <= 20 * eps
                    assert np.abs(v.conj().T @ a @ v - t).max() <= 5000 * eps
            np.testing.assert_allclose(np.linalg.eigvalsh(t), np.linalg.eigvalsh(a), atol=5000 * eps)

    spmd(p, run)


def test_orthogonality_after_300_steps():
    """A Laplacian with a spectrum that makes plain Lanczos lose everything; none of its eigenvalues is negative."""
    n, m = 700, 300
    rng = np.random.default_rng(0)
    weights = np.exp(-((rng.standard_normal((n, 1)) - rng.standard_normal(n)) ** 2))
    weights = (weights + weights.T) * (rng.random((n, n)) < 0.1)
    weights = np.triu(weights, 1)
    weights = weights + weights.T
    weights[:3] *= 1e4
    weights[:, :3] = weights[:3].T
    laplacian = np.diag(weights.sum(1)) - weights

    def run(comm):
        V, T = lanczos(ht.array(laplacian, split=0, comm=comm), m)
        v = whole(V)
        assert np.abs(v.T @ v - np.eye(m)).max() <= 1e-12
        return np.linalg.eigvalsh(whole(T)).min()

    assert min(spmd(2, run)) >= -1e-8


@pytest.mark.parametrize("p", [1, 3])
def test_lanczos_goes_on_where_the_space_is_invariant(p):
    a = np.diag([1.0, 1.0, 1.0, 5.0, 5.0, 9.0])

    def run(comm):
        A = ht.array(a, split=0, comm=comm)
        V, T = lanczos(A, 6, np.eye(6)[3])
        v, t = whole(V), whole(T)
        np.testing.assert_allclose(v.T @ v, np.eye(6), atol=1e-14)
        np.testing.assert_allclose(v @ t @ v.T, a, atol=1e-13)
        assert t[0, 1] == 0
        V, T = lanczos(A * 0.0, 3)
        np.testing.assert_array_equal(whole(T), np.zeros((3, 3)))
        np.testing.assert_allclose(whole(V).T @ whole(V), np.eye(3), atol=1e-14)

    spmd(p, run)


def test_lanczos_does_not_depend_on_ranks():
    a, _, _ = problem("definite", "float64")

    def run(comm, split):
        return whole(lanczos(ht.array(a, split=split, comm=comm), 5).V)

    first = spmd(1, run, 0)[0]
    for p in (2, 4):
        for split in (None, 0, 1):
            for other in spmd(p, run, split):
                np.testing.assert_allclose(other, first, rtol=0, atol=1e-11)


def test_lanczos_writes_into_given_arrays():
    a, b, _ = problem("definite", "float64")

    def run(comm):
        A, B = spread_pair(a, b, 0, 3, comm)
        V, T = ht.empty((N, 4), dtype="float64", comm=comm), ht.empty((4, 4), dtype="float64", comm=comm)
        found = lanczos(A, 4, B, V, T)
        assert found.V is V
        assert found.T is T
        np.testing.assert_allclose(whole(V).T @ a @ whole(V), whole(T), atol=1e-12)

    spmd(3, run)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda A, b: cg(A[:2], b), ValueError, r"cg: A must be a square matrix, got shape \(2, 4\)"),
        (lambda A, b: cg(A, b[:3]), ValueError, r"cg: A must be 3 x 3 as the vectors are, got \(4, 4\)"),
        (lambda A, b: cg(A, A), ValueError, r"cg: b must have shape \(n,\) or \(n, 1\), got \(4, 4\)"),
        (lambda A, b: cg(A, b, b[:2]), ValueError, r"cg: x0 must have the shape of b"),
        (lambda A, b: cg(A, b, rtol=-1), ValueError, "cg: rtol must be a number of at least 0, got -1"),
        (lambda A, b: minres(A, b, atol="x"), ValueError, "minres: atol must be a number"),
        (lambda A, b: gmres(A, b, maxiter=1.5), ValueError, "gmres: maxiter must be an integer"),
        (lambda A, b: gmres(A, b, restart=0), ValueError, "gmres: restart must be an integer of at least 1"),
        (lambda A, b: gmres(A, b, callback_type="y"), ValueError, "gmres: callback_type must be"),
        (lambda A, b: cg(A, b, M=A[:3, :3]), ValueError, "cg: M must be 4 x 4 as the vectors are"),
        (lambda A, b: cg(lambda x: x[:2], b), ValueError, r"cg: A must map to a DNDarray of shape \(4,\)"),
        (lambda A, b: cg(A, b, callback=3), TypeError, "cg: callback must be a function"),
        (lambda A, b: lanczos(A, 5), ValueError, r"lanczos: m must be an integer in \[1, 4\], got 5"),
        (lambda A, b: lanczos(A, 2, A), ValueError, "lanczos: v0 must be 1-D"),
        (lambda A, b: lanczos(lambda x: x, 2), ValueError, "lanczos: a start vector must be given"),
        (lambda A, b: lanczos(A, 2, b * 0.0), ValueError, "lanczos: v0 must be finite and not zero"),
    ],
)
def test_refusals(call, error, text):
    def run(comm):
        A = ht.eye(4, split=0, comm=comm)
        b = ht.ones(4, split=0, comm=comm)
        with pytest.raises(error, match=text):
            call(A, b)

    spmd(2, run)


@pytest.mark.mpi
def test_solvers_over_mpi(comm):
    for name, solver in SOLVERS.items():
        a, b, x = problem(KINDS[name], "float64")
        options = {"restart": N} if name == "gmres" else {}
        for split in (None, 0, 1):
            found, info = solver(ht.array(a, split=split), ht.array(b, split=0), rtol=1e-10, **options)
            assert info == 0
            np.testing.assert_allclose(whole(found), x, atol=1e-7)
    V, _ = lanczos(ht.array(a, split=0), 20)
    v = whole(V)
    np.testing.assert_allclose(v.T @ v, np.eye(20), atol=1e-13)
