"""Convolutions and correlations of any layout against NumPy and SciPy, and the halos they send."""

import functools

import ht_core as ht
import numpy as np
import pytest
import scipy.signal
from ht_comm import spmd
from ht_core.testing import layouts, make_values, spread, whole
from ht_linalg import signal
from hypothesis import given, settings
from hypothesis import strategies as st

FEW = settings(max_examples=40, deadline=None, derandomize=True)
MODES = ("full", "same", "valid")


def run(function, a, v, places, p):
    def body(comm):
        x, y = (spread(array, *place, comm) for array, place in zip((a, v), places))
        result = function(x, y)
        np.testing.assert_array_equal(whole(x), a)
        return whole(result)

    return spmd(p, body)


@pytest.mark.parametrize("dtype", ["int64", "float64", "complex128", "float32"])
@pytest.mark.parametrize("mode", MODES)
@FEW
@given(data=st.data())
def test_vectors(mode, dtype, data):
    p, n, k = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 20)), data.draw(st.integers(1, 12))
    a, v = make_values(dtype, (n,), 1), make_values(dtype, (k,), 2)
    places = [data.draw(layouts(x.shape, p)) for x in (a, v)]
    for ours, theirs in ((signal.convolve, np.convolve), (signal.correlate, np.correlate)):
        expected = theirs(a, v, mode)
        for result in run(functools.partial(ours, mode=mode), a, v, places, p):
            assert result.dtype == expected.dtype
            np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
@FEW
@given(data=st.data())
def test_stacks_and_strides(mode, data):
    """Leading axes broadcast; a stride takes every s-th result."""
    p, n, s = data.draw(st.integers(1, 4)), data.draw(st.integers(4, 12)), data.draw(st.integers(1, 4))
    a, v = make_values("float64", (3, 2, n), 1), make_values("float64", (2, 4), 2)
    expected = np.array([[np.convolve(x, y, mode)[::s] for x, y in zip(rows, v)] for rows in a])
    places = [data.draw(layouts(x.shape, p)) for x in (a, v)]
    for result in run(lambda x, y: signal.convolve(x, y, mode, s), a, v, places, p):
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("mode", MODES)
@FEW
@given(data=st.data())
def test_images(mode, data):
    p, s = data.draw(st.integers(1, 4)), data.draw(st.tuples(st.integers(1, 3), st.integers(1, 2)))
    dtype = data.draw(st.sampled_from(["int32", "float64", "complex128"]))
    a, v = make_values(dtype, (7, 6), 1), make_values(dtype, (data.draw(st.integers(1, 4)), 3), 2)
    expected = scipy.signal.convolve2d(a, v, mode)[:: s[0], :: s[1]]
    places = [data.draw(layouts(x.shape, p)) for x in (a, v)]
    for result in run(lambda x, y: signal.convolve2d(x, y, mode, s), a, v, places, p):
        assert result.dtype == a.dtype
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-12)


def test_only_halos_travel():
    def body(comm):
        x, v = ht.ones(1000, split=0), ht.ones(9)
        with comm.trace() as sent:
            signal.convolve(x, v, "same")
        assert sent.calls == 1
        assert sent.bytes <= 2 * 8 * 8
        with comm.trace() as sent:
            signal.convolve(ht.ones((6, 50), split=0), v)
            signal.convolve2d(ht.ones((6, 50, 50), split=0), ht.ones((3, 3)))
        assert sent.calls == 0

    spmd(3, body)


def test_tiles_join(monkeypatch):
    a, v = make_values("float64", (57, 9), 1), make_values("float64", (4, 3), 2)
    monkeypatch.setattr("ht_linalg.signal.convolution._TILE", 500)
    for result in run(lambda x, y: signal.convolve2d(x, y, "same"), a, v, [(0, (20, 37)), (None, ())], 2):
        np.testing.assert_allclose(result, scipy.signal.convolve2d(a, v, "same"), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda x: signal.convolve(x, x, "some"), "mode must be one of full, same, valid"),
        (lambda x: signal.convolve(x, x, stride=0), "stride must be a positive integer"),
        (lambda x: signal.convolve(x, x[:, :0]), "axes that are not empty"),
        (lambda x: signal.convolve(x, ht.ones((2, 2))), "leading axes must broadcast"),
        (lambda x: signal.convolve2d(x, ht.ones((5, 5)), "valid"), "must fit into a"),
        (lambda x: signal.convolve2d(x, x, stride=(1, 1, 1)), "one or two integers"),
    ],
)
def test_wrong_arguments_are_refused_before_any_message(call, text):
    def body(comm):
        x = ht.ones((4, 3), split=0)
        with comm.trace() as sent, pytest.raises(ht.LayoutError, match=text):
            call(x)
        assert sent.calls == 0

    spmd(2, body)


@pytest.mark.mpi
def test_signal_over_mpi(comm):
    rng = np.random.default_rng(0)
    a, v = rng.standard_normal(5000), rng.standard_normal(301)
    for mode in MODES:
        np.testing.assert_allclose(
            whole(signal.convolve(ht.array(a, split=0), v, mode)), np.convolve(a, v, mode), rtol=0, atol=1e-11
        )
