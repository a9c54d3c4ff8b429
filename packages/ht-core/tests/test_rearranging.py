"""Rearranging, one table against NumPy: every function, any shape, layout and number of ranks; bad arguments too."""

import warnings

import ht_core as ht
import numpy as np
import pytest
import torch
from ht_comm import spmd
from ht_core import reshaping
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


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_unfold(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 7), min_size=1, max_size=3)))
    p, axis = data.draw(RANKS), data.draw(st.integers(-len(shape), len(shape) - 1))
    size, step = data.draw(st.integers(0, shape[axis])), data.draw(st.integers(1, 4))
    values = make_values("int32", shape, 1)
    layout = data.draw(layouts(shape, p))
    expected = torch.from_numpy(values).unfold(axis, size, step).numpy()

    def run(comm):
        return whole(ht.unfold(spread(values, *layout, comm), axis, size, step))

    for result in spmd(p, run):
        np.testing.assert_array_equal(result, expected)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data())
def test_halos(data):
    shape = tuple(data.draw(st.lists(st.integers(0, 7), min_size=1, max_size=3)))
    p, size = data.draw(RANKS), data.draw(st.integers(0, 5))
    values = make_values("float64", shape, 1)
    layout = data.draw(layouts(shape, p))
    sides = data.draw(st.tuples(st.booleans(), st.booleans()))

    def run(comm):
        x = spread(values, *layout, comm)
        assert x.halo_prev is None
        assert x.array_with_halos is x.larray
        x.get_halo(size, *sides)
        box = list(x.layout.slices(comm.rank))
        if x.split is not None:
            start, stop, n = box[x.split].start, box[x.split].stop, shape[x.split]
            wide = max(start - size * sides[0], 0), min(stop + size * sides[1], n)
            rows = [0 if part is None else part.shape[x.split] for part in (x.halo_prev, x.halo_next)]
            assert rows == [start - wide[0], wide[1] - stop]
            assert (x.halo_prev is None) == (rows[0] == 0)
            box[x.split] = slice(*wide)
        np.testing.assert_array_equal(x.array_with_halos.numpy(), values[tuple(box)])
        x.resplit_(None)
        assert x.halo_prev is None

    spmd(p, run)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_reshape(data):
    """Any shape to any other of as many elements, with any new split."""
    sides = data.draw(st.lists(st.sampled_from([1, 2, 3, 4, 6]), max_size=4))
    order = data.draw(
        st.permutations([f for n in sides for f in ([2, 2] if n == 4 else [2, 3] if n == 6 else [n])])
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(order)), max_size=3)))
    target = tuple(int(np.prod(order[a:b])) for a, b in zip([0, *cuts], [*cuts, len(order)]))
    p = data.draw(RANKS)
    values = np.arange(np.prod(sides, dtype=int)).reshape(sides)
    layout = data.draw(layouts(tuple(sides), p))
    new_split = data.draw(st.sampled_from([None, *range(len(target))]))
    letter = data.draw(st.sampled_from("CF"))

    def run(comm):
        x = spread(values, *layout, comm)
        y = ht.reshape(x, target, order=letter, new_split=new_split)
        if new_split is not None:
            assert y.layout is ht.Layout.even(target, new_split, p)
        transposed = ht.reshape(x.T, target, new_split=new_split)
        np.testing.assert_array_equal(whole(x), values)
        return whole(y), whole(transposed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reshaping, "ROUND_BYTES", 16)
        results = spmd(p, run)
    for result, transposed in results:
        np.testing.assert_array_equal(result, values.reshape(target, order=letter))
        np.testing.assert_array_equal(transposed, values.T.reshape(target))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_concatenate(data):
    """Operands of other extents, layouts and dtypes."""
    p, ndim = data.draw(RANKS), data.draw(st.integers(1, 3))
    shape = data.draw(st.lists(st.integers(0, 4), min_size=ndim, max_size=ndim).map(tuple))
    axis = data.draw(st.integers(-ndim, ndim - 1))
    parts = []
    for seed in range(data.draw(st.integers(1, 4))):
        here = list(shape)
        here[axis] = data.draw(st.integers(0, 4))
        dtype = data.draw(st.sampled_from(["int32", "float32", "uint16", "complex64"]))
        parts.append((make_values(dtype, tuple(here), seed), data.draw(layouts(tuple(here), p))))
    expected = np.concatenate([values for values, _ in parts], axis=axis)
    place = data.draw(layouts(expected.shape, p))

    def run(comm):
        arrays = [spread(values, *layout, comm) for values, layout in parts]
        result = ht.concatenate(arrays, axis)
        out = spread(np.zeros(expected.shape, "complex128"), *place, comm)
        assert ht.concatenate(arrays, axis, out=out) is out
        np.testing.assert_array_equal(whole(out), expected)
        for x, (values, _) in zip(arrays, parts):
            np.testing.assert_array_equal(whole(x), values)
        return whole(result)

    for result in spmd(p, run):
        assert result.dtype == expected.dtype
        np.testing.assert_array_equal(result, expected)


