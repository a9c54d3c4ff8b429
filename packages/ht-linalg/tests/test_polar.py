"""Polar decompositions of any layout: orthogonality, residuals, hard condition numbers, messages."""

import sys

import ht_core as ht
import ht_linalg as la
import numpy as np
import pytest
import scipy.linalg
from ht_comm import spmd
from ht_core.testing import layouts, spread, whole
from ht_linalg.qdwh import plan_weights
from hypothesis import given, settings
from hypothesis import strategies as st

FEW = settings(max_examples=12, deadline=None, derandomize=True)
DTYPES = ["float32", "float64", "complex64", "complex128"]


def matrix(dtype, shape, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    return (x + 1j * rng.standard_normal(shape) if np.dtype(dtype).kind == "c" else x).astype(dtype)


def check(a, u, h, side):
    m, n = a.shape
    k, eps, norm = min(m, n), np.finfo(a.dtype).eps, np.linalg.norm(a)
    assert u.dtype == h.dtype == a.dtype
    gram = u.conj().T @ u if m >= n else u @ u.conj().T
    assert np.linalg.norm(gram - np.eye(k)) <= 30 * max(k, 1) * eps
    assert np.linalg.norm((u @ h if side == "right" else h @ u) - a) <= 60 * eps * norm
    np.testing.assert_array_equal(h, h.conj().T)
    assert np.linalg.eigvalsh(h).min(initial=0) >= -60 * eps * norm


@pytest.fixture
def iterated(monkeypatch):
    """Iterate from 3 rows on, as it is done with large matrices."""
    for name in ("SMALL_POLAR", "SMALL_POLAR_ON_FEW"):
        monkeypatch.setattr(sys.modules["ht_linalg.polar"], name, 2)


@pytest.mark.parametrize("dtype", DTYPES)
@FEW
@given(data=st.data())
def test_polar(dtype, data):
    p, side = data.draw(st.integers(1, 5)), data.draw(st.sampled_from(["right", "left"]))
    a = matrix(
        dtype, data.draw(st.sampled_from([(6, 6), (9, 4), (4, 9), (1, 1), (5, 1), (1, 5), (0, 0), (3, 0)]))
    )
    place = data.draw(layouts(a.shape, p))

    def run(comm):
        x = spread(a, *place, comm)
        u, h = la.polar(x, side)
        assert u.layout is x.layout
        np.testing.assert_array_equal(whole(x), a)
        return whole(u), whole(h), whole(la.polar(x, side, calcH=False))

    expected = (
        scipy.linalg.polar(a, side) if a.size else (a, np.zeros((a.shape[side == "right"],) * 2, dtype))
    )
    for u, h, alone in spmd(p, run):
        check(a, u, h, side)
        for ours, theirs in zip((u, h, alone), (*expected, expected[0])):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=300 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("condition", [1, 1e3, 1e7, 1e14])
def test_iteration_at_condition_numbers(iterated, dtype, condition):
    n = 11
    left, right = (np.linalg.qr(matrix(dtype, (n, n), seed))[0] for seed in (1, 2))
    a = ((left * np.geomspace(1, 1 / condition, n)) @ right).astype(dtype)

    def run(comm):
        found = []
        for x in (ht.array(a, split=0), ht.array(a, split=1)):
            u, h = la.polar(x)
            assert u.layout is h.layout is x.layout
            found.append((whole(u), whole(h)))
        return found

    for p in (2, 3):
        for found in spmd(p, run):
            for u, h in found:
                check(a, u, h, "right")


@pytest.mark.parametrize("rank", [0, 1, 7])
def test_iteration_on_singular_matrices(iterated, rank):
    a = matrix("float64", (9, rank)) @ matrix("float64", (rank, 9), 1)

    def run(comm):
        return [whole(x) for x in la.polar(spread(a, 0, (5, 0, 4), comm))]

    for u, h in spmd(3, run):
        check(a, u, h, "right")


def test_iteration_on_tall_and_wide_matrices(iterated):
    a = matrix("complex128", (12, 5))

    def run(comm, a):
        return [
            [whole(x) for x in la.polar(ht.array(a, split=i), side)]
            for i in (0, 1)
            for side in ("right", "left")
        ]

    for b in (a, a.T):
        for at, (u, h) in enumerate(spmd(2, run, b)[0]):
            check(b, u, h, ("right", "left")[at % 2])


def test_a_known_condition_number_saves_steps(iterated):
    a = np.linalg.qr(matrix("float64", (16, 16)))[0]

    def run(comm):
        x, calls = ht.array(a, split=0), []
        for condition in (None, 10):
            with comm.trace() as sent:
                u = la.polar(x, calcH=False, condition_estimate=condition)
            np.testing.assert_allclose(whole(u), a, rtol=0, atol=1e-13)
            calls.append(sent.by_op["bcast"][0])
        return calls

    for blind, knowing in spmd(2, run):
        # Two steps by QR with 2 p panels, four by Cholesky with three times p panels, and three norms
        assert blind == 2 * 4 + 4 * 3 * 2 + 3
        assert knowing < 0.75 * blind


def test_plan_of_weights():
    assert len(plan_weights(2**-55, 2**-52)) == 6
    assert sum(c > 100 for _, _, c in plan_weights(2**-55, 2**-52)) == 2
    for low in (1e-17, 1e-8, 0.1, 1.0):
        x = np.geomspace(low, 1, 1000)
        for a, b, c in plan_weights(low, 2**-52):
            x = x * (a + b * x**2) / (1 + c * x**2)
        np.testing.assert_allclose(x, 1, rtol=0, atol=1e-13)


@FEW
@given(data=st.data())
def test_stacks(data):
    p, a = (
        data.draw(st.integers(1, 4)),
        matrix("float64", data.draw(st.sampled_from([(4, 3, 2), (2, 3, 2, 4)]))),
    )
    place, side = data.draw(layouts(a.shape, p)), data.draw(st.sampled_from(["right", "left"]))
    for u, h in spmd(p, lambda comm: [whole(x) for x in la.polar(spread(a, *place, comm), side)]):
        for at in np.ndindex(a.shape[:-2]):
            check(a[at], u[at], h[at], side)


def test_errors_and_messages():
    def run(comm):
        x, row = ht.ones((4, 3), split=0), ht.ones(3, split=0)
        with comm.trace() as sent:
            for call, text in (
                (lambda: la.polar(x, "up"), "side must be"),
                (lambda: la.polar(x, condition_estimate=0), "condition_estimate must be at least 1"),
                (lambda: la.polar(row), "at least two axes"),
            ):
                with pytest.raises(ValueError, match=text):
                    call()
            la.polar(ht.ones((4, 3)))
            la.polar(ht.ones((4, 3, 2), split=0))
        assert sent.calls == 0
        for split in (0, 1):
            with pytest.raises(la.LinAlgError, match="a must be finite"):
                la.polar(ht.full((4, 4), np.nan, split=split))

    spmd(2, run)


def test_iteration_refuses_what_is_not_finite(iterated):
    def run(comm):
        with pytest.raises(la.LinAlgError, match="a must be finite"):
            la.polar(ht.full((4, 4), np.inf, split=0))

    spmd(2, run)


@pytest.mark.mpi
def test_polar_over_mpi(comm, monkeypatch):
    for name in ("SMALL_POLAR", "SMALL_POLAR_ON_FEW"):
        monkeypatch.setattr(sys.modules["ht_linalg.polar"], name, 2)
    a = matrix("float64", (100, 100))
    for split in (0, 1):
        check(a, *(whole(x) for x in la.polar(ht.array(a, split=split))), "right")
