"""Every reduction against NumPy, over shapes, dtypes, layouts and numbers of ranks; what it sends."""

import warnings

import ht_core as ht
import numpy as np
import pytest
from ht_comm import spmd
from ht_core.testing import layouts, make_values, spread, whole
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

DTYPES = [d.name for d in ht.DTYPES.values() if d.numpy is not None]
ROWS = {
    name: row
    for name, row in ht.OPERATIONS.items()
    if name == row.name and row.kind == "reduction" and row.numpy
}
INDEX = [name for name in ROWS if "arg" in name]
NAN = [name for name in ROWS if name.startswith("nan")]
WITH_WHERE = ["sum", "prod", "mean", "var", "std", "any", "all", "max", "min"]
WITH_WHERE += ["nansum", "nanprod", "nanmean", "nanvar", "nanstd", "nanmax", "nanmin"]

FEW = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
RANKS = st.integers(1, 5)
SHAPES = st.lists(st.integers(0, 5), min_size=0, max_size=3).map(tuple)


def numpy(name, *args, **kwargs):
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return getattr(np, name)(*args, **kwargs)


def close(result, expected, factor=64):
    """Compare values; a few units in the last place for floating results, equality for the others."""
    result, expected = np.asarray(result), np.asarray(expected)
    assert result.shape == expected.shape
    assert result.dtype == expected.dtype
    if expected.dtype.kind in "fc":
        eps = np.finfo(expected.dtype).eps
        with np.errstate(all="ignore"):
            np.testing.assert_allclose(result, expected, rtol=factor * eps, atol=factor * eps)
    else:
        np.testing.assert_array_equal(result, expected)


def sprinkle_nan(values, seed):
    if values.dtype.kind in "fc" and values.ndim:
        values = values.copy()
        values[np.random.default_rng(seed).random(values.shape) < 0.3] = np.nan
    return values


@pytest.mark.parametrize("name", ROWS)
@FEW
@given(data=st.data())
def test_reduction(name, data):
    row = ROWS[name]
    accepted = [d for d in DTYPES if np.dtype(d).kind in row.accepts and d != "float16"]
    dtype = data.draw(st.sampled_from(accepted))
    shape, p = data.draw(SHAPES), data.draw(RANKS)
    values = make_values(dtype, shape, data.draw(st.integers(0, 99)))
    if name in NAN or data.draw(st.booleans()):
        values = sprinkle_nan(values, 7)
    layout = data.draw(layouts(shape, p))
    axis = data.draw(st.sampled_from([None, *range(-len(shape), len(shape))]))
    if name not in INDEX and len(shape) > 1 and data.draw(st.booleans()):
        axis = tuple(data.draw(st.permutations(range(len(shape))))[:2])
    keepdims = data.draw(st.booleans())
    try:
        expected, refusal = numpy(row.numpy, values, axis=axis, keepdims=keepdims), None
    except ValueError as error:
        expected, refusal = None, "number" if "All-NaN" in str(error) else "no identity"

    def run(comm):
        x = spread(values, *layout, comm)
        with comm.trace() as sent:
            if expected is None:
                with pytest.raises(ValueError, match=refusal):
                    row.function(x, axis=axis, keepdims=keepdims)
                return None
            y = row.function(x, axis=axis, keepdims=keepdims)
        reduced = x.split is not None and y.split is None
        agrees = name.startswith("nanarg") and y.split is not None
        assert sent.calls == (1 if agrees or (reduced and comm.size > 1) else 0)
        np.testing.assert_array_equal(whole(x), values)
        return whole(y)

    for result in spmd(p, run):
        if expected is not None:
            close(result, expected)


@pytest.mark.parametrize("name", WITH_WHERE)
@FEW
@given(data=st.data())
def test_where_and_initial(name, data):
    shape, p = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple)), data.draw(RANKS)
    dtype = data.draw(st.sampled_from(["int64", "float64", "float32", "uint16"]))
    values = make_values(dtype, shape, 1)
    values = sprinkle_nan(values, 3) if name in NAN else values
    narrow = tuple(1 if data.draw(st.integers(0, 3)) == 0 else n for n in shape)
    mask = make_values("bool", narrow, data.draw(st.integers(0, 9)))
    first, second = data.draw(layouts(shape, p)), data.draw(layouts(narrow, p))
    axis = data.draw(st.sampled_from([None, *range(len(shape))]))
    options = {"axis": axis, "where": mask}
    if name.endswith(("max", "min")) or (name.endswith(("sum", "prod")) and data.draw(st.booleans())):
        options["initial"] = data.draw(st.sampled_from([0, 2]))
    expected = numpy(name, values, **options)

    def run(comm):
        x, where = spread(values, *first, comm), spread(mask, *second, comm)
        return whole(ROWS[name].function(x, **{**options, "where": where}))

    for result in spmd(p, run):
        close(result, expected)


@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("name", ["var", "std", "nanvar", "argmax", "argmin", "nanargmax", "nanargmin"])
def test_tiles_merge(name, axis, monkeypatch):
    """Parts of many tiles: means shift, equal elements and missing ones meet, indices are global."""
    monkeypatch.setattr("ht_core.engines.reduction.TILE_BYTES", 16)
    values = np.random.default_rng(4).integers(0, 50, (7, 6)).astype("float64")
    values[5, 4] = values[2, 3] = 60.0
    if name.startswith("nan"):
        values[:5, ::2] = np.nan
    options = {"axis": axis} if "arg" in name else {"axis": axis, "ddof": 1}
    expected = numpy(name, values, **options)
    function = getattr(ht, name)
    for layout in ((0, (3, 4)), (1, (1, 5))):
        for result in spmd(2, lambda comm, at=layout: whole(function(spread(values, *at, comm), **options))):
            close(result, expected)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "bool", "float16"])
@pytest.mark.parametrize("n", [8191, 8192, 8193, 12289, 100_001])
def test_first_extreme_of_long_vectors(n, dtype):
    """Blocks are compared before elements: the first of ties, NaN as the extreme, also in the last, shorter block."""
    ties = np.random.default_rng(n).integers(-3, 4, n).astype(dtype)
    late = (np.arange(n) > n - 5).astype(dtype)
    cases = [ties, late, ~late.astype(bool)]
    if "float" in dtype:
        cases.append(np.where(np.isin(np.arange(n), [n - 3, n - 2]), np.nan, ties).astype(dtype))

    def run(comm):
        for values in cases:
            x = ht.array(values, split=0, comm=comm)
            assert int(ht.argmax(x)) == np.argmax(values)
            assert int(ht.argmin(x)) == np.argmin(values)

    for p in (1, 3):
        spmd(p, run)
