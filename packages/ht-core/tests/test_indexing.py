"""Indexing against NumPy: every kind of key, on every layout."""

import warnings

import ht_comm
import ht_core as ht
import numpy as np
import pytest
import torch
from ht_core import indexing
from ht_core.engines import choosing, gather, index_local, index_small
from ht_core.engines.indexing import plan_index
from ht_core.layout import Layout
from ht_core.testing import layouts, spread, whole
from hypothesis import given, settings
from hypothesis import strategies as st

CASES = settings(max_examples=80, deadline=None, derandomize=True)
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
    return Array(
        values, draw(layouts(values.shape, p)) if kind == "split" else None if kind == "numpy" else kind
    )


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
@settings(max_examples=200, deadline=None, derandomize=True)
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
@settings(max_examples=200, deadline=None, derandomize=True)
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


# -- plans: pure ----------------------------------------------------------------------------------------------


@given(st.data(), arrays())
@CASES
def test_plan_names_each_element_once(data, array):
    """The local keys of all ranks, laid side by side as the plan says, are NumPy's selection."""
    p, values, split, counts = array
    layout = Layout(values.shape, split, counts)
    key = data.draw(basic_keys(values.shape))
    items = tuple((k.start, k.stop, k.step) if isinstance(k, slice) else k for k in as_tuple(key))
    plan = plan_index(layout, items)
    assert plan_index(layout, items) is plan
    expected = values[key]
    assert plan.layout.shape == plan.region.shape == expected.shape
    ranks = range(p) if layout.split is not None and plan.owner is None else [plan.owner or 0]
    parts = [values[layout.slices(r)][plan.local_key(layout, r)] for r in ranks]
    joined = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=plan.region.split)
    np.testing.assert_array_equal(np.flip(joined, plan.flips), expected)
    if plan.region.split is not None:
        assert [part.shape for part in parts] == [plan.region.lshape(r) for r in range(p)]


def as_tuple(key):
    return tuple(
        int(k) if isinstance(k, np.integer) else k for k in (key if isinstance(key, tuple) else (key,))
    )


def test_plan_of_slices_keeps_rows():
    layout = Layout((10, 4), 0, (4, 0, 6))
    assert plan_index(layout, ((2, 9, 3), None)).layout == Layout((3, 1, 4), 0, (1, 0, 2))
    assert plan_index(layout, ((None, None, -1),)).layout == Layout((10, 4), 0, (4, 3, 3))
    assert not plan_index(layout, ((None, 3, -1),)).moves  # all of it on one rank
    assert plan_index(layout, (-1,)).owner == 2
    assert plan_index(layout, (Ellipsis, -1)).layout == Layout((10,), 0, (4, 0, 6))


# -- cost -----------------------------------------------------------------------------------------------------

X = np.arange(24.0).reshape(8, 3)
COUNTS = (3, 0, 4, 1)


def even(values, split, comm):
    return spread(values, split, Layout.even(values.shape, split, comm.size).counts, comm)


def on_four_ranks(fn):
    def job(comm):
        with comm.trace() as trace:
            x = spread(X, 0, COUNTS, comm)
            start = trace.calls, trace.bytes
            fn(x)
            return trace.calls - start[0], trace.bytes - start[1], dict(trace.by_op)

    return ht_comm.spmd(4, job)


def set_to(key, value):
    return lambda x: x.__setitem__(key, value)


MASK = X[:, 0] % 2 == 0


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: x[2:7],
        lambda x: x[::2, None, ::-1],
        lambda x: x[..., 1],
        lambda x: x[:, [2, 0]],
        lambda x: x[:, [True, False, True]],
        lambda x: x[[0, 2, 2, 5]],
        lambda x: x[MASK],
        set_to((slice(-3, None), 1), 4),
        set_to(slice(None, None, -1), X),
        set_to(5, [1, 2, 3]),
        set_to([7, 0, 7], 5),
        set_to([7, 0, 7], X[:3]),
        set_to(MASK, X[:4]),
        set_to((slice(None), [2, 0]), X[:, :2]),
        lambda x: x.__setitem__(slice(None), x),
        lambda x: x.__setitem__(slice(2, 6), x[2:6]),
        lambda x: x.__setitem__(x[:, 0] > 3, 0.0),
        lambda x: x.__setitem__([0, 2, 5], x[[0, 2, 5]]),
    ],
)
def test_no_message(fn):
    assert all(calls == 0 for calls, _, _ in on_four_ranks(fn))


