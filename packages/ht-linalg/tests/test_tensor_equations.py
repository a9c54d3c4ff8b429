"""tensorsolve and tensorinv of any layout against NumPy."""

import ht_core as ht
import ht_linalg as la
import numpy as np
import pytest
from ht_comm import spmd
from ht_core.testing import layouts, spread, whole
from hypothesis import given, settings
from hypothesis import strategies as st

FEW = settings(max_examples=15, deadline=None, derandomize=True)


@FEW
@given(data=st.data())
def test_tensorsolve(data):
    p, rng = data.draw(st.integers(1, 4)), np.random.default_rng(0)
    shape, b_shape, axes = data.draw(
        st.sampled_from([((2, 3, 6), (2, 3), None), ((2, 3, 3, 2), (2, 3), None), ((6, 2, 3), (2, 3), (0,))])
    )
    a, b = rng.standard_normal(shape), rng.standard_normal(b_shape)
    places = [data.draw(layouts(x.shape, p)) for x in (a, b)]

    def run(comm):
        x, y = (spread(v, *place, comm) for v, place in zip((a, b), places))
        return whole(la.tensorsolve(x, y, axes))

    for found in spmd(p, run):
        np.testing.assert_allclose(found, np.linalg.tensorsolve(a, b, axes), rtol=1e-9, atol=1e-9)


@FEW
@given(data=st.data())
def test_tensorinv(data):
    p = data.draw(st.integers(1, 4))
    shape, ind = data.draw(st.sampled_from([((2, 3, 6), 2), ((6, 2, 3), 1), ((2, 2, 2, 2), 2)]))
    a = np.random.default_rng(1).standard_normal(shape)
    place = data.draw(layouts(shape, p))
    for found in spmd(p, lambda comm: whole(la.tensorinv(spread(a, *place, comm), ind))):
        np.testing.assert_allclose(found, np.linalg.tensorinv(a, ind), rtol=1e-9, atol=1e-9)


def test_wrong_shapes_are_refused_before_any_message():
    def run(comm):
        x = ht.ones((2, 3, 5), split=0)
        with comm.trace() as sent:
            for call, text in (
                (lambda: la.tensorsolve(x, ht.ones((2, 3))), "tensorsolve: a must have as many elements"),
                (
                    lambda: la.tensorsolve(ht.ones((2, 3, 6)), ht.ones(3)),
                    "tensorsolve: a must have as many elements",
                ),
                (lambda: la.tensorinv(x), "tensorinv: a must have as many elements"),
                (lambda: la.tensorinv(x, 0), "tensorinv: ind must be positive"),
            ):
                with pytest.raises(ValueError, match=text):
                    call()
        assert sent.calls == 0

    spmd(2, run)
