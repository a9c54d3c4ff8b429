"""Medians, percentiles and quantiles against NumPy; their messages and memory."""

import warnings
from itertools import pairwise

import ht_core as ht
import numpy as np
import pytest
import torch
from ht_comm import spmd
from ht_core.engines import order_statistics, selection
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
METHODS = [
    "inverted_cdf",
    "averaged_inverted_cdf",
    "closest_observation",
    "interpolated_inverted_cdf",
    "hazen",
    "weibull",
    "linear",
    "median_unbiased",
    "normal_unbiased",
    "lower",
    "higher",
    "midpoint",
    "nearest",
]
DTYPES = ["float64", "float32", "int64", "int16", "uint8", "uint16", "uint32", "uint64"]


def numpy(name, *args, **kwargs):
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return getattr(np, name)(*args, **kwargs)


@pytest.fixture(params=["dealt", "selected"])
def way(request, monkeypatch):
    """Send small arrays, too, the way of large ones."""
    if request.param == "selected":
        monkeypatch.setattr(order_statistics, "DEALT", 1 << 40)
        monkeypatch.setattr(order_statistics, "CHUNK", 8)
        monkeypatch.setattr(selection, "GATHERED", 4)
    return request.param


@pytest.mark.parametrize("method", METHODS)
@FEW
@given(data=st.data())
def test_quantile_methods(method, way, data):
    shape = data.draw(st.lists(st.integers(1, 7), min_size=1, max_size=3).map(tuple))
    dtype, p = data.draw(st.sampled_from(DTYPES)), data.draw(st.integers(1, 4))
    values = make_values(dtype, shape, data.draw(st.integers(0, 99)))
    name = data.draw(st.sampled_from(["quantile", "nanquantile"]))
    if values.dtype.kind == "f" and data.draw(st.booleans()):
        values[np.random.default_rng(1).random(shape) < 0.2] = np.nan
    axis = data.draw(st.sampled_from([None, *range(-len(shape), len(shape))]))
    if len(shape) > 1 and data.draw(st.booleans()):
        axis = tuple(data.draw(st.permutations(range(len(shape))))[:2])
    several = (
        [[[0.0, 1.0], [0.1, 0.5]]] if name == "quantile" else []
    )  # NumPy's nanquantile mixes up such axes
    q = data.draw(st.sampled_from([0.5, [0.25, 0.75], [1 / 3, 0.625, 0.9], *several]))
    keepdims, layout = data.draw(st.booleans()), data.draw(layouts(shape, p))
    # In float64 for the index: NumPy's index has the precision of float32 data.
    expected = numpy(
        name,
        values.astype("float64") if dtype == "float32" else values,
        q,
        axis=axis,
        method=method,
        keepdims=keepdims,
    )

    def run(comm):
        x = spread(values, *layout, comm)
        y = getattr(ht, name)(x, q, axis=axis, method=method, keepdims=keepdims)
        np.testing.assert_array_equal(whole(x), values)
        return whole(y)

    for result in spmd(p, run):
        assert result.shape == np.shape(expected)
        eps = 1e-6 if dtype == "float32" else 1e-14
        np.testing.assert_allclose(result, expected, rtol=eps, atol=eps)


@pytest.mark.parametrize("name", ["median", "nanmedian"])
@FEW
@given(data=st.data())
def test_median(name, way, data):
    shape = data.draw(st.lists(st.integers(1, 7), min_size=1, max_size=3).map(tuple))
    dtype, p = data.draw(st.sampled_from([*DTYPES, "bool", "float16"])), data.draw(st.integers(1, 4))
    values = make_values(dtype, shape, data.draw(st.integers(0, 99)))
    if values.dtype.kind == "f" and data.draw(st.booleans()):
        values[np.random.default_rng(1).random(shape) < 0.2] = np.nan
    axis = data.draw(st.sampled_from([None, *range(-len(shape), len(shape))]))
    keepdims, layout = data.draw(st.booleans()), data.draw(layouts(shape, p))
    expected = numpy(name, values, axis=axis, keepdims=keepdims)

    def run(comm):
        return whole(getattr(ht, name)(spread(values, *layout, comm), axis=axis, keepdims=keepdims))

    for result in spmd(p, run):
        assert result.dtype == expected.dtype
        np.testing.assert_array_equal(result, expected)


