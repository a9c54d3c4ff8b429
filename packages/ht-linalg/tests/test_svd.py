"""Singular values, pseudo-inverses, least squares and norms of any layout against NumPy."""

import math

import ht_core as ht
import ht_linalg as la
import numpy as np
import pytest
from ht_comm import spmd
from ht_core.testing import layouts, spread, whole
from hypothesis import given, settings
from hypothesis import strategies as st

FEW = settings(max_examples=15, deadline=None, derandomize=True)
DTYPES = ["float32", "float64", "complex64", "complex128"]
SHAPES = st.sampled_from([(7, 3), (3, 7), (5, 5), (1, 4), (4, 1), (2, 5, 3), (3, 2, 4), (0, 3), (3, 0)])


def matrix(dtype, shape, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    return (x + 1j * rng.standard_normal(shape) if np.dtype(dtype).kind == "c" else x).astype(dtype)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@FEW
@given(data=st.data())
def test_svd(dtype, full, data):
    p, a = data.draw(st.integers(1, 4)), matrix(dtype, data.draw(SHAPES))
    place, eps = data.draw(layouts(a.shape, p)), 100 * np.finfo(dtype).eps
    m, n = a.shape[-2:]
    k = min(m, n)

    def run(comm):
        x = spread(a, *place, comm)
        u, s, vh = la.svd(x, full_matrices=full)
        values = la.svdvals(x)
        np.testing.assert_array_equal(whole(x), a)
        return whole(u), whole(s), whole(vh), whole(values)

    for u, s, vh, values in spmd(p, run):
        assert (u.dtype, vh.dtype, s.dtype) == (a.dtype, a.dtype, a.real.dtype)
        assert (u.shape[-2:], vh.shape[-2:]) == (((m, m), (n, n)) if full else ((m, k), (k, n)))
        np.testing.assert_allclose(s, np.linalg.svd(a, compute_uv=False), rtol=0, atol=eps * 10)
        np.testing.assert_allclose(values, s, rtol=0, atol=eps * 10)
        np.testing.assert_allclose((u[..., :k] * s[..., None, :]) @ vh[..., :k, :], a, rtol=0, atol=eps * 10)
        for v in (np.swapaxes(u.conj(), -1, -2) @ u, vh @ np.swapaxes(vh.conj(), -1, -2)):
            np.testing.assert_allclose(v, np.broadcast_to(np.eye(v.shape[-1]), v.shape), rtol=0, atol=eps)


@FEW
@given(data=st.data())
def test_signs_do_not_depend_on_ranks(data):
    a = matrix("float64", data.draw(st.sampled_from([(9, 3), (3, 9)])))
    p = data.draw(st.integers(2, 4))
    place = data.draw(layouts(a.shape, p))
    (alone,) = spmd(1, lambda comm: [whole(v) for v in la.svd(ht.array(a), full_matrices=False)])
    for found in spmd(
        p, lambda comm: [whole(v) for v in la.svd(spread(a, *place, comm), full_matrices=False)]
    ):
        for ours, theirs in zip(found, alone):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)


@FEW
@given(data=st.data())
def test_pinv_rank_lstsq(data):
    p = data.draw(st.integers(1, 4))
    m, n, rank = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 8)), data.draw(st.integers(1, 8))
    a = matrix("float64", (m, rank)) @ matrix("float64", (rank, n), 1)
    b = matrix("float64", data.draw(st.sampled_from([(m,), (m, 2)])), 2)
    places = [data.draw(layouts(x.shape, p)) for x in (a, b)]

    def run(comm):
        x, y = (spread(v, *place, comm) for v, place in zip((a, b), places))
        found = la.lstsq(x, y)
        arrays = [whole(v) for v in (la.pinv(x), found.x, found.residuals, found.s)]
        return *arrays, la.matrix_rank(x).item(), found.rank

    theirs = np.linalg.lstsq(a, b)
    for inverse, x, residuals, s, r, lstsq_rank in spmd(p, run):
        assert r == lstsq_rank == theirs[2]
        np.testing.assert_allclose(inverse, np.linalg.pinv(a), rtol=0, atol=1e-8)
        np.testing.assert_allclose(x, theirs[0], rtol=0, atol=1e-8)
        np.testing.assert_allclose(residuals, theirs[1], rtol=0, atol=1e-9)
        np.testing.assert_allclose(s, theirs[3], rtol=0, atol=1e-10)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128", "int64"])
