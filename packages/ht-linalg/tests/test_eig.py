"""Eigenvalues and eigenvectors of general matrices of any layout."""

import ht_core as ht
import ht_linalg as la
import numpy as np
import pytest
from ht_comm import spmd
from ht_core.testing import layouts, spread, whole
from hypothesis import given, settings
from hypothesis import strategies as st

FEW = settings(max_examples=12, deadline=None, derandomize=True)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@FEW
@given(data=st.data())
def test_eig(dtype, data):
    p, rng = data.draw(st.integers(1, 4)), np.random.default_rng(0)
    shape = data.draw(st.sampled_from([(6, 6), (1, 1), (0, 0), (4, 3, 3)]))
    a = (rng.standard_normal(shape) + (1j if "c" in dtype else 0) * rng.standard_normal(shape)).astype(dtype)
    place, eps = data.draw(layouts(shape, p)), np.finfo(dtype).eps

    def run(comm):
        x = spread(a, *place, comm)
        w, v = la.eig(x)
        assert len(shape) > 2 or v.layout is x.layout
        np.testing.assert_array_equal(whole(x), a)
        return whole(w), whole(v), whole(la.eigvals(x))

    for w, v, values in spmd(p, run):
        assert w.dtype == v.dtype == np.result_type(dtype, "complex64")
        for at in np.ndindex(shape[:-2]):
            residual = np.linalg.norm(a[at] @ v[at] - v[at] * w[at])
            assert residual <= 40 * eps * np.linalg.norm(a[at])
            np.testing.assert_allclose(np.linalg.norm(v[at], axis=0), 1, rtol=0, atol=20 * eps)
            gap = np.abs(w[at][:, None] - values[at]).min(axis=1, initial=np.inf)
            assert (gap <= 1000 * eps * max(np.linalg.norm(a[at]), eps)).all()


def test_errors_and_messages():
    bad = np.eye(4)
    bad[1, 2] = np.inf

    def run(comm):
        x, wrong = ht.array(bad, split=0), ht.ones((3, 2), split=0)
        with comm.trace() as sent:
            la.eig(ht.eye(3)), la.eigvals(ht.ones((4, 2, 2), split=0))
            with pytest.raises(ht.LayoutError, match="eig: a must be square"):
                la.eig(wrong)
        assert sent.calls == 0
        for call in (la.eig, la.eigvals):
            with pytest.raises(la.LinAlgError, match="a must be finite"):
                call(x)
        return np.isnan(whole(la.eigvals(ht.array(np.stack([np.eye(4), bad]), split=0)))).any(-1).tolist()

    assert spmd(2, run) == [[False, True]] * 2