@FEW
@given(data=st.data())
def test_weights(data):
    shape = data.draw(st.lists(st.integers(1, 7), min_size=1, max_size=2).map(tuple))
    dtype, p = (
        data.draw(st.sampled_from(["float64", "float32", "int32", "uint8"])),
        data.draw(st.integers(1, 4)),
    )
    values = make_values(dtype, shape, data.draw(st.integers(0, 99)))
    axis = data.draw(st.integers(0, len(shape) - 1))
    full = data.draw(st.booleans())
    weights = np.random.default_rng(data.draw(st.integers(0, 9))).integers(
        0, 4, shape if full else shape[axis]
    )
    weights[(0,) * weights.ndim] = 1
    q = [0.0, 0.25, 0.5, 1.0]
    layout, other = data.draw(layouts(shape, p)), data.draw(layouts(weights.shape, p))
    options = {"axis": axis, "method": "inverted_cdf"}
    try:
        expected = np.quantile(values, q, weights=weights, **options)
    except ValueError:
        expected = None

    def run(comm):
        x, w = spread(values, *layout, comm), spread(weights, *other, comm)
        if expected is None or not (weights.sum(axis=axis if full else 0) > 0).all():
            with pytest.raises(ValueError, match="weights must be finite"):
                ht.quantile(x, q, weights=w, **options)
            return expected
        return whole(ht.quantile(x, q, weights=w, **options))

    for result in spmd(p, run):
        if expected is not None:
            np.testing.assert_array_equal(result, expected)


DATA = {
    "normal": lambda rng, n: rng.standard_normal(n),
    "sorted": lambda rng, n: np.sort(rng.standard_normal(n)),
    "two values": lambda rng, n: (rng.random(n) < 0.5).astype(float),
    "constant": lambda rng, n: np.zeros(n),
    "heavy tails": lambda rng, n: rng.standard_cauchy(n) ** 5,
    "repeats": lambda rng, n: rng.integers(0, 20, n).astype(float),
    "infinite": lambda rng, n: np.where(rng.random(n) < 0.4, np.inf, -np.inf),
    "signed zeros": lambda rng, n: np.where(rng.random(n) < 0.5, 0.0, -0.0),
}


@pytest.mark.parametrize("kind", DATA)
def test_messages_and_bytes_of_long_columns(kind, monkeypatch):
    """At most 20 small messages, whatever the data, and nowhere near its size."""
    monkeypatch.setattr(order_statistics, "DEALT", 1 << 40)
    n, d = 60_000, 4
    rng = np.random.default_rng(3)
    values = np.stack([DATA[kind](rng, n) for _ in range(d)], axis=1)
    q = [0, 25, 50, 99]
    expected = numpy("percentile", values, q, axis=0, method="higher")
    ends = [0, 1000, 1000, n]

    def run(comm):
        counts = [b - a for a, b in pairwise(ends)]
        x = spread(values, 0, counts, comm)
        with comm.trace() as sent:
            y = ht.percentile(x, q, axis=0, method="higher")
        assert y.split is None
        return whole(y), sent.calls, sent.bytes

    for result, calls, nbytes in spmd(3, run):
        np.testing.assert_array_equal(result, expected)
        assert calls <= 20
        assert nbytes < values.nbytes / 3


@pytest.mark.parametrize(("shape", "split"), [((4000, 32), 0), ((9000,), 0), ((3, 4000, 5), 1)])
def test_columns_of_middling_length_move_once(shape, split):
    """Two messages: fewer than the rounds of a selection, which take longer than so little data."""
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)

    def run(comm):
        x = ht.array(values, split=split, comm=comm)
        with comm.trace() as sent:
            y = ht.median(x, axis=split)
        return whole(y), sent.calls, sent.bytes

    for result, calls, nbytes in spmd(3, run):
        np.testing.assert_array_equal(result, np.median(values, axis=split))
        assert calls == 2
        assert nbytes <= 2 * values.nbytes / 3 + 16 * values[..., 0].size


