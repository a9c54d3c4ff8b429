"""Orthogonality of QR at the precision of the data: every dtype, condition, shape, mode and number of ranks."""

import ht_core as ht
import numpy as np
import pytest
from ht_comm import spmd
from ht_core.layout import Layout
from ht_core.testing import spread, whole
from ht_linalg import QR, qr

DTYPES = ["float32", "float64", "complex64", "complex128"]
MODES = ["reduced", "complete", "r"]
P = range(1, 6)


def conditioned(shape, condition, dtype="float64", seed=0):
    """A matrix with singular values from 1 down to 1 / condition, evenly spaced in the logarithm."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    a = a if np.dtype(dtype).kind == "c" else a.real
    u, _, v = np.linalg.svd(a, full_matrices=False)
    return ((u * np.logspace(0, -np.log10(condition), min(shape))) @ v).astype(dtype)


def deficient(kind, dtype):
    """Matrices without full rank, for which no factor of the Gram matrix exists."""
    a = conditioned((41, 6), 10, dtype)
    if kind == "zero":
        a[:] = 0
    elif kind == "one row":
        a[1:] = 0
    elif kind == "equal columns":
        a[:, 3:] = a[:, :3]
    elif kind == "zero column first":
        a[:, 0] = 0
    elif kind == "rank one":
        a = a[:, :1] * a[:1].conj()
    elif kind == "all rows on one rank zero":
        a[10:20] = 0
    return a


def counts_of(n, p, even):
    """Even counts, or an empty first and last rank and unequal ones between."""
    if even or p < 3:
        return Layout.even((n,), 0, p).counts
    inner = [n // (p - 1)] * (p - 3)
    return (0, *inner, n - sum(inner), 0)


def factors(a, split, p, mode="reduced", even=True):
    def run(comm):
        found = qr(spread(a, split, counts_of(a.shape[split], p, even), comm), mode)
        return tuple(whole(f) for f in (found if isinstance(found, QR) else (found,)))

    return spmd(p, run)


def check(a, q, r, tolerance=8):
    """Errors in units of the rounding, which grow with the square root of the longer side here, not with kappa."""
    m, n = a.shape
    eps = tolerance * np.finfo(a.dtype).eps * max(m, n) ** 0.5
    assert q.dtype == r.dtype == a.dtype
    assert np.linalg.norm(q.conj().T @ q - np.eye(q.shape[1]), 2) <= eps
    assert np.linalg.norm(q @ r - a) <= eps * np.linalg.norm(a)
    assert (np.tril(r, -1) == 0).all()
    assert (r.diagonal().real >= 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", P)
def test_any_condition_number(p, dtype):
    for condition in (1, 1e2, 1e4, 1e7, 1e8, 1e10, 1e14):
        for shape in ((500, 24), (300, 1), (40, 40)):
            a = conditioned(shape, condition, dtype)
            for split in (0, 1):
                for q, r in factors(a, split, p, even=condition < 1e4)[:1]:
                    check(a, q, r)


@pytest.mark.parametrize(
    "kind", ["zero", "one row", "equal columns", "zero column first", "rank one", "all rows on one rank zero"]
)
@pytest.mark.parametrize("p", P)
def test_without_full_rank(p, kind):
    for dtype in DTYPES:
        a = deficient(kind, dtype)
        for x in (a, a.T.copy()):
            for split in (0, 1):
                for q, r in factors(x, split, p):
                    check(x, q, r)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("p", P)
def test_shapes_and_modes(p, mode):
    """Also more ranks than rows, than columns, and one of each."""
    for shape in [(1, 1), (2, 1), (1, 3), (3, 2), (2, 4), (9, 9), (50, 7), (7, 50), (200, 1), (4, 3)]:
        for dtype in ("float64", "complex64"):
            a = conditioned(shape, 1e3, dtype)
            for split in (0, 1):
                for even in (True, False):
                    found = factors(a, split, p, mode, even)
                    for other in found[1:]:
                        for x, y in zip(found[0], other):
                            np.testing.assert_array_equal(x, y)
                    k = shape[0] if mode == "complete" else min(shape)
                    r = found[0][-1]
                    assert r.shape == (k, shape[1])
                    if mode == "r":
                        expected = np.linalg.qr(a, "r")
                        np.testing.assert_allclose(
                            abs(r), abs(expected), rtol=0, atol=2e4 * np.finfo(dtype).eps
                        )
                    else:
                        check(a, *found[0])


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("split", [0, 1])
def test_not_much_taller_than_wide(p, split):
    """Householder's method where panels are wide, in the layouts of a tall matrix; the same answer at any p."""
    a = conditioned((330, 200), 1e14)
    expected = np.linalg.qr(conditioned((330, 200), 1e2))[1]

    def run(comm):
        x = spread(a, split, counts_of(a.shape[split], p, False), comm)
        q, r = qr(x)
        assert (q.split, r.split) == ((0, None) if split == 0 else (1, 1))
        assert q.layout.counts == x.layout.counts
        alone = qr(x, "r")
        assert alone.split == r.split
        np.testing.assert_allclose(whole(alone), whole(r), rtol=0, atol=1e-14)
        benign = qr(spread(conditioned((330, 200), 1e2), split, counts_of(a.shape[split], p, True), comm)).R
        np.testing.assert_allclose(abs(whole(benign)), abs(expected), rtol=0, atol=1e-12)
        return whole(q), whole(r)

    for q, r in spmd(p, run):
        check(a, q, r)


@pytest.mark.parametrize("condition", [1e2, 1e14])
@pytest.mark.parametrize("p", [2, 3, 4, 5, 8])
def test_messages_grow_with_the_logarithm_of_the_ranks(p, condition):
    """Two reductions and broadcasts; where these fail, a tree: a rank sends R once and parts of Q log2 p times."""
    d = 8
    a = conditioned((400, d), condition)
    steps = (p - 1).bit_length()

    def run(comm):
        x = spread(a, 0, counts_of(400, p, True), comm)
        with comm.trace() as sent:
            qr(x)
        collectives = [e for e in sent.events if e.op in ("reduce", "bcast")]
        others = [e for e in sent.events if e.op in ("send", "recv")]
        assert len(collectives) + len(others) == len(sent.events)
        if condition < 1e7:
            assert [e.op for e in collectives] == ["reduce", "bcast"] * 2
            assert not others
        else:
            assert len(collectives) <= 5
            assert 1 <= len(others) <= 2 * steps
        assert max(e.bytes for e in sent.events) <= 8 * (d * d + 1)

    spmd(p, run)


@pytest.mark.mpi
def test_orthogonality_over_mpi(comm):
    for shape, condition in (((500, 24), 1e14), ((300, 260), 1e14), ((500, 24), 1e3)):
        a = conditioned(shape, condition)
        for split in (0, 1):
            q, r = qr(ht.array(a, split=split))
            check(a, whole(q), whole(r))
