"""Rearranging, one table against NumPy: every function, any shape, layout and number of ranks; bad arguments too."""

import warnings

import ht_core as ht
import numpy as np
import pytest
from ht_comm import spmd
from ht_core.testing import layouts, make_values, spread, whole
from hypothesis import given, settings
from hypothesis import strategies as st

RANKS = st.integers(1, 5)
DTYPES = ["int32", "float64", "bool", "uint16", "complex64", "float16", "int8", "uint64"]


def fill(m, x, *args, **options):
    y = x.copy()
    m.fill_diagonal(y, *args, **options)
    return y


def copied(m, x, value, **options):
    y = x.copy()
    m.copyto(y, value, **options)
    return y


def mask(x):
    return np.arange(x.shape[0]) % 3 == 1


def picked(x, axis=0):
    return np.arange(x.shape[axis]) % 3


# name: fewest axes, most axes, and what is done to an array of NumPy or of ours alike
CASES = {
    "flip": (0, 4, lambda m, x: m.flip(x)),
    "flip 0": (1, 4, lambda m, x: m.flip(x, axis=0)),
    "flip -1": (1, 4, lambda m, x: m.flip(x, -1)),
    "flip several": (2, 4, lambda m, x: m.flip(x, axis=(0, -1))),
    "fliplr": (2, 3, lambda m, x: m.fliplr(x)),
    "flipud": (1, 3, lambda m, x: m.flipud(x)),
    "rot90": (2, 3, lambda m, x: [m.rot90(x, k) for k in range(-1, 5)]),
    "rot90 axes": (3, 4, lambda m, x: [m.rot90(x, k, axes=(2, 0)) for k in range(4)]),
    "roll flat": (0, 4, lambda m, x: [m.roll(x, s) for s in (0, 1, -1, 7, -13)]),
    "roll flat several": (1, 3, lambda m, x: m.roll(x, (1, 3))),
    "roll 0": (1, 4, lambda m, x: [m.roll(x, s, axis=0) for s in (0, 1, 2, -1, 9)]),
    "roll last": (1, 4, lambda m, x: m.roll(x, 2, -1)),
    "roll tuple": (2, 4, lambda m, x: m.roll(x, (1, -2), axis=(0, 1))),
    "roll one shift": (2, 4, lambda m, x: m.roll(x, 2, axis=(0, -1))),
    "roll same axis": (1, 3, lambda m, x: m.roll(x, (1, 1), axis=(0, 0))),
    "tile": (0, 3, lambda m, x: [m.tile(x, n) for n in (0, 1, 2, 3)]),
    "tile 2": (0, 3, lambda m, x: m.tile(x, (2, 3))),
    "tile 3": (1, 3, lambda m, x: [m.tile(x, (2, 1, 4)), m.tile(x, (3, 2, 1))]),
    "tile new axes": (1, 2, lambda m, x: m.tile(x, (2, 2, 1, 2))),
    "repeat": (0, 3, lambda m, x: [m.repeat(x, n) for n in (0, 1, 3)]),
    "repeat 0": (1, 4, lambda m, x: m.repeat(x, 2, axis=0)),
    "repeat last": (1, 3, lambda m, x: m.repeat(x, [3], axis=-1)),
    "repeat each": (1, 3, lambda m, x: m.repeat(x, picked(x), axis=0)),
    "repeat each last": (1, 3, lambda m, x: m.repeat(x, picked(x, -1), axis=-1)),
    "repeat each flat": (1, 2, lambda m, x: m.repeat(x, np.arange(x.size) % 2)),
    "resize": (0, 3, lambda m, x: [m.resize(x, s) for s in [(3,), (4, 7), (2, 0), (0, 2), (), (1, 2, 3)]]),
    "resize large": (1, 2, lambda m, x: m.resize(x, (13, 5))),
    "append": (1, 3, lambda m, x: m.append(x, x, axis=0)),
    "append flat": (0, 2, lambda m, x: m.append(x, [[1, 2]])),
    "insert one": (1, 3, lambda m, x: [m.insert(x, i, 1, axis=0) for i in (0, x.shape[0] // 2, x.shape[0])]),
    "insert negative": (1, 2, lambda m, x: m.insert(x, -1, 1, axis=-1)),
    "insert flat": (0, 2, lambda m, x: m.insert(x, 0, [1, 0])),
    "insert many": (1, 3, lambda m, x: m.insert(x, [x.shape[0], 0, 1, 1], 1, axis=0)),
    "insert values": (1, 1, lambda m, x: m.insert(x, [2, 0, 1], [1, 0, 3])),
    "insert several in one": (2, 2, lambda m, x: m.insert(x, [1], np.ones((3, 1)), axis=0)),
    "insert itself": (2, 2, lambda m, x: m.insert(x, [1], x, axis=0)),
    "insert scalar index": (
        2,
        3,
        lambda m, x: m.insert(x, 1, np.ones(x.shape[1]), axis=0) if x.ndim == 2 else x,
    ),
    "insert slice": (1, 2, lambda m, x: m.insert(x, slice(0, None, 2), 1, axis=0)),
    "insert mask": (1, 2, lambda m, x: m.insert(x, mask(x), 1, axis=0)),
    "delete": (
        1,
        3,
        lambda m, x: [m.delete(x, i, axis=0) for i in (0, -1, [], [0, -1, 0], slice(1, None, 2))],
    ),
    "delete reversed slice": (1, 2, lambda m, x: m.delete(x, slice(None, 0, -2), axis=-1)),
    "delete mask": (1, 3, lambda m, x: m.delete(x, mask(x), axis=0)),
    "delete flat": (1, 3, lambda m, x: m.delete(x, [0, 2])),
    "trim_zeros": (1, 3, lambda m, x: [m.trim_zeros(x * framed(x), t) for t in ("fb", "f", "b")]),
    "trim_zeros axis": (2, 3, lambda m, x: m.trim_zeros(x * framed(x), axis=1)),
    "trim_zeros of zeros": (1, 2, lambda m, x: [m.trim_zeros(x * 0, t) for t in ("fb", "f", "b")]),
    "concatenate 0": (1, 3, lambda m, x: m.concatenate([x, x, x], axis=0)),
    "concatenate -1": (1, 3, lambda m, x: m.concatenate([x, x * 2], axis=-1)),
    "concatenate flat": (0, 3, lambda m, x: m.concatenate([x, x], axis=None)),
    "concatenate dtype": (1, 2, lambda m, x: m.concatenate([x, x], dtype="complex128")),
    "concatenate mixed": (
        1,
        2,
        lambda m, x: m.concatenate([x, x.astype("int64"), np.ones(x.shape, "float32")]),
    ),
    "stack": (0, 3, lambda m, x: m.stack([x, x])),
    "stack -1": (0, 3, lambda m, x: m.stack([x, x, x], axis=-1)),
    "hstack": (0, 3, lambda m, x: m.hstack([x, x])),
    "vstack": (0, 3, lambda m, x: m.vstack([x, x])),
    "dstack": (0, 4, lambda m, x: m.dstack([x, x])),
    "column_stack": (0, 3, lambda m, x: m.column_stack([x, x])),
    "block flat": (0, 2, lambda m, x: m.block([x, x])),
    "block": (2, 2, lambda m, x: m.block([[x, x, x], [m.tile(x, (1, 3))]])),
    "block mixed": (1, 1, lambda m, x: m.block([[x], [x]])),
    "block one": (0, 2, lambda m, x: m.block(x)),
    "array_split": (1, 3, lambda m, x: [y for n in (1, 2, 3, 7) for y in m.array_split(x, n)]),
    "split": (1, 3, lambda m, x: m.split(x, [1, 3, 2, -1, 9], axis=-1)),
    "split none": (1, 2, lambda m, x: m.split(x, [])),
    "hsplit": (1, 3, lambda m, x: m.hsplit(x, [1, 2])),
    "vsplit": (2, 3, lambda m, x: m.vsplit(x, [2])),
    "dsplit": (3, 4, lambda m, x: m.dsplit(x, [1])),
    "unstack": (1, 3, lambda m, x: [*m.unstack(x), *m.unstack(x, axis=-1)]),
    "atleast": (0, 4, lambda m, x: [m.atleast_1d(x), m.atleast_2d(x), m.atleast_3d(x)]),
    "atleast several": (0, 2, lambda m, x: list(m.atleast_2d(x, x))),
    "broadcast_to": (0, 3, lambda m, x: m.broadcast_to(x, (2, *x.shape))),
    "broadcast_arrays": (1, 3, lambda m, x: list(m.broadcast_arrays(x, m.sum(x, axis=0, keepdims=True), 1))),
    "expand_dims": (0, 3, lambda m, x: [m.expand_dims(x, 0), m.expand_dims(x, (0, -1))]),
    "squeeze": (0, 4, lambda m, x: [m.squeeze(x), m.squeeze(x, axis=())]),
    "moveaxis": (2, 4, lambda m, x: [m.moveaxis(x, 0, -1), m.moveaxis(x, (0, 1), (-1, 0))]),
    "rollaxis": (
        2,
        4,
        lambda m, x: [m.rollaxis(x, a, s) for a in (0, -1, 1) for s in range(-x.ndim, x.ndim + 1)],
    ),
    "swapaxes": (2, 4, lambda m, x: m.swapaxes(x, 0, -1)),
    "transpose": (0, 4, lambda m, x: [m.transpose(x), x.T, m.permute_dims(x)]),
    "transpose method": (2, 2, lambda m, x: [x.transpose(1, 0), x.transpose((1, 0)), x.transpose()]),
    "matrix_transpose": (2, 4, lambda m, x: [m.matrix_transpose(x), x.mT]),
    "ravel": (0, 4, lambda m, x: [m.ravel(x), x.flatten(), x.ravel("F"), x.flatten("F")]),
    "diag": (1, 2, lambda m, x: [m.diag(x, k) for k in (0, 1, -1, 3, -4)]),
    "diag far": (1, 1, lambda m, x: [m.diag(x, 9), m.diag(x, -11)]),
    "diagflat": (0, 3, lambda m, x: [m.diagflat(x), m.diagflat(x, -2)]),
    "diagonal": (2, 4, lambda m, x: [m.diagonal(x, k) for k in (0, 1, -2, 9, -9)]),
    "diagonal axes": (3, 4, lambda m, x: [m.diagonal(x, 1, 2, 0), m.diagonal(x, 0, axis1=-1, axis2=1)]),
    "tril": (2, 4, lambda m, x: [m.tril(x, k=k) for k in (0, 1, -1, 99, -99)]),
    "triu": (2, 4, lambda m, x: [m.triu(x, k=k) for k in (0, 2, -1, 99, -99)]),
    "fill_diagonal": (2, 2, lambda m, x: [fill(m, x, 1), fill(m, x, 1, wrap=True), fill(m, x, [1, 0, 1])]),
    "fill_diagonal wrapped": (2, 2, lambda m, x: fill(m, x, [[1, 0], [1, 1]], wrap=True)),
    "copyto": (0, 3, lambda m, x: [copied(m, x, 1), copied(m, x, x), copied(m, x, x, where=x != 0)]),
    "copyto row": (
        1,
        3,
        lambda m, x: copied(m, x, np.ones(x.shape[-1], bool), where=np.ones(x.shape[-1], bool)),
    ),
    "pad": (1, 3, lambda m, x: [m.pad(x, 1), m.pad(x, (2, 1)), m.pad(x, 0)]),
    "pad far": (1, 2, lambda m, x: m.pad(x, (11, 7), constant_values=1)),
    "pad each": (2, 2, lambda m, x: m.pad(x, ((1, 2), (0, 3)), constant_values=((1, 0), (0, 1)))),
    "pad dict": (2, 3, lambda m, x: m.pad(x, {-1: (1, 2), 0: 1})),
    "pad edge": (1, 3, lambda m, x: [m.pad(x, w, "edge") for w in (1, (2, 3), (9, 0))]),
    "pad wrap": (1, 3, lambda m, x: [m.pad(x, w, "wrap") for w in (1, (2, 3), (9, 14))]),
    "pad reflect": (1, 3, lambda m, x: [m.pad(x, w, "reflect") for w in (1, (2, 3), (9, 14))]),
    "pad symmetric": (1, 3, lambda m, x: [m.pad(x, w, "symmetric") for w in (1, (2, 3), (9, 14))]),
    "pad maximum": (1, 3, lambda m, x: m.pad(x, (2, 3), "maximum")),
    "pad minimum": (1, 3, lambda m, x: m.pad(x, ((2, 1),), "minimum", stat_length=((1, 2),))),
    "pad mean": (1, 3, lambda m, x: m.pad(x, (1, 2), "mean")),
    "pad mean of some": (1, 2, lambda m, x: m.pad(x, (1, 2), "mean", stat_length=2)),
    "pad median": (1, 2, lambda m, x: m.pad(x, (1, 2), "median", stat_length=3)),
    "pad linear_ramp": (1, 3, lambda m, x: m.pad(x, (4, 2), "linear_ramp", end_values=(3, 1))),
    "pad linear_ramp far": (2, 2, lambda m, x: m.pad(x, ((9, 2), (0, 3)), "linear_ramp")),
    "pad function": (1, 3, lambda m, x: m.pad(x, 2, framing, with_value=1)),
}
ARITHMETIC = ("pad m", "pad linear", "trim_zeros", "concatenate -1")  # of types that can be computed with
ODD = {
    "reflect": (
        1,
        3,
        lambda m, x: [m.pad(x, w, "reflect", reflect_type="odd") for w in (1, (2, 3), (9, 14))],
    ),
    "symmetric": (1, 3, lambda m, x: [m.pad(x, w, "symmetric", reflect_type="odd") for w in (1, (9, 14))]),
}


def framed(x):
    """Return ones with zeros at the first and last index of each axis."""
    y = np.zeros(x.shape, "int8")
    y[(slice(1, -1),) * len(x.shape)] = 1
    return y


def framing(vector, width, axis, options):
    vector[: width[0]] = options["with_value"] + axis % 1
    vector[len(vector) - width[1] :] = vector[width[0] : width[0] + 1].sum()


def outcome(function):
    """Return results as a list, or None where the arguments are refused."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            result = function()
        except (ValueError, TypeError, IndexError, ht.DTypeError):
            return None
    return result if isinstance(result, list) else [result]


def compare(case, data, dtypes, close=False):
    low, high, action = case
    shape = data.draw(st.lists(st.integers(0, 5), min_size=low, max_size=high).map(tuple))
    p = data.draw(RANKS)
    values = make_values(data.draw(st.sampled_from(dtypes)), shape, data.draw(st.integers(0, 9)))
    layout = data.draw(layouts(shape, p))
    expected = outcome(lambda: action(np, values.copy()))

    def run(comm):
        x = spread(values, *layout, comm)
        results = outcome(lambda: action(ht, x))
        np.testing.assert_array_equal(whole(x), values)
        return None if results is None else [whole(y) for y in results]

    for results in spmd(p, run):
        assert (results is None) == (expected is None)
        for result, right in zip(results or [], expected or [], strict=True):
            assert result.shape == right.shape
            assert result.dtype == right.dtype
            if close and result.dtype.kind in "fc":
                eps = np.finfo(result.dtype).eps
                np.testing.assert_allclose(result, right, rtol=32 * eps, atol=64 * eps)
            else:
                np.testing.assert_array_equal(result, right)


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=20, deadline=None, derandomize=True)
@given(data=st.data())
def test_as_numpy(name, data):
    computes = name.startswith(ARITHMETIC)
    compare(CASES[name], data, ["int32", "float64", "int8"] if computes else DTYPES, close=computes)


@pytest.mark.parametrize("name", ODD)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_odd_reflections(name, data):
    compare(ODD[name], data, ["int32", "float64", "uint16", "int8"], close=True)
