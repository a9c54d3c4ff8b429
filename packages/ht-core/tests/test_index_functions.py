"""Functions that pick, assign and make positions, against NumPy on every layout; cost and refusals."""

import math

import ht_core as ht
import numpy as np
import pytest
from ht_comm import spmd
from ht_core import picking
from ht_core.testing import layouts, spread, whole
from hypothesis import given, settings
from hypothesis import strategies as st

CASES = settings(max_examples=60, deadline=None, derandomize=True)
RANKS = st.integers(1, 4)


def numbers(data, shape, low, high):
    count = math.prod(shape)
    return np.array(
        data.draw(st.lists(st.integers(low, high), min_size=count, max_size=count)), dtype=np.int64
    ).reshape(shape)


def operand(data, values, p):
    """Draw how an operand is given: as a NumPy array, or spread over the ranks."""
    place = data.draw(st.none() | layouts(values.shape, p))
    return lambda comm: values if place is None else spread(values, *place, comm)


def flags(data, shape):
    count = math.prod(shape)
    return np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)), dtype=bool).reshape(
        shape
    )


def shapes(data, least=1, most=3):
    return tuple(data.draw(st.lists(st.integers(1, 5), min_size=least, max_size=most)))


# -- along an axis ------------------------------------------------------------------------------------------------


def along(data):
    shape, p = shapes(data), data.draw(RANKS)
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    wide = [1 if data.draw(st.integers(0, 4)) == 0 else n for n in shape]
    own = [1 if data.draw(st.integers(0, 4)) == 0 else n for n in shape]
    wide[axis], own[axis] = shape[axis], data.draw(st.integers(0, 4))
    values = np.arange(math.prod(wide), dtype=np.float64).reshape(wide)
    places = numbers(data, tuple(own), -wide[axis], wide[axis] - 1)
    return p, values, data.draw(layouts(values.shape, p)), places, operand(data, places, p), axis


@CASES
@given(data=st.data())
def test_take_along_axis(data):
    p, values, layout, places, given_places, axis = along(data)
    expected = np.take_along_axis(values, places, axis)

    def run(comm):
        x = spread(values, *layout, comm)
        np.testing.assert_array_equal(whole(ht.take_along_axis(x, given_places(comm), axis)), expected)
        np.testing.assert_array_equal(whole(x), values)

    spmd(p, run)


@CASES
@given(data=st.data())
def test_put_along_axis(data):
    p, values, layout, places, given_places, axis = along(data)
    expected = values.copy()
    shape = np.broadcast_shapes(
        tuple(n for a, n in enumerate(values.shape) if a != axis % values.ndim),
        tuple(n for a, n in enumerate(places.shape) if a != axis % values.ndim),
    )
    full = list(shape)
    full.insert(axis % values.ndim, places.shape[axis])
    own = tuple(1 if data.draw(st.integers(0, 2)) == 0 else n for n in full)
    written = -1 - np.arange(math.prod(own), dtype=np.float64).reshape(own)
    given_values = operand(data, written, p)
    np.put_along_axis(expected, places, written, axis)

    def run(comm):
        x = spread(values, *layout, comm)
        assert ht.put_along_axis(x, given_places(comm), given_values(comm), axis) is None
        np.testing.assert_array_equal(whole(x), expected)

    spmd(p, run)


def test_along_no_axis():
    values = np.arange(12.0).reshape(3, 4)

    def run(comm):
        x = ht.array(values, split=1)
        np.testing.assert_array_equal(whole(ht.take_along_axis(x, ht.array([11, 0, -2]), None)), [11, 0, 10])
        ht.put_along_axis(x, ht.array([11, 0]), -1, None)
        expected = values.copy()
        np.put_along_axis(expected, np.array([11, 0]), -1, None)
        np.testing.assert_array_equal(whole(x), expected)

    spmd(3, run)


# -- by a condition -----------------------------------------------------------------------------------------------


