"""Every row of the registry against NumPy, over shapes, dtypes, layouts and numbers of ranks."""

import ht_core as ht
import numpy as np
import pytest
from ht_comm import spmd
from ht_core.testing import layouts, make_values, spread, whole
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

DTYPES = [d.name for d in ht.DTYPES.values() if d.numpy is not None]
ROWS = {name: row for name, row in ht.OPERATIONS.items() if name == row.name}
UNARY = [n for n, r in ROWS.items() if r.kind == "elementwise" and r.arity == 1 and r.numpy]
OWN_TESTS = {"ldexp"}  # operands of two kinds: test_elementwise.py
BINARY = [
    n for n, r in ROWS.items() if r.kind == "elementwise" and r.arity == 2 and r.numpy and n not in OWN_TESTS
]

FEW = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
RANKS = st.integers(1, 5)
SHAPES = st.lists(st.integers(0, 5), min_size=0, max_size=3).map(tuple)


def close(result, expected, dtype):
    """Compare values; a few units in the last place for floating results, equality for the others."""
    result, expected = np.asarray(result), np.asarray(expected)
    assert result.shape == expected.shape
    assert result.dtype == expected.dtype
    if expected.dtype.kind in "fc":
        eps = np.finfo(expected.dtype).eps
        with np.errstate(all="ignore"):
            np.testing.assert_allclose(result, expected, rtol=64 * eps, atol=64 * eps)
    else:
        np.testing.assert_array_equal(result, expected)


def several(values):
    """Return the results of an operation as a tuple, for some have two."""
    return values if isinstance(values, tuple) else (values,)


def accepted(row, dtype):
    return np.dtype(dtype).kind in row.accepts


@pytest.mark.parametrize("name", UNARY)
@FEW
@given(data=st.data())
def test_unary(name, data):
    row = ROWS[name]
    dtype = data.draw(st.sampled_from([d for d in DTYPES if accepted(row, d)]))
    shape, p = data.draw(SHAPES), data.draw(RANKS)
    values = make_values(dtype, shape, data.draw(st.integers(0, 99)))
    layout = data.draw(layouts(shape, p))
    with np.errstate(all="ignore"):
        expected = several(getattr(np, row.numpy)(values))

    def run(comm):
        x = spread(values, *layout, comm)
        with comm.trace() as sent:
            results = several(row.function(x))
        assert sent.calls == 0
        assert all(y.layout is x.layout for y in results)
        np.testing.assert_array_equal(whole(x), values)
        return [whole(y) for y in results]

    for results in spmd(p, run):
        for result, wanted in zip(results, expected, strict=True):
            close(result, wanted, dtype)


@pytest.mark.parametrize("name", BINARY)
@FEW
@given(data=st.data())
def test_binary(name, data):
    row = ROWS[name]
    names = [d for d in DTYPES if accepted(row, d)]
    shape, p = data.draw(SHAPES), data.draw(RANKS)
    pairs = []
    for i in range(2):
        dtype = data.draw(st.sampled_from(names))
        here = tuple(1 if data.draw(st.integers(0, 4)) == 0 else n for n in shape)
        here = here[data.draw(st.integers(0, 1)) if i and here else 0 :]
        values = make_values(dtype, here, data.draw(st.integers(0, 99)))
        pairs.append((values, data.draw(layouts(here, p))))
    a, b = pairs[0][0], pairs[1][0]
    promoted = np.result_type(a.dtype, b.dtype)
    if promoted.kind not in row.accepts:
        return
    if name == "pow" or "shift" in name:
        b = np.abs(b) if promoted.kind in "iu" else b
        pairs[1] = (b, pairs[1][1])
    with np.errstate(all="ignore"):
        expected = several(getattr(np, row.numpy)(a, b))

    def run(comm):
        x, y = (spread(v, *layout, comm) for v, layout in pairs)
        with comm.trace() as sent:
            results = several(row.function(x, y))
        if x.layout is y.layout or x.split is y.split is None:
            assert sent.calls == 0
        np.testing.assert_array_equal(whole(x), a)
        np.testing.assert_array_equal(whole(y), b)
        return [whole(z) for z in results]

    for results in spmd(p, run):
        for result, wanted in zip(results, expected, strict=True):
            close(result, wanted, promoted)
