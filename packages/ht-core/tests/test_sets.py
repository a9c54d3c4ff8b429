"""Sets and look-ups in sorted vectors: against NumPy over dtypes, layouts and ranks, and what they cost."""

import ht_core as ht
import numpy as np
import pytest
import torch
from ht_comm import spmd
from ht_core.engines import distinct, sort, sorted_lookup
from ht_core.testing import layouts, spread, whole
from hypothesis import given, settings
from hypothesis import strategies as st

SOME = settings(max_examples=60, deadline=None, derandomize=True)
DTYPES = [d.name for d in ht.DTYPES.values() if d.numpy is not None]
SPECIAL = np.array([0.0, -0.0, 1, -1, np.inf, -np.inf, np.nan, -np.nan, 3.5])

pytestmark = pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # NumPy's, at complex NaN


def make(dtype: str, shape, seed: int, nan: bool = True) -> np.ndarray:
    rng, dtype = np.random.default_rng(seed), np.dtype(dtype)
    if dtype.kind in "biu":
        most = min(int(np.iinfo(dtype).max), 9) if dtype.kind != "b" else 1
        return np.asarray(rng.integers(0, most, shape, endpoint=True)).astype(dtype)
    pool = SPECIAL if nan else SPECIAL[~np.isnan(SPECIAL)]
    values = np.empty(shape, dtype)
    if dtype.kind == "f":
        values[...] = pool[rng.integers(0, len(pool), shape)]
        return values
    values.real, values.imag = (pool[rng.integers(0, len(pool), shape)] for _ in range(2))
    return values


def shapes(least=0, most=3):
    return st.lists(st.integers(0, 9), min_size=least, max_size=most).map(tuple)


def compare(results, expected):
    assert len(results) == len(expected)
    for result, wanted in zip(results, expected):
        assert result.dtype == wanted.dtype
        np.testing.assert_array_equal(result, wanted)


# -- unique -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=20, deadline=None, derandomize=True)
@given(data=st.data())
def test_unique(dtype, data):
    shape, p = data.draw(shapes()), data.draw(st.integers(1, 5))
    values = make(dtype, shape, data.draw(st.integers(0, 99)))
    layout = data.draw(layouts(shape, p))
    expected = np.unique(values, True, True, True)
    known = ~np.isnan(expected[0]) if values.dtype.kind == "c" else np.ones(len(expected[0]), bool)

    def run(comm):
        x = spread(values, *layout, comm)
        results = ht.unique(x, True, True, True)
        assert results[2].layout is x.layout
        assert all(r.split == (None if x.split is None else 0) for r in (results[0], results[1], results[3]))
        np.testing.assert_array_equal(whole(ht.unique(x)), whole(results[0]))
        np.testing.assert_array_equal(whole(x), values)
        return [whole(r) for r in results]

    for result in spmd(p, run):
        # Complex numbers with NaN are one element here and in NumPy, but not the same one of them.
        compare((result[0], result[1][known], *result[2:]), (expected[0], expected[1][known], *expected[2:]))


@pytest.mark.parametrize("dtype", ["float16", "float64", "complex64", "complex128", "int32"])
@pytest.mark.parametrize("counts", [(50,), (10, 0, 39, 1)])
def test_array_api_functions_keep_every_nan(dtype, counts):
    values = make(dtype, (50,), 1)
    expected = np.unique_all(values)

    def run(comm):
        x = spread(values, 0, counts, comm)
        everything = ht.unique_all(x)
        compare([whole(r) for r in ht.unique_counts(x)], [whole(everything.values), whole(everything.counts)])
        compare(
            [whole(r) for r in ht.unique_inverse(x)],
            [whole(everything[0]), whole(everything.inverse_indices)],
        )
        np.testing.assert_array_equal(whole(ht.unique_values(x)), whole(everything.values))
        return [whole(r) for r in everything]

    for found, indices, inverse, counts_of in spmd(len(counts), run):
        compare((found, counts_of), (expected.values, expected.counts))
        np.testing.assert_array_equal(values[indices], found)
        np.testing.assert_array_equal(found[inverse], values)
        assert len(np.unique(indices)) == len(indices)