@CASES
@given(data=st.data())
def test_compress_and_extract(data):
    shape, p = shapes(data), data.draw(RANKS)
    values = np.arange(math.prod(shape)).reshape(shape)
    layout = data.draw(layouts(shape, p))
    axis = data.draw(st.sampled_from([None, *range(-len(shape), len(shape))]))
    n = data.draw(st.integers(0, values.size if axis is None else shape[axis]))
    condition, mask = flags(data, (n,)), flags(data, shape)
    given_condition, given_mask = operand(data, condition, p), operand(data, mask, p)

    def run(comm):
        x = spread(values, *layout, comm)
        expected = np.compress(condition, values, axis)
        np.testing.assert_array_equal(whole(ht.compress(given_condition(comm), x, axis)), expected)
        np.testing.assert_array_equal(whole(x.compress(given_condition(comm), axis)), expected)
        np.testing.assert_array_equal(whole(ht.extract(given_mask(comm), x)), np.extract(mask, values))

    spmd(p, run)


# -- among several arrays -----------------------------------------------------------------------------------------


@CASES
@given(data=st.data())
def test_choose_and_select(data):
    shape, p = shapes(data), data.draw(RANKS)
    n, mode = data.draw(st.integers(1, 4)), data.draw(st.sampled_from(["raise", "wrap", "clip"]))
    which = numbers(data, shape, *((0, n - 1) if mode == "raise" else (-6, 6)))
    choices = [
        (np.arange(math.prod(shape)).reshape(shape) + 100 * k).astype(d)
        for k, d in zip(range(n), "ifdu1"[:3] * 2)
    ]
    choices[0] = choices[0].reshape(-1)[: shape[-1]]
    conditions = [
        flags(data, shape[data.draw(st.integers(0, 1)) if len(shape) > 1 else 0 :]) for _ in range(n)
    ]
    given_which, given_choices = operand(data, which, p), [operand(data, c, p) for c in choices]
    given_conditions = [operand(data, c, p) for c in conditions]
    block = data.draw(st.sampled_from([4, 1 << 20]))

    def run(comm):
        arrays = [c(comm) for c in given_choices]
        found = ht.choose(given_which(comm), arrays, mode)
        expected = np.choose(which, choices, mode=mode)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(whole(found), expected)
        found = ht.select([c(comm) for c in given_conditions], arrays, -7)
        expected = np.select(conditions, choices, -7)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(whole(found), expected)

    patch = pytest.MonkeyPatch()
    patch.setattr(picking, "BLOCK", block)
    spmd(p, run)
    patch.undo()


@CASES
@given(data=st.data())
def test_piecewise(data):
    shape, p = shapes(data, 0), data.draw(RANKS)
    values = np.arange(math.prod(shape), dtype=np.float64).reshape(shape) - 3
    layout = data.draw(layouts(shape, p))
    n = data.draw(st.integers(1, 3))
    conditions = [flags(data, shape) for _ in range(n)]
    given_conditions = [operand(data, c, p) for c in conditions]
    functions = [lambda v, a: v * v + a, lambda v, a: -v, 7.5, lambda v, a: 2 * v][
        : n + data.draw(st.integers(0, 1))
    ]
    expected = np.piecewise(values, conditions, functions, 3)

    def run(comm):
        x = spread(values, *layout, comm)
        np.testing.assert_array_equal(
            whole(ht.piecewise(x, [c(comm) for c in given_conditions], functions, 3)), expected
        )
        np.testing.assert_array_equal(whole(x), values)

    spmd(p, run)


def test_one_condition_of_piecewise():
    x = np.arange(-3.0, 3.0)
    expected = np.piecewise(x, x > 0, [1, -1])
    np.testing.assert_array_equal(ht.piecewise(ht.array(x), ht.array(x > 0), [1, -1]).numpy(), expected)
    np.testing.assert_array_equal(ht.piecewise(ht.array(x), (x > 0).tolist(), [1, -1]).numpy(), expected)


# -- assignment ---------------------------------------------------------------------------------------------------


