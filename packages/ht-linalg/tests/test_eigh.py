"""Eigenvalues and eigenvectors of Hermitian matrices of any layout: backward errors, orthogonality, messages."""

import sys

import ht_core as ht
import ht_linalg as la
import numpy as np
import pytest
from ht_comm import spmd
from ht_core.testing import layouts, spread, whole
from hypothesis import given, settings
from hypothesis import strategies as st

FEW = settings(max_examples=12, deadline=None, derandomize=True)
DTYPES = ["float32", "float64", "complex64", "complex128"]


def matrix(dtype, shape, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    return (x + 1j * rng.standard_normal(shape) if np.dtype(dtype).kind == "c" else x).astype(dtype)


def hermitian(a):
    return (a + np.swapaxes(a.conj(), -1, -2)) / 2


def turned(dtype, values):
    """Return the Hermitian matrix of the given eigenvalues in a random basis."""
    q = np.linalg.qr(matrix("complex128" if np.dtype(dtype).kind == "c" else "float64", (len(values),) * 2))[
        0
    ]
    return hermitian((q * values) @ q.conj().T).astype(dtype)


#: Spectra that are hard on one method or another, of n eigenvalues.
SPECTRA = {
    "even": lambda n: np.linspace(-1, 1, n),
    "condition 1e14": lambda n: np.logspace(0, -14, n),
    "two clusters": lambda n: np.where(np.arange(n) < n // 3, 1.0, -1.0),
    "near clusters": lambda n: 1 + 1e-9 * (np.arange(n) % 3),
    "one outlier": lambda n: np.r_[1e8, np.ones(n - 1)],
    "projection": lambda n: np.r_[np.ones(2), np.zeros(n - 2)],
    "zero": np.zeros,
    "identity": np.ones,
}


def check(a, w, v):
    """Hold a decomposition against the bounds of LAPACK's, with what the norm of the whole matrix allows."""
    n, eps = a.shape[-1], np.finfo(a.dtype).eps
    norm = np.linalg.norm(a)
    assert (w.dtype, v.dtype) == (a.real.dtype, a.dtype)
    assert (np.diff(w) >= 0).all()
    assert np.linalg.norm(a @ v - v * w) <= 40 * eps * norm
    assert np.linalg.norm(v.conj().T @ v - np.eye(n)) <= 10 * n * eps
    assert np.abs(w - np.linalg.eigvalsh(a)).max(initial=0) <= 20 * eps * norm


@pytest.fixture
def divided(monkeypatch):
    """Divide from 8 rows on, as it is done with large matrices."""
    module = sys.modules["ht_linalg.eigh"]
    monkeypatch.setattr(module, "SMALL_EIGH", 8)
    monkeypatch.setattr(module, "WHOLE_ON_ONE_RANK", 8)


@pytest.mark.parametrize("dtype", DTYPES)
@FEW
@given(data=st.data())
def test_eigh(dtype, data):
    p, n = data.draw(st.integers(1, 5)), data.draw(st.sampled_from([0, 1, 2, 3, 7, 12]))
    a, place = hermitian(matrix(dtype, (n, n))), data.draw(layouts((n, n), p))
    UPLO = data.draw(st.sampled_from("LU"))
    half = a.copy()
    half[np.triu_indices(n, 1) if UPLO == "L" else np.tril_indices(n, -1)] = np.nan  # never read

    def run(comm):
        x = spread(half, *place, comm)
        w, v = la.eigh(x, UPLO)
        values = la.eigvalsh(x, UPLO)
        assert w.split is None
        assert v.layout is x.layout
        np.testing.assert_array_equal(whole(x), half)
        return whole(w), whole(v), whole(values)

    for w, v, values in spmd(p, run):
        check(a, w, v)
        np.testing.assert_allclose(values, w, rtol=0, atol=20 * np.finfo(dtype).eps * np.linalg.norm(a))


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize(
    ("dtype", "p", "split"), [("float64", 2, 0), ("float32", 3, 1), ("complex128", 3, 0)]
)
def test_division_of_hard_spectra(divided, spectrum, dtype, p, split):
    a = turned(dtype, SPECTRA[spectrum](20))

    def run(comm):
        x = ht.array(a, split=split)
        w, v = la.eigh(x)
        assert v.layout is x.layout
        return whole(w), whole(v), whole(la.eigvalsh(x))

    for w, v, values in spmd(p, run):
        check(a, w, v)
        np.testing.assert_allclose(values, w, rtol=0, atol=40 * np.finfo(dtype).eps * np.linalg.norm(a))


@pytest.mark.parametrize(
    "a",
    [
        np.diag(np.repeat([2.0, 1.0, 3.0, 2.0], 4)),  # the median of the diagonal is an eigenvalue
        2 * np.eye(16) - np.eye(16, k=1) - np.eye(16, k=-1),  # a constant diagonal
        -np.ones((16, 16)),  # nothing just above the mean
        np.ones((16, 16)) - np.eye(16),
    ],
    ids=["diagonal", "laplacian", "negative", "graph"],
)
def test_division_finds_a_point_between_eigenvalues(divided, a):
    def run(comm):
        w, v = la.eigh(spread(a, 0, (9, 0, 7), comm))
        return whole(w), whole(v)

    for w, v in spmd(3, run):
        check(a, w, v)


def test_division_reads_one_triangle(divided):
    a = hermitian(matrix("complex128", (13, 13)))
    for UPLO in "LU":
        half = a + 1j * np.eye(13)  # imaginary parts of the diagonal do not count
        half[np.triu_indices(13, 1) if UPLO == "L" else np.tril_indices(13, -1)] = 7

        def run(comm, half=half, UPLO=UPLO):
            w, v = la.eigh(ht.array(half, split=1), UPLO)
            return whole(w), whole(v)

        check(a, *spmd(2, run)[0])


@FEW
@given(data=st.data())
def test_stacks(data):
    p, dtype = data.draw(st.integers(1, 4)), data.draw(st.sampled_from(["float64", "complex64", "int64"]))
    a = matrix(
        "float64" if dtype == "int64" else dtype, data.draw(st.sampled_from([(5, 3, 3), (2, 3, 4, 4)]))
    )
    a = hermitian((2 * a).round() if dtype == "int64" else a).astype(dtype)
    place = data.draw(layouts(a.shape, p))

    def run(comm):
        w, v = la.eigh(spread(a, *place, comm))
        return whole(w), whole(v), whole(la.eigvalsh(spread(a, *place, comm)))

    exact = a.astype("float64") if dtype == "int64" else a
    exact = np.tril(exact) + np.swapaxes(np.tril(exact, -1).conj(), -1, -2)
    for w, v, values in spmd(p, run):
        np.testing.assert_allclose(values, w, rtol=0, atol=1e-5 if dtype == "complex64" else 1e-13)
        for at in np.ndindex(a.shape[:-2]):
            check(exact[at], w[at], v[at])


def test_signs_do_not_depend_on_ranks_or_split():
    a = turned("complex128", np.arange(9.0))
    (alone,) = spmd(1, lambda comm: whole(la.eigh(ht.array(a)).eigenvectors))
    for p, split in ((2, 0), (3, 1), (4, None)):
        for v in spmd(p, lambda comm, split=split: whole(la.eigh(ht.array(a, split=split)).eigenvectors)):
            np.testing.assert_allclose(v, alone, rtol=0, atol=1e-13)


def test_messages():
    n = 12
    a = hermitian(matrix("float64", (n, n)))
    stack = np.stack([a] * 4)

    def run(comm):
        x, many, same = ht.array(a, split=0), ht.array(stack, split=0), ht.array(a)
        with comm.trace() as none:
            la.eigh(same), la.eigvalsh(same), la.eigh(many), la.eigvalsh(many)
        with comm.trace() as both:
            la.eigh(x)
        with comm.trace() as values:
            la.eigvalsh(x)
        return none.calls, both.bytes, values.bytes

    first, second = spmd(2, run)
    assert first[0] == second[0] == 0
    # Half of the matrix goes to rank 0, half of the vectors come back, and both add up the eigenvalues
    words = n * n // 2
    assert first[1:] == (8 * (words + n), 8 * n)
    assert second[1:] == (8 * (words + n), 8 * (words + n))


def test_no_rank_holds_a_divided_matrix(divided, monkeypatch):
    """Redistributions of a divided matrix never bring more than a leaf or a share to a rank."""
    n, p, most = 32, 4, []
    module = sys.modules["ht_linalg.columns"]
    whole_move = module.redistribute

    def watched(local, source, target, comm, *args):
        most.append(max(int(np.prod(target.lshape(r))) for r in range(comm.size)))
        return whole_move(local, source, target, comm, *args)

    monkeypatch.setattr(module, "redistribute", watched)
    a = turned("float64", np.linspace(0, 1, n))
    spmd(p, lambda comm: la.eigh(ht.array(a, split=0)))
    assert max(most) <= n * n // p


def test_wrong_arguments_are_refused_before_any_message():
    def run(comm):
        x, row, square = ht.ones((4, 3), split=0), ht.ones(3, split=0), ht.ones((4, 4), split=0)
        with comm.trace() as sent:
            for call, text in (
                (lambda: la.eigh(x), "eigh: a must be square"),
                (lambda: la.eigvalsh(row), "eigvalsh: a must have at least two axes"),
                (lambda: la.eigh(square, "X"), 'eigh: UPLO must be "L" or "U"'),
                (lambda: la.reigh(ht.eye(3), 4), r"n_eigenvalues must be in \[1, 3\]"),
                (lambda: la.reigh(ht.eye(3), 1, -1), "n_oversamples must be at least 0"),
            ):
                with pytest.raises(ValueError, match=text):
                    call()
        assert sent.calls == 0

    spmd(2, run)


@pytest.mark.parametrize("split", [None, 0, 1])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_refused_everywhere(split, bad):
    a = np.eye(9)
    a[7, 1] = bad

    def run(comm):
        for call in (la.eigh, la.eigvalsh):
            with pytest.raises(la.LinAlgError, match="a must be finite"):
                call(ht.array(a, split=split))
        w, v = la.eigh(ht.array(np.stack([np.eye(9), a, np.eye(9)]), split=0))
        return whole(w), whole(v)

    for w, v in spmd(3, run):
        assert np.isnan(w).all(-1).tolist() == [False, True, False] == np.isnan(v).all((1, 2)).tolist()


def test_division_refuses_what_is_not_finite(divided):
    def run(comm):
        with pytest.raises(la.LinAlgError, match="a must be finite"):
            la.eigh(ht.array(np.full((12, 12), np.nan), split=0))

    spmd(2, run)


@pytest.mark.parametrize("split", [None, 0, 1])
@pytest.mark.parametrize("dtype", ["float64", "complex64"])
def test_reigh(split, dtype):
    values = np.r_[-9.0, 7, 5, -3, np.zeros(26)]
    a, eps = turned(dtype, values), np.finfo(dtype).eps

    def run(comm):
        w, v = la.reigh(ht.array(a, split=split), 4, 4, power_iter=1, random_state=1)
        assert (w.split, v.split) == (None, None if split is None else 0)
        return whole(w), whole(v)

    found = [*spmd(1, run), *spmd(3, run)]
    for w, v in found:
        np.testing.assert_allclose(w, [-9, 7, 5, -3], rtol=0, atol=100 * eps)
        assert np.linalg.norm(v.conj().T @ v - np.eye(4)) < 100 * eps
        assert np.linalg.norm(a @ v - v * w) < 1000 * eps
        np.testing.assert_allclose(np.abs(v), np.abs(found[0][1]), rtol=0, atol=1000 * eps)


def test_reigh_without_low_rank_is_near_the_best():
    values = 0.9 ** np.arange(40)
    a = turned("float64", values)
    w, _ = spmd(2, lambda comm: [whole(x) for x in la.reigh(ht.array(a, split=0), 5, 10, 2, random_state=0)])[
        0
    ]
    np.testing.assert_allclose(w, values[:5], rtol=1e-2)


@pytest.mark.mpi
def test_eigh_over_mpi(comm):
    a = turned("float64", np.linspace(-1, 1, 120))
    for split in (0, 1):
        w, v = la.eigh(ht.array(a, split=split))
        check(a, whole(w), whole(v))


def test_the_plan_of_leaves():
    plan = sys.modules["ht_linalg.eigh"].plan_leaf
    assert [plan(n, 2) for n in (100, 4096, 10_000)] == [1024, 4096, 4096]
    assert [plan(2000, p) for p in (2, 16, 24, 64)] == [4096, 2000, 1333, 1024]
    assert [plan(100_000, p) for p in (4, 1024, 4096)] == [4096, 1562, 1024]
