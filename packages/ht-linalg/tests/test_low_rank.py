"""Random and incremental SVD, and the estimate of condition numbers."""

import ht_core as ht
import numpy as np
import pytest
from ht_comm import spmd
from ht_core.testing import spread, whole
from ht_linalg import condest, isvd, rsvd

SHAPES = [(60, 25), (25, 60), (30, 30), (40, 1), (1, 40), (3, 2)]


def uneven(n, p):
    """Counts of n rows: most on the last rank, none on one."""
    counts = [n // (3 * p)] * p
    counts[p // 2] = 0
    counts[-1] += n - sum(counts)
    return tuple(counts)


def matrix(shape, dtype, decay=0.5, seed=0):
    rng = np.random.default_rng(seed)
    k = min(shape)
    u, v = (np.linalg.qr(rng.standard_normal((n, k)))[0] for n in shape)
    if np.dtype(dtype).kind == "c":
        u = u * np.exp(1j * rng.uniform(0, 6, k))
    return ((u * (3 * decay ** np.arange(k))) @ v.T).astype(dtype)


def place(a, split, p, comm):
    return spread(a, split, uneven(a.shape[split], p) if split is not None else (), comm)


def orthonormality(q):
    return np.abs(q.conj().T @ q - np.eye(q.shape[1])).max()


@pytest.mark.parametrize(
    ("p", "dtype"),
    [(1, "complex128"), (2, "float64"), (3, "float32"), (4, "float64"), (5, "complex64"), (5, "float64")],
)
def test_rsvd(p, dtype):
    eps = np.finfo(dtype).eps

    def run(comm):
        for shape in SHAPES:
            a = matrix(shape, dtype)
            exact = np.linalg.svd(a, compute_uv=False)
            for split in (None, 0, 1):
                A = place(a, split, p, comm)
                u, s, v = rsvd(A, 4, 6, power_iter=1, random_state=1)
                assert u.split == (0 if split == 0 else None)
                assert v.split == (0 if split == 1 else None)
                assert s.dtype is ht.types.to_real(u.dtype)
                u, s, v = whole(u), whole(s), whole(v)
                r = min(4, *shape)
                assert (u.shape, s.shape, v.shape) == ((shape[0], r), (r,), (shape[1], r))
                assert max(orthonormality(u), orthonormality(v)) <= 100 * eps
                np.testing.assert_allclose(s, exact[:r], rtol=1e-4)
                best = np.linalg.norm(exact[r:])
                assert np.linalg.norm(a - (u * s) @ v.conj().T) <= 1.001 * best + 100 * eps
                np.testing.assert_array_equal(whole(A), a)

    spmd(p, run)


def test_rsvd_power_iterations_sharpen_a_flat_spectrum():
    """The mean error stays below the bound of Halko, Martinsson and Tropp (theorem 10.5), and falls."""
    rng = np.random.default_rng(0)
    values = 1 / np.sqrt(np.arange(1, 81))
    u, v = (np.linalg.qr(rng.standard_normal((n, 80)))[0] for n in (200, 80))
    a, k, over = (u * values) @ v.T, 10, 5
    bound = np.sqrt(1 + k / (over - 1)) * np.linalg.norm(values[k:])

    def run(comm):
        A, errors = ht.array(a, split=0, comm=comm), []
        for power in (0, 1, 3):
            found = []
            for seed in range(5):
                x, s, y = (whole(f) for f in rsvd(A, k, over, power, random_state=seed))
                found.append(np.linalg.norm(a - (x * s) @ y.T))
            errors.append(np.mean(found))
        return errors

    none, one, three = spmd(2, run)[0]
    assert none <= bound
    assert np.linalg.norm(values[k:]) <= three < one < none
    assert three <= 1.01 * np.linalg.norm(values[k:])


def test_rsvd_does_not_depend_on_ranks():
    a = matrix((50, 40), "float64", 0.8)

    def run(comm, split):
        ht.random.seed(7)
        return [whole(f) for f in rsvd(ht.array(a, split=split, comm=comm), 5)]

    first = spmd(1, run, None)[0]
    for p in (2, 4):
        for split in (None, 0, 1):
            for other in spmd(p, run, split):
                for mine, theirs in zip(first, other):
                    np.testing.assert_allclose(theirs, mine, rtol=0, atol=1e-11)


@pytest.mark.parametrize("split", [0, 1])
def test_rsvd_words(split):
    """Nothing of the size of the matrix travels, and no factor of its long side."""
    m, n, r = (6000, 20, 3) if split == 0 else (20, 6000, 3)
    a = np.random.default_rng(0).standard_normal((m, n))

    def run(comm):
        A = ht.array(a, split=split, comm=comm)
        with comm.trace() as sent:
            rsvd(A, r, 2)
        return sent.bytes / 8

    assert max(spmd(3, run)) <= 12 * 20 * 5 + 12 * 5 * 5 + 100


@pytest.mark.parametrize(("p", "dtype"), [(1, "float64"), (3, "complex128"), (4, "float32")])
def test_isvd(p, dtype):
    """Piece by piece it becomes the SVD of the whole, for every layout of old factors and new columns."""
    a = matrix((30, 24), dtype, 0.7)
    eps = np.finfo(dtype).eps

    def run(comm):
        for split in (None, 0, 1):
            for split_u in (None, 0):
                u, s, v = np.linalg.svd(a[:, :4], full_matrices=False)
                U, S, V = (
                    place(u, split_u, p, comm),
                    ht.array(s, comm=comm),
                    place(v.conj().T, split_u, p, comm),
                )
                for low, high in ((4, 11), (11, 12), (12, 24)):
                    U, S, V = isvd(place(a[:, low:high].copy(), split, p, comm), U, S, V)
                    assert U.split == (None if split_u is split is None else 0)
                    assert S.split is None
                    assert V.split == split_u
                u, s, v = whole(U), whole(S), whole(V)
                assert v.shape == (24, 24)
                assert max(orthonormality(u), orthonormality(v)) <= 100 * eps
                np.testing.assert_allclose(s, np.linalg.svd(a, compute_uv=False), atol=50 * eps)
                np.testing.assert_allclose((u * s) @ v.conj().T, a, atol=100 * eps)

    spmd(p, run)


def test_isvd_truncated_and_dependent_columns():
    a = matrix((40, 30), "float64", 0.4)
    exact = np.linalg.svd(a, compute_uv=False)

    def run(comm):
        U, S, V = rsvd(ht.array(a[:, :10], split=0, comm=comm), 10)
        for low in (10, 20):
            U, S, V = isvd(ht.array(a[:, low : low + 10], split=0, comm=comm), U, S, V, maxrank=12)
        u, s, v = whole(U), whole(S), whole(V)
        assert (u.shape, v.shape) == ((40, 12), (30, 12))
        assert np.linalg.norm(a - (u * s) @ v.T) <= 2 * np.linalg.norm(exact[12:])
        # columns that are in the span already, and zeros: the basis must stay orthonormal
        more = np.concatenate([a[:, :3], np.zeros((40, 2))], axis=1)
        U, S, V = isvd(ht.array(more, split=0, comm=comm), U, S, V)
        u, s, v = whole(U), whole(S), whole(V)
        assert max(orthonormality(u), orthonormality(v)) <= 1e-13
        assert u.shape == (40, 17)
        found = isvd(ht.array(a[:, :2], split=0, comm=comm), U, S, maxrank=5)
        assert len(found) == 2
        assert found[0].shape == (40, 5)
        # more columns than rows
        U, S, V = isvd(ht.array(np.ones((3, 9)), split=1, comm=comm), np.eye(3)[:, :1], [2.0], [[1.0]])
        assert (U.shape, S.shape, V.shape) == ((3, 3), (3,), (10, 3))
        joined = np.concatenate([2 * np.eye(3)[:, :1], np.ones((3, 9))], axis=1)
        np.testing.assert_allclose((whole(U) * whole(S)) @ whole(V).T, joined, atol=1e-13)

    spmd(3, run)


@pytest.mark.parametrize(("p", "dtype"), [(1, "float32"), (3, "complex128"), (5, "float64")])
def test_condest(p, dtype):
    def run(comm):
        for n, kappa in ((1, 1), (4, 10.0), (30, 1e2), (30, 1e4 if dtype == "float32" else 1e12)):
            q, z = (np.linalg.qr(np.random.default_rng(i).standard_normal((n, n)))[0] for i in (1, 2))
            a = ((q * np.geomspace(1, 1 / kappa, n)) @ z).astype(dtype)
            if np.dtype(dtype).kind == "c":
                a = a * np.exp(1j * np.arange(n))
            for order in (1, np.inf):
                exact = np.linalg.cond(a.astype("complex128"), order)
                for split in (None, 0, 1):
                    A = place(a, split, p, comm)
                    found = condest(A, order)
                    assert found.shape == ()
                    assert exact / 3 <= found.item() <= 1.05 * exact
                    np.testing.assert_array_equal(whole(A), a)

    spmd(p, run)


def test_condest_of_singular_matrices():
    def run(comm):
        for split in (None, 0, 1):
            a = ht.array(np.diag([1.0, 0.0, 2.0]), split=split, comm=comm)
            assert condest(a).item() == np.inf
            assert np.isnan(condest(a * float("nan")).item())

    spmd(3, run)


def test_condest_is_nearly_always_exact():
    """As published: with two columns the estimate is the norm in most random cases."""
    ratios = []
    for seed in range(40):
        a = np.random.default_rng(seed).standard_normal((20, 20))
        ratios.append(condest(a).item() / np.linalg.cond(a, 1))
    assert max(ratios) <= 1 + 1e-9
    assert min(ratios) >= 0.3
    assert np.mean(np.array(ratios) > 0.999) >= 0.6


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda a: rsvd(a, 0), "rsvd: svd_rank must be an integer of at least 1, got 0"),
        (lambda a: rsvd(a, 1, -1), "rsvd: n_oversamples must be an integer of at least 0, got -1"),
        (lambda a: rsvd(a, 1, 1, 0.5), "rsvd: power_iter must be an integer of at least 0, got 0.5"),
        (lambda a: rsvd(a[:0], 1), "rsvd: A must not be empty"),
        (lambda a: isvd(a[:2], a, np.ones(3)), r"isvd: new_data must have 4 rows as U_old has"),
        (lambda a: isvd(a, a, np.ones(2)), "isvd: S_old and V_old must have 3 entries and columns"),
        (lambda a: isvd(a, a, np.ones(3), maxrank=0), "isvd: maxrank must be an integer of at least 1"),
        (lambda a: condest(a), "condest: a must be square|condest: A must be square"),
        (lambda a: condest(a[:3], 2), "condest: p must be 1 or inf, got 2"),
        (lambda a: condest(a[:3], t=0), "condest: t must be an integer of at least 1"),
        (lambda a: condest(a[:0, :0]), "condest: A must be a square matrix that is not empty"),
    ],
)
def test_refusals(call, text):
    def run(comm):
        a = ht.ones((4, 3), dtype="float64", split=0, comm=comm)
        with comm.trace() as sent, pytest.raises(ValueError, match=text):
            call(a)
        assert sent.calls == 0

    spmd(2, run)


@pytest.mark.mpi
def test_low_rank_over_mpi(comm):
    a = matrix((40, 30), "float64")
    for split in (None, 0, 1):
        A = ht.array(a, split=split)
        u, s, v = (whole(f) for f in rsvd(A, 6, power_iter=1))
        assert np.linalg.norm(a - (u * s) @ v.T) <= 1.01 * 3 * 0.5**6 / np.sqrt(0.75)
        U, S, V = isvd(A[:, 20:], *rsvd(A[:, :20], 20))
        np.testing.assert_allclose((whole(U) * whole(S)) @ whole(V).T, a, atol=1e-12)
        assert condest(A[:30]).item() <= 1.01 * np.linalg.cond(a[:30], 1)
