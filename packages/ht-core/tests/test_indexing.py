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
    own = (1,) * (draw(st.sampled_from([0, 0, 0, 1])) if shape else 0) + own
    return -np.arange(1, np.prod(own, dtype=int) + 1).reshape(own).astype(dtype)


def assign_and_compare(data, array, key, value):
    """Assign on every rank, with the value replicated or split, and compare with NumPy."""
    p, values, split, counts = array
    expected = values.copy()
    assign(expected, key, value)
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


def assign(x, key, value):
    """Assign as NumPy does, without its refusal of leading axes of extent 1 where the key is one mask."""
    key = numpy_key(key)
    if isinstance(value, np.ndarray):
        value = value.reshape(value.shape[max(value.ndim - x[key].ndim, 0) :])
    x[key] = value


@given(st.data(), arrays())
@CASES
def test_basic_set(data, array):
    key = data.draw(basic_keys(array[1].shape))
    value = data.draw(values_for(array[1][key].shape))
    assign_and_compare(data, array, key, value)


class Array:
    """An index array of a key: the values, and how they are spread over the ranks (None: a NumPy array or a list)."""

    def __init__(self, values, layout):
        self.values, self.layout = values, layout

    def __repr__(self):
        return f"Array({self.values!r}, {self.layout})"

    def on(self, comm):
        if self.layout is None:
            return self.values
        if self.layout == "list":
            return self.values.tolist()
        if self.layout == "torch":
            return torch.from_numpy(self.values.copy())
        return spread(self.values, *self.layout, comm)


@st.composite
def index_arrays(draw, values, p):
    kind = draw(st.sampled_from(["numpy", "list", "torch", "split", "split"]))
    if kind == "list" and values.dtype == bool and values.size == 0:
        kind = "numpy"
    return Array(values, draw(layouts(values.shape, p)) if kind == "split" else None if kind == "numpy" else kind)


@st.composite
def integers(draw, n, shape):
    low, high = (-n, n - 1) if n else (0, 0)
    count = int(np.prod(shape)) if n else 0
    entries = draw(st.lists(st.integers(low, high), min_size=count, max_size=count))
    if draw(st.booleans()):
        entries = sorted(e % n for e in entries) if n else entries
    return np.array(entries, dtype=np.int64).reshape(shape if n else (0,))


@st.composite
def advanced_keys(draw, shape, p):
    """Draw a key with at least one index array, as a tuple that may hold `Array`s."""
    common = draw(st.sampled_from([(1,), (2,), (3,), (7,), (2, 3), (3, 1), (0,)]))
    parts, axis = [], 0
    while axis < len(shape):
        kind = draw(st.sampled_from(["array", "array", "mask", "slice", "int", "new", "stop"]))
        n = shape[axis]
        if kind == "mask":
            wide = draw(st.integers(1, len(shape) - axis))
            cells = int(np.prod(shape[axis : axis + wide]))
            mask = np.array(draw(st.lists(st.booleans(), min_size=cells, max_size=cells)), dtype=bool)
            parts.append(draw(index_arrays(mask.reshape(shape[axis : axis + wide]), p)))
            axis += wide
        elif kind == "array":
            own = draw(st.sampled_from([common, common, common[-1:], (1,)]))
            parts.append(draw(index_arrays(draw(integers(n, own)), p)))
            axis += 1
        elif kind == "new":
            parts.append(draw(st.sampled_from([None, None, True])))
        elif kind == "int" and n:
            parts.append(draw(st.integers(-n, n - 1)))
            axis += 1
        elif kind == "stop":
            parts += [Ellipsis] if draw(st.booleans()) else []
            break
        else:
            parts.append(draw(slices(n)))
            axis += 1
    if not any(isinstance(part, Array) for part in parts):
        parts = [draw(index_arrays(draw(integers(shape[0], common)), p))]
    return tuple(parts)


def numpy_key(key):
    if not isinstance(key, tuple):
        return key
    return tuple(part.values if isinstance(part, Array) else part for part in key)


def key_on(comm, key):
    if not isinstance(key, tuple):
        return key
    return tuple(part.on(comm) if isinstance(part, Array) else part for part in key)


def expected_or_error(values, key):
    try:
        return values[numpy_key(key)]
    except IndexError as error:
        return error


@given(st.data(), arrays().filter(lambda a: a[1].ndim > 0))
@settings(max_examples=400, deadline=None)
def test_advanced_get(data, array):
    p, values, split, counts = array
    key = data.draw(advanced_keys(values.shape, p))
    expected = expected_or_error(values, key)

    def job(comm):
        x = spread(values, split, counts, comm)
        if isinstance(expected, IndexError):
            with pytest.raises(IndexError):
                x[key_on(comm, key)]
            return None
        result = x[key_on(comm, key)]
        np.testing.assert_array_equal(whole(result), expected)
        np.testing.assert_array_equal(whole(x), values)
        return result.layout

    assert len(set(ht_comm.spmd(p, job))) == 1


@given(st.data(), arrays().filter(lambda a: a[1].ndim > 0))
@settings(max_examples=400, deadline=None)
def test_advanced_set(data, array):
    key = data.draw(advanced_keys(array[1].shape, array[0]))
    expected = expected_or_error(array[1], key)
    value = 5 if isinstance(expected, IndexError) else data.draw(values_for(expected.shape))
    if isinstance(expected, IndexError):

        def job(comm):
            x = spread(*array[1:], comm)
            with pytest.raises(IndexError):
                x[key_on(comm, key)] = value
            np.testing.assert_array_equal(whole(x), array[1])

        ht_comm.spmd(array[0], job)
        return
    assign_and_compare(data, array, key, value)
