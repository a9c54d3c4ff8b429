"""Scans, differences, gradients, integrals and interpolation against NumPy; what they send."""

import warnings

import ht_core as ht
import numpy as np
import pytest
import torch
from ht_comm import spmd
from ht_core.engines import scan
from ht_core.testing import layouts, make_values, spread, whole
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

FEW = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
RANKS = st.integers(1, 5)
DTYPES = [d.name for d in ht.DTYPES.values() if d.numpy is not None and d.name != "float16"]
SCANS = [n for n, r in ht.OPERATIONS.items() if r.kind == "scan" and n == r.name]


def numpy(name, *args, **kwargs):
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return getattr(np, name)(*args, **kwargs)


def close(result, expected):
    result, expected = np.asarray(result), np.asarray(expected)
    assert (result.shape, result.dtype) == (expected.shape, expected.dtype)
    if expected.dtype.kind in "fc":
        eps = 64 * np.finfo(expected.dtype).eps
        np.testing.assert_allclose(result, expected, rtol=eps, atol=eps)
    else:
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("name", SCANS)
@FEW
@given(data=st.data())
def test_scan(name, data):
    shape = data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=3).map(tuple))
    dtype, p = data.draw(st.sampled_from(DTYPES)), data.draw(RANKS)
    values = make_values(dtype, shape, data.draw(st.integers(0, 99)))
    if name.startswith("nan") and values.dtype.kind in "fc":
        values[np.random.default_rng(1).random(shape) < 0.3] = np.nan
    layout = data.draw(layouts(shape, p))
    options = {"axis": data.draw(st.integers(-len(shape), len(shape) - 1))}
    if name.startswith("cumulative") and data.draw(st.booleans()):
        options["include_initial"] = True
    if not name.startswith("cumulative") and data.draw(st.integers(0, 3)) == 0:
        options["axis"] = None
    expected = numpy(name, values, **options)

    def run(comm):
        x = spread(values, *layout, comm)
        with comm.trace() as sent:
            y = getattr(ht, name)(x, **options)
        if options["axis"] is not None:
            is_cut = x.split is not None and options["axis"] % x.ndim == x.split
            assert sent.calls == (1 if is_cut and comm.size > 1 else 0)
            assert y.split == x.split
        np.testing.assert_array_equal(whole(x), values)
        return whole(y)

    for result in spmd(p, run):
        close(result, expected)


@FEW
@given(data=st.data())
def test_diff(data):
    shape = data.draw(st.lists(st.integers(0, 6), min_size=1, max_size=2).map(tuple))
    dtype, p = data.draw(st.sampled_from(DTYPES)), data.draw(RANKS)
    values = make_values(dtype, shape, data.draw(st.integers(0, 99)))
    layout, n = data.draw(layouts(shape, p)), data.draw(st.integers(0, 3))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    options = {"n": n, "axis": axis}
    for end in ("prepend", "append"):
        kind = data.draw(st.sampled_from(["none", "scalar", "rows"]))
        rows = list(shape)
        rows[axis] = 2
        if kind != "none":
            options[end] = make_values(dtype, rows if kind == "rows" else (), 5)
    expected = numpy("diff", values, **options)

    def run(comm):
        x = spread(values, *layout, comm)
        with comm.trace() as sent:
            y = ht.diff(x, **options)
        is_cut = x.split is not None and axis % x.ndim == x.split
        assert sent.calls == (1 if is_cut and n and comm.size > 1 else 0)
        np.testing.assert_array_equal(whole(x), values)
        return whole(y)

    for result in spmd(p, run):
        close(result, expected)


@FEW
@given(data=st.data())
def test_ediff1d(data):
    shape, p = data.draw(st.lists(st.integers(0, 5), max_size=2).map(tuple)), data.draw(RANKS)
    values = make_values("int64", shape, 3)
    layout = data.draw(layouts(shape, p))
    options = data.draw(st.sampled_from([{}, {"to_end": 7}, {"to_begin": [1, 2], "to_end": [[3], [4]]}]))
    expected = np.ediff1d(values, **options)
    for result in spmd(p, lambda comm: whole(ht.ediff1d(spread(values, *layout, comm), **options))):
        close(result, expected)