@pytest.mark.parametrize("dtype", ["int64", "float32", "bool", "complex64", "complex128"])
@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data())
def test_unique_slices(dtype, data):
    shape, p = data.draw(shapes(1)), data.draw(st.integers(1, 4))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    values = np.asarray(rng.integers(0, 2, shape)).astype(dtype)
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    if not values.size and shape[axis]:  # NumPy looks at the whole shape; slices of no element are all equal
        return
    layout = data.draw(layouts(shape, p))
    expected = np.unique(values, True, True, True, axis=axis)

    def run(comm):
        x = spread(values, *layout, comm)
        results = ht.unique(x, True, True, True, axis=axis)
        assert results[0].split == (None if x.split is None else axis % x.ndim)
        return [whole(r) for r in results]

    for result in spmd(p, run):
        compare(result, expected)


def test_unique_rows_of_many_columns():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 2, (40, 30))[rng.integers(0, 40, 500)]
    for split in (0, 1):
        results = spmd(
            3,
            lambda c, s=split: [
                whole(r) for r in ht.unique(ht.array(values, split=s, comm=c), axis=0, return_inverse=True)
            ],
        )
        for result in results:
            compare(result, np.unique(values, axis=0, return_inverse=True))


@pytest.mark.parametrize("values", [np.zeros(900), np.arange(900, 0, -1), np.arange(900) % 7])
def test_owners_have_equal_shares_where_the_data_allow_it(values):
    def run(comm):
        x = ht.unique(spread(values, 0, (100, 0, 500, 300), comm))
        return x.layout.counts

    for counts in spmd(4, run):
        n = len(np.unique(values))
        assert sum(counts) == n
        assert max(counts) <= n / 4 * 1.25 + 1


@pytest.mark.parametrize("dtype", ["int16", "float32", "complex128"])
def test_kernels_of_devices_give_the_same(monkeypatch, dtype):
    for module in (distinct, sort):
        monkeypatch.setattr(module, "is_on_host", lambda tensor: False)
    values = make(dtype, (90, 2), 1, nan=False)
    results = spmd(
        3, lambda c: [whole(r) for r in ht.unique(spread(values, 0, (0, 80, 10), c), True, True, True)]
    )
    for result in results:
        compare(result, np.unique(values, True, True, True))


# -- two sets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["intersect1d", "union1d", "setdiff1d", "setxor1d"])
@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=8, deadline=None, derandomize=True)
@given(data=st.data())
def test_set_operations(name, dtype, data):
    p = data.draw(st.integers(1, 5))
    other = data.draw(st.sampled_from([dtype, "int16", "float64"]))
    pairs = []
    for seed, kind in enumerate((dtype, other)):
        values = make(kind, data.draw(shapes(1, 2)), seed + data.draw(st.integers(0, 9)))
        pairs.append((values, data.draw(layouts(values.shape, p))))
    expected = getattr(np, name)(pairs[0][0], pairs[1][0])

    def run(comm):
        x, y = (spread(values, *layout, comm) for values, layout in pairs)
        result = getattr(ht, name)(x, y)
        assert result.split == (None if x.split is y.split is None else 0)
        return whole(result)

    for result in spmd(p, run):
        compare((result,), (expected,))


@SOME
@given(st.data())
def test_isin(data):
    p = data.draw(st.integers(1, 5))
    pairs = []
    for seed in range(2):
        values = make(data.draw(st.sampled_from(DTYPES)), data.draw(shapes(0, 2)), seed)
        pairs.append((values, data.draw(layouts(values.shape, p))))
    (a, _), (b, _) = pairs
    expected = np.isin(a, b), np.isin(a, b, invert=True)

    def run(comm):
        x, y = (spread(values, *layout, comm) for values, layout in pairs)
        results = ht.isin(x, y), ht.isin(x, y, invert=True)
        assert all(r.layout is x.layout for r in results)
        return [whole(r) for r in results]

    for result in spmd(p, run):
        compare(result, expected)