def test_integer_on_the_split_axis_is_one_broadcast_of_the_row():
    results = on_four_ranks(lambda x: x[4])
    assert [calls for calls, _, _ in results] == [1] * 4
    assert all(set(by_op) == {"bcast"} for _, _, by_op in results)


def test_reversed_split_axis_is_one_redistribution():
    results = on_four_ranks(lambda x: x[::-1])
    assert all(calls == 1 and set(by_op) == {"redistribute"} for calls, _, by_op in results)


@pytest.mark.parametrize(
    "dtype", ["float64", "float32", "complex64", "complex128", "int16", "uint32", "bool"]
)
def test_a_number_is_written_where_long_masks_are_true(dtype, monkeypatch):
    """In tiles that hold none, all, some, one."""
    monkeypatch.setattr(choosing, "TILE", 50)
    rng = np.random.default_rng(4)
    mask = np.repeat([False, True, False], 167)
    mask[60:90] = rng.random(30) < 0.5
    mask[[120, 420]] = True
    values = rng.integers(0, 2, 501).astype(dtype)
    number = np.asarray(1.5 if np.dtype(dtype).kind in "fc" else 1).astype(dtype)[()]
    expected = values.copy()
    expected[mask] = number

    def run(comm):
        x = ht.array(values, split=0)
        x[ht.array(mask, split=0)] = number
        return whole(x)

    for result in ht_comm.spmd(2, run):
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("fn", [lambda x: x[x[:, 0] > 6], lambda x: x[x > 6], ht.nonzero, ht.argwhere])
def test_aligned_mask_is_one_exchange_of_counts(fn):
    results = on_four_ranks(fn)
    assert all(calls == 1 and set(by_op) == {"allgather"} for calls, _, by_op in results)


def test_replicated_keys_move_only_what_they_name():
    rows = np.random.default_rng(0).integers(0, 4000, 100)

    def job(comm):
        x = ht.zeros((4000, 5), split=0, comm=comm)
        with comm.trace() as trace:
            x[rows]
        assert trace.calls == 1
        return trace.bytes

    assert sum(ht_comm.spmd(4, job)) <= 100 * 5 * 8


def test_split_keys_move_a_constant_number_of_words_each():
    rows = np.random.default_rng(0).integers(0, 4000, 1000)

    def job(comm):
        x = ht.zeros((4000, 5), split=0, comm=comm)
        key = spread(rows, 0, (250,) * 4, comm)
        with comm.trace() as trace:
            x[key]
        assert trace.calls == 3
        return trace.bytes

    assert sum(ht_comm.spmd(4, job)) <= 1000 * (5 + 1) * 8 + 4 * 4 * 3 * 8


# -- errors: the same on every rank, nothing changed -----------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "error"),
    [
        (8, IndexError),
        (-9, IndexError),
        ((0, 0, 0), IndexError),
        ((..., ...), IndexError),
        (1.0, IndexError),
        ("a", IndexError),
        ([0, 8], IndexError),
        ((slice(None), [0, -4]), IndexError),
        ([1.5], IndexError),
        (np.ones(7, bool), IndexError),
        (np.ones((8, 2), bool), IndexError),
        (([0, 1], [0, 1, 2]), IndexError),
        (slice(None, None, 0), ValueError),
        (slice(1.0, 2), TypeError),
        (lambda comm: spread(np.array([0, 1, -9, 2]), 0, (1, 1, 1, 1), comm), IndexError),
        (lambda comm: (slice(None), spread(np.array([0, 1, 2, 3]), 0, (1, 1, 1, 1), comm)), IndexError),
    ],
)
@pytest.mark.parametrize("split", [None, 0, 1])
def test_bad_keys(key, error, split):
    def job(comm):
        x = spread(X, split, {None: (), 0: COUNTS, 1: (1, 1, 0, 1)}[split], comm)
        texts = []
        for use in (lambda k: x[k], lambda k: x.__setitem__(k, 1)):
            with pytest.raises(error) as caught:
                use(key(comm) if callable(key) else key)
            texts.append(str(caught.value))
        np.testing.assert_array_equal(whole(x), X)
        assert texts[0] == texts[1]
        return texts[0]

    assert len(set(ht_comm.spmd(4, job))) == 1


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (np.ones((2, 3)), ValueError),
        (np.ones((2, 1, 3)), ValueError),
        (1j, TypeError),
        ("a", TypeError),
        (None, TypeError),
        (300, OverflowError),
        (float("nan"), ValueError),
    ],
)
@pytest.mark.parametrize("key", [slice(0, 3), [4, 0, 2], X[:, 0] < 9])
def test_bad_values(key, value, error):
    def job(comm):
        x = spread(X.astype(np.int8), 0, COUNTS, comm)
        with pytest.raises(error) as caught:
            x[key] = value
        np.testing.assert_array_equal(whole(x), X)
        return str(caught.value)

    assert len(set(ht_comm.spmd(4, job))) == 1


