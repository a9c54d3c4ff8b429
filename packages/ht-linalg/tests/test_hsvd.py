"""Truncated SVD: error, rank, orthogonality, signs, layouts, messages and refusals."""

import logging
import sys

import ht_core as ht
import numpy as np
import pytest
from ht_comm import spmd
from ht_core.layout import Layout
from ht_core.testing import spread, whole
from ht_linalg import HSVD, hsvd, hsvd_rank, hsvd_rtol

SHAPES = [(200, 12), (12, 200), (20, 20), (300, 1), (1, 30), (3, 2)]


def matrix(shape, dtype="float64", decay=0.6, seed=0):
    """A matrix whose singular values fall by `decay` from one to the next."""
    rng = np.random.default_rng(seed)
    k = min(shape)
    u, v = (np.linalg.qr(rng.standard_normal((n, k)))[0] for n in shape)
    if np.dtype(dtype).kind == "c":
        u = u * np.exp(1j * rng.uniform(0, 6, k))
    return ((u * (3 * decay ** np.arange(k))) @ v.T).astype(dtype)


def optimal_rank(a, rtol):
    energies = np.linalg.svd(a.astype("complex128"), compute_uv=False) ** 2
    tails = np.append(np.cumsum(energies[::-1])[::-1], 0.0)
    return max(1, int(np.argmax(tails <= rtol**2 * tails[0])))


def decompose(function, a, split, p, *args, counts=None, **options):
    """Run on p ranks; return whole factors, their splits and the calls of rank 0."""

    def run(comm):
        x = spread(a, split, counts or Layout.even(a.shape, split, p).counts, comm)
        with comm.trace() as sent:
            found = function(x, *args, compute_sv=True, **options)
        assert isinstance(found, HSVD)
        np.testing.assert_array_equal(whole(x), a)
        assert found.S.dtype is ht.types.to_real(found.U.dtype)
        assert isinstance(found.error, float)
        splits = tuple(f.split for f in found[:3])
        return *(whole(f) for f in found[:3]), found.error, splits, [event.op for event in sent.events]

    results = spmd(p, run)
    for other in results[1:]:
        for mine, theirs in zip(results[0][:3], other[:3]):
            np.testing.assert_array_equal(mine, theirs)
        assert other[3] == results[0][3]
    return results[0]


def check(a, u, s, v, tolerance=1000):
    eps = np.finfo(a.dtype).eps * tolerance
    for factor in (u, v):
        assert np.abs(np.conj(factor.T) @ factor - np.eye(len(s))).max() <= eps
    assert (s[:-1] >= s[1:]).all()
    short = u if a.shape[0] < a.shape[1] else v
    entry = short[np.argmax(np.abs(short) >= 0.5 * np.abs(short).max(axis=0), axis=0), range(len(s))]
    assert (np.abs(entry - np.abs(entry)) <= eps).all()
    return np.linalg.norm(a - (u * s) @ np.conj(v.T)) / (np.linalg.norm(a) or 1)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("split", [None, 0, 1])
@pytest.mark.parametrize("p", [1, 2, 4])
def test_tolerance_is_met_with_the_least_rank(p, split, dtype):
    for shape in SHAPES:
        a = matrix(shape, dtype)
        for rtol in (0.2, 1e-2):
            u, s, v, error, _, _ = decompose(hsvd_rtol, a, split, p, rtol)
            assert check(a, u, s, v) <= rtol
            assert len(s) == optimal_rank(a, rtol)
            np.testing.assert_allclose(s, np.linalg.svd(a, compute_uv=False)[: len(s)], rtol=1e-5)
            assert error == pytest.approx(
                np.linalg.norm(a - (u * s) @ np.conj(v.T)) / np.linalg.norm(a), rel=0.05, abs=1e-6
            )


@pytest.mark.parametrize("split", [None, 0, 1])
@pytest.mark.parametrize("shape", [(200, 12), (12, 200)])
def test_layouts(shape, split):
    """U has the rows' split, V the columns'; the short factor is whole unless its side was split."""
    *_, splits, _ = decompose(hsvd_rtol, matrix(shape), split, 3, 0.1)
    tall = shape[0] > shape[1]
    expected = {None: (None, None), 0: (0, None if tall else 0), 1: (0 if tall else None, 0)}[split]
    assert splits == (expected[0], None, expected[1])


