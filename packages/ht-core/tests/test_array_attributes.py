"""Attributes as functions, facts of memory, functions put together from others."""

import ht_core as ht
import numpy as np
import pytest
from ht_comm import spmd
from ht_core.testing import whole


def test_attributes_as_functions():
    x = ht.ones((4, 3), split=0)
    assert (ht.shape(x), ht.ndim(x), ht.size(x)) == ((4, 3), 2, 12)
    assert (ht.size(x, 0), ht.size(x, (0, 1)), ht.size([[1, 2]], axis=1)) == (4, 12, 2)
    assert ht.iterable(x)
    assert not ht.iterable(ht.ones(()))
    assert not ht.isfortran(x)
    assert ht.isfortran(x.T)
    assert not ht.isfortran(ht.ones(3))
    assert ht.ndarray is ht.DNDarray
    assert ht.s_[1:2, ...] == np.s_[1:2, ...]


def test_facts_of_memory():
    x = ht.arange(6.0)
    assert ht.shares_memory(x, x[2:])
    assert not ht.shares_memory(x[::2], x[1::2])
    assert ht.may_share_memory(x[::2], x[1::2])
    assert not ht.may_share_memory(x, x.copy())
    values = np.arange(3.0)
    assert ht.may_share_memory(ht.asarray(values, copy=False), values)


@pytest.mark.parametrize("p", [1, 3])
def test_polyval(p):
    values, coefficients = np.linspace(-1, 2, 7), np.array([2.0, -1, 0.5, 3])
    expected = np.polyval(coefficients, values)

    def run(comm):
        x = ht.array(values, split=0)
        with comm.trace() as sent:
            y = ht.polyval(coefficients, x)
        assert sent.calls == 0
        with comm.trace() as sent:
            z = ht.polyval(ht.array(coefficients, split=0), x)
        assert sent.calls == (comm.size > 1)
        np.testing.assert_array_equal(whole(y), whole(z))
        return whole(y)

    for result in spmd(p, run):
        np.testing.assert_allclose(result, expected, rtol=1e-14)
    assert ht.polyval([1, 2], ht.arange(3)).dtype is ht.int64
    with pytest.raises(ht.LayoutError, match="one-dimensional"):
        ht.polyval([[1]], ht.ones(2))
