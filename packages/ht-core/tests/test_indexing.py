"""Indexing against NumPy: every kind of key, on every layout."""

import warnings

import ht_comm
import ht_core as ht
import numpy as np
import pytest
import torch
from ht_core import indexing
from ht_core.engines.indexing import plan_index
from ht_core.layout import Layout
from ht_core.testing import layouts, spread, whole
from hypothesis import given, settings
from hypothesis import strategies as st

CASES = settings(max_examples=150, deadline=None)
SHAPES = st.lists(st.integers(0, 5), min_size=0, max_size=3).map(tuple)


@st.composite
def slices(draw, n):
    bound = st.none() | st.integers(-n - 2, n + 2)
    return slice(draw(bound), draw(bound), draw(st.none() | st.sampled_from([1, 2, 3, -1, -2, -3])))


@st.composite
def basic_keys(draw, shape):
    parts = []
    for n in shape[: draw(st.integers(0, len(shape)))]:
        options = [slices(n)] + ([st.integers(-n, n - 1), st.integers(-n, n - 1).map(np.int32)] if n else [])
        parts.append(draw(st.one_of(options)))
    for _ in range(draw(st.integers(0, 2))):
        parts.insert(draw(st.integers(0, len(parts))), None)
    if draw(st.booleans()):
        parts = [*parts, Ellipsis] if draw(st.booleans()) else parts
    elif draw(st.booleans()):
        at = draw(st.integers(0, len(parts)))
        used = [p for p in parts if p is not None]
        if len(used) == len(shape) or at == len(parts):
            parts.insert(at, Ellipsis)
    return parts[0] if len(parts) == 1 and draw(st.booleans()) else tuple(parts)


@st.composite
def arrays(draw, dtype=np.float64):
    """Draw p, a global NumPy array with distinct elements, split and counts."""
    p, shape = draw(st.integers(1, 5)), draw(SHAPES)
    values = np.arange(1, np.prod(shape, dtype=int) + 1).reshape(shape).astype(dtype)
    return p, values, *draw(layouts(shape, p))


@given(st.data(), arrays())
@CASES
def test_basic_get(data, array):
    p, values, split, counts = array
    key = data.draw(basic_keys(values.shape))
    expected = values[key]

    def job(comm):
        x = spread(values, split, counts, comm)
        result = x[key]
        np.testing.assert_array_equal(whole(result), expected)
        np.testing.assert_array_equal(whole(x), values)
        assert result.shape == expected.shape
        return result.layout

    assert len(set(ht_comm.spmd(p, job))) == 1


@st.composite
def values_for(draw, shape, dtype=np.float64):
    """Draw something that broadcasts to `shape`: a scalar or an array, perhaps with leading axes of extent 1."""
    if draw(st.booleans()) and draw(st.booleans()):
        return draw(st.sampled_from([7, -2.5, True]))
    lead = draw(st.integers(0, len(shape)))
    own = tuple(1 if draw(st.sampled_from([True, False, False])) else n for n in shape[lead:])
    own = (1,) * draw(st.sampled_from([0, 0, 0, 1])) + own
    return -np.arange(1, np.prod(own, dtype=int) + 1).reshape(own).astype(dtype)


def assign_and_compare(data, array, key, value):
    """Assign on every rank, with the value replicated or split, and compare with NumPy."""
    p, values, split, counts = array
    expected = values.copy()
    expected[key] = value
    value_layout = data.draw(layouts(value.shape, p)) if isinstance(value, np.ndarray) else None
    replicated = data.draw(st.booleans())

    def job(comm):
        x = spread(values, split, counts, comm)
        given_value = value
        if value_layout is not None and not replicated:
            given_value = spread(value, *value_layout, comm)
        x[key_on(comm, key)] = given_value
        np.testing.assert_array_equal(whole(x), expected)
        if value_layout is not None and not replicated:
            np.testing.assert_array_equal(whole(given_value), value)

    ht_comm.spmd(p, job)


def key_on(comm, key):
    return key(comm) if callable(key) else key


@given(st.data(), arrays())
@CASES
def test_basic_set(data, array):
    key = data.draw(basic_keys(array[1].shape))
    value = data.draw(values_for(array[1][key].shape))
    assign_and_compare(data, array, key, value)
