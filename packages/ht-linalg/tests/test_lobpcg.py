"""LOBPCG against dense eigenvalues: ends of spectra, pencils, constraints, preconditioners, layouts, messages."""

import warnings

import ht_core as ht
import numpy as np
import pytest
import scipy.linalg
from ht_comm import spmd
from ht_core.testing import spread, whole
from ht_linalg import LinAlgError, lobpcg
from ht_linalg.operators import as_operator

#: Iterations that are cut short say so; filters of warnings are shared by all threads, and set here once.
pytestmark = pytest.mark.filterwarnings("ignore:lobpcg. not converged")
COUNTS = {1: (60,), 2: (60, 0), 3: (8, 0, 52), 4: (7, 33, 0, 20), 5: (0, 1, 40, 19, 0)}
N, K = 60, 4


def hermitian(dtype, seed=0, low=1.0, high=40.0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((N, N)) + (1j * rng.standard_normal((N, N)) if np.dtype(dtype).kind == "c" else 0)
    q = np.linalg.qr(x)[0]
    a = (q * np.geomspace(low, high, N)) @ q.conj().T
    return ((a + a.conj().T) / 2).astype(dtype)


def start(dtype, k=K, seed=1):
    return np.random.default_rng(seed).standard_normal((N, k)).astype(dtype)


def place(a, split, p, comm):
    return spread(a, split, COUNTS[p], comm)


@pytest.mark.parametrize(
    ("p", "dtype"),
    [(1, "float32"), (2, "complex128"), (3, "float32"), (3, "complex64"), (4, "float64"), (5, "complex128")],
)
def test_both_ends(p, dtype):
    a, x0 = hermitian(dtype), start(dtype)
    exact = np.linalg.eigvalsh(a)
    tol = 1e-3 if np.finfo(dtype).eps > 1e-10 else 1e-9

    def run(comm):
        for split in (None, 0, 1):
            for largest in (True, False):
                A, X = place(a, split, p, comm), place(x0, 0, p, comm)
                values, v = lobpcg(A, X, tol=tol, maxiter=200, largest=largest)
                assert v.layout is X.layout
                assert values.dtype is ht.types.to_real(v.dtype)
                s, u = whole(values), whole(v)
                expected = exact[::-1][:K] if largest else exact[:K]
                np.testing.assert_allclose(s, expected, rtol=0, atol=50 * np.finfo(dtype).eps * 40)
                assert np.abs(u.conj().T @ u - np.eye(K)).max() <= 30 * np.finfo(dtype).eps
                assert np.linalg.norm(a @ u - u * s, axis=0).max() <= 1.5 * tol
                np.testing.assert_array_equal(whole(X), x0)

    spmd(p, run)


@pytest.mark.parametrize(("split", "dtype"), [(None, "float64"), (0, "complex128"), (1, "float64")])
def test_pencil_and_constraints(split, dtype):
    a, b, x0 = hermitian(dtype), hermitian(dtype, 3, 1.0, 9.0), start(dtype, 3)
    exact, vectors = scipy.linalg.eigh(a, b)

    def run(comm):
        A, B, X = place(a, split, 3, comm), place(b, split, 3, comm), place(x0, 0, 3, comm)
        values, v = lobpcg(A, X, B, tol=1e-8, maxiter=300, largest=False)
        u = whole(v)
        np.testing.assert_allclose(whole(values), exact[:3], rtol=1e-9)
        np.testing.assert_allclose(u.conj().T @ b @ u, np.eye(3), atol=1e-12)
        y = vectors[:, :2] @ np.array([[1.0, 2.0], [0.5, -1.0]])  # any basis of the space to avoid
        values, v = lobpcg(A, X, B, Y=place(y, 0, 3, comm), tol=1e-8, maxiter=300, largest=False)
        np.testing.assert_allclose(whole(values), exact[2:5], rtol=1e-9)
        np.testing.assert_allclose(y.conj().T @ b @ whole(v), 0, atol=1e-10)

    spmd(3, run)


def laplacian(x):
    """The Laplacian of a path with free ends, on blocks."""
    up, down = ht.concatenate([x[:1], x[:-1]]), ht.concatenate([x[1:], x[-1:]])
    return 2 * x - up - down


def test_functions_and_preconditioner():
    n = 80
    dense = laplacian(ht.eye(n, dtype="float64")).numpy()
    inverse = np.linalg.inv(dense + 1e-3 * np.eye(n))
    exact = np.linalg.eigvalsh(dense)[:3]
    x0 = np.random.default_rng(0).standard_normal((n, 3))

    def run(comm):
        X = ht.array(x0, split=0, comm=comm)
        M = ht.array(inverse, split=1, comm=comm)
        lengths = []
        for m in (None, M, lambda r: M @ r):
            values, _, norms = lobpcg(
                laplacian, X, M=m, tol=1e-7, maxiter=150, largest=False, retResidualNormsHistory=True
            )
            lengths.append(len(norms))
            if m is not None:
                np.testing.assert_allclose(whole(values), exact, atol=1e-12)
                assert min(whole(values)) >= -1e-13
        assert lengths[1] == lengths[2]
        assert lengths[1] < lengths[0] / 3

    spmd(3, run)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_tolerances_below_rounding_do_no_harm(scale):
    """The basis selection holds where residuals are pure rounding, for many steps."""
    a, x0 = hermitian("float64") * scale, start("float64")
    exact = np.linalg.eigvalsh(a)[:K]

    def run(comm):
        A, X = ht.array(a, split=0, comm=comm), ht.array(x0, split=0, comm=comm)
        values, v = lobpcg(A, X, tol=0.0, maxiter=250, largest=False)
        u = whole(v)
        np.testing.assert_allclose(whole(values), exact, rtol=1e-12)
        assert np.abs(u.T @ u - np.eye(K)).max() <= 1e-13

    spmd(2, run)


def test_clustered_and_multiple_eigenvalues():
    a = np.diag(np.repeat([1.0, 1.0 + 1e-9, 2.0, 5.0], [3, 2, 5, N - 10]))

    def run(comm):
        X = ht.array(start("float64", 5), split=0, comm=comm)
        values, v = lobpcg(ht.array(a, split=0, comm=comm), X, tol=1e-10, maxiter=100, largest=False)
        np.testing.assert_allclose(whole(values), np.diag(a)[:5], rtol=1e-12)
        np.testing.assert_allclose(whole(v).T @ whole(v), np.eye(5), atol=1e-13)

    spmd(3, run)


@pytest.mark.parametrize(("n", "k"), [(1, 1), (4, 1), (4, 3), (5, 5), (7, 3)])
def test_small_problems(n, k):
    """The basis would have more columns than rows; fewer rows than ranks."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((n, n))
    a = a + a.T
    x0 = rng.standard_normal((n, k))

    def run(comm):
        for split in (None, 0, 1):
            A, X = ht.array(a, split=split, comm=comm), ht.array(x0, split=0, comm=comm)
            values, v = lobpcg(A, X, tol=1e-9, maxiter=60)
            np.testing.assert_allclose(whole(values), np.linalg.eigvalsh(a)[::-1][:k], atol=1e-8)
            np.testing.assert_allclose(whole(v).T @ whole(v), np.eye(k), atol=1e-12)

    spmd(5, run)


def test_histories_and_warning():
    a, x0 = hermitian("float64"), start("float64")

    def run(comm):
        A, X = ht.array(a, split=0, comm=comm), ht.array(x0, split=0, comm=comm)
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            found = lobpcg(A, X, tol=1e-12, maxiter=3, retLambdaHistory=True, retResidualNormsHistory=True)
        _, _, lambdas, norms = found
        assert len(lambdas) == len(norms) == 4
        best = [whole(x)[0] for x in lambdas]
        assert best == sorted(best)
        np.testing.assert_array_equal(whole(lambdas[-1]), whole(found[0]))
        return [str(w.message) for w in seen]

    (messages,) = spmd(1, run)
    assert len(messages) == 1
    assert messages[0].startswith("lobpcg: not converged in 3 iterations")


@pytest.mark.parametrize("split", [0, 1])
def test_messages_per_iteration(split):
    """A constant number of collectives, in which the size of the problem does not appear."""
    a, x0 = hermitian("float64"), start("float64")

    def count(steps):
        def run(comm):
            A, X = place(a, split, 3, comm), place(x0, 0, 3, comm)
            with comm.trace() as sent:
                lobpcg(A, X, tol=0.0, maxiter=steps)
            return sent.by_op

        return spmd(3, run)[0]

    few, many = count(4), count(9)
    calls = {op: (n - few.get(op, (0,))[0]) / 5 for op, (n, *_) in many.items()}
    product = "allgatherv" if split == 0 else "reduce_scatterv"
    expected = {"allreduce": 2, "reduce": 2, "bcast": 2, product: 1}
    assert {op: n for op, n in calls.items() if n} == expected


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda A, X: lobpcg(A, X[:, 0]), ValueError, r"lobpcg: X must be \(n, k\) with 1 <= k <= n"),
        (lambda A, X: lobpcg(A[:3, :3], X), ValueError, "lobpcg: A must be 6 x 6 as the vectors are"),
        (lambda A, X: lobpcg(A, X, tol=-1), ValueError, "lobpcg: tol must be a number of at least 0"),
        (lambda A, X: lobpcg(A, X, maxiter=1.5), ValueError, "lobpcg: maxiter must be an integer"),
        (lambda A, X: lobpcg(A, X, Y=A), ValueError, "lobpcg: Y must be .n, c. with n = 6 and c <= 4"),
        (lambda A, X: lobpcg(A, X, Y=X[:, :1] * np.ones(2)), LinAlgError, "Y must have linearly independent"),
        (lambda A, X: lobpcg(A, X * 0), LinAlgError, "small dense problem|linearly independent|finite"),
        (lambda A, X: lobpcg(A * float("nan"), X), LinAlgError, "small dense problem|finite"),
        (lambda A, X: lobpcg(A, X, B=-A), LinAlgError, "X must have linearly independent|definite"),
    ],
)
def test_refusals(call, error, text):
    def run(comm):
        A, X = ht.eye(6, dtype="float64", split=0, comm=comm), ht.eye(6, dtype="float64", split=0, comm=comm)
        with pytest.raises(error, match=text):
            call(A, X[:, :2])
        return True

    assert spmd(3, run) == [True] * 3


def test_operator_of_a_block_is_that_of_its_columns():
    """`matvec` alone serves for blocks, `matmat` alone for vectors."""
    a = hermitian("float64")

    class Vectors:
        shape, dtype = (N, N), ht.float64

        def matvec(self, x):
            return self.dense @ x

    class Blocks:
        shape, dtype = (N, N), ht.float64

        def matmat(self, x):
            return self.dense @ x

    def run(comm):
        X = place(start("float64"), 0, 3, comm)
        for form in (Vectors(), Blocks()):
            form.dense = place(a, 0, 3, comm)
            space = as_operator("test", "A", form, near=X)
            expected = a @ whole(X)
            np.testing.assert_allclose(whole(space.array(space.apply(X.larray))), expected, atol=1e-12)
            one = X.larray[:, 0].contiguous()
            np.testing.assert_allclose(whole(space.array(space.apply(one))), expected[:, 0], atol=1e-12)

    spmd(3, run)


@pytest.mark.mpi
def test_lobpcg_over_mpi(comm):
    a, x0 = hermitian("float64"), start("float64")
    for split in (None, 0, 1):
        values, v = lobpcg(ht.array(a, split=split), ht.array(x0, split=0), tol=1e-8, maxiter=200)
        np.testing.assert_allclose(whole(values), np.linalg.eigvalsh(a)[::-1][:K], rtol=1e-9)
        np.testing.assert_allclose(whole(v).T @ whole(v), np.eye(K), atol=1e-13)