def test_broadcast_views_are_read_only():
    for key in (0, [0, 1], slice(None)):
        with pytest.raises(ht.LayoutError):
            ht.broadcast_to(ht.zeros(3), (4, 3))[key] = 1


def test_index_of_another_communicator_is_refused():
    def job(comm):
        x = ht.zeros(4, split=0, comm=comm)
        with pytest.raises(ht_comm.CommError):
            x[ht.arange(2, comm=ht_comm.SerialComm())]
        with pytest.raises(ht_comm.CommError):
            x[:2] = ht.arange(2, comm=ht_comm.SerialComm())

    ht_comm.spmd(2, job)


# -- dtypes and memory ------------------------------------------------------------------------------------------

KEYS = [3, slice(None, None, -2), [5, 0, -1, 5], X[:, 0] % 2 == 0, (slice(None), [2, 0])]


@pytest.mark.parametrize("dtype", [d for d in ht.DTYPES if d != "bfloat16"])
def test_dtypes(dtype):
    values = (X % 5).astype(dtype)

    def job(comm):
        for key in KEYS:
            x = spread(values, 0, (3, 0, 5), comm)
            split_key = spread(np.array([5, 0, -1, 5]), 0, (0, 2, 2), comm) if isinstance(key, list) else key
            result = x[split_key]
            assert result.dtype == dtype
            np.testing.assert_array_equal(whole(result), values[key])
            expected = values.copy()
            expected[key] = values[key][..., ::-1]
            x[split_key] = result[..., ::-1]
            np.testing.assert_array_equal(whole(x), expected)
            expected[key] = 1
            x[split_key] = 1
            np.testing.assert_array_equal(whole(x), expected)

    ht_comm.spmd(3, job)


@pytest.mark.parametrize("source", ["bool", "int64", "uint16", "float32", "complex128"])
@pytest.mark.parametrize("target", ["bool", "int8", "uint32", "float64", "complex64"])
def test_values_are_cast_as_numpy_casts(source, target):
    for key in [*KEYS, ...]:
        expected, x = (X % 5).astype(target), spread((X % 5).astype(target), 0, (8,), ht_comm.SerialComm())
        value = (np.arange(expected[key].size).reshape(expected[key].shape) % 3).astype(source)
        with warnings.catch_warnings(record=True) as numpys:
            warnings.simplefilter("always")
            expected[key] = value
        with warnings.catch_warnings(record=True) as ours:
            warnings.simplefilter("always")
            x[key] = value
        np.testing.assert_array_equal(whole(x), expected)
        assert {w.category for w in ours} == {w.category for w in numpys}


def test_shared_memory_does_not_depend_on_the_number_of_ranks():
    def job(comm):
        shares = []
        for split in (None, 0, 1):
            for key in [
                slice(1, 7, 2),
                (..., None),
                (slice(None), 1),
                3,
                slice(None, None, -1),
                [0, 1],
                X[:, 0] > 5,
            ]:
                x = even(X, split, comm)
                x[key] += 0  # a view of itself may be assigned to itself
                np.testing.assert_array_equal(whole(x), X)
                x[key].larray.fill_(-1)
                shares.append(bool((whole(x) == -1).any()))
        return tuple(shares)

    shares, *others = {result for p in (1, 2, 3) for result in ht_comm.spmd(p, job)}
    assert not others
    # a row of the split axis is everybody's copy; 7 keys for each split, the row is the fourth
    assert [shares[7 * k + 3] for k in range(3)] == [True, False, True]


