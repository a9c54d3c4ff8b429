"""Histograms, counts, bins, covariances and weighted moments against NumPy; what they send."""

import ht_core as ht
import numpy as np
import pytest
import torch
from ht_comm import spmd
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
REAL = ["float64", "float32", "int64", "uint8", "uint16", "int32"]


def close(result, expected, tolerance=1e-12):
    assert result.shape == np.shape(expected)
    np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance)


@FEW
@given(data=st.data())
def test_histogram(data):
    shape, p = data.draw(st.lists(st.integers(0, 8), min_size=1, max_size=2).map(tuple)), data.draw(RANKS)
    dtype = data.draw(st.sampled_from(REAL))
    values = make_values(dtype, shape, data.draw(st.integers(0, 99)))
    bins = data.draw(st.sampled_from([1, 7, 10, [0, 1, 3], [-2.0, 0.5, 0.5, 3.0]]))
    options = {"bins": bins, "range": data.draw(st.sampled_from([None, (0, 3), (-2.5, 2.5)]))}
    options["density"] = data.draw(st.booleans())
    if data.draw(st.booleans()):
        options["weights"] = make_values(data.draw(st.sampled_from(["float64", "int64"])), shape, 5)
    first, second = data.draw(layouts(shape, p)), data.draw(layouts(shape, p))
    with np.errstate(all="ignore"):
        expected = np.histogram(values, **options)

    def run(comm):
        x, mine = spread(values, *first, comm), dict(options)
        if "weights" in options:
            mine["weights"] = spread(options["weights"], *second, comm)
        hist, edges = ht.histogram(x, **mine)
        return whole(hist), whole(edges)

    for hist, edges in spmd(p, run):
        assert (hist.dtype, edges.dtype) == (expected[0].dtype, expected[1].dtype)
        close(hist, expected[0])
        close(edges, expected[1])


def awkward(dtype, bins):
    """Return more elements than a tile, many of them on an edge or next to one, and beyond the range."""
    rng = np.random.default_rng(3)
    if np.dtype(dtype).kind != "f":
        return rng.integers(0, 120, 40_000).astype(dtype)
    values = np.concatenate([rng.standard_normal(30_000), np.tile(np.linspace(-2.5, 3.5, bins + 1), 20)])
    values = values.astype(dtype)
    return np.concatenate([values, np.nextafter(values, dtype(9)), np.nextafter(values, dtype(-9))])


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int64, np.uint8, np.uint32])
@pytest.mark.parametrize("bins", [1, 7, 100, 1000])
@pytest.mark.parametrize("span", [None, (-2.5, 3.5), (0, 119), "offset"])
def test_even_bins_are_those_of_numpy_on_every_edge(dtype, bins, span):
    values = awkward(dtype, bins)
    if span == "offset":  # edges that float32 hardly tells apart
        values, span = values.astype(dtype) + dtype(100), None
        bins = bins if dtype is not np.float16 else 1  # NumPy refuses edges that coincide
    elif np.dtype(dtype).kind == "f" and span is not None:
        values[::97] = np.nan
    expected, edges = np.histogram(values, bins, span)
    for p, split in ((1, None), (3, 0)):

        def run(comm, split=split):
            return [whole(a) for a in ht.histogram(ht.array(values, split=split), bins, span)]

        for hist, marks in spmd(p, run):
            np.testing.assert_array_equal(marks, edges)
            np.testing.assert_array_equal(hist, expected)


@pytest.mark.parametrize("weights", ["int64", "float32", "bool"])
def test_weights_of_even_bins(weights):
    values = awkward(np.float32, 50)
    mass = np.random.default_rng(1).integers(0, 9, len(values)).astype(weights)
    expected = np.histogram(
        values, 50, (-2, 2), weights=mass.astype("int64" if weights == "bool" else weights)
    )[0]
    run = lambda comm: ht.histogram(  # noqa: E731
        ht.array(values, split=0), 50, (-2, 2), weights=ht.array(mass, split=0)
    )[0]
    for hist in spmd(2, lambda comm: whole(run(comm))):
        np.testing.assert_array_equal(hist, expected)


def test_counts_longer_than_a_tile():
    values = np.random.default_rng(1).integers(0, 300_000, 50_000)
    for dtype in (np.int64, np.uint32):
        for counts in spmd(2, lambda comm: whole(ht.bincount(ht.array(values.astype(dtype), split=0)))):  # noqa: B023
            np.testing.assert_array_equal(counts, np.bincount(values))


@pytest.mark.parametrize("rule", ["auto", "doane", "fd", "rice", "scott", "sqrt", "sturges"])
@pytest.mark.parametrize("kind", ["normal", "integers", "equal", "few"])
def test_rules(rule, kind):
    rng = np.random.default_rng(1)
    values = {
        "normal": rng.standard_normal(500),
        "integers": rng.integers(0, 9, 200),
        "equal": np.ones(50),
        "few": np.array([1.0, 2.0]),
    }[kind]
    expected = np.histogram_bin_edges(values, bins=rule)
    for edges in spmd(3, lambda comm: whole(ht.histogram_bin_edges(ht.array(values, split=0), bins=rule))):
        close(edges, expected)