@FEW
@given(data=st.data())
def test_gradient(data):
    shape = data.draw(st.lists(st.integers(3, 7), min_size=1, max_size=2).map(tuple))
    dtype, p = data.draw(st.sampled_from(["float64", "int32", "complex128"])), data.draw(RANKS)
    values = make_values(dtype, shape, data.draw(st.integers(0, 99)))
    layout = data.draw(layouts(shape, p))
    kind = data.draw(st.sampled_from(["none", "scalar", "coordinates"]))
    grids = [np.cumsum(np.arange(n) % 3 + 0.5) for n in shape]
    args = {"none": [], "scalar": [0.5], "coordinates": grids}[kind]
    order = data.draw(st.sampled_from([1, 2]))
    expected = np.gradient(values, *args, edge_order=order)

    def run(comm):
        found = ht.gradient(spread(values, *layout, comm), *args, edge_order=order)
        return [whole(y) for y in (found if isinstance(found, tuple) else (found,))]

    for result in spmd(p, run):
        for y, e in zip(result, expected if isinstance(expected, tuple) else (expected,), strict=True):
            np.testing.assert_allclose(y, e, rtol=1e-12, atol=1e-12)


@FEW
@given(data=st.data())
def test_trapezoid(data):
    shape = data.draw(st.lists(st.integers(0, 6), min_size=1, max_size=2).map(tuple))
    dtype, p = data.draw(st.sampled_from(["float64", "int32", "complex128", "float32"])), data.draw(RANKS)
    values = make_values(dtype, shape, data.draw(st.integers(0, 99)))
    layout, axis = data.draw(layouts(shape, p)), data.draw(st.integers(-len(shape), len(shape) - 1))
    kind = data.draw(st.sampled_from(["dx", "vector", "array"]))
    extent = shape if kind == "array" else (shape[axis],)
    places = None if kind == "dx" else make_values("float64", extent, 8)
    options = {"axis": axis, "dx": 0.25}
    expected = np.trapezoid(values, places, **options)

    def run(comm):
        x = spread(values, *layout, comm)
        with comm.trace() as sent:
            y = ht.trapezoid(x, places, **options)
        if kind == "dx":
            assert sent.calls == int(x.split is not None and y.split is None and comm.size > 1)
        return whole(y)

    for result in spmd(p, run):
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


@FEW
@given(data=st.data())
def test_interp(data):
    n, p = data.draw(st.integers(0, 9)), data.draw(RANKS)
    x = np.random.default_rng(n).uniform(-2, 6, n)
    x[: n // 3] = np.round(x[: n // 3])
    xp, fp = np.arange(data.draw(st.integers(1, 5))) * 1.0, make_values("complex128", 5, 4)
    fp = fp[: len(xp)] if data.draw(st.booleans()) else fp.real[: len(xp)]
    options = data.draw(st.sampled_from([{}, {"left": -1, "right": 9}, {"period": 3.5}]))
    first, second = data.draw(layouts(x.shape, p)), data.draw(layouts(fp.shape, p))
    expected = np.interp(x, xp, fp, **options)

    def run(comm):
        return whole(ht.interp(spread(x, *first, comm), xp, spread(fp, *second, comm), **options))

    for result in spmd(p, run):
        np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)