@pytest.mark.parametrize("p", [1, 3])
def test_arrays_that_stand_apart_come_first(p):
    """NumPy's rule: index arrays with a slice or None between them put their axes in front, also after a slice."""
    values = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    keys = [
        np.s_[:, [0, 2], :, [1, 3]],
        np.s_[:, [0, 2], None, [1, 3]],
        np.s_[:, 1, :, [1, 3, 0]],
        np.s_[:, [[0], [2]], [1, 3]],
        np.s_[..., [0, 2], :, [4, 1]],
    ]

    def job(comm):
        for split in (None, *range(4)):
            for key in keys:
                x, expected = even(values, split, comm), values.copy()
                np.testing.assert_array_equal(whole(x[key]), values[key])
                expected[key] = -values[key]
                x[key] = -values[key]
                np.testing.assert_array_equal(whole(x), expected)

    ht_comm.spmd(p, job)


def test_a_row_is_sent_to_its_owner_only():
    def job(comm):
        x, row = even(X, 0, comm), even(X[0] + 100, 0, comm)
        with comm.trace() as trace:
            x[X.shape[0] - 1] = row
        assert whole(x)[-1].tolist() == (X[0] + 100).tolist()
        return trace.bytes

    counts = ht.Layout.even(X[0].shape, 0, 3).counts
    assert ht_comm.spmd(3, job) == [n * X.itemsize for n in counts[:2]] + [0]


@pytest.mark.parametrize("split", [None, 0, 1])
def test_overlapping_assignment(split):
    def job(comm):
        for to, from_ in [
            (slice(1, None), slice(None, -1)),
            (slice(None, -1), slice(1, None)),
            (slice(None, None, -1), slice(None)),
            ((slice(None), slice(1, 3)), (slice(None), slice(0, 2))),
            ((slice(None), [2, 0]), (slice(None), slice(0, 2))),
            ([3, 1, 2], slice(1, 4)),
        ]:
            x, expected = even(X, split, comm), X.copy()
            expected[to] = expected[from_].copy()
            x[to] = x[from_]
            np.testing.assert_array_equal(whole(x), expected)

    for p in (1, 3):
        ht_comm.spmd(p, job)


def test_last_value_wins():
    keys = np.random.default_rng(1).integers(-50, 50, 3000)
    expected = np.zeros(50)
    expected[keys] = np.arange(3000)

    def job(comm):
        for key in (keys, spread(keys, 0, (1000, 0, 2000), comm)):
            for value in (np.arange(3000.0), ht.arange(3000, split=0, comm=comm)):
                for split in (None, 0):
                    x = ht.zeros(50, split=split, comm=comm)
                    x[key] = value
                    np.testing.assert_array_equal(whole(x), expected)

    ht_comm.spmd(3, job)


def test_key_order_is_kept():
    def job(comm):
        x = ht.arange(10, split=0, comm=comm)
        assert whole(x[[9, 0, 5]]).tolist() == [9, 0, 5]
        assert whole(x[[-1]]).tolist() == [9]
        assert whole(x[ht.array([9, 0, 5], split=0, comm=comm)]).tolist() == [9, 0, 5]
        x[-3:] = -1
        assert whole(x).tolist() == [0, 1, 2, 3, 4, 5, 6, -1, -1, -1]
        x[2:8][1:3] = 7
        assert whole(x).tolist() == [0, 1, 2, 7, 7, 5, 6, -1, -1, -1]

    for p in (1, 2, 3, 4, 5):
        ht_comm.spmd(p, job)


# -- take, nonzero, argwhere, flatnonzero ------------------------------------------------------------------------


@given(st.data(), arrays())
@CASES
def test_take(data, array):
    p, values, split, counts = array
    axis = data.draw(st.sampled_from([None, *range(-max(values.ndim, 1), max(values.ndim, 1))]))
    extent = values.size if axis is None else values.shape[axis] if values.ndim else 1
    mode = data.draw(st.sampled_from(["raise", "wrap", "clip"]))
    shape = data.draw(st.sampled_from([(), (1,), (4,), (2, 3)])) if extent else (0,)
    indices = data.draw(integers(extent, shape)) + (
        0 if mode == "raise" else data.draw(st.sampled_from([0, 9]))
    )
    index = Array(np.asarray(indices), data.draw(layouts(shape, p)))
    expected = np.take(values, indices, axis=axis, mode=mode)

    def job(comm):
        x = spread(values, split, counts, comm)
        result = ht.take(x, index.on(comm), axis=axis, mode=mode)
        np.testing.assert_array_equal(whole(result), expected)
        return result.layout

    assert len(set(ht_comm.spmd(p, job))) == 1