@pytest.mark.parametrize("rtol", [1e-3, 1e-5, 1e-7, 1e-9, 1e-12])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tight_tolerances_change_the_method(rtol, dtype):
    """Below what a Gram matrix can resolve."""
    a = matrix((300, 40), dtype, decay=0.5)
    u, s, v, _, _, _ = decompose(hsvd_rtol, a, 0, 3, rtol)
    assert check(a, u, s, v) <= max(rtol, 100 * np.finfo(dtype).eps)
    exact = optimal_rank(a, rtol)
    if rtol > 10 * np.finfo(dtype).eps:
        assert exact <= len(s) <= exact + 1


def test_messages():
    a = matrix((300, 12))
    d = 12
    for wide, split in ((a, 0), (a.T.copy(), 1)):
        *_, calls = decompose(hsvd_rtol, wide, split, 3, 0.1)
        assert calls == ["reduce", "bcast"] or calls == ["reduce", "bcast"] * 2

    def run(comm):
        x = spread(a, 0, (100, 100, 100), comm)
        with comm.trace() as sent:
            r = hsvd_rtol(x, 0.1).shape[1]
        words = sum(event.bytes for event in sent.events) / 8
        assert words <= 2 * d * d + d + 3 + 2 * r * r + d * r + r + 1

    spmd(3, run)


@pytest.mark.parametrize("split", [None, 0, 1])
@pytest.mark.parametrize("p", [1, 3])
def test_rank(p, split):
    for shape in SHAPES:
        a = matrix(shape)
        for rank in (1, 2, 5, 1000):
            u, s, v, error, _, _ = decompose(hsvd_rank, a, split, p, rank)
            exact = np.linalg.svd(a, compute_uv=False)
            assert len(s) == min(rank, *shape)
            best = np.linalg.norm(exact[len(s) :]) / np.linalg.norm(exact)
            assert check(a, u, s, v) <= best * 1.0001 + 1e-13
            assert abs(error - best) <= 1e-7


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rank_beyond_the_rank_of_the_matrix(dtype):
    """Vectors of singular values that are zero are orthonormal too."""
    rng = np.random.default_rng(0)
    a = (rng.standard_normal((200, 3)) @ rng.standard_normal((3, 15))).astype(dtype)
    u, s, v, _, _, _ = decompose(hsvd_rank, a, 0, 3, 8)
    assert check(a, u, s, v) <= 1e3 * np.finfo(dtype).eps
    assert (s[3:] <= 1e3 * np.finfo(dtype).eps * s[0]).all()
    zero = np.zeros((30, 4), dtype)
    u, s, v, error, _, _ = decompose(hsvd_rtol, zero, 0, 3, 0.1)
    assert check(zero, u, s, v) == 0
    assert (len(s), error) == (1, 0.0)


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e30, 1e160])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_scale_of_the_data(dtype, scale):
    """Squares that overflow or vanish are noticed."""
    if dtype == "float32" and not 1e-37 < scale < 1e37:
        return
    a = matrix((100, 8)) * scale
    a = a.astype(dtype)
    u, s, v, _, _, _ = decompose(hsvd_rtol, a, 0, 3, 0.05)
    assert check(a / scale, u, s / scale, v) <= 0.05


def test_answer_does_not_depend_on_ranks_or_split():
    a = matrix((400, 10), decay=0.5)
    u, s, v, _, _, _ = decompose(hsvd_rtol, a, None, 1, 1e-3)
    for p in (2, 3, 4):
        for split in (None, 0, 1):
            u2, s2, v2, _, _, _ = decompose(hsvd_rtol, a, split, p, 1e-3)
            np.testing.assert_allclose(s2, s, rtol=1e-12)
            np.testing.assert_allclose(u2, u, rtol=0, atol=1e-10)
            np.testing.assert_allclose(v2, v, rtol=0, atol=1e-10)


def test_symmetric_vectors_keep_their_signs():
    """Entries of equal size: the sign must not hang on rounding."""
    t = np.linspace(-1, 1, 16)
    rng = np.random.default_rng(0)
    modes = np.stack([np.ones(16), t, t**2 - np.mean(t**2)])
    a = (rng.standard_normal((999, 3)) * [4, 2, 1]) @ modes
    reference = decompose(hsvd_rank, a, 0, 1, 3)
    for p in (2, 3, 4):
        np.testing.assert_allclose(decompose(hsvd_rank, a, 0, p, 3)[2], reference[2], rtol=0, atol=1e-12)