@FEW
@given(data=st.data())
def test_unwrap(data):
    shape = data.draw(st.lists(st.integers(0, 7), min_size=1, max_size=2).map(tuple))
    p, dtype = data.draw(RANKS), data.draw(st.sampled_from(["float64", "int64"]))
    values = np.random.default_rng(2).integers(-9, 9, shape).astype(dtype)
    options = data.draw(st.sampled_from([{"period": 4}, {"period": 5}, {"discont": 4.5}]))
    layout, axis = data.draw(layouts(shape, p)), data.draw(st.integers(-len(shape), len(shape) - 1))
    expected = np.unwrap(values, axis=axis, **options)
    for result in spmd(p, lambda comm: whole(ht.unwrap(spread(values, *layout, comm), axis=axis, **options))):
        assert result.dtype == expected.dtype
        np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("dtype", "n"), [("float16", 2051), ("bfloat16", 301)])
def test_sixteen_bit_carries_are_not_rounded(dtype, n):
    """A rank's total, n, has no place in the dtype: rounded before it is passed on, it would show in the result."""
    ones = torch.ones(3 * n, dtype=getattr(torch, dtype))

    def run(comm):
        return float(ht.cumsum(ht.array(ones, split=0)).larray[-1])

    assert spmd(3, run)[2] == float(torch.tensor(3.0 * n, dtype=ones.dtype))


@pytest.mark.parametrize("dtype", ["float64", "complex64", "int32"])
@pytest.mark.parametrize("name", ["cumsum", "cumprod"])
def test_long_columns_are_cumulated_in_tiles_of_rows(name, dtype, monkeypatch):
    monkeypatch.setattr(scan, "_TILE", 480)
    monkeypatch.setattr(scan, "_LINE", 1)
    values = np.random.default_rng(2).uniform(0.9, 1.1, (71, 2, 3)).astype(dtype)
    values[::9] *= -1
    expected = numpy(name, values, axis=0, dtype=dtype)
    for p in (1, 3):
        for result in spmd(
            p, lambda comm: whole(getattr(ht, name)(ht.array(values, split=0), 0, dtype=dtype))
        ):
            close(result, expected)


def test_scans_write_to_out_and_in_place():
    values = np.arange(12.0).reshape(6, 2)

    def run(comm):
        x = spread(values, 0, (1, 5), comm)
        out = ht.zeros((6, 2), split=1)
        assert ht.cumsum(x, axis=0, out=out) is out
        x.cumsum_(axis=0)
        return whole(out), whole(x)

    for out, x in spmd(2, run):
        np.testing.assert_array_equal(out, np.cumsum(values, axis=0))
        np.testing.assert_array_equal(x, np.cumsum(values, axis=0))


def test_bytes_of_a_scan_and_of_a_difference_are_one_row():
    def run(comm):
        x = ht.ones((9, 4), split=0, dtype=ht.float64)
        with comm.trace() as scan:
            ht.cumsum(x, axis=0)
        with comm.trace() as steps:
            ht.diff(x, axis=0)
        return scan.bytes, steps.bytes

    assert spmd(3, run) == [(32, 0), (32, 32), (0, 32)]


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda x: ht.cumsum(x, axis=2), ht.LayoutError, "axis must be in"),
        (lambda x: ht.cumulative_sum(x), ht.LayoutError, "axis must be given"),
        (lambda x: ht.cumsum(x, axis=0, dtype=bool), ht.DTypeError, "dtype must be numeric"),
        (lambda x: ht.diff(x, n=-1), ht.LayoutError, "n must not be negative"),
        (lambda x: ht.diff(x, prepend=[1.0]), ht.LayoutError, "prepend must have shape"),
        (lambda x: ht.gradient(x, 1.0, 1.0, 1.0), TypeError, "spacings must be"),
        (lambda x: ht.gradient(x[:1]), ht.LayoutError, "extent of axis 0"),
        (lambda x: ht.trapezoid(x, [1.0]), ht.LayoutError, "x must have shape"),
        (lambda x: ht.interp(x, [], []), ht.LayoutError, "xp must be 1-D"),
    ],
)
def test_refusals_come_before_any_message(call, error, text):
    def run(comm):
        x = ht.ones((4, 3), split=0)
        with comm.trace() as sent, pytest.raises(error, match=text):
            call(x)
        assert sent.calls == 0

    spmd(2, run)