def test_take_refuses():
    def job(comm):
        x = ht.arange(6, split=0, comm=comm)
        bad = spread(np.array([0, 1, 6]), 0, (1, 1, 1), comm)
        cases = [
            (dict(indices=[0, 6]), IndexError),
            (dict(indices=bad), IndexError),
            (dict(indices=bad, axis=0), IndexError),
            (dict(indices=np.array([0.5])), TypeError),
            (dict(indices=[0], axis=1), ValueError),
            (dict(indices=[0], mode="nearest"), ValueError),
        ]
        texts = []
        for arguments, error in cases:
            with pytest.raises(error) as caught:
                x.take(**arguments)
            texts.append(str(caught.value))
        with pytest.raises(IndexError):
            ht.zeros((0, 3), split=0, comm=comm).take([0], axis=0)
        return tuple(texts)

    assert len(set(ht_comm.spmd(3, job))) == 1


@given(st.data(), arrays())
@CASES
def test_nonzero(data, array):
    p, values, split, counts = array
    values = np.where(values % data.draw(st.integers(1, 5)) == 0, 0, values).reshape(values.shape)

    def job(comm):
        x = spread(values, split, counts, comm)
        if values.ndim:
            found = ht.nonzero(x)
            for ours, numpys in zip(found, np.nonzero(values), strict=True):
                assert ours.dtype == ht.int64
                np.testing.assert_array_equal(whole(ours), numpys)
            np.testing.assert_array_equal(whole(x[found]), values[np.nonzero(values)])
        np.testing.assert_array_equal(whole(ht.argwhere(x)), np.argwhere(values))
        np.testing.assert_array_equal(whole(ht.flatnonzero(x)), np.flatnonzero(values))

    ht_comm.spmd(p, job)


def test_nonzero_refuses_scalars():
    with pytest.raises(ht.LayoutError):
        ht.nonzero(ht.array(3))


@pytest.mark.mpi
def test_on_mpi(comm):
    values = np.arange(60).reshape(12, 5)
    key = np.random.default_rng(0).permutation(12)
    for split in (None, 0, 1):
        x = even(values, split, comm)
        for k in (
            3,
            slice(None, None, -2),
            key,
            values[:, 0] % 3 == 0,
            (slice(2, 9), 1),
            (key[:5], [4, 0, 1, 1, 3]),
        ):
            np.testing.assert_array_equal(x[k].numpy(), values[k])
        np.testing.assert_array_equal(x[ht.array(key, split=0, comm=comm)].numpy(), values[key])
        np.testing.assert_array_equal(x[x % 7 == 0].numpy(), values[values % 7 == 0])
        x[ht.array(key, split=0, comm=comm)] = ht.array(values, split=0, comm=comm)
        expected = np.empty_like(values)
        expected[key] = values
        np.testing.assert_array_equal(x.numpy(), expected)


# -- the short way of small keys ----------------------------------------------------------------------------------


@pytest.fixture(params=["short way", "general engines"])
def way(request, monkeypatch):
    """Both ways must give the same: with no elements allowed, every key goes through the general engines."""
    if request.param == "general engines":
        monkeypatch.setattr(index_small, "KEYS", -1)
    return request.param


