"""LU, Cholesky, solves, inverses and determinants of any layout: residuals, hard pivots, messages."""

import ht_core as ht
import ht_linalg as la
import numpy as np
import pytest
import scipy.linalg
from ht_comm import spmd
from ht_core.layout import Layout
from ht_core.testing import layouts, spread, whole
from ht_linalg import elimination
from hypothesis import given, settings
from hypothesis import strategies as st

FEW = settings(max_examples=15, deadline=None, derandomize=True)
DTYPES = ["float32", "float64", "complex64", "complex128"]


@pytest.fixture(autouse=True, params=[3, 64])
def panel(request, monkeypatch):
    """Panels narrower than the columns of a rank, and wider."""
    monkeypatch.setattr(elimination.panels, "__defaults__", (request.param,))


def matrix(dtype, shape, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    return (x + 1j * rng.standard_normal(shape) if np.dtype(dtype).kind == "c" else x).astype(dtype)


def eps(dtype):
    return np.finfo(dtype).eps


@pytest.mark.parametrize("dtype", DTYPES)
@FEW
@given(data=st.data())
def test_lu(dtype, data):
    p, m, n = data.draw(st.integers(1, 4)), data.draw(st.integers(0, 9)), data.draw(st.integers(0, 9))
    a, place = matrix(dtype, (m, n)), data.draw(layouts((m, n), p))

    def run(comm):
        x = spread(a, *place, comm)
        P, L, U = la.lu(x)
        np.testing.assert_array_equal(whole(x), a)
        return P.numpy(), whole(L), whole(U)

    for P, L, U in spmd(p, run):
        assert L.dtype == U.dtype == a.dtype
        assert (L.shape, U.shape) == ((m, min(m, n)), (min(m, n), n))
        np.testing.assert_array_equal(np.tril(U, -1), 0)
        np.testing.assert_array_equal(np.triu(L), np.eye(*L.shape))
        assert np.abs(L).max(initial=0) <= (1 if np.dtype(dtype).kind == "f" else np.sqrt(2)) * (
            1 + 4 * eps(dtype)
        )
        np.testing.assert_allclose(L[P] @ U, a, rtol=0, atol=50 * eps(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@FEW
@given(data=st.data())
def test_solve(dtype, data):
    p, n = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 12))
    a = matrix(dtype, (n, n))
    b = matrix(dtype, data.draw(st.sampled_from([(n,), (n, 1), (n, 2), (n, 15)])), 1)
    places = [data.draw(layouts(x.shape, p)) for x in (a, b)]

    def run(comm):
        x, y = (spread(v, *place, comm) for v, place in zip((a, b), places))
        z = la.solve(x, y)
        assert z.layout is y.layout
        for v, before in zip((x, y), (a, b)):
            np.testing.assert_array_equal(whole(v), before)
        return whole(z)

    for z in spmd(p, run):
        assert z.dtype == a.dtype
        residual = np.linalg.norm(a @ z - b) / (np.linalg.norm(a) * np.linalg.norm(z))
        assert residual < 20 * n * eps(dtype)


@pytest.mark.parametrize("trans", [0, "T", 2])
@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("lower", [False, True])
@FEW
@given(data=st.data())
def test_solve_triangular(lower, unit, trans, data):
    p, n = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 10))
    dtype = data.draw(st.sampled_from(["float64", "complex128"]))
    a = matrix(dtype, (n, n)) / n + 2 * np.eye(n)
    b = matrix(dtype, data.draw(st.sampled_from([(n,), (n, 1), (n, 15)])), 1)
    places = [data.draw(layouts(x.shape, p)) for x in (a, b)]
    options = {"lower": lower, "trans": trans, "unit_diagonal": unit}
    expected = scipy.linalg.solve_triangular(a, b, **options)

    def run(comm):
        x, y = (spread(v, *place, comm) for v, place in zip((a, b), places))
        z = la.solve_triangular(x, y, **options)
        assert z.layout is y.layout
        return whole(z)

    for z in spmd(p, run):
        np.testing.assert_allclose(z, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
@FEW
@given(data=st.data())
def test_cholesky(dtype, data):
    p, n = data.draw(st.integers(1, 4)), data.draw(st.integers(0, 12))
    g = matrix(dtype, (n, n))
    a = (g @ g.conj().T + np.eye(n)).astype(dtype)
    place, upper = data.draw(layouts((n, n), p)), data.draw(st.booleans())
    expected = np.linalg.cholesky(a, upper=upper)
    a[np.tril_indices(n, -1) if upper else np.triu_indices(n, 1)] = np.nan  # never read

    def run(comm):
        x = spread(a, *place, comm)
        factor = la.cholesky(x, upper=upper)
        assert factor.split == x.split
        return whole(factor)

    for factor in spmd(p, run):
        assert factor.dtype == a.dtype
        np.testing.assert_allclose(factor, expected, rtol=0, atol=200 * eps(dtype))


@FEW
@given(data=st.data())
def test_determinants_and_inverses(data):
    p, n = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 8))
    dtype = data.draw(st.sampled_from(["float64", "complex128", "int64"]))
    a = np.random.default_rng(n).integers(-3, 4, (n, n)).astype(dtype) + 4 * np.eye(n, dtype=dtype)
    place = data.draw(layouts((n, n), p))

    def run(comm):
        x = spread(a, *place, comm)
        inverse = la.inv(x)
        assert inverse.layout is x.layout
        return la.det(x).numpy(), [v.numpy() for v in la.slogdet(x)], whole(inverse)

    for det, (sign, log), inverse in spmd(p, run):
        np.testing.assert_allclose(det, np.linalg.det(a), rtol=1e-10)
        np.testing.assert_allclose(sign, np.linalg.slogdet(a).sign, rtol=1e-10)
        np.testing.assert_allclose(log, np.linalg.slogdet(a).logabsdet, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(inverse @ a, np.eye(n), rtol=0, atol=1e-10)


@FEW
@given(data=st.data())
def test_stacks(data):
    """Stacks of matrices, split along any axis, with leading axes that broadcast."""
    p, n = data.draw(st.integers(1, 4)), 3
    a = matrix("float64", data.draw(st.sampled_from([(4, n, n), (1, n, n), (2, 4, n, n), (n, n)])))
    b = matrix("float64", data.draw(st.sampled_from([(4, n, 2), (2, 1, n, 2), (n, 5), (n,)])), 1)
    places = [data.draw(layouts(x.shape, p)) for x in (a, b)]
    spd = a @ np.swapaxes(a, -1, -2) + np.eye(n)

    def run(comm):
        x, y = (spread(v, *place, comm) for v, place in zip((a, b), places))
        positive = spread(spd, *places[0], comm)
        found = la.solve(x, y), la.inv(x), la.det(x), *la.slogdet(x), la.cholesky(positive)
        return [whole(v) for v in found]

    expected = (
        np.linalg.solve(a, b),
        np.linalg.inv(a),
        np.linalg.det(a),
        *np.linalg.slogdet(a),
        np.linalg.cholesky(spd),
    )
    for found in spmd(p, run):
        for ours, theirs in zip(found, expected):
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("n", [-3, -1, 0, 1, 2, 5, 10])
def test_matrix_power(n):
    for shape in ((4, 4), (3, 2, 2)):
        a = matrix("float64", shape)
        expected = np.linalg.matrix_power(a, n)
        for split in (None, *range(len(shape))):

            def run(comm, a=a, split=split):
                x = ht.array(a, split=split)
                power = la.matrix_power(x, n)
                assert power.split == split
                np.testing.assert_array_equal(whole(x), a)
                return whole(power)

            for power in spmd(3, run):
                np.testing.assert_allclose(power, expected, rtol=1e-9, atol=1e-9)


def test_a_tiny_pivot_costs_no_digits():
    """Without the search for a pivot this system loses seven digits in single precision."""
    a = np.array([[1e-6, 1, 0], [1, 1, 1], [0, 1, 2]], dtype="float32")
    b = a @ np.array([1, 2, 3], dtype="float32")

    def run(comm):
        x = ht.array(a, split=0)
        return la.solve(x, ht.array(b)).numpy(), la.det(x).item()

    for x, det in spmd(3, run):
        np.testing.assert_allclose(x, [1, 2, 3], rtol=1e-6)
        np.testing.assert_allclose(det, np.linalg.det(a.astype("float64")), rtol=1e-6)


@pytest.mark.parametrize("split", [None, 0, 1])
def test_singular_and_indefinite_matrices_are_refused_everywhere(split):
    def run(comm):
        a = ht.array(np.diag([1.0, 2.0, 0.0, 4.0]), split=split)
        assert la.det(a).item() == 0
        sign, log = la.slogdet(a)
        assert (sign.item(), log.item()) == (0, -np.inf)
        for call in (
            lambda: la.solve(a, ht.ones(4)),
            lambda: la.inv(a),
            lambda: la.solve_triangular(a, ht.ones((4, 9), split=1)),
            lambda: la.cholesky(a - 1),
            lambda: la.cholesky(a * np.nan),
        ):
            with pytest.raises(np.linalg.LinAlgError, match="must"):
                call()

    spmd(3, run)


def test_stacks_with_one_bad_matrix_are_refused_everywhere():
    def run(comm):
        a = ht.array(np.stack([np.eye(2), np.eye(2), np.zeros((2, 2))]), split=0)
        for call in (lambda: la.solve(a, ht.ones(2)), lambda: la.inv(a), lambda: la.cholesky(a)):
            with pytest.raises(np.linalg.LinAlgError):
                call()

    spmd(3, run)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda x: la.solve(x, x), "a must be square"),
        (lambda x: la.inv(x), "a must be square"),
        (lambda x: la.det(x), "a must be square"),
        (lambda x: la.cholesky(x), "a must be square"),
        (lambda x: la.lu(x[None]), "a must be 2-D"),
        (lambda x: la.solve(x[:, :4], x[:3]), "b must have 4 rows"),
        (lambda x: la.inv(x[0]), "at least two axes"),
        (lambda x: la.matrix_power(x, 2), "a must be square"),
        (lambda x: la.diagonal(x[0]), "at least two axes"),
    ],
)
def test_wrong_shapes_are_refused_before_any_message(call, text):
    def run(comm):
        x = ht.ones((4, 5), split=1)
        with comm.trace() as sent, pytest.raises(ht.LayoutError, match=text):
            call(x)
        assert sent.calls == 0

    spmd(2, run)


def test_every_panel_is_sent_once():
    n, p = 24, 3
    width = elimination.panels.__defaults__[0]
    a = matrix("float64", (n, n))
    blocks = list(elimination.panels(Layout.even((n, n), 1, p).counts, n))

    def run(comm):
        x = ht.array(a, split=1)
        with comm.trace() as sent:
            la.solve(x, ht.ones(n))
        assert sent.by_op["bcast"][0] == len(blocks) == p * -(-8 // width)
        assert sum(e.op in ("send", "recv") for e in sent.events) <= 2
        with comm.trace() as sent:
            la.cholesky(x @ x.T + n * ht.eye(n, split=1))
        assert sent.by_op["bcast"][0] == len(blocks)

    spmd(p, run)


@pytest.mark.mpi
def test_solve_over_mpi(comm):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((150, 150)), rng.standard_normal((150, 100))
    for split in (0, 1):
        for rhs in (b, b[:, 0]):
            x = whole(la.solve(ht.array(a, split=split), ht.array(rhs, split=0)))
            assert np.linalg.norm(a @ x - rhs) < 1e-12 * np.linalg.norm(a) * np.linalg.norm(x)