@FEW
@given(data=st.data())
def test_norms(dtype, data):
    p = data.draw(st.integers(1, 4))
    shape = data.draw(st.sampled_from([(5,), (4, 3), (3, 4), (2, 3, 4)]))
    a = (4 * matrix("float64" if dtype == "int64" else dtype, shape)).astype(dtype)
    place, keepdims = data.draw(layouts(shape, p)), data.draw(st.booleans())
    cases = [(None, None)]
    vector = data.draw(st.sampled_from([2, 1, 0, 3, 0.5, math.inf, -math.inf, None]))
    cases += [(vector, axis) for axis in range(len(shape))]
    if len(shape) > 1:
        order = data.draw(st.sampled_from(["fro", "nuc", 1, -1, 2, -2, math.inf, -math.inf, None]))
        cases += [(order, pair) for pair in ((0, 1), (-1, 0))]
    expected = [np.linalg.norm(a, order, axis, keepdims) for order, axis in cases]

    def run(comm):
        x = spread(a, *place, comm)
        return [whole(la.norm(x, order, axis, keepdims)) for order, axis in cases]

    for found in spmd(p, run):
        for ours, theirs in zip(found, expected):
            assert ours.shape == np.shape(theirs)
            np.testing.assert_allclose(ours, theirs, rtol=1e-4 if dtype == "float32" else 1e-10)


@pytest.mark.parametrize("p", [1, 3])
def test_cond(p):
    a = matrix("float64", (5, 5))
    for order in (None, 2, -2, 1, -1, math.inf, "fro", "nuc"):
        for split in (None, 0, 1):
            found = spmd(
                p, lambda comm, split=split, order=order: la.cond(ht.array(a, split=split), order).item()
            )
            np.testing.assert_allclose(found, np.linalg.cond(a, order), rtol=1e-9)


def test_wrong_arguments_are_refused_before_any_message():
    def run(comm):
        x = ht.ones((4, 3), split=0)
        with comm.trace() as sent:
            for call in (
                lambda: la.svd(x[:, 0]),
                lambda: la.norm(x, 7),
                lambda: la.norm(x, axis=(0, 0)),
                lambda: la.vector_norm(x, ord="fro"),
                lambda: la.matrix_norm(x, ord=3),
                lambda: la.lstsq(x, ht.ones(3)),
                lambda: la.cond(x[:0]),
            ):
                with pytest.raises(ValueError):
                    call()
        assert sent.calls == 0
        with pytest.raises(la.LinAlgError):
            la.svd(x * np.nan)

    spmd(2, run)


@pytest.mark.mpi
def test_svd_over_mpi(comm):
    a = matrix("float64", (300, 20))
    for split in (0, 1):
        u, s, vh = la.svd(ht.array(a, split=split), full_matrices=False)
        np.testing.assert_allclose(whole((u * s) @ vh), a, rtol=0, atol=1e-12)


@pytest.mark.parametrize("split", [None, 0, 1, 2])
@pytest.mark.parametrize("kind", ["whole", "split", "numpy"])
def test_a_tolerance_for_each_matrix(split, kind):
    a = np.array([np.diag([8.0, 2.0, 1.0])[:, :2], np.diag([8.0, 4.0, 1.0])[:, :2], np.zeros((3, 2))])
    rtol = np.array([0.3, 0.3, 0.0], dtype="float32")

    def run(comm):
        x = ht.array(a, split=split, comm=comm)
        share = rtol if kind == "numpy" else ht.array(rtol, split=0 if kind == "split" else None, comm=comm)
        with pytest.raises(ht.LayoutError, match="pinv: rtol must have the shape of the stack"):
            la.pinv(x, rtol=np.ones(2))
        return whole(la.pinv(x, rtol=share)), whole(la.matrix_rank(x, rtol=share))

    for inverse, rank in spmd(3, run):
        np.testing.assert_allclose(inverse, np.linalg.pinv(a, rtol=rtol), rtol=0, atol=1e-14)
        np.testing.assert_array_equal(rank, np.linalg.matrix_rank(a, rtol=rtol))