@CASES
@given(data=st.data())
def test_put_place_putmask(data):
    shape, p = shapes(data), data.draw(RANKS)
    values = np.arange(math.prod(shape), dtype=np.float64).reshape(shape)
    layout = data.draw(layouts(shape, p))
    mode = data.draw(st.sampled_from(["raise", "wrap", "clip"]))
    n, bound = data.draw(st.integers(0, 7)), values.size if mode == "raise" else 100
    where = numbers(data, data.draw(st.sampled_from([(n,), (2, n)])), -bound, bound - 1)
    mask = flags(data, shape)
    written = -1 - np.arange(data.draw(st.integers(1, 9)), dtype=np.float64)
    if data.draw(st.integers(0, 3)) == 0:
        written = -1 - np.arange(values.size, dtype=np.float64).reshape(shape)
    given_where, given_mask, given_values = (operand(data, v, p) for v in (where, mask, written))
    expected = [values.copy() for _ in range(3)]
    np.put(expected[0], where, written, mode)
    np.place(expected[1], mask, written)
    np.putmask(expected[2], mask, written)

    def run(comm):
        found = [spread(values, *layout, comm) for _ in range(3)]
        ht.put(found[0], given_where(comm), given_values(comm), mode)
        ht.place(found[1], given_mask(comm), given_values(comm))
        ht.putmask(found[2], given_mask(comm), given_values(comm))
        for a, b in zip(found, expected):
            np.testing.assert_array_equal(whole(a), b)
        x = spread(values, *layout, comm)
        x.put(given_where(comm), 5, mode)
        ht.putmask(x, given_mask(comm), 6)
        fives = values.copy()
        fives.put(where, 5, mode)
        np.putmask(fives, mask, 6)
        np.testing.assert_array_equal(whole(x), fives)

    spmd(p, run)


# -- positions ------------------------------------------------------------------------------------------------------


@CASES
@given(data=st.data())
def test_ravel_and_unravel(data):
    dims, p = shapes(data), data.draw(RANKS)
    order, mode = data.draw(st.sampled_from("CF")), data.draw(st.sampled_from(["raise", "wrap", "clip"]))
    flat = numbers(data, shapes(data, 0, 2), 0, math.prod(dims) - 1)
    expected = np.unravel_index(flat, dims, order)
    beyond = tuple(c + (0 if mode == "raise" else data.draw(st.integers(-9, 9))) for c in expected)
    given_flat, columns = operand(data, flat, p), [operand(data, np.asarray(c), p) for c in beyond]

    def run(comm):
        for a, b in zip(ht.unravel_index(given_flat(comm), dims, order), expected, strict=True):
            np.testing.assert_array_equal(np.asarray(a), b)
        found = ht.ravel_multi_index([c(comm) for c in columns], dims, mode, order)
        np.testing.assert_array_equal(whole(found), np.ravel_multi_index(beyond, dims, mode, order))

    spmd(p, run)


@CASES
@given(data=st.data())
def test_triangles_and_diagonals(data):
    n, m, p = data.draw(st.integers(0, 6)), data.draw(st.none() | st.integers(0, 6)), data.draw(RANKS)
    k, split = data.draw(st.integers(-7, 7)), data.draw(st.sampled_from([None, 0]))

    def run(comm):
        for name in ("tril_indices", "triu_indices"):
            with comm.trace() as sent:
                found = getattr(ht, name)(n, k, m, split=split)
                x = ht.zeros((n, n if m is None else m), split=split)
                from_array = getattr(ht, f"{name}_from")(x, k)
            assert sent.calls == 0
            for a, b, c in zip(found, from_array, getattr(np, name)(n, k, m), strict=True):
                assert a.split == b.split == split
                np.testing.assert_array_equal(whole(a), c)
                np.testing.assert_array_equal(whole(b), c)
        cube = ht.zeros((n, n, n), split=split)
        for a, b in zip(ht.diag_indices_from(cube), np.diag_indices(n, 3), strict=True):
            np.testing.assert_array_equal(whole(a), b)
        for a, b in zip(
            ht.mask_indices(n, ht.triu, k, split=split), np.mask_indices(n, np.triu, k), strict=True
        ):
            np.testing.assert_array_equal(whole(a), b)

    spmd(p, run)