@SOME
@given(st.data())
def test_intersection_with_indices(data):
    p, dtype = data.draw(st.integers(1, 4)), data.draw(st.sampled_from(["int8", "float32", "complex128"]))
    pairs = []
    for seed in range(2):
        values = make(dtype, data.draw(shapes(1, 3)), seed)
        pairs.append((values, data.draw(layouts(values.shape, p))))
    expected = np.intersect1d(pairs[0][0], pairs[1][0], return_indices=True)
    results = spmd(
        p,
        lambda c: [
            whole(r) for r in ht.intersect1d(*(spread(v, *at, c) for v, at in pairs), return_indices=True)
        ],
    )
    for result in results:
        compare(result, expected)


def test_difference_of_unique_elements_keeps_their_order():
    values = np.random.default_rng(0).permutation(50)
    results = spmd(
        3, lambda c: whole(ht.setdiff1d(ht.array(values, split=0, comm=c), [3, 4], assume_unique=True))
    )
    for result in results:
        np.testing.assert_array_equal(result, values[(values != 3) & (values != 4)])


def test_difference_keeps_every_digit_where_the_common_dtype_does_not():
    values = np.array([2**62 + 1, 2**62 + 3, 5])
    for result in spmd(2, lambda c: whole(ht.setdiff1d(ht.array(values, split=0, comm=c), np.array([5.0])))):
        compare((result,), (np.array([2**62 + 1, 2**62 + 3]),))


# -- look-up ----------------------------------------------------------------------------------------------------------


@SOME
@given(st.data())
def test_searchsorted(data):
    p, dtype = data.draw(st.integers(1, 5)), data.draw(st.sampled_from(DTYPES))
    raw = make(dtype, (data.draw(st.integers(0, 30)),), data.draw(st.integers(0, 9)))
    order = np.argsort(raw, kind="stable")
    queries = make(data.draw(st.sampled_from([dtype, "float32"])), data.draw(shapes(0, 2)), 5)
    side = data.draw(st.sampled_from(["left", "right"]))
    places = [data.draw(layouts(v.shape, p)) for v in (raw, queries, order)]
    expected = np.searchsorted(raw[order], queries, side)

    def run(comm):
        x, v, sorter = (spread(a, *at, comm) for a, at in zip((raw, queries, order), places))
        results = ht.searchsorted(x[sorter], v, side=side), ht.searchsorted(x, v, side=side, sorter=sorter)
        assert all(r.layout is v.layout for r in results)
        return [whole(r) for r in results]

    for result in spmd(p, run):
        compare(result, (np.asarray(expected),) * 2)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "uint64", "complex64", "complex128"])
@pytest.mark.parametrize("right", [False, True])
def test_lookup_by_keys_as_on_devices(monkeypatch, dtype, right):
    known = make(dtype if dtype != "bfloat16" else "float32", (70,), 1)
    queries = make(dtype if dtype != "bfloat16" else "float32", (9, 3), 2)
    expected = np.searchsorted(np.sort(known), queries, "right" if right else "left")
    a, q = (torch.from_numpy(v) for v in (np.sort(known), queries))
    if dtype == "bfloat16":
        a, q = a.bfloat16(), q.bfloat16()
    monkeypatch.setattr(sorted_lookup, "is_on_host", lambda tensor: False)
    np.testing.assert_array_equal(sorted_lookup.sorted_places(a, q, right), expected)


def test_searchsorted_of_scalars_and_lists():
    for result in spmd(2, lambda c: ht.searchsorted(ht.arange(9, split=0, comm=c), 4)):
        assert result.shape == ()
        assert int(result.larray) == 4
    np.testing.assert_array_equal(np.searchsorted(ht.array([1.0, 2.0]), [1.5, 9]).numpy(), [1, 2])


# -- cost -------------------------------------------------------------------------------------------------------------


def traced(p, call, *arguments):
    def run(comm):
        arrays = [ht.array(values, split=split, comm=comm) for values, split in arguments]
        with comm.trace() as sent:
            call(*arrays)
        return {op: (calls, nbytes) for op, (calls, nbytes, _) in sent.by_op.items()}, sent.bytes

    return spmd(p, run)


REPEATED = np.random.default_rng(0).integers(0, 100, 40000)
DISTINCT = np.random.default_rng(0).permutation(40000)