@FEW
@given(data=st.data())
def test_several_dimensions(data):
    n, d, p = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 3)), data.draw(RANKS)
    values = make_values("float64", (n, d), data.draw(st.integers(0, 99)))
    options = {"bins": data.draw(st.sampled_from([3, [2] * d, [np.array([-1.0, 0.0, 2.0])] * d]))}
    options["density"] = data.draw(st.booleans())
    layout = data.draw(layouts((n, d), p))
    with np.errstate(all="ignore"):
        expected = np.histogramdd(values, **options)

    def run(comm):
        hist, edges = ht.histogramdd(spread(values, *layout, comm), **options)
        return whole(hist), [whole(e) for e in edges]

    for hist, edges in spmd(p, run):
        close(hist, expected[0])
        for mine, theirs in zip(edges, expected[1], strict=True):
            close(mine, theirs)


def test_two_dimensions():
    x, y = make_values("float64", 30, 1), make_values("float64", 30, 2)
    expected = np.histogram2d(x, y, bins=[3, 4], weights=x)
    run = lambda comm: [  # noqa: E731
        whole(a) for a in ht.histogram2d(ht.array(x, split=0), y, bins=[3, 4], weights=ht.array(x, split=0))
    ]
    for found in spmd(3, run):
        for mine, theirs in zip(found, expected, strict=True):
            close(mine, theirs)


@FEW
@given(data=st.data())
def test_bincount(data):
    n, p = data.draw(st.integers(0, 12)), data.draw(RANKS)
    values = make_values(data.draw(st.sampled_from(["uint8", "uint64", "int64"])), n, 3)
    values = np.abs(values.astype("int64")).astype(values.dtype)
    options = {"minlength": data.draw(st.sampled_from([0, 3, 20]))}
    weights = make_values("float64", n, 4) if data.draw(st.booleans()) else None
    expected = np.bincount(values.astype("int64"), weights, **options)
    layout = data.draw(layouts((n,), p))
    for result in spmd(p, lambda comm: whole(ht.bincount(spread(values, *layout, comm), weights, **options))):
        assert result.dtype == expected.dtype
        close(result, expected)


@FEW
@given(data=st.data())
def test_digitize_and_bucketize(data):
    shape, p = data.draw(st.lists(st.integers(0, 6), max_size=2).map(tuple)), data.draw(RANKS)
    values = make_values(data.draw(st.sampled_from(REAL)), shape, data.draw(st.integers(0, 99)))
    bins = data.draw(st.sampled_from([[0, 1, 3], [-1.0, 0.25, 2.0, 2.0], [3.0, 1.0, -2.0], [2]]))
    right, layout = data.draw(st.booleans()), data.draw(layouts(shape, p))
    expected = np.digitize(values, bins, right=right)
    rises = bins == sorted(bins)

    def run(comm):
        x = spread(values, *layout, comm)
        with comm.trace() as sent:
            found = [ht.digitize(x, bins, right=right)]
            found += [ht.bucketize(x, bins, right=not right)] if rises else []
        assert sent.calls == 0
        return [whole(f) for f in found]

    for found in spmd(p, run):
        for result in found:
            np.testing.assert_array_equal(result, expected)


def test_histc_is_that_of_torch():
    values = make_values("float32", 40, 1)
    expected = torch.histc(torch.from_numpy(values), 6, -2, 3).numpy()
    for found in spmd(3, lambda comm: whole(ht.histc(ht.array(values, split=0), 6, -2, 3))):
        np.testing.assert_array_equal(found, expected)


@FEW
@given(data=st.data())
def test_cov_and_corrcoef(data):
    d, n, p = data.draw(st.integers(1, 4)), data.draw(st.integers(2, 9)), data.draw(RANKS)
    rowvar = data.draw(st.booleans())
    shape = (d, n) if rowvar else (n, d)
    dtype = data.draw(st.sampled_from(["float64", "float32", "int64", "complex128"]))
    values, more = make_values(dtype, shape, 1), make_values(dtype, shape, 2)
    y = more if data.draw(st.booleans()) else None
    first, second = data.draw(layouts(shape, p)), data.draw(layouts(shape, p))
    options = {"rowvar": rowvar}
    name = data.draw(st.sampled_from(["cov", "corrcoef"]))
    if name == "cov":
        options |= {"bias": data.draw(st.booleans()), "ddof": data.draw(st.sampled_from([None, 0, 1]))}
        options["fweights"] = data.draw(st.sampled_from([None, np.arange(n) + 1]))
        options["aweights"] = data.draw(st.sampled_from([None, np.arange(n) / 2 + 0.5]))
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(values, y, **options)

    def run(comm):
        other = None if y is None else spread(y, *second, comm)
        return whole(getattr(ht, name)(spread(values, *first, comm), other, **options))

    for result in spmd(p, run):
        assert result.dtype == expected.dtype
        close(result, expected, 1e-10)


