"""QR decompositions: residual, orthogonality, uniqueness and messages, for benign and hostile matrices."""

import ht_core as ht
import numpy as np
import pytest
from ht_comm import spmd
from ht_core.layout import Layout
from ht_core.testing import spread, whole
from ht_linalg import QR, qr
from ht_linalg.cholesky_qr import cholesky_qr2

TALL = [(40, 5), (7, 7), (5, 3), (3, 1), (1, 1), (600, 33)]
WIDE = [(5, 12), (1, 4), (33, 200)]
DTYPES = ["float32", "float64", "complex64", "complex128"]


def matrix(shape, dtype="float64", condition=None, seed=0):
    """A random matrix; with a condition number, its singular values are spaced evenly in the logarithm."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        a = a + 1j * rng.standard_normal(shape)
    if condition is not None:
        u, _, v = np.linalg.svd(a, full_matrices=False)
        a = (u * np.logspace(0, -np.log10(condition), min(shape))) @ v
    return a.astype(dtype)


def factors(a, split, p, mode="reduced"):
    def run(comm):
        x = spread(a, split, Layout.even(a.shape, split, p).counts, comm)
        found = qr(x, mode)
        np.testing.assert_array_equal(whole(x), a)
        return tuple((whole(f), f.split) for f in (found if isinstance(found, QR) else (found,)))

    return spmd(p, run)


def check(a, q, r, tolerance=50):
    eps = np.finfo(a.dtype).eps * max(a.shape[-2:]) ** 0.5 * tolerance
    k = q.shape[-1]
    assert q.dtype == r.dtype == a.dtype
    assert np.abs(np.conj(np.swapaxes(q, -1, -2)) @ q - np.eye(k)).max(initial=0) <= eps
    assert np.linalg.norm(q @ r - a) <= eps * max(np.linalg.norm(a), 1e-300)
    assert (np.tril(r, -1) == 0).all()
    diagonal = np.diagonal(r, axis1=-2, axis2=-1)
    assert (diagonal.real >= 0).all()
    assert np.abs(diagonal.imag).max(initial=0) <= eps * max(np.abs(r).max(initial=0), 1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("split", [None, 0, 1])
@pytest.mark.parametrize("p", [1, 2, 3, 4])
def test_tall(p, split, dtype):
    for shape in TALL:
        a = matrix(shape, dtype)
        expected = np.linalg.qr(a.astype("complex128" if "complex" in dtype else "float64"))[1]
        phase = np.diagonal(expected) / np.abs(np.diagonal(expected))
        for (q, split_q), (r, split_r) in factors(a, split, p):
            assert (split_q, split_r) == {None: (None, None), 0: (0, None), 1: (1, 1)}[split]
            check(a, q, r)
            tolerance = 1e3 * np.finfo(dtype).eps * np.linalg.cond(a)
            np.testing.assert_allclose(
                r, expected / phase[:, None], rtol=0, atol=tolerance * np.abs(expected).max()
            )


@pytest.mark.parametrize("dtype", ["float64", "complex64"])
@pytest.mark.parametrize("split", [None, 0, 1])
@pytest.mark.parametrize("p", [1, 2, 3, 4])
def test_wide(p, split, dtype):
    for shape in WIDE:
        a = matrix(shape, dtype)
        for (q, split_q), (r, split_r) in factors(a, split, p):
            assert (split_q, split_r) == {None: (None, None), 0: (0, 1), 1: (1, 1)}[split]
            check(a, q, r)


@pytest.mark.parametrize("split", [None, 0, 1])
@pytest.mark.parametrize("p", [1, 2, 3])
def test_complete(p, split):
    for shape in [(9, 4), (4, 9), (5, 5), (2, 1)]:
        a = matrix(shape)
        for (q, _), (r, _) in factors(a, split, p, "complete"):
            assert (q.shape, r.shape) == ((shape[0], shape[0]), shape)
            check(a, q, r)


@pytest.mark.parametrize("split", [None, 0, 1])
def test_r_only(split):
    for shape in [(50, 6), (6, 9)]:
        a = matrix(shape)
        both = factors(a, split, 3)[0][1][0]
        for ((r, _),) in factors(a, split, 3, "r"):
            np.testing.assert_allclose(r, both, rtol=0, atol=1e-13)


@pytest.mark.parametrize("condition", [1e3, 1e6, 1e9, 1e12, 1e14])
@pytest.mark.parametrize("p", [1, 2, 3, 4])
def test_ill_conditioned(p, condition):
    a = matrix((400, 20), condition=condition)
    for (q, _), (r, _) in factors(a, 0, p):
        check(a, q, r, 5)
    single = a.astype("float32")
    for (q, _), (r, _) in factors(single, 0, p):
        check(single, q, r, 5)


@pytest.mark.parametrize("p", [1, 3, 4])
@pytest.mark.parametrize("split", [0, 1])
def test_rank_deficient_and_badly_scaled(p, split):
    rng = np.random.default_rng(1)
    low = rng.standard_normal((300, 4)) @ rng.standard_normal((4, 9))
    zero_column = matrix((60, 5))
    zero_column[:, 2] = 0
    for a in (low, zero_column, np.zeros((8, 3)), matrix((50, 4)) * np.array([1e-200, 1, 1e150, 1e200])):
        for (q, _), (r, _) in factors(a, split, p):
            with np.errstate(over="ignore"):
                scale = np.abs(a).max() or 1
            check(a / scale, q, r / scale, 5)


def test_uneven_and_empty_shards():
    a = matrix((30, 4))

    def run(comm):
        q, r = qr(spread(a, 0, (0, 1, 29, 0), comm))
        assert q.layout.counts == (0, 1, 29, 0)
        check(a, whole(q), whole(r))
        b = matrix((30, 4), condition=1e12)
        q, r = qr(spread(b, 0, (0, 1, 29, 0), comm))
        check(b, whole(q), whole(r))
        q, r = qr(spread(a.T.copy(), 1, (0, 1, 29, 0), comm))
        check(a.T, whole(q), whole(r))

    spmd(4, run)


@pytest.mark.parametrize("mode", ["reduced", "complete", "r"])
@pytest.mark.parametrize("shape", [(5, 0), (0, 3), (0, 0)])
def test_empty_matrices(shape, mode):
    expected = np.linalg.qr(np.zeros(shape), mode)
    expected = [f.shape for f in (expected if mode != "r" else (expected,))]
    for split in (None, 0, 1):
        for p in (1, 3):
            for found in factors(np.zeros(shape), split, p, mode):
                assert [f.shape for f, _ in found] == expected


def test_answer_does_not_depend_on_ranks():
    a = matrix((1000, 12), condition=1e5)
    reference = factors(a, 0, 1)[0]
    for p in (2, 3, 4):
        for x, y in zip(factors(a, 0, p)[0], reference):
            np.testing.assert_allclose(x[0], y[0], rtol=0, atol=1e-9)


def test_integers_and_half_floats():
    def run(comm):
        x = ht.array(np.arange(20).reshape(10, 2), split=0)
        q, r = qr(x)
        assert q.dtype is r.dtype is ht.float64
        check(np.arange(20.0).reshape(10, 2), whole(q), whole(r))
        assert qr(x.astype("float16")).Q.dtype is ht.float32

    spmd(2, run)


@pytest.mark.parametrize("split", [None, 0, 1, 2])
def test_stacks(split):
    a = matrix((5, 6, 3))
    for (q, _), (r, _) in factors(a, split, 3):
        check(a, q, r)


def test_messages_of_a_tall_matrix():
    a, d = matrix((200, 6)), 6

    def run(comm):
        x = spread(a, 0, (50, 50, 100, 0), comm)
        with comm.trace() as sent:
            qr(x)
        assert [event.op for event in sent.events] == ["reduce", "bcast", "reduce", "bcast"]
        assert sent.bytes <= 8 * 2 * (2 * d * d + 1)

    spmd(4, run)


def test_breakdown_is_detected():
    def run(comm):
        a = matrix((400, 20), condition=1e12)
        x = spread(a, 0, Layout.even(a.shape, 0, comm.size).counts, comm)
        assert cholesky_qr2(x.larray, comm) is None
        b = matrix((400, 20), condition=1e5)
        x = spread(b, 0, Layout.even(b.shape, 0, comm.size).counts, comm)
        assert cholesky_qr2(x.larray, comm) is not None

    spmd(3, run)


def test_nan_gives_nan_as_in_numpy():
    a = matrix((20, 3))
    a[7, 1] = np.nan
    for (q, _), (r, _) in factors(a, 0, 3):
        assert np.isnan(r).any()
        assert np.isnan(q).any()


def test_refusals():
    def run(comm):
        with comm.trace() as sent:
            with pytest.raises(ht.LayoutError, match="qr: a must have at least two axes"):
                qr(ht.zeros(5, split=0))
            with pytest.raises(ValueError, match='qr: mode must be "reduced", "complete" or "r", got'):
                qr(ht.zeros((5, 2), split=0), "full")
        assert sent.calls == 0

    spmd(2, run)


@pytest.mark.mpi
def test_qr_over_mpi(comm):
    for condition in (1e2, 1e12):
        a = matrix((500, 11), condition=condition)
        for split in (None, 0, 1):
            q, r = qr(ht.array(a, split=split))
            check(a, whole(q), whole(r), 5)
            q, r = qr(ht.array(a.T.copy(), split=split))
            check(a.T, whole(q), whole(r), 5)