def test_bisection_ends_when_samples_do_not_help(monkeypatch):
    monkeypatch.setattr(order_statistics, "DEALT", 1 << 40)
    monkeypatch.setattr(selection, "PATIENCE", 1)
    monkeypatch.setattr(selection, "GATHERED", 1)
    values = np.random.default_rng(0).standard_normal((3000, 2))

    def run(comm):
        return whole(ht.median(spread(values, 0, (1000, 2000), comm), axis=0))

    for result in spmd(2, run):
        np.testing.assert_array_equal(result, np.median(values, axis=0))


def test_no_message_where_the_split_axis_stays():
    values = np.random.default_rng(0).standard_normal((6, 500))

    def run(comm):
        x = spread(values, 0, (1, 5, 0), comm)
        with comm.trace() as sent:
            y = ht.median(x, axis=1)
        assert (sent.calls, y.split, y.layout.counts) == (0, 0, (1, 5, 0))
        return whole(y)

    for result in spmd(3, run):
        np.testing.assert_array_equal(result, np.median(values, axis=1))


def test_integers_beyond_two_to_the_53():
    values = np.array([2**62 + 1, 2**62 + 3, 2**62 + 5, 7, 9], dtype=np.int64)

    def run(comm):
        return whole(ht.quantile(spread(values, 0, (2, 3), comm), 0.5, method="nearest"))

    for result in spmd(2, run):
        assert result == 2**62 + 1


def test_bfloat16():
    def run(comm):
        x = ht.array(torch.tensor([3.0, 1.0, 2.0, 8.0], dtype=torch.bfloat16), split=0)
        return ht.median(x)

    for y in spmd(2, run):
        assert (y.dtype, y.item()) == (ht.bfloat16, 2.5)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda x: ht.percentile(x, 101), ValueError, r"q must be in \[0, 100\]"),
        (lambda x: ht.quantile(x, 0.5, method="cubic"), ValueError, "method must be one of"),
        (lambda x: ht.quantile(x, 0.5, weights=[1, 1, 1, 1]), ValueError, "inverted_cdf"),
        (lambda x: ht.median(x, axis=1), ht.LayoutError, "axis must be in"),
        (lambda x: ht.median(x.astype(ht.complex64)), ht.DTypeError, "must be real"),
        (lambda x: ht.quantile(x > 1, 0.5), ht.DTypeError, "numeric"),
    ],
)
def test_refusals_come_before_any_message(call, error, text):
    def run(comm):
        x = ht.arange(4.0, split=0)
        with comm.trace() as sent, pytest.raises(error, match=text):
            call(x)
        assert sent.calls == 0

    spmd(2, run)


@pytest.mark.mpi(ranks=[1, 2, 3])
def test_median_of_many_rows_over_mpi(comm):
    values = np.random.default_rng(1).standard_normal((20_000, 3)).astype("float32")
    y = ht.median(ht.array(values, split=0, comm=comm), axis=0)
    np.testing.assert_array_equal(y.numpy(), np.median(values, axis=0))


@pytest.mark.parametrize("p", [2, 3])
def test_dealt_columns_with_different_numbers_of_missing_values(p):
    """Each column has its own places to pick from: those of the columns that were dealt to the rank."""
    values = np.arange(66.0).reshape(11, 6)
    for column in range(6):
        values[: 2 * column, column] = np.nan

    def run(comm):
        return whole(ht.nanquantile(ht.array(values, split=0, comm=comm), [0.25, 0.5], axis=0))

    np.testing.assert_array_equal(spmd(p, run)[0], np.nanquantile(values, [0.25, 0.5], axis=0))