def test_long_rows_and_many_insertions():
    """Sizes at which other kernels take over."""
    values = np.arange(5 * 70).reshape(5, 70).astype("uint16")
    where = np.arange(350)[::-1] % 301

    def run(comm):
        for split in (None, 0, 1):
            x = ht.array(values, split=split)
            np.testing.assert_array_equal(whole(ht.flip(x, 0)), values[::-1])
            flat = ht.array(values.ravel(), split=None if split is None else 0)
            many = ht.insert(flat, where, np.arange(350))
            np.testing.assert_array_equal(whole(many), np.insert(values.ravel(), where, np.arange(350)))
            some = ht.insert(x, where[:9] % 5, values[:1] + 1, axis=0)
            np.testing.assert_array_equal(
                whole(some), np.insert(values, where[:9] % 5, values[:1] + 1, axis=0)
            )

    for p in (1, 3):
        spmd(p, run)


@pytest.mark.parametrize("dtype", [d.name for d in ht.DTYPES.values()])
def test_every_dtype(dtype):
    values = torch.arange(12).reshape(4, 3).to(getattr(torch, dtype))

    def run(comm):
        x = ht.array(values, split=0)
        results = [
            ht.flip(x),
            ht.roll(x, 1),
            ht.tile(x, 2),
            ht.concatenate([x, x]),
            ht.reshape(x, (3, 4)),
            x.T,
        ]
        results += [
            ht.repeat(x, [1, 2, 0, 1], axis=0),
            ht.pad(x, 2, "reflect"),
            ht.tril(x),
            ht.delete(x, 1, axis=1),
        ]
        results += [
            ht.insert(x, 1, 0, axis=0),
            ht.diag(x),
            ht.unfold(x, 0, 2),
            ht.resize(x, 5),
            ht.stack([x, x]),
        ]
        assert all(y.dtype is x.dtype for y in results)
        first = ht.flip(x).resplit(None).larray
        assert torch.equal(first.to(torch.complex128), values.to(torch.complex128).flip((0, 1)))

    spmd(3, run)


ERRORS = {
    "reshape: shape": lambda x: ht.reshape(x, (5, 5)),
    "reshape: shape must consist": lambda x: ht.reshape(x, (-2, 3)),
    "reshape: shape must have 24": lambda x: ht.reshape(x, (0, -1)),
    "reshape: shape must be given": lambda x: ht.reshape(x),
    "reshape: split": lambda x: ht.reshape(x, (6, 4), new_split=2),
    "reshape: order": lambda x: ht.reshape(x, (6, 4), order="K"),
    "reshape: copy": lambda x: ht.reshape(x, (4, 6), copy=False),
    "reshape: copy must not be False for": lambda x: ht.reshape(x[:, :3], -1, copy=False),
    "permute_dims": lambda x: ht.permute_dims(x, (0, 0)),
    "swapaxes": lambda x: ht.swapaxes(x, 0, 2),
    "moveaxis": lambda x: ht.moveaxis(x, (0, 1), 0),
    "rollaxis": lambda x: ht.rollaxis(x, 0, 3),
    "expand_dims: axis must be": lambda x: ht.expand_dims(x, 4),
    "expand_dims: axis must name": lambda x: ht.expand_dims(x, (0, 0)),
    "squeeze": lambda x: ht.squeeze(x, 0),
    "flip": lambda x: ht.flip(x, 2),
    "flip: axis must name": lambda x: ht.flip(x, (0, 0)),
    "rot90": lambda x: ht.rot90(x, axes=(0, 0)),
    "roll: axis": lambda x: ht.roll(x, 1, axis=2),
    "roll: shift must have": lambda x: ht.roll(x, (1, 2, 3), axis=(0, 1)),
    "roll: shift must be": lambda x: ht.roll(x, 1.5, axis=0),
    "tile": lambda x: ht.tile(x, -1),
    "repeat: repeats must not": lambda x: ht.repeat(x, -1),
    "repeat: repeats must be a number": lambda x: ht.repeat(x, [1, 2], axis=0),
    "repeat: repeats must be integers": lambda x: ht.repeat(x, 1.5),
    "concatenate: arrays must agree": lambda x: ht.concatenate([x, ht.zeros((6, 5))]),
    "concatenate: arrays must contain": lambda x: ht.concatenate([]),
    "concatenate: arrays must have": lambda x: ht.concatenate([1, 2]),
    "concatenate: dtype": lambda x: ht.concatenate([x, x], dtype="int32"),
    "concatenate: out must have": lambda x: ht.concatenate([x, x], out=ht.zeros((3, 4))),
    "concatenate: out must be": lambda x: ht.concatenate([x, x], out=np.zeros((12, 4))),
    "stack": lambda x: ht.stack([x, ht.zeros((6, 5))]),
    "block: arrays must be nested lists, got": lambda x: ht.block((x, x)),
    "block: arrays must be nested lists of": lambda x: ht.block([[x], x]),
    "block: arrays must agree": lambda x: ht.block([[x, ht.zeros((5, 4))]]),
    "split: indices_or_sections must divide": lambda x: ht.split(x, 4),
    "split: indices_or_sections must be an": lambda x: ht.split(x, [1.5]),
    "array_split": lambda x: ht.array_split(x, 0),
    "dsplit": lambda x: ht.dsplit(x, 2),
    "broadcast_to": lambda x: ht.broadcast_to(x, (5, 4)),
    "broadcast_shapes": lambda x: ht.broadcast_shapes((2,), (3,)),
    "delete: obj must be in": lambda x: ht.delete(x, 6, axis=0),
    "delete: a mask": lambda x: ht.delete(x, [True], axis=0),
    "delete: obj must be an": lambda x: ht.delete(x, 1.5, axis=0),
    "insert: obj": lambda x: ht.insert(x, 7, 0, axis=0),
    "trim_zeros": lambda x: ht.trim_zeros(x, "x"),
    "diag": lambda x: ht.diag(x[None]),
    "diagonal": lambda x: ht.diagonal(x, 0, 0, 0),
    "tril": lambda x: ht.tril(x[0]),
    "fill_diagonal": lambda x: ht.fill_diagonal(x[0], 1),
    "fill_diagonal: x must be writable": lambda x: ht.fill_diagonal(ht.broadcast_to(ht.zeros(4), (4, 4)), 1),
    "copyto: casting": lambda x: ht.copyto(x, 1j),
    "copyto: dst": lambda x: ht.copyto(np.zeros(3), x),
    "unfold: size": lambda x: ht.unfold(x, 0, 7),
    "unfold: step": lambda x: ht.unfold(x, 0, 2, 0),
    "get_halo": lambda x: x.get_halo(-1),
    "pad: mode": lambda x: ht.pad(x, 1, "around"),
    "pad: pad_width must be": lambda x: ht.pad(x, (1, 2, 3)),
    "pad: pad_width must consist": lambda x: ht.pad(x, -1),
    "pad: mode 'edge' must not": lambda x: ht.pad(x, 1, "edge", constant_values=1),
    "pad: reflect_type": lambda x: ht.pad(x, 1, "reflect", reflect_type="strange"),
    "pad: stat_length": lambda x: ht.pad(x, 1, "mean", stat_length=0),
    "pad: x must have elements": lambda x: ht.pad(x[:0], 1, "edge"),
    "pad: x must not be bool": lambda x: ht.pad(x > 0, 1, "reflect", reflect_type="odd"),
}