@FEW
@given(data=st.data())
def test_average(data):
    shape, p = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple)), data.draw(RANKS)
    values = make_values(data.draw(st.sampled_from(["float64", "int32", "complex128"])), shape, 1)
    axis = data.draw(st.sampled_from([None, *range(len(shape))]))
    if len(shape) > 1 and data.draw(st.booleans()):
        axis = tuple(data.draw(st.permutations(range(len(shape))))[:2])
    axes = (axis,) if isinstance(axis, int) else axis
    extent = shape if axis is None or data.draw(st.booleans()) else tuple(shape[a] for a in axes)
    weights = np.random.default_rng(3).uniform(0.5, 2, extent)
    first, second = data.draw(layouts(shape, p)), data.draw(layouts(extent, p))
    expected = np.average(values, axis=axis, weights=weights, returned=True)

    def run(comm):
        x, w = spread(values, *first, comm), spread(weights, *second, comm)
        found = ht.average(x, axis=axis, weights=w, returned=True)
        with pytest.raises(ZeroDivisionError, match="weights must not add up"):
            ht.average(x, axis=axis, weights=w * 0)
        return [whole(a) for a in found]

    for found in spmd(p, run):
        for mine, theirs in zip(found, expected, strict=True):
            close(mine, theirs)


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("split", [None, 0, 1])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_skewness_and_kurtosis(axis, split, unbiased):
    values = np.random.default_rng(0).gamma(2.0, size=(50, 4)) + 1000
    n = values.size if axis is None else values.shape[axis]
    centred = values - values.mean(axis=axis, keepdims=True)
    m2, m3, m4 = ((centred**k).mean(axis=axis) for k in (2, 3, 4))
    skew, kurtosis = m3 / m2**1.5, m4 / m2**2 - 3
    if unbiased:
        skew = skew * np.sqrt(n * (n - 1)) / (n - 2)
        kurtosis = (n - 1) / ((n - 2) * (n - 3)) * ((n + 1) * kurtosis + 6)

    def run(comm):
        x = ht.array(values, split=split)
        with comm.trace() as sent:
            found = ht.skew(x, axis, unbiased), ht.kurtosis(x, axis, unbiased)
            plain = ht.kurtosis(x, axis, unbiased, False)
        assert sent.calls == (3 if split is not None and axis in (None, split) else 0)
        return [whole(f) for f in (*found, plain)]

    for found in spmd(3, run):
        close(found[0], skew, 1e-8)
        close(found[1], kurtosis, 1e-8)
        close(found[2], kurtosis + 3, 1e-8)


def test_messages():
    def run(comm):
        x = ht.arange(1000.0, split=0)
        with comm.trace() as sent:
            ht.histogram(x, bins=20)
        assert (sent.calls, sent.bytes) == (2, 16 + 160)
        with comm.trace() as sent:
            ht.histogram(x, bins=20, range=(0, 10))
        assert (sent.calls, sent.bytes) == (1, 160)
        with comm.trace() as sent:
            ht.cov(ht.ones((1000, 5), split=0), rowvar=False)
        assert (sent.calls, sent.bytes) == (2, 8 * 8 + 8 * 25)

    spmd(2, run)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda x: ht.histogram(x, bins=0), ValueError, "bins must be positive"),
        (lambda x: ht.histogram(x, bins="stone age"), ValueError, "bins must be a number, edges or one of"),
        (lambda x: ht.histogram(x, bins=[1, 0]), ValueError, "increase monotonically"),
        (lambda x: ht.histogram(x, range=(2, 1)), ValueError, "min <= max"),
        (lambda x: ht.histogram(x, weights=[1.0]), ht.LayoutError, "weights must have shape"),
        (lambda x: ht.bincount(x), ht.DTypeError, "must hold integers"),
        (lambda x: ht.digitize(x, [1, 3, 2]), ValueError, "monotonic"),
        (lambda x: ht.cov(x, fweights=[0.5] * 4), ht.DTypeError, "fweights must be integers"),
        (lambda x: ht.average(x, weights=[1.0]), ht.LayoutError, "weights must have shape"),
    ],
)
def test_refusals_come_before_any_message(call, error, text):
    def run(comm):
        x = ht.arange(4.0, split=0)
        with comm.trace() as sent, pytest.raises(error, match=text):
            call(x)
        assert sent.calls == 0

    spmd(2, run)


def test_negative_numbers_are_refused_on_all_ranks():
    def run(comm):
        with pytest.raises(ValueError, match="must not be negative, got -1"):
            ht.bincount(ht.array([3, 1, -1], split=0))

    spmd(3, run)
