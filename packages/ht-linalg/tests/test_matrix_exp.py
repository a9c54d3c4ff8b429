"""Matrix exponentials of any layout against SciPy."""

import sys

import ht_core as ht
import ht_linalg as la
import numpy as np
import pytest
import scipy.linalg
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


def close(ours, a, factor=200):
    expected = scipy.linalg.expm(a.astype("complex128" if a.dtype.kind == "c" else "float64"))
    assert ours.dtype == a.dtype
    size = np.maximum(np.linalg.norm(expected), 1)
    assert np.linalg.norm(ours - expected) <= factor * np.finfo(a.dtype).eps * size * max(
        1, np.linalg.norm(a, 1)
    )


@pytest.fixture
def spread_out(monkeypatch):
    """Compute on all ranks from the first row on, as it is done with large matrices."""
    monkeypatch.setattr(sys.modules["ht_linalg.matrix_exp"], "SMALL_EXP", 0)


@pytest.mark.parametrize("dtype", DTYPES)
@FEW
@given(data=st.data())
def test_small_matrices_and_stacks(dtype, data):
    p = data.draw(st.integers(1, 5))
    a = matrix(dtype, data.draw(st.sampled_from([(5, 5), (1, 1), (0, 0), (4, 3, 3), (2, 3, 2, 2)])))
    place = data.draw(layouts(a.shape, p))

    def run(comm):
        x = spread(a, *place, comm)
        found = la.matrix_exp(x)
        assert len(a.shape) > 2 or found.layout is x.layout
        np.testing.assert_array_equal(whole(x), a)
        return whole(found)

    for found in spmd(p, run):
        for at in np.ndindex(a.shape[:-2]):
            if a.size:
                close(found[at], a[at])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norm", [0, 1e-12, 0.01, 0.2, 0.9, 2.0, 5.0, 30.0])
def test_every_degree_of_the_approximant(spread_out, dtype, norm):
    a = matrix(dtype, (7, 7))
    a = (a * (norm / np.linalg.norm(a, 1))).astype(dtype)

    def run(comm):
        return [whole(la.expm(spread(a, *place, comm))) for place in ((0, (4, 0, 3)), (1, (0, 6, 1)))]

    for found in spmd(3, run):
        for each in found:
            close(each, a)


HARD = {
    "nilpotent": np.diag([1e6, 1e6, 1e6], 1),
    "triangular": np.array([[1, 1e4], [0, -1]]),  # overscaled by the norm alone
    "rotation": 20 * np.array([[0, -1.0], [1, 0]]),
    "decay": np.diag([-1.0, -30, -200]),
    "ward": np.array([[-131.0, 19, 18], [-390, 56, 54], [-387, 57, 52]]),
    "zero": np.zeros((3, 3)),
}


@pytest.mark.parametrize("name", HARD)
def test_hard_matrices(spread_out, name):
    a = HARD[name]
    for found in spmd(2, lambda comm: whole(la.matrix_exp(ht.array(a, split=0)))):
        expected = scipy.linalg.expm(a)
        assert np.linalg.norm(found - expected) <= 1e-11 * np.linalg.norm(expected)


def test_messages_and_errors(spread_out):
    def run(comm):
        x = ht.array(matrix("float64", (6, 6)), split=0)
        wrong = ht.ones((6, 5), split=0), ht.ones(6, split=0)
        with comm.trace() as sent:
            la.matrix_exp(ht.ones((3, 3))), la.matrix_exp(ht.ones((4, 3, 3), split=0))
            for bad in wrong:
                with pytest.raises(ht.LayoutError):
                    la.matrix_exp(bad)
        assert sent.calls == 0
        with pytest.raises(la.LinAlgError, match="a must be finite"):
            la.matrix_exp(x * np.nan)
        calls = []
        for power in (4, 12):  # eight more squarings, one product each
            with comm.trace() as sent:
                la.matrix_exp(x * 2.0**power)
            calls.append(sent.calls)
        with comm.trace() as product:
            x @ x
        assert calls[1] - calls[0] <= 8 * (product.calls + 1)

    spmd(2, run)


@pytest.mark.mpi
def test_matrix_exp_over_mpi(comm):
    a = matrix("float64", (300, 300)) / 10
    for split in (0, 1):
        close(whole(la.matrix_exp(ht.array(a, split=split))), a, 1000)