def test_open_mesh():
    values = np.arange(20.0).reshape(4, 5)
    mask = np.array([True, False, True, True, False])

    def run(comm):
        for split in (None, 0, 1):
            x = ht.array(values, split=split)
            for rows, columns in (
                ([3, 0], mask),
                (ht.array([3, 0, 1], split=0), ht.array(mask, split=0)),
                ([], [1]),
            ):
                mesh = ht.ix_(rows, columns)
                plain = [r.numpy() if isinstance(r, ht.DNDarray) else r for r in (rows, columns)]
                np.testing.assert_array_equal(whole(x[mesh]), values[np.ix_(*plain)])

    spmd(3, run)
    assert list(ht.ndindex((2, 1))) == list(np.ndindex((2, 1)))
    assert list(ht.ndindex(2, 3)) == list(np.ndindex(2, 3))
    assert list(ht.ndindex()) == [()]
    assert ht.unravel_index(5, (2, 3)) == (1, 2)


# -- cost -----------------------------------------------------------------------------------------------------------

N = 4000


@pytest.mark.parametrize(
    ("fn", "most"),
    [
        (lambda x, i: ht.take_along_axis(x, np.zeros((N, 1), int), 1), 0),
        (lambda x, i: ht.take_along_axis(x, i, 1), 1),
        (lambda x, i: ht.put_along_axis(x, np.zeros((N, 1), int), 1.0, 1), 0),
        (lambda x, i: ht.put_along_axis(x, i, 1.0, 1), 1),
        (lambda x, i: ht.compress(x[:, 0] > 1, x, axis=0), 1),
        (lambda x, i: ht.compress([True, False], x, axis=1), 0),
        (lambda x, i: ht.extract(x > 1, x), 1),
        (lambda x, i: ht.choose(i, [x, -x, 0.0], "clip"), 0),
        (lambda x, i: ht.choose(i, [x, -x, 0.0]), 1),
        (lambda x, i: ht.select([x > 1], [x], 0.0), 0),
        (lambda x, i: ht.piecewise(x, [x < 0], [lambda v: -v, 1.0]), 2),
        (lambda x, i: ht.putmask(x, x > 1, [5, 6, 7]), 0),
        (lambda x, i: ht.place(x, x > 1, 5), 0),
        (lambda x, i: ht.place(x, x > 1, [5, 6]), 2),
        (lambda x, i: ht.put(x, [5, 9, 7], [1, 2]), 0),
        (lambda x, i: ht.unravel_index(i, (5, 5)), 1),
        (lambda x, i: ht.ravel_multi_index((i, i), (5, 5), "clip"), 0),
    ],
)
def test_messages_are_small(fn, most):
    """Nothing but checks and counts travels where the operands lie alike."""

    def run(comm):
        x = ht.zeros((N, 2), split=0)
        i = ht.zeros((N, 1), dtype="int64", split=0)
        with comm.trace() as sent:
            fn(x, i)
        assert sent.calls <= most
        return sent.bytes

    assert max(spmd(4, run)) <= 2000


def test_positions_across_ranks_move_a_constant_number_of_words_each():
    def run(comm):
        x = ht.zeros((N, 3), split=0)
        where = ht.zeros((50, 3), dtype="int64", split=0)
        with comm.trace() as sent:
            ht.take_along_axis(x, where, 0)
            ht.put(x, where, ht.ones((50, 3), split=0))
        return sent.bytes

    assert sum(spmd(4, run)) <= 2 * 150 * 3 * 8 + 4000


# -- refusals -------------------------------------------------------------------------------------------------------