def test_uneven_and_empty_shards():
    a = matrix((40, 6))
    for b, split in ((a, 0), (a.T.copy(), 1)):
        u, s, v, _, _, _ = decompose(hsvd_rtol, b, split, 4, 1e-2, counts=(0, 39, 1, 0))
        assert check(b, u, s, v) <= 1e-2
        u, s, v, _, _, _ = decompose(hsvd_rtol, b, split, 4, 1e-10, counts=(0, 39, 1, 0))
        assert check(b, u, s, v) <= 1e-10


def test_u_alone_and_options():
    def run(comm):
        a = spread(matrix((60, 9)), 0, Layout.even((60, 9), 0, 3).counts, comm)
        u = hsvd_rtol(a, 0.01)
        np.testing.assert_array_equal(u.larray, hsvd_rtol(a, 0.01, compute_sv=True).U.larray)
        assert hsvd_rtol(a, 0.01, maxrank=2).shape == (60, 2)
        wide = spread(matrix((9, 60)), 1, Layout.even((9, 60), 1, 3).counts, comm)
        assert hsvd_rank(wide, 2).lshape == (9, 2)
        assert hsvd_rank(a.astype("float16"), 2).dtype is ht.float32
        assert hsvd_rank(ht.arange(12, split=0).reshape((4, 3)), 2).dtype is ht.float64

    spmd(3, run)


def test_silence(caplog):
    with caplog.at_level(logging.INFO, logger="ht.linalg"):
        spmd(2, lambda comm: hsvd_rank(ht.ones((4, 3), split=0), 1))
        assert not caplog.records
        spmd(2, lambda comm: hsvd_rank(ht.ones((4, 3), split=0), 1, silent=False))
    assert len(caplog.records) == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rtol", [0.1, 1e-10])
@pytest.mark.parametrize("split", [0, 1])
def test_nan_is_refused_on_every_rank(bad, rtol, split):
    a = matrix((40, 5), "float32")
    a[39, 4] = bad

    def run(comm):
        x = spread(a, split, Layout.even(a.shape, split, comm.size).counts, comm)
        with pytest.raises(
            ValueError, match="hsvd_rtol: A must hold finite numbers only, got NaN or infinity"
        ):
            hsvd_rtol(x, rtol)
        return True

    assert spmd(3, run) == [True] * 3


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda x: hsvd_rtol(x, 0), r"hsvd_rtol: rtol must be in \(0, 1\), got 0"),
        (lambda x: hsvd_rtol(x, 1.5), r"hsvd_rtol: rtol must be in \(0, 1\), got 1.5"),
        (
            lambda x: hsvd_rtol(x, 0.1, maxrank=0),
            "hsvd_rtol: maxrank must be an integer of at least 1, got 0",
        ),
        (
            lambda x: hsvd_rtol(x, 0.1, safetyshift=-1),
            "safetyshift must be an integer of at least 0, got -1",
        ),
        (
            lambda x: hsvd_rtol(x, 0.1, no_of_merges=1),
            "no_of_merges must be an integer of at least 2, got 1",
        ),
        (lambda x: hsvd_rank(x, 2.5), "hsvd_rank: maxrank must be an integer of at least 1, got 2.5"),
        (lambda x: hsvd_rank(x.reshape((-1,)), 1), "hsvd_rank: A must be 2-D"),
        (lambda x: hsvd_rank(x[:0], 1), "hsvd_rank: A must not be empty"),
        (lambda x: hsvd(x, rtol=2), r"hsvd: rtol must be in \(0, 1\), got 2"),
        (lambda x: hsvd(x, 0), "hsvd: maxrank must be an integer of at least 1, got 0"),
    ],
)
def test_refusals(call, text):
    def run(comm):
        x = ht.ones((4, 3), split=0)
        with comm.trace() as sent, pytest.raises(ValueError, match=text):
            call(x)
        assert sent.calls == 0

    spmd(2, run)


# -- both sides large: the tree, here with every size a hundred times smaller ----------------------------------


@pytest.fixture
def _small_tree(monkeypatch):
    monkeypatch.setattr(sys.modules["ht_linalg.hsvd"], "SMALL_SIDE", 10)
    monkeypatch.setattr("ht_linalg.merge_tree.LEAF_ROWS", 20)