@pytest.mark.parametrize("split", [None, 0, 1])
def test_both_ways_agree_in_values_and_layout(way, split):
    values = np.arange(40.0).reshape(8, 5)
    pair, mask = np.array([[1, -3], [0, 7]]), values[:, 0] % 2 == 0
    keys = [
        [3, 0, -1], pair, mask, values > 7, (slice(1, 6), [2, 0]), (slice(None, None, -2), [4, 4]), ([1, 2], [3, -1]),
        (3, [1, 2]), ([0, 7], 2), (pair, None, 1), (..., [0, 1]), ([1, 2], slice(None), None), (None, mask), [],
        (pair, np.array([[0], [4]])), (slice(3, 1), [0]), (mask, 1), (1, slice(None)),
    ]  # fmt: skip

    def job(comm):
        layouts_of = []
        for key in keys:
            for key_split in (None, 0):
                x = even(values, split, comm)
                own = key
                if key_split == 0 and isinstance(key, np.ndarray):
                    own = even(key, 0, comm)
                result = x[own]
                np.testing.assert_array_equal(whole(result), values[key])
                assert result.larray.data_ptr() != x.larray.data_ptr() or isinstance(key[0], int)
                layouts_of.append(result.layout)
                expected = values.copy()
                expected[key] = -values[key]
                x[own] = -result
                np.testing.assert_array_equal(whole(x), expected)
        return layouts_of

    for p in (1, 3):
        found = ht_comm.spmd(p, job)
        assert all(f == found[0] for f in found)
        LAYOUTS.setdefault((p, split), found[0])
        assert LAYOUTS[p, split] == found[0]


LAYOUTS = {}


def test_the_short_way_is_taken_and_marks_its_writes(monkeypatch):
    general = []
    monkeypatch.setattr(indexing, "normalize", lambda *args: general.append(args))
    x = ht.arange(10, split=0, device="cpu")
    version = x.larray._version
    x[[1, 2]] = 7
    assert x.larray._version > version  # or torch would not notice that a saved tensor has changed
    x[x > 5]
    x[np.array([3, -3])]
    ht.take(x, [1, 2])
    assert not general


@pytest.mark.parametrize("dtype", ["bfloat16", "uint16", "complex64", "bool"])
def test_small_keys_of_types_that_numpy_or_torch_lacks(dtype, way):
    x = ht.array([0, 1, 1, 0, 1], dtype=dtype, split=0)
    y = x[[1, 0, -1]]
    assert y.dtype == dtype
    assert y.astype("int64").larray.tolist() == [1, 0, 1]
    x[[0, 3]] = x[[1, 2]]
    x[[1]] = 0
    assert x.astype("int64").larray.tolist() == [1, 0, 1, 1, 1]


# -- memory ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scratch", [1, 700, 3000])
@pytest.mark.parametrize("split_key", [False, True])
def test_rows_travel_in_rounds(monkeypatch, scratch, split_key):
    """Little scratch means more rounds, not other results."""
    monkeypatch.setattr(gather, "SCRATCH", scratch)
    monkeypatch.setattr(index_local, "MASKED", 3)
    values = np.arange(60.0).reshape(20, 3)
    rows, columns = np.random.default_rng(0).integers(-20, 20, (2, 31)), np.array([[1], [-1]])
    mask = values % 7 < 4

    def job(comm):
        x = spread(values, 0, (3, 0, 17), comm)
        key = spread(rows, 1, (11, 20, 0), comm) if split_key else rows
        for own, plain in (((key,), rows), ((key, 1), (rows, 1)), ((key, columns), (rows, columns))):
            with comm.trace() as sent:
                found = x[own if len(own) > 1 else own[0]]
            if scratch == 1 and not split_key:
                assert sent.calls > 10
            np.testing.assert_array_equal(whole(found), values[plain])
        np.testing.assert_array_equal(whole(x[spread(mask, 0, (3, 0, 17), comm)]), values[mask])
        far = np.where(rows == rows[0, 0], 99, rows)
        with pytest.raises(IndexError, match="got 99"):
            x[spread(far, 1, (11, 20, 0), comm) if split_key else far]

    ht_comm.spmd(3, job)