@pytest.mark.parametrize("start", ERRORS)
def test_bad_arguments_are_refused_before_any_message(start):
    def run(comm):
        x = ht.zeros((6, 4), split=0)
        with comm.trace() as sent, pytest.raises((ValueError, TypeError, IndexError)) as caught:
            ERRORS[start](x)
        assert sent.calls == (start in ("reshape: copy must not be False for", "tril", "fill_diagonal"))
        return str(caught.value)

    texts = set(spmd(3, run))
    assert len(texts) == 1
    assert texts.pop().startswith(start)


def test_negative_split_counts_are_refused_on_every_rank():
    def run(comm):
        counts = ht.array([1, 1, 1, 1, 1, -1], split=0)
        with pytest.raises(ht.LayoutError, match="repeat: repeats must not be negative"):
            ht.repeat(ht.zeros((6, 4), split=0), counts, axis=0)
        with pytest.raises(ht.LayoutError, match="repeat: repeats must not be negative"):
            ht.repeat(ht.zeros((4, 6), split=0), counts, axis=1)

    spmd(3, run)


def test_a_function_that_fails_on_some_ranks_fails_on_all():
    def fails(vector, width, axis, options):
        if vector[1] == 7:
            raise KeyError("seven")

    def run(comm):
        with pytest.raises(KeyError, match="seven"):
            ht.pad(ht.arange(12, split=0).reshape(4, 3)[:, 1:], ((0, 0), (1, 0)), fails)

    spmd(3, run)


def test_local_views():
    def run(comm):
        x = ht.arange(12, split=0).reshape(6, 2)
        x.lloc[0] = -1
        assert x.lloc[0].tolist() == [-1, -1]
        assert x.stride() == (2, 1)
        assert x.strides == (16, 8)
        np.testing.assert_array_equal(x.create_lshape_map(), [x.layout.lshape(rank) for rank in range(3)])
        assert ht.broadcast_shapes((3, 1), 2, (1, 1, 1)) == np.broadcast_shapes((3, 1), 2, (1, 1, 1))
        y = ht.zeros((6, 2), split=0)
        assert y.fill_diagonal(1) is y

    spmd(3, run)


def test_numpy_calls():
    def run(comm):
        x = ht.arange(6, split=0)
        assert isinstance(np.flip(x), ht.DNDarray)
        assert np.concatenate([x, x], axis=0).shape == (12,)
        assert np.pad(x, (1, 2), mode="edge").tolist() == [0, 0, 1, 2, 3, 4, 5, 5, 5]
        assert [y.shape for y in np.split(x, 3)] == [(2,)] * 3
        assert np.tile(x, 2).shape == np.repeat(x, 2).shape == (12,)
        assert np.reshape(x, (2, 3), order="F").tolist() == [[0, 2, 4], [1, 3, 5]]

    spmd(2, run)