X = np.arange(12.0).reshape(4, 3)
REFUSED = {
    "along: bounds": (lambda x: ht.take_along_axis(x, [[3]], 1), IndexError, "indices must be in [-3, 3)"),
    "along: split bounds": (
        lambda x: ht.take_along_axis(x, ht.array([[0], [0], [0], [9]], split=0), 1), IndexError, "got 9",
    ),
    "along: axes": (lambda x: ht.take_along_axis(x, [1], 1), ht.LayoutError, "indices must have 2 axes"),
    "along: floats": (lambda x: ht.take_along_axis(x, [[1.0]], 1), ht.DTypeError, "indices must be integers"),
    "along: shape": (lambda x: ht.take_along_axis(x, [[1], [1]], 1), ht.LayoutError, "must broadcast"),
    "along: flat": (lambda x: ht.take_along_axis(x, [[1]], None), ht.LayoutError, "must be a vector"),
    "put along: value": (lambda x: ht.put_along_axis(x, [[1]], np.ones((3, 3)), 1), ht.LayoutError, "broadcast"),
    "put along: bounds": (lambda x: ht.put_along_axis(x, [[4, 4, 4]], 1.0, 0), IndexError, "must be in [-4, 4)"),
    "put: bounds": (lambda x: ht.put(x, [0, 12], 1.0), IndexError, "put: indices must be in [-12, 12), got 12"),
    "put: split bounds": (
        lambda x: ht.put(x, ht.array([0, 1, 12], split=0), 1.0), IndexError, "got 12",
    ),
    "put: mode": (lambda x: ht.put(x, [0], 1.0, "wild"), ht.LayoutError, "put: mode must be raise, wrap or clip"),
    "put: array": (lambda x: ht.put(X, [0], 1.0), TypeError, "put: x must be a DNDarray, got ndarray"),
    "place: empty": (lambda x: ht.place(x, X > 1, []), ValueError, "place: values must not be empty"),
    "place: shape": (lambda x: ht.place(x, [True], 1), ht.LayoutError, "place: mask must have the shape (4, 3)"),
    "putmask: shape": (lambda x: ht.putmask(x, [True], 1), ht.LayoutError, "putmask: mask must have the shape"),
    "compress: matrix": (lambda x: ht.compress([[True]], x), ht.LayoutError, "condition must be a vector"),
    "compress: beyond": (lambda x: ht.compress([True] * 5, x, 0), IndexError, "take: indices must be in"),
    "choose: bounds": (lambda x: ht.choose([2], [x, x]), ValueError, "choose: x must be in [0, 2), got 2"),
    "choose: floats": (lambda x: ht.choose([1.0], [x]), ht.DTypeError, "choose: x must consist of integers"),
    "choose: none": (lambda x: ht.choose([1], []), ht.LayoutError, "choices must be one or more"),
    "select: lengths": (lambda x: ht.select([x > 1], []), ht.LayoutError, "select: condlist and choicelist"),
    "select: kind": (lambda x: ht.select([x], [x]), ht.DTypeError, "conditions must be of dtype bool"),
    "piecewise: number": (lambda x: ht.piecewise(x, [x > 1], [1, 2, 3]), ht.LayoutError, "funclist must have"),
    "piecewise: shape": (lambda x: ht.piecewise(x, [[True], [True]], [1, 2]), ht.LayoutError, "conditions must have"),
    "unravel": (lambda x: ht.unravel_index([6], (2, 3)), ValueError, "indices must be in [0, 6), got 6"),
    "unravel: order": (lambda x: ht.unravel_index([1], (2, 3), "K"), ht.LayoutError, "order must be C or F"),
    "ravel": (lambda x: ht.ravel_multi_index(([2], [0]), (2, 3)), ValueError, "multi_index must be"),
    "ravel: axes": (lambda x: ht.ravel_multi_index(([1],), (2, 3)), ht.LayoutError, "one entry per axis"),
    "ix_": (lambda x: ht.ix_([[1]]), ht.LayoutError, "ix_: arguments must be vectors"),
    "diagonal": (lambda x: ht.diag_indices_from(x), ht.LayoutError, "diag_indices_from: x must have two axes"),
    "triangle": (lambda x: ht.tril_indices_from(x[0]), ht.LayoutError, "x must have two axes"),
    "triangle: k": (lambda x: ht.tril_indices(3, 0.5), ht.LayoutError, "k must be an integer, got 0.5"),
    "negative": (lambda x: ht.triu_indices(-3), ht.LayoutError, "triu_indices: shape must consist of non-neg"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_arguments_are_refused_alike_on_all_ranks(name):
    call, kind, text = REFUSED[name]

    def run(comm):
        x = ht.array(X, split=0)
        with pytest.raises(kind) as caught:
            call(x)
        assert text in str(caught.value)
        np.testing.assert_array_equal(whole(x), X)
        return str(caught.value)

    assert len(set(spmd(3, run))) == 1