@pytest.mark.parametrize("scratch", [1, 700, 3000, 24 << 20])
@pytest.mark.parametrize("counts", [(31, 0, 0), (11, 20, 0), (10, 10, 11)])
def test_values_travel_in_rounds(monkeypatch, scratch, counts):
    """And the last value of a row that is named again wins in any number of rounds."""
    monkeypatch.setattr(gather, "SCRATCH", scratch)
    rng = np.random.default_rng(0)
    rows, once = rng.integers(-20, 20, 31), rng.permutation(31)
    new = np.arange(93.0).reshape(31, 3)
    cases = [
        (40, rows, new),
        (40, rows, new[0]),
        (40, rows, 7.0),
        (31, once, new),
        (31, np.arange(31) % 3 == 0, 5.0),
    ]

    def job(comm):
        for n, key, value in cases:
            expected = np.zeros((n, 3))
            expected[key] = value
            x = spread(np.zeros((n, 3)), 0, (3, 0, n - 3), comm)
            x[spread(key, 0, counts, comm)] = spread(value, 0, counts, comm) if value is new else value
            np.testing.assert_array_equal(whole(x), expected)
            x = spread(np.zeros((n, 3)), 0, (3, 0, n - 3), comm)
            with comm.trace() as sent:
                x[key] = spread(value, 0, counts, comm) if value is new else value
            np.testing.assert_array_equal(whole(x), expected)
            if value is new:
                assert sent.calls > 12 if scratch == 1 else sent.calls <= 4 or scratch < 1 << 20
        x = spread(np.zeros((40, 3)), 0, (3, 0, 37), comm)
        with pytest.raises(IndexError, match="got 99"):
            x[spread(np.where(rows == rows[0], 99, rows), 0, counts, comm)] = 1.0
        assert not whole(x).any()

    ht_comm.spmd(3, job)


@pytest.mark.parametrize("dtype", ["bfloat16", "uint64", "bool", "complex64", "int8"])
def test_the_last_value_wins_in_every_dtype(dtype):
    key = [4, 0, 4, 2, 0, 4]

    def job(comm):
        x = ht.zeros((5, 2), dtype=dtype, split=0)
        new = ht.array(np.arange(12).reshape(6, 2) % 5, dtype=dtype)
        x[key] = new
        for row, last in ((0, 4), (2, 3), (4, 5)):
            assert ht.all(x[row] == new[last]).item()
        strided = ht.zeros((2, 9, 2), dtype=dtype, split=1)
        strided[:, ::2][:, key] = new
        assert ht.all(strided[:, ::2] == x).item()
        assert not ht.any(strided[:, 1::2]).item()

    ht_comm.spmd(2, job)


@pytest.mark.parametrize("p", [2, 5, 17])
def test_owners_are_found_on_few_and_on_many_ranks(p):
    """Up to 16 ranks by comparisons, on more by a search."""
    values, keys = np.arange(40.0), np.random.default_rng(0).integers(-40, 40, 100)
    ends = [0, *sorted(np.random.default_rng(p).integers(0, 40, p - 1).tolist()), 40]

    def job(comm):
        x = spread(values, 0, np.diff(ends).tolist(), comm)
        np.testing.assert_array_equal(whole(x[keys]), values[keys])
        np.testing.assert_array_equal(whole(x[ht.array(keys, split=0, comm=comm)]), values[keys])
        expected = values.copy()
        expected[keys] = np.arange(100)
        x[ht.array(keys, split=0, comm=comm)] = ht.arange(100.0, split=0)
        np.testing.assert_array_equal(whole(x), expected)

    ht_comm.spmd(p, job)


def test_keys_that_decrease_behind_the_first_ones(monkeypatch):
    """The first keys ascend, which a glance at them takes for sorted: rows of a later key belong to a rank before."""
    monkeypatch.setattr("ht_core.engines.gather._GLANCE", 2)
    values = np.arange(12.0)
    keys = [0, 5, 11, 7, 1, 2]

    def run(comm):
        return whole(ht.array(values, split=0, comm=comm)[keys])

    for p in (2, 3):
        np.testing.assert_array_equal(ht_comm.spmd(p, run)[0], values[keys])


def test_writing_where_the_device_keeps_no_order(monkeypatch):
    """On a device several writes to one place end in any order: the last value is chosen before; views are copied."""
    monkeypatch.setattr("ht_core.engines.scatter._write_in_order", lambda *_: False)
    values = np.arange(12.0)
    table = np.arange(36.0).reshape(12, 3)
    keys = np.array([3, 9, 3, 0, 9, 3])

    def run(comm):
        x = ht.array(values.copy(), split=0, comm=comm)
        x[keys] = np.arange(6.0) + 100
        y = ht.array(table.copy(), split=1, comm=comm)
        y[np.arange(1, 12)] = y[:-1]  # the memory that is written is read as well
        return whole(x), whole(y)

    expected = values.copy()
    expected[keys] = np.arange(6.0) + 100
    shifted = np.concatenate([table[:1], table[:-1]])
    for p in (1, 2, 3):
        for x, y in ht_comm.spmd(p, run):
            np.testing.assert_array_equal(x, expected)
            np.testing.assert_array_equal(y, shifted)