def test_unique_sends_each_ranks_own_distinct_elements_once():
    for p in (2, 3):
        sample = 8 * (16 * p + 1)
        for values, most in ((REPEATED, 100), (DISTINCT, -(-40000 // p))):
            for by_op, nbytes in traced(p, ht.unique, (values, 0)):
                assert {op: calls for op, (calls, _) in by_op.items()} == {
                    "allgather": 2,
                    "alltoall": 1,
                    "alltoallv": 1,
                }
                assert by_op["alltoallv"][1] <= 8 * most
                assert nbytes <= 8 * most + sample + 100
            for by_op, nbytes in traced(p, lambda x: ht.unique(x, True, True, True), (values, 0)):
                assert by_op["alltoallv"][0] == 3  # keys; indices and counts; places back
                assert nbytes <= 8 * 4 * 1.5 * most + sample + 100


def test_sets_of_replicated_operands_send_nothing():
    for call in (
        ht.unique_all,
        lambda x: ht.isin(x, x),
        lambda x: ht.setxor1d(x, x),
        lambda x: ht.unique(x, axis=0),
    ):
        assert all(nbytes == 0 for _, nbytes in traced(3, call, (REPEATED, None)))


def test_membership_sends_what_is_needed():
    some = np.arange(0, 100, 3)
    assert all(not by_op for by_op, _ in traced(2, ht.isin, (REPEATED, 0), (some, None)))
    for by_op, nbytes in traced(2, ht.isin, (some, None), (REPEATED, 0)):
        assert list(by_op) == ["allreduce"]
        assert nbytes <= len(some)
    for by_op, nbytes in traced(2, ht.isin, (REPEATED, 0), (REPEATED[::7], 0)):
        assert by_op["alltoallv"][0] == 3
        assert nbytes < 100 * 24 + 500
    for _, nbytes in traced(2, ht.intersect1d, (REPEATED, 0), (DISTINCT, None)):
        assert nbytes < 20000 * 24 + 500


def test_lookup_sends_as_many_bytes_as_there_are_queries():
    known, queries = np.arange(40000), DISTINCT[:500]
    assert all(not by_op for by_op, _ in traced(2, ht.searchsorted, (known, None), (queries, 0)))
    for by_op, nbytes in traced(2, ht.searchsorted, (known, 0), (queries, None)):
        assert list(by_op) == ["allreduce"]
        assert nbytes == 8 * 500
    for by_op, nbytes in traced(2, ht.searchsorted, (known, 0), (queries, 0)):
        assert {op: calls for op, (calls, _) in by_op.items()} == {
            "allgather": 1,
            "alltoall": 1,
            "alltoallv": 2,
        }
        assert nbytes <= 500 * 8 + 100


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda x: ht.unique(x, axis=1), ht.LayoutError),
        (lambda x: ht.isin(x, x, kind="hash"), ht.DTypeError),
        (lambda x: ht.searchsorted(x, 1, side="middle"), ht.LayoutError),
        (lambda x: ht.searchsorted(x.reshape(2, 3), 1), ht.LayoutError),
        (lambda x: ht.searchsorted(x, 1, sorter=[0, 1]), ht.LayoutError),
    ],
)
def test_refusals(call, error):
    def run(comm):
        with pytest.raises(error) as caught:
            call(ht.zeros(6, split=0, comm=comm))
        return str(caught.value)

    assert len(set(spmd(3, run))) == 1


@pytest.mark.mpi
def test_on_processes(comm):
    for dtype in ("float32", "int64", "complex128"):
        values, others = make(dtype, (203, 3), 1, nan=False), make(dtype, (77,), 2, nan=False)
        for split in (0, 1):
            x, y = ht.array(values, split=split, comm=comm), ht.array(others, split=0, comm=comm)
            compare([whole(r) for r in ht.unique(x, True, True, True)], np.unique(values, True, True, True))
            compare([whole(ht.isin(x, y))], [np.isin(values, others)])
            compare([whole(ht.setxor1d(x, y))], [np.setxor1d(values, others)])
            compare([whole(ht.unique(x, axis=0))], [np.unique(values, axis=0)])
            compare([whole(ht.searchsorted(ht.sort(y), x))], [np.searchsorted(np.sort(others), values)])
