"""Windows against SciPy's, cut over ranks, without a message."""

import ht_core as ht
import ht_linalg
import numpy as np
import pytest
import scipy.signal
from ht_comm import spmd
from ht_core.testing import whole
from ht_linalg.signal import windows

CASES = [
    ("boxcar",),
    ("triang",),
    ("bartlett",),
    ("parzen",),
    ("bohman",),
    ("cosine",),
    ("lanczos",),
    ("barthann",),
    ("hann",),
    ("hamming",),
    ("blackman",),
    ("nuttall",),
    ("blackmanharris",),
    ("flattop",),
    ("general_cosine", [0.4, 0.3, 0.2, 0.1]),
    ("general_hamming", 0.7),
    ("kaiser", 6.5),
    ("kaiser", 0.0),
    ("gaussian", 2.5),
    ("general_gaussian", 1.5, 2.0),
    ("exponential", None, 2.0),
    ("tukey",),
    ("tukey", 0.0),
    ("tukey", 0.3),
    ("tukey", 1.0),
    ("taylor",),
    ("taylor", 6, 45, False),
    ("taylor", 1, 20),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_scipy(case):
    name, *parameters = case

    def run(comm):
        for n in (0, 1, 2, 3, 4, 9, 10, 33):
            for sym in (True, False):
                keywords = {"sym": sym}
                expected = getattr(scipy.signal.windows, name)(n, *parameters, **keywords)
                for split in (None, 0):
                    with comm.trace() as sent:
                        w = getattr(windows, name)(n, *parameters, sym=sym, split=split, comm=comm)
                    assert sent.calls == 0
                    assert (w.split, w.dtype) == (split, ht.float64)
                    np.testing.assert_allclose(whole(w), expected, rtol=0, atol=2e-15)

    spmd(3, run)


def test_exponential_with_a_centre():
    expected = scipy.signal.windows.exponential(9, 2.0, 3.0, False)
    np.testing.assert_allclose(windows.exponential(9, 2.0, 3.0, False).numpy(), expected, atol=1e-15)


@pytest.mark.parametrize(
    "window", ["hann", "ham", "rect", 4.0, ("kaiser", 3.0), ("tukey", 0.2), ("gauss", 2.0)]
)
def test_by_name(window):
    for n in (7, 8):
        for periodic in (True, False):
            expected = scipy.signal.get_window(window, n, periodic)
            np.testing.assert_allclose(
                ht_linalg.signal.get_window(window, n, periodic, split=0).numpy(), expected, atol=1e-15
            )


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: windows.hann(-1), ValueError, "hann: M must be an integer of at least 0, got -1"),
        (lambda: windows.hann(2.5), ValueError, "hann: M must be an integer of at least 0, got 2.5"),
        (lambda: windows.kaiser(3, "a"), TypeError, "kaiser: beta must be a number, got 'a'"),
        (lambda: windows.exponential(3, 1.0), ValueError, "exponential: center must be None"),
        (lambda: windows.get_window("nothing", 3), ValueError, "get_window: window must be one of barthann"),
        (
            lambda: windows.get_window("gaussian", 3),
            ValueError,
            "get_window: window must name the parameters",
        ),
    ],
)
def test_refusals(call, error, text):
    with pytest.raises(error, match=text):
        call()