@pytest.mark.usefixtures("_small_tree")
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
@pytest.mark.parametrize("split", [None, 0, 1])
@pytest.mark.parametrize("p", [1, 2, 3, 5])
def test_tree(p, split, dtype):
    a = matrix((150, 90), dtype, decay=0.7)
    for rtol in (0.1, 1e-3):
        for arity in (None, 3):
            u, s, v, error, splits, _ = decompose(hsvd_rtol, a, split, p, rtol, no_of_merges=arity)
            found = np.linalg.norm(a - (u * s) @ np.conj(v.T)) / np.linalg.norm(a)
            for factor in (u, v):
                defect = np.abs(np.conj(factor.T) @ factor - np.eye(len(s))).max()
                assert defect <= 500 * np.finfo(dtype).eps
            assert found <= rtol
            assert error == pytest.approx(found, rel=0.1, abs=1e-6)
            assert optimal_rank(a, rtol) <= len(s) <= optimal_rank(a, rtol) + 2
            assert splits == ((None,) * 3 if split is None else (0, None, 0))


#: Singular values that fall slowly, where a tree that wastes its budget keeps far too many.
SPECTRA = {
    "k^-1": 1 / np.arange(1, 91),
    "k^-3/4": np.arange(1, 91) ** -0.75,
    "exponential": np.exp(-np.arange(90) / 12),
    "step": np.where(np.arange(90) < 20, 1.0, 0.02),
}


@pytest.mark.usefixtures("_small_tree")
@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("p", [1, 2, 3, 5])
def test_rank_of_the_tree_is_nearly_optimal(p, spectrum):
    """Within 10 % of the lowest rank that meets the tolerance, for uneven shards and any tree."""
    rng = np.random.default_rng(1)
    u, v = (np.linalg.qr(rng.standard_normal((n, 90)))[0] for n in (150, 90))
    a = (u * SPECTRA[spectrum]) @ v.T
    counts = {0: (0, 20, 100, 0, 30), 1: (0, 60, 1, 29, 0)}
    for split in (0, 1):
        for rtol in (0.3, 0.05):
            for arity in (2, 3, 8):
                uneven = counts[split] if p == 5 else None
                found = decompose(hsvd_rtol, a, split, p, rtol, counts=uneven, no_of_merges=arity)
                u1, s1, v1, error, splits, _ = found
                assert np.linalg.norm(a - (u1 * s1) @ v1.T) <= rtol * np.linalg.norm(a)
                assert error <= rtol
                best = optimal_rank(a, rtol)
                assert best <= len(s1) <= max(best + 1, int(1.1 * best))
                assert splits == (0, None, 0)


@pytest.mark.parametrize("p", [1, 3])
def test_hsvd_by_tolerance_rank_or_in_full(p):
    a = matrix((60, 9))
    for split in (None, 0, 1):
        by_rtol = decompose(hsvd, a, split, p, rtol=1e-2)
        np.testing.assert_array_equal(by_rtol[0], decompose(hsvd_rtol, a, split, p, 1e-2)[0])
        assert decompose(hsvd, a, split, p, 3)[1].shape == (3,)
        u, s, v, *_ = decompose(hsvd, a, split, p)
        assert len(s) == 9
        assert check(a, u, s, v) <= 1e-13


@pytest.mark.usefixtures("_small_tree")
@pytest.mark.parametrize("p", [1, 4])
def test_tree_of_a_given_rank(p):
    a = matrix((150, 90), decay=0.3)
    u, s, v, error, _, _ = decompose(hsvd_rank, a, 0, p, 4, maxmergedim=30)
    best = 0.3**4
    assert error <= 1.01 * best
    assert np.linalg.norm(a - (u * s) @ v.T) / np.linalg.norm(a) <= 1.01 * best
    u, s, v, error, _, _ = decompose(hsvd_rtol, a, 1, p, 1e-9)
    assert np.linalg.norm(a - (u * s) @ v.T) / np.linalg.norm(a) <= 1e-9
    u, s, v, error, _, _ = decompose(hsvd_rtol, np.zeros((30, 30)), 0, p, 0.1)
    assert (len(s), error) == (1, 0.0)


@pytest.mark.usefixtures("_small_tree")
def test_tree_refuses_nan():
    def run(comm):
        x = ht.ones((50, 40), split=0)
        if comm.rank == 1:
            x.larray[0, 0] = float("nan")
        with pytest.raises(ValueError, match="hsvd_rtol: A must hold finite numbers only"):
            hsvd_rtol(x, 0.1)

    spmd(3, run)


@pytest.mark.mpi
def test_hsvd_over_mpi(comm):
    for shape, rtol in (((500, 20), 1e-2), ((20, 500), 1e-2), ((500, 20), 1e-10)):
        a = matrix(shape)
        for split in (None, 0, 1):
            U, S, V, _ = hsvd_rtol(ht.array(a, split=split), rtol, compute_sv=True)
            assert check(a, whole(U), whole(S), whole(V)) <= rtol
